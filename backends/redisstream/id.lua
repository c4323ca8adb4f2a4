-- Gives entries IDs that belong to one history. Goes before the scripts that append.
--
-- XADD * gives <ms>-0 in every history of a topic. So two masters, a copy that was restored, or a
-- clock that steps back give one ID to two messages, and a reader of the one history is taken for
-- one of the other. An ID from here has a random number in its sequence number. It comes from the
-- caller, fresh for each run: the random numbers of a server's scripts are the same for every
-- server.

local most_random = 262144
-- An entry that comes within the millisecond of the one before has only this much of the random
-- number: it is a run of its own, and some hundreds of them must not make IDs longer.
local most_step = 1024
-- Lua counts exactly up to 2^53.
local most_sequence = 9007199254740992 - 2 * most_random

local clock

-- time returns the time of this run: seconds, microseconds, and the milliseconds as text.
local function time()
  if not clock then
    clock = redis.call('TIME')
    clock[3] = clock[1] .. string.format('%03d', math.floor(tonumber(clock[2]) / 1000))
  end
  return clock
end

-- next_id returns the ID for an entry behind another one.
--
-- prev is the newest ID of the stream, '' if there is none. random is from 1 to most_random, or 0
-- when prev was given in this run.
local function next_id(prev, random)
  local ms = time()[3]
  local was, seq = string.match(prev, '^(%d+)%-(%d+)$')
  if not was or #was < #ms or #was == #ms and was < ms then
    return ms .. '-' .. string.format('%.0f', random)
  end
  seq = tonumber(seq)
  if seq > most_sequence then
    -- Another program has chosen that number. The millisecond to come is ours.
    return string.format('%.0f-%.0f', was + 1, random)
  end
  if was == ms then
    random = random % most_step
  end
  return string.format('%s-%.0f', was, seq + 1 + random)
end
