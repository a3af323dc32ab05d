--- Which protocol a connection comes to speak, on either side: by ALPN over TLS, by its first bytes without; and where that shows.
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"

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
    process.poll(function()
      local now = counts()
      return now.connections_h2 == 0 and now.streams == 0
    end, 5, "the connections and streams to go")
  end)
end)

describe("the first bytes of a connection without TLS", function()
  local p
  local function client(...)
    local c = http.connect(p.port)
    for _, piece in ipairs { ... } do
      c:send(piece)
      socket.sleep(0.02) -- else they would come as one
    end
    return c
  end
  setup(function()
    p = jeton.start [[return { listen = "127.0.0.1:0", half_close = true, timeouts = { head = "2s" }, on_request = function(req)
      req:respond(200, nil, req.method .. " " .. (req:body() or ""))
    end }]]
  end)
  teardown(function() p:finish() end)

  it("are HTTP/1's as soon as they are no preface, in whatever pieces they come", function()
    for _, method in ipairs { "POST", "PROPFIND", "GET" } do
      local request, bytes = method .. " / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", {}
      for i = 1, 5 do bytes[i] = request:sub(i, i) end
      bytes[6] = request:sub(6)
      for _, pieces in ipairs { { request }, { request:sub(1, 1), request:sub(2) }, { request:sub(1, 2), request:sub(3) }, bytes } do
        local c = client(table.unpack(pieces))
        local res = c:read_response(method)
        assert.same({ 200, method .. " hi" }, { res.status, res.body })
        c:close()
      end
    end
  end)
  it("may be of several requests", function()
    local one = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    for _, pieces in ipairs { { one .. one .. one }, { "P", one:sub(2) .. one .. one }, { "PU", one:sub(3) .. one .. one:sub(1, 1), one:sub(2) } } do
      local c = client(table.unpack(pieces))
      for _ = 1, 3 do assert.equal("PUT ", c:read_response("PUT").body) end
      c:close()
    end
  end)
  it("have the time of a head, and so has what comes behind them", function()
    local began, clients = socket.gettime(), { client "P", client("P", "R"), client("P", "OST / ") }
    for i, c in ipairs(clients) do
      assert.matches(i == 3 and "^HTTP/1.1 408 " or "^$", c:read_all(8))
      local took = socket.gettime() - began
      assert.is_true(took > 1.8 and took < 6, took)
    end
  end)
  it("end with their client's FIN", function()
    local began = socket.gettime()
    local c = client "PR"
    c:finish()
    assert.equal("", c:read_all(5))
    assert.is_true(socket.gettime() - began < 1.8)
  end)
  it("keep a connection open that a drain finds", function()
    local own = jeton.start [[return { listen = "127.0.0.1:0", on_request = function(req) req:respond(200, nil, "fine") end }]]
    local silent, begun = http.connect(own.port), http.connect(own.port)
    begun:send "P"
    socket.sleep(0.1)
    own:kill "sigterm"
    assert.equal("", silent:read_all(5))
    begun:send "UT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    assert.equal("fine", begun:read_response("PUT").body)
    assert.equal(0, (own:wait(10)))
  end)
end)

--- nginx over TLS that says which protocol it was spoken to by; options of `listen`, and further directives.
local function nginx(options, more)
  return peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; %s
    location / { return 200 "$server_protocol upgrade=$http_upgrade via=$http_via\n"; }]]):format(certificates, certificates, more or ""), "ssl " .. options)
end

describe("an upstream over TLS", function()
  local new, old, dated
  local function start(server, http2, more)
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:%d", %s tls = { ca = "%s/ca.pem" } }, %s
      on_response = function(res) res.headers.spoken = res.version end }]]):format(server.port, http2 and ("http2 = %s,"):format(http2) or "", certificates, more or ""))
  end
  local function says(fields)
    local res = http.get(proxy.port, "/", fields)
    return res.status, res.headers.spoken, res.body:match "^HTTP/[%d.]+" or res.body
  end

  setup(function()
    new, old = nginx "http2", nginx ""
    dated = nginx("http2", "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES128-SHA256:@SECLEVEL=0;")
  end)
  after_each(function() proxy:finish() end)

  it("is spoken to by what it agrees to", function()
    for _, http2 in ipairs { false, '"auto"' } do
      start(new, http2)
      assert.same({ 200, "2", "HTTP/2.0" }, { says() })
      assert.same({ 200, "2", "HTTP/2.0" }, { says() })
      assert.equal(1, proxy:dialed())
      process.poll(function() return proxy:status().workers[1].upstream_h2 == 1 end, 5, "the gauge")
      proxy:finish()
    end
    start(old, '"auto"')
    assert.same({ 200, "1.1", "HTTP/1.1" }, { says() })
  end)
  it("with http2 = false is spoken to by HTTP/1.1", function()
    start(new, "false")
    assert.same({ 200, "1.1", "HTTP/1.1" }, { says() })
  end)
  it("with http2 = true that does not speak it is a 502 that says so in the log", function()
    start(old, "true")
    assert.equal(502, (says()))
    proxy:wait_log "the server does not speak HTTP/2 (ALPN)"
  end)
  it("gets an Upgrade by HTTP/1.1, and everything else by HTTP/2", function()
    start(new, '"auto"')
    local upgrade = { Connection = "Upgrade", Upgrade = "chat" }
    assert.same({ 200, "2", "HTTP/2.0" }, { says() })
    for _ = 1, 2 do
      local res = http.get(proxy.port, "/", upgrade)
      assert.equal("HTTP/1.1 upgrade=chat via=\n", res.body)
    end
    assert.same({ 200, "2", "HTTP/2.0" }, { says() })
    process.poll(function() return proxy:dialed() == 2 end, 5, "two connections, each used again")
  end)
  it("gets no Upgrade with http2 = true", function()
    start(new, "true")
    assert.same({ 200, "2", "HTTP/2.0" }, { says() })
    local res = http.get(proxy.port, "/", { Connection = "Upgrade", Upgrade = "chat" })
    assert.equal(502, res.status)
    assert.matches("has no Upgrade", res.body)
    assert.same({ 200, "2", "HTTP/2.0" }, { says() })
    assert.equal(1, proxy:dialed())
  end)
  it("whose suites are too old for HTTP/2 is spoken to by HTTP/1.1, or not at all", function()
    start(dated, '"auto"')
    assert.same({ 200, "1.1", "HTTP/1.1" }, { says() })
    assert.same({ 200, "1.1", "HTTP/1.1" }, { says() })
    proxy:finish()
    start(dated, "true")
    assert.equal(502, (says()))
  end)
  it("reads in Via by which protocol its client speaks (RFC 9110 section 7.6.3)", function()
    start(new, '"auto"', "via = true,")
    assert.equal("HTTP/2.0 upgrade= via=2 jeton\n2", curl("127.0.0.1:" .. proxy.port, "http", "--http2-prior-knowledge"))
    assert.equal("HTTP/2.0 upgrade= via=1.1 jeton\n1.1", curl("127.0.0.1:" .. proxy.port, "http"))
  end)
  it("of jeton.http is spoken to alike", function()
    start(new, '"auto"', ([[on_request = function(req)
      local mode = jeton.json.decode(req.query)
      if mode == jeton.json.null then mode = nil end
      local res, message = jeton.http.get("https://localhost:%d/", { tls = { ca = "%s/ca.pem" }, http2 = mode })
      req:respond(res and res.status or 502, nil, res and res.body or message) end,]]):format(new.port, certificates))
    local function by(mode) return http.get(proxy.port, "/?" .. mode).body:match "^[^ \n]+" end
    assert.equal("HTTP/2.0", by [["auto"]])
    assert.equal("HTTP/2.0", by "true")
    assert.equal("HTTP/1.1", by "false")
    assert.equal("HTTP/2.0", by "null")
  end)
end)
