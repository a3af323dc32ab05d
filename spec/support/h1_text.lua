--- What a spec writes as the text of HTTP/1.1, taken apart as it comes: for specs whose client or upstream speaks HTTP/2 instead. It forgives what specs break on purpose: fields are
--- given as they stand, and whoever gets them may say the same over HTTP/2.
local M = {}

---@class Reader
local Reader = {}
Reader.__index = Reader

--- kind: "request" or "response". on: { head(head), data(bytes), finish(trailers), garbage(bytes) }. head: { method, target, version, status, fields = { { name, value } … } }; for a
--- response on.head returns true when none of a body follows (the reply to HEAD, or without one).
function M.reader(kind, on) return setmetatable({ kind = kind, on = on, rest = "", state = "head" }, Reader) end

local function fields_of(text)
  local fields = {}
  for line in text:gmatch "([^\n]*)\n" do
    line = line:gsub("\r$", "")
    local name, value = line:match "^([^:]*):[ \t]*(.-)[ \t]*$"
    if name then fields[#fields + 1] = { name, value } end
  end
  return fields
end

local function value_of(fields, name)
  for _, field in ipairs(fields) do
    if field[1]:lower() == name then return field[2] end
  end
end

local function take_head(self)
  local from, to = self.rest:find("\r\n\r\n", 1, true)
  local bad = self.rest ~= "" and (self.kind == "response" and ("HTTP/1."):sub(1, #self.rest) ~= self.rest:sub(1, 7))
  if bad then
    local bytes = self.rest
    self.rest, self.state = "", "garbage"
    return self.on.garbage(bytes)
  end
  if not from then return false end
  local line, rest = self.rest:sub(1, from + 1):match "^(.-)\r\n(.*)$"
  self.rest = self.rest:sub(to + 1)
  local head = { fields = fields_of(rest) }
  if self.kind == "request" then
    head.method, head.target, head.version = line:match "^(%S+) (%S+) HTTP/(%S+)$"
  else
    head.status = line:match "^HTTP/1%.%d (%d*)"
  end
  local length, coding = value_of(head.fields, "content-length"), value_of(head.fields, "transfer-encoding")
  local none = self.on.head(head)
  if none or head.status and head.status:find "^1" then
    if not none then return true end
    self.on.finish()
  elseif coding then
    self.state = "chunk line"
  elseif length then
    self.left, self.state = tonumber(length) or 0, "body"
    if self.left == 0 then
      self.state = "head"
      self.on.finish()
    end
  elseif self.kind == "response" then
    self.state = "until close"
  else
    self.on.finish()
  end
  return true
end

local function take_body(self)
  if self.rest == "" then return false end
  local bytes = self.rest:sub(1, self.left)
  self.rest, self.left = self.rest:sub(#bytes + 1), self.left - #bytes
  self.on.data(bytes)
  if self.left == 0 then
    self.state = self.in_chunk and "chunk end" or "head"
    if not self.in_chunk then self.on.finish() end
  end
  return true
end

local take = { head = take_head, body = take_body }
take["chunk line"] = function(self)
  local line, after = self.rest:match "^(.-)\r\n()"
  if not line then return false end
  self.rest = self.rest:sub(after)
  local size = tonumber(line:match "^%x+" or "", 16)
  if not size then
    self.state = "garbage"
    return self.on.garbage(line)
  end
  self.left, self.in_chunk, self.state = size, size > 0, size > 0 and "body" or "trailers"
  return true
end
take["chunk end"] = function(self)
  if #self.rest < 2 then return false end
  self.rest, self.state = self.rest:sub(3), "chunk line"
  return true
end
take.trailers = function(self)
  local text
  if self.rest:sub(1, 2) == "\r\n" then
    text, self.rest = "", self.rest:sub(3)
  else
    local from, to = self.rest:find("\r\n\r\n", 1, true)
    if not from then return false end
    text, self.rest = self.rest:sub(1, from + 1), self.rest:sub(to + 1)
  end
  self.in_chunk, self.state = nil, "head"
  self.on.finish(text ~= "" and fields_of(text) or nil)
  return true
end
take["until close"] = function(self)
  if self.rest == "" then return false end
  local bytes = self.rest
  self.rest = ""
  self.on.data(bytes)
  return true
end
take.garbage = function() return false end

function Reader:feed(bytes)
  self.rest = self.rest .. bytes
  while take[self.state](self) do end
end
--- Is a message begun and not ended?
function Reader:within() return self.state ~= "head" or self.rest ~= "" end

--- A name as HTTP/1.1 is used to write it: "content-length" is Content-Length.
function M.title(name) return (("-" .. name):gsub("%-(%l)", function(c) return "-" .. c:upper() end):sub(2)) end

local OF_A_CONNECTION = { connection = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["transfer-encoding"] = true, upgrade = true, host = true }
--- The fields as HTTP/2 has them, behind those in `first`: names in lower case, without those of the connection.
function M.fields(first, fields)
  for _, field in ipairs(fields) do
    local name = field[1]:lower()
    if not OF_A_CONNECTION[name] and not (name == "te" and field[2] ~= "trailers") then first[#first + 1] = { name, field[2] } end
  end
  return first
end

--- The pseudo-fields of a request, and its fields, as HTTP/2 has them.
function M.request(head)
  head.method, head.target = head.method or "GET", head.target or ""
  local scheme, authority, path = head.target:match "^(%a+)://([^/?]*)(.*)$"
  if head.method == "CONNECT" then
    return M.fields({ { ":method", "CONNECT" }, { ":authority", head.target } }, head.fields)
  end
  authority = authority or value_of(head.fields, "host")
  if path == "" and head.method == "OPTIONS" then path = "*" end -- RFC 9113 section 8.3.1
  if path and not path:find "^[/*]" then path = "/" .. path end
  local first = { { ":method", head.method }, { ":scheme", scheme or "http" }, { ":path", path or head.target } }
  if authority then first[#first + 1] = { ":authority", authority } end
  local hosts = 0
  for _, field in ipairs(head.fields) do
    if field[1]:lower() == "host" then
      hosts = hosts + 1
      if hosts > 1 then first[#first + 1] = { "host", field[2] } end
    end
  end
  return M.fields(first, head.fields)
end

M.value_of = value_of

return M
