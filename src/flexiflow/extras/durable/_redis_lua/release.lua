-- ARGV: group, token; then, if what was given may not have come, 1 and the ids that did come.
local group, token, known = ARGV[1], ARGV[2], {}
if not alive(group)[token] then return {'LOST'} end
redis.call('HDEL', base .. ':l:' .. group, token)
ensure(group)
-- What never came is no suspect: no attempt has begun.
if ARGV[3] == '1' then
  for i = 4, #ARGV do known[ARGV[i]] = true end
  local counts = base .. ':a:' .. group
  for _, each in ipairs(redis.call('XPENDING', log, group, '-', '+', 1000000, token)) do
    local id = each[1]
    local is_suspect = redis.call('HEXISTS', counts, 's' .. id) == 1
    -- The server would drop what is claimed when it is gone, uncounted.
    if not known[id] and not is_suspect and #redis.call('XRANGE', log, id, id) > 0 then
      redis.call('XCLAIM', log, group, '-', 0, id, 'RETRYCOUNT', 0, 'JUSTID')
    end
  end
end
if #redis.call('XPENDING', log, group, '-', '+', 1, token) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', log, group, token)
end
wake(group)
return {'OK'}
