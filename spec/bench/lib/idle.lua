--- idle.lua PORT COUNT [h2 [STREAMS]]: opens COUNT connections, has one request answered on each, prints "ready" and keeps them until it is ended. With STREAMS,
--- each of them then begins as many uploads that never go on, and it is ready when the server has had the time to take them all: when a ping behind them came back.
package.path = "./?.lua;" .. package.path
local h2 = require "spec.bench.lib.h2"
local uv = require "luv"
local port, count = math.tointeger(tonumber(arg[1])), math.tointeger(tonumber(arg[2]))
local streams = math.tointeger(tonumber(arg[4] or "0"))
local AT_A_TIME = 100

local begun, done = 0, 0

local function fail(what, err)
  io.stderr:write(what, ": ", tostring(err), " after ", done, " connections\n")
  os.exit(1)
end

local h1_client = {
  hello = function() return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" end,
  answered = function() return true end,
}

local function fields(method, path) return { { ":method", method }, { ":scheme", "http" }, { ":path", path }, { ":authority", "localhost" } } end

local h2_client = {
  hello = function(c)
    c.block, c.rest = h2.encoder(), ""
    return h2.preface() .. h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, c.block(fields("GET", "/")))
  end,
  answered = function(c, data)
    local is_ready, frames, rest = false, h2.frames(c.rest .. data)
    c.rest = rest
    for _, frame in ipairs(frames) do
      local answer = h2.answer(frame)
      if answer ~= "" then c.tcp:write(answer) end
      if frame.stream == 1 and frame.flags & h2.END_STREAM ~= 0 then
        for i = 1, streams do c.tcp:write(h2.frame(h2.HEADERS, h2.END_HEADERS, 1 + 2 * i, c.block(fields("POST", "/")))) end
        if streams > 0 then c.tcp:write(h2.frame(h2.PING, 0, 0, "streams!")) else is_ready = true end
      end
      if frame.kind == h2.PING and frame.flags & h2.ACK ~= 0 then is_ready = true end
    end
    return is_ready
  end,
}
local client = arg[3] == "h2" and h2_client or h1_client

local function next_one()
  if begun == count then return end
  begun = begun + 1
  local c, answered = { tcp = uv.new_tcp() }, false
  c.tcp:connect("127.0.0.1", port, function(err)
    if err then fail("connect", err) end
    c.tcp:write(client.hello(c))
    c.tcp:read_start(function(read_err, data)
      if read_err or not data then fail("closed", read_err) end
      if answered or not client.answered(c, data) then return end
      answered, done = true, done + 1
      if done == count then
        print "ready"
        io.stdout:flush()
      end
      next_one()
    end)
  end)
end

for _ = 1, AT_A_TIME do next_one() end
uv.run()
