-- What comes before each script. KEYS[1] is `{prefix}`: all keys of a store begin with it, so that
-- it is their hash tag.
--
-- :last    the number of the last version, of any component
-- :due     the names of components that have a `due`, a sorted set by it
-- :s:NAME  what is stored of a component, a hash
--          version  its number
--          state    the state
--          data     the snapshot as JSON; empty for None
--          due      when it is to be loaded, in seconds since 1970; empty for None
-- :h:NAME  its former versions, a list, the latest first; each is four elements: version, state,
--          data, due
local base = KEYS[1]
local last, due = base .. ':last', base .. ':due'

local function stored(name) return base .. ':s:' .. name end

local function former(name) return base .. ':h:' .. name end
