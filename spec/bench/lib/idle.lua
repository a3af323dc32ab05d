--- idle.lua PORT COUNT: opens COUNT connections, has one request answered on each, prints "ready" and keeps them until it is ended.
local uv = require "luv"
local port, count = math.tointeger(tonumber(arg[1])), math.tointeger(tonumber(arg[2]))
local AT_A_TIME = 100

local begun, done = 0, 0

local function fail(what, err)
  io.stderr:write(what, ": ", tostring(err), " after ", done, " connections\n")
  os.exit(1)
end

local function next_one()
  if begun == count then return end
  begun = begun + 1
  local c, answered = uv.new_tcp(), false
  c:connect("127.0.0.1", port, function(err)
    if err then fail("connect", err) end
    c:write "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    c:read_start(function(read_err, data)
      if read_err or not data then fail("closed", read_err) end
      if answered then return end
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
