--- TLS as users meet it: nginx as the upstream, curl as the client, certificates of a throw-away authority (spec/support/ca.sh).
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"

describe("TLS", function()
  local dir
  setup(function() dir = peers.certificates() end)

  describe("to an upstream", function()
    --- nginx with that certificate, and a proxy in front of it that puts a token on each request
    local function start(certificate, upstream_keys, host)
      local nginx = peers.nginx(([[
        ssl_certificate %s/%s.pem; ssl_certificate_key %s/%s.key; ssl_client_certificate %s/ca.pem; ssl_verify_client optional;
        location / { return 200 "$ssl_client_s_dn|$http_authorization"; }]]):format(dir, certificate, dir, certificate:gsub("lone", "chained"), dir), "ssl")
      local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "https://%s:%d", %s },
        tokens = { api = { fetch = function() return { value = "t0ken", expires_in = 60 } end } },
        on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end }]]):format(
        host or "localhost", nginx.port, upstream_keys or ("tls = { ca = %q }"):format(dir .. "/ca.pem")))
      return p, nginx
    end

    for _, good in ipairs { "rsa", "ecdsa", "chained" } do
      it("with a good certificate (" .. good .. ") relays, and the token arrives", function()
        local p = start(good)
        for _ = 1, 3 do
          local res = http.get(p.port)
          assert.equal(200, res.status)
          assert.equal("|Bearer t0ken", res.body)
        end
        assert.equal(1, p:dialed())
        p:finish()
      end)
    end

    it("by its address wants the address in the certificate", function()
      local p = start("rsa", nil, "127.0.0.1")
      assert.equal(200, http.get(p.port).status)
      p:finish()
      p = start("dns-only", nil, "127.0.0.1")
      assert.equal(502, http.get(p.port).status)
      p:finish()
    end)

    for bad, reason in pairs {
      expired = "expired", future = "not valid", ["wrong-name"] = "other.example", ["self-signed"] = "", foreign = "", lone = "",
      ["no-name"] = "", limited = "name constraints", ["limited-hard"] = "name constraints", ["mail-only"] = "not meant for this use",
    } do
      it("whose certificate is " .. bad .. " gives 502, and no byte of the request arrives", function()
        local p, nginx = start(bad)
        local res = http.get(p.port, "/sent")
        assert.equal(502, res.status)
        p:wait_log "upstream default"
        assert.is_truthy(p:errors():find(reason, 1, true), p:errors())
        p:finish()
        assert.is_nil(nginx.log():find("/sent", 1, true))
      end)
    end

    it("is not verified only under a name that says so, with a warning, and in status", function()
      local p = start("expired", 'tls = { verify = false, insecure = "a spec looks at it" }')
      assert.equal(200, http.get(p.port).status)
      assert.equal("a spec looks at it", p:status().upstreams[1].insecure)
      assert.same({ "a spec looks at it" }, p:status().tls.insecure)
      assert.matches("NOT VERIFIED %(a spec looks at it%)", select(2, jeton.run { "status", "--control", p.control_path }))
      p:wait_log "certificates are not verified (\"a spec looks at it\")"
      assert.equal(0, (jeton.run { "reload", "--control", p.control_path }))
      process.poll(function() return select(2, p:errors():gsub("Z warn  [^\n]-policy.lua:%d+: upstream.tls.insecure: certificates", "")) == 2 end, 5, "a warning for each load, as a line of the log")
      p:finish()
    end)

    it("is not verified by jeton.http either but under a name, with a warning, and in status", function()
      local nginx = peers.nginx(([[ssl_certificate %s/expired.pem; ssl_certificate_key %s/expired.key; location / { return 200 "hello"; }]]):format(dir, dir), "ssl")
      local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_request = function(req)
        local tls = req.path == "/lax" and { verify = false, insecure = "a trial" } or { ca = %q }
        local res, why = jeton.http.get("https://localhost:%d/", { tls = tls })
        req:respond(200, nil, res and res.body or why)
      end }]]):format(dir .. "/ca.pem", nginx.port))
      assert.matches("certificate expired on 2020%-01%-02", http.get(p.port, "/").body)
      assert.same({}, p:status().tls.insecure)
      for _ = 1, 2 do assert.equal("hello", http.get(p.port, "/lax").body) end
      p:wait_log "jeton.http: tls: certificates are not verified (a trial)"
      assert.same({ "a trial" }, p:status().tls.insecure)
      p:finish()
    end)

    it("is verified by the system's authorities, or by those in the file that SSL_CERT_FILE names", function()
      local nginx = peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; location / { return 200 "hello"; }]]):format(dir, dir), "ssl")
      local policy = ('return { listen = "127.0.0.1:0", upstream = "https://localhost:%d" }'):format(nginx.port)
      for file, status in pairs { ["ca.pem"] = 200, ["other-ca.pem"] = 502 } do
        local p = jeton.start { policy = policy, env = { SSL_CERT_FILE = dir .. "/" .. file } }
        assert.equal(status, http.get(p.port).status)
        p:finish()
      end
      local path = process.write_file(dir .. "/policy.lua", policy)
      local code, _, err = jeton.run({ "check", path }, { env = { SSL_CERT_FILE = "/nonexistent/ca.pem" } })
      assert.equal(78, code)
      assert.matches("/nonexistent/ca.pem: no such file", err)
    end)

    it("is not asked for by a name that no certificate has", function()
      for _, name in ipairs { "https://localhost", "localhost:443", "[::1]", "b\\195\\188cher.example", "a b", ("x"):rep(300), "a..b" } do
        local path = process.write_file(dir .. "/policy.lua", ('return { listen = "127.0.0.1:0", upstream = { "https://localhost:1", tls = { ca = %q, server_name = "%s" } } }'):format(dir .. "/ca.pem", name))
        local code, _, err = jeton.run { "check", path }
        assert.equal(78, code, err)
        assert.matches("policy.lua:1: upstream.tls: server_name .*: expected a host name such as api.internal", err)
      end
    end)

    it("that jeton.http is told of in ever other ways costs memory for 64 of them", function()
      local p = jeton.start([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", workers = 1, limits = { script_time = "30s" }, on_request = function(req)
        for i = 1, 150 do jeton.http.get("https://127.0.0.1:1/", { tls = { verify = false, insecure = "n" .. i } }) end
        req:respond(200, nil, "tried")
      end }]])
      assert.equal("tried", http.get(p.port).body)
      local left = #p:status().tls.insecure
      assert.is_true(left > 0 and left <= 64, tostring(left))
      p:finish()
    end)

    it("presents a client certificate", function()
      local p = start("rsa", ("tls = { ca = %q, cert = %q, key = %q }"):format(dir .. "/ca.pem", dir .. "/client.pem", dir .. "/client.key"))
      assert.matches("CN=", http.get(p.port).body)
      p:finish()
    end)

    it("that wants a client certificate and gets none gives 502, and the log says so, though it hung up while we spoke", function()
      local server = process.start { "node", "-e", ([[
        const fs = require("fs"), file = name => fs.readFileSync(%q + "/" + name);
        const server = require("tls").createServer({ cert: file("ecdsa.pem"), key: file("ecdsa.key"), ca: file("ca.pem"), requestCert: true,
          rejectUnauthorized: true, maxVersion: "TLSv1.2" }, socket => socket.end());
        server.on("tlsClientError", () => {}).listen(0, "127.0.0.1", () => console.log("port " + server.address().port));]]):format(dir) }
      local port = process.poll(function() return server:output():match "port (%d+)\n" end, 10, "the server")
      local p = jeton.start(('return { listen = "127.0.0.1:0", upstream = { "https://localhost:%s", tls = { ca = %q } } }'):format(port, dir .. "/ca.pem"))
      for n = 1, 8 do -- of more of one kind the log has their number only
        assert.equal(502, http.get(p.port).status)
        process.poll(function() return select(2, p:errors():gsub("502: [^\n]*no certificate from us", "")) == n end, 5, function() return p:errors() end)
      end
      p:finish()
      server:stop()
    end)

    it("with another public key than the pinned one gives 502", function()
      local pin = process.read_file(dir .. "/ecdsa.pin"):match "%S+"
      local p = start("ecdsa", ("tls = { ca = %q, pins = { %q } }"):format(dir .. "/ca.pem", pin))
      assert.equal(200, http.get(p.port).status)
      p:finish()
      p = start("rsa", ("tls = { ca = %q, pins = { %q } }"):format(dir .. "/ca.pem", pin))
      assert.equal(502, http.get(p.port).status)
      local _, own = process.run { "sh", "-c", "openssl x509 -noout -pubkey -in " .. dir .. "/rsa.pem | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64" }
      p:wait_log("certificate matches none of the pins; its own is sha256/" .. own:match "%S+")
      p:finish()
    end)

    it("that ends its reply without close_notify is seen by the client as a reply that was cut short", function()
      local fifo = dir .. "/fifo"
      assert.equal(0, (process.run { "mkfifo", fifo }))
      local server = process.start { "sh", "-c", ("exec openssl s_server -accept 127.0.0.1:0 -naccept 1 -cert %s/rsa.pem -key %s/rsa.key <%s"):format(dir, dir, fifo) }
      local input = assert(io.open(fifo, "w"))
      local function says(pattern) return process.poll(function() return server:output():match(pattern) end, 10, pattern) end
      local p = jeton.start(('return { listen = "127.0.0.1:0", upstream = { "https://localhost:%s", tls = { ca = %q } } }'):format(
        says "ACCEPT 127%.0%.0%.1:(%d+)\n", dir .. "/ca.pem"))
      local c = http.connect(p.port)
      c:send "GET /the-request HTTP/1.1\r\nHost: a\r\n\r\n"
      says "the%-request"
      input:write "HTTP/1.1 200 OK\r\n\r\nhalf of it" -- as long as the connection
      input:flush()
      process.poll(function()
        c.rest = c.rest .. c:read_all(0.05)
        return c.rest:find("half of it", 1, true)
      end, 10, "the first half")
      server:kill "sigkill" -- its socket is closed, no more
      local res = c:read_response("GET", 10)
      assert.equal(200, res.status)
      assert.is_truthy(res.broken)
      input:close()
      c:close()
      p:finish()
    end)

    it("that answers with garbage instead of a handshake gives 502", function()
      local raw = peers.raw [[c:write("SSH-2.0-garbage\r\n") c:sleep(200) c:close()]]
      local p = jeton.start(('return { listen = "127.0.0.1:0", upstream = { "https://localhost:%d", tls = { ca = %q } } }'):format(raw.port, dir .. "/ca.pem"))
      assert.equal(502, http.get(p.port).status)
      p:finish()
    end)

    it("that stalls the handshake gives 504 in time", function()
      local raw = peers.raw [[c:sleep(10000)]]
      local p = jeton.start(([[return { listen = "127.0.0.1:0", timeouts = { connect = "300ms" },
        upstream = { "https://localhost:%d", tls = { ca = %q } } }]]):format(raw.port, dir .. "/ca.pem"))
      assert.equal(504, http.get(p.port).status)
      p:finish()
    end)
  end)

  describe("of a listener", function()
    local nginx
    setup(function() nginx = peers.nginx [[location / { return 200 "$http_x_forwarded_proto"; }]] end)

    local function start(keys, hooks)
      return jeton.start(([[return { listen = { { "127.0.0.1:0", tls = { certificates = { %s }, %s } } }, upstream = "http://127.0.0.1:%d", forwarded = "set", %s }]]):format(
        ("{ cert = %q, key = %q }, { cert = %q, key = %q }"):format(dir .. "/rsa.pem", dir .. "/rsa.key", dir .. "/exact.pem", dir .. "/exact.key"),
        keys or "", nginx.port, hooks or ""))
    end
    local function curl(...) return peers.curl("--cacert", dir .. "/ca.pem", ...) end

    it("serves curl, says https to the upstream, and chooses the certificate by name", function()
      local p = start()
      local code, out, err = curl(("https://localhost:%d/"):format(p.port))
      assert.equal(0, code, err)
      assert.equal("https", out)
      code = curl("--connect-to", ("a.example.com:443:127.0.0.1:%d"):format(p.port), "https://a.example.com/")
      assert.equal(0, code)
      p:finish()
    end)

    it("asks for a client certificate and tells the policy who it is", function()
      local p = start(('client_ca = %q, client_required = true'):format(dir .. "/ca.pem"),
        [[on_request = function(req) req:respond(200, nil, req.client.tls.subject .. " " .. tostring(req.client.tls.verified)) end]])
      local url = ("https://localhost:%d/"):format(p.port)
      assert.is_not.equal(0, (curl(url)))
      -- It is told, not only hung up on. In 1.3 mbedTLS 3.6 tells it with a key that its peer has left behind.
      assert.matches("alert", (select(3, curl("--tls-max", "1.2", url))))
      assert.is_not.equal(0, (curl("--cert", dir .. "/foreign-client.pem", "--key", dir .. "/foreign-client.key", url)))
      local code, out, err = curl("--cert", dir .. "/client.pem", "--key", dir .. "/client.key", url)
      assert.equal(0, code, err)
      assert.matches("true$", out)
      p:finish()
    end)

    it("serves its first certificate to who asks for a name that it has not, or for none", function()
      local p = start()
      for _, name in ipairs { "-servername elsewhere.example", "-noservername" } do
        local _, out = process.run { "sh", "-c", ("openssl s_client -connect 127.0.0.1:%d %s </dev/null 2>&1 | openssl x509 -noout -subject -serial"):format(p.port, name) }
        local _, serial = process.run { "openssl", "x509", "-noout", "-subject", "-serial", "-in", dir .. "/rsa.pem" }
        assert.equal(serial, out)
      end
      p:finish()
    end)

    it("has the first certificate's names with another kind of key for who asks for no name, too", function()
      local p = jeton.start(([[return { listen = { { "127.0.0.1:0", tls = { certificates = { { cert = %q, key = %q }, { cert = %q, key = %q }, { cert = %q, key = %q } } } } },
        upstream = "http://127.0.0.1:%d" }]]):format(dir .. "/ecdsa.pem", dir .. "/ecdsa.key", dir .. "/exact.pem", dir .. "/exact.key", dir .. "/rsa.pem", dir .. "/rsa.key", nginx.port))
      for _, name in ipairs { "-servername localhost", "-servername elsewhere.example", "-noservername" } do
        for certificate, cipher in pairs { rsa = "ECDHE-RSA-AES128-GCM-SHA256", ecdsa = "ECDHE-ECDSA-AES128-GCM-SHA256" } do
          local _, out = process.run { "sh", "-c", ("openssl s_client -connect 127.0.0.1:%d -tls1_2 -cipher %s %s </dev/null 2>&1 | openssl x509 -noout -serial"):format(p.port, cipher, name) }
          local _, serial = process.run { "openssl", "x509", "-noout", "-serial", "-in", ("%s/%s.pem"):format(dir, certificate) }
          assert.equal(serial, out, name .. " with " .. cipher)
        end
      end
      p:finish()
    end)

    it("lets clients without a certificate in when it is optional, but none with a bad one", function()
      local p = start(('client_ca = %q'):format(dir .. "/ca.pem"),
        [[on_request = function(req) local tls = req.client.tls req:respond(200, nil, tls.subject .. " " .. tostring(tls.verified)) end]])
      local url = ("https://localhost:%d/"):format(p.port)
      local function as(name) return curl("--cert", dir .. "/" .. name .. ".pem", "--key", dir .. "/" .. name .. ".key", url) end
      assert.equal(" false", select(2, curl(url)))
      assert.equal("CN=reports true", select(2, as "client"))
      for _, bad in ipairs { "foreign-client", "expired-client", "rsa", "self-signed" } do
        local code, out = as(bad)
        assert.is_not.equal(0, code)
        assert.equal("", out)
      end
      p:finish()
    end)

    it("logs whose certificate it refused and why, and counts every handshake that failed", function()
      local p = start(('client_ca = %q, client_required = true'):format(dir .. "/ca.pem"))
      local url = ("https://localhost:%d/"):format(p.port)
      for bad, reason in pairs { ["foreign-client"] = "unknown certificate authority: CN=another test CA", ["expired-client"] = "client certificate expired on 2020%-01%-02",
        rsa = "[^\n]*certificate is not meant for this use" } do
        assert.is_not.equal(0, (curl("--cert", dir .. "/" .. bad .. ".pem", "--key", dir .. "/" .. bad .. ".key", url)))
        process.poll(function() return p:errors():match("info  TLS handshake with 127.0.0.1 failed: " .. reason) end, 5, reason)
      end
      assert.is_not.equal(0, (curl(url))) -- shows none, as every scanner: only counted
      http.raw(p.port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 2)
      local function failed() return p:status().workers[1].handshakes_failed end
      process.poll(function() return failed() == 5 end, 5, failed)
      assert.equal(3, (select(2, p:errors():gsub("TLS handshake with", ""))))
      p:finish()
    end)

    it("refuses TLS 1.1", function()
      local p = start()
      assert.is_not.equal(0, (curl("--tls-max", "1.1", ("https://localhost:%d/"):format(p.port))))
      p:finish()
    end)

    it("answers many clients that come at once", function()
      local p = start()
      local urls = {}
      for i = 1, 150 do urls[i] = ("https://localhost:%d/%d"):format(p.port, i) end
      local code, out, err = curl("-Z", "--parallel-immediate", "--parallel-max", "150", "-H", "Connection: close", "--max-time", "60", table.unpack(urls))
      assert.equal(0, code, err)
      assert.equal(("https"):rep(150), out)
      p:finish()
    end)

    it("bounds the handshakes under way: more clients wait, and those that stall are given up sooner", function()
      local p = start(nil, 'limits = { handshakes = 2 }, timeouts = { handshake = "60s" },')
      local stalled = { http.connect(p.port), http.connect(p.port) }
      process.poll(function() return p:status().workers[1].connections == 2 end, 5, "both to be accepted")
      stalled[3] = http.connect(p.port) -- in the kernel's queue
      local before = socket.gettime()
      local code, _, err = curl(("https://localhost:%d/"):format(p.port))
      assert.equal(0, code, err)
      assert.is_true(socket.gettime() - before > 0.5, "it had to wait for a place")
      for _, c in ipairs(stalled) do c:close() end
      p:finish()
    end)

    it("tells who speaks HTTP in the clear that it wants HTTPS", function()
      local p = start()
      local code, out, err = peers.curl("-i", ("http://127.0.0.1:%d/secret"):format(p.port))
      assert.equal(0, code, err)
      assert.matches("^HTTP/1.1 400 Bad Request\r\n.*this port speaks HTTPS only\n$", out)
      assert.equal(0, (curl(("https://localhost:%d/"):format(p.port))))
      p:finish()
    end)

    it("survives garbage and a client that stalls", function()
      local p = start(nil, 'timeouts = { handshake = "300ms" },')
      http.raw(p.port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 2)
      local _, why = http.raw(p.port, "\22\3\1", 3)
      assert.equal("closed", why)
      assert.equal(0, (curl(("https://localhost:%d/"):format(p.port))))
      p:finish()
    end)
  end)
end)
