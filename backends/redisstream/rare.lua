-- What few messages need: options, idempotency keys, and a look behind the newest entry. Goes
-- before publish.lua, as the next two.

-- rare makes the functions.
local function rare(try)
  local rare = {}
  local since = {} -- when each hash of keys was begun

  -- flags returns the mark of an entry, '' for one of another program.
  local function flags(fields)
    return fields[1] == 'hr' and fields[2] or ''
  end

  function rare.options(text)
    local o, at = {}, string.find(text, '#', 1, true)
    if at then
      o.digest, text = string.sub(text, at + 1), string.sub(text, 1, at)
    end
    for letter, number in string.gmatch(text, '(%a)(%d*)') do
      o[letter] = number
    end
    return o
  end

  -- ended returns the ID of the message that ended a topic, if it is the newest one. Entries that
  -- erase are no messages.
  function rare.ended(stream, entry)
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
  function rare.last_id(stream)
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

  -- known returns the ID of the message that was published with the idempotency key within the
  -- window.
  function rare.known(o)
    local keys = KEYS[tonumber(o.k)]
    local found = redis.call('HMGET', keys, o.digest, 'since')
    since[keys] = tonumber(found[2])
    local id = found[1] or redis.call('HGET', KEYS[tonumber(o.l)], o.digest)
    if not id then
      return nil
    end
    local ms = string.match(id, '^(%d+)%-%d+$')
    if not ms then
      error({err = 'WRONGTYPE the idempotency key holds no ID'})
    end
    return ms + ARGV[4] > tonumber(now) and id or nil
  end

  -- remember remembers the ID of a message by its idempotency key. A hash that has as many keys as
  -- are to be remembered, or was begun before all that is, is kept behind the next one, and the one
  -- that was is forgotten. So the newest keys are known, and no key has to be looked for.
  function rare.remember(o, id)
    local keys, former = KEYS[tonumber(o.k)], KEYS[tonumber(o.l)]
    local begun = since[keys]
    if begun and (begun + ARGV[4] <= tonumber(now) or (try('HLEN', keys) or 0) > tonumber(o.c)) then
      redis.pcall('UNLINK', former) -- RENAME would free it too, but not beside what Redis does
      try('RENAME', keys, former)
      begun = nil
    end
    if begun then
      try('HSET', keys, o.digest, id)
    else
      try('HSET', keys, o.digest, id, 'since', now)
      since[keys] = tonumber(now)
    end
    try('PEXPIRE', keys, ARGV[4])
  end

  return rare
end
