-- Make a group begin again in this partition (Y5).
-- ARGV: epoch; group; the kind and the value of the start (see `starts.lua`); the number of the
-- replay, or '' to choose it.
-- Answer: AHEAD and the last id if the position is not there yet; else OK; the id behind which it
-- begins; 1 if all records behind it are kept; the number of the replay; 1 if `drop.lua` has to be
-- run.
local group = ARGV[2]
local key, passed = base .. ':g:' .. group, base .. ':passed:' .. group
if put_scheduled() == 0 or drop_page(group) then return {'MORE'} end
local begin, is_whole = start_of(ARGV[3], ARGV[4])
if not begin then return {'AHEAD', sync()} end
local last, given = sync(), ensure(group)
local number = next_number(redis.call('HGET', key, 'replay'), tonumber(ARGV[5]))
for token in pairs((leases_of(group))) do end_lease(group, token) end
redis.call('XGROUP', 'SETID', log, group, begin)
redis.call('ZREMRANGEBYSCORE', passed, '-inf', (parts(begin)))
-- First, since `floor_of` must not take for settled what is before a record that is pending still.
note_dropping(group, begin, given)
redis.call('HSET', key, 'given', begin, 'floor', (floor_of(group, begin)), 'begin', begin,
  'since', redis.call('HGET', meta, 'token') or '0', 'replay', number)
if holes() > 0 then redis.call('HSET', key, 'forgiven', last) else redis.call('HDEL', key, 'forgiven') end
stir()
wake(group)
return {'OK', begin, is_whole and 1 or 0, number, drop_page(group) and 1 or 0}
