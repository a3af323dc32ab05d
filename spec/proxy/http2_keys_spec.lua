--- The keys of HTTP/2: what scripts are told of a wrong one, and what becomes of an Upgrade, which HTTP/2 has not.
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local lab_of = require "spec.support.lab"
local peers = require "spec.support.peers"

local UPGRADE = { Connection = "Upgrade", Upgrade = "chat" }
local NOT_AUTO = [["auto" has no use over http://, since nothing tells there what a server speaks: write true for HTTP/2 with prior knowledge, or false]]

describe("http2 of jeton.http", function()
  local lab
  setup(function() lab = lab_of.start() end)
  teardown(function() lab:finish() end)

  it("is true, false or \"auto\"", function()
    for _, wrong in ipairs { "2", "'h2'", "{}" } do
      local message = lab:raises(("jeton.http.get('https://127.0.0.1:1/', { http2 = %s })"):format(wrong))
      assert.matches([[jeton%.http: http2: expected true, false or "auto", got]], message)
    end
  end)
  it("is not \"auto\" where there is no TLS", function()
    for _, url in ipairs { "http://127.0.0.1:1/", "unix:/nowhere" } do
      local message = lab:raises(("jeton.http.get(%q, { http2 = 'auto' })"):format(url))
      assert.is_truthy(message:find("jeton.http: http2: " .. NOT_AUTO, 1, true), message)
    end
  end)
  it("may be said of a call to a server that is not there", function()
    for _, mode in ipairs { "true", "false", "'auto'", "nil" } do
      local res, _, code = lab:run(("return jeton.http.get('https://127.0.0.1:1/', { http2 = %s })"):format(mode))
      assert.same({ nil, "ECONNREFUSED" }, { res, code })
    end
  end)
end)

describe("http2 = true of an upstream over http://", function()
  it("that speaks HTTP/1.1 is a 502 whose log line says what to write", function()
    local upstream = peers.raw [[c:read "head" c:write "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" c:close()]]
    local proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", http2 = true } }]]):format(upstream.port))
    assert.equal(502, http.get(proxy.port, "/").status)
    proxy:wait_log "the upstream answers by HTTP/1.1, and http2 = true allows HTTP/2 alone: write http2 = false"
    proxy:finish()
  end)
end)

describe("an Upgrade", function()
  it("to an upstream that is spoken to by HTTP/2 alone is a 502 that says why, and connects nobody", function()
    local upstream = peers.raw "c:read 'head'"
    local proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", http2 = true },
      on_error = function(req, err) jeton.log.info("code " .. err.code) end }]]):format(upstream.port))
    local res = http.get(proxy.port, "/", UPGRADE)
    assert.equal(502, res.status)
    assert.is_truthy(res.body:find("HTTP/2, which has no Upgrade, is all that this upstream may be spoken to by (http2 = true)", 1, true), res.body)
    proxy:wait_log "code UPGRADE"
    assert.equal("", upstream.received())
    proxy:finish()
  end)
  it("goes by HTTP/1.1 to those URLs of a list that \"auto\" does not hold for", function()
    local upstream = peers.raw [[c:read "head" c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello" c:close()]]
    local certificates = peers.certificates()
    local proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", "https://localhost:1", http2 = "auto",
      tls = { ca = "%s/ca.pem" } } }]]):format(upstream.port, certificates))
    for _ = 1, 2 do -- the other one refuses connections
      local bytes = http.raw(proxy.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
      assert.matches("^HTTP/1.1 101 .*hello$", bytes)
    end
    proxy:finish()
  end)
end)

describe("the version of HTTP", function()
  it("is that of the client in req.version, and that of the upstream in res.version", function()
    local upstream = peers.raw [[c:read "head" c:write "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n" c:close()]]
    local proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      on_response = function(res, req) res.headers.versions = req.version .. " " .. res.version end }]]):format(upstream.port))
    assert.equal("1.1 1.0", http.get(proxy.port).headers.versions)
    proxy:finish()
  end)
end)

describe("status", function()
  it("has http2 of each upstream, as it holds", function()
    local certificates = peers.certificates()
    local proxy = jeton.start(([[local tls = { ca = "%s/ca.pem" }
      return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", upstreams = { a = { "https://localhost:1", "http://127.0.0.1:1", tls = tls },
        b = { "http://127.0.0.1:1", http2 = true }, c = { "https://localhost:1", http2 = false, tls = tls } } }]]):format(certificates))
    local modes = {}
    for _, u in ipairs(proxy:status().upstreams) do modes[u.name] = u.http2 end
    assert.same({ default = false, a = "auto", b = true, c = false }, modes)
    proxy:finish()
  end)
end)
