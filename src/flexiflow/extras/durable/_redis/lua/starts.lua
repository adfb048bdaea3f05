-- Where groups begin (Y5).

-- Return how many records are missing in the log between those that are there, at least.
local function holes()
  local last, count = sync(), redis.call('XLEN', log)
  local first = first_start()
  local expected = positions(first, (parts(last)))
  for _, each in ipairs(jumps_after(first)) do
    expected = expected + #redis.call('XRANGE', log, '(' .. each[1], each[2], 'COUNT', 1000)
  end
  return math.max(expected - count, 0)
end

-- Return the first entry of our own at a number or after it, or nil.
local function ours_from(number, spans)
  local from = id_of(number)
  for _, each in ipairs(spans) do
    if is_after(from, each[1]) and not is_after(from, each[2]) then from = '(' .. each[2] break end
  end
  return redis.call('XRANGE', log, from, '+', 'COUNT', 1)[1]
end

-- Return the time of an entry in microseconds, or nil.
local function time_of(entry)
  return entry and is_ours(entry[2]) and tonumber(pairs_of(entry[2]).time or nil) or nil
end

-- Return the id behind which the first record follows that was stored at a time, in microseconds,
-- or later; the log is sorted by time. Records of which that is not known are taken for late ones.
local function behind_time(wanted)
  local last = sync()
  local bare_to, bare_until = unpack(redis.call('HMGET', meta, 'bare-to', 'bare-until'))
  local low, high, spans = parts(first_start()) + 1, parts(last) + 1, jumps_after('0-0')
  if bare_to and wanted > tonumber(bare_until) then
    low = math.max(low, parts(bare_to) + 1)
  elseif bare_to then
    high = low
  end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = time_of(ours_from(middle, spans))
    if at and at < wanted then low = middle + 1 else high = middle end
  end
  local next_ = redis.call('XRANGE', log, '(' .. id_of(low - 1), '+', 'COUNT', 1)[1]
  if not next_ then return last end
  local ms, seq = parts(next_[1])
  return seq == 0 and id_of(ms - 1) or before(next_[1])
end

-- Return the id behind which a group begins, and whether all records behind it are kept. For a
-- position that is not there yet, the first value is nil.
-- kind and value: `oldest`; `new`; `time` and seconds since 1970; `after` and an id.
local function start_of(kind, value)
  local last, first = sync(), first_start()
  if kind == 'new' then return last, true end
  if kind == 'oldest' then return first, holes() == 0 end
  if kind == 'after' then
    if is_after(value, last) then return nil, false end
    local is_there = not is_after(first, value) or between(value, id_of(parts(first) + 1)) == 0
    return is_there and value or first, is_there and holes() == 0
  end
  local wanted = tonumber(value) * 1000000
  local gone, bare_until = unpack(redis.call('HMGET', meta, 'gone', 'bare-until'))
  gone = gone or parts(first) > 0 and bare_until
  return behind_time(wanted), not (gone and tonumber(gone) >= wanted) and holes() == 0
end
