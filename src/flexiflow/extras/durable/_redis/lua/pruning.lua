-- Delete dead letters, up to the id `newest`, of records behind a place; return whether there may be
-- more of them.
local function prune(group, begin, newest)
  local places, dead = base .. ':places:' .. group, base .. ':d:' .. group
  local from, count = '(' .. string.format('%.0f', parts(begin)), 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', places, from, '+inf')) do
    if not is_after(id, newest) then
      if count == 1000 then return true end
      redis.call('XDEL', dead, id)
      redis.call('ZREM', places, id)
      count = count + 1
    end
  end
  return false
end
