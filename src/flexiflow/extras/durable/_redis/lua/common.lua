-- What comes before each script. KEYS[1] is `{prefix:partition}`: all keys of a partition begin
-- with it, so that it is their hash tag. This is layout 3 (X16).
--
-- :layout  in partition 0: the number of partitions, and the layout
-- :log     the stream of records; ids are dense, `1-0`, `2-0`, ..., so that a missing one shows. The
--          fields of an entry are, in this order: event; time, in microseconds since 1970, never
--          less than that of an entry before (entries of layout 2 have none); key; group
-- :meta3   a hash
--          last   the id that was written last
--          epoch  a random text, replaced when the log was found to have lost something (X13)
--          token  the last fencing token
--          stir   grows when there may be other groups, or groups further on, than publishers know
--          time   the time of the record that was written last
--          sooner the number of the last entry in :sooner
--          gone   the time of the last record that was deleted to make room
--          bare-to    the last id that may have no time, since an earlier release wrote it
--          bare-until when this layout took over, in microseconds
--          and of the last loss:
--          old    the epoch before it
--          end    the last id that was left
--          known  the last id that was lost
--          bare   1 if the log was empty
-- :meta    what makes processes of layouts 1 and 2 fail, which have the same at this key
-- :jumps   a list of `from to`: other software wrote the ids after `from` and up to `to`
-- :copies  the records that were redriven, a set of `id origin` sorted by id; the origin is the
--          number of the record that was stored first
-- :groups  the names of the groups, a set
-- :p:NAME  the number of a producer's last batch; with ` lasting` if the producer is remembered for
--          ever, and ` kept` if it is because of an earlier batch
-- :g:NAME  the state of a group, a hash
--          given       the id up to which records were given
--          floor       the id up to which all records have left the log or are settled
--          missed      how many records it has missed
--          wakes       the number of the last entry in :w:
--          patterns    a digest of the patterns that it takes
--          generation  grows each time that those change
--          members     grows each time that the members change
--          step        how many records are read at once, if they are large
--          since       the last fencing token before the group was made, or began again
--          begin       the id behind which it began, or began again (Y5)
--          start       in partition 0: where its first member said that it begins
--          made        in partition 0: when it was made, in microseconds
--          replay      grows each time that it is made to begin again, and is never the same for
--                      another group of that name: the time when it was made or began again, in
--                      microseconds
--          dropping    what is still to be dropped since it was made to begin again: see
--                      `dropping.lua`
--          forgiven    up to this id, missing records do not count as missed: they were missing
--                      when it was made to begin again
--          and of the last loss:
--          loss        the epoch before it
--          settled     how many of the lost records it had settled
--          charged     how many of them were counted as missed
-- :a:NAME  a hash with the failed attempts by id; with `s` and an id, if its worker died; with `d`
--          and an id, if a lease that no longer held the record has acknowledged it
-- :d:NAME  the dead letters, a stream
-- :origins:NAME  the ids of dead letters, a set sorted by the numbers of the records that were
--          stored first; without those of layout 2
-- :passed:NAME  the ids of copies that are not given, a set sorted by number: the group was made to
--          begin again, and is given what they are copies of (Y5)
-- :w:NAME  a stream that grows when pending records are to be given anew
-- :leases:NAME   a hash of `from to taken` by token: from when to when a lease lasts, in ms, and
--          how often others took something from it; includes leases that have run out (X11)
-- :told:NAME     a hash by token: the number and the answer of the lease's last settling that must
--          not be done twice
-- :sooner  a stream that grows when a record is scheduled that is due before all others
-- :turn:NAME:TOKEN  a stream with that number, for the lease itself while it waits
-- :members:NAME  the members, a hash, in partition 0
-- The keys of records that wait (X12) are described in `waits.lua`, those of scheduled records (Y3)
-- in `due.lua`.
local base = KEYS[1]
local log, meta, jumps = base .. ':log', base .. ':meta3', base .. ':jumps'

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

-- Return the time of a record that is stored now, in microseconds, given that of the one before. It
-- is not less, also after the clock was set back, so that records can be found by their times (Y5).
local function stamp(last)
  local now = redis.call('TIME')
  return string.format('%.0f', math.max(now[1] * 1000000 + now[2], tonumber(last) or 0))
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

local readings

-- Return what the stream knows of a group. `read_all` comes first where several are asked for.
local function reading(group)
  if readings then return readings[group] end
  if redis.call('EXISTS', log) == 0 then return nil end
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    local found = pairs_of(each)
    if found.name == group then return found end
  end
  return nil
end

local function read_all()
  readings = {}
  if redis.call('EXISTS', log) == 0 then return end
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    local found = pairs_of(each)
    readings[found.name] = found
  end
end

local function first_start()
  local last = sync()
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not first then return last end
  local ms, seq = parts(first[1])
  return seq == 0 and id_of(ms - 1) or before(first[1])
end

-- Make sure that the server knows the group; return the id up to which records were given, and more
-- of its state. A group that the server has forgotten, or that was tampered with, begins again
-- after the last id up to which all was settled. A new one begins behind the id `first`, if that is
-- given, else with the oldest record; the number of its replay is `replay`, or the time.
local function ensure(group, first, replay)
  local key, found = base .. ':g:' .. group, reading(group)
  local state = redis.call('HMGET', key, 'given', 'floor', 'patterns', 'wakes', 'step', 'forgiven')
  -- Each time: records for a group that is not named there might be trimmed.
  redis.call('SADD', base .. ':groups', group)
  if found and state[1] == found['last-delivered-id'] then return state[1], state end
  local start = state[2] or first or first_start()
  if found then
    redis.call('XGROUP', 'SETID', log, group, start)
  else
    redis.call('XGROUP', 'CREATE', log, group, start, 'MKSTREAM')
    redis.call('HSETNX', key, 'since', redis.call('HGET', meta, 'token') or '0')
    redis.call('HSETNX', key, 'begin', start)
  end
  redis.call('HSET', key, 'given', start, 'floor', start)
  redis.call('HSETNX', key, 'replay', replay or stamp())
  return start, state
end

-- Return the id up to which all records have left the log or are settled, and how many are pending
-- in the log. Some may be pending behind those that were given, if the group was made to begin again.
local function floor_of(group, given)
  local pending = redis.call('XPENDING', log, group)
  if pending[1] == 0 then return given, 0 end
  local floor = before(pending[2])
  if is_after(floor, given) and (redis.call('EXISTS', base .. ':passed:' .. group) == 1
    or redis.call('HEXISTS', base .. ':g:' .. group, 'dropping') == 1) then
    floor = given
  end
  return floor, pending[1]
end
