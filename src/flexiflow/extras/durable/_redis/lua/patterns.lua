-- Create the group in this partition if it is not there, and make it take patterns, unless it takes
-- those of a later generation.
-- ARGV: epoch; group; a digest of the patterns; their generation; where a new group begins: the kind
-- and the value of the place (see `places.lua`), and for a position its epoch.
local key = base .. ':g:' .. ARGV[2]
if redis.call('SISMEMBER', base .. ':groups', ARGV[2]) == 0 then
  if put_scheduled() == 0 then return {'DUE'} end
  local place
  -- After a loss the positions are those of other records (X13).
  if ARGV[5] ~= 'after' or ARGV[7] == ARGV[1] then place = place_of(ARGV[5], ARGV[6]) end
  ensure(ARGV[2], place)
end
local current, generation = unpack(redis.call('HMGET', key, 'patterns', 'generation'))
if tonumber(ARGV[4]) > (tonumber(generation) or 0) then
  redis.call('HSET', key, 'patterns', ARGV[3], 'generation', ARGV[4])
  if current ~= ARGV[3] then wake(ARGV[2]) end
end
stir()
return {'OK'}
