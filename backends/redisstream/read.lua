-- Reads one topic in one step: nothing can be appended or trimmed between the question whether an
-- ID is the newest place and the entries.
--
-- Goes behind bounded.lua.
--
-- KEYS: 1 the stream. ARGV: 1 an ID or '', 2 most entries, 0 for none, 3 from which ID on, - for
--       the oldest, 4 most bytes.
-- Returns Redis' time in ms; and if there is a stream: the newest place, the ID that was given
-- last, how many entries there are, how many were ever added or -1 if the server does not know, and
-- when entries were asked for, unless the given ID was given last: the ID of the oldest entry, the
-- oldest entries from that ID on, and 1 if there may be more.

local now = redis.call('TIME')
local ms = now[1] .. string.format('%03d', math.floor(tonumber(now[2]) / 1000))
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {ms}
end

local last, length, added = '', 0, -1
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    last = info[i + 1]
  elseif info[i] == 'length' then
    length = info[i + 1]
  elseif info[i] == 'entries-added' then
    added = info[i + 1]
  end
end

-- The newest entry and not the last ID, for that is what the next message will name as the one
-- before it: someone may have deleted the newest one.
local place = last
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #newest > 0 then
  place = newest[1][1]
end

local entries, more, oldest = {}, 0, ''
if ARGV[2] ~= '0' and last ~= ARGV[1] then
  entries, more = bounded(KEYS[1], ARGV[3], tonumber(ARGV[2]), tonumber(ARGV[4]))
  local first = entries[1]
  if ARGV[3] ~= '-' then
    first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  end
  oldest = first and first[1] or ''
end
return {ms, place, last, length, added, oldest, entries, more}
