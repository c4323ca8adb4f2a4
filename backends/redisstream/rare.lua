-- What few messages need: options, idempotency keys, and a look behind the newest entry. Goes
-- before publish.lua, as the next two.

-- rare makes the functions.
local function rare(try)
  local rare = {}
  -- Of each hash of keys when it was begun, when its expiry is to be put off, whether there is a
  -- former one, and how many fields it has.
  local hashes = {}
  -- Redis keeps a small hash as a list, and goes through all of it for each command. It is one no
  -- longer when it has this many fields, which it is for the sake of a value of more than 64 bytes.
  local most_listed = 32

  -- flags returns the mark of an entry, '' for one of another program.
  local function flags(fields)
    return fields[1] == 'hr' and fields[2] or ''
  end

  function rare.options(text)
    local o = {}
    if string.byte(text) == 107 then -- k
      o.digest, text = string.sub(text, -16), string.sub(text, 1, -17)
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
    local h, id = hashes[keys], nil
    if h then
      id = redis.call('HGET', keys, o.digest)
    else
      local found = redis.call('HMGET', keys, 'since', o.digest)
      h, id = {}, found[2]
      h.begun, h.due, h.former = string.match(found[1] or '', '^(%d+) (%d+) (f?)')
      hashes[keys] = h
    end
    if not id and h.former == 'f' then
      id = redis.call('HGET', KEYS[o.k + 1], o.digest)
    end
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
  -- are to be remembered, or is as old as the window, is kept behind the next one, and the one that
  -- was is forgotten. So the newest keys are known, and no key has to be looked for.
  function rare.remember(o, id)
    local keys, ms, window = KEYS[tonumber(o.k)], tonumber(now), tonumber(ARGV[4])
    local h = hashes[keys]
    if h.begun then
      h.n = h.n or try('HLEN', keys) or 0
      if h.n > tonumber(o.c) or h.begun + window <= ms then
        local former = KEYS[o.k + 1]
        redis.pcall('UNLINK', former) -- RENAME would free it too, but not beside what Redis does
        try('RENAME', keys, former)
        h.begun, h.former = nil, 'f'
      end
    end
    if h.begun and h.n ~= most_listed and ms < tonumber(h.due) then
      try('HSET', keys, o.digest, id)
    else
      -- The expiry is put off sixteen times in a window. What says so is the first field: it is
      -- found soonest in a list.
      local step = math.floor(window / 16) + 1
      h.n, h.begun = h.begun and h.n or 1, h.begun or now
      h.due = string.format('%.0f', ms + step)
      local since = h.begun .. ' ' .. h.due .. ' ' .. (h.former or '')
      try('HSET', keys, 'since', h.n < most_listed and since or since .. string.rep(' ', 64), o.digest, id)
      try('PEXPIRE', keys, string.format('%.0f', window + step))
    end
    h.n = h.n + 1
  end

  return rare
end
