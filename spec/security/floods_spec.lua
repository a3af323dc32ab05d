--- Attacks on HTTP/2 (spec/security/h2/attacks.py): each is played against a proxy with one worker while another client goes on asking. The attacker's connection ends where it
--- may not go on, memory and processor stay within bounds, and the other client notices nothing. The release binary: a sanitizer keeps what was freed.
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local verdicts = require "spec.support.verdicts"

local names = verdicts.names("flood.py", 30)

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
  local proxy, played
  setup(function()
    local upstream = peers.raw(UPSTREAM)
    proxy = jeton.start { binary = os.getenv "JETON_RELEASE" or jeton.root .. "/build/release/jeton", policy = ([[return { listen = "127.0.0.1:0", workers = 1,
      upstream = "http://127.0.0.1:%d", log = { access = false }, timeouts = { head = "1s", body = "2s", send = "2s", idle = "5s" },
      on_request = function(req) if req.path == "/here" then req:respond(200, {}, "here") end end }]]):format(upstream.port) }
    played = verdicts.play("flood.py", { "127.0.0.1", proxy.port, proxy.pid, process.stretched(1) }, 200)
  end)
  for _, name in ipairs(names) do
    it("costs the flooder: " .. name, function() verdicts.check(played, name) end)
  end
  it("leaves a proxy that ends well", function() proxy:finish() end)
end)
