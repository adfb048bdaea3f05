-- ARGV: group, token, how many are acknowledged, their ids; of each of the others:
-- N or R, id, attempts, deliveries | B, id, attempts, deliveries, the failure's type, message and
-- traceback. A worker acknowledges only what it was given, and nobody else has got it since.
local group, token = ARGV[1], ARGV[2]
local state, counts = base .. ':g:' .. group, base .. ':a:' .. group
if not alive(group)[token] then return {'LOST'} end
local given, count, returned = ensure(group), tonumber(ARGV[3]), false
local has_counts = redis.call('EXISTS', counts) == 1

local function is_there(id)
  return #redis.call('XRANGE', log, id, id) > 0
end

local function keep(id, attempts, deliveries, consumer)
  redis.call('XCLAIM', log, group, consumer, 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
  redis.call('HDEL', counts, 's' .. id)
  if attempts == '0' then
    redis.call('HDEL', counts, id)
  else
    redis.call('HSET', counts, id, attempts)
  end
end

local function bury(id, first)
  local found = redis.call('XRANGE', log, id, id)[1]
  if not found then
    redis.call('HINCRBY', state, 'missed', 1)
    return
  end
  redis.call(
    'XADD', base .. ':d:' .. group, '*', 'attempts', ARGV[first], 'deliveries', ARGV[first + 1],
    'type', ARGV[first + 2], 'message', ARGV[first + 3], 'traceback', ARGV[first + 4],
    unpack(fields_of(found[2])))
end

local function finish(first, last)
  for at = first, last, 1000 do
    local chunk = {unpack(ARGV, at, math.min(at + 999, last))}
    redis.call('XACK', log, group, unpack(chunk))
    if has_counts then
      redis.call('HDEL', counts, unpack(chunk))
      for i, id in ipairs(chunk) do chunk[i] = 's' .. id end
      redis.call('HDEL', counts, unpack(chunk))
    end
  end
end

local function settle(kind, at)
  local id, attempts, deliveries = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  -- What it settled before may be another's by now.
  if #redis.call('XPENDING', log, group, id, id, 1, token) == 0 then return end
  if kind == 'B' then
    bury(id, at + 1)
  elseif is_there(id) then
    returned = returned or kind == 'R'
    return keep(id, attempts, deliveries, kind == 'R' and '-' or token)
  elseif kind == 'R' then
    redis.call('HINCRBY', state, 'missed', 1)
  else
    -- The server would drop what is claimed when it is gone, uncounted.
    return
  end
  finish(at, at)
end

local at = 4 + count
finish(4, at - 1)
while at <= #ARGV do
  settle(ARGV[at], at + 1)
  at = at + (ARGV[at] == 'B' and 7 or 4)
end
redis.call('HSET', state, 'floor', floor_of(group, given))
if returned then wake(group) end
return {'OK'}
