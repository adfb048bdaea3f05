-- Return stored records.
-- ARGV: the id after which to begin, or '' for the end of the log; how many records at most; how
-- many bytes together; how many bytes an event may have.
-- Answer: OK; the entries, too large ones without their events; the last id; how many bytes are
-- left.
if put_scheduled() == 0 then return {'MORE'} end
local last, room, most, found = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), {}
if last == '' then return {'OK', {}, sync(), room} end
local limit = tonumber(ARGV[2])
-- If the log has lost something, the caller has seen all that was left (X13).
local end_ = sync()
if is_after(last, end_) then last = redis.call('HGET', meta, 'end') or end_ end
while #found < limit do
  local count = math.min(limit - #found, 16)
  local entries = redis.call('XRANGE', log, '(' .. last, '+', 'COUNT', count)
  for _, each in ipairs(entries) do
    local fields, size = sized(each[2], most)
    if size > room then return {'OK', found, last, 0} end
    room, last = room - size, each[1]
    found[#found + 1] = {each[1], fields}
  end
  if #entries < count then break end
end
return {'OK', found, last, room}
