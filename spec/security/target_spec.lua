--- Who a request is for, which protocol it speaks, and how large its head may be.
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"

local function get(line, fields) return line .. "\r\n" .. (fields or "Host: a\r\n") .. "\r\n" end

local function refusals(title, cases)
  describe(title, function()
    local gate
    setup(function() gate = wire.gate() end)
    for _, case in ipairs(cases) do
      it("is refused: " .. case[1], function() gate:refuses(case[2], case[3]) end)
    end
    it("costs the next client nothing, and nothing of it arrives late", function() gate:ends() end)
  end)
end

local function host(value) return get("GET /refused HTTP/1.1", "Host: " .. value .. "\r\n") end
refusals("a request whose host is not certain", {
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

refusals("a target that is not one for its method", {
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

refusals("another protocol", {
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
  { "PRI of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" },
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

refusals("a head over its limits", {
  { "a URI of 1 MB", get("GET /" .. ("a"):rep(1024 * 1024) .. " HTTP/1.1"), "414" },
  { "a field of 1 MB", get("GET /refused HTTP/1.1", "Host: a\r\nX: " .. ("a"):rep(1024 * 1024) .. "\r\n"), "431" },
  { "a name of 1 MB", get("GET /refused HTTP/1.1", "Host: a\r\n" .. ("a"):rep(1024 * 1024) .. ": x\r\n"), "431" },
  { "129 fields", get("GET /refused HTTP/1.1", "Host: a\r\n" .. ("X: y\r\n"):rep(128)), "431" },
  { "100,000 fields", get("GET /refused HTTP/1.1", "Host: a\r\n" .. ("X: y\r\n"):rep(100000)), "431" },
})

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
