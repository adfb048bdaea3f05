-- Return the members of groups that are alive; run in partition 0.
-- ARGV: groups. Answer: OK; of each group the number of its replay, and of each member the name, the
-- patterns, and until when it is alive, in ms.
local answers, now = {}, time()
for i, group in ipairs(ARGV) do
  local found = {}
  for name, each in pairs(pairs_of(redis.call('HGETALL', base .. ':members:' .. group))) do
    local member = cjson.decode(each)
    if member[1] > now and member[4] <= now then
      found[#found + 1] = {name, member[3], string.format('%.0f', member[1])}
    end
  end
  answers[i] = {tonumber(redis.call('HGET', base .. ':g:' .. group, 'replay') or 0), found}
end
return {'OK', answers}
