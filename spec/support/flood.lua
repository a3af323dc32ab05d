--- Both ends of one long body that goes through the proxy, in the process of the spec, so that it decides who reads when, and sees how far the sender came. An end is a client or a server,
--- of HTTP/1.1 (h1) or HTTP/2 (h2), and sends or takes:
---
---   e = flood.server(protocol)        listens at e.port; flood.client(protocol, port) connects
---   flood.turn(ends, seconds)         moves what can be moved without waiting for anybody
---   e:ask(method, path[, n])          a client's request; with n the body that it sends, of n bytes. A server answers GET /flood?N with as many, a POST when all of it has come, and all else
---                                     with 204
---   e:take(n)                         reads about n bytes more of the body and returns how many; the rest stays where it is
---   e.sent, e.got                     bytes of body that the kernel took from it (h1) or the windows let through (h2), and that it read
---   e:leave()                         a client gives its request up: h1 resets its connection, h2 the stream
---   e.broken                          a server's: why the request that it was sending to, or reading of, is over before its end
local socket = require "socket"
local h2 = require "spec.support.h2"

local M = {}

local PIECE = ("f"):rep(64 * 1024)
local KERNEL = 64 * 1024 -- of the spec's sockets: what waits shall wait in the proxy, or at its sockets

---@class FloodEnd
local End = {}
End.__index = End

local function new_end(side, protocol)
  return setmetatable({ side = side, protocol = protocol, out = "", input = "", sent = 0, got = 0, unread = 0, statuses = {} }, End)
end
local function connected(e, sock)
  e.sock, e.ended, e.out, e.input = sock, nil, "", ""
  sock:settimeout(0)
  sock:setoption("tcp-nodelay", true)
  if e.protocol == "h2" then e.session = h2.new(e.side, function(event) e:on_event(event) end) end
  return e
end

-- What goes out before more of the body is made.
local function write_out(e)
  if e.session then e.out = e.out .. e.session:take() end
  if e.out == "" or e.ended then return end
  local last, err, part = e.sock:send(e.out)
  e.out = e.out:sub((last or part or 0) + 1)
  if err and err ~= "timeout" then e.ended = err end
end

local function read_in(e)
  local moved = false
  while not e.ended do
    if e.protocol == "h1" and e.reading then break end -- the body stays in the socket until somebody takes it
    local data, err, part = e.sock:receive(65536)
    data = data or part or ""
    if data ~= "" then
      moved = true
      if e.session then e.session:feed(data) else e:head_bytes(data) end
    end
    if err == "timeout" then break end
    if err then e.ended = err end
  end
  return moved
end

--- Sends what there is of a body, as long as somebody takes it.
local function send_body(e)
  while e.left and e.left > 0 and not e.ended and not e.broken do
    if e.session then
      local stream = e.session.streams[e.id]
      e.sent = e.total - e.left - stream.queued
      if stream.queued > 0 or e.out ~= "" then return end
      local n = math.min(e.left, #PIECE)
      e.left = e.left - n
      e.session:data(e.id, n < #PIECE and PIECE:sub(1, n) or PIECE, e.left == 0)
      e.sent = e.total - e.left - stream.queued
      write_out(e)
    else
      if e.out ~= "" then return end
      local last, err, part = e.sock:send(PIECE, 1, math.min(#PIECE, e.left))
      local n = last or part or 0
      e.left, e.sent = e.left - n, e.sent + n
      if err == "timeout" then return end
      if err then e.ended = err end
    end
  end
end

local function begin_body(e, n) e.left, e.total, e.sent = n, n, 0 end

--- A server has a request's head; `length` of its body, if one follows.
function End:requested(method, path, length)
  self.got, self.broken, self.left, self.unread, self.expected = 0, nil, nil, 0, nil
  if method == "POST" then
    self.reading, self.expected = true, length
    return
  end
  local n = tonumber(path:match "^/flood%?(%d+)$")
  self:reply(n)
end
function End:reply(n)
  if self.session then
    self.session:headers(self.id, { { ":status", n and "200" or "204" }, n and { "content-length", tostring(n) } }, not n)
  else
    self.out = self.out .. (n and ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(n) or "HTTP/1.1 204 No Content\r\n\r\n")
  end
  if n then begin_body(self, n) end
end

function End:head_bytes(data)
  self.input = self.input .. data
  local head, rest = self.input:match "^(.-\r\n\r\n)(.*)$"
  if not head then return end
  self.input = rest
  if self.side == "server" then
    local method, path = head:match "^(%u+) (%S+)"
    return self:requested(method, path, tonumber(head:match "[Cc]ontent%-[Ll]ength: (%d+)"))
  end
  self.statuses[#self.statuses + 1] = tonumber(head:match "^HTTP/1.1 (%d+)")
  self.reading = head:find "^HTTP/1.1 200" ~= nil
end

local function value_of(fields, name)
  for _, field in ipairs(fields) do
    if field[1] == name then return field[2] end
  end
  return nil
end
function End:on_event(event)
  if event.kind == "headers" and self.side == "server" then
    self.id = event.id
    self:requested(value_of(event.fields, ":method"), value_of(event.fields, ":path"), tonumber(value_of(event.fields, "content-length")))
  elseif event.kind == "headers" then
    self.statuses[#self.statuses + 1] = tonumber(value_of(event.fields, ":status"))
  elseif event.kind == "data" and event.id == self.id then
    self.unread = self.unread + #event.bytes
  elseif event.kind == "reset" and event.id == self.id then
    self.broken, self.left, self.expected = "reset " .. event.code, nil, nil
  end
end

function End:ask(method, path, n)
  self.got, self.reading, self.unread, self.left = 0, false, 0, nil
  if self.session then
    local fields = { { ":method", method }, { ":scheme", "http" }, { ":path", path }, { ":authority", "a" }, n and { "content-length", tostring(n) } }
    self.id = self.session:headers(nil, fields, not n)
  else
    self.out = self.out .. ("%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(method, path, n and ("Content-Length: %d\r\n"):format(n) or "")
  end
  if n then begin_body(self, n) end
end

function End:take(n)
  local took = 0
  if self.session then
    took = math.min(n, self.unread)
    if took > 0 then
      self.unread = self.unread - took
      self.session:consumed(self.id, took)
    end
  elseif self.reading then
    if self.input ~= "" then
      took = math.min(n, #self.input)
      self.input = self.input:sub(took + 1)
    end
    if took < n then
      local data, err, part = self.sock:receive(n - took)
      took = took + #(data or part or "")
      if err and err ~= "timeout" then self.ended, self.broken, self.reading = err, err, false end
    end
  end
  self.got = self.got + took
  if self.side == "server" and self.expected and self.got == self.expected then
    self.expected, self.reading = nil, false
    self:reply()
  end
  return took
end

function End:leave()
  self.left = nil
  if not self.session then
    self.sock:setoption("linger", { on = true, timeout = 0 }) -- RST: what it sent last shall not be read first
    return self.sock:close()
  end
  self.session:reset(self.id, h2.ERRORS.CANCEL)
  write_out(self)
end

function End:turn()
  if self.listener and (not self.sock or self.ended) then -- one connection at a time
    local sock = self.listener:accept()
    if not sock then return false end
    connected(self, sock)
  end
  local moved = read_in(self)
  write_out(self)
  local before = self.sent
  send_body(self)
  if self.ended and self.side == "server" and (self.left or self.expected) then self.broken = self.broken or self.ended end
  return moved or self.sent > before
end

--- Runs all ends until predicate() is true, or for so many seconds: what it returned.
function M.turn(ends, seconds, predicate)
  local deadline = socket.gettime() + seconds
  repeat
    local moved = false
    for _, e in ipairs(ends) do moved = e:turn() or moved end
    local value = predicate and predicate()
    if value then return value end
    if not moved then socket.sleep(0.002) end
  until socket.gettime() > deadline
end

function M.client(protocol, port)
  local sock = socket.tcp()
  sock:setoption("recv-buffer-size", KERNEL)
  sock:setoption("send-buffer-size", KERNEL)
  sock:settimeout(5)
  assert(sock:connect("127.0.0.1", port))
  return connected(new_end("client", protocol), sock)
end

function M.server(protocol)
  local listener = socket.tcp()
  listener:setoption("recv-buffer-size", KERNEL)
  listener:setoption("send-buffer-size", KERNEL)
  assert(listener:bind("127.0.0.1", 0))
  assert(listener:listen(8))
  listener:settimeout(0)
  local _, port = listener:getsockname()
  local e = new_end("server", protocol)
  e.listener, e.port = listener, math.tointeger(port)
  return e
end

function End:close()
  if self.sock then self.sock:close() end
  if self.listener then self.listener:close() end
end

return M
