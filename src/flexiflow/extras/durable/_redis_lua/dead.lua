-- ARGV: group, from which id, how many.
return {'OK', redis.call('XRANGE', base .. ':d:' .. ARGV[1], ARGV[2], '+', 'COUNT', ARGV[3])}
