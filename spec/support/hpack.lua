--- Field blocks of HTTP/2 for the specs (RFC 7541): written as plain literals, unless one asks otherwise; read in every form that there is, and strictly.
--- Also: of each field it is known whether it came as one that must never be indexed, which is what secrets must be.
local M = {}

--- The static table (appendix A), in order; "~" stands for a space.
local STATIC = {}
for entry in ([[
:authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204 :status=206 :status=304 :status=400 :status=404
:status=500 accept-charset accept-encoding=gzip,~deflate accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control
content-disposition content-encoding content-language content-length content-location content-range content-type cookie date etag expect expires from host if-match
if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh
retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate]]):gmatch "%S+" do
  local name, value = entry:match "^(:?[^=]+)=?(.*)$"
  STATIC[#STATIC + 1] = { name, (value:gsub("~", " ")) }
end

-- How many bits the code of each byte has, and that of the end (appendix B); NxM are M bytes of N bits. The codes follow from that: those of one length
-- are numbered in the order of the bytes.
local LENGTHS = [[
  13 23 28x7 24 30 28x2 30 28x8 30 28x9 6 10x2 12 13 6 8 11 10x2 8 11 8 6x3 5x3 6x7 7 8 15 6 12 10 13 6 7x22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6x3 5 7x2
  6x3 5 6 7 6 5x2 6 7x5 15 11 14 13 28 20 22 20x2 22x3 23 22 23x5 24 23 24x2 22 23 24 23x4 21 22 23 22 23x2 24 22 21 20 22x2 23x2 21 23 22x2 24 21 22 23x2
  21x2 22 21 23 22 23x2 20 22x3 23 22x2 23 26x2 20 19 22 23 22 25 26x3 27x2 26 24 25 19 21 26 27x2 26 27 24 21x2 26x2 28 27x3 20 24 20 21 22 21x2 23 22x2
  25x2 24x2 26 23 26 27 26x2 27x5 28 27x5 26 30
]]
local code_to_byte = {} -- [length][code]
do
  local by_length, byte = {}, 0
  for bits, times in LENGTHS:gmatch "(%d+)x?(%d*)" do
    for _ = 1, tonumber(times) or 1 do
      by_length[tonumber(bits)] = by_length[tonumber(bits)] or {}
      table.insert(by_length[tonumber(bits)], byte)
      byte = byte + 1
    end
  end
  assert(byte == 257)
  local code = 0
  for length = 1, 30 do
    code = code << 1
    code_to_byte[length] = {}
    for _, b in ipairs(by_length[length] or {}) do
      code_to_byte[length][code] = b
      code = code + 1
    end
  end
end

local function broken(text, ...) error("HPACK: " .. text:format(...), 0) end

local function unhuffman(bytes)
  local out, code, length = {}, 0, 0
  for i = 1, #bytes do
    local byte = bytes:byte(i)
    for bit = 7, 0, -1 do
      code, length = code << 1 | byte >> bit & 1, length + 1
      local found = length <= 30 and code_to_byte[length][code]
      if found == 256 or length > 30 then broken "a code that is none" end
      if found then
        out[#out + 1] = string.char(found)
        code, length = 0, 0
      end
    end
  end
  if length > 7 or code ~= (1 << length) - 1 then broken "padding that is none" end
  return table.concat(out)
end

--- An integer with a prefix of so many bits, whose first byte has `flags` above them.
local function integer(value, bits, flags)
  local most = (1 << bits) - 1
  if value < most then return string.char(flags | value) end
  local out = { string.char(flags | most) }
  value = value - most
  while value >= 128 do
    out[#out + 1] = string.char(value & 127 | 128)
    value = value >> 7
  end
  return table.concat(out) .. string.char(value)
end
M.integer = integer

local function read_integer(block, at, bits)
  local most = (1 << bits) - 1
  local value = (block:byte(at) or broken "cut") & most
  at = at + 1
  if value < most then return value, at end
  for shift = 0, 28, 7 do
    local byte = block:byte(at) or broken "an integer that is cut"
    at = at + 1
    value = value + ((byte & 127) << shift)
    if byte < 128 then return value, at end
  end
  broken "an integer without end"
end

local function read_string(block, at)
  local coded = (block:byte(at) or broken "cut") & 128 ~= 0
  local length, from = read_integer(block, at, 7)
  local text = block:sub(from, from + length - 1)
  if #text < length then broken "a string that is cut" end
  return coded and unhuffman(text) or text, from + length
end

--- A field block. fields: a list of { name, value, how }; how: nil (a literal that may be indexed further on), "index" (put into the table), "never".
function M.encode(fields)
  local out = {}
  local first = { index = 0x40, never = 0x10 }
  for _, field in ipairs(fields) do
    local how = field[3]
    out[#out + 1] = string.char(first[how] or 0) .. integer(#field[1], 7, 0) .. field[1] .. integer(#field[2], 7, 0) .. field[2]
  end
  return table.concat(out)
end

---@class Decoder: the table that the other side fills
local Decoder = {}
Decoder.__index = Decoder

function M.decoder(limit) return setmetatable({ entries = {}, size = 0, limit = limit or 4096, allowed = limit or 4096 }, Decoder) end

local function cost(field) return #field[1] + #field[2] + 32 end

function Decoder:shrink(size)
  while self.size > size do self.size = self.size - cost(table.remove(self.entries)) end
end
function Decoder:add(field)
  self:shrink(math.max(0, self.limit - cost(field)))
  if cost(field) > self.limit then return end
  table.insert(self.entries, 1, field)
  self.size = self.size + cost(field)
end
function Decoder:entry(index)
  return STATIC[index] or self.entries[index - #STATIC] or broken("no entry %d", index)
end

--- A field block: a list of { name, value, how }, where how is "table", "index", "plain" or "never".
function Decoder:decode(block)
  local fields, at = {}, 1
  while at <= #block do
    local index
    local byte = block:byte(at)
    if byte & 0x80 ~= 0 then
      index, at = read_integer(block, at, 7)
      local field = self:entry(index)
      fields[#fields + 1] = { field[1], field[2], "table" }
    elseif byte & 0xe0 == 0x20 then
      if #fields > 0 then broken "a change of the table's size behind a field" end
      index, at = read_integer(block, at, 5)
      if index > self.allowed then broken("a table of %d bytes", index) end
      self.limit = index
      self:shrink(index)
    else
      local how = byte & 0x40 ~= 0 and "index" or byte & 0x10 ~= 0 and "never" or "plain"
      index, at = read_integer(block, at, how == "index" and 6 or 4)
      local name, value
      if index > 0 then name = self:entry(index)[1] else name, at = read_string(block, at) end
      value, at = read_string(block, at)
      if how == "index" then self:add { name, value } end
      fields[#fields + 1] = { name, value, how }
    end
  end
  return fields
end

return M
