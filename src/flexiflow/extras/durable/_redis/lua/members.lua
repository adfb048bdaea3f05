-- Return the members of a group that are alive; run in partition 0.
-- ARGV: group. Answer: OK; how many times the group was made to begin again; of each member the name,
-- the patterns, and until when it is alive, in ms.
local group, now, found = ARGV[1], time(), {}
for name, each in pairs(pairs_of(redis.call('HGETALL', base .. ':members:' .. group))) do
  local member = cjson.decode(each)
  if member[1] > now and member[4] <= now then
    found[#found + 1] = {name, member[3], string.format('%.0f', member[1])}
  end
end
return {'OK', tonumber(redis.call('HGET', base .. ':g:' .. group, 'replays') or 0), found}
