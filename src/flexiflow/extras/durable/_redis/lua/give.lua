-- The common case of `give_all.lua`, which has to be quick: only records that are new to the group
-- can be given.
-- ARGV: group; token; a digest of the patterns; how many records at most; how many bytes together;
-- how many bytes an event may have.
-- Answer: LOST if the lease is gone; ALL if it is another case, with nothing changed; else as that
-- of `give_all.lua`: OK; no records with counts; the bodies of the new records; the groups of some,
-- by their places; the id of the last one; the last ids in :w: and :sooner; 1; in how many ms there
-- is more to give, 0 if there may be now, -1 if nothing will be due; 1.
local group, token, wanted, leases = ARGV[1], ARGV[2], tonumber(ARGV[4]), base .. ':leases:' .. ARGV[1]
if redis.call('HEXISTS', leases, token) == 0 then return {'LOST'} end
local next_put = put_scheduled()
local given, state = ensure(group)
if state[3] ~= ARGV[3] or state[5]
  or redis.call(
    'EXISTS', base .. ':waits:' .. group, base .. ':a:' .. group, base .. ':passed:' .. group, jumps
  ) > 0 then
  return {'ALL'}
end
local consumers = redis.call('XINFO', 'CONSUMERS', log, group)
if #consumers ~= redis.call('HLEN', leases) then return {'ALL'} end
if #consumers > 1 or #consumers == 1 and pairs_of(consumers[1]).name ~= token then
  local rows, now = pairs_of(redis.call('HGETALL', leases)), time()
  for _, each in ipairs(consumers) do
    local name = pairs_of(each).name
    local from, to = string.match(rows[name] or '', '^(%S+) (%S+)')
    if name ~= token and not (from and tonumber(from) <= now and tonumber(to) > now) then
      return {'ALL'}
    end
  end
end
local new = redis.call('XREADGROUP', 'GROUP', group, token, 'COUNT', wanted, 'STREAMS', log, '>')
local entries, bodies, groups, size, largest = new and new[1][2] or {}, {}, {}, 0, 0
for i, each in ipairs(entries) do
  local fields = each[2]
  local body = fields[2]
  bodies[i] = body
  size = size + #body
  if #body > largest then largest = #body end
  if fields[#fields - 1] == 'group' then groups[#groups + 1] = {i, fields[#fields]} end
end
local to = #entries > 0 and entries[#entries][1] or given
local last, sooner = unpack(redis.call('HMGET', meta, 'last', 'sooner'))
local is_full = #entries == wanted
last = last or '0-0'
if parts(to) - parts(given) ~= #entries or size > tonumber(ARGV[5])
  or largest > tonumber(ARGV[6])
  or not is_full and to ~= last or is_after(to, last) then
  -- Other software has written or deleted something, or not all of it fits: take all of it back.
  for _, each in ipairs(entries) do redis.call('XACK', log, group, each[1]) end
  if #entries > 0 then redis.call('XGROUP', 'SETID', log, group, given) end
  return {'ALL'}
end
redis.call('HSET', base .. ':g:' .. group, 'given', to)
return {'OK', {}, bodies, groups, to, id_of(state[4] or 0), id_of(sooner or 0), 1, is_full and 0 or next_put or -1, 1}
