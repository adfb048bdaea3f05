-- Choose dead letters for a page.
-- ARGV: group; the id to begin with; how many at most; how many bytes a page has.
-- Answer: the ids, each with its size, up to the first one that does not fit.
local dead, from, room, found = base .. ':d:' .. ARGV[1], ARGV[2], tonumber(ARGV[4]), {}
for _ = 1, ARGV[3] do
  -- One at a time, so that no more is read than fits (X14).
  local entry = redis.call('XRANGE', dead, from, '+', 'COUNT', 1)[1]
  if not entry then break end
  local size = 0
  for _, each in ipairs(entry[2]) do size = size + #each end
  room, from = room - size, '(' .. entry[1]
  found[#found + 1] = {entry[1], size}
  if room < 0 then break end
end
return {'OK', found}
