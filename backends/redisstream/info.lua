-- Describes a topic in one step.
--
-- KEYS: 1 the stream.
-- Returns nothing if there are no messages; otherwise the IDs of the oldest and the newest one, 1
-- if that ended the topic, Redis' time in ms, and in how many ms the stream expires, or -1.

local newest = find('XREVRANGE', KEYS[1], '+', '-')
if not newest then
  return {}
end
local oldest = find('XRANGE', KEYS[1], '-', '+')
local now = redis.call('TIME')
local ms = now[1] .. string.format('%03d', math.floor(tonumber(now[2]) / 1000))
return {oldest[1], newest[1], flag(newest, 'f') and 1 or 0, ms, redis.call('PTTL', KEYS[1])}
