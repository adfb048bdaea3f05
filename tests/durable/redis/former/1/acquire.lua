-- ARGV: group, lease in ms, 1 if nobody else may have one.
local group = ARGV[1]
ensure(group)
if next(alive(group)) and ARGV[3] == '1' then return {'TAKEN'} end
local token = redis.call('INCR', base .. ':tokens')
hold(group, token, ARGV[2])
return {'OK', token}
