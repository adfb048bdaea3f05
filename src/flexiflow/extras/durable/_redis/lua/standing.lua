-- Find out how far a group is.
-- ARGV: epoch; group; 1 to find out how old it is, too.
-- Answer: OK; pending, lag, missed, dead and waiting; the epoch; the last id; when the oldest record
-- was stored that is not settled, in microseconds, or 0 if that is not known.
if put_scheduled() == 0 then return {'DUE'} end
local group = ARGV[2]
if redis.call('SISMEMBER', base .. ':groups', group) == 0 then
  return {'OK', {0, 0, 0, 0, 0}, ARGV[1], sync(), '0'}
end
local given, last = ensure(group), sync()
local passed = base .. ':passed:' .. group
local lag = positions(given, (parts(last)))
  - redis.call('ZCOUNT', passed, '(' .. string.format('%.0f', parts(given)), '+inf')
for _, each in ipairs(jumps_after(given)) do
  local from = is_after(given, each[1]) and given or each[1]
  lag = lag + #redis.call('XRANGE', log, '(' .. from, each[2], 'COUNT', 1000)
end
local held, waiting = redis.call('XPENDING', log, group), 0
local pending = held[1]
if redis.call('EXISTS', base .. ':waits:' .. group) == 1 then
  local out = waits_of(group, '').count_out()
  pending, waiting = pending + out, redis.call('HLEN', base .. ':waits:' .. group) - out
end
local missed = redis.call('HGET', base .. ':g:' .. group, 'missed') or 0
local dead = redis.call('XLEN', base .. ':d:' .. group)

-- Return the id of the first record after a position that was not given, and is not passed over.
local function first_new()
  local from = given
  while true do
    local next_ = redis.call('XRANGE', log, '(' .. from, '+', 'COUNT', 1)[1]
    if not next_ or not redis.call('ZSCORE', passed, next_[1]) then return next_ and next_[1] end
    from = next_[1]
  end
end

local function oldest()
  local times, ids = {}, {first_new()}
  if held[1] > 0 then ids[#ids + 1] = held[2] end
  for _, id in ipairs(ids) do
    local entry = redis.call('XRANGE', log, id, id)[1]
    times[#times + 1] = entry and tonumber(pairs_of(entry[2]).time or nil) or 0
  end
  times[#times + 1] =
    tonumber(redis.call('ZRANGE', base .. ':ages:' .. group, 0, 0, 'WITHSCORES')[2] or nil)
  table.sort(times)
  return string.format('%.0f', times[1] or 0)
end

return {
  'OK', {pending, lag, tonumber(missed), dead, waiting}, ARGV[1], last,
  ARGV[3] == '1' and oldest() or '0'}
