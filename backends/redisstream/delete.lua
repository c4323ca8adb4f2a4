-- Deletes a topic that has messages: what is left is one entry that says so. Of one that has none
-- any more, the idempotency keys are deleted.
--
-- KEYS: 1 the stream, 2 the set of erased IDs, 3 what was erased in front, 4 the hash of idempotency
--       keys, 5 the one before that.
-- ARGV: 1 a random number, 2 after how many ms the entry expires, 3 what a channel's name has after
--       that of its stream, 4 PUBLISH or SPUBLISH.
-- Returns the entry's ID, followed by a space and a warning if there is one; '' if there was
-- nothing to delete.

if not find('XREVRANGE', KEYS[1], '+', '-') then
  redis.call('UNLINK', KEYS[4], KEYS[5])
  return ''
end
local last = given(KEYS[1])
redis.call('UNLINK', unpack(KEYS))
local fields = {'hr', '1ds'}
local id = add(KEYS[1], last, ARGV[1], fields)
local warning = try('PEXPIRE', KEYS[1], ARGV[2])
warning = announce(ARGV[4], KEYS[1] .. ARGV[3], '', id, fields) or warning
return warning and id .. ' ' .. warning or id
