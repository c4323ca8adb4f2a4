-- Tells what comes after an ID, however large it is.
--
-- KEYS: 1 the stream. ARGV: 1 from which ID on, - for the oldest.
-- Returns nothing, or the ID of an entry and its size.

local entry = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 1)[1]
if not entry then
  return false
end
local size = 0
for _, field in ipairs(entry[2]) do
  size = size + #field
end
return {entry[1], size}
