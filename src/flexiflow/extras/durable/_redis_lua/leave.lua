-- ARGV: group, consumer, token. In partition 0.
local members = base .. ':m:' .. ARGV[1]
local found = redis.call('HGET', members, ARGV[2])
if found and cjson.decode(found)[2] == ARGV[3] then redis.call('HDEL', members, ARGV[2]) end
return {'OK'}
