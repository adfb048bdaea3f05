-- ARGV: group. Make it, where it isn't there.
ensure(ARGV[1])
return {'OK'}
