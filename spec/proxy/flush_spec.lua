--- Every byte of a message leaves with the read that brought it: nothing waits for what comes next. In all framings, both directions, plain and TLS, with Debian's
--- python3-requests as a client that hands a piece on only when all of it, its CRLF included, is there (spec/support/peers/lockstep.py).
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local cjson = require "cjson"

local PYTHON, LOCKSTEP = "/usr/bin/python3", "spec/support/peers/lockstep.py"

describe("each piece of a message arrives before the next one is sent:", function()
  local certs, upstream, ports, proxy
  setup(function()
    certs = peers.certificates()
    upstream = process.start { PYTHON, LOCKSTEP, "server", certs .. "/rsa.pem", certs .. "/rsa.key" }
    ports = cjson.decode(process.poll(function() return upstream:ended() and error(upstream:errors()) or upstream:output():match "^(.-)\n" end, 20, "the upstream"))
    proxy = jeton.start(([[
      return {
        listen = { "127.0.0.1:0", { "[::]:0", tls = { certificates = { { cert = %q, key = %q } } } } },
        upstreams = { plain = "http://127.0.0.1:%d", tls = { "https://127.0.0.1:%d", tls = { ca = %q } } },
        on_request = function(req) req.upstream = req.path:match "^/(%%a+)/" end,
      }]]):format(certs .. "/rsa.pem", certs .. "/rsa.key", ports.plain, ports.tls, certs .. "/ca.pem"))
  end)

  local function check(kind, sizes)
    local hows = {}
    for _, size in ipairs(sizes) do hows[#hows + 1] = kind .. "." .. size end
    local bases = {}
    for _, to in ipairs { "plain", "tls" } do
      bases[#bases + 1] = ("http://127.0.0.1:%d/%s"):format(proxy.port, to)
      bases[#bases + 1] = ("https://localhost:%d/%s"):format(proxy:port_of(2), to)
    end
    local argv = { PYTHON, LOCKSTEP, "client", tostring(math.tointeger(ports.control)), certs .. "/ca.pem", table.unpack(bases) }
    table.move(hows, 1, #hows, #argv + 1, argv)
    local code, out, err = process.run(argv, { timeout = 70 })
    assert.equal(0, code, err)
    assert.is_nil(out:match "FAILED[^\n]*", out)
    assert.equal(#hows * #bases, select(2, out:gsub("ok ", "")), out)
  end

  for _, framing in ipairs { "length", "chunked", "close", "events" } do
    it("a reply's, " .. framing, function()
      -- Small ones, some that one read does not bring whole, and single bytes, with those of chunk lines apart.
      check("reply." .. framing, framing == "events" and { 8, 3000 } or { 8, 3000, 100000, "drip" })
    end)
  end
  for _, framing in ipairs { "length", "chunked" } do
    it("a request's, " .. framing, function() check("request." .. framing, { 8, 3000, 100000, "drip" }) end)
  end
  it("and the proxy ends well", function()
    proxy:finish()
    upstream:stop()
  end)
end)
