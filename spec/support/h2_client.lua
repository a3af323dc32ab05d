--- The client of spec/support/http.lua over HTTP/2 (prior knowledge): the same functions, so that one spec runs in either protocol. What a spec sends as the text of HTTP/1.1
--- becomes frames; requests that it would pipeline are streams beside each other, and their replies are read in the order of the requests. What the peer sends is held against RFC 9113
--- (spec/support/h2.lua), and windows open as the spec reads.
---
--- For specs of HTTP/2 itself there is more: c.session, c:open(fields, finish) a stream, c:data(stream, bytes, finish), c:await(predicate), c.events (all that came, each with its time).
local socket = require "socket"
local h2 = require "spec.support.h2"
local h1_text = require "spec.support.h1_text"

local M = {}
local MOST_QUEUED = 4 * 1024 * 1024 -- what `send` leaves to the windows before it waits, as a socket's buffers would take it
local REASONS = { ["100"] = "Continue", ["103"] = "Early Hints", ["200"] = "OK", ["204"] = "No Content", ["400"] = "Bad Request", ["404"] = "Not Found", ["502"] = "Bad Gateway" }

---@class H2Connection
local Connection = {}
Connection.__index = Connection

local function text_of(exchange, fields, status)
  local lines = { ("HTTP/1.1 %s %s"):format(status, REASONS[status] or "X") }
  for _, field in ipairs(fields) do
    if field[1] ~= ":status" then lines[#lines + 1] = h1_text.title(field[1]) .. ": " .. field[2] end
  end
  exchange.text[#exchange.text + 1] = table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function head_of(fields)
  local res = { headers = {}, fields = fields }
  for _, field in ipairs(fields) do
    local name, value = field[1], field[2]
    if name == ":status" then
      res.status = tonumber(value)
    else
      res.headers[name] = res.headers[name] and res.headers[name] .. ", " .. value or value
    end
  end
  return res
end

local function on_event(self, event)
  event.time = socket.gettime()
  if event.kind ~= "data" then self.events[#self.events + 1] = event end
  local exchange = self.exchanges_by_id[event.id]
  if event.kind == "headers" then
    if exchange.res then
      exchange.res.trailers = head_of(event.fields).headers
    else
      local res = head_of(event.fields)
      text_of(exchange, event.fields, tostring(res.status))
      res.raw_head = exchange.text[#exchange.text]
      if res.status < 200 then
        res.body = ""
        table.insert(exchange.interim, res)
      else
        exchange.res, res.parts = res, {}
      end
    end
    exchange.finished = exchange.finished or event.finished
  elseif event.kind == "data" then
    table.insert(exchange.res.parts, event.bytes)
    table.insert(exchange.text, event.bytes)
    exchange.unread = exchange.unread + #event.bytes
    exchange.received = exchange.received + #event.bytes
    exchange.finished = exchange.finished or event.finished
  elseif event.kind == "reset" and exchange then
    exchange.reset = event.code
  elseif event.kind == "goaway" then
    self.goaway = event
  end
end

--- target: a port on 127.0.0.1, or "host:port". options: as h2.new's; hold (true: nothing is consumed but by c:take).
function M.connect(target, timeout, options)
  options = options or {}
  local host, port = "127.0.0.1", target
  if type(target) == "string" then host, port = target:match "^%[?(.-)%]?:(%d+)$" end
  local sock = host:find(":", 1, true) and socket.tcp6() or socket.tcp()
  sock:settimeout(timeout or 10)
  assert(sock:connect(host, tonumber(port)))
  sock:setoption("tcp-nodelay", true)
  local c = setmetatable({ sock = sock, timeout = timeout or 10, out = "", events = {}, exchanges = {}, exchanges_by_id = {}, next_reply = 1, hold = options.hold }, Connection)
  c.session = h2.new("client", function(event) on_event(c, event) end, options)
  c.reader = h1_text.reader("request", {
    head = function(head) c:begin(head) end,
    data = function(bytes) c.session:data(c.current.id, bytes) end,
    finish = function(trailers)
      local exchange = c.current
      if exchange.finished_sending then return end
      if trailers then c.session:headers(exchange.id, h1_text.fields({}, trailers), true) else c.session:data(exchange.id, "", true) end
    end,
    garbage = error,
  })
  return c
end

local function new_exchange(self, id, method)
  local exchange = { id = id, method = method, interim = {}, text = {}, unread = 0, received = 0, stream = self.session.streams[id] }
  self.exchanges_by_id[id] = exchange
  return exchange
end

--- Opens a stream: what it receives stands in the exchange that is returned ({ id, res, interim, finished, reset, received, stream }).
function Connection:open(fields, finish, options)
  local id = self.session:headers(nil, fields, finish, options)
  self:flush()
  return new_exchange(self, id, fields[1][2])
end

-- A request whose head has been read from the text. The last one of the connection when that says so, as in HTTP/1.1.
function Connection:begin(head)
  local fields = h1_text.request(head)
  local length, coding = h1_text.value_of(head.fields, "content-length"), h1_text.value_of(head.fields, "transfer-encoding")
  local finish = not coding and (not length or tonumber(length) == 0)
  local id = self.session:headers(nil, fields, finish)
  self.current = new_exchange(self, id, head.method)
  self.current.finished_sending = finish
  self.current.last = head.version == "1.0" or (h1_text.value_of(head.fields, "connection") or ""):lower():find("close", 1, true) ~= nil
  self.exchanges[#self.exchanges + 1] = self.current
end

local function drain(self)
  self.sock:settimeout(0)
  local moved = false
  while not self.ended do
    local data, err, part = self.sock:receive(65536)
    data = data or part
    if data and #data > 0 then
      moved = true
      self.session:feed(data)
    end
    if err == "timeout" or not data then break end
    if err then self.ended = err end
  end
  return moved
end

--- Gives the kernel what there is to send, as far as it takes it.
function Connection:flush()
  self.out = self.out .. self.session:take()
  if self.out == "" or self.broken_pipe then return end
  self.sock:settimeout(0)
  local last, err, part = self.sock:send(self.out)
  self.out = self.out:sub((last or part or 0) + 1)
  if err and err ~= "timeout" then self.broken_pipe = err end
end

--- Moves bytes both ways until predicate() is true: its value; nil and "timeout" at the deadline, or "closed" when the connection is over.
function Connection:await(predicate, seconds)
  local deadline = socket.gettime() + (seconds or self.timeout)
  while true do
    self:flush()
    local value = predicate()
    if value then return value end
    if drain(self) then
      self:flush()
      value = predicate()
      if value then return value end
    elseif self.ended then
      return nil, self.ended
    else
      local left = deadline - socket.gettime()
      if left <= 0 then return nil, "timeout" end
      socket.select({ self.sock }, self.out ~= "" and not self.broken_pipe and { self.sock } or nil, left)
    end
  end
end

function Connection:data(exchange, bytes, finish)
  self.session:data(exchange.id, bytes, finish)
  self:flush()
end
--- The spec has taken n bytes of what came on a stream (all, without n): its window opens.
function Connection:take(exchange, n)
  n = n or exchange.unread
  if n == 0 then return end
  exchange.unread = exchange.unread - n
  self.session:consumed(exchange.id, n)
  self:flush()
end
local function take_all(self, exchange) if not self.hold then self:take(exchange) end end
--- Whole, cut, or has it come so far that nothing is to be waited for?
local function over(exchange) return exchange.finished or exchange.reset end

function Connection:send(bytes)
  self.reader:feed(bytes)
  local function waits() return self.current and self.current.stream.queued > MOST_QUEUED end
  local ok, err = self:await(function() return not waits() or self.current.reset end)
  if not ok then return nil, err end
  drain(self)
  if self.ended or self.broken_pipe or self.current and self.current.reset and not self.current.finished then return nil, "closed" end
  return #bytes
end
--- For who takes a reply in bites: its head, then n bytes of its body (less at its end), and its window opens by no more than that.
function Connection:head(seconds)
  self.hold = true
  local exchange = self.exchanges[self.next_reply]
  self:await(function() return exchange.res or over(exchange) end, seconds)
  return exchange.res and exchange.res.raw_head
end
function Connection:bite(n)
  local exchange = self.exchanges[self.next_reply]
  self:await(function()
    if exchange.unread < n then return over(exchange) end
    return true
  end)
  local all = table.concat(exchange.res.parts)
  exchange.res.parts, exchange.text = { all:sub(n + 1) }, {}
  self:take(exchange, math.min(n, #all))
  return all:sub(1, n), #all < n and "closed" or nil
end
--- Waits for a reply to begin: true, or nil after so many seconds.
function Connection:answered(seconds)
  local exchange = self.exchanges[self.next_reply]
  return (self:await(function() return exchange.res ~= nil or over(exchange) end, seconds))
end
--- Queues bytes of a body if all before have gone: how many.
function Connection:offer(bytes)
  drain(self)
  self:flush()
  if self.current.stream.queued > 0 or self.out ~= "" then return 0 end
  self.reader:feed(bytes)
  self:flush()
  return #bytes
end
--- The whole connection ends. c:leave() ends one request.
function Connection:close() self.sock:close() end
function Connection:finish() self:flush() self.sock:shutdown "send" end
--- Takes back the request that is awaited, and leaves the connection.
function Connection:leave()
  self.session:reset(self.exchanges[self.next_reply].id)
  self:flush()
end

function Connection:read_response(_, seconds)
  local exchange = self.exchanges[self.next_reply]
  if not exchange then return nil, "no request" end
  local ok, err = self:await(function()
    if exchange.interim[1] or exchange.res then return true end
    return over(exchange)
  end, seconds)
  if exchange.interim[1] then return table.remove(exchange.interim, 1) end
  if not exchange.res then
    if ok then self.next_reply = self.next_reply + 1 end
    return nil, ok and "closed" or err
  end
  local _, why = self:await(function()
    take_all(self, exchange)
    return over(exchange)
  end, seconds)
  take_all(self, exchange)
  local res = exchange.res
  res.body, res.parts = table.concat(res.parts), nil
  if not exchange.finished then
    res.broken = exchange.reset and "closed" or why
    res.reset = exchange.reset
  end
  self.next_reply = self.next_reply + 1
  return res
end

--- The text of all that came, as HTTP/1.1 would have it, without the framing of bodies: until the connection is over, or the reply to a request that said "Connection: close".
function Connection:read_all(seconds)
  local parts = {}
  local function collect()
    while true do
      local exchange = self.exchanges[self.next_reply]
      if not exchange then return false end
      take_all(self, exchange)
      parts[#parts + 1] = table.concat(exchange.text)
      exchange.text, exchange.interim = {}, {}
      if not over(exchange) then return false end
      self.next_reply = self.next_reply + 1
      if exchange.last or exchange.reset and not exchange.finished then return true end
    end
  end
  local closed, why = self:await(collect, seconds or 5)
  return table.concat(parts), closed and "closed" or why
end

M.Connection = Connection
return M
