-- Messages that are appended together or not at all. Goes before publish.lua.

-- batch makes the function for that, of those of rare.lua and publish.lua.
local function batch(rare, look, append, finish)
  -- messages reads n messages from a place in ARGV on.
  local function messages(n, at)
    local list = {}
    for i = 1, n do
      local last = at + 3 + tonumber(ARGV[at + 3])
      local o = ARGV[at + 1] ~= '' and rare.options(ARGV[at + 1])
      list[i] = {o = o, lengths = ARGV[at + 2], first = at + 4, last = last}
      at = last + 1
    end
    return list
  end

  -- This appends n messages to a stream, the first of which is at a place in ARGV, and returns
  -- their results. It raises an error if one of them cannot be appended: then none is.
  return function(stream, n, at, tails, finals)
    local list, results, missing = messages(n, at), {}, {}
    for i, m in ipairs(list) do
      results[i] = m.o and m.o.k and rare.known(m.o) or false
      if not results[i] then
        missing[#missing + 1] = m
        m.number = i
      end
    end
    if not tails[stream] then
      look(stream)
    end
    local final = list[n].o and list[n].o.f and (finals[stream] or results[n])
    if final then
      for i = 1, n do
        results[i] = final
      end
      return results
    end

    local added, by_key = {}, {}
    for _, m in ipairs(missing) do
      local key = m.o and m.o.digest
      m.same = key and by_key[key]
      if not m.same then
        local ok, late = pcall(append, stream, m.o, m.lengths, m.first, m.last, true)
        if not ok then
          local undone = #added == 0 or redis.pcall('XDEL', stream, unpack(added))
          if type(undone) == 'table' then
            error({err = 'PARTIAL ' .. undone.err})
          end
          tails[stream] = nil
          error(late)
        end
        m.late = late
        added[#added + 1] = late[6]
        if key then
          by_key[key] = m
        end
      end
    end
    for _, m in ipairs(missing) do
      results[m.number] = m.same and m.same.late[6] or finish(unpack(m.late))
    end
    return results
  end
end
