-- Gives entries IDs that belong to one history. Goes before the scripts that append.
--
-- XADD * gives <ms>-0 in every history of a topic. So two masters, a copy that was restored, or a
-- clock that steps back give one ID to two messages, and a reader of the one history is taken for
-- one of the other. An ID from here has a random number in its sequence number. It comes from the
-- caller, fresh for each run: the random numbers of a server's scripts are the same for every
-- server.

-- An entry that comes within the millisecond of the one before has only this much of the random
-- number: many runs within a millisecond must not make IDs longer.
local most_step = 16384
-- Lua counts exactly up to 2^53, and writes numbers of 14 digits as they are.
local most_digits = 13

-- The time of this run: seconds and microseconds, and the milliseconds as text.
local clock = redis.call('TIME')
local now = clock[1] .. string.sub('00000' .. clock[2], -6, -4)

-- next_id returns the ID for an entry behind another one, for XADD.
--
-- prev is the newest ID of the stream, '' if there is none. random is from 1 to 2^18, or 0 when
-- prev was given in this run.
local function next_id(prev, random)
  local dash = #now + 1
  if string.byte(prev, dash) == 45 then -- as many digits before the dash
    local was = string.sub(prev, 1, #now)
    if was < now then
      return now .. '-' .. random
    elseif was == now and #prev <= dash + most_digits then
      return now .. '-' .. string.sub(prev, dash + 1) + 1 + random % most_step
    end
  end
  local was, seq = string.match(prev, '^(%d+)%-(%d+)$')
  if not was or #was < #now then
    return now .. '-' .. random
  elseif #seq > most_digits then
    -- Another program has chosen that number.
    return #was > most_digits + 2 and '*' or string.format('%.0f-%d', was + 1, random)
  end
  return was .. '-' .. seq + 1 + random
end
