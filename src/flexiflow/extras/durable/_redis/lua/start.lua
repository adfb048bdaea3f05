-- Find out whether a group can begin somewhere (Y5).
-- ARGV: epoch; a group that has to be there, or ''; the kind and the value of the start (see
-- `starts.lua`).
-- Answer: NONE if there is no such group; AHEAD and the last id if the position is not there yet;
-- TRIMMED and the earliest position if records behind it were deleted; else OK.
if ARGV[2] ~= '' and redis.call('SISMEMBER', base .. ':groups', ARGV[2]) == 0 then
  return {'NONE'}
end
if put_scheduled() == 0 then return {'MORE'} end
if ARGV[3] == 'after' then
  local begin = start_of(ARGV[3], ARGV[4])
  if not begin then return {'AHEAD', sync()} end
  if begin ~= ARGV[4] then return {'TRIMMED', begin} end
end
return {'OK'}
