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

local plain = {} -- the options of a message that has none
local streams = {} -- what is known of the streams of this run
local lives = {} -- by number of the key

local function options(text)
  if text == '' then
    return plain
  end
  local o = {}
  for letter, number in string.gmatch(text, '(%a)(%d*)') do
    o[letter] = number
  end
  return o
end

-- flags returns the mark of an entry, '' for one of another program.
local function flags(fields)
  return fields[1] == 'hr' and fields[2] or ''
end

-- ended returns the ID of the message that ended a topic, if it is the newest one. Entries that
-- erase are no messages.
local function ended(stream, entry)
  local list = {entry}
  while true do
    for _, e in ipairs(list) do
      if string.find(flags(e[2]), 'f', 1, true) then
        return e[1]
      elseif not string.find(flags(e[2]), 'e', 1, true) then
        return nil
      end
    end
    local before = '(' .. list[#list][1]
    list = redis.call('XREVRANGE', stream, before, '-', 'COUNT', 16)
    if #list == 0 then
      return nil
    end
  end
end

-- last_id returns the ID that a stream gave last, '' if there is none.
local function last_id(stream)
  if redis.call('EXISTS', stream) == 1 then
    local info = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' and info[i + 1] ~= '0-0' then
        return info[i + 1]
      end
    end
  end
  return ''
end

-- look returns what is known of a stream: id is the newest ID, there says that its entry is there,
-- ours that this script made it, final is the message that ended the topic.
local function look(stream)
  local s = streams[stream]
  if s then
    return s
  end
  s = {id = '', there = true, ours = true, random = tonumber(ARGV[7])}
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if newest then
    s.id, s.newest, s.ours = newest[1], newest[2], newest[2][1] == 'hr'
    s.final = ended(stream, newest)
  else
    s.id, s.there, s.ours = last_id(stream), false, false
  end
  streams[stream] = s
  return s
end

-- known returns the ID of the message that was published with the idempotency key before. A key of
-- a former life of the topic does not count.
local function known(o)
  local value = redis.call('GET', KEYS[tonumber(o.k)])
  if not lives[o.l] then
    local life = redis.call('GET', KEYS[tonumber(o.l)])
    lives[o.l] = life and ' ' .. life or ''
  end
  if not value then
    return nil
  end
  local id, life = string.match(value, '^(%d+%-%d+)(.*)$')
  if not id or life ~= '' and not string.find(life, '^ %S+$') then
    error({err = 'WRONGTYPE the idempotency key holds no ID'})
  end
  return life == lives[o.l] and id or nil
end

-- refuse raises the error for a message that comes behind the end by mistake.
local function refuse(s, o)
  if s.final and not o.e then
    error({err = 'ENDED the topic is finished'})
  end
end

-- size returns the bytes of an entry's message.
local function size(fields)
  local n, ours = 0, fields[1] == 'hr'
  for i = ours and 3 or 1, #fields, 2 do
    if not ours then
      n = n + #fields[i]
    elseif string.sub(fields[i], 1, 2) == 'h:' then
      n = n + #fields[i] - 2
    end
    n = n + #fields[i + 1]
  end
  return n
end

-- start returns where a message starts in the bytes of its topic, if that is known.
local function start(fields)
  local at = string.match(flags(fields), 'o(%d+)')
  return at and tonumber(at)
end

-- measure finds where the next message of a topic with a bound of bytes starts. Behind entries that
-- do not tell, it counts back. seen is up to where it was looked whether there is too much.
local function measure(stream, s, bound)
  if s.sum then
    return
  end
  local bytes, list = 0, {s.newest and {s.id, s.newest}}
  while #list > 0 do
    for _, e in ipairs(list) do
      local at, n = start(e[2]), size(e[2])
      bytes = bytes + n
      if at then
        s.sum, s.seen = at + bytes, at + n
        return
      elseif bytes >= bound then
        s.sum, s.seen, s.cut = bytes, bytes, e[1]
        return
      end
    end
    list = redis.call('XREVRANGE', stream, '(' .. list[#list][1], '-', 'COUNT', 8)
  end
  s.sum, s.seen = bytes, bytes
end

local function xadd(stream, s, o, first, last)
  local how, most = '~', ARGV[1]
  if o.m then
    how, most = '=', o.m
  end
  local at = next_id(s.id, s.random)
  for attempt = 1, 3 do
    local id = redis.pcall('XADD', stream, 'MAXLEN', how, most, at, unpack(ARGV, first, last))
    if type(id) ~= 'table' then
      return id
    elseif attempt == 3 or not string.find(id.err, 'equal or smaller', 1, true) then
      error(id)
    end
    -- The newest entry was deleted, or its ID is beyond what Lua can count.
    at = attempt == 1 and next_id(last_id(stream), s.random) or '*'
  end
end

-- due reports whether the age of a stream's messages and its expiry have to be seen to. What counts
-- in hours is brought up to date once in a second, which the first ten digits of an ID are: the two
-- commands are a good part of what a publish costs. An entry of another program came without them.
local function due(s, o)
  if not s.ours then
    return true
  elseif not o.t then
    return string.sub(s.id, 1, 10) ~= time()[1]
  end
  local step = math.max(1, math.min(1000, math.floor(o.t / 16)))
  local before = tonumber(string.match(s.id, '^%d+')) or 0
  return math.floor(before / step) ~= math.floor(time()[3] / step)
end

-- add appends an entry, or raises an error. It returns the entry's ID, that of the one before, and
-- whether what counts in time is due.
local function add(stream, s, o, first, last)
  local mark, prev = ARGV[first + 1], s.id
  local see = s.random ~= 0 and due(s, o)
  local own = mark
  if o.z then
    measure(stream, s, tonumber(o.z))
    own = own .. string.format('o%.0f', s.sum)
  end
  if prev == '' then
    own = own .. 's'
  elseif not s.there then
    -- Everything was trimmed, but the stream still knows the ID it gave last. The entry says so,
    -- since nothing else will be able to.
    own = own .. 'p' .. prev
  end
  ARGV[first + 1] = own
  local id = xadd(stream, s, o, first, last)
  ARGV[first + 1] = mark
  s.id, s.there, s.ours, s.random, s.newest = id, true, true, 0, nil
  s.final = o.f and id
  if o.z then
    -- The walk that trims is made once for a sixteenth of the bound.
    local step = math.max(1, math.min(262144, math.floor(o.z / 16)))
    s.begin, s.sum = s.sum, s.sum + o.w
    s.over = (s.over or 0) + (math.floor(s.sum / step) - math.floor(s.seen / step)) * step
    s.seen = s.sum
  end
  return id, prev, see
end

local warning

-- try runs what is done for a message that is appended: nothing may fail it any more.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  warning = warning or select(1, ...) .. ': ' .. reply.err
end

-- shed trims a topic to its bound of bytes. Where the oldest entries do not say where they start,
-- about as much goes as has come.
local function shed(stream, s, bound)
  if s.cut then
    try('XTRIM', stream, 'MINID', '=', s.cut)
    s.cut = nil
  end
  local low, over, from, here = math.min(s.sum - bound, s.begin), s.over, '-', nil
  s.over = 0
  if over == 0 or low <= 0 then
    return
  end
  while true do
    local list = try('XRANGE', stream, from, '+', 'COUNT', 8)
    if not list or #list == 0 then
      return
    end
    for _, e in ipairs(list) do
      local at, n = start(e[2]) or here, size(e[2])
      if at and at >= low or not at and over < n / 2 then
        try('XTRIM', stream, 'MINID', '=', e[1])
        return
      end
      here, over = at and at + n, over - n
    end
    from = '(' .. list[#list][1]
  end
end

-- finish does what belongs to a message that is appended, and returns its result.
local function finish(stream, s, o, lengths, first, last, id, prev, see)
  warning = nil
  if see then
    local age, expiry = o.t or ARGV[2], o.x or ARGV[3]
    local cut = time()[3] - age
    if age ~= '0' and cut > 0 then
      try('XTRIM', stream, 'MINID', o.t and '=' or '~', string.format('%.0f', cut))
    end
    if expiry ~= '0' then
      try('PEXPIRE', stream, expiry)
    end
  end
  if o.z then
    shed(stream, s, tonumber(o.z))
  end
  if o.k then
    try('SET', KEYS[tonumber(o.k)], id .. lives[o.l], 'PX', ARGV[4])
  end
  local head = prev .. ' ' .. id .. ' ' .. lengths .. '\n'
  try(ARGV[6], stream .. ARGV[5], head .. table.concat(ARGV, '', first, last))
  return warning and id .. ' ' .. warning or id
end

-- append raises an error if the message cannot be appended.
local function append(stream, o, lengths, first, last)
  local id = o.k and known(o)
  if id then
    return id
  end
  local s = look(stream)
  if o.f and s.final then
    return s.final
  end
  refuse(s, o)
  return finish(stream, s, o, lengths, first, last, add(stream, s, o, first, last))
end

-- append_all appends messages together and returns their results. It raises an error if one of
-- them cannot be appended: then none is.
local function append_all(stream, messages)
  local results, missing = {}, {}
  for i, m in ipairs(messages) do
    results[i] = m.o.k and known(m.o) or false
    if not results[i] then
      missing[#missing + 1] = i
    end
  end
  local s, n = look(stream), #messages
  local final = messages[n].o.f and (s.final or results[n])
  if final then
    for i = 1, n do
      results[i] = final
    end
    return results
  end
  if missing[1] then
    refuse(s, messages[missing[1]].o)
  end

  local added, by_key = {}, {}
  for _, i in ipairs(missing) do
    local m = messages[i]
    m.same = m.o.k and by_key[m.o.k]
    if not m.same then
      local ok, id, prev, see = pcall(add, stream, s, m.o, m.first, m.last)
      if not ok then
        local undone = #added == 0 or redis.pcall('XDEL', stream, unpack(added))
        if type(undone) == 'table' then
          error({err = 'PARTIAL ' .. undone.err})
        end
        streams[stream] = nil
        error(id)
      end
      added[#added + 1] = id
      m.id, m.prev, m.see = id, prev, see
      if m.o.k then
        by_key[m.o.k] = m
      end
    end
  end
  for _, i in ipairs(missing) do
    local m = messages[i]
    if m.same then
      results[i] = m.same.id
    else
      results[i] = finish(stream, s, m.o, m.lengths, m.first, m.last, m.id, m.prev, m.see)
    end
  end
  return results
end

-- message reads the message at a place in ARGV.
local function message(at)
  local first = at + 4
  local last = first + tonumber(ARGV[at + 3]) - 1
  return {o = options(ARGV[at + 1]), lengths = ARGV[at + 2], first = first, last = last}
end

local results = {}
local at = 8 -- no function uses it: miniredis takes a copy for it after an error
while ARGV[at] do
  local stream = KEYS[tonumber(ARGV[at])]
  local m = message(at)
  local n, ok, result = tonumber(m.o.n or 1), nil, nil
  at = m.last + 1
  if n == 1 then
    ok, result = pcall(append, stream, m.o, m.lengths, m.first, m.last)
  else
    local messages = {m}
    while #messages < n do
      m = message(at)
      at = m.last + 1
      messages[#messages + 1] = m
    end
    ok, result = pcall(append_all, stream, messages)
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
