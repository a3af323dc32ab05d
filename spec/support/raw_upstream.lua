--- A scripted TCP server for specs that need an upstream no real server would be: broken framing, silence, resets. A process of its own:
--- lua5.4 spec/support/raw_upstream.lua LOGFILE SCRIPT   where SCRIPT is Lua: `return function(c) … end`, run once a connection in a coroutine.
--- Who begins with the preface of HTTP/2 is served by it: the script runs for each of its requests (spec/support/h2_upstream.lua).
--- c:read(n | "head" | "line") c:write(s) c:close() c:reset() c:stop() c:sleep(ms) c.number, c.ended, c:joined() (what has come and is not read). Prints its port.
local uv = require "luv"
package.path = "./?.lua;" .. package.path
local h2 = require "spec.support.h2"
local h2_upstream = require "spec.support.h2_upstream"

local log_path, script = arg[1], arg[2]
local handler = assert(load(script))()
local log = assert(io.open(log_path, "wb"))
uv.new_signal():start "sigpipe" -- a peer that has gone is no reason to die
local server = uv.new_tcp()
server:bind("127.0.0.1", 0)
local count = 0

local Connection = {}
Connection.__index = Connection

local function wake(c, why)
  local co = c.waiting
  if co and c.waiting_for == why then
    c.waiting = nil
    local ok, err = coroutine.resume(co)
    if not ok then io.stderr:write(tostring(err), "\n") end
  end
end

local function await(c, what)
  c.waiting, c.waiting_for = coroutine.running(), what
  coroutine.yield()
end

local ends = { head = "\r\n\r\n", line = "\r\n" }

--- What has come, in one piece. Pieces are joined when somebody asks for them, and not as each comes: that would be quadratic for a body of megabytes.
function Connection:joined()
  if #self.pieces > 1 then self.pieces = { table.concat(self.pieces) } end
  return self.pieces[1] or ""
end

--- n bytes, or a whole head or line with what ends it; nil when the peer closed before.
function Connection:read(what)
  while true do
    local last
    if ends[what] then
      last = select(2, self:joined():find(ends[what], 1, true))
    elseif self.length >= what then
      last = what
    end
    if last then
      local input = self:joined()
      self.pieces = { input:sub(last + 1) }
      self.length = self.length - last
      return input:sub(1, last)
    end
    if self.ended then return nil end
    await(self, "input")
  end
end
function Connection:write(s)
  self.tcp:write(s, function() wake(self, "written") end)
  await(self, "written")
end
function Connection:sleep(ms)
  local timer = uv.new_timer()
  timer:start(ms, 0, function()
    timer:close()
    wake(self, "time")
  end)
  await(self, "time")
end
function Connection:close() if not self.tcp:is_closing() then self.tcp:close() end end
--- Reads no more: what comes waits in the socket, and then with whoever sends it.
function Connection:stop() if not self.tcp:is_closing() then self.tcp:read_stop() end end
function Connection:reset() if not self.tcp:is_closing() then self.tcp:close_reset() end end

local function begin(c)
  count = count + 1
  c.number = count
  local ok, err = coroutine.resume(coroutine.create(handler), c)
  if not ok then io.stderr:write(tostring(err), "\n") end
end

local function record(bytes)
  log:write(bytes)
  log:flush()
end

--- The connection as it is, for HTTP/1.1 and whatever else.
local function accept_plain(tcp)
  local c = setmetatable({ tcp = tcp, pieces = {}, length = 0 }, Connection)
  begin(c)
  return function(data, err)
    if data then
      record(data)
      c.pieces[#c.pieces + 1] = data
      c.length = c.length + #data
    else
      c.ended = err or "eof"
    end
    wake(c, "input")
  end
end

local h2_host = { wake = wake, await = await, begin = begin, log = record, Connection = Connection, note = function(line)
  print(line)
  io.stdout:flush()
end }

local function accept_h2(tcp)
  local connection = h2_upstream.accept(tcp, h2_host)
  return function(data, err) connection:take(data, err) end
end

-- With H2_UPSTREAM the first bytes say who speaks. Without it a script may speak first.
local function accept_either(tcp)
  local first, take = "", nil
  return function(data, err)
    if not take then
      first = first .. (data or "")
      local n = math.min(#first, #h2.PREFACE)
      if first:sub(1, n) == h2.PREFACE:sub(1, n) and data then
        if n < #h2.PREFACE then return end
        take = accept_h2(tcp)
      else
        take = accept_plain(tcp)
      end
      if first ~= "" then take(first) end
      if data then return end
    end
    take(data, err)
  end
end

server:listen(128, function()
  local tcp = uv.new_tcp()
  server:accept(tcp)
  local take = (os.getenv "H2_UPSTREAM" and accept_either or accept_plain)(tcp)
  tcp:read_start(function(err, data) take(data, err) end)
end)
print(server:getsockname().port)
io.stdout:flush()
uv.run()
