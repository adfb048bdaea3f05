-- Forget a component, and its former versions.
-- ARGV: its name
local name = ARGV[1]
redis.call('ZREM', due, name)
redis.call('DEL', stored(name), former(name))
return {}
