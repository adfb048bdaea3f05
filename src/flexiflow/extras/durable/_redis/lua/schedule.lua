-- Schedule a record, unless its ticket was used before (Y3).
-- ARGV: epoch; ticket; window in ms; max_scheduled; `at` and a time in seconds, or `in` and how many
-- seconds from now; the event; the key, if it has one.
-- Answer: FULL if there are too many; else OK.
local ticket, window = ARGV[2], ARGV[3]
if put_scheduled() == 0 then return {'MORE'} end
if redis.call('ZSCORE', later, ticket) or redis.call('EXISTS', base .. ':t:' .. ticket) == 1 then
  -- This is a write, so that WAIT after it also waits for what was written before.
  redis.call('HSET', meta, 'epoch', ARGV[1])
  return {'OK'}
end
if redis.call('ZCARD', later) >= tonumber(ARGV[4]) then return {'FULL'} end
local due = tonumber(ARGV[6])
if ARGV[5] == 'in' then due = due + seconds() end
local record = cmsgpack.pack({w = window, e = ARGV[7], k = ARGV[8]})
redis.call('HSET', sealed, ticket, record)
redis.call('ZADD', later, string.format('%.17g', due), ticket)
if redis.call('ZRANK', later, ticket) == 0 then
  -- Leases that wait have to wait until this is due.
  grow(base .. ':sooner', meta, 'sooner')
end
return {'OK'}
