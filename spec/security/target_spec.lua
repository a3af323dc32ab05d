--- Who a request is for, which protocol it speaks, and how large its head may be.
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"

local function forward_policy(forward, more) return ("return { listen = '127.0.0.1:0', forward = { %s }, %s }"):format(forward, more or "") end
local function jeton_start(forward, more) return jeton.start(forward_policy(forward, more)) end
local function get(line, fields) return line .. "\r\n" .. (fields or "Host: a\r\n") .. "\r\n" end

local function host(value) return get("GET /refused HTTP/1.1", "Host: " .. value .. "\r\n") end
wire.refusals("a request whose host is not certain", {
  { "no Host on HTTP/1.1", get("GET /refused HTTP/1.1", "X: y\r\n"), "400" },
  { "two Hosts", get("GET /refused HTTP/1.1", "Host: a\r\nHost: b\r\n"), "400" },
  { "the same Host twice", get("GET /refused HTTP/1.1", "Host: a\r\nhost: a\r\n"), "400" },
  { "two Hosts on HTTP/1.0", get("GET /refused HTTP/1.0", "Host: a\r\nHost: b\r\n"), "400" },
  { "two Hosts beside a target with one", get("GET http://a/refused HTTP/1.1", "Host: a\r\nHost: a\r\n"), "400" },
  { "no Host beside a target with one", get("GET http://a/refused HTTP/1.1", "X: y\r\n"), "400" },
  { "an empty Host", host "", "400" },
  { "a Host with a space", host "a b", "400" },
  { "a list of hosts", host "a,b", "400" },
  { "a Host with a user", host "u@h", "400" },
  { "a Host with a path", host "h/p", "400" },
  { "a Host with a query", host "h?q", "400" },
  { "a Host with a fragment", host "h#f", "400" },
  { "a Host with a backslash", host "h\\p", "400" },
  { "a Host with a port that is no number", host "a:b", "400" },
  { "a Host with a port over 65535", host "a:65536", "400" },
  { "a Host with two ports", host "a:1:2", "400" },
  { "a Host with percent-encoding", host "a%2eb", "400" },
  { "a Host with an open bracket", host "[::1", "400" },
  { "a Host with a bracketed name", host "[abc]", "400" },
  { "a Host with an 8-bit byte", host "\xe9", "400" },
})

wire.refusals("a target that is not one for its method", {
  { "a user in an absolute target", get "GET http://u:p@a/refused HTTP/1.1", "400" },
  { "a user without a password", get "GET http://u@a/refused HTTP/1.1", "400" },
  { "a fragment", get "GET /refused#f HTTP/1.1", "400" },
  { "a fragment in an absolute target", get "GET http://a/refused#f HTTP/1.1", "400" },
  { "GET *", get "GET * HTTP/1.1", "400" },
  { "OPTIONS *x", get "OPTIONS *x HTTP/1.1", "400" },
  { "a target without a slash", get "GET refused HTTP/1.1", "400" },
  { "a name alone", get "GET a:80 HTTP/1.1", "400" },
  { "another scheme", get "GET ftp://a/refused HTTP/1.1", "400" },
  { "a scheme without a host", get "GET http:///refused HTTP/1.1", "400" },
  { "a host with a bad port", get "GET http://a:b/refused HTTP/1.1", "400" },
  { "CONNECT with a path", get "CONNECT /refused HTTP/1.1", "400" },
  { "CONNECT with a URL", get "CONNECT http://a:80/ HTTP/1.1", "400" },
  { "CONNECT without a port", get "CONNECT a HTTP/1.1", "400" },
  { "CONNECT with a body", get("CONNECT a:80 HTTP/1.1", "Host: a:80\r\nContent-Length: 5\r\n") .. "hello", "400" },
  { "an 8-bit byte", get "GET /ref\xe9used HTTP/1.1", "400" },
  { "an empty target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n", "400" },
})

wire.refusals("another protocol", {
  { "HTTP/0.9 without a version", "GET /refused\r\n", "400" },
  { "HTTP/0.9 by name", get "GET /refused HTTP/0.9", "505" },
  { "HTTP/1.2", get "GET /refused HTTP/1.2", "505" },
  { "HTTP/2.0", get "GET /refused HTTP/2.0", "505" },
  { "HTTP/1.10", get "GET /refused HTTP/1.10", "400" },
  { "HTTP/11", get "GET /refused HTTP/11", "400" },
  { "http/1.1 in small letters", get "GET /refused http/1.1", "400" },
  { "ICY/1.1", get "GET /refused ICY/1.1", "400" },
  { "SOURCE of Icecast", get "SOURCE /refused HTTP/1.1", "501" },
  { "SOURCE in its own protocol", get "SOURCE /refused ICE/1.0" },
  { "DESCRIBE of RTSP", get "DESCRIBE /refused HTTP/1.1", "501" },
  { "DESCRIBE in RTSP/1.0", get "DESCRIBE /refused RTSP/1.0" },
  { "a method that nobody knows", get "BREW /refused HTTP/1.1", "501" },
  { "get in small letters", get "get /refused HTTP/1.1", "501" },
  { "a method of 33 letters", get(("A"):rep(33) .. " /refused HTTP/1.1"), "501" },
  { "a method with a bracket", get "GE(T /refused HTTP/1.1", "400" },
  { "two spaces before the target", get "GET  /refused HTTP/1.1", "400" },
  { "two spaces before the version", get "GET /refused  HTTP/1.1", "400" },
  { "a space behind the version", get "GET /refused HTTP/1.1 ", "400" },
  { "a tab for a space", get "GET\t/refused HTTP/1.1", "400" },
  { "a TLS hello", "\22\3\1\2\0\1\0\1\252\3\3" .. ("\7"):rep(300), "400" },
  { "an expectation that is not known", get("POST /refused HTTP/1.1", "Host: a\r\nExpect: tea\r\nContent-Length: 1\r\n"), "417" },
})

wire.refusals("a head over its limits", {
  { "a URI of 1 MB", get("GET /" .. ("a"):rep(1024 * 1024) .. " HTTP/1.1"), "414" },
  { "a field of 1 MB", get("GET /refused HTTP/1.1", "Host: a\r\nX: " .. ("a"):rep(1024 * 1024) .. "\r\n"), "431" },
  { "a name of 1 MB", get("GET /refused HTTP/1.1", "Host: a\r\n" .. ("a"):rep(1024 * 1024) .. ": x\r\n"), "431" },
  { "129 fields", get("GET /refused HTTP/1.1", "Host: a\r\n" .. ("X: y\r\n"):rep(128)), "431" },
  { "100,000 fields", get("GET /refused HTTP/1.1", "Host: a\r\n" .. ("X: y\r\n"):rep(100000)), "431" },
})

describe("another protocol on a listener of HTTP/1.1 alone", function()
  it("is refused: PRI of HTTP/2", function()
    local gate = wire.gate "listen = { { '127.0.0.1:0', http2 = false } }"
    gate:refuses "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    gate:ends()
  end)
end)

describe("a head within its limits", function()
  local upstream, proxy
  setup(function()
    upstream = peers.raw(wire.fine)
    proxy = wire.proxy(upstream)
  end)

  it("is served with a URI of 8,000 bytes, which arrives whole", function()
    local path = "/" .. ("0123456789"):rep(800)
    assert.equal("fine", http.get(proxy.port, path).body)
    assert.is_truthy(upstream.received():find("GET " .. path .. " HTTP/1.1\r\n", 1, true))
  end)
  it("is served with 128 fields, all of which arrive", function()
    local c = http.connect(proxy.port)
    c:send(get("GET /many HTTP/1.1", "Host: a\r\n" .. ("X-Many: y\r\n"):rep(127)))
    assert.equal("fine", c:read_response("GET").body)
    c:close()
    assert.equal(127, select(2, upstream.received():gsub("X%-Many: y\r\n", "")))
  end)
  it("is served with a field of 30 KB, which arrives whole", function()
    local value = ("0123456789"):rep(3000)
    assert.equal("fine", http.get(proxy.port, "/", { ["X-Long"] = value }).body)
    assert.is_truthy(upstream.received():find("X-Long: " .. value .. "\r\n", 1, true))
  end)
  it("is refused with 405 when it is a CONNECT: this is not a forward proxy", function()
    local all = wire.exchange(proxy.port, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 0.3)
    assert.matches("^HTTP/1.1 405 ", all)
    assert.is_nil(upstream.received():find("a.example:443", 1, true))
  end)
  it("ends well", function() proxy:finish() end)
end)

describe("1 MB heads", function()
  it("leave the memory flat", function()
    local upstream = peers.raw(wire.fine)
    local p = wire.release_proxy(upstream)
    http.get(p.port)
    local before = wire.rss(p)
    local long = ("a"):rep(1024 * 1024)
    for _ = 1, 10 do
      wire.exchange(p.port, get("GET /" .. long .. " HTTP/1.1"))
      wire.exchange(p.port, get("GET / HTTP/1.1", "Host: a\r\nX: " .. long .. "\r\n"))
    end
    assert.is_true(wire.rss(p) - before < 2048, ("%d KiB more"):format(wire.rss(p) - before))
    p:finish()
  end)
end)

describe("the host of a request", function()
  local upstream
  setup(function() upstream = peers.raw(wire.fine) end)
  local function last()
    local heads = wire.heads(upstream.received())
    return heads[#heads]
  end
  local function send(p, line, fields) assert.matches("^HTTP/1.1 200", (wire.exchange(p.port, get(line, fields .. "Connection: close\r\n")))) end

  it("is the target's when that is absolute: Host is rewritten, the upstream sees a path", function()
    local p = wire.proxy(upstream, "forwarded = 'set',")
    send(p, "GET http://target.example:81/path?q HTTP/1.1", "Host: other.example\r\n")
    local h = last()
    assert.equal("GET /path?q HTTP/1.1", h.line)
    assert.equal("127.0.0.1:" .. upstream.port, h.fields.host)
    assert.equal(1, h.count.host)
    assert.equal("target.example:81", h.fields["x-forwarded-host"])
    p:finish()
  end)
  it("is the target's when Host is preserved, too", function()
    local p = wire.proxy(upstream, ("upstream = { 'http://127.0.0.1:%d', preserve_host = true },"):format(upstream.port))
    send(p, "GET http://target.example/ HTTP/1.1", "Host: other.example\r\n")
    assert.equal("target.example", last().fields.host)
    send(p, "GET HTTPS://target.example HTTP/1.1", "Host: other.example\r\n")
    assert.equal("GET / HTTP/1.1", last().line)
    send(p, "GET /own HTTP/1.1", "Host: own.example:8080\r\n")
    assert.equal("own.example:8080", last().fields.host)
    p:finish()
  end)
  it("may be missing on HTTP/1.0", function()
    local p = wire.proxy(upstream)
    send(p, "GET /old HTTP/1.0", "")
    assert.equal("127.0.0.1:" .. upstream.port, last().fields.host)
    p:finish()
  end)
  it("may be an IPv6 address with a port", function()
    local p = wire.proxy(upstream)
    send(p, "GET /six HTTP/1.1", "Host: [::1]:8080\r\n")
    p:finish()
  end)
  it("is not asked for by OPTIONS *, which stays one, also as an absolute target", function()
    local p = wire.proxy(upstream)
    send(p, "OPTIONS * HTTP/1.1", "Host: a\r\n")
    assert.equal("OPTIONS * HTTP/1.1", last().line)
    send(p, "OPTIONS http://a HTTP/1.1", "Host: a\r\n")
    assert.equal("OPTIONS * HTTP/1.1", last().line)
    p:finish()
  end)
end)

describe("a forward proxy that lists names, and no private address,", function()
  local inside, proxy
  setup(function()
    inside = peers.raw(wire.fine)
    proxy = jeton_start(("hosts = { 'http://localhost:%d', 'http://*.example.com:%d', 'http://[::2]:%d' }, connect = { 'localhost:%d', '*.example.com:%d' }"):format(
      inside.port, inside.port, inside.port, inside.port, inside.port))
  end)
  local function answer(line)
    local all, why = wire.exchange(proxy.port, get(line, "Host: a\r\nConnection: close\r\n"))
    assert.equal("closed", why)
    return tonumber(all:match "^HTTP/1%.1 (%d%d%d) "), all
  end

  for name, spelling in pairs {
    ["its address"] = "127.0.0.1", ["a short address"] = "127.1", ["a decimal address"] = "2130706433", ["an octal address"] = "0177.0.0.1",
    ["a hexadecimal address"] = "0x7f000001", ["a mixed one"] = "0x7f.1", ["the unspecified address"] = "0.0.0.0", ["zero"] = "0",
    ["IPv6 loopback"] = "[::1]", ["an IPv4-mapped address"] = "[::ffff:127.0.0.1]", ["the same in hexadecimal"] = "[::ffff:7f00:1]",
    ["a compatible address"] = "[::127.0.0.1]", ["a 6to4 address"] = "[2002:7f00:1::]", ["a long spelling of a listed one"] = "[0:0:0:0:0:0:0:2]",
    ["a final dot"] = "localhost.", ["two final dots"] = "localhost..", ["a name under it"] = "x.localhost", ["a name that ends in it"] = "xlocalhost",
    ["a deeper name than the star's"] = "a.b.example.com", ["the star's own name"] = "example.com", ["an empty label for the star"] = ".example.com",
    ["the link-local metadata address"] = "169.254.169.254", ["a name that begins with a listed one"] = "localhost.evil.example",
  } do
    it("does not reach inside by " .. name, function()
      assert.equal(403, (answer(("GET http://%s:%d/refused HTTP/1.1"):format(spelling, inside.port))))
      assert.equal(403, (answer(("CONNECT %s:%d HTTP/1.1"):format(spelling, inside.port))))
    end)
  end
  for name, target in pairs {
    ["a user"] = "u@localhost:%d", ["a listed name as the user of another host"] = "localhost@evil.example:%d", ["a star"] = "*.example.com:%d", ["an encoded dot"] = "127%%2e0.0.1:%d",
    ["a zone"] = "[fe80::1%%25lo]:%d", ["an encoded letter"] = "%%6cocalhost:%d", ["an 8-bit name"] = "\xc3\xa9.example.com:%d", ["a backslash"] = "localhost\\x:%d", ["a wide digit"] = "\xef\xbc\x91.example.com:%d",
  } do
    it("takes no target with " .. name, function()
      local at = target:format(inside.port)
      assert.equal(400, (answer("GET http://" .. at .. "/refused HTTP/1.1")))
      assert.equal(400, (answer("CONNECT " .. at .. " HTTP/1.1")))
    end)
  end
  it("takes no target with port 0, nor another port of a listed host", function()
    assert.equal(400, (answer "GET http://localhost:0/ HTTP/1.1"))
    assert.equal(400, (answer "CONNECT localhost:0 HTTP/1.1"))
    assert.equal(403, (answer "GET http://localhost/ HTTP/1.1"))
    assert.equal(403, (answer "CONNECT localhost:22 HTTP/1.1"))
    assert.equal(403, (answer(("GET https://localhost:%d/ HTTP/1.1"):format(inside.port)))) -- another scheme
  end)
  it("does not reach a listed name that leads inside, in any case, and says so", function()
    for _, name in ipairs { "localhost", "LOCALHOST", "LocalHost" } do
      for _, line in ipairs { "GET http://%s:%d/refused HTTP/1.1", "CONNECT %s:%d HTTP/1.1" } do
        local status, all = answer(line:format(name, inside.port))
        assert.equal(403, status)
        assert.is_truthy(all:find("403 Forbidden: the host leads to no address that the policy forwards to\n", 1, true), all)
      end
    end
  end)
  it("has sent nothing inside, and ends well", function()
    proxy:finish()
    assert.equal("", inside.received())
  end)
end)

describe("a kept connection to a private address", function()
  it("is not used for a target under a policy that no longer allows the address, though an upstream or an older policy made it", function()
    local inside = peers.raw(wire.fine)
    local function keys(private) return ("hosts = { 'http://localhost:%d' }, private = { %s }"):format(inside.port, private) end
    local upstream = ("upstream = 'http://localhost:%d'"):format(inside.port)
    local function ask(p)
      local c = http.connect(p.port)
      c:send(get(("GET http://localhost:%d/x HTTP/1.1"):format(inside.port)))
      local res = c:read_response "GET"
      c:close()
      return res.status
    end
    local p = jeton_start(keys "'127.0.0.1', '::1'", upstream)
    assert.equal(200, ask(p))
    p:reload_file(forward_policy(keys "'10.0.0.0/8'", upstream))
    assert.equal(200, (p:control("POST", "/reload")).status)
    assert.equal(403, ask(p))
    assert.equal("fine", http.get(p.port).body) -- the upstream has it still
    assert.equal(403, ask(p))
    assert.equal(1, p:dialed())
    p:finish()
  end)
end)
