--- A small, exact HTTP client over raw sockets: what curl would tidy up, specs need to see as it is.
local socket = require "socket"
local protocols = require "spec.support.protocols"
local h2_client = require "spec.support.h2_client"
pcall(require, "socket.unix")

local M = {}

---@class Connection
local Connection = {}
Connection.__index = Connection

--- target: a port on 127.0.0.1, "host:port", or "unix:/path". By HTTP/2 where the specs' clients speak that (spec/support/protocols.lua), with h2_client's options.
function M.connect(target, timeout, options)
  if protocols.is_h2(target) then return h2_client.connect(target, timeout, options) end
  local sock
  if type(target) == "string" and target:match "^unix:" then
    sock = require "socket.unix"()
    assert(sock:connect(target:sub(6)))
  else
    local host, port = "127.0.0.1", target
    if type(target) == "string" then host, port = target:match "^%[?(.-)%]?:(%d+)$" end
    sock = host:find(":", 1, true) and socket.tcp6() or socket.tcp()
    sock:settimeout(timeout or 10)
    assert(sock:connect(host, tonumber(port)))
    sock:setoption("tcp-nodelay", true)
  end
  sock:settimeout(timeout or 10)
  return setmetatable({ sock = sock, rest = "", timeout = timeout or 10 }, Connection)
end

function Connection:send(bytes) return self.sock:send(bytes) end
function Connection:close() self.sock:close() end
--- Sends FIN and goes on reading.
function Connection:finish() self.sock:shutdown "send" end

local function more(self)
  local data, err, partial = self.sock:receive(65536)
  data = data or partial
  if data and #data > 0 then
    self.rest = self.rest .. data
    return true
  end
  return nil, err
end

-- receive(n) of luasocket waits for all n bytes: without a timeout it gives what is there.
local function fill(self, deadline)
  while true do
    self.sock:settimeout(0)
    local ok, err = more(self)
    self.sock:settimeout(self.timeout)
    if ok then return true end
    if err ~= "timeout" then return nil, err end
    local left = deadline - socket.gettime()
    if left <= 0 then return nil, "timeout" end
    socket.select({ self.sock }, nil, left)
  end
end

--- Everything until the peer closes, or `seconds` pass: bytes, and "closed" or "timeout".
function Connection:read_all(seconds)
  local deadline = socket.gettime() + (seconds or 5)
  while true do
    local ok, err = fill(self, deadline)
    if not ok then
      local all = self.rest
      self.rest = ""
      return all, err
    end
  end
end

local function read_until(self, pattern, deadline)
  while true do
    local at, last = self.rest:find(pattern, 1, true)
    if at then
      local text = self.rest:sub(1, last)
      self.rest = self.rest:sub(last + 1)
      return text
    end
    local ok, err = fill(self, deadline)
    if not ok then return nil, err, self.rest end
  end
end

local function read_bytes(self, n, deadline)
  while #self.rest < n do
    local ok, err = fill(self, deadline)
    if not ok then return nil, err, self.rest end
  end
  local text = self.rest:sub(1, n)
  self.rest = self.rest:sub(n + 1)
  return text
end

local function read_chunks(self, deadline)
  local parts = {}
  while true do
    local line, err = read_until(self, "\r\n", deadline)
    if not line then return nil, err, table.concat(parts) end
    local size = tonumber(line:match "^%x+", 16)
    if size == 0 then break end
    local data, derr, part = read_bytes(self, size + 2, deadline)
    if not data then return nil, derr, table.concat(parts) .. (part or "") end
    parts[#parts + 1] = data:sub(1, -3)
  end
  local trailers = {}
  while true do
    local line, err = read_until(self, "\r\n", deadline)
    if not line then return nil, err, table.concat(parts) end
    if line == "\r\n" then return table.concat(parts), nil, nil, trailers end
    local name, value = line:match "^([^:]+):%s*(.-)\r\n$"
    trailers[name:lower()] = value
  end
end

--- For who takes a reply in bites: its head, then n bytes of its body (less at its end), and no more is taken from the socket than that.
function Connection:head(seconds) return read_until(self, "\r\n\r\n", socket.gettime() + (seconds or 10)) end
function Connection:bite(n)
  local there = self.rest:sub(1, n)
  self.rest = self.rest:sub(#there + 1)
  if #there == n then return there end
  local data, err, part = self.sock:receive(n - #there)
  return there .. (data or part), err
end
--- Waits for a reply to begin: true, or nil after so many seconds.
function Connection:answered(seconds) return self.rest ~= "" or socket.select({ self.sock }, nil, seconds)[1] and true end
--- Sends what is taken without waiting: how many bytes of these.
function Connection:offer(bytes)
  self.sock:settimeout(0)
  local last, _, part = self.sock:send(bytes)
  self.sock:settimeout(self.timeout)
  return last or part
end

--- One response: { status, reason, headers (lower-case names, joined by ", "), raw_head, body, trailers, broken = error when cut short }.
--- nil, error when no whole head came.
function Connection:read_response(method, seconds)
  local deadline = socket.gettime() + (seconds or 10)
  local head, err = read_until(self, "\r\n\r\n", deadline)
  if not head then return nil, err end
  local res = { raw_head = head, headers = {} }
  res.status, res.reason = head:match "^HTTP/1%.%d (%d%d%d) ?(.-)\r\n"
  res.status = tonumber(res.status)
  for name, value in head:gmatch "\r\n([^:\r\n]+):[ \t]*(.-)%f[\r]" do
    name = name:lower()
    res.headers[name] = res.headers[name] and res.headers[name] .. ", " .. value or value
  end
  local length = tonumber(res.headers["content-length"])
  local part
  if method == "HEAD" or res.status < 200 or res.status == 204 or res.status == 304 then
    res.body = ""
  elseif res.headers["transfer-encoding"] then
    res.body, res.broken, part, res.trailers = read_chunks(self, deadline)
  elseif length then
    res.body, res.broken, part = read_bytes(self, length, deadline)
  else
    local all, why = self:read_all(seconds)
    res.body = all
    if why ~= "closed" then res.broken = why end
  end
  res.body = res.body or part or ""
  return res
end

local function encode(method, path, headers, body)
  local lines = { ("%s %s HTTP/1.1"):format(method, path) }
  local seen = {}
  for name, value in pairs(headers or {}) do
    seen[name:lower()] = true
    lines[#lines + 1] = name .. ": " .. value
  end
  if not seen.host then lines[#lines + 1] = "Host: test" end
  if body and not seen["content-length"] and not seen["transfer-encoding"] then lines[#lines + 1] = "Content-Length: " .. #body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

function Connection:request(method, path, headers, body, seconds)
  self:send(encode(method, path, headers, body))
  return self:read_response(method, seconds)
end
h2_client.Connection.request = Connection.request

--- One request on a connection of its own.
function M.request(target, method, path, headers, body, seconds)
  local c = M.connect(target, seconds)
  local res, err = c:request(method, path, headers, body, seconds)
  c:close()
  return res, err
end
function M.get(target, path, headers) return M.request(target, "GET", path or "/", headers) end
--- Sends bytes as they are; returns everything that came back until the peer closed or `seconds` passed, and which.
function M.raw(target, bytes, seconds)
  local c = M.connect(target)
  c:send(bytes)
  local all, why = c:read_all(seconds or 2)
  c:close()
  return all, why
end

--- Sends n requests at the same time, each on its own connection, or a stream each of one; returns the responses in order.
function M.together(target, n, method, path, headers, body, seconds)
  local connections, responses = {}, {}
  if protocols.is_h2(target) then -- on one connection, up to what the peer takes
    local c = M.connect(target, seconds)
    c:await(function() return c.session.greeted end)
    for first = 1, n, 100 do
      for _ = first, math.min(n, first + 99) do c:send(encode(method, path, headers, body)) end
      for i = first, math.min(n, first + 99) do responses[i] = c:read_response(method, seconds) or { status = 0 } end
    end
    c:close()
    return responses
  end
  for i = 1, n do connections[i] = M.connect(target, seconds) end
  for i = 1, n do connections[i]:send(encode(method, path, headers, body)) end
  for i = 1, n do responses[i] = connections[i]:read_response(method, seconds) or { status = 0 } end
  for i = 1, n do connections[i]:close() end
  return responses
end

return M
