-- Erases a message, and appends an entry that says so. Messages that end a topic, and entries that
-- are none, stay.
--
-- KEYS: 1 the stream, 2 the set of erased IDs, 3 what was erased in front.
-- ARGV: 1 the ID, 2 a random number, 3 expiry of a stream in ms or 0, 4 the greatest rank of an
--       erased ID to forget, which is negative, 5 what a channel's name has after that of its
--       stream, 6 PUBLISH or SPUBLISH, 7 expiry of a finished stream in ms or 0.
-- Returns the entry's ID, followed by a space and a warning if there is one; '' if there was
-- nothing to erase.

local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry or control(entry) or flag(entry, 'f') then
  return ''
end
local last = given(KEYS[1])
local prev = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]
local front = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1] == ARGV[1]

-- First what a server without memory refuses: an ID in the set says nothing as long as its entry is
-- there.
redis.call('ZADD', KEYS[2], string.match(ARGV[1], '^%d+'), ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])

local fields = {'hr', '1e', 'erases', ARGV[1]}
local id = add(KEYS[1], last, ARGV[2], fields)

local warning
if front then
  -- Nothing is left before the message to prove by that nothing was trimmed. So it is noted from
  -- where on to which entry all was erased: as long as that entry is the oldest one, nothing else
  -- is missing. 0-0 stands for the beginning.
  local first = ARGV[1]
  local noted = redis.call('GET', KEYS[3])
  local from, to = string.match(noted or '', '^(%S+) (%S+)$')
  if to == ARGV[1] then
    first = from
  elseif flag(entry, 's') then
    first = '0-0'
  elseif flag(entry, 'p') then
    first = string.match(entry[2][2], 'p(%d+%-%d+)') or first
    warning = try('ZADD', KEYS[2], string.match(first, '^%d+'), first)
  end
  local rest = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)[1][1]
  warning = try('SET', KEYS[3], first .. ' ' .. rest) or warning
end
warning = try('ZREMRANGEBYRANK', KEYS[2], 0, ARGV[4]) or warning
local expiry = ARGV[3]
if ARGV[7] ~= expiry then
  local newest = find('XREVRANGE', KEYS[1], '+', '-')
  expiry = newest and flag(newest, 'f') and ARGV[7] or expiry
end
if expiry ~= '0' then
  for i = 1, 3 do
    warning = try('PEXPIRE', KEYS[i], expiry) or warning
  end
end
warning = announce(ARGV[6], KEYS[1] .. ARGV[5], prev, id, fields) or warning
return warning and id .. ' ' .. warning or id
