-- Become a member, or stay one; run in partition 0. The caller computes from the members what the
-- group takes, so it has to know their present state.
-- ARGV: epoch; group; consumer; token; lease in ms; patterns; the state of the members that the
-- caller has seen; a digest of the patterns that the group takes in that state; where a new group
-- begins: the kind and the value of the start (see `starts.lua`), and a text that is kept.
-- Answer: if the state is another one, LOOK, the state, the members, and 1 if the group is there;
-- AGAIN if the group is new, and the position was there when the caller looked, but is not any more;
-- else OK, the new state, the generation of the group's patterns, the text that is kept, when the
-- group was made, in microseconds, and the number of its replay.
local is_there = redis.call('SISMEMBER', base .. ':groups', ARGV[2]) == 1
if not is_there and put_scheduled() == 0 then return {'MORE'} end
local group, consumer, token, patterns = ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local members, key, now = base .. ':members:' .. group, base .. ':g:' .. group, time()
local found, is_changed = {}, false
for name, each in pairs(pairs_of(redis.call('HGETALL', members))) do
  local other = cjson.decode(each)
  if other[1] <= now or other[4] > now then
    redis.call('HDEL', members, name)
    is_changed = true
  else
    found[name] = other
  end
end
local state, current, generation =
  unpack(redis.call('HMGET', key, 'members', 'patterns', 'generation'))
if is_changed or not state and is_there then
  state = next_number(state)
  redis.call('HSET', key, 'members', state)
end
-- Of a group that is not there nothing is kept before it is made.
state = state or '0'
if state ~= ARGV[7] then
  local peers = {}
  for name, each in pairs(found) do peers[#peers + 1] = {name, each[2], each[3]} end
  return {'LOOK', state, peers, is_there and 1 or 0}
end
if not is_there then
  local begin = start_of(ARGV[9], ARGV[10])
  if not begin or ARGV[9] == 'after' and begin ~= ARGV[10] then return {'AGAIN'} end
  ensure(group, begin)
  redis.call('HSET', key, 'start', ARGV[11], 'made', stamp())
end
local own = found[consumer]
redis.call('HSET', members, consumer, cjson.encode({now + ARGV[5], token, patterns, now}))
if not own or own[3] ~= patterns then
  state = next_number(state)
  redis.call('HSET', key, 'members', state)
  stir()
end
ensure(group)
if current ~= ARGV[8] then
  generation = next_number(generation)
  redis.call('HSET', key, 'patterns', ARGV[8], 'generation', generation)
  wake(group)
end
local start, made, replay = unpack(redis.call('HMGET', key, 'start', 'made', 'replay'))
return {'OK', state, generation, start, made, replay or '0'}
