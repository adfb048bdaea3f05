-- What comes before each script. KEYS[1] is `{prefix:partition}`: all keys of a partition begin
-- with it, and share its hash tag. This is layout 2 (X16).
--
-- :layout  in partition 0: the number of partitions, and the layout
-- :log     the stream; ids are dense, `1-0`, `2-0`, ..., so that what is missing shows
-- :meta    last: the id written last; epoch: a random text, made anew when the log was found to have
--          lost something (X13); token: the last fencing token; stir, which grows when groups may be
--          others or further on than publishers know; and of the last loss: old, the epoch before it;
--          end, the last id that was left; known, the last one that was lost; bare, if the log was
--          empty
-- :jumps   `from to`: ids that something else wrote, after `from` and up to `to`
-- :groups  the names of the groups
-- :p:NAME  the number of a producer's last batch
-- :g:NAME  of a group: given, up to which id records were given; floor, up to which all have left
--          the log or are settled; missed; wakes, the number of entries in :w:; patterns, a digest of
--          what it takes, and generation, which grows with each other one; members, which grows when
--          they change; step, how many records are read at once where they are large; since, the
--          last fencing token before it was made; and of the last loss: loss, the epoch before it; settled, how many it had settled of what was lost;
--          charged, how many are counted as missed
-- :a:NAME  failed attempts by id; `s` and an id: its worker died; `d` and an id: a lease that had lost
--          it has acknowledged it
-- :d:NAME  the dead letters, a stream
-- :w:NAME  a stream that grows when what is pending is to be given anew
-- :leases:NAME   `from to taken` by token: when a lease holds, in milliseconds, and how often others
--          took something from it; also leases that have run out (X11)
-- :told:NAME     by token, the number and the answer of the last settling that can't be repeated
-- :turn:NAME:TOKEN  a stream with that number, for the lease that waits
-- :members:NAME  the members, in partition 0
-- What waits (X12) is described in `waits.lua`.
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

local function before(id)
  local ms, seq = parts(id)
  if seq > 0 then return string.format('%.0f-%.0f', ms, seq - 1) end
  return string.format('%.0f-18446744073709551615', ms - 1)
end

local function time()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Tell the last id, and write down what something else wrote since we did.
local function sync(last)
  last = last or redis.call('HGET', meta, 'last') or '0-0'
  if redis.call('EXISTS', log) == 0 then return last end
  local generated = pairs_of(redis.call('XINFO', 'STREAM', log))['last-generated-id']
  if not is_after(generated, last) then return last end
  redis.call('RPUSH', jumps, last .. ' ' .. generated)
  redis.call('HSET', meta, 'last', generated)
  return generated
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

-- Have the server know the group, and tell up to where it was given records, and more of its state.
-- One that the server forgot, or that was tampered with, begins anew where all was settled.
local function ensure(group)
  local key, found = base .. ':g:' .. group, reading(group)
  local state = redis.call('HMGET', key, 'given', 'floor', 'patterns', 'wakes', 'step')
  -- Each time: what is for a group that is not named there might be trimmed.
  redis.call('SADD', base .. ':groups', group)
  if found and state[1] == found['last-delivered-id'] then return state[1], state end
  local start = state[2] or first_start()
  if found then
    redis.call('XGROUP', 'SETID', log, group, start)
  else
    redis.call('XGROUP', 'CREATE', log, group, start, 'MKSTREAM')
    redis.call('HSETNX', key, 'since', redis.call('HGET', meta, 'token') or '0')
  end
  redis.call('HSET', key, 'given', start, 'floor', start)
  return start, state
end

-- Tell up to which id all have left the log or are settled, and how many are pending in the log.
local function floor_of(group, given)
  local pending = redis.call('XPENDING', log, group)
  return pending[1] == 0 and given or before(pending[2]), pending[1]
end
