-- What a group leaves behind that is made to begin again (Y5), or is forgotten. It is dropped in
-- pages, so that the server is never busy for long. Until all of it is dropped the group is leased to
-- nobody.
--
-- The field `dropping` of :g:NAME is packed:
--   b  the id behind which the group begins
--   g  the id up to which records had been given before
--   s  the number of the step: see `steps`
--   c  where the step goes on
local PAGE = 250

local function note_dropping(group, begin, given)
  local rest = {b = begin, g = given, s = 1, c = '0'}
  redis.call('HSET', base .. ':g:' .. group, 'dropping', cmsgpack.pack(rest))
end

-- Drop a page of what is left behind; return whether there is more.
local function drop_page(group)
  local key = base .. ':g:' .. group
  local packed = redis.call('HGET', key, 'dropping')
  if not packed then return false end
  -- The server may have forgotten the group meanwhile.
  ensure(group)
  local rest, copies = cmsgpack.unpack(packed), base .. ':copies'
  local counts, waits = base .. ':a:' .. group, waits_of(group, '')
  local begin, has_copies, steps = rest.b, redis.call('EXISTS', copies) == 1, {}

  -- Return whether a record is given anew, or is a copy of one that is.
  local function is_anew(id)
    if not is_after(id, begin) then return false end
    local number = parts(id)
    local copy = has_copies and redis.call('ZRANGEBYSCORE', copies, number, number)[1]
    return not copy or is_after(id_of(string.match(copy, '(%S+)$')), begin)
  end

  -- Each step handles a part; it returns where to go on, or nil, and how much it has handled.
  steps[1] = function(cursor)
    local from = cursor == '0' and begin or cursor
    local pending = redis.call('XPENDING', log, group, '(' .. from, '+', PAGE)
    for _, each in ipairs(pending) do
      from = each[1]
      if is_anew(from) then redis.call('XACK', log, group, from) end
    end
    return #pending == PAGE and from or nil, #pending
  end

  steps[2] = function(cursor)
    local next_, found = unpack(redis.call('HSCAN', counts, cursor, 'COUNT', PAGE))
    for i = 1, #found, 2 do
      if is_anew(string.match(found[i], '%d+%-%d+$')) then redis.call('HDEL', counts, found[i]) end
    end
    return next_ ~= '0' and next_ or nil, #found / 2
  end

  steps[3] = function(cursor) return waits.drop_page(cursor, PAGE, is_anew) end

  -- Copies are passed over if they were given before, or are copies of what is given anew.
  steps[4] = function(cursor)
    local passed, from = base .. ':passed:' .. group, cursor == '0' and parts(begin) or cursor
    local found = redis.call('ZRANGEBYSCORE', copies, '(' .. from, '+inf', 'LIMIT', 0, PAGE)
    for _, each in ipairs(found) do
      local id = string.match(each, '^%S+')
      from = parts(id)
      if is_anew(id) or not is_after(id, rest.g) or waits.read(id)
        or #redis.call('XPENDING', log, group, id, id, 1) > 0 then
        redis.call('ZADD', passed, from, id)
      end
    end
    return #found == PAGE and string.format('%.0f', from) or nil, #found
  end

  steps[5] = function()
    local origins, from = base .. ':origins:' .. group, '(' .. string.format('%.0f', parts(begin))
    local ids = redis.call('ZRANGEBYSCORE', origins, from, '+inf', 'LIMIT', 0, PAGE)
    if #ids > 0 then
      redis.call('XDEL', base .. ':d:' .. group, unpack(ids))
      redis.call('ZREM', origins, unpack(ids))
    end
    return #ids == PAGE and '0' or nil, #ids
  end

  local room = PAGE
  repeat
    local cursor, count = steps[rest.s](rest.c)
    room = room - count
    rest.s, rest.c = cursor and rest.s or rest.s + 1, cursor or '0'
  until rest.s > #steps or room <= 0
  if rest.s > #steps then
    redis.call('HDEL', key, 'dropping')
    return false
  end
  redis.call('HSET', key, 'dropping', cmsgpack.pack(rest))
  return true
end
