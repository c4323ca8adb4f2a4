-- Deletes a topic that has messages: what is left is one entry that says so. Of one that has none
-- any more, the idempotency keys are deleted.
--
-- KEYS: 1 the stream, 2 the set of erased IDs, 3 what was erased in front, 4 the topic's life.
-- ARGV: 1 a random number, 2 after how many ms the entry expires, 3 a name of the new life, 4 after
--       how many ms that expires, 5 what a channel's name has after that of its stream, 6 PUBLISH
--       or SPUBLISH.
-- Returns the entry's ID, followed by a space and a warning if there is one; '' if there was
-- nothing to delete.

if not find('XREVRANGE', KEYS[1], '+', '-') then
  -- Its messages were erased or trimmed, but their idempotency keys may be known.
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if redis.call('EXISTS', KEYS[1]) == 1 and not (newest and flag(newest, 'd')) then
    redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
  end
  return ''
end
local last = given(KEYS[1])
-- First what a server without memory refuses: then nothing was done.
redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
local fields = {'hr', '1ds'}
local id = add(KEYS[1], last, ARGV[1], fields)
local warning = try('PEXPIRE', KEYS[1], ARGV[2])
warning = announce(ARGV[6], KEYS[1] .. ARGV[5], '', id, fields) or warning
return warning and id .. ' ' .. warning or id
