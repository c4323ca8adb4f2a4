-- Functions of the scripts that know of a topic's life.

-- flag reports whether an entry is ours and has a flag, or one of a set of them in brackets.
local function flag(entry, letter)
  local fields = entry[2]
  return fields[1] == 'hr' and string.find(fields[2], '^1.*' .. letter) ~= nil
end

-- control reports whether an entry is no message: the first one of a topic that was deleted, or one
-- that took a message away.
local function control(entry)
  return flag(entry, '[de]')
end

-- find returns the first message that XRANGE or XREVRANGE brings between two ends, or nil.
local function find(command, stream, from, to)
  local count = 1
  while true do
    local entries = redis.call(command, stream, from, to, 'COUNT', count)
    for _, entry in ipairs(entries) do
      if not control(entry) then
        return entry
      end
    end
    if #entries < count then
      return nil
    end
    from, count = '(' .. entries[#entries][1], 64
  end
end

-- given returns the ID that a stream gave last.
local function given(stream)
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return info[i + 1]
    end
  end
  return ''
end

-- add appends an entry behind the ID that was given last.
local function add(stream, last, random, fields)
  local id = redis.pcall('XADD', stream, next_id(last, random), unpack(fields))
  if type(id) == 'table' then
    id = redis.call('XADD', stream, '*', unpack(fields))
  end
  return id
end

-- try runs a command that is not to fail the script, and returns what it refuses.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    return select(1, ...) .. ': ' .. reply.err
  end
end

-- announce tells followers of an entry, as the publish script does of a message.
local function announce(command, channel, prev, id, fields)
  local lengths = {}
  for i, field in ipairs(fields) do
    lengths[i] = #field
  end
  return try(command, channel, prev .. ' ' .. id .. ' ' .. table.concat(lengths, ',') .. '\n' .. table.concat(fields))
end
