--- Servers of HTTP/2 that answer wrongly, or flood (spec/security/h2/servers.py), behind a proxy for clients of HTTP/1.1: what is no reply is a 502, what is cut looks cut, nothing of it
--- is believed, and the next request is served. The release binary: a sanitizer keeps what was freed.
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local verdicts = require "spec.support.verdicts"

local names = verdicts.names("hostile.py", 90)

describe("a server of HTTP/2", function()
  local proxy, played
  setup(function()
    local port = peers.free_port()
    proxy = jeton.start { binary = os.getenv "JETON_RELEASE" or jeton.root .. "/build/release/jeton", policy = ([[return { listen = "127.0.0.1:0", log = { access = false },
      upstream = { "http://127.0.0.1:%d", http2 = true, timeouts = { first_byte = "2s", response = "2s", send = "2s" } } }]]):format(port) }
    played = verdicts.play("hostile.py", { proxy.port, port, proxy.pid, process.stretched(1) }, 120)
  end)
  for _, name in ipairs(names) do
    it("is not believed, and does no harm: " .. name, function() verdicts.check(played, name) end)
  end
  it("leaves a proxy that ends well", function() proxy:finish() end)
end)
