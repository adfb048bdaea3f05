-- Find out how large the partition is.
-- Answer: OK; the time in microseconds; how many records the log holds; when the oldest was stored,
-- or 0 if that is not known; how many are scheduled; how many bytes all of these take, or -1.
if put_scheduled() == 0 then return {'MORE'} end
local first, size = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1], 0
for _, each in ipairs({log, sealed, later}) do
  -- A server may refuse to tell.
  local found = redis.pcall('MEMORY', 'USAGE', each)
  if type(found) == 'table' then size = -1 break end
  size = size + (found or 0)
end
return {
  'OK', stamp(), redis.call('XLEN', log), first and pairs_of(first[2]).time or '0',
  redis.call('ZCARD', later), size}
