-- Finds the position before the newest messages within bounds, in as many runs as it takes: Redis
-- does nothing else meanwhile.
--
-- KEYS: 1 the stream.
-- ARGV: 1 most messages or 0, 2 most bytes or 0, 3 the newest ID that is too old or '', 4 most
--       entries to look at, and from the run before: 5 where to go on, + at first, 6 how many
--       messages, 7 how many bytes.
-- Returns the ID of the newest entry that is out of bounds, '' for none; or a list of the three
-- values for the next run.

local messages, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local old = ''
if ARGV[3] ~= '' then
  local entry = redis.call('XREVRANGE', KEYS[1], ARGV[3], '-', 'COUNT', 1)[1]
  old = entry and entry[1] or ''
end
if bytes == 0 and (messages == 0 or messages >= redis.call('XLEN', KEYS[1])) then
  return old
end

local to, n, size = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local left, count = tonumber(ARGV[4]), 1
while left > 0 do
  local entries = redis.call('XREVRANGE', KEYS[1], to, '-', 'COUNT', count)
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    local one, more = 1, 0
    if control(entry) then
      one = 0
    elseif fields[1] == 'hr' then
      more = fields[#fields - 1] == 'data' and #fields[#fields] or 0
    else
      for i = 2, #fields, 2 do
        more = more + #fields[i]
      end
    end
    if entry[1] == old or n + one > messages and messages > 0 or size + more > bytes and bytes > 0 and n > 0 then
      return entry[1]
    end
    n, size = n + one, size + more
  end
  if #entries < count then
    return ''
  end
  to = '(' .. entries[count][1]
  left = left - count
  -- Few at first: they may be large, and one may be all that is wanted.
  count = math.min(2 * count, 64)
end
return {to, tostring(n), string.format('%.0f', size)}
