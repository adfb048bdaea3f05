-- ARGV: producer.
-- Answer: OK; the number of its last batch, 0 if it is not known; 1 if that is a lasting one, of which
-- other partitions may lack their parts.
local known = redis.call('GET', base .. ':p:' .. ARGV[1]) or '0'
local number, kind = string.match(known, '(%d+) ?(.*)')
return {'OK', tonumber(number), kind == 'lasting' and 1 or 0}
