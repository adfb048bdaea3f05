-- ARGV: group.
local group = ARGV[1]
redis.call('SREM', base .. ':groups', group)
if reading(group) then redis.call('XGROUP', 'DESTROY', log, group) end
for _, kind in ipairs({'g', 'l', 'a', 'd', 'w', 'm'}) do
  redis.call('DEL', base .. ':' .. kind .. ':' .. group)
end
return {'OK'}
