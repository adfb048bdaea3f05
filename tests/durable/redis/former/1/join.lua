-- ARGV: group, consumer, token, lease in ms, patterns. In partition 0.
local group, consumer, token, patterns = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local members, now, names = base .. ':m:' .. group, time(), {}
for name, each in pairs(pairs_of(redis.call('HGETALL', members))) do
  local other = cjson.decode(each)
  if other[1] <= now or other[4] > now then
    redis.call('HDEL', members, name)
  elseif name ~= consumer then
    if other[3] ~= patterns then return {'OTHERS', other[3]} end
    names[#names + 1] = name
  elseif other[2] ~= token then
    return {'TAKEN'}
  end
end
redis.call('HSET', members, consumer, cjson.encode({now + ARGV[4], token, patterns, now}))
names[#names + 1] = consumer
local is_new = 1 - redis.call('SISMEMBER', base .. ':groups', group)
ensure(group)
return {'OK', names, is_new}
