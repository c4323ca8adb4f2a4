-- Messages that are appended together or not at all. Goes before publish.lua.

-- batch makes the function for that. run has those of publish.lua that it needs.
local function batch(run)
  -- This appends messages together and returns their results. It raises an error if one of
  -- them cannot be appended: then none is.
  return function(stream, messages)
    local results, missing = {}, {}
    for i, m in ipairs(messages) do
      results[i] = m.o.k and run.known(m.o) or false
      if not results[i] then
        missing[#missing + 1] = i
      end
    end
    local s, n = run.streams[stream] or run.look(stream), #messages
    local final = messages[n].o.f and (s.final or results[n])
    if final then
      for i = 1, n do
        results[i] = final
      end
      return results
    end
    if s.final and missing[1] and not messages[missing[1]].o.e then
      error({err = 'ENDED the topic is finished'})
    end

    local added, by_key = {}, {}
    for _, i in ipairs(missing) do
      local m = messages[i]
      m.same = m.o.k and by_key[m.o.k]
      if not m.same then
        local ok, id, prev, see = pcall(run.add, stream, s, m.o, m.first, m.last)
        if not ok then
          local undone = #added == 0 or redis.pcall('XDEL', stream, unpack(added))
          if type(undone) == 'table' then
            error({err = 'PARTIAL ' .. undone.err})
          end
          run.streams[stream] = nil
          error(id)
        end
        added[#added + 1] = id
        m.id, m.prev, m.see = id, prev, see
        if m.o.k then
          by_key[m.o.k] = m
        end
      end
    end
    for _, i in ipairs(missing) do
      local m = messages[i]
      if m.same then
        results[i] = m.same.id
      else
        results[i] = run.finish(stream, s, m.o, m.lengths, m.first, m.last, m.id, m.prev, m.see)
      end
    end
    return results
  end
end
