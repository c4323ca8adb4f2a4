-- next_id returns an ID for XADD that comes after prev, the newest ID of a stream or '': with a random number, since two servers that do
-- not know of each other must not give one ID to two entries.
local function next_id(prev, random)
  local now = redis.call('TIME')
  local ms = now[1] .. string.format('%03d', math.floor(tonumber(now[2]) / 1000))
  local before, seq = string.match(prev, '^(%d+)%-(%d+)$')
  if not before or tonumber(ms) > tonumber(before) then
    return ms .. '-' .. random
  end
  return before .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
