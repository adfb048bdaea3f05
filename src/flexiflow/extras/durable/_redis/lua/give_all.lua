-- Give records to a lease: first those that nobody holds any more, then those that have waited and
-- are due, then those that are new to the group.
-- ARGV: group; token; owner (see `waits.lua`); a digest of the patterns; how many records at most;
-- how many bytes together; how many bytes an event may have; from how many waiting records on
-- nothing new is given; the longest wait in ms; for how many ms a lease that has run out and holds
-- nothing is kept; how many records may be ones that have waited; then 1 if an earlier answer may
-- be lost, else 0; and after 1 the ids that did come.
-- Answer: LOST if the lease is gone; else OK; the records with their counts; two lists that only
-- `give.lua` fills; the id up to which records were given; the last ids in :w: and :sooner; 1 if the
-- next record that is stored could be given, else 0; in how many ms there is more to give, 0 if
-- there may be now, -1 if nothing will be due; 1 if the common case may apply next time.
local group, token, owner, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local again = math.min(tonumber(ARGV[11]), limit)
local room, most, is_lost = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[12] == '1'
local out, missed, is_full = {}, 0, false
local state, counts = base .. ':g:' .. group, base .. ':a:' .. group
local passed = base .. ':passed:' .. group
local rows, live, now = leases_of(group)
if not rows[token] then return {'LOST'} end
live[token] = true
local next_put = put_scheduled()
local last, given, found = sync(), ensure(group)
local wakes, sooner = id_of(found[4] or 0), id_of(redis.call('HGET', meta, 'sooner') or 0)
if found[3] ~= ARGV[4] then return {'OK', out, {}, {}, given, wakes, sooner, 0, -1, 0} end
local has_counts = redis.call('EXISTS', counts) == 1
local waiting = redis.call('HLEN', base .. ':waits:' .. group)
local waits, due, next_due = waiting > 0 and waits_of(group, owner), {}, nil
local known, busy, robbed = {}, {}, {}
for i = 13, #ARGV do known[ARGV[i]] = true end

local function fits(size)
  if #out < limit and size <= room then return true end
  is_full = true
  return false
end

local function give(id, fields, size, attempts, deliveries, is_suspect, has_waited, oversize)
  room, known[id] = room - size, true
  out[#out + 1] = {
    id, fields, attempts, deliveries, is_suspect and 1 or 0, has_waited and 1 or 0, oversize}
end

-- Find records that are due, of this owner and of leases that have run out or are gone, and add to
-- `left` those that were out to such leases, or to this one in an answer that was lost.
local function look_at_waits(left)
  due = {}
  for _, each in ipairs(waits.owners()) do
    local is_own = each == owner
    if is_own or not live[each] then
      local ready = waits.due(each, now, now + tonumber(ARGV[9]), again)
      for i = 1, #ready, 2 do
        due[#due + 1] = {ready[i], tonumber(ready[i + 1]), record = waits.read(ready[i])}
      end
      busy[each] = true
    end
    if not live[each] or each == token and is_lost then
      for _, id in ipairs(waits.held(each)) do
        if each ~= token or not known[id] then
          left[#left + 1] = {id, each, record = waits.read(id)}
        end
      end
    end
  end
  table.sort(due, function(one, other)
    if one[2] ~= other[2] then return one[2] < other[2] end
    return is_after(other[1], one[1])
  end)
end

-- Return the records that are pending and held by no live lease, or that were given to this one in
-- an answer that was lost; of each holder no more than fit.
local function gather()
  local left = {}
  for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', log, group)) do
    local consumer = pairs_of(each)
    local is_own = consumer.name == token
    if is_own and is_lost or not live[consumer.name] then
      local many = is_own and limit + #ARGV or limit
      local pending = redis.call('XPENDING', log, group, '-', '+', many, consumer.name)
      for _, entry in ipairs(pending) do
        if not is_own or not known[entry[1]] then left[#left + 1] = entry end
      end
      if #pending == 0 and not is_own then
        redis.call('XGROUP', 'DELCONSUMER', log, group, consumer.name)
      else
        busy[consumer.name] = true
      end
    end
  end
  if waits then look_at_waits(left) end
  table.sort(left, function(one, other) return is_after(other[1], one[1]) end)
  local first = {}
  for i = 1, math.min(#left, limit) do first[i] = left[i] end
  return first
end

local function drop(id)
  redis.call('XACK', log, group, id)
  redis.call('HDEL', counts, id, 's' .. id, 'd' .. id)
end

-- Return whether a record can be given anew: not if it was deleted, or was acknowledged by a lease
-- that no longer held it. Such a record is dropped.
local function is_good(each)
  local id, record = each[1], each.record
  if record then
    if not record.z then return true end
    waits.let_go(id, record, now)
    return false
  end
  local entry = redis.call('XRANGE', log, id, id)[1]
  local is_done = has_counts and redis.call('HEXISTS', counts, 'd' .. id) == 1
  if entry and not is_done then return true end
  drop(id)
  if not is_done then missed = missed + 1 end
  return false
end

local function left()
  local found, is_whole
  repeat
    found, is_whole = {}, true
    for _, each in ipairs(gather()) do
      if is_good(each) then found[#found + 1] = each else is_whole = false end
    end
    for _, each in ipairs(due) do is_whole = is_good(each) and is_whole end
    -- If some were dropped, there may be more behind them, so look again.
  until is_whole
  -- End leases that ran out long ago and hold nothing.
  for each, row in pairs(rows) do
    if not live[each] and not busy[each] and row[2] + ARGV[10] < now then
      end_lease(group, each)
      rows[each] = nil
    end
  end
  return found
end

local function give_anew(id, holder, deliveries)
  local entry = redis.call('XRANGE', log, id, id)[1]
  local fields, size, oversize = sized(entry[2], most)
  if not fits(size) then return false end
  local is_suspect = deliveries > 0
  if holder == token then
    is_suspect = redis.call('HEXISTS', counts, 's' .. id) == 1
  else
    if is_suspect then redis.call('HSET', counts, 's' .. id, 1) end
    robbed[holder] = true
  end
  deliveries = math.max(deliveries, 1)
  redis.call('XCLAIM', log, group, token, 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
  local attempts = tonumber(redis.call('HGET', counts, id) or 0)
  give(id, fields, size, attempts, deliveries, is_suspect, false, oversize)
  return true
end

local function give_waiting(id, record, holder)
  local size, oversize = waits.size(id), 0
  if size > most then size, oversize = 0, size end
  if not fits(size) then return false end
  local was_suspect = record.u
  waits.give(id, record, token)
  if holder == token then
    record.u = was_suspect
    waits.write(id, record)
  elseif holder then
    robbed[holder] = true
  end
  local fields = waits.fields(id, record, oversize > 0)
  give(id, fields, size, record.a, record.d, record.u, true, oversize)
  return true
end

-- Take back the records that were read and do not fit.
local function put_back(entries, first)
  for at = first, #entries, 1000 do
    local ids = {}
    for i = at, math.min(at + 999, #entries) do ids[#ids + 1] = entries[i][1] end
    redis.call('XACK', log, group, unpack(ids))
  end
  redis.call('XGROUP', 'SETID', log, group, given)
end

-- Return how many records are missing after an id and up to another one, not counting those that
-- were missing when the group was made to begin again.
local function missing(after, number)
  if found[6] and is_after(found[6], after) then after = found[6] end
  return positions(after, number)
end

-- Pass over copies of what the group is given anew (Y5): go on behind those that come next. Return
-- how many records may be read before the next copy, up to a number.
local function pass_over(wanted)
  while true do
    local copy = redis.call('ZRANGE', passed, 0, 0)[1]
    if not copy then return wanted end
    if is_after(copy, given) then
      local rest = redis.call('XRANGE', log, '(' .. given, before(copy), 'COUNT', wanted)
      if #rest > 0 then return #rest end
      -- What is missing before it was deleted.
      missed, given = missed + missing(given, parts(copy) - 1), copy
      redis.call('XGROUP', 'SETID', log, group, given)
    end
    redis.call('ZREM', passed, copy)
  end
end

local function give_each(entries)
  for i, each in ipairs(entries) do
    local id = each[1]
    local fields, size, oversize = sized(each[2], most)
    local waits_already = waits and waits.read(id)
    if not waits_already and not fits(size) then return put_back(entries, i) end
    local ms, seq = parts(id)
    missed, given = missed + missing(given, seq == 0 and ms - 1 or ms), id
    if waits_already then
      redis.call('XACK', log, group, id)
    else
      local attempts = has_counts and redis.call('HGET', counts, id) or 0
      give(id, fields, size, tonumber(attempts), 1, false, false, oversize)
    end
  end
end

-- Adapt how many records are read at once to the size of those that were just read (X14).
local function adapt(step, read, size)
  local whole = tonumber(ARGV[6])
  if size > whole then
    step = math.max(math.floor(read * whole / size), 1)
    redis.call('HSET', state, 'step', step)
  elseif step and step >= 1024 then
    redis.call('HDEL', state, 'step')
  elseif step and 2 * size < whole then
    redis.call('HSET', state, 'step', 2 * step)
  end
end

local function give_new(wanted)
  local step = tonumber(found[5] or nil)
  local count = step and math.min(step, wanted) or wanted
  local is_passing = redis.call('EXISTS', passed) == 1
  count = is_passing and pass_over(count) or count
  local new = redis.call('XREADGROUP', 'GROUP', group, token, 'COUNT', count, 'STREAMS', log, '>')
  local entries, size = new and new[1][2] or {}, 0
  for _, each in ipairs(entries) do
    for _, field in ipairs(each[2]) do size = size + #field end
  end
  adapt(step, #entries, size)
  give_each(entries)
  is_full = is_full or #entries == count
  -- All records that were stored have been given; what is missing at the end was deleted.
  if not is_full and is_after(last, given) then
    missed = missed + missing(given, (parts(last)))
    given = last
    redis.call('XGROUP', 'SETID', log, group, given)
  end
  redis.call('HSET', state, 'given', given)
end

if waits then waiting = waiting - waits.count_out() end
local can_be_new, has_left = waiting < tonumber(ARGV[8]), false
for _, each in ipairs(left()) do
  has_left = true
  local is_given
  if each.record then
    is_given = give_waiting(each[1], each.record, each[2])
  else
    is_given = give_anew(each[1], each[2], each[4])
  end
  if not is_given then break end
end
for i = 1, is_full and 0 or math.min(#due, again) do
  if not give_waiting(due[i][1], due[i].record) then break end
end
if can_be_new and not is_full and #out < limit then give_new(limit - #out) end
if waits and again > 0 then
  for each in pairs(busy) do
    local first = (each == owner or not live[each]) and waits.first(each)
    if first then next_due = math.min(next_due or first, first) end
  end
end
for each in pairs(robbed) do
  local row = rows[each]
  if row then
    row = row[1] .. ' ' .. row[2] .. ' ' .. row[3] + 1
    redis.call('HSET', base .. ':leases:' .. group, each, row)
  end
end
if missed > 0 then redis.call('HINCRBY', state, 'missed', missed) end
local more = next_due and math.max(next_due - now, 0) or -1
if next_put then more = more < 0 and next_put or math.min(more, next_put) end
if is_full or #out >= limit then more = 0 end
local is_common = not waits and not has_counts and not has_left and not found[5]
return {
  'OK', out, {}, {}, given, wakes, sooner, can_be_new and 1 or 0, more, is_common and 1 or 0}
