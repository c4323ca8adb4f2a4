-- Reads what comes after an entry that is there. Goes behind bounded.lua.
--
-- KEYS: 1 the stream. ARGV: 1 the ID of the entry, or '' for the beginning, 2 most entries, 3 most
--       bytes.
-- Returns nothing if there is no such entry; otherwise a list of it, without its data, or an empty
-- one for the beginning; its size; the entries behind it; and 1 if there may be more.

local from, at, size = '-', {}, 0
if ARGV[1] ~= '' then
  at = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
  if #at == 0 then
    return false
  end
  local fields = at[1][2]
  for _, field in ipairs(fields) do
    size = size + #field
  end
  -- Only what the entry is matters. It is with the client already.
  if fields[1] == 'hr' and fields[#fields - 1] == 'data' then
    fields[#fields] = ''
  end
  from = '(' .. ARGV[1]
end
local entries, more = bounded(KEYS[1], from, tonumber(ARGV[2]), tonumber(ARGV[3]))
return {at, size, entries, more}
