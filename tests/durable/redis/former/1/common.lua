-- What comes before each script. KEYS[1] is `{prefix:partition}`: all keys of a partition begin
-- with it, and share its hash tag.
--
-- :log     the stream; ids are dense, `1-0`, `2-0`, ..., so that what is missing shows
-- :meta    last: the id written last
-- :jumps   `from to`: ids that something else wrote, after `from` and up to `to`
-- :groups  the names of the groups
-- :tokens  the last fencing token
-- :p:NAME  the number of a producer's last batch
-- :g:NAME  of a group: given, up to which id records were given; floor, up to which all are
--          settled; missed; wakes, the number of entries in :w:
-- :l:NAME  `from to`: when each lease holds, in milliseconds, by its token
-- :a:NAME  failed attempts by id; `s` and an id: its worker died
-- :d:NAME  the dead letters, a stream
-- :w:NAME  a stream that grows when what is pending is to be given anew
-- :m:NAME  the members, in partition 0
local base = KEYS[1]
local log, meta, jumps = base .. ':log', base .. ':meta', base .. ':jumps'

local function pairs_of(list)
  local found = {}
  for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end

local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function id_of(number)
  return string.format('%.0f-0', number)
end

local function is_after(one, other)
  local ms, seq = parts(one)
  local other_ms, other_seq = parts(other)
  return ms > other_ms or (ms == other_ms and seq > other_seq)
end

local MOST = 18446744073709551615

local function before(id)
  local ms, seq = parts(id)
  if seq > 0 then return string.format('%.0f-%.0f', ms, seq - 1) end
  return string.format('%.0f-18446744073709551615', ms - 1)
end

local function behind(id)
  local ms, seq = parts(id)
  if seq >= MOST then return id_of(ms + 1) end
  return string.format('%.0f-%.0f', ms, seq + 1)
end

local function time()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Tell the last id, and write down what something else wrote since we did.
local function sync()
  local last = redis.call('HGET', meta, 'last') or '0-0'
  if redis.call('EXISTS', log) == 0 then return last end
  local generated = pairs_of(redis.call('XINFO', 'STREAM', log))['last-generated-id']
  if not is_after(generated, last) then return last end
  redis.call('RPUSH', jumps, last .. ' ' .. generated)
  redis.call('HSET', meta, 'last', generated)
  return generated
end

-- Go through what something else wrote after an id: from where, to where.
local function jumps_after(id)
  local found = {}
  for _, each in ipairs(redis.call('LRANGE', jumps, 0, -1)) do
    local from, to = string.match(each, '^(%S+) (%S+)$')
    if is_after(to, id) then found[#found + 1] = {from, to} end
  end
  return found
end

-- Count the positions of our own after an id, up to a number.
local function positions(after, high)
  local low = parts(after) + 1
  local count = math.max(high - low + 1, 0)
  if count == 0 then return 0 end
  for _, each in ipairs(jumps_after(after)) do
    local from, to = parts(each[1]), parts(each[2])
    count = count - math.max(math.min(high, to) - math.max(low, from + 1) + 1, 0)
  end
  return count
end

local function between(after, id)
  local ms, seq = parts(id)
  return positions(after, seq == 0 and ms - 1 or ms)
end

local function reading(group)
  if redis.call('EXISTS', log) == 0 then return nil end
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    local found = pairs_of(each)
    if found.name == group then return found end
  end
  return nil
end

local function first_start()
  local last = sync()
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  return first and before(first[1]) or last
end

-- Have the server know the group, and tell up to where it was given records. One that the server
-- forgot, or that was tampered with, begins anew where all was settled.
local function ensure(group)
  local state, found = base .. ':g:' .. group, reading(group)
  local given, floor = unpack(redis.call('HMGET', state, 'given', 'floor'))
  -- Each time: what is for a group that is not named there might be trimmed.
  redis.call('SADD', base .. ':groups', group)
  if found and given == found['last-delivered-id'] then return given end
  local start = floor or first_start()
  if found then
    redis.call('XGROUP', 'SETID', log, group, start)
  else
    redis.call('XGROUP', 'CREATE', log, group, start, 'MKSTREAM')
  end
  redis.call('HSET', state, 'given', start, 'floor', start)
  return start
end

local function floor_of(group, given)
  local pending = redis.call('XPENDING', log, group)
  return pending[1] == 0 and given or before(pending[2])
end

local function hold(group, token, milliseconds)
  local now = time()
  redis.call('HSET', base .. ':l:' .. group, token, now .. ' ' .. now + milliseconds)
end

-- Name the tokens whose leases hold, and end the other ones. One that begins later than now is over:
-- else it would hold for as long as the clock was set back.
local function alive(group)
  local leases, now, live = base .. ':l:' .. group, time(), {}
  for token, span in pairs(pairs_of(redis.call('HGETALL', leases))) do
    local from, to = string.match(span, '^(%S+) (%S+)$')
    if tonumber(from) <= now and tonumber(to) > now then
      live[token] = true
    else
      redis.call('HDEL', leases, token)
    end
  end
  return live
end

-- The fields of an entry as they are stored; of one that something else wrote, all as its event.
local function fields_of(fields)
  local names = {}
  for i = 1, #fields, 2 do names[#names + 1] = fields[i] end
  local shape = table.concat(names, ' ')
  if shape == 'event' or shape == 'event key' or shape == 'event group'
    or shape == 'event key group' then
    return fields
  end
  return {'event', cjson.encode(fields)}
end

local function wake(group)
  local number = redis.call('HINCRBY', base .. ':g:' .. group, 'wakes', 1)
  -- What counted them may have been lost.
  if number == 1 then redis.call('DEL', base .. ':w:' .. group) end
  redis.call('XADD', base .. ':w:' .. group, 'MAXLEN', 1, id_of(number), 'w', '')
end

local function lag_of(given, last)
  local count = positions(given, (parts(last)))
  for _, each in ipairs(jumps_after(given)) do
    local from = is_after(given, each[1]) and given or each[1]
    count = count + #redis.call('XRANGE', log, '(' .. from, each[2], 'COUNT', 1000)
  end
  return count
end

local function standing(group)
  local given, last = ensure(group), sync()
  local missed = redis.call('HGET', base .. ':g:' .. group, 'missed') or 0
  return {
    redis.call('XPENDING', log, group)[1], lag_of(given, last), tonumber(missed),
    redis.call('XLEN', base .. ':d:' .. group)
  }
end
