-- Read dead letters.
-- ARGV: group; ids of dead letters. Answer: those that exist.
local found = {}
for i = 2, #ARGV do
  found[#found + 1] = redis.call('XRANGE', base .. ':d:' .. ARGV[1], ARGV[i], ARGV[i])[1]
end
return {'OK', found}
