-- Return what is stored of components.
-- ARGV: after how many bytes to stop; the names
-- Answer: for each component, up to where it stopped, version, state, data and due, each a text if
-- it is there; or, in a list, an error.
local left, answers = tonumber(ARGV[1]), {}
for index = 2, #ARGV do
  local found = redis.pcall('HMGET', stored(ARGV[index]), 'version', 'state', 'data', 'due')
  if found.err then found = {found.err} end
  answers[index - 1] = found
  left = left - #(found[3] or '')
  if left < 0 then break end
end
return answers
