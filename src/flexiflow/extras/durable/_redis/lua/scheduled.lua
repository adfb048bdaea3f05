-- Read scheduled records.
-- ARGV: tickets. Answer: those that are scheduled: the ticket, the time, the event, and the key.
local found = {}
for _, ticket in ipairs(ARGV) do
  local due, packed = redis.call('ZSCORE', later, ticket), redis.call('HGET', sealed, ticket)
  if due and packed then
    local record = cmsgpack.unpack(packed)
    found[#found + 1] = {ticket, due, record.e, record.k or false}
  end
end
return {'OK', found}
