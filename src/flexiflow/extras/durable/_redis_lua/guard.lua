-- ARGV begins with the epoch that the caller knows: in another one it has to look first what was
-- lost (X13).
local stored = redis.call('HMGET', meta, 'last', 'epoch', 'stir')
if stored[2] ~= ARGV[1] then return {'EPOCH'} end
