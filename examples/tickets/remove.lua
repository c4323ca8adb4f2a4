-- Removes an entry from the outbox if it is the head, and keeps it with the dead letters if there is a key for them.
-- KEYS: 1 the outbox, 2 the dead letters. ARGV: 1 the entry. No two entries are equal: a ticket has each version once.
if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then
  return 0
end
if KEYS[2] then
  redis.call('RPUSH', KEYS[2], ARGV[1])
  redis.call('LTRIM', KEYS[2], -100, -1)
end
redis.call('LPOP', KEYS[1])
return 1
