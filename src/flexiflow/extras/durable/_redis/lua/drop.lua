-- Drop what a group leaves behind that was made to begin again (Y5).
-- ARGV: group. Answer: MORE if this has to go on; else OK.
return {drop_page(ARGV[1]) and 'MORE' or 'OK'}
