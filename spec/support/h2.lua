--- One connection of HTTP/2 for the specs, without a socket: bytes in, events out, bytes to send. It says what it is told to, also what no peer should, and takes only what RFC 9113
--- lets a sender generate: a frame too many, a window that is passed or a field that does not belong is an error, so every spec that runs over it checks all this as well.
---
--- Events, one table each: { kind = "headers", id, fields, finished } { kind = "data", id, bytes, finished } { kind = "reset", id, code } { kind = "goaway", last, code, debug }
--- { kind = "settings", values } { kind = "settings_ack" } { kind = "ping", ack, bytes } { kind = "window", id, n }.
--- Windows open by `consumed` only, so whoever withholds that holds up the other side.
local hpack = require "spec.support.hpack"

local M = {}

M.PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
local DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
local NAMES = { [0] = "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION" }
local END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
M.FRAMES = { DATA = DATA, HEADERS = HEADERS, PRIORITY = PRIORITY, RST_STREAM = RST_STREAM, SETTINGS = SETTINGS, PUSH_PROMISE = PUSH_PROMISE, PING = PING, GOAWAY = GOAWAY,
  WINDOW_UPDATE = WINDOW_UPDATE, CONTINUATION = CONTINUATION }
M.FLAGS = { END_STREAM = END_STREAM, ACK = ACK, END_HEADERS = END_HEADERS, PADDED = PADDED, PRIORITY = WITH_PRIORITY }
M.SETTINGS = { HEADER_TABLE_SIZE = 1, ENABLE_PUSH = 2, MAX_CONCURRENT_STREAMS = 3, INITIAL_WINDOW_SIZE = 4, MAX_FRAME_SIZE = 5, MAX_HEADER_LIST_SIZE = 6 }
M.ERRORS = { NO_ERROR = 0, PROTOCOL_ERROR = 1, INTERNAL_ERROR = 2, FLOW_CONTROL_ERROR = 3, SETTINGS_TIMEOUT = 4, STREAM_CLOSED = 5, FRAME_SIZE_ERROR = 6, REFUSED_STREAM = 7,
  CANCEL = 8, COMPRESSION_ERROR = 9, CONNECT_ERROR = 10, ENHANCE_YOUR_CALM = 11, INADEQUATE_SECURITY = 12, HTTP_1_1_REQUIRED = 13 }
local PSEUDO = { client = { [":status"] = true }, server = { [":method"] = true, [":scheme"] = true, [":authority"] = true, [":path"] = true } } -- what each side receives
local OF_A_CONNECTION = { connection = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["transfer-encoding"] = true, upgrade = true }
local FRAME_MOST, WINDOW_MOST = 16384, 0x7fffffff

local function broken(text, ...) error("HTTP/2: " .. text:format(...), 0) end

function M.frame(kind, flags, id, payload) return string.pack(">I3BBI4", #payload, kind, flags, id) .. payload end

---@class Session
local Session = {}
Session.__index = Session

--- side: "client" or "server"; on(event). options: window (of a stream, 65535), connection_window (64 MiB), settings (further ones, by identifier), preface (false: none yet).
function M.new(side, on, options)
  options = options or {}
  local s = setmetatable({
    side = side, on = on, out = {}, streams = {}, rest = "", decoder = hpack.decoder(), next_id = 1, last_id = 0, window = options.window or 65535, connection_window = 65535,
    send_window = 65535, peer = { frame = FRAME_MOST, window = 65535, streams = math.huge }, waiting = {}, unconsumed = 0, preface = side == "server" and M.PREFACE or nil,
    peer_side = side == "client" and "server" or "client",
  }, Session)
  if side == "client" and options.preface ~= false then s.out[1] = M.PREFACE end
  if options.preface == false then return s end
  local settings = { [M.SETTINGS.INITIAL_WINDOW_SIZE] = s.window }
  if side == "client" then settings[M.SETTINGS.ENABLE_PUSH] = 0 end
  for id, value in pairs(options.settings or {}) do settings[id] = value end
  s:settings(settings)
  s:grant((options.connection_window or 64 * 1024 * 1024) - 65535)
  return s
end

--- What is to be sent.
function Session:take()
  local bytes = table.concat(self.out)
  self.out = {}
  return bytes
end
function Session:send(kind, flags, id, payload) self.out[#self.out + 1] = M.frame(kind, flags, id, payload) end

function Session:settings(values)
  local parts = {}
  for id, value in pairs(values) do parts[#parts + 1] = string.pack(">I2I4", id, value) end
  self:send(SETTINGS, 0, 0, table.concat(parts))
  local window = values[M.SETTINGS.INITIAL_WINDOW_SIZE]
  if window then
    for _, stream in pairs(self.streams) do stream.window = stream.window + window - self.window end
    self.window = window
  end
end
function Session:goaway(code, last, debug) self:send(GOAWAY, 0, 0, string.pack(">I4I4", last or self.last_id, code or 0) .. (debug or "")) end
function Session:ping(bytes) self:send(PING, 0, 0, bytes or "12345678") end
--- n more bytes that the other side may send on the connection.
function Session:grant(n)
  if n <= 0 then return end
  self.connection_window = self.connection_window + n
  self:send(WINDOW_UPDATE, 0, 0, string.pack(">I4", n))
end

local function new_stream(self, id)
  local stream = { id = id, window = self.window, send_window = self.peer.window, queue = {}, queued = 0, unconsumed = 0, received = 0 }
  self.streams[id] = stream
  return stream
end

--- Sends a field block; without an id on a stream of its own. Returns the id.
function Session:headers(id, fields, finish, options)
  options = options or {}
  if not id then
    id = self.next_id
    self.next_id = id + 2
    new_stream(self, id)
  end
  local stream = self.streams[id]
  if stream and self.side == "client" and not stream.method then
    for _, field in ipairs(fields) do
      if field[1] == ":method" then stream.method = field[2] end
    end
  end
  if stream and stream.queued > 0 then -- trailers behind a body that waits for a window
    stream.trailers = fields
    return id
  end
  local block = options.block or hpack.encode(fields)
  local first = block:sub(1, self.peer.frame)
  local rest = block:sub(#first + 1)
  self:send(HEADERS, (finish and END_STREAM or 0) | (rest == "" and END_HEADERS or 0), id, first)
  while rest ~= "" do
    local part = rest:sub(1, self.peer.frame)
    rest = rest:sub(#part + 1)
    self:send(CONTINUATION, rest == "" and END_HEADERS or 0, id, part)
  end
  if finish and stream then
    stream.sent_end = true
    self:forget_if_over(stream)
  end
  return id
end

--- Sends from the queues what the windows let through.
function Session:push(stream)
  self.waiting[stream] = true
  while stream.queue[1] and not stream.reset do
    local head = stream.queue[1]
    local left = #head.bytes - head.at + 1
    local n = math.min(left, self.peer.frame, stream.send_window, self.send_window)
    if n <= 0 and left > 0 then return end
    local whole = n == left
    stream.send_window, self.send_window, stream.queued = stream.send_window - n, self.send_window - n, stream.queued - n
    self:send(DATA, whole and head.finish and END_STREAM or 0, stream.id, head.bytes:sub(head.at, head.at + n - 1))
    head.at = head.at + n
    if whole then
      table.remove(stream.queue, 1)
      if head.finish then stream.sent_end = true end
    end
  end
  self.waiting[stream] = nil
  if stream.reset then return end
  if stream.trailers then
    local trailers = stream.trailers
    stream.trailers = nil
    self:headers(stream.id, trailers, true)
  end
  self:forget_if_over(stream)
end
function Session:push_all()
  local all = {}
  for stream in pairs(self.waiting) do all[#all + 1] = stream end
  table.sort(all, function(a, b) return a.id < b.id end)
  for _, stream in ipairs(all) do self:push(stream) end
end
--- Queues bytes of a body; they leave as the windows allow. `queued` of the stream says how many wait.
function Session:data(id, bytes, finish)
  local stream = self.streams[id]
  if not stream or stream.reset then return end
  if bytes == "" and not finish then return end
  stream.queue[#stream.queue + 1] = { bytes = bytes, at = 1, finish = finish }
  stream.queued = stream.queued + #bytes
  self:push(stream)
end
function Session:reset(id, code)
  self:send(RST_STREAM, 0, id, string.pack(">I4", code or M.ERRORS.CANCEL))
  local stream = self.streams[id]
  if stream then
    stream.reset, stream.reset_here, stream.queue, stream.queued = code or M.ERRORS.CANCEL, true, {}, 0
    self:grant(stream.unconsumed)
    stream.unconsumed = 0
  end
end
--- The receiver has taken n bytes of a stream: the windows open again, in steps.
function Session:consumed(id, n)
  local stream = self.streams[id]
  if stream and not stream.reset then
    stream.unconsumed = stream.unconsumed - n
    stream.consumed = (stream.consumed or 0) + n
    if not stream.received_end and stream.consumed >= self.window // 4 then
      stream.window = stream.window + stream.consumed
      self:send(WINDOW_UPDATE, 0, id, string.pack(">I4", stream.consumed))
      stream.consumed = 0
    end
  end
  self.taken = (self.taken or 0) + n
  if self.taken >= 65536 // 4 then
    self:grant(self.taken)
    self.taken = 0
  end
end

-- A stream stays in `streams` while something may come for it that has to be judged: its entry is small, and a spec is short.
function Session.forget_if_over(_, stream)
  if stream.sent_end and stream.received_end then stream.over = true end
end

-- ---------------------------------------------------------------------------------------------------------------- what comes

local function judge_fields(self, stream, fields, finished)
  local trailers = stream.head_done
  local seen, regular, status = {}, false, nil
  for _, field in ipairs(fields) do
    local name, value = field[1], field[2]
    if name:sub(1, 1) == ":" then
      if trailers then broken("%s in the trailers", name) end
      if regular then broken("%s behind a field", name) end
      if not PSEUDO[self.side][name] then broken("a pseudo-field %s", name) end
      if seen[name] then broken("%s twice", name) end
      seen[name] = value
      if name == ":status" then status = value end
    else
      regular = true
      if name:find "[%u%s%c:]" or name == "" then broken("a field name %q", name) end
      if OF_A_CONNECTION[name] then broken("%s over HTTP/2", name) end
      if name == "te" and value ~= "trailers" then broken("te: %s", value) end
      if name == "content-length" and not trailers then
        if stream.length or not value:find "^%d+$" then broken("content-length: %s", value) end
        stream.length = tonumber(value)
      end
    end
    if value:find "[%z\r\n]" or value:find "^[ \t]" or value:find "[ \t]$" then broken("the value of %s: %q", name, value) end
  end
  if trailers then
    if not finished then broken "trailers without END_STREAM" end
    return
  end
  if self.side == "client" then
    if not status or not status:find "^[1-5]%d%d$" then broken("a status %s", status) end
    if status == "101" then broken "101 over HTTP/2" end
    if status:find "^1" then
      if finished then broken("END_STREAM with %s", status) end
      stream.length = nil
      return
    end
    stream.no_body = stream.method == "HEAD" or status == "304" or status == "204"
  else
    if not seen[":method"] then broken "no :method" end
    if seen[":method"] == "CONNECT" then
      if seen[":path"] or seen[":scheme"] or not seen[":authority"] then broken "pseudo-fields of CONNECT" end
    elseif not seen[":path"] or seen[":path"] == "" or not seen[":scheme"] then
      broken "no :path or :scheme"
    end
    stream.method = seen[":method"]
  end
  stream.head_done = true
end

local function ended(self, stream)
  if stream.length and not stream.no_body and stream.length ~= stream.received then broken("%d bytes where content-length says %d", stream.received, stream.length) end
  if stream.no_body and stream.received > 0 then broken "a body where none may be" end
  stream.received_end = true
  self:forget_if_over(stream)
end

local function field_block(self, id, block, finished)
  local fields = self.decoder:decode(block)
  local stream = self.streams[id]
  if stream.reset_here then return end
  judge_fields(self, stream, fields, finished)
  if finished then ended(self, stream) end
  self.on { kind = "headers", id = id, fields = fields, finished = finished }
end

local function unpadded(payload, flags)
  if flags & PADDED == 0 then return payload end
  local n = payload:byte(1)
  if n >= #payload then broken "more padding than there is" end
  return payload:sub(2, -1 - n)
end

--- The stream of a frame that must belong to one.
local function of_stream(self, kind, id)
  if id == 0 then broken("%s on the connection", NAMES[kind]) end
  local stream = self.streams[id]
  if not stream and kind == HEADERS and self.side == "server" and id % 2 == 1 and id > self.last_id then
    self.last_id = id
    return new_stream(self, id)
  end
  if not stream then broken("%s for stream %d, which nobody opened", NAMES[kind], id) end
  if stream.received_end and kind ~= RST_STREAM and kind ~= WINDOW_UPDATE and not stream.reset_here then broken("%s behind END_STREAM", NAMES[kind]) end
  if stream.reset and not stream.reset_here and kind ~= PRIORITY then broken("%s behind RST_STREAM", NAMES[kind]) end
  return stream
end

local take = {}
take[DATA] = function(self, flags, id, payload)
  local stream = of_stream(self, DATA, id)
  local size = #payload
  stream.window, self.connection_window = stream.window - size, self.connection_window - size
  if stream.reset_here then return self:grant(size) end
  if stream.window < 0 then broken("%d bytes over the stream's window", -stream.window) end
  if self.connection_window < 0 then broken("%d bytes over the connection's window", -self.connection_window) end
  if not stream.head_done then broken "DATA before a head" end
  local bytes = unpadded(payload, flags)
  stream.received, stream.unconsumed = stream.received + #bytes, stream.unconsumed + size
  if size > #bytes then self:consumed(id, size - #bytes) end
  local finished = flags & END_STREAM ~= 0
  if finished then ended(self, stream) end
  self.on { kind = "data", id = id, bytes = bytes, finished = finished }
end
take[HEADERS] = function(self, flags, id, payload)
  of_stream(self, HEADERS, id)
  payload = unpadded(payload, flags)
  if flags & WITH_PRIORITY ~= 0 then payload = payload:sub(6) end
  local finished = flags & END_STREAM ~= 0
  if flags & END_HEADERS ~= 0 then return field_block(self, id, payload, finished) end
  self.block = { id = id, parts = { payload }, finished = finished }
end
take[CONTINUATION] = function(self, flags, id, payload)
  local block = self.block
  if not block or block.id ~= id then broken "a CONTINUATION of nothing" end
  table.insert(block.parts, payload)
  if flags & END_HEADERS == 0 then return end
  self.block = nil
  field_block(self, id, table.concat(block.parts), block.finished)
end
take[PRIORITY] = function(_, _, _, payload) if #payload ~= 5 then broken "the size of PRIORITY" end end
take[RST_STREAM] = function(self, _, id, payload)
  local stream = of_stream(self, RST_STREAM, id)
  if #payload ~= 4 then broken "the size of RST_STREAM" end
  if stream.reset_here then return end
  stream.reset, stream.queue, stream.queued = string.unpack(">I4", payload), {}, 0
  self.on { kind = "reset", id = id, code = stream.reset }
end
take[SETTINGS] = function(self, flags, id, payload)
  if id ~= 0 or #payload % 6 ~= 0 then broken "SETTINGS" end
  if flags & ACK ~= 0 then return self.on { kind = "settings_ack" } end
  local values = {}
  for at = 1, #payload, 6 do
    local key, value = string.unpack(">I2I4", payload, at)
    values[key] = value
    if key == M.SETTINGS.MAX_FRAME_SIZE then self.peer.frame = value end
    if key == M.SETTINGS.MAX_CONCURRENT_STREAMS then self.peer.streams = value end
    if key == M.SETTINGS.ENABLE_PUSH and (value > 1 or self.side == "client" and value ~= 0) then broken("ENABLE_PUSH %d", value) end
    if key == M.SETTINGS.INITIAL_WINDOW_SIZE then
      if value > WINDOW_MOST then broken("a window of %d", value) end
      for _, stream in pairs(self.streams) do stream.send_window = stream.send_window + value - self.peer.window end
      self.peer.window = value
    end
  end
  self:send(SETTINGS, ACK, 0, "")
  self:push_all()
  self.on { kind = "settings", values = values }
end
take[PUSH_PROMISE] = function() broken "PUSH_PROMISE" end
take[PING] = function(self, flags, id, payload)
  if id ~= 0 or #payload ~= 8 then broken "PING" end
  local ack = flags & ACK ~= 0
  if not ack then self:send(PING, ACK, 0, payload) end
  self.on { kind = "ping", ack = ack, bytes = payload }
end
take[GOAWAY] = function(self, _, id, payload)
  if id ~= 0 or #payload < 8 then broken "GOAWAY" end
  local last, code = string.unpack(">I4I4", payload)
  if self.going and last > self.going then broken("GOAWAY of %d behind one of %d", last, self.going) end
  self.going = last
  self.on { kind = "goaway", last = last, code = code, debug = payload:sub(9) }
end
take[WINDOW_UPDATE] = function(self, _, id, payload)
  if #payload ~= 4 then broken "the size of WINDOW_UPDATE" end
  local n = string.unpack(">I4", payload)
  if n == 0 then broken "a WINDOW_UPDATE of 0" end
  if id == 0 then
    self.send_window = self.send_window + n
    if self.send_window > WINDOW_MOST then broken "a connection's window beyond 2^31-1" end
    self:push_all()
  else
    local stream = of_stream(self, WINDOW_UPDATE, id)
    stream.send_window = stream.send_window + n
    if stream.send_window > WINDOW_MOST then broken "a window beyond 2^31-1" end
    self:push(stream)
  end
  self.on { kind = "window", id = id, n = n }
end

--- Takes what came. Raises at what no peer may send.
function Session:feed(bytes)
  local input, at = self.rest .. bytes, 1
  if self.preface then
    local n = math.min(#self.preface, #input)
    if input:sub(1, n) ~= self.preface:sub(1, n) then broken "no preface" end
    if n < #self.preface then
      self.rest = input
      return
    end
    self.preface, at = nil, n + 1
  end
  while #input - at + 1 >= 9 do
    local length, kind, flags, id = string.unpack(">I3BBI4", input, at)
    if length > FRAME_MOST then broken("a frame of %d bytes", length) end
    if #input - at + 1 < 9 + length then break end
    local payload = input:sub(at + 9, at + 8 + length)
    at = at + 9 + length
    self.rest = "" -- what an error leaves is not read again
    if id >= 1 << 31 then broken "the reserved bit of a stream" end
    if not self.greeted and kind ~= SETTINGS then broken("%s before SETTINGS", NAMES[kind] or kind) end
    self.greeted = true
    if self.block and kind ~= CONTINUATION then broken("%s within a field block", NAMES[kind] or kind) end
    self.frames = (self.frames or 0) + 1
    if self.trace then self.trace(NAMES[kind] or kind, flags, id, payload) end
    if take[kind] then take[kind](self, flags, id, payload) end -- one that nobody knows is passed over (section 4.1)
  end
  self.rest = input:sub(at)
end

return M
