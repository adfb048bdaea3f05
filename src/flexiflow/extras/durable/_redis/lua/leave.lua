-- Stop being a member; run in partition 0.
-- ARGV: group; consumer; token.
local members, key = base .. ':members:' .. ARGV[1], base .. ':g:' .. ARGV[1]
local found = redis.call('HGET', members, ARGV[2])
if found and cjson.decode(found)[2] == ARGV[3] then
  redis.call('HDEL', members, ARGV[2])
  redis.call('HSET', key, 'members', next_number(redis.call('HGET', key, 'members')))
end
return {'OK'}
