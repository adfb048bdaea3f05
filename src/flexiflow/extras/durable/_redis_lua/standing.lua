-- ARGV: group.
if redis.call('SISMEMBER', base .. ':groups', ARGV[1]) == 0 then return {'OK', {0, 0, 0, 0}} end
return {'OK', standing(ARGV[1])}
