-- What few messages need: options, idempotency keys, and a look behind the newest entry. Goes
-- before publish.lua, as the next two.

-- rare makes the functions.
local function rare()
  local rare = {}
  local lives = {} -- by number of the key

  -- flags returns the mark of an entry, '' for one of another program.
  local function flags(fields)
    return fields[1] == 'hr' and fields[2] or ''
  end

  function rare.options(text)
    local o = {}
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

  -- known returns the ID of the message that was published with the idempotency key before. A key
  -- of a former life of the topic does not count. o.life names the life of now.
  function rare.known(o)
    local value = redis.call('GET', KEYS[tonumber(o.k)])
    if not lives[o.l] then
      local life = redis.call('GET', KEYS[tonumber(o.l)])
      lives[o.l] = life and ' ' .. life or ''
    end
    o.life = lives[o.l]
    if not value then
      return nil
    end
    local id, life = string.match(value, '^(%d+%-%d+)(.*)$')
    if not id or life ~= '' and not string.find(life, '^ %S+$') then
      error({err = 'WRONGTYPE the idempotency key holds no ID'})
    end
    return life == o.life and id or nil
  end

  return rare
end
