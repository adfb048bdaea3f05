-- Store states of components, each if the version that is stored is the one that is expected.
-- ARGV: how many former versions to keep; of each component: its name, the version that is expected,
-- or 0; state, data, due
-- Answer: for each the number of its new version; or, as a text, that of the version that was not
-- expected, or 0; or, in a list, an error.
local history, wanted = tonumber(ARGV[1]), (#ARGV - 1) / 5

local function number(value) return string.format('%.0f', value) end

-- Take as many numbers as are wanted. They begin after the server's time in microseconds: so none
-- is given twice, though the server lost what it had stored. This comes first, since a server that
-- is full or a replica refuses the first write.
local now = redis.call('TIME')
local version = math.max(tonumber(redis.call('GET', last) or 0), now[1] * 1000000 + now[2])
redis.call('SET', last, number(version + wanted))
redis.call('ZCARD', due)

local function keep(name, found)
  local key = former(name)
  redis.call('LPUSH', key, found[4], found[3], found[2], found[1])
  redis.call('LTRIM', key, 0, 4 * history - 1)
end

-- Nothing is written before the last call that may fail, on a key that other software has written.
local function save(at)
  local name, expected, time = ARGV[at], ARGV[at + 1], ARGV[at + 4]
  local key = stored(name)
  local found = redis.call('HMGET', key, 'version', 'state', 'data', 'due')
  if (found[1] or '0') ~= expected then return found[1] or '0' end
  if found[1] and history > 0 then keep(name, found) end
  redis.call(
    'HSET', key, 'version', number(version), 'state', ARGV[at + 2], 'data', ARGV[at + 3],
    'due', time)
  if time ~= '' and time ~= 'inf' then
    redis.call('ZADD', due, time, name)
  elseif found[4] and found[4] ~= '' then
    redis.call('ZREM', due, name)
  end
  return version
end

local answers = {}
for index = 1, wanted do
  version = version + 1
  local is_done, answer = pcall(save, 5 * index - 3)
  if not is_done then answer = {type(answer) == 'table' and answer.err or answer} end
  answers[index] = answer
end
return answers
