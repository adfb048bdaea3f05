-- Create the group in this partition if it is not there, and make it take patterns, unless it takes
-- those of a later generation.
-- ARGV: epoch; group; a digest of the patterns; their generation; the number of the group's replay;
-- where a new group begins: the kind and the value of the start (see `starts.lua`), and for a
-- position its epoch.
local key = base .. ':g:' .. ARGV[2]
if redis.call('SISMEMBER', base .. ':groups', ARGV[2]) == 0 then
  if put_scheduled() == 0 then return {'MORE'} end
  local begin
  -- After a loss the positions are those of other records (X13).
  if ARGV[6] ~= 'after' or ARGV[8] == ARGV[1] then begin = start_of(ARGV[6], ARGV[7]) end
  ensure(ARGV[2], begin, ARGV[5])
end
local current, generation, replay =
  unpack(redis.call('HMGET', key, 'patterns', 'generation', 'replay'))
if tonumber(ARGV[5]) > (tonumber(replay) or 0) then redis.call('HSET', key, 'replay', ARGV[5]) end
if tonumber(ARGV[4]) > (tonumber(generation) or 0) then
  redis.call('HSET', key, 'patterns', ARGV[3], 'generation', ARGV[4])
  if current ~= ARGV[3] then wake(ARGV[2]) end
end
stir()
return {'OK'}
