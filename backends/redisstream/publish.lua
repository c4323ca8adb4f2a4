-- Appends messages to topics and announces them. One call takes the messages that several publishers have at the same moment.
--
-- KEYS: streams and idempotency keys.
-- ARGV: 1 most entries of a stream, 2 most age in ms or 0, 3 expiry of a stream in ms or 0, 4 window of idempotency keys in ms,
--       5 what a channel's name has after that of its stream, 6 PUBLISH or SPUBLISH, and from 7 on for each message:
--       which key is its stream, which is its idempotency key or 0, the lengths of its fields and values with commas between them,
--       how many these are, and they themselves, in the order of the entry: "hr", its value, and the rest.
-- Returns for each message its ID, followed by a space and a warning if there is one; or "-" and an error: then it was not appended.

local tails = {} -- the newest ID of each stream that has had a message

-- tail returns the ID that a stream gave last, whether its entry is there, whether it is one of ours, and whether it is that of a deletion.
local function tail(stream)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if newest then
    local ours = newest[2][1] == 'hr'
    return newest[1], true, ours, ours and string.find(newest[2][2], '^1.*d') ~= nil
  end
  if redis.call('EXISTS', stream) == 1 then
    local info = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' and info[i + 1] ~= '0-0' then
        return info[i + 1], false, false
      end
    end
  end
  return '', false, false
end

-- append raises an error if the message cannot be appended. Once it is, redis.pcall gives errors back, and nothing else can raise one.
local function append(stream, key, lengths, first, last)
  if key then
    local id = redis.call('GET', key)
    if id and string.match(id, '^%d+%-%d+$') then
      return id
    elseif id then
      error({err = 'WRONGTYPE the idempotency key holds no ID'})
    end
  end

  local prev, there, ours, deleted = tails[stream], true, true, false
  if not prev then
    prev, there, ours, deleted = tail(stream)
  end
  local mark, at = ARGV[first + 1], '*'
  if prev == '' then
    ARGV[first + 1] = mark .. 's'
    -- A stream that was deleted and begins again within the same millisecond would give the same IDs to other messages. So the first
    -- sequence number is made of the microseconds, far apart, and whoever had an entry of before finds it missing.
    local now = redis.call('TIME')
    local us = tonumber(now[2])
    at = string.format('%s%03d-%.0f', now[1], math.floor(us / 1000), (us % 1000 + 1) * 1000000)
  elseif not there then
    -- Everything was trimmed, but the stream still knows the ID it gave last. The entry says so, since nothing else will be able to.
    ARGV[first + 1] = mark .. 'p' .. prev
  end
  local id = redis.call('XADD', stream, 'MAXLEN', '~', ARGV[1], at, unpack(ARGV, first, last))
  tails[stream] = id

  local warning
  local function try(...)
    local reply = redis.pcall(...)
    if type(reply) ~= 'table' or not reply.err then
      return reply
    end
    warning = warning or select(1, ...) .. ': ' .. reply.err
  end
  -- What counts in hours is brought up to date once in a second, which the first ten digits of an ID are: the two commands are a good part
  -- of what a publish costs. An entry of another program came without them; and one with an ID of the future would keep the IDs, which
  -- only count on from there, in its second.
  local now
  local due = not ours or string.sub(id, 1, 10) ~= string.sub(prev, 1, 10)
  if due or string.sub(id, -2) ~= '-0' then
    now = try('TIME')
    due = due or now and now[1] ~= string.sub(id, 1, 10)
  end
  if due and now and ARGV[2] ~= '0' then
    local cut = now[1] * 1000 - ARGV[2]
    if cut > 0 then
      try('XTRIM', stream, 'MINID', '~', string.format('%.0f', cut))
    end
  end
  if due and ARGV[3] ~= '0' then
    try('PEXPIRE', stream, ARGV[3])
  elseif deleted then
    try('PERSIST', stream) -- the entry of a deletion expires in any case
  end
  if key then
    try('SET', key, id, 'PX', ARGV[4])
  end
  ARGV[first + 1] = mark
  try(ARGV[6], stream .. ARGV[5], prev .. ' ' .. id .. ' ' .. lengths .. '\n' .. table.concat(ARGV, '', first, last))
  return warning and id .. ' ' .. warning or id
end

local results = {}
local at = 7
while ARGV[at] do
  local first = at + 4
  local last = first + tonumber(ARGV[at + 3]) - 1
  local ok, result = pcall(append, KEYS[tonumber(ARGV[at])], KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2], first, last)
  if not ok then
    -- Redis 7 raises a table, older ones a text.
    result = '-' .. (type(result) == 'table' and result.err or tostring(result))
    if string.find(result, 'READONLY', 1, true) then
      -- Nothing at all is appended here. As the reply to the whole call, clients take it for a reason to connect anew: the master may have
      -- moved away from behind its address.
      return redis.error_reply('READONLY ' .. string.sub(result, 2))
    end
  end
  results[#results + 1] = result
  at = last + 1
end
return results
