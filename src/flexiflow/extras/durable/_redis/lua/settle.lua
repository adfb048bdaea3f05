-- Write the outcomes of records.
-- ARGV: group; token; owner (see `waits.lua`); how often others took something from the lease, as
-- far as its worker knows; 0, or, if this must not be done twice, a number greater than all before;
-- how many records that have not waited are acknowledged, and their ids; then the other outcomes,
-- each of which is one of
--   acknowledged  A, id
--   noted         N, id, attempts, deliveries
--   returned      R, id, attempts, deliveries
--   postponed     P, id, attempts, deliveries, delay in ms or '' for the key's line, key
--                 Q, the same without a key
--   buried        B, id, attempts, deliveries, the failure's type, message and traceback
--   followed      F, key
-- Answer: LOST if the lease is gone; else OK; how many records the group has settled; the ids that
-- other leases hold; the keys of F that are over.
local group, token, owner, number, count = ARGV[1], ARGV[2], ARGV[3], ARGV[5], tonumber(ARGV[6])
local state, counts = base .. ':g:' .. group, base .. ':a:' .. group
local row = redis.call('HGET', base .. ':leases:' .. group, token)
-- For a lease that is gone, only the ends of attempts are written (X11), and nothing in another
-- epoch or in a group that was made later.
if not row then
  local place, epoch = string.match(token, '^(%d+)%-(.*)$')
  local since = redis.call('HGET', state, 'since') or '0'
  if redis.call('EXISTS', state) == 0 or epoch ~= redis.call('HGET', meta, 'epoch')
    or tonumber(place) <= tonumber(since) then
    return {'LOST'}
  end
end
local own = row and token
if number ~= '0' then
  local packed = redis.call('HGET', base .. ':told:' .. group, token)
  local told = packed and cmsgpack.unpack(packed)
  if told and told[1] == number then return {'OK', told[2], told[3], told[4]} end
end
local words = ARGV
local given, returned, lost, over = ensure(group), false, {}, {}
local has_counts = redis.call('EXISTS', counts) == 1
local waiting = redis.call('HLEN', base .. ':waits:' .. group)
local waits = waiting > 0 and waits_of(group, owner)

local function is_there(id)
  return #redis.call('XRANGE', log, id, id) > 0
end

local function finish(first, last)
  for at = first, last, 1000 do
    local chunk = {unpack(words, at, math.min(at + 999, last))}
    redis.call('XACK', log, group, unpack(chunk))
    if has_counts then
      redis.call('HDEL', counts, unpack(chunk))
      for i, id in ipairs(chunk) do chunk[i] = 's' .. id end
      redis.call('HDEL', counts, unpack(chunk))
      for i, id in ipairs(chunk) do chunk[i] = 'd' .. string.sub(id, 2) end
      redis.call('HDEL', counts, unpack(chunk))
    end
  end
end

-- Write all other outcomes. Its functions are defined inside, since the common case needs none.
local function others(at)
  local now = time()

  local function keep(id, attempts, deliveries, consumer)
    redis.call('XCLAIM', log, group, consumer, 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
    redis.call('HDEL', counts, 's' .. id)
    if attempts == '0' then
      redis.call('HDEL', counts, id)
    else
      redis.call('HSET', counts, id, attempts)
      has_counts = true
    end
  end

  local function bury(id, fields, first)
    local number = parts(id)
    local copy = redis.call('ZRANGEBYSCORE', base .. ':copies', number, number)[1]
    local letter = redis.call(
      'XADD', base .. ':d:' .. group, '*', 'attempts', words[first], 'deliveries', words[first + 1],
      'type', words[first + 2], 'message', words[first + 3], 'traceback', words[first + 4],
      unpack(fields))
    local origin = copy and string.match(copy, '(%S+)$') or number
    redis.call('ZADD', base .. ':origins:' .. group, origin, letter)
  end

  -- Note the end of an attempt, reported by a lease that no longer holds the record.
  local function end_attempt(kind, id, holder, deliveries, attempts)
    if kind == 'N' or not is_there(id) then return end
    deliveries = math.min(deliveries, 1)
    redis.call('XCLAIM', log, group, holder, 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
    local known = tonumber(redis.call('HGET', counts, id) or 0)
    if kind == 'A' then
      redis.call('HSET', counts, 'd' .. id, 1)
    elseif tonumber(attempts) > known then
      redis.call('HSET', counts, id, attempts)
    end
  end

  local function postpone(id, found, key, at)
    local record = {a = tonumber(words[at + 1]), d = tonumber(words[at + 2])}
    waits = waits or waits_of(group, owner)
    waits.enter(id, fields_of(found[2]), record, key, words[at + 3], now)
  end

  local function settle_in_log(kind, id, at)
    local pending = redis.call('XPENDING', log, group, id, id, 1)[1]
    if not pending then return end
    local holder = pending[2]
    if holder == '-' then
      -- It was returned, and no lease holds it.
      if kind == 'A' then redis.call('HSET', counts, 'd' .. id, 1) end
      return
    elseif holder ~= own then
      lost[#lost + 1] = id
      return end_attempt(kind, id, holder, pending[4], words[at + 1])
    elseif kind ~= 'A' then
      local found = redis.call('XRANGE', log, id, id)[1]
      if not found then
        -- It was deleted. The server would drop it when it is claimed, and nobody would count it.
        if kind == 'N' then return end
        redis.call('HINCRBY', state, 'missed', 1)
      elseif kind == 'B' then
        bury(id, fields_of(found[2]), at + 1)
      elseif kind == 'N' then
        return keep(id, words[at + 1], words[at + 2], token)
      elseif redis.call('HEXISTS', counts, 'd' .. id) == 0 then
        -- If another lease has acknowledged it already, it is settled instead.
        if kind == 'R' then
          returned = true
          return keep(id, words[at + 1], words[at + 2], '-')
        end
        postpone(id, found, kind == 'P' and words[at + 4] or nil, at)
      end
    end
    finish(at, at)
  end

  local function settle_waiting(kind, id, record, at)
    if record.h ~= own then
      if own and waits.is_own(id, record) then return end
      lost[#lost + 1] = id
      if kind == 'N' then return end
      record.d = math.min(record.d, 1)
      if kind == 'A' then record.z = true else record.a = math.max(record.a, words[at + 1]) end
      return waits.write(id, record)
    end
    if kind == 'A' then return waits.let_go(id, record, now) end
    if kind == 'B' then
      bury(id, waits.fields(id, record), at + 1)
      return waits.let_go(id, record, now)
    end
    record.a, record.d = tonumber(words[at + 1]), tonumber(words[at + 2])
    if kind == 'N' then
      record.u = nil
      return waits.write(id, record)
    end
    if record.z then return waits.let_go(id, record, now) end
    if kind == 'R' then return waits.postpone(id, record, record.k, '0', now) end
    waits.postpone(id, record, kind == 'P' and words[at + 4] or nil, words[at + 3], now)
  end

  local lengths, keys = {A = 2, N = 4, R = 4, P = 6, Q = 5, B = 7, F = 2}, {}
  while at <= #words do
    local kind, id = words[at], words[at + 1]
    if kind == 'F' then
      keys[#keys + 1] = id
      if own and waits then waits.follow(id, now) end
    else
      local record = waits and waits.read(id)
      if record then
        settle_waiting(kind, id, record, at + 1)
      else
        settle_in_log(kind, id, at + 1)
      end
    end
    at = at + lengths[kind]
  end
  for _, key in ipairs(keys) do
    if not waits or waits.is_over(key) then over[#over + 1] = key end
  end
end

local first = 7 + count
if own and string.match(row, '(%S+)$') == ARGV[4] then
  finish(7, first - 1)
else
  -- Other leases may hold some of them by now, so look at each one.
  for i = 7, first - 1 do
    words[#words + 1] = 'A'
    words[#words + 1] = words[i]
  end
end
if first <= #words then others(first) end
local floor, pending = floor_of(group, given)
redis.call('HSET', state, 'floor', floor)
if returned then wake(group) end
if not own then return {'LOST'} end
if waits then waiting = redis.call('HLEN', base .. ':waits:' .. group) end
local settled = parts(given) - pending - waiting
if number ~= '0' then
  local turn = base .. ':turn:' .. group .. ':' .. token
  redis.call('HSET', base .. ':told:' .. group, token, cmsgpack.pack({number, settled, lost, over}))
  -- Wakes this lease alone, if it waits: the records that wait are its own.
  redis.call('XADD', turn, 'MAXLEN', 1, number .. '-0', 't', '')
  redis.call('PEXPIRE', turn, 3600000)
end
return {'OK', settled, lost, over}
