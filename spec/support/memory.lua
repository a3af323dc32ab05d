--- The writable memory of a process, searched for text. Linux; /proc/PID/mem may be closed to an ordinary user, since the program is not dumpable.
local M = {}
local PIECE, PAGE = 1 << 18, 4096

--- Can it be read here? Root can, and who may trace any process.
function M.readable(pid)
  local f = io.open("/proc/" .. pid .. "/mem", "rb")
  if f then f:close() end
  return f ~= nil
end

local function writable_maps(pid)
  local maps = {}
  for line in io.lines("/proc/" .. pid .. "/maps") do
    local from, to, rights, name = line:match "^(%x+)%-(%x+) (%S+) %S+ %S+ %S+%s*(.*)"
    if rights:sub(1, 2) == "rw" then maps[#maps + 1] = { from = tonumber(from, 16), to = tonumber(to, 16), name = name } end
  end
  return maps
end

--- Was any page of these ever used? Most of 34 stacks of 8 MiB was not, and to read them takes a second.
local function used(pagemap, from, to)
  local entries = pagemap:seek("set", from // PAGE * 8) and pagemap:read((to - from) // PAGE * 8) or ""
  return entries:find "[^%z]" ~= nil
end

local function search(bytes, needle, pattern, found)
  local at = bytes:find(needle, 1, true)
  while at do
    local what = bytes:match(pattern, at)
    if what then found(what, at) end
    at = bytes:find(needle, at + 1, true)
  end
end

--- Calls found(what, where, around) for each match of `pattern` (anchored, one capture) where the plain text `needle` stands.
function M.each(pid, needle, pattern, found)
  local f = assert(io.open("/proc/" .. pid .. "/mem", "rb"))
  local pagemap = assert(io.open("/proc/" .. pid .. "/pagemap", "rb"))
  f:setvbuf "no"
  for _, map in ipairs(writable_maps(pid)) do
    local at = map.from
    while at < map.to do
      local size = math.min(PIECE, map.to - at)
      local bytes = used(pagemap, at, at + size) and f:seek("set", at) and f:read(size)
      if bytes then
        search(bytes, needle, pattern, function(what, i)
          found(what, ("%s %x+%x"):format(map.name ~= "" and map.name or "anonymous", map.from, at - map.from + i - 1), bytes:sub(math.max(1, i - 48), i + 79))
        end)
      end
      at = at + size
    end
  end
  f:close()
  pagemap:close()
end

return M
