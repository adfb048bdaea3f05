-- Lease the partition.
-- ARGV: epoch; group; lease in ms; 1 if leases are exclusive, else 0; a digest of the patterns.
-- Answer: TAKEN if it can't be had now; else OK; the token; if leases are exclusive, the keys of
-- which records wait; the number of the group's replay; the id behind which it began last, or '' if
-- that is not known.
local group, keys = ARGV[2], {}
if drop_page(group) then return {'MORE'} end
if redis.call('SISMEMBER', base .. ':groups', group) == 0 then return {'TAKEN'} end
local _, state = ensure(group)
if state[3] ~= ARGV[5] then return {'TAKEN'} end
if ARGV[4] == '1' then
  local rows, live = leases_of(group)
  if next(live) then return {'TAKEN'} end
  for token in pairs(rows) do end_lease(group, token) end
  if redis.call('EXISTS', base .. ':waits:' .. group) == 1 then keys = waits_of(group, '0').keys() end
end
local number = next_number(redis.call('HGET', meta, 'token'))
local token = number .. '-' .. ARGV[1]
redis.call('HSET', meta, 'token', number)
hold(group, token, ARGV[3], '0')
local replay, begin = unpack(redis.call('HMGET', base .. ':g:' .. group, 'replay', 'begin'))
return {'OK', token, keys, tonumber(replay or 0), begin or ''}
