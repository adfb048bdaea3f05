-- The scheduled records of a partition (Y3). They are put into the log before anything else is done
-- to it.
--
-- :later     their tickets, a set sorted by the times when they are due, in seconds since 1970
-- :sealed    a hash of the records by ticket, packed:
--            w  for how many ms to remember the ticket after this
--            e  the event
--            k  the key
-- :t:TICKET  `put` if the record was put into the log, `cancelled` if it was cancelled; it expires
local later, sealed = base .. ':later', base .. ':sealed'

local function seconds()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end

-- Put records that are due into the log, but not so many that the server would be busy for long.
local function put_due(now)
  local latest, at = string.format('%.17g', now), stamp(redis.call('HGET', meta, 'time'))
  local tickets = redis.call('ZRANGEBYSCORE', later, '-inf', latest, 'LIMIT', 0, 1000)
  local last, count, room = parts(sync()), 0, 4194304
  while count < #tickets and room > 0 do
    count = count + 1
    local packed = redis.call('HGET', sealed, tickets[count])
    -- Nothing is there if others have meddled with it.
    if packed then
      local record = cmsgpack.unpack(packed)
      last, room = last + 1, room - #packed
      if record.k then
        redis.call('XADD', log, id_of(last), 'event', record.e, 'time', at, 'key', record.k)
      else
        redis.call('XADD', log, id_of(last), 'event', record.e, 'time', at)
      end
      redis.call('SET', base .. ':t:' .. tickets[count], 'put', 'PX', record.w)
    end
  end
  redis.call('ZREM', later, unpack(tickets, 1, count))
  redis.call('HDEL', sealed, unpack(tickets, 1, count))
  redis.call('HSET', meta, 'last', id_of(last), 'time', at)
end

-- Put records that are due into the log. Return in how many ms the next one is due, 0 if there are
-- more that are due now, nil if there are none; and whether any was put into the log.
local function put_scheduled()
  local first, is_changed = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')[2], false
  if not first then return nil, false end
  local now = seconds()
  if tonumber(first) <= now then
    put_due(now)
    first, is_changed = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')[2], true
    if not first then return nil, true end
  end
  return math.ceil(math.min(math.max(first - now, 0), 86400) * 1000), is_changed
end
