-- The first of ARGV is the epoch that the caller knows. If that is another one, the caller has to
-- run `check.lua` first, to find out what was lost (X13).
local stored = redis.call('HMGET', meta, 'last', 'epoch', 'stir', 'time')
if stored[2] ~= ARGV[1] then return {'EPOCH'} end
