--- Attacks on HTTP/2 (spec/security/h2/attacks.py): each is played against a proxy with one worker while another client goes on asking. The attacker's connection ends where it
--- may not go on, memory and processor stay within bounds, and the other client notices nothing. The release binary: a sanitizer keeps what was freed.
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local PYTHON, RUNNER = "/usr/bin/python3", "spec/security/h2/flood.py"
local names = {}
for line in assert(io.popen(("%s %s list"):format(PYTHON, RUNNER))):lines() do names[#names + 1] = line end
assert(#names > 30, "the runner lists no attacks")

--- /big is 300,000 bytes; /wait and /stall are never answered, and /stall is not read. The other client's /here is answered by a hook.
local UPSTREAM = [[
  while true do
    local head = c:read "head"
    if not head then return c:close() end
    if head:find("^%S+ /stall ") then return c:stop() end
    if head:find("^%S+ /wait ") then
      repeat local byte = c:read(1) until not byte
      return c:close()
    end
    local body = head:find("^%S+ /big ") and ("b"):rep(300000) or "hello, this is a body"
    if head:find("^POST ") then
      c:write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
      return c:close()
    end
    c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(#body) .. body)
  end]]

describe("a flood of HTTP/2", function()
  local proxy
  local verdicts = {}
  setup(function()
    local upstream = peers.raw(UPSTREAM)
    proxy = jeton.start { binary = os.getenv "JETON_RELEASE" or jeton.root .. "/build/release/jeton", policy = ([[return { listen = "127.0.0.1:0", workers = 1,
      upstream = "http://127.0.0.1:%d", log = { access = false }, timeouts = { head = "1s", body = "2s", send = "2s", idle = "5s" },
      on_request = function(req) if req.path == "/here" then req:respond(200, {}, "here") end end }]]):format(upstream.port) }
    local code, out, err = process.run({ PYTHON, RUNNER, "127.0.0.1", tostring(proxy.port), tostring(proxy.pid), tostring(process.stretched(1)) }, { timeout = 200 })
    assert(code == 0, err)
    for verdict, name, seen in out:gmatch "(%a+)\t([^\t\n]*)\t([^\n]*)" do verdicts[name] = { verdict, seen } end
  end)
  for _, name in ipairs(names) do
    it("costs the flooder: " .. name, function()
      local v = assert(verdicts[name], "it was not played")
      assert(v[1] == "ok", v[2])
    end)
  end
  it("leaves a proxy that ends well", function() proxy:finish() end)
end)
