-- ARGV: the layout. Tell which one there is; this one, where there was none.
redis.call('SETNX', base .. ':layout', ARGV[1])
return {'OK', redis.call('GET', base .. ':layout')}
