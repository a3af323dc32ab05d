--- Every byte of a message leaves with the read that brought it: nothing waits for what comes next. In all framings, both directions, plain and TLS, with Debian's
--- python3-requests as a client that hands a piece on only when all of it, its CRLF included, is there (spec/support/peers/lockstep.py).
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local cjson = require "cjson"

local PYTHON, LOCKSTEP = "/usr/bin/python3", "spec/support/peers/lockstep.py"
local certs
setup(function() certs = peers.certificates() end)

describe("each piece of a message arrives before the next one is sent:", function()
  local upstream, ports, proxy
  setup(function()
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

--- The same with HTTP/2 on either side or both, over TLS on both: node's clients and server (spec/support/peers/lockstep.mjs).
describe("over TLS, each few bytes arrive before the next are sent:", function()
  local peer, ports, proxy
  setup(function()
    peer = process.start { "node", "spec/support/peers/lockstep.mjs", certs .. "/rsa.pem", certs .. "/rsa.key", certs .. "/ca.pem" }
    ports = cjson.decode(process.poll(function() return peer:ended() and error(peer:errors()) or peer:output():match "^(.-)\n" end, 20, "node"))
    proxy = jeton.start(([[
      local function upstream(http2) return { "https://127.0.0.1:%d", tls = { ca = %q }, http2 = http2 } end
      return {
        listen = { { "127.0.0.1:0", tls = { certificates = { { cert = %q, key = %q } } } } },
        upstreams = { h1 = upstream(false), h2 = upstream(true) },
        on_request = function(req) req.upstream = req.path:match "^/(%%w+)/" end,
      }]]):format(ports.server, certs .. "/ca.pem", certs .. "/rsa.pem", certs .. "/rsa.key"))
  end)

  for _, client in ipairs { "h1", "h2" } do
    for _, upstream in ipairs { "h1", "h2" } do
      for kind, what in pairs { events = "server-sent events", upload = "an upload", both = "both ways of one request" } do
        it(("%s, %s to %s"):format(what, client, upstream), function()
          local base = ("https://localhost:%d/%s"):format(proxy.port, upstream)
          local res = http.request(math.tointeger(ports.control), "GET", ("/run?client=%s&kind=%s&base=%s"):format(client, kind, base), nil, nil, 30)
          assert.equal(200, res.status, res.body)
          local got = cjson.decode(res.body)
          assert.same({ 20, upstream == "h2" and "2.0" or "1.1" }, { got.pieces, got.version })
          assert.is_true(got.worst < 1000 * process.stretched(0.3), ("%d ms"):format(got.worst // 1))
        end)
      end
    end
  end
  it("and the proxy ends well", function()
    proxy:finish()
    peer:stop()
  end)
end)
