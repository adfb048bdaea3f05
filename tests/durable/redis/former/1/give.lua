-- ARGV: group, token, how many; then, if an earlier answer may be lost, 1 and the ids that did come.
-- Answer: what is given with its counts; the bodies of what is given after that, up to the id that
-- follows them, and the groups of some, by their places; the number of wakes.
local group, token, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local is_lost, known, out, missed = ARGV[4] == '1', {}, {}, 0
local bodies, groups = {}, {}
local state, counts = base .. ':g:' .. group, base .. ':a:' .. group
local live = alive(group)
if not live[token] then return {'LOST'} end
for i = 5, #ARGV do known[ARGV[i]] = true end
local last, given = sync(), ensure(group)
local has_counts = redis.call('EXISTS', counts) == 1

-- What is pending, and held by nobody who could settle it, in order.
local function left()
  local found = {}
  for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', log, group)) do
    local consumer = pairs_of(each)
    local is_own = consumer.name == token
    if is_own and is_lost or not live[consumer.name] then
      local most = is_own and limit + #ARGV or limit
      local pending = redis.call('XPENDING', log, group, '-', '+', most, consumer.name)
      for _, entry in ipairs(pending) do
        if not is_own or not known[entry[1]] then found[#found + 1] = entry end
      end
      if #pending == 0 and not is_own then
        redis.call('XGROUP', 'DELCONSUMER', log, group, consumer.name)
      end
    end
  end
  table.sort(found, function(one, other) return is_after(other[1], one[1]) end)
  return found
end

local function give(id, fields, deliveries, is_suspect)
  local attempts = has_counts and redis.call('HGET', counts, id) or 0
  out[#out + 1] = {id, fields_of(fields), tonumber(attempts), deliveries, is_suspect and 1 or 0}
end

local function give_anew(id, holder, deliveries)
  local found = redis.call('XRANGE', log, id, id)[1]
  if not found then
    redis.call('XACK', log, group, id)
    redis.call('HDEL', counts, id, 's' .. id)
    missed = missed + 1
    return
  end
  local is_suspect = deliveries > 0
  if holder == token then
    is_suspect = redis.call('HEXISTS', counts, 's' .. id) == 1
  elseif is_suspect then
    redis.call('HSET', counts, 's' .. id, 1)
  end
  deliveries = math.max(deliveries, 1)
  redis.call('XCLAIM', log, group, token, 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
  give(id, found[2], deliveries, is_suspect)
end

for _, each in ipairs(left()) do
  if #out == limit then break end
  give_anew(each[1], each[2], each[4])
end
if #out < limit then
  local wanted = limit - #out
  local new = redis.call(
    'XREADGROUP', 'GROUP', group, token, 'COUNT', wanted, 'STREAMS', log, '>')
  local entries = new and new[1][2] or {}
  local to = #entries > 0 and entries[#entries][1] or given
  local is_whole = parts(to) - parts(given) == #entries and redis.call('EXISTS', jumps) == 0
  if is_whole and not has_counts then
    -- The common case, for which it pays to be quick.
    for i, each in ipairs(entries) do
      local fields = each[2]
      bodies[i] = fields[2]
      if fields[#fields - 1] == 'group' then groups[#groups + 1] = {i, fields[#fields]} end
    end
    given = to
  else
    for _, each in ipairs(entries) do
      missed = missed + between(given, each[1])
      given = each[1]
      give(given, each[2], 1, false)
    end
  end
  -- All that was stored was given, or is gone.
  if #entries < wanted and is_after(last, given) then
    missed = missed + positions(given, (parts(last)))
    given = last
    redis.call('XGROUP', 'SETID', log, group, given)
  end
  redis.call('HSET', state, 'given', given)
end
if missed > 0 then redis.call('HINCRBY', state, 'missed', missed) end
return {'OK', out, bodies, groups, given, id_of(redis.call('HGET', state, 'wakes') or 0)}
