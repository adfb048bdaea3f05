-- Delete dead letters for good (Y6).
-- ARGV: group; ids of dead letters. Answer: OK, and how many existed.
local count = 0
for i = 2, #ARGV do
  count = count + redis.call('XDEL', base .. ':d:' .. ARGV[1], ARGV[i])
  redis.call('ZREM', base .. ':origins:' .. ARGV[1], ARGV[i])
end
return {'OK', count}
