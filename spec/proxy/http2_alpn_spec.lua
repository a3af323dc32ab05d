--- Which protocol a connection comes to speak, on either side: by ALPN over TLS, by its first bytes without; and where that shows.
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local certificates, proxy

--- What came, and behind it the version that curl spoke; or its exit code.
local function curl(address, scheme, ...)
  local ip, port = address:match "([%d.]+):(%d+)$"
  local code, out, err = peers.curl("-w", "%{http_version}", "--cacert", certificates .. "/ca.pem", "--resolve", ("localhost:%s:%s"):format(port, ip),
    ("%s://localhost:%s/x"):format(scheme, port), ...)
  return code == 0 and out or code, err
end
local function counts()
  local sum = {}
  for _, w in ipairs(proxy:status().workers) do
    for k, v in pairs(w) do
      if type(v) == "number" then sum[k] = (sum[k] or 0) + v end
    end
  end
  return sum
end

setup(function() certificates = peers.certificates() end)

describe("a listener", function()
  local both, old, plain, plain_old = 1, 2, 3, 4
  local function at(n) return select(2, proxy:port_of(n)) end
  local function s_client(n, ...)
    local code, out, err = process.run { "sh", "-c", [[at=$1; shift; openssl s_client -connect "$at" -servername localhost "$@" </dev/null 2>&1]], "sh",
      at(n):match "[%d.]+:%d+$", ... }
    return out .. err, code
  end

  setup(function()
    local tls = ([[tls = { certificates = { { cert = "%s/rsa.pem", key = "%s/rsa.key" } } }]]):format(certificates, certificates)
    proxy = jeton.start(([[return {
      listen = { { "127.0.0.2:0", %s }, { "127.0.0.3:0", http2 = false, %s }, "127.0.0.4:0", { "127.0.0.1:0", http2 = false } },
      on_request = function(req) req:respond(200, nil, "jeton heard " .. req.version .. " curl got ") end,
      on_log = function(entry) jeton.log.info("logged " .. tostring(entry.version)) end,
    }]]):format(tls, tls))
  end)
  teardown(function() proxy:finish() end)

  it("speaks HTTP/2 to clients that offer it", function()
    assert.equal("jeton heard 2 curl got 2", curl(at(both), "https", "--http2"))
    assert.matches("ALPN protocol: h2", s_client(both, "-alpn", "h2"))
    assert.matches("ALPN protocol: h2", s_client(both, "-alpn", "http/1.1,h2"))
  end)
  it("speaks HTTP/1.1 to those that offer that alone, or nothing", function()
    assert.equal("jeton heard 1.1 curl got 1.1", curl(at(both), "https", "--http1.1"))
    assert.equal("jeton heard 1.1 curl got 1.1", curl(at(both), "https", "--no-alpn"))
    assert.matches("No ALPN negotiated", s_client(both))
  end)
  it("with http2 = false never speaks it", function()
    assert.equal("jeton heard 1.1 curl got 1.1", curl(at(old), "https", "--http2"))
    local text = s_client(old, "-alpn", "h2")
    assert.matches("no application protocol", text)
    assert.matches("ALPN protocol: http/1.1", s_client(old, "-alpn", "h2,http/1.1"))
  end)
  it("without TLS knows it by its preface", function()
    assert.equal("jeton heard 2 curl got 2", curl(at(plain), "http", "--http2-prior-knowledge"))
    assert.equal("jeton heard 1.1 curl got 1.1", curl(at(plain), "http", "--http1.1"))
  end)
  it("leaves Upgrade: h2c alone", function()
    assert.equal("jeton heard 1.1 curl got 1.1", curl(at(plain), "http", "--http2"))
  end)
  it("without TLS and with http2 = false takes the preface for a bad request", function()
    local bytes = http.raw(proxy:port_of(plain_old), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert.matches("^HTTP/1.1 505 ", bytes)
    assert.is_number(curl(at(plain_old), "http", "--http2-prior-knowledge"))
  end)
  it("resumes sessions whatever they spoke", function()
    local session = certificates .. "/session"
    for _, alpn in ipairs { "h2", "http/1.1", "h2" } do
      local text = s_client(both, "-tls1_2", "-alpn", alpn, alpn == "h2" and process.read_file(session) == "" and "-sess_out" or "-sess_in", session)
      assert.matches("ALPN protocol: " .. alpn, text)
    end
  end)
  it("shows it in the access log, in on_log, and in the counters", function()
    local before = counts()
    assert.equal("jeton heard 2 curl got 2", curl(at(plain), "http", "--http2-prior-knowledge"))
    process.poll(function() return proxy:output():find('"GET /x HTTP/2.0" 200', 1, true) end, 5, "the access log's line")
    assert.is_truthy(proxy:output():find('"GET /x HTTP/1.1" 200', 1, true))
    proxy:wait_log "logged 2"
    proxy:wait_log "logged 1.1"
    local after = counts()
    assert.equal(before.requests_h2 + 1, after.requests_h2)
    assert.equal(before.requests + 1, after.requests)
    process.poll(function() return counts().connections_h2 == 0 end, 5, "the connections to go")
    assert.equal(0, counts().streams)
  end)
end)
