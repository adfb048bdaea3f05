-- The records of a group that wait outside the log (X12). Each waits by an owner, which is a lease,
-- or `0` if leases are exclusive: then the records belong to any later lease, too.
--
-- :waits:NAME    a hash of the records by id, packed:
--                a  the failed attempts
--                d  the attempts that have begun since the last one that ended
--                k  the key of its line
--                f  the key of the record
--                g  the group of the record
--                z  whether it was acknowledged by a lease that no longer held it
--                s  its state, which is one of
--                   d  due at a time; o is its owner
--                   l  in its key's line, until the one before it is over
--                   o  out: given to the lease h, for the owner o; u is whether it is a suspect
-- :bodies:NAME   a hash of their bodies by id
-- :due:NAME:OWNER        those that are due, a set sorted by time
-- :out:NAME:TOKEN        those that are out, a set
-- :line:NAME:OWNER:SHA   those in the line of a key, a set sorted by id
-- :heads:NAME    a hash: how many of a key are due (d) or out (o), by the letter, the owner and the
--                key; before a line there is always one of the same owner
-- :owners:NAME   the owners and leases that have some, a set
-- :ages:NAME     those that were stored in the log by layout 3, a set sorted by the times of that
local function waits_of(group, owner)
  local waits, bodies = base .. ':waits:' .. group, base .. ':bodies:' .. group
  local heads, owners = base .. ':heads:' .. group, base .. ':owners:' .. group
  local ages = base .. ':ages:' .. group
  local self = {}

  local function due(whose) return base .. ':due:' .. group .. ':' .. whose end

  local function out(token) return base .. ':out:' .. group .. ':' .. token end

  local function line(whose, key)
    return base .. ':line:' .. group .. ':' .. whose .. ':' .. redis.sha1hex(key)
  end

  -- Return an id as a text that sorts as the id does; `plain` does the reverse.
  local function padded(id)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
  end

  local function plain(id)
    local ms, seq = string.match(id, '^0*(%d+)-0*(%d+)$')
    return ms .. '-' .. seq
  end

  local function count_head(state, whose, key, by)
    if not key then return end
    local field = state .. whose .. ':' .. key
    if redis.call('HINCRBY', heads, field, by) == 0 then redis.call('HDEL', heads, field) end
  end

  local function is_head(state, whose, key)
    return redis.call('HEXISTS', heads, state .. whose .. ':' .. key) == 1
  end

  local function has_head(whose, key)
    return is_head('d', whose, key) or is_head('o', whose, key)
  end

  local function has_line(key)
    return redis.call('EXISTS', line(owner, key)) == 1
  end

  function self.read(id)
    local packed = redis.call('HGET', waits, id)
    return packed and cmsgpack.unpack(packed) or nil
  end

  function self.write(id, record)
    redis.call('HSET', waits, id, cmsgpack.pack(record))
  end

  function self.size(id) return redis.call('HSTRLEN', bodies, id) end

  function self.fields(id, record, is_empty)
    local fields = {'event', is_empty and '' or redis.call('HGET', bodies, id) or ''}
    if record.f then fields[3], fields[4] = 'key', record.f end
    if record.g then fields[#fields + 1], fields[#fields + 2] = 'group', record.g end
    return fields
  end

  local function be_due(id, record, whose, at)
    record.s, record.o, record.h, record.u = 'd', whose, nil, nil
    redis.call('ZADD', due(whose), at, padded(id))
    redis.call('SADD', owners, whose)
    count_head('d', whose, record.k, 1)
    self.write(id, record)
  end

  local function take_off(id, record)
    if record.s == 'd' then
      redis.call('ZREM', due(record.o), padded(id))
    else
      redis.call('SREM', out(record.h), id)
    end
    count_head(record.s, record.o, record.k, -1)
  end

  -- Make a record wait that was out, or that `enter` has just copied from the log.
  function self.postpone(id, record, key, delay, now)
    if record.s then take_off(id, record) end
    record.k = key
    if delay == '' and record.k and has_head(owner, record.k) then
      record.s, record.o, record.h, record.u = 'l', nil, nil, nil
      redis.call('ZADD', line(owner, record.k), 0, padded(id))
      self.write(id, record)
    else
      be_due(id, record, owner, now + (tonumber(delay) or 0))
    end
  end

  function self.enter(id, fields, record, key, delay, now)
    redis.call('HSET', bodies, id, fields[2])
    local rest = pairs_of(fields)
    record.f, record.g = rest.key, rest.group
    redis.call('ZADD', ages, tonumber(rest.time or nil) or 0, id)
    self.postpone(id, record, key, delay, now)
  end

  local function follow(whose, key, now)
    local first = redis.call('ZRANGE', line(whose, key), 0, 0)[1]
    if not first or has_head(whose, key) then return end
    redis.call('ZREM', line(whose, key), first)
    local id = plain(first)
    be_due(id, self.read(id), whose, now)
  end

  function self.follow(key, now) follow(owner, key, now) end

  function self.is_over(key)
    return not is_head('d', owner, key) and not has_line(key)
  end

  -- Return whether a record waits by this owner.
  function self.is_own(id, record)
    if record.s == 'd' then return record.o == owner end
    return record.s == 'l' and redis.call('ZSCORE', line(owner, record.k), padded(id))
  end

  local function forget_one(id)
    redis.call('HDEL', waits, id)
    redis.call('HDEL', bodies, id)
    redis.call('ZREM', ages, id)
  end

  -- Drop a record; the next one of its key follows.
  function self.let_go(id, record, now)
    take_off(id, record)
    forget_one(id)
    if record.k then follow(record.o, record.k, now) end
  end

  -- Give a record that is due, or was out, to a lease; the line of its key goes with it.
  function self.give(id, record, token)
    take_off(id, record)
    if record.k and record.o ~= owner then
      local from, to = line(record.o, record.k), line(owner, record.k)
      if redis.call('EXISTS', from) == 1 then
        redis.call('ZUNIONSTORE', to, 2, from, to)
        redis.call('DEL', from)
      end
    end
    record.u, record.d = record.d > 0, math.max(record.d, 1)
    record.s, record.o, record.h = 'o', owner, token
    redis.call('SADD', out(token), id)
    redis.call('SADD', owners, token)
    count_head('o', owner, record.k, 1)
    self.write(id, record)
  end

  function self.held(token) return redis.call('SMEMBERS', out(token)) end

  -- Return what is due of an owner, up to a number, as a list of ids and times in turn; what would
  -- be due after `latest` is due then.
  function self.due(whose, now, latest, limit)
    for _, each in ipairs(redis.call('ZRANGEBYSCORE', due(whose), '(' .. latest, '+inf')) do
      redis.call('ZADD', due(whose), latest, each)
    end
    local found = redis.call(
      'ZRANGEBYSCORE', due(whose), '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
    for i = 1, #found, 2 do found[i] = plain(found[i]) end
    return found
  end

  -- Return when the first record of an owner is due, or nil.
  function self.first(whose)
    return tonumber(redis.call('ZRANGE', due(whose), 0, 0, 'WITHSCORES')[2])
  end

  -- Return the owners and leases that have records due or out, and forget the others.
  function self.owners()
    local found = {}
    for _, each in ipairs(redis.call('SMEMBERS', owners)) do
      if redis.call('EXISTS', due(each), out(each)) > 0 then
        found[#found + 1] = each
      else
        redis.call('SREM', owners, each)
      end
    end
    return found
  end

  function self.count_out()
    local count = 0
    for _, each in ipairs(redis.call('SMEMBERS', owners)) do
      count = count + redis.call('SCARD', out(each))
    end
    return count
  end

  -- Return the keys of the records that wait or are out.
  function self.keys()
    local seen, found = {}, {}
    for _, field in ipairs(redis.call('HKEYS', heads)) do
      local key = string.match(field, '^[^:]*:(.*)$')
      if not seen[key] then
        seen[key] = true
        found[#found + 1] = key
      end
    end
    return found
  end

  function self.forget()
    for _, field in ipairs(redis.call('HKEYS', heads)) do
      local whose, key = string.match(field, '^.([^:]*):(.*)$')
      redis.call('DEL', line(whose, key))
    end
    for _, each in ipairs(redis.call('SMEMBERS', owners)) do
      redis.call('DEL', due(each), out(each))
    end
    redis.call('DEL', waits, bodies, heads, owners, ages)
  end

  -- Drop those records of a page of which a function says so. What waits behind them follows.
  -- Return where the next page begins, or nil, and how many records were looked at.
  function self.drop_page(cursor, count, is_over)
    local next_, found = unpack(redis.call('HSCAN', waits, cursor, 'COUNT', count))
    local whose, now = redis.call('SMEMBERS', owners), time()
    -- It is not noted there if all that it has are lines.
    whose[#whose + 1] = '0'

    local function leave_line(id, key)
      for _, each in ipairs(whose) do
        if redis.call('ZREM', line(each, key), padded(id)) == 1 then return end
      end
    end

    for i = 1, #found, 2 do
      local id = found[i]
      -- Read anew, since it may have followed another one of this page.
      local record = is_over(id) and self.read(id)
      if record and record.s == 'l' then
        leave_line(id, record.k)
        forget_one(id)
      elseif record then
        self.let_go(id, record, now)
      end
    end
    return next_ ~= '0' and next_ or nil, #found / 2
  end

  return self
end
