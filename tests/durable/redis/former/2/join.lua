-- Become a member, or stay one; run in partition 0. The caller computes from the members what the
-- group takes, so it has to know their present state.
-- ARGV: epoch; group; consumer; token; lease in ms; patterns; the state of the members that the
-- caller has seen; a digest of the patterns that the group takes in that state.
-- Answer: if the state is another one, LOOK, the state and the members; else OK, the new state, and
-- the generation of the group's patterns.
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
if is_changed or not state then
  state = next_number(state)
  redis.call('HSET', key, 'members', state)
end
if state ~= ARGV[7] then
  local peers = {}
  for name, each in pairs(found) do peers[#peers + 1] = {name, each[2], each[3]} end
  return {'LOOK', state, peers}
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
return {'OK', state, generation}
