-- Go on deleting dead letters of records that a group is given anew (Y5).
-- ARGV: group; the id behind which it begins; the id of the last dead letter that is deleted.
-- Answer: OK; 1 if this has to go on.
return {'OK', prune(ARGV[1], ARGV[2], ARGV[3]) and 1 or 0}
