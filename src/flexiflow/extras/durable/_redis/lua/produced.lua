-- ARGV: producer. Answer: OK, the number of its last batch, and 1 if it is remembered for ever.
local name = base .. ':p:' .. ARGV[1]
return {'OK', tonumber(redis.call('GET', name) or 0), redis.call('PTTL', name) == -1 and 1 or 0}
