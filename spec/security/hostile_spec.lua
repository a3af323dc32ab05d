--- Servers of HTTP/2 that answer wrongly, or flood (spec/security/h2/servers.py), behind a proxy for clients of HTTP/1.1: what is no reply is a 502, what is cut looks cut, nothing of it
--- is believed, and the next request is served. The release binary: a sanitizer keeps what was freed.
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local PYTHON, RUNNER = "/usr/bin/python3", "spec/security/h2/hostile.py"
local names = {}
for line in assert(io.popen(("%s %s list"):format(PYTHON, RUNNER))):lines() do names[#names + 1] = line end
assert(#names > 90, "the runner lists no cases")

describe("a server of HTTP/2", function()
  local proxy
  local verdicts = {}
  setup(function()
    local port = peers.free_port()
    proxy = jeton.start { binary = os.getenv "JETON_RELEASE" or jeton.root .. "/build/release/jeton", policy = ([[return { listen = "127.0.0.1:0", log = { access = false },
      upstream = { "http://127.0.0.1:%d", http2 = true, timeouts = { first_byte = "2s", response = "2s", send = "2s" } } }]]):format(port) }
    local code, out, err = process.run({ PYTHON, RUNNER, tostring(proxy.port), tostring(port), tostring(proxy.pid), tostring(process.stretched(1)) }, { timeout = 120 })
    assert(code == 0, err)
    for verdict, name, why in out:gmatch "(%a+)\t([^\t\n]*)\t([^\n]*)" do verdicts[name] = { verdict, why } end
  end)
  for _, name in ipairs(names) do
    it("is not believed, and does no harm: " .. name, function()
      local v = assert(verdicts[name], "it was not played")
      assert(v[1] == "ok", v[2])
    end)
  end
  it("leaves a proxy that ends well", function() proxy:finish() end)
end)
