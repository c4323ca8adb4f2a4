-- Appends one message to a topic and announces it.
--
-- KEYS: 1 the stream, 2 the idempotency key if there is one.
-- ARGV: 1 most entries, 2 most age in ms or 0, 3 expiry of the stream in ms or 0, 4 window of the idempotency key in ms or 0,
--       5 channel, 6 PUBLISH or SPUBLISH, from 7 on the fields and values of the entry: "hr", its value, and the rest.
-- Returns the ID, the ID before it ('' when the stream began with this entry), and a warning or ''.
--
-- Up to XADD every error ends the script, so an error reply means that nothing was appended. After it no error may.

local window = tonumber(ARGV[4])
if window > 0 then
  local first = redis.call('GET', KEYS[2])
  if first then
    return {first, '', ''}
  end
end

local prev = ''
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #newest > 0 then
  prev = newest[1][1]
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  -- Everything was trimmed, but the stream still knows the ID it gave last. The entry says so, since nothing else will be able to.
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      prev = info[i + 1]
    end
  end
  if prev == '0-0' then
    prev = ''
  else
    ARGV[8] = ARGV[8] .. 'p' .. prev
  end
end
local at = '*'
if prev == '' then
  ARGV[8] = ARGV[8] .. 's'
  -- A stream that was deleted and begins again within the same millisecond would give the same IDs to other messages. So the first sequence
  -- number is made of the microseconds, far apart, and whoever had an entry of before finds it missing.
  local now = redis.call('TIME')
  local us = tonumber(now[2])
  at = string.format('%s%03d-%.0f', now[1], math.floor(us / 1000), (us % 1000 + 1) * 1000000)
end

local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], at, unpack(ARGV, 7))

local warning = ''
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err and warning == '' then
    warning = select(1, ...) .. ': ' .. tostring(reply.err)
  end
end
local ok, err = pcall(function()
  if ARGV[2] ~= '0' then
    local cut = tonumber(string.match(id, '^%d+')) - tonumber(ARGV[2])
    if cut > 0 then
      try('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', cut))
    end
  end
  if ARGV[3] ~= '0' then
    try('PEXPIRE', KEYS[1], ARGV[3])
  end
  if window > 0 then
    try('SET', KEYS[2], id, 'PX', ARGV[4])
  end
  local parts = {prev, ' ', id, '\n'}
  for i = 7, #ARGV do
    parts[#parts + 1] = #ARGV[i]
    parts[#parts + 1] = ':'
    parts[#parts + 1] = ARGV[i]
  end
  try(ARGV[6], ARGV[5], table.concat(parts))
end)
if not ok and warning == '' then
  warning = tostring(err)
end
return {id, prev, warning}
