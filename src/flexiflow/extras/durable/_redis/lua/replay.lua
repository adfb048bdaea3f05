-- Make a group begin again in this partition (Y5).
-- ARGV: epoch; group; the kind and the value of the place (see `places.lua`).
-- Answer: AHEAD and the last id if the position is not there yet; else OK; the id behind which it
-- begins; 1 if all records behind it are kept; the id of the last dead letter; 1 if `prune.lua` has
-- to go on.
local group = ARGV[2]
local key, counts, passed = base .. ':g:' .. group, base .. ':a:' .. group, base .. ':passed:' .. group
if put_scheduled() == 0 then return {'DUE'} end
local begin, is_whole = place_of(ARGV[3], ARGV[4])
if not begin then return {'AHEAD', sync()} end
local last, given, origins, known = sync(), ensure(group), {}, {}
for token in pairs((leases_of(group))) do end_lease(group, token) end
for _, each in ipairs(redis.call('ZRANGE', base .. ':copies', 0, -1)) do
  local id, origin = string.match(each, '^(%S+) (%S+)$')
  origins[id] = id_of(origin)
end

-- Return whether a record is given anew, or is a copy of one that is.
local function is_anew(id) return is_after(origins[id] or id, begin) end

local from = begin
repeat
  local pending = redis.call('XPENDING', log, group, '(' .. from, '+', 1000)
  for _, each in ipairs(pending) do
    from = each[1]
    if is_anew(from) then redis.call('XACK', log, group, from) else known[from] = true end
  end
until #pending < 1000
for _, field in ipairs(redis.call('HKEYS', counts)) do
  if is_anew(string.match(field, '%d+%-%d+$')) then redis.call('HDEL', counts, field) end
end
if redis.call('EXISTS', base .. ':waits:' .. group) == 1 then
  waits_of(group, '').drop_all(is_anew, time())
  for _, id in ipairs(redis.call('HKEYS', base .. ':waits:' .. group)) do known[id] = true end
end
for _, id in ipairs(redis.call('ZRANGE', passed, 0, -1)) do known[id] = true end
redis.call('DEL', passed)
for id in pairs(origins) do
  local is_over = is_anew(id) or not is_after(id, given) or known[id]
  if is_over and is_after(id, begin) then redis.call('ZADD', passed, (parts(id)), id) end
end
redis.call('XGROUP', 'SETID', log, group, begin)
local floor = floor_of(group, begin)
redis.call('HSET', key, 'given', begin, 'floor', floor, 'begin', begin,
  'since', redis.call('HGET', meta, 'token') or '0')
redis.call('HINCRBY', key, 'replays', 1)
if holes() > 0 then redis.call('HSET', key, 'forgiven', last) else redis.call('HDEL', key, 'forgiven') end
local newest = redis.call('XREVRANGE', base .. ':d:' .. group, '+', '-', 'COUNT', 1)[1]
newest = newest and newest[1] or '0-0'
stir()
wake(group)
return {'OK', begin, is_whole and 1 or 0, newest, prune(group, begin, newest) and 1 or 0}
