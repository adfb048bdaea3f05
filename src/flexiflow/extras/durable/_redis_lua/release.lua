-- ARGV: group, token.
local group, token = ARGV[1], ARGV[2]
if not alive(group)[token] then return {'LOST'} end
redis.call('HDEL', base .. ':l:' .. group, token)
ensure(group)
if #redis.call('XPENDING', log, group, '-', '+', 1, token) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', log, group, token)
end
wake(group)
return {'OK'}
