-- Delete a group with all that belongs to it.
-- ARGV: group.
local group = ARGV[1]
redis.call('SREM', base .. ':groups', group)
if reading(group) then redis.call('XGROUP', 'DESTROY', log, group) end
for token in pairs((leases_of(group))) do end_lease(group, token) end
waits_of(group, '').forget()
for _, kind in ipairs({'g', 'a', 'd', 'w', 'told', 'members', 'places', 'passed'}) do
  redis.call('DEL', base .. ':' .. kind .. ':' .. group)
end
stir()
return {'OK'}
