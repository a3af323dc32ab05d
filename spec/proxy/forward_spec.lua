--- jeton as a forward proxy: absolute-form targets and CONNECT, with curl before it and nginx behind it; who may be reached, and who gets a token.
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local certs
setup(function() certs = peers.certificates() end)

--- A forward proxy; `forward` are the keys of that table, `more` those beside it, as Lua text.
local function policy(forward, more) return ("return { listen = '127.0.0.1:0', forward = { %s }, %s }"):format(forward, more or "") end
local function start(forward, more, options)
  options = options or {}
  options.policy = policy(forward, more)
  return jeton.start(options)
end
--- Forwarding to localhost, whose address is allowed.
local function to_local(what, port, more, extra)
  return start(("%s = { 'localhost:%d' }, private = { '127.0.0.1', '::1' }, %s"):format(what, port, extra or ""), more)
end

--- One request with this target; all that comes back.
local function ask(p, target, fields, method)
  local c = http.connect(p.port)
  c:send(("%s %s HTTP/1.1\r\nHost: other.example\r\n%sConnection: close\r\n\r\n"):format(method or "GET", target, fields or ""))
  local res = assert(c:read_response(method or "GET"))
  c:close()
  return res
end
local function connect(p, target, fields)
  local c = http.connect(p.port)
  c:send(("CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n"):format(target, target, fields or ""))
  return c
end
--- The reply's head to a CONNECT; what is behind it stays to be read.
local function head(c)
  local text = ""
  while not text:find("\r\n\r\n", 1, true) do text = text .. assert(c.sock:receive(1)) end
  return text
end
local function open(p, target)
  local c = connect(p, target)
  assert.equal("HTTP/1.1 200 Connection established\r\n\r\n", head(c))
  return c
end

describe("a request with an absolute target", function()
  local nginx
  setup(function()
    nginx = peers.nginx [[ location / { return 200 "$request_uri|$http_host|$http_proxy_authorization|$http_authorization|$http_proxy_connection"; } ]]
  end)

  it("of curl goes to the host that it names, whose path and Host it has", function()
    local p = to_local("hosts", nginx.port)
    for _ = 1, 3 do
      local code, out, err = peers.curl("-x", "http://127.0.0.1:" .. p.port, ("http://localhost:%d/a?b=c"):format(nginx.port))
      assert.equal(0, code, err)
      assert.equal(("/a?b=c|localhost:%d|||"):format(nginx.port), out)
    end
    assert.equal(1, p:dialed()) -- the connection is kept
    p:finish()
    assert.matches('"GET http://localhost:%d+/a%?b=c HTTP/1.1" 200 .- forward ', p:output())
  end)
  it("is answered through Via, too, where the policy says so", function()
    local upstream = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 200 OK\r\nVia: 1.1 other\r\nContent-Length: 0\r\n\r\n" break end ]]
    for _, case in ipairs { { "via = true", { "1.1 jeton", "1.1 other", "1.0 jeton" } }, { "", { "1.1 other" } } } do
      local p = to_local("hosts", upstream.port, case[1])
      local all, seen = wire.exchange(p.port, ("GET http://localhost:%d/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):format(upstream.port)), {}
      for via in all:gmatch "\r\nVia: ([^\r]+)" do seen[#seen + 1] = via end
      assert.same(case[2], seen)
      p:finish()
    end
  end)
  it("goes by the target, whatever Host says, in any case", function()
    local p = to_local("hosts", nginx.port)
    local res = ask(p, ("HTTP://LocalHost:%d"):format(nginx.port))
    assert.same({ 200, ("/|LocalHost:%d|||"):format(nginx.port) }, { res.status, res.body })
    p:finish()
  end)
  it("goes to an address that is listed itself, and a private one needs nothing else", function()
    local p = start(("hosts = { '127.0.0.1:%d' }"):format(nginx.port))
    assert.equal(200, ask(p, ("http://127.0.0.1:%d/"):format(nginx.port)).status)
    p:finish()
  end)
  it("has a body in both directions", function()
    local echo = peers.raw [[
      local h = c:read "head"
      local body = c:read(tonumber(h:match "Content%-Length: (%d+)"))
      c:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body) c:close() ]]
    local p = to_local("hosts", echo.port)
    local big = ("0123456789abcdef"):rep(64 * 1024)
    local file = process.write_file(process.temp_dir() .. "/big", big)
    local code, out, err = peers.curl("-x", "http://127.0.0.1:" .. p.port, "--data-binary", "@" .. file, ("http://localhost:%d/"):format(echo.port))
    assert.equal(0, code, err)
    assert.is_true(out == big)
    p:finish()
  end)
  it("of https is sent over TLS that jeton makes and verifies, with a token for that host", function()
    local secure = peers.nginx(([[ ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key;
      location / { return 200 "$https|$http_host|$http_authorization"; } ]]):format(certs, certs), "ssl")
    local p = to_local("hosts", secure.port, ([[
      tokens = { api = { fetch = function() return { value = "t0ken", expires_in = 60 } end, hosts = { "localhost:%d" } } },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
    ]]):format(secure.port), ("tls = { ca = %q }"):format(certs .. "/ca.pem"))
    local res = ask(p, ("https://localhost:%d/x"):format(secure.port))
    assert.same({ 200, ("on|localhost:%d|Bearer t0ken"):format(secure.port) }, { res.status, res.body })
    assert.equal(500, ask(p, ("http://localhost:%d/x"):format(secure.port)).status) -- the same host and port, but plain: no token
    p:finish()
  end)
  it("of https with verification turned off by name is said to be so at each load and in the status", function()
    local secure = peers.nginx(([[ ssl_certificate %s/self-signed.pem; ssl_certificate_key %s/self-signed.key; location / { return 200 "unsafe"; } ]]):format(certs, certs), "ssl")
    local p = to_local("hosts", secure.port, nil, "tls = { verify = false, insecure = 'a lab' }")
    assert.equal("unsafe", ask(p, ("https://localhost:%d/"):format(secure.port)).body)
    assert.same({ hosts = true, connect = false, insecure = "a lab" }, p:status().forward)
    assert.is_truthy(p:errors():find("forward.tls.insecure: certificates are not verified", 1, true))
    p:finish()
  end)
  it("of https whose certificate is no good is a 502, and nothing of it arrives", function()
    local secure = peers.nginx(([[ ssl_certificate %s/wrong-name.pem; ssl_certificate_key %s/wrong-name.key; location / { return 200; } ]]):format(certs, certs), "ssl")
    local p = to_local("hosts", secure.port, nil, ("tls = { ca = %q }"):format(certs .. "/ca.pem"))
    assert.equal(502, ask(p, ("https://localhost:%d/x"):format(secure.port)).status)
    assert.equal("", secure.log())
    p:finish()
  end)
  it("to a host that does not answer is a 502", function()
    local port = peers.free_port()
    local p = to_local("hosts", port)
    assert.equal(502, ask(p, ("http://localhost:%d/"):format(port)).status)
    p:finish()
  end)
  it("to a host that is not listed is a 403 that says so, in text or JSON", function()
    local p = to_local("hosts", nginx.port)
    local res = ask(p, "http://example.com/")
    assert.equal(403, res.status)
    assert.matches("^403 Forbidden: the policy does not forward to this host and port\n", res.body)
    res = ask(p, "http://example.com/", "Accept: application/json\r\n")
    assert.matches('"message":"the policy does not forward to this host and port"', res.body, 1, true)
    p:finish()
  end)
  it("may be an upgrade, which becomes a tunnel", function()
    local peer = peers.raw [[
      assert(c:read "head":find "^GET /chat HTTP/1.1\r\n")
      c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n" c:write(c:read(4)) c:close() ]]
    local p = to_local("hosts", peer.port, nil, ("tls = { ca = %q }"):format(certs .. "/ca.pem"))
    local c = http.connect(p.port)
    c:send(("GET http://localhost:%d/chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"):format(peer.port))
    assert.equal(101, c:read_response("GET").status)
    c:send "ping"
    assert.equal("ping", (c:read_all(5)))
    c:close()
    p:finish()
  end)
  it("that is none is a 400 where there is no upstream, and goes to the upstream where there is one", function()
    local p = to_local("hosts", nginx.port)
    local res = http.get(p.port, "/")
    assert.equal(400, res.status)
    assert.matches("^400 Bad Request: this is a forward proxy: the request's target must be an absolute URL\n", res.body)
    p:finish()
    local upstream = peers.raw(wire.fine)
    p = to_local("hosts", nginx.port, ("upstream = 'http://127.0.0.1:%d'"):format(upstream.port))
    assert.equal("fine", http.get(p.port, "/origin").body)
    assert.equal(("/abs|localhost:%d|||"):format(nginx.port), ask(p, ("http://localhost:%d/abs"):format(nginx.port)).body)
    assert.equal(403, ask(p, "http://example.com/").status) -- and not to the upstream
    assert.is_nil(upstream.received():find("example.com", 1, true))
    p:finish()
  end)
  it("goes to the upstream, as before, where nothing is forwarded", function()
    local upstream = peers.raw(wire.fine)
    local p = wire.proxy(upstream)
    assert.equal("fine", ask(p, "http://example.com/x").body)
    p:finish()
  end)
end)

describe("the hooks of a forward proxy", function()
  local upstream
  setup(function() upstream = peers.raw(wire.fine) end)
  local function last()
    local heads = wire.heads(upstream.received())
    return heads[#heads]
  end

  it("see the target, and may answer, rewrite the path, or choose an upstream instead", function()
    local p = to_local("hosts", upstream.port, ([[
      upstreams = { own = "http://127.0.0.1:%d/own" },
      on_request = function(req)
        if req.path == "/facts" then
          return req:respond(200, nil, table.concat({ req.method, req.url, req.scheme, req.host, req.headers.host, tostring(req.upstream) }, " "))
        end
        if req.path == "/own" then req.upstream = "own" end
        if req.path == "/rewrite" then req.path = "/written" end
      end,
      on_log = function(entry) if entry.path == "/written" then jeton.log.info("to " .. entry.host .. " by " .. entry.upstream) end end,
    ]]):format(upstream.port), ("tls = { ca = %q }"):format(certs .. "/ca.pem"))
    local at = "localhost:" .. upstream.port
    assert.equal(("GET http://%s/facts?q http %s %s nil"):format(at, at, at), ask(p, "http://" .. at .. "/facts?q").body)
    assert.equal(("GET https://%s/facts https %s %s nil"):format(at, at, at), ask(p, "https://" .. at .. "/facts").body)
    assert.equal("fine", ask(p, "http://" .. at .. "/rewrite").body)
    assert.equal("GET /written HTTP/1.1", last().line)
    assert.equal(at, last().fields.host)
    assert.equal("fine", ask(p, "http://" .. at .. "/own").body)
    assert.equal("GET /own/own HTTP/1.1", last().line)
    assert.equal("127.0.0.1:" .. upstream.port, last().fields.host)
    p:wait_log("to " .. at .. " by forward")
    p:finish()
  end)
  it("are not asked about a host that is not listed, but on_error may shape the reply", function()
    local p = to_local("hosts", upstream.port, [[
      on_request = function() jeton.log.info "asked" end,
      on_error = function(req, err) req:respond(err.status, nil, err.code .. " " .. req.host) end]])
    local res = ask(p, "http://example.com/")
    assert.same({ 403, "FORBIDDEN example.com" }, { res.status, res.body })
    assert.is_nil(p:errors():find("asked", 1, true))
    p:finish()
  end)
  it("see Proxy-Authorization, which goes no further, and may ask for it", function()
    local p = to_local("hosts", upstream.port, [[
      on_request = function(req)
        if req.headers["proxy-authorization"] ~= "Basic dTpw" then return req:respond(407, { ["proxy-authenticate"] = 'Basic realm="jeton"' }) end
      end]])
    local url = ("http://localhost:%d/with"):format(upstream.port)
    local res = ask(p, url)
    assert.same({ 407, 'Basic realm="jeton"' }, { res.status, res.headers["proxy-authenticate"] })
    local code, out, err = peers.curl("--proxy-anyauth", "-x", "http://u:p@127.0.0.1:" .. p.port, url) -- asks first, and is asked
    assert.equal(0, code, err)
    assert.equal("fine", out)
    assert.is_nil(last().fields["proxy-authorization"])
    assert.is_nil(upstream.received():find("dTpw", 1, true))
    p:finish()
  end)
end)

describe("a token beside a forward proxy", function()
  it("goes to its own hosts, and to no other one that may be reached", function()
    local mine, other = peers.raw(wire.fine), peers.raw(wire.fine)
    local p = start(("hosts = { 'localhost:%d', 'localhost:%d' }, private = { '127.0.0.0/8', '::1' }, tls = { ca = %q }"):format(mine.port, other.port, certs .. "/ca.pem"), ([[
      tokens = { api = { fetch = function() return { value = "t0ken-of-mine", expires_in = 60 } end, hosts = { "http://localhost:%d" } } },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end]]):format(mine.port))
    assert.equal(200, ask(p, ("http://localhost:%d/"):format(mine.port)).status)
    assert.is_truthy(mine.received():find("Authorization: Bearer t0ken-of-mine", 1, true) or mine.received():find("authorization: Bearer t0ken-of-mine", 1, true))
    assert.equal(500, ask(p, ("http://localhost:%d/"):format(other.port)).status)
    assert.equal("", other.received())
    p:finish()
  end)
end)

describe("a token that a target refuses", function()
  it("is fetched anew, and the request is sent again, once", function()
    local peer = peers.raw [[
      while true do
        local h = c:read "head"
        if not h then return c:close() end
        if h:find "t0ken%-1" then c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n" else c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end
      end ]]
    local p = to_local("hosts", peer.port, ([[
      tokens = { api = (function()
        local n = 0
        return { fetch = function() n = n + 1 return { value = "t0ken-" .. n, expires_in = 60 } end, hosts = { "http://localhost:%d" } }
      end)() },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end]]):format(peer.port), ("tls = { ca = %q }"):format(certs .. "/ca.pem"))
    local res = ask(p, ("http://localhost:%d/"):format(peer.port))
    assert.same({ 200, "fine" }, { res.status, res.body })
    local heads = wire.heads(peer.received())
    assert.equal(2, #heads)
    assert.same({ "Bearer t0ken-1", "Bearer t0ken-2" }, { heads[1].fields.authorization, heads[2].fields.authorization })
    assert.equal(1, p:dialed())
    p:finish()
  end)
end)

describe("CONNECT", function()
  it("of curl brings it to a TLS server, whose certificate curl sees itself", function()
    local secure = peers.nginx(([[ ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; root %s; location / { } ]]):format(certs, certs, certs), "ssl")
    local big = ("0123456789abcdef"):rep(512 * 1024)
    process.write_file(certs .. "/big", big)
    local p = to_local("connect", secure.port)
    local code, out, err = peers.curl("-x", "http://127.0.0.1:" .. p.port, "--cacert", certs .. "/ca.pem", ("https://localhost:%d/big"):format(secure.port))
    assert.equal(0, code, err)
    assert.is_true(out == big)
    process.poll(function() return p:output():find '"CONNECT localhost:%d+ HTTP/1.1" 200 .- forward ' end, 5, "its line in the access log")
    process.poll(function() return p:status().workers[1].tunnels == 0 end, 5, "the tunnel to go")
    p:finish()
  end)
  it("works through a TLS listener", function()
    local nginx = peers.nginx [[ location / { return 200 "plain"; } ]]
    local p = jeton.start(([[return { listen = { "127.0.0.1:0", tls = { certificates = { { cert = %q, key = %q } } } },
      forward = { connect = { "localhost:%d" }, private = { "127.0.0.1", "::1" } } }]]):format(certs .. "/rsa.pem", certs .. "/rsa.key", nginx.port))
    local code, out, err = peers.curl("-p", "-x", "https://localhost:" .. p.port, "--proxy-cacert", certs .. "/ca.pem", ("http://localhost:%d/"):format(nginx.port))
    assert.equal(0, code, err)
    assert.equal("plain", out)
    p:finish()
  end)
  it("is a 405 where nothing may be connected", function()
    local p = start "hosts = { 'http://a.example' }"
    local c = connect(p, "a.example:443")
    assert.matches("^HTTP/1.1 405 ", head(c))
    c:close()
    p:finish()
  end)
  it("to what is not listed, be it the port alone, is a 403, and the connection ends: what came with it is no request", function()
    local peer = peers.raw(wire.fine)
    local p = start(("connect = { 'localhost:%d' }, hosts = { 'localhost:%d' }, private = { '127.0.0.1', '::1' }, tls = { ca = %q }"):format(peer.port, peer.port, certs .. "/ca.pem"))
    for _, target in ipairs { "localhost:443", "example.com:" .. peer.port, ("127.0.0.1:%d"):format(peer.port), ("localhost.:%d"):format(peer.port) } do
      local all, why = wire.exchange(p.port, ("CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\nGET http://localhost:%d/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"):format(target, peer.port))
      assert.matches("^HTTP/1.1 403 ", all)
      assert.equal("closed", why)
      assert.equal(1, select(2, all:gsub("HTTP/1.1", "")))
    end
    assert.equal("", peer.received())
    p:finish()
  end)
  it("passes on what the client sent early, behind the 200, and what the server says first", function()
    local peer = peers.raw [[ c:write "220 hello\n" c:write("got " .. c:read(5)) c:close() ]]
    local p = to_local("connect", peer.port)
    local c = http.connect(p.port)
    c:send(("CONNECT localhost:%d HTTP/1.1\r\nHost: a\r\n\r\nearly"):format(peer.port))
    assert.equal("HTTP/1.1 200 Connection established\r\n\r\n220 hello\ngot early", (c:read_all(5)))
    c:close()
    p:finish()
  end)
  it("on HTTP/1.0 is answered the same way", function()
    local peer = peers.raw [[ c:write "hi" c:close() ]]
    local p = to_local("connect", peer.port)
    assert.equal("HTTP/1.1 200 Connection established\r\n\r\nhi", (wire.exchange(p.port, ("CONNECT localhost:%d HTTP/1.0\r\n\r\n"):format(peer.port))))
    p:finish()
  end)
  it("is a 502 when the target refuses or has no such name, and a 504 when it does not answer in time", function()
    local port = peers.free_port()
    local p = start(("connect = { 'localhost:%d', 'no.such.invalid' }, private = { '127.0.0.1', '::1' }"):format(port))
    assert.matches("^HTTP/1.1 502 ", head(connect(p, "localhost:" .. port)))
    assert.matches("^HTTP/1.1 50[24] ", head(connect(p, "no.such.invalid:443")))
    p:finish()
    local full, drop = peers.hanging_port()
    p = to_local("connect", full, "timeouts = { connect = '200ms' }")
    local c = connect(p, "localhost:" .. full)
    local left = connect(p, "localhost:" .. full) -- this client does not wait
    left:close()
    assert.matches("^HTTP/1.1 504 ", head(c))
    drop()
    p:finish()
  end)
  it("keeps each direction open until its own end", function()
    local peer = peers.raw [[ local all = "" while true do local b = c:read(1) if not b then break end all = all .. b end c:write("all: " .. all) c:close() ]]
    local p = to_local("connect", peer.port, "half_close = true,") -- for the second one: a FIN before the tunnel is a client that has left
    local c = open(p, "localhost:" .. peer.port)
    c:send "abc"
    c:finish()
    assert.equal("all: abc", (c:read_all(5)))
    c:close()
    c = connect(p, "localhost:" .. peer.port) -- its FIN comes before the tunnel is there
    c:send "early"
    c:finish()
    assert.equal("HTTP/1.1 200 Connection established\r\n\r\nall: early", (c:read_all(5)))
    c:close()
    p:finish()
  end)
  it("ends when nothing has moved for the tunnel's idle time", function()
    local peer = peers.raw [[ c:read(100) ]]
    local p = to_local("connect", peer.port, "timeouts = { tunnel = '300ms' }")
    local c = open(p, "localhost:" .. peer.port)
    local took = wire.timed(function() return c:read_all(5) end)
    assert.is_true(took > 0.2 and took < 4, took)
    p:finish()
  end)
  it("lives on over a reload, also one that no longer allows it, and is ended by the drain limit", function()
    local peer = peers.raw [[ while true do local b = c:read(4) if not b then return c:close() end c:write(b) end ]]
    local p = to_local("connect", peer.port, "timeouts = { drain = '300ms' }")
    local c = open(p, "localhost:" .. peer.port)
    p:reload_file(policy("connect = { 'b.example' }", "timeouts = { drain = '300ms' }"))
    assert.equal(200, (p:control("POST", "/reload")).status)
    c:send "ping"
    assert.equal("ping", c.sock:receive(4))
    assert.matches("^HTTP/1.1 403 ", head(connect(p, "localhost:" .. peer.port)))
    assert.is_true(wire.timed(function() p:finish() end) < 5)
    assert.equal("closed", select(2, c:read_all(5)))
  end)
  it("runs on_request, which may refuse, and carries no token and waits for none", function()
    local peer = peers.raw [[ c:write(c:read(4)) c:close() ]]
    local p = to_local("connect", peer.port, ([[
      tokens = { api = { fetch = function() return nil, "never" end, hosts = { "http://localhost:%d", "localhost:%d" } } },
      on_request = function(req, tokens)
        if req.method ~= "CONNECT" then return req:respond(500) end
        if not req.headers["proxy-authorization"] then return req:respond(407, { ["proxy-authenticate"] = "Basic" }, req.url .. " " .. req.path .. "who?") end
        req.headers.authorization = "Bearer " .. tokens.api
      end]]):format(peer.port, peer.port))
    local c = connect(p, "localhost:" .. peer.port)
    local res = c:read_response "GET"
    assert.same({ 407, ("localhost:%d who?"):format(peer.port), "close", "Basic" }, { res.status, res.body, res.headers.connection, res.headers["proxy-authenticate"] })
    c = connect(p, "localhost:" .. peer.port, "Proxy-Authorization: Basic dTpw\r\n")
    assert.matches("^HTTP/1.1 200 ", head(c))
    c:send "ping"
    assert.equal("ping", (c:read_all(5)))
    assert.equal("ping", peer.received())
    c:close()
    p:finish()
  end)
  it("leaves nothing behind when clients leave at any point, by FIN or RST", function()
    local peer = peers.raw [[ while true do local b = c:read(1) if not b then return c:close() end if b == "q" then return c:reset() end c:write(b) end ]]
    local p = to_local("connect", peer.port)
    local whole = ("CONNECT localhost:%d HTTP/1.1\r\nHost: a\r\n\r\nabc"):format(peer.port)
    local held = {}
    for i = 1, 150 do
      local c = http.connect(p.port)
      c:send(whole:sub(1, i % 5 == 0 and i % #whole or #whole))
      if i % 7 == 0 then c:send "q" end -- the target resets
      if i % 3 == 0 then c.sock:setoption("linger", { on = true, timeout = 0 }) end
      if i % 2 == 0 then
        c:close()
      elseif i % 11 == 0 then
        c:finish()
        c:read_all(0.05)
        c:close()
      else
        held[#held + 1] = c
      end
    end
    for _, c in ipairs(held) do c:close() end
    process.poll(function()
      local w = p:status().workers[1]
      return w.tunnels == 0 and w.upstream_leased == 0
    end, 10, "every tunnel to end")
    p:finish()
  end)
  it("goes to its target: a script that chooses an upstream is told so", function()
    local p = to_local("connect", 9, [[upstreams = { a = "http://127.0.0.1:9" }, on_request = function(req) req.upstream = "a" end]])
    assert.matches("^HTTP/1.1 500 ", head(connect(p, "localhost:9")))
    p:wait_log "policy.lua:1: req.upstream: CONNECT goes to its target, and to no upstream"
    p:finish()
  end)
  it("is never given a connection that a request has left", function()
    local peer = peers.raw [[
      local first = c:read(4)
      if first == "GET " then c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" c:read(1000) else c:write("raw " .. first) c:close() end ]]
    local p = start(("connect = { 'localhost:%d' }, hosts = { 'http://localhost:%d' }, private = { '127.0.0.1', '::1' }"):format(peer.port, peer.port))
    assert.equal("fine", ask(p, ("http://localhost:%d/"):format(peer.port)).body)
    local c = open(p, "localhost:" .. peer.port)
    c:send "ping"
    assert.equal("raw ping", (c:read_all(5)))
    c:close()
    p:finish()
  end)
end)
