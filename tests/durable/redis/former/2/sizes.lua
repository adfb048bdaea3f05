-- Return the fields of an entry, how many bytes its event counts for, and 0. If the event has more
-- than `most` bytes, it is left out of the fields and counts for none, and its size is returned
-- instead of 0 (X14).
local function sized(fields, most)
  local size, ours = 0, is_ours(fields)
  if ours then
    size = #fields[2]
  else
    for _, each in ipairs(fields) do size = size + #each end
    if size <= most then
      fields = {'event', cjson.encode(fields)}
      size = #fields[2]
    end
  end
  if size <= most then return fields, size, 0 end
  local rest = {'event', ''}
  if ours then
    for i = 3, #fields do rest[i] = fields[i] end
  end
  return rest, 0, size
end
