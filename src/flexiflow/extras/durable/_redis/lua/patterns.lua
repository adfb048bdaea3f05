-- Create the group in this partition if it is not there, and make it take patterns, unless it takes
-- those of a later generation.
-- ARGV: epoch; group; a digest of the patterns; their generation.
local key = base .. ':g:' .. ARGV[2]
ensure(ARGV[2])
local current, generation = unpack(redis.call('HMGET', key, 'patterns', 'generation'))
if tonumber(ARGV[4]) > (tonumber(generation) or 0) then
  redis.call('HSET', key, 'patterns', ARGV[3], 'generation', ARGV[4])
  if current ~= ARGV[3] then wake(ARGV[2]) end
end
stir()
return {'OK'}
