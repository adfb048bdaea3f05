-- The common case of `settle.lua`, which has to be quick: records that have not waited are
-- acknowledged, and nobody has taken anything from the lease.
-- ARGV: group; token; how often others took something from the lease, as far as its worker knows;
-- the ids that are acknowledged.
-- Answer: ALL if it is another case, with nothing changed; else OK, how many records the group has
-- settled, and two empty lists.
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
