return {'OK', redis.call('SMEMBERS', base .. ':groups')}
