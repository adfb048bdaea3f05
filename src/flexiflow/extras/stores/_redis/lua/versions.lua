-- Return the versions of a component, the newest first: of each version, state, data and due.
-- ARGV: the component's name; how many former versions to return
local name, history = ARGV[1], tonumber(ARGV[2])
local current = redis.call('HMGET', stored(name), 'version', 'state', 'data', 'due')
if not current[1] then return {} end
if history == 0 then return current end
for _, each in ipairs(redis.call('LRANGE', former(name), 0, 4 * history - 1)) do
  current[#current + 1] = each
end
return current
