-- Store dead letters anew, for their group alone, and delete them (X3).
-- ARGV: group; ids of dead letters. Answer: OK, and how many existed.
local group, dead, count = ARGV[1], base .. ':d:' .. ARGV[1], 0
local origins, copies = base .. ':origins:' .. ARGV[1], base .. ':copies'
if put_scheduled() == 0 or drop_page(group) then return {'MORE'} end
redis.call('ZREMRANGEBYSCORE', copies, '-inf', (parts(first_start())))
for i = 2, #ARGV do
  local found = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  if found then
    local fields, number = pairs_of({unpack(found[2], 11)}), parts(sync()) + 1
    local id, at = id_of(number), stamp(redis.call('HGET', meta, 'time'))
    if fields.key then
      redis.call(
        'XADD', log, id, 'event', fields.event, 'time', at, 'key', fields.key, 'group', group)
    else
      redis.call('XADD', log, id, 'event', fields.event, 'time', at, 'group', group)
    end
    redis.call('HSET', meta, 'last', id, 'time', at)
    local origin = redis.call('ZSCORE', origins, ARGV[i])
    if origin then redis.call('ZADD', copies, number, id .. ' ' .. origin) end
    redis.call('XDEL', dead, ARGV[i])
    redis.call('ZREM', origins, ARGV[i])
    count = count + 1
  end
end
return {'OK', count}
