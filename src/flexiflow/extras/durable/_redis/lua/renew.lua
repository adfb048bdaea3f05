-- Make a lease last its full time from now on.
-- ARGV: group; token; lease in ms; ids.
-- Answer: LOST if the lease is gone; else OK; how many records the group has settled; how often
-- others took something from the lease; those of the ids that it does not hold.
local group, token = ARGV[1], ARGV[2]
local row = redis.call('HGET', base .. ':leases:' .. group, token)
if not row then return {'LOST'} end
local taken = string.match(row, '(%S+)$')
hold(group, token, ARGV[3], taken)
local given, lost = ensure(group), {}
local floor, pending = floor_of(group, given)
local waiting = redis.call('HLEN', base .. ':waits:' .. group)
redis.call('HSET', base .. ':g:' .. group, 'floor', floor)
local waits = waiting > 0 and waits_of(group, '')
for i = 4, #ARGV do
  local id = ARGV[i]
  local record = waits and waits.read(id)
  local is_held = record and record.h == token
  if not record then is_held = #redis.call('XPENDING', log, group, id, id, 1, token) > 0 end
  if not is_held then lost[#lost + 1] = id end
end
stir()
return {'OK', parts(given) - pending - waiting, tonumber(taken), lost}
