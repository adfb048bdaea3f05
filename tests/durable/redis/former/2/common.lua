-- What comes before each script. KEYS[1] is `{prefix:partition}`: all keys of a partition begin
-- with it, so that it is their hash tag. This is layout 2 (X16).
--
-- :layout  in partition 0: the number of partitions, and the layout
-- :log     the stream of records; ids are dense, `1-0`, `2-0`, ..., so that a missing one shows
-- :meta    a hash
--          last   the id that was written last
--          epoch  a random text, replaced when the log was found to have lost something (X13)
--          token  the last fencing token
--          stir   grows when there may be other groups, or groups further on, than publishers know
--          and of the last loss:
--          old    the epoch before it
--          end    the last id that was left
--          known  the last id that was lost
--          bare   1 if the log was empty
-- :jumps   a list of `from to`: other software wrote the ids after `from` and up to `to`
-- :groups  the names of the groups, a set
-- :p:NAME  the number of a producer's last batch
-- :g:NAME  the state of a group, a hash
--          given       the id up to which records were given
--          floor       the id up to which all records have left the log or are settled
--          missed      how many records it has missed
--          wakes       the number of the last entry in :w:
--          patterns    a digest of the patterns that it takes
--          generation  grows each time that those change
--          members     grows each time that the members change
--          step        how many records are read at once, if they are large
--          since       the last fencing token before the group was made
--          and of the last loss:
--          loss        the epoch before it
--          settled     how many of the lost records it had settled
--          charged     how many of them were counted as missed
-- :a:NAME  a hash with the failed attempts by id; with `s` and an id, if its worker died; with `d`
--          and an id, if a lease that no longer held the record has acknowledged it
-- :d:NAME  the dead letters, a stream
-- :w:NAME  a stream that grows when pending records are to be given anew
-- :leases:NAME   a hash of `from to taken` by token: from when to when a lease lasts, in ms, and
--          how often others took something from it; includes leases that have run out (X11)
-- :told:NAME     a hash by token: the number and the answer of the lease's last settling that must
--          not be done twice
-- :turn:NAME:TOKEN  a stream with that number, for the lease itself while it waits
-- :members:NAME  the members, a hash, in partition 0
-- The keys of records that wait (X12) are described in `waits.lua`.
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

-- Return the last id, and note the ids that other software has written since our last one.
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

-- Make sure that the server knows the group; return the id up to which records were given, and more
-- of its state. A group that the server has forgotten, or that was tampered with, begins again
-- after the last id up to which all was settled.
local function ensure(group)
  local key, found = base .. ':g:' .. group, reading(group)
  local state = redis.call('HMGET', key, 'given', 'floor', 'patterns', 'wakes', 'step')
  -- Each time: records for a group that is not named there might be trimmed.
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

-- Return the id up to which all records have left the log or are settled, and how many are pending
-- in the log.
local function floor_of(group, given)
  local pending = redis.call('XPENDING', log, group)
  return pending[1] == 0 and given or before(pending[2]), pending[1]
end
