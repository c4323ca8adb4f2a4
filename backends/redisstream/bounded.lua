-- bounded returns the oldest entries from an ID on, "-" for the oldest: at most so many, and, but
-- for the first one, so many bytes; and 1 if there may be more. One that does not fit comes first
-- next time: what is large comes alone.
local function bounded(stream, from, most, bytes)
  local page, n, size, count = {}, 0, 0, 1
  while true do
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      local more = 0
      for _, field in ipairs(entry[2]) do
        more = more + #field
      end
      if n > 0 and size + more > bytes then
        return page, 1
      end
      n, size = n + 1, size + more
      page[n] = entry
    end
    if #entries < count then
      return page, 0
    elseif n >= most then
      return page, 1
    end
    from = '(' .. page[n][1]
    -- As many as fit if they are like those so far.
    count = math.min(most - n, math.floor(math.max(bytes - size, 0) * n / math.max(size, 1)) + 1)
  end
end
