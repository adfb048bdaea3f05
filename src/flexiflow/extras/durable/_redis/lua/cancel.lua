-- Delete a scheduled record (Y3).
-- ARGV: epoch; ticket; for how many ms to remember it. Answer: OK; 1 if it was deleted, now or
-- before, and 0 if it was put into the log or is not known.
local name = base .. ':t:' .. ARGV[2]
if redis.call('ZREM', later, ARGV[2]) == 1 then
  redis.call('HDEL', sealed, ARGV[2])
  redis.call('SET', name, 'cancelled', 'PX', ARGV[3])
  return {'OK', 1}
end
-- This is a write, so that WAIT after it also waits for what was written before.
redis.call('HSET', meta, 'epoch', ARGV[1])
return {'OK', redis.call('GET', name) == 'cancelled' and 1 or 0}
