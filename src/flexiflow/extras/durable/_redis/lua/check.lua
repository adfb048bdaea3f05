-- Find out what the log has lost, and begin a new epoch if it has lost something (X13). This script
-- is run first on each connection, and again after another script has seen another epoch.
-- ARGV: the epoch that the caller knows, or ''; a new epoch to use if needed; the layout, and the
-- layouts 2 and 1 (all '' but for partition 0); how many groups the caller knows; of each the name,
-- how many records it had settled, and the id behind which it began with the token of a lease that
-- it had after that, or ''; then ids that the caller knows, in order, each followed by a digest of
-- its event, or ''.
-- Answer: LAYOUT and the layout if that is another one; else OK; the epoch; 1 if the layout was
-- that of an earlier release (X16); how many records are lost beyond those that were known to be
-- lost; 1 if nobody had seen this loss before.
local known, fresh, count = ARGV[1], ARGV[2], tonumber(ARGV[6])
local samples, is_former = 7 + 3 * count, 0
if ARGV[3] ~= '' then
  local found = redis.call('GET', base .. ':layout')
  is_former = (found == ARGV[4] or found == ARGV[5]) and 1 or 0
  if found and found ~= ARGV[3] and is_former == 0 then return {'LAYOUT', found} end
  if found ~= ARGV[3] then redis.call('SET', base .. ':layout', ARGV[3]) end
end
local names = redis.call('SMEMBERS', base .. ':groups')

-- Take over the state that layout 1 or 2 has left at `:meta`, and leave there what makes its
-- processes fail that still run: in partition 0 an epoch that none knows, so that they ask for the
-- layout, and are refused; elsewhere, where they don't ask, a key of another kind.
local function take_over()
  local former, note = base .. ':meta', 'a newer release has taken over'
  local kind = redis.call('TYPE', former).ok
  if kind == 'list' or kind == 'hash' and redis.call('HGET', former, 'epoch') == note then return end
  if kind == 'hash' then redis.call('RENAMENX', former, meta) end
  redis.call('DEL', former)
  if ARGV[3] ~= '' then
    redis.call('HSET', former, 'epoch', note, 'last', note)
  else
    redis.call('RPUSH', former, note)
  end
end

take_over()
local last, epoch = sync(), redis.call('HGET', meta, 'epoch')

-- Replace what layout 1 has left. Its workers that still run then find a list at `:tokens`, and
-- fail.
local function migrate()
  for _, name in ipairs(names) do redis.call('DEL', base .. ':l:' .. name, base .. ':m:' .. name) end
  if redis.call('TYPE', base .. ':tokens').ok == 'string' then
    redis.call('DEL', base .. ':tokens')
    redis.call('RPUSH', base .. ':tokens', 'a newer release has taken over')
  end
end

-- Return the last id up to which the log has what the caller knows, or an earlier one if that is
-- uncertain; nil if it has all of it. An id that is not there was deleted, and proves nothing.
local function parting()
  local same
  for at = samples, #ARGV, 2 do
    local id, digest = ARGV[at], ARGV[at + 1]
    if is_after(id, last) then return last end
    local found = digest ~= '' and redis.call('XRANGE', log, id, id)[1]
    if found and redis.sha1hex(string.sub(fields_of(found[2])[2], 1, 1024)) ~= digest then
      return same or before(id)
    elseif found then
      same = id
    end
  end
  return nil
end

local function lost()
  local ending, highest = unpack(redis.call('HMGET', meta, 'end', 'known'))
  return positions(ending, (parts(highest)))
end

-- Count as missed by a group those of the lost records that it had not settled.
local function charge(name, gone)
  local key = base .. ':g:' .. name
  local loss, settled, charged = unpack(redis.call('HMGET', key, 'loss', 'settled', 'charged'))
  -- A group that was made after the loss has lost nothing.
  if loss ~= known then return end
  local due = math.max(gone - settled, 0)
  redis.call('HSET', key, 'charged', due)
  redis.call('HINCRBY', key, 'missed', due - charged)
end

local function mark(name, settled)
  local key = base .. ':g:' .. name
  if redis.call('HGET', key, 'loss') ~= known then
    redis.call('HSET', key, 'loss', known, 'settled', 0, 'charged', 0)
  end
  local most = math.max(tonumber(redis.call('HGET', key, 'settled')), settled)
  redis.call('HSET', key, 'settled', most)
end

-- Begin a new epoch; `ending` is the last id that was left. An empty log is noted as bare: nothing
-- of what was known before is left in it.
local function set_epoch(ending, old)
  redis.call('HSET', meta, 'epoch', fresh, 'end', ending, 'known', ending)
  redis.call('HDEL', meta, 'old', 'bare')
  if old then redis.call('HSET', meta, 'old', old) end
  if last == '0-0' then redis.call('HSET', meta, 'bare', 1) end
  epoch = fresh
end

local function end_leases()
  for _, name in ipairs(names) do
    redis.call('DEL', base .. ':leases:' .. name, base .. ':told:' .. name)
  end
end

local function begin_anew(ending)
  set_epoch(ending, known)
  end_leases()
  for _, name in ipairs(names) do mark(name, 0) end
end

-- Make sure that the server knows a group that the caller knows; it begins where it began before,
-- as far as the log is still the same up to there.
local function restore(name, known_begin, ending)
  local begin, first = string.match(known_begin, '^%S+'), first_start()
  if begin and is_after(begin, ending) then begin = ending end
  ensure(name, begin and is_after(begin, first) and begin or first)
end

-- Make groups anew that the server knew when it gave out a token that it does not know any more: it
-- went back to an earlier state, though no record is known to be lost.
local function restore_all()
  for at = 7, samples - 1, 3 do
    local token = string.match(ARGV[at + 2], '%S+$')
    if token and tonumber(token) > tonumber(redis.call('HGET', meta, 'token') or 0)
      and redis.call('SISMEMBER', base .. ':groups', ARGV[at]) == 0 then
      restore(ARGV[at], ARGV[at + 2], last)
    end
  end
end

if not epoch then migrate() end
if redis.call('HSETNX', meta, 'bare-until', stamp()) == 1 then
  redis.call('HSET', meta, 'bare-to', last)
  end_leases()
  for _, name in ipairs(names) do redis.call('HSETNX', base .. ':g:' .. name, 'replay', stamp()) end
end
if known == '' then
  if not epoch then set_epoch(last, nil) end
  return {'OK', epoch, is_former, 0, 0}
end
local ending, is_first = parting(), 0
if epoch == known and not ending then
  restore_all()
  return {'OK', epoch, is_former, 0, 0}
end
if epoch == known or not epoch then
  begin_anew(ending or last)
  is_first = 1
else
  local old = redis.call('HGET', meta, 'old')
  -- More than one loss has been seen since the caller's epoch, so nothing can be compared.
  if old and old ~= known then return {'OK', epoch, is_former, 0, 0} end
  if not old then
    -- The epoch was begun by a caller who knew nothing of the log.
    redis.call('HSET', meta, 'old', known)
    is_first = 1
  end
end
if redis.call('HEXISTS', meta, 'bare') == 1 and samples <= #ARGV then
  ending = ending or redis.call('HGET', meta, 'end')
end
local counted = lost()
if ending then
  local left, highest = unpack(redis.call('HMGET', meta, 'end', 'known'))
  if is_after(left, ending) then redis.call('HSET', meta, 'end', ending) end
  if is_after(ARGV[#ARGV - 1], highest) then redis.call('HSET', meta, 'known', ARGV[#ARGV - 1]) end
end
local left, gone = parts(redis.call('HGET', meta, 'end')), lost()
local parted = redis.call('HGET', meta, 'end')
for at = 7, samples - 1, 3 do
  mark(ARGV[at], tonumber(ARGV[at + 1]) - left)
  restore(ARGV[at], ARGV[at + 2], parted)
end
for _, name in ipairs(redis.call('SMEMBERS', base .. ':groups')) do charge(name, gone) end
return {'OK', epoch, is_former, gone - counted, is_first}
