-- Bounds of bytes, and bounds of age that hold exactly. Goes before publish.lua.

-- bounds makes the functions for topics that have such bounds.
local function bounds(try)
  local bounds = {}
  local states = {} -- of streams with a bound of bytes

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
    local at = fields[1] == 'hr' and string.match(fields[2], 'o(%d+)')
    return at and tonumber(at)
  end

  -- measure finds where the next message of a topic with a bound of bytes starts. Behind entries
  -- that do not tell, it counts back. seen is up to where it was looked whether there is too much.
  local function measure(stream, bound)
    local bytes, list = 0, redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
    while #list > 0 do
      for _, e in ipairs(list) do
        local at, n = start(e[2]), size(e[2])
        bytes = bytes + n
        if at then
          return {sum = at + bytes, seen = at + n}
        elseif bytes >= bound then
          return {sum = bytes, seen = bytes, cut = e[1]}
        end
      end
      list = redis.call('XREVRANGE', stream, '(' .. list[#list][1], '-', 'COUNT', 8)
    end
    return {sum = bytes, seen = bytes}
  end

  -- offset returns where the next message starts, for its mark.
  function bounds.offset(stream, o)
    states[stream] = states[stream] or measure(stream, tonumber(o.z))
    return string.format('o%.0f', states[stream].sum)
  end

  -- due reports whether the age of a stream's messages has to be seen to: it is, sixteen times as
  -- long as the age lasts, or each second.
  function bounds.due(prev, o)
    local step = math.max(1, math.min(1000, math.floor(o.t / 16)))
    local before = tonumber(string.match(prev, '^%d+')) or 0
    return math.floor(before / step) ~= math.floor(now / step)
  end

  -- count takes a message into account that was appended. The walk that trims is made once for a
  -- sixteenth of the bound.
  function bounds.count(stream, o)
    local s, step = states[stream], math.max(1, math.min(262144, math.floor(o.z / 16)))
    s.begin, s.sum = s.sum, s.sum + o.w
    s.over = (s.over or 0) + (math.floor(s.sum / step) - math.floor(s.seen / step)) * step
    s.seen = s.sum
  end

  -- shed trims a topic to its bound of bytes. Where the oldest entries do not say where they start,
  -- about as much goes as has come.
  function bounds.shed(stream, bound)
    local s = states[stream]
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

  return bounds
end
