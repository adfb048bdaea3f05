-- End a lease.
-- ARGV: group; token; owner (see `waits.lua`); then 1 if an answer of giving may be lost, else 0;
-- and after 1 the ids that did come.
local group, token, known = ARGV[1], ARGV[2], {}
if redis.call('HEXISTS', base .. ':leases:' .. group, token) == 0 then return {'LOST'} end
end_lease(group, token)
ensure(group)
-- Make the records that never came no suspects, since no attempt has begun.
local function give_back()
  local counts = base .. ':a:' .. group
  for _, each in ipairs(redis.call('XPENDING', log, group, '-', '+', 1000000, token)) do
    local id = each[1]
    local is_suspect = redis.call('HEXISTS', counts, 's' .. id) == 1
    -- Not if it was deleted: the server would drop it when it is claimed, and nobody would count
    -- it.
    if not known[id] and not is_suspect and #redis.call('XRANGE', log, id, id) > 0 then
      redis.call('XCLAIM', log, group, '-', 0, id, 'RETRYCOUNT', 0, 'JUSTID')
    end
  end
  local waits = waits_of(group, ARGV[3])
  for _, id in ipairs(waits.held(token)) do
    local record = waits.read(id)
    if not known[id] and not record.u then
      record.d = 0
      waits.write(id, record)
    end
  end
end
if ARGV[4] == '1' then
  for i = 5, #ARGV do known[ARGV[i]] = true end
  give_back()
end
if #redis.call('XPENDING', log, group, '-', '+', 1, token) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', log, group, token)
end
stir()
wake(group)
return {'OK'}
