-- The common case of `settle.lua`, for which it pays to be quick.
-- ARGV: group, token, how often others took something from the lease as far as it knows, ids of what
-- is acknowledged, and has not waited. Answer: ALL where it is another case; else how many the group
-- has settled, and twice nothing.
local group, row = ARGV[1], redis.call('HGET', base .. ':leases:' .. ARGV[1], ARGV[2])
if not row or string.match(row, '(%S+)$') ~= ARGV[3]
  or redis.call('EXISTS', base .. ':a:' .. group) == 1 then
  return {'ALL'}
end
local given = ensure(group)
for at = 4, #ARGV, 1000 do
  redis.call('XACK', log, group, unpack(ARGV, at, math.min(at + 999, #ARGV)))
end
local floor, pending = floor_of(group, given)
redis.call('HSET', base .. ':g:' .. group, 'floor', floor)
return {'OK', parts(given) - pending - redis.call('HLEN', base .. ':waits:' .. group), {}, {}}
