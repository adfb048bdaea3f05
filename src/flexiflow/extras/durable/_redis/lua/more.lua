-- More functions, for all scripts but those of the most common cases: each function that a script
-- defines costs time.
--
-- Return a number above the last one: one that is given, else the time, so that it is also above all
-- earlier ones if the last one was lost (X13).
local function next_number(last, given)
  local now = redis.call('TIME')
  local number = given or now[1] * 1000000 + now[2]
  return string.format('%.0f', math.max(number, (tonumber(last) or 0) + 1))
end

-- Return the spans of ids that other software wrote and that end after an id, as pairs.
local function jumps_after(id)
  local found = {}
  for _, each in ipairs(redis.call('LRANGE', jumps, 0, -1)) do
    local from, to = string.match(each, '^(%S+) (%S+)$')
    if is_after(to, id) then found[#found + 1] = {from, to} end
  end
  return found
end

-- Return how many ids of our own there are after an id, up to a number.
local function positions(after, high)
  local low = parts(after) + 1
  local count = math.max(high - low + 1, 0)
  if count == 0 then return 0 end
  for _, each in ipairs(jumps_after(after)) do
    local from, to = parts(each[1]), parts(each[2])
    count = count - math.max(math.min(high, to) - math.max(low, from + 1) + 1, 0)
  end
  return count
end

local function between(after, id)
  local ms, seq = parts(id)
  return positions(after, seq == 0 and ms - 1 or ms)
end

-- Make `store.lua` report the groups to publishers once more.
local function stir()
  redis.call('HSET', meta, 'stir', next_number(redis.call('HGET', meta, 'stir')))
end

local function hold(group, token, milliseconds, taken)
  local now = time()
  local span = string.format('%.0f %.0f %s', now, now + milliseconds, taken)
  redis.call('HSET', base .. ':leases:' .. group, token, span)
end

local function end_lease(group, token)
  redis.call('HDEL', base .. ':leases:' .. group, token)
  redis.call('HDEL', base .. ':told:' .. group, token)
  redis.call('DEL', base .. ':turn:' .. group .. ':' .. token)
end

-- Return the rows of all leases, the tokens of those that have not run out, and the time. A lease
-- that begins later than now has run out: otherwise, after the clock was set back, it would last
-- longer by that much.
local function leases_of(group)
  local rows, live, now = {}, {}, time()
  for token, row in pairs(pairs_of(redis.call('HGETALL', base .. ':leases:' .. group))) do
    local from, to, taken = string.match(row, '^(%S+) (%S+) (%S+)$')
    rows[token] = {from, to, taken}
    live[token] = tonumber(from) <= now and tonumber(to) > now or nil
  end
  return rows, live, now
end

-- Return whether an entry has the fields that this transport stores. `fields_of` returns the fields
-- of an entry; if other software wrote it, one field with all of them as its event.
local function is_ours(fields)
  if fields[1] ~= 'event' then return false end
  local order, last = {time = 1, key = 2, group = 3}, 0
  for i = 3, #fields, 2 do
    local place = order[fields[i]] or 0
    if place <= last then return false end
    last = place
  end
  return true
end

local function fields_of(fields)
  return is_ours(fields) and fields or {'event', cjson.encode(fields)}
end

-- Add an entry to a stream that leases read while they wait; a field of a hash counts the entries.
local function grow(stream, hash, field)
  local number = redis.call('HINCRBY', hash, field, 1)
  -- The count may have been lost, and then the stream has greater ids.
  if number == 1 then redis.call('DEL', stream) end
  redis.call('XADD', stream, 'MAXLEN', 1, id_of(number), 'w', '')
end

local function wake(group) grow(base .. ':w:' .. group, base .. ':g:' .. group, 'wakes') end
