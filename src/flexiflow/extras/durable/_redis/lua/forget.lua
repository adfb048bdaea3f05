-- Delete a group with all that belongs to it.
-- ARGV: group.
local group = ARGV[1]
for token in pairs((leases_of(group))) do end_lease(group, token) end
if redis.call('HLEN', base .. ':waits:' .. group) > PAGE then note_dropping(group, '0-0', '0-0') end
if drop_page(group) then return {'MORE'} end
redis.call('SREM', base .. ':groups', group)
if reading(group) then redis.call('XGROUP', 'DESTROY', log, group) end
waits_of(group, '').forget()
for _, kind in ipairs({'g', 'a', 'd', 'w', 'told', 'members', 'origins', 'passed'}) do
  redis.call('DEL', base .. ':' .. kind .. ':' .. group)
end
stir()
return {'OK'}
