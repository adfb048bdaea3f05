-- Store the records of a batch, unless its producer has stored it before (X2).
-- ARGV: epoch; producer; number of the batch; window in ms, or '' for ever; max_length; 1 to store or 0 to only
-- make room; the stir that the publisher knows; how many records; of each record one of
--   0, body | 1, body, key | 2, body, group | 3, body, key, group
-- Answer: FULL if there is no room; else OK; if something was stored, the epoch and the last id;
-- and if the stir is another one, that, and for each group its name and how many records it has
-- settled.
local produced, number, window = base .. ':p:' .. ARGV[2], tonumber(ARGV[3]), ARGV[4]
local max_length, wanted = tonumber(ARGV[5]), tonumber(ARGV[8])
local next_put, is_changed = put_scheduled()
if next_put == 0 then return {'MORE'} end

-- Return the id up to which no group needs the log any more.
local function settled(last)
  local least = last
  read_all()
  for _, group in ipairs(redis.call('SMEMBERS', base .. ':groups')) do
    local found = readings[group]
    local given, floor = unpack(redis.call('HMGET', base .. ':g:' .. group, 'given', 'floor'))
    if found and given == found['last-delivered-id'] then floor = floor_of(group, given) end
    -- A group whose state was lost has settled nothing.
    floor = floor or ensure(group)
    if is_after(least, floor) then least = floor end
  end
  return least
end

local MOST = 18446744073709551615

local function behind(id)
  local ms, seq = parts(id)
  if seq >= MOST then return id_of(ms + 1) end
  return string.format('%.0f-%.0f', ms, seq + 1)
end

local function make_room(surplus, bound)
  while surplus > 0 do
    local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    if not first or is_after(first[1], bound) then return false end
    local goal = id_of(parts(first[1]) + surplus)
    if is_after(goal, bound) then goal = behind(bound) end
    local newest = first
    if surplus > 1 then newest = redis.call('XREVRANGE', log, before(goal), '-', 'COUNT', 1)[1] end
    local at = tonumber(pairs_of(newest[2]).time or nil)
    if at then redis.call('HSET', meta, 'gone', at) end
    surplus = surplus - redis.call('XTRIM', log, 'MINID', goal)
  end
  return true
end

-- Forget spans that other software wrote, once all of their ids have left the log and are settled.
local function forget_jumps(bound)
  local entry = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  while true do
    local jump = redis.call('LINDEX', jumps, 0)
    local to = jump and string.match(jump, '(%S+)$')
    if not to or is_after(to, bound) or entry and not is_after(entry[1], to) then return end
    redis.call('LPOP', jumps)
  end
end

local known = redis.call('GET', produced)
local is_kept = window == '' or known and string.find(known, ' ', 1, true)
if known and tonumber(string.match(known, '%d+')) >= number then
  -- This is a write, so that WAIT after it also waits for what was written before.
  if is_kept then
    redis.call('SET', produced, known)
  else
    redis.call('PEXPIRE', produced, window)
  end
  return {'OK'}
end
local last = is_changed and sync() or sync(stored[1] or '0-0')
local surplus = redis.call('XLEN', log) + wanted - max_length
if wanted > 0 and surplus > 0 then
  local bound = settled(last)
  if wanted > max_length or not make_room(surplus, bound) then return {'FULL'} end
  forget_jumps(bound)
end
if ARGV[6] == '0' then return {'OK'} end
local next_, at, now = parts(last), 9, stamp(stored[4])
for _ = 1, wanted do
  next_ = next_ + 1
  local kind, id = ARGV[at], id_of(next_)
  if kind == '0' then
    redis.call('XADD', log, id, 'event', ARGV[at + 1], 'time', now)
    at = at + 2
  elseif kind == '3' then
    redis.call(
      'XADD', log, id, 'event', ARGV[at + 1], 'time', now, 'key', ARGV[at + 2],
      'group', ARGV[at + 3])
    at = at + 4
  else
    redis.call(
      'XADD', log, id, 'event', ARGV[at + 1], 'time', now, kind == '1' and 'key' or 'group',
      ARGV[at + 2])
    at = at + 3
  end
end
last = id_of(next_)
redis.call('HSET', meta, 'last', last, 'time', now)
if is_kept then
  redis.call('SET', produced, ARGV[3] .. (window == '' and ' lasting' or ' kept'))
else
  redis.call('SET', produced, ARGV[3], 'PX', window)
end
if not stored[3] or stored[3] == ARGV[7] then return {'OK', ARGV[1], last} end
local told = {}
read_all()
for _, group in ipairs(redis.call('SMEMBERS', base .. ':groups')) do
  local given = ensure(group)
  local _, pending = floor_of(group, given)
  local waiting = redis.call('HLEN', base .. ':waits:' .. group)
  told[#told + 1] = {group, parts(given) - pending - waiting}
end
return {'OK', ARGV[1], last, stored[3], told}
