-- Find out how far groups are.
-- ARGV: epoch; 1 to find out how old they are, too; the groups.
-- Answer: OK; the epoch; the last id; of each group pending, lag, missed, dead and waiting, and when
-- the oldest record was stored that is not settled, in microseconds, or 0 if that is not known.
if put_scheduled() == 0 then return {'MORE'} end
for i = 3, #ARGV do
  if drop_page(ARGV[i]) then return {'MORE'} end
end
read_all()
local last, answers = sync(), {}

-- Return the id of the first record after a position that was not given, and is not passed over.
local function first_new(given, passed)
  local from = given
  while true do
    local next_ = redis.call('XRANGE', log, '(' .. from, '+', 'COUNT', 1)[1]
    if not next_ then return nil end
    local number, run = parts(next_[1]), 0
    local copies = redis.call('ZRANGEBYSCORE', passed, number, '+inf', 'LIMIT', 0, PAGE)
    if copies[1] ~= next_[1] then return next_[1] end
    while copies[run + 1] == id_of(number + run) do run = run + 1 end
    from = copies[run]
  end
end

local function oldest(group, given, passed, held)
  local times, ids = {}, {first_new(given, passed)}
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

local function standing(group)
  local passed = base .. ':passed:' .. group
  local given = ensure(group)
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
  local missed = tonumber(redis.call('HGET', base .. ':g:' .. group, 'missed') or 0)
  local counts = {pending, lag, missed, redis.call('XLEN', base .. ':d:' .. group), waiting}
  return {counts, ARGV[2] == '1' and oldest(group, given, passed, held) or '0'}
end

for i = 3, #ARGV do
  local is_there = redis.call('SISMEMBER', base .. ':groups', ARGV[i]) == 1
  answers[i - 2] = is_there and standing(ARGV[i]) or {{0, 0, 0, 0, 0}, '0'}
end
return {'OK', ARGV[1], last, answers}
