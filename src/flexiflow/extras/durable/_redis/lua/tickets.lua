-- Choose scheduled records for a page.
-- ARGV: '' to begin with the first; else a time, and where to begin among the records that are due
-- then: `[` with the first, `(` behind all of them, or behind a ticket of this partition; how many
-- at most; how many bytes a page has.
-- Answer: the tickets, each with its time and its size, up to the first one that does not fit.
local due, ticket, limit, room, found = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), {}

local function behind()
  local low = redis.call('ZCOUNT', later, '-inf', '(' .. due)
  if ticket == '[' then return low end
  local high = redis.call('ZCOUNT', later, '-inf', due)
  if ticket == '(' then return high end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZRANGE', later, middle, middle)[1] <= ticket then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

local first = due == '' and 0 or behind()
local chosen = redis.call('ZRANGE', later, first, first + limit - 1, 'WITHSCORES')
for i = 1, #chosen, 2 do
  local size = redis.call('HSTRLEN', sealed, chosen[i])
  room = room - size
  found[#found + 1] = {chosen[i], chosen[i + 1], size}
  if room < 0 then break end
end
return {'OK', found}
