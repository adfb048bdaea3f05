-- ARGV: group, token, lease in ms.
local group, token = ARGV[1], ARGV[2]
if not alive(group)[token] then return {'LOST'} end
hold(group, token, ARGV[3])
redis.call('HSET', base .. ':g:' .. group, 'floor', floor_of(group, ensure(group)))
return {'OK', standing(group)}
