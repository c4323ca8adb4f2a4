-- Appends messages to topics and announces them. One call takes the messages that several
-- publishers have at the same moment.
--
-- KEYS: streams, the hashes of their idempotency keys, and what else options name.
-- ARGV: 1 most entries of a stream, 2 most age in ms or 0, 3 expiry of a stream in ms or 0,
--       4 window of idempotency keys in ms, 5 what a channel's name has after that of its stream,
--       6 PUBLISH or SPUBLISH, 7 a random number for next_id, and from 8 on for each message:
--       which key is its stream, its options, the lengths of its fields and values with commas
--       between them, how many these are, and they themselves, in the order of the entry: "hr",
--       its value, and the rest.
-- Options are letters, each followed by a number if it has one:
--       k    first: which key is the hash of the topic's idempotency keys; the next one is the
--            former hash. Behind all options is a digest of the key, 16 bytes
--       c    how many idempotency keys are remembered
--       n    the message is the first of so many that are appended together or not at all
--       f e  it ends the topic; it may come behind the end
--       m z t  bounds of its topic, which hold exactly: most entries, most bytes, most age in ms
--       x w  expiry of its stream in ms; bytes of the message (with z)
--       q r  which keys expire with the stream at the topic's end
-- Returns for each message its ID, followed by a space and a warning if there is one; or "-" and an
-- error: then it was not appended.

local tails = {} -- the newest ID of each stream that has had a message
local finals = {} -- of each stream the message that ended it, if it is the newest one
local made = {} -- what need has made
local makers, warning

-- try runs what is done for a message that is appended: nothing may fail it any more.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  warning = warning or select(1, ...) .. ': ' .. reply.err
end

-- need returns functions that few runs need: those of the file rare.lua or bounds.lua.
local function need(file)
  makers = makers or more()
  made[file] = made[file] or makers[file](try)
  return made[file]
end

-- look returns the ID that a stream gave last, whether its entry is there, and whether it is one of
-- ours.
local function look(stream)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if not newest then
    return need('rare').last_id(stream), false, false
  end
  local mark = newest[2][1] == 'hr' and newest[2][2]
  if mark and mark ~= '1' and string.find(mark, '[fe]') then
    finals[stream] = need('rare').ended(stream, newest)
  end
  return newest[1], true, mark
end

-- finish does what belongs to a message that is appended, and returns its result.
local function finish(stream, o, lengths, first, last, id, prev, due)
  warning = nil
  if due then
    local age, expiry = o and o.t or ARGV[2], o and o.x or ARGV[3]
    local cut = now - age
    if age ~= '0' and cut > 0 then
      try('XTRIM', stream, 'MINID', o and o.t and '=' or '~', string.format('%.0f', cut))
    end
    if expiry ~= '0' then
      try('PEXPIRE', stream, expiry)
    elseif due == 'again' then
      try('PERSIST', stream) -- the entry of a deletion expires in any case
    end
    if o and o.q then
      try('PEXPIRE', KEYS[tonumber(o.q)], expiry)
      try('PEXPIRE', KEYS[tonumber(o.r)], expiry)
    end
  end
  if o and o.z then
    need('bounds').shed(stream, tonumber(o.z))
  end
  if o and o.k then
    need('rare').remember(o, id)
  end
  try(ARGV[6], stream .. ARGV[5],
    prev .. ' ' .. id .. ' ' .. lengths .. '\n' .. table.concat(ARGV, '', first, last))
  return warning and id .. ' ' .. warning or id
end

-- append appends a message and returns its result, or raises an error if it cannot be appended. If
-- it is one of a batch, it returns what finish wants to have later.
local function append(stream, o, lengths, first, last, batched)
  if o and o.k and not batched then
    local id = need('rare').known(o)
    if id then
      return id
    end
  end

  local prev, there, ours, random, due = tails[stream], true, true, 0, false
  if not prev then
    prev, there, ours = look(stream)
    -- What counts in hours is brought up to date once in a second, which the first ten digits of an
    -- ID are: the two commands are a good part of what a publish costs. An entry of another program
    -- came without them.
    random, due = ARGV[7], not ours or string.sub(prev, 1, 10) ~= clock[1]
    if ours and string.find(ours, 'd', 1, true) then
      due = 'again' -- the topic was deleted, and begins
    end
  end
  local final = finals[stream]
  if final and o and o.f then
    return final
  elseif final and not (o and o.e) then
    error({err = 'ENDED the topic is finished'})
  elseif final then
    due = 'again' -- the topic goes on behind its end
  end

  local mark, how, most = ARGV[first + 1], '~', ARGV[1]
  local own = mark
  if o then
    due = due or o.q
    if o.m then
      how, most = '=', o.m
    end
    if o.t then
      due = due or random ~= 0 and need('bounds').due(prev, o)
    end
    if o.z then
      own = own .. need('bounds').offset(stream, o)
    end
  end
  if prev == '' then
    own = own .. 's'
  elseif not there then
    -- Everything was trimmed, but the stream still knows the ID it gave last. The entry says so,
    -- since nothing else will be able to.
    own = own .. 'p' .. prev
  end
  ARGV[first + 1] = own
  local at = next_id(prev, random)
  local id = redis.pcall('XADD', stream, 'MAXLEN', how, most, at, unpack(ARGV, first, last))
  for attempt = 2, 3 do
    if type(id) ~= 'table' or not string.find(id.err, 'equal or smaller', 1, true) then
      break
    end
    -- The newest entry was deleted, or its ID is beyond what Lua can count.
    at = attempt == 2 and next_id(need('rare').last_id(stream), random) or '*'
    id = redis.pcall('XADD', stream, 'MAXLEN', how, most, at, unpack(ARGV, first, last))
  end
  ARGV[first + 1] = mark
  if type(id) == 'table' then
    error(id)
  end
  tails[stream] = id
  if o or final then
    finals[stream] = o and o.f and id or nil
  end
  if o and o.z then
    need('bounds').count(stream, o)
  end
  if batched then
    return {stream, o, lengths, first, last, id, prev, due}
  end
  return finish(stream, o, lengths, first, last, id, prev, due)
end

local results = {}
local at = 8
while ARGV[at] do
  local stream, o, from = KEYS[tonumber(ARGV[at])], ARGV[at + 1] ~= '', at
  at = at + 4 + tonumber(ARGV[at + 3])
  local n, ok, result = 1, nil, nil
  if o then
    o = need('rare').options(ARGV[from + 1])
    n = tonumber(o.n or 1)
  end
  if n == 1 then
    ok, result = pcall(append, stream, o, ARGV[from + 2], from + 4, at - 1)
  else
    for _ = 2, n do
      at = at + 4 + tonumber(ARGV[at + 3])
    end
    local all = more().batch(need('rare'), look, append, finish)
    ok, result = pcall(all, stream, n, from, tails, finals)
  end
  if not ok then
    -- Redis 7 raises a table, older ones a text.
    result = '-' .. (type(result) == 'table' and result.err or tostring(result))
    if string.find(result, 'READONLY', 1, true) then
      -- Nothing at all is appended here. As the reply to the whole call, clients take it for a
      -- reason to connect anew: the master may have moved away from behind its address.
      return redis.error_reply('READONLY ' .. string.sub(result, 2))
    end
  end
  for i = 1, n do
    results[#results + 1] = n > 1 and ok and result[i] or result
  end
end
return results
