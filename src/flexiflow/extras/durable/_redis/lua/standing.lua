-- Find out how far a group is.
-- ARGV: epoch; group. Answer: OK; pending, lag, missed, dead and waiting; the epoch; the last id.
local group = ARGV[2]
if redis.call('SISMEMBER', base .. ':groups', group) == 0 then
  return {'OK', {0, 0, 0, 0, 0}, ARGV[1], sync(stored[1])}
end
local given, last = ensure(group), sync()
local lag = positions(given, (parts(last)))
for _, each in ipairs(jumps_after(given)) do
  local from = is_after(given, each[1]) and given or each[1]
  lag = lag + #redis.call('XRANGE', log, '(' .. from, each[2], 'COUNT', 1000)
end
local pending, waiting = redis.call('XPENDING', log, group)[1], 0
if redis.call('EXISTS', base .. ':waits:' .. group) == 1 then
  local out = waits_of(group, '').count_out()
  pending, waiting = pending + out, redis.call('HLEN', base .. ':waits:' .. group) - out
end
local missed = redis.call('HGET', base .. ':g:' .. group, 'missed') or 0
local dead = redis.call('XLEN', base .. ':d:' .. group)
return {'OK', {pending, lag, tonumber(missed), dead, waiting}, ARGV[1], last}
