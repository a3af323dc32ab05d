--- HTTP/2 for the scripted server (spec/support/raw_upstream.lua): each request of a connection is given to a script as if it had come by HTTP/1.1 on a connection of its own. The script
--- reads its text and writes the text of a reply; that becomes frames. A script that is behind its reply gets the next request, as on a connection that is kept alive.
---
--- What a script does to "its" connection: c:close() behind a whole reply says GOAWAY and closes when nothing else is under way; within a reply, or before one, it closes the
--- connection, and c:reset() resets it: both for all streams, as a server that goes does. For HTTP/2 itself: c.h2 (the session), c.stream (its id), c.connection (:close(), :reset(), :flush()).
local uv = require "luv"
local h2 = require "spec.support.h2"
local h1_text = require "spec.support.h1_text"

local M = {}
local LINGER_MS = 2000

local Connection = {}
Connection.__index = Connection

function Connection:flush()
  local bytes = self.h2:take()
  if bytes == "" or self.shut or self.tcp:is_closing() then return end
  self.unsent = self.unsent + 1
  self.tcp:write(bytes, function()
    self.unsent = self.unsent - 1
    if self.unsent == 0 then
      for c in pairs(self.writers) do self.host.wake(c, "written") end
    end
  end)
end

--- The text that the script reads.
local function put(c, text)
  if text == "" then return end
  c.host.log(text)
  c.pieces[#c.pieces + 1] = text
  c.length = c.length + #text
  c.host.wake(c, "input")
end

local function end_stream(c, why)
  if c.ended then return end
  c.ended = why
  c.host.wake(c, "input")
  c.host.wake(c, "written")
end

-- A reply is complete: the script may have the next request.
local function replied(c)
  c.replying, c.answered = false, c.answered + 1
end

local function reply_reader(c)
  local reader
  reader = h1_text.reader("response", {
    head = function(head)
      local id = c.stream
      if not id then return true end
      local interim = head.status:find "^1" and head.status ~= "101"
      c.replying = not interim
      local request = c.connection.requests[id]
      local none = not interim and (request.method == "HEAD" or head.status == "204" or head.status == "304")
      local length = h1_text.value_of(head.fields, "content-length")
      local finish = not interim and (none or tonumber(length) == 0 and not h1_text.value_of(head.fields, "transfer-encoding"))
      c.finished = finish
      c.h2:headers(id, h1_text.fields({ { ":status", head.status } }, head.fields), finish)
      if finish then replied(c) end
      return none or interim
    end,
    data = function(bytes) if c.stream then c.h2:data(c.stream, bytes) end end,
    finish = function(trailers)
      if not c.replying then return end
      if trailers then c.h2:headers(c.stream, h1_text.fields({}, trailers), true) else c.h2:data(c.stream, "", true) end
      replied(c)
    end,
    garbage = function(bytes) c.h2.out[#c.h2.out + 1] = bytes end,
  })
  return reader
end

--- What a script has in hand: the methods of raw_upstream's connection, but for these.
local Methods = {}
function Methods:write(s)
  if self.ended then return end
  self.reader:feed(s)
  self.connection.writers[self] = true
  self.connection:flush()
  local stream = self.stream and self.h2.streams[self.stream]
  while not self.ended and (self.connection.unsent > 0 or stream and stream.queued > 0) do self.host.await(self, "written") end
  self.connection.writers[self] = nil
end
function Methods:close()
  if self.ended then return end -- its stream is over: the others go on
  if self.reader.state == "until close" and self.replying then
    self.h2:data(self.stream, "", true)
    replied(self)
    self.reader.state = "head"
  end
  local whole = self.answered == self.requests
  self.closed = true
  self.connection:leave(self, whole)
end
function Methods:reset() self.connection:reset() end
--- Takes no more of its stream's body: the window stays shut.
function Methods:stop() self.held = true end
--- Refuses or breaks off its stream alone.
function Methods:reset_stream(code)
  self.h2:reset(self.stream, code)
  self.connection:flush()
  end_stream(self, "reset here")
end
function Methods:goaway(last, code)
  self.h2:goaway(code, last)
  self.connection:flush()
end

local function busy(c) return not c.ended and not c.closed and c.requests > c.answered end

-- As servers do: what the other side still says, a WINDOW_UPDATE perhaps, must not be met by a reset, which would throw away what has not arrived there yet.
function Connection:close()
  if self.shut or self.tcp:is_closing() then return end
  self.shut = uv.new_timer()
  self.shut:start(LINGER_MS, 0, function() self:end_now() end)
  self.tcp:shutdown()
  self:over "closed here"
end
function Connection:end_now()
  if self.shut and not self.shut:is_closing() then self.shut:close() end
  if not self.tcp:is_closing() then self.tcp:close() end
end
function Connection:reset() if not self.tcp:is_closing() then self.tcp:close_reset() self:over "reset here" end end
function Connection:over(why)
  for c in pairs(self.all) do end_stream(c, why) end
end
--- A script has closed "its" connection.
function Connection:leave(c, whole)
  if not whole then return self:close() end
  if not self.leaving then
    self.leaving = true
    self.h2:goaway(0)
  end
  self:flush()
  for other in pairs(self.all) do
    if other ~= c and busy(other) then return end
  end
  local function done()
    if self.unsent == 0 then self:close() else self.tcp:write("", done) end
  end
  done()
end

local function script_for(self)
  for c in pairs(self.all) do
    if not c.ended and not c.closed and c.waiting and c.waiting_for == "input" and c.whole and not busy(c) and c.length == 0 then return c end
  end
  local c = setmetatable({ tcp = self.tcp, h2 = self.h2, connection = self, host = self.host, pieces = {}, length = 0, requests = 0, answered = 0 },
    { __index = function(_, k) return Methods[k] or self.host.Connection[k] end })
  c.reader = reply_reader(c)
  self.all[c] = true
  return c, true
end

local function request_text(fields, finished)
  local by, lines = {}, {}
  for _, field in ipairs(fields) do
    if field[1]:sub(1, 1) == ":" then by[field[1]] = field[2] else lines[#lines + 1] = h1_text.title(field[1]) .. ": " .. field[2] end
    if field[1] == "content-length" then by.length = true end
  end
  local chunked = not finished and not by.length
  table.insert(lines, 1, ("%s %s HTTP/1.1"):format(by[":method"], by[":method"] == "CONNECT" and by[":authority"] or by[":path"]))
  if by[":authority"] then table.insert(lines, 2, "Host: " .. by[":authority"]) end
  if chunked then lines[#lines + 1] = "Transfer-Encoding: chunked" end
  return table.concat(lines, "\r\n") .. "\r\n\r\n", chunked, by[":method"]
end

local function on_event(self, event)
  local request = self.requests[event.id]
  if event.kind == "headers" and not request then
    local c, new = script_for(self)
    local text, chunked, method = request_text(event.fields, event.finished)
    request = { c = c, chunked = chunked, method = method }
    self.requests[event.id] = request
    c.stream, c.requests, c.fields, c.whole = event.id, c.requests + 1, event.fields, event.finished
    put(c, text)
    if new then self.host.begin(c) end
  elseif event.kind == "headers" then
    local lines = {}
    for _, field in ipairs(event.fields) do lines[#lines + 1] = h1_text.title(field[1]) .. ": " .. field[2] .. "\r\n" end
    request.c.trailers, request.c.whole = event.fields, true
    put(request.c, request.chunked and "0\r\n" .. table.concat(lines) .. "\r\n" or "")
  elseif event.kind == "data" then
    if not self.hold and not request.c.held then self.h2:consumed(event.id, #event.bytes) end
    local text = event.bytes
    if request.chunked and text ~= "" then text = ("%x\r\n%s\r\n"):format(#text, text) end
    if request.chunked and event.finished then text = text .. "0\r\n\r\n" end
    if event.finished then request.c.whole = true end
    put(request.c, text)
  elseif event.kind == "reset" then
    self.host.note(("stream %d reset %d"):format(event.id, event.code))
    if request.c.stream == event.id then end_stream(request.c, "reset") end
  elseif event.kind == "goaway" then
    self.host.note(("goaway %d %d %s"):format(event.last, event.code, event.debug))
  end
end

--- Takes a connection over. host: { wake(c, why), await(c, what), begin(c, first text), log(text), note(line), Connection }, as raw_upstream has them.
function M.accept(tcp, host, options)
  local self = setmetatable({ tcp = tcp, host = host, all = {}, requests = {}, writers = {}, unsent = 0 }, Connection)
  self.h2 = h2.new("server", function(event) on_event(self, event) end, options)
  tcp:nodelay(true) -- windows open by short packets
  return self
end

--- Bytes of the connection; nil at its end.
function Connection:take(data, err)
  if not data then
    self:over(err or "eof")
    return self:end_now()
  end
  if self.shut then return end
  local ok, why = pcall(self.h2.feed, self.h2, data)
  if not ok then
    self.host.note("FAULT " .. why)
    self.h2:goaway(h2.ERRORS.PROTOCOL_ERROR, nil, why)
    self:flush()
    return self:close()
  end
  self:flush()
end

return M
