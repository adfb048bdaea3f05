-- ARGV: after which id, or nothing to begin with what is stored next; how many.
if ARGV[1] == '' then return {'OK', {}, sync()} end
local found = redis.call('XRANGE', log, '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
for _, each in ipairs(found) do each[2] = fields_of(each[2]) end
return {'OK', found, #found > 0 and found[#found][1] or ARGV[1]}
