-- Appends messages to topics and announces them. One call takes the messages that several
-- publishers have at the same moment.
--
-- KEYS: streams, idempotency keys, and the keys that name the lives of streams.
-- ARGV: 1 most entries of a stream, 2 most age in ms or 0, 3 expiry of a stream in ms or 0,
--       4 window of idempotency keys in ms, 5 what a channel's name has after that of its stream,
--       6 PUBLISH or SPUBLISH, 7 a random number for next_id, and from 8 on for each message:
--       which key is its stream, its options, the lengths of its fields and values with commas
--       between them, how many these are, and they themselves, in the order of the entry: "hr",
--       its value, and the rest.
-- Options are letters, each followed by a number if it has one:
--       k l  which key is its idempotency key, and which one names the life of its stream
--       n    the message is the first of so many that are appended together or not at all
--       f e  it ends the topic; it may come behind the end
--       m z t  bounds of its topic, which hold exactly: most entries, most bytes, most age in ms
--       x w  expiry of its stream in ms; bytes of the message (with z)
-- Returns for each message its ID, followed by a space and a warning if there is one; or "-" and an
-- error: then it was not appended.

local random = tonumber(ARGV[7])
local plain = {} -- the options of a message that has none
local streams = {} -- what is known of the streams of this run
local made = {} -- what need has made
local warning

-- try runs what is done for a message that is appended: nothing may fail it any more.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  warning = warning or select(1, ...) .. ': ' .. reply.err
end

-- need returns functions that few runs need.
local function need(make)
  made[make] = made[make] or make(try)
  return made[make]
end

-- look returns what is known of a stream: id is the newest ID, there says that its entry is there,
-- ours that this script made it, final is the message that ended the topic.
local function look(stream)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local s = {id = '', there = true, ours = false, final = false, newest = false, random = random}
  if newest then
    local mark = newest[2][1] == 'hr' and newest[2][2]
    s.id, s.newest, s.ours = newest[1], newest[2], mark
    if mark and mark ~= '1' and string.find(mark, '[fe]') then
      s.final = need(rare).ended(stream, newest)
    end
  else
    s.id, s.there = need(rare).last_id(stream), false
  end
  streams[stream] = s
  return s
end

-- add appends an entry, or raises an error. It returns the entry's ID, that of the one before, and
-- whether what counts in time is due.
--
-- What counts in hours is brought up to date once in a second, which the first ten digits of an ID
-- are: the two commands are a good part of what a publish costs. An entry of another program came
-- without them.
local function add(stream, s, o, first, last)
  local mark, prev, how, most = ARGV[first + 1], s.id, '~', ARGV[1]
  local due = s.random ~= 0 and (not s.ours or string.sub(prev, 1, 10) ~= clock[1])
  local own = mark
  if o ~= plain then
    if o.m then
      how, most = '=', o.m
    end
    if o.t then
      due = due or s.random ~= 0 and need(bounds).due(s, o)
    end
    if o.z then
      need(bounds).measure(stream, s, tonumber(o.z))
      own = own .. string.format('o%.0f', s.sum)
    end
  end
  if prev == '' then
    own = own .. 's'
  elseif not s.there then
    -- Everything was trimmed, but the stream still knows the ID it gave last. The entry says so,
    -- since nothing else will be able to.
    own = own .. 'p' .. prev
  end
  ARGV[first + 1] = own
  local at, attempt, id = next_id(prev, s.random), 1, nil
  while true do
    id = redis.pcall('XADD', stream, 'MAXLEN', how, most, at, unpack(ARGV, first, last))
    if type(id) ~= 'table' then
      break
    elseif attempt == 3 or not string.find(id.err, 'equal or smaller', 1, true) then
      error(id)
    end
    -- The newest entry was deleted, or its ID is beyond what Lua can count.
    at = attempt == 1 and next_id(need(rare).last_id(stream), s.random) or '*'
    attempt = attempt + 1
  end
  ARGV[first + 1] = mark
  s.id, s.there, s.ours, s.random, s.newest, s.final = id, true, true, 0, false, o.f and id
  if o.z then
    need(bounds).count(s, o)
  end
  return id, prev, due
end

-- finish does what belongs to a message that is appended, and returns its result.
local function finish(stream, s, o, lengths, first, last, id, prev, due)
  warning = nil
  if due then
    local age, expiry = o.t or ARGV[2], o.x or ARGV[3]
    local cut = now - age
    if age ~= '0' and cut > 0 then
      try('XTRIM', stream, 'MINID', o.t and '=' or '~', string.format('%.0f', cut))
    end
    if expiry ~= '0' then
      try('PEXPIRE', stream, expiry)
    end
  end
  if o.z then
    need(bounds).shed(stream, s, tonumber(o.z))
  end
  if o.k then
    try('SET', KEYS[tonumber(o.k)], id .. o.life, 'PX', ARGV[4])
  end
  local head = prev .. ' ' .. id .. ' ' .. lengths .. '\n'
  try(ARGV[6], stream .. ARGV[5], head .. table.concat(ARGV, '', first, last))
  return warning and id .. ' ' .. warning or id
end

-- append raises an error if the message cannot be appended.
local function append(stream, o, lengths, first, last)
  local id = o.k and need(rare).known(o)
  if id then
    return id
  end
  local s = streams[stream] or look(stream)
  if s.final and o.f then
    return s.final
  elseif s.final and not o.e then
    error({err = 'ENDED the topic is finished'})
  end
  return finish(stream, s, o, lengths, first, last, add(stream, s, o, first, last))
end

-- append_all appends several messages, the first of which is at a place in ARGV, and returns their
-- results.
local function append_all(stream, n, at)
  local messages = {}
  for i = 1, n do
    local last = at + 3 + tonumber(ARGV[at + 3])
    local o = ARGV[at + 1] == '' and plain or need(rare).options(ARGV[at + 1])
    messages[i] = {o = o, lengths = ARGV[at + 2], first = at + 4, last = last}
    at = last + 1
  end
  local run = {streams = streams, known = need(rare).known, look = look, add = add, finish = finish}
  return batch(run)(stream, messages)
end

local results = {}
local at = 8
while ARGV[at] do
  local stream, options, from = KEYS[tonumber(ARGV[at])], ARGV[at + 1], at
  local o = options == '' and plain or need(rare).options(options)
  local n, ok, result = o.n and tonumber(o.n) or 1, nil, nil
  for _ = 1, n do
    at = at + 4 + tonumber(ARGV[at + 3])
  end
  if n == 1 then
    ok, result = pcall(append, stream, o, ARGV[from + 2], from + 4, at - 1)
  else
    ok, result = pcall(append_all, stream, n, from)
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
    results[#results + 1] = type(result) == 'table' and result[i] or result
  end
end
return results
