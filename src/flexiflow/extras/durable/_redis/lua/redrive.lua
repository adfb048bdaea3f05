-- Store dead letters anew, for their group alone, and delete them (X3).
-- ARGV: group; ids of dead letters. Answer: OK, and how many existed.
local group, dead, count = ARGV[1], base .. ':d:' .. ARGV[1], 0
for i = 2, #ARGV do
  local found = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  if found then
    local fields, id = {unpack(found[2], 11)}, id_of(parts(sync()) + 1)
    -- An event that was redriven before has the field already.
    local at = fields[#fields - 1] == 'group' and #fields or #fields + 2
    fields[at - 1], fields[at] = 'group', group
    redis.call('XADD', log, id, unpack(fields))
    redis.call('HSET', meta, 'last', id)
    redis.call('XDEL', dead, ARGV[i])
    count = count + 1
  end
end
return {'OK', count}
