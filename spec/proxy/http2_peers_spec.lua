--- HTTP/2 with peers that nobody here wrote, on either side of the program: node's client and servers, python3-httpx, curl, nghttp, h2load, nghttpx, HAProxy, nginx; by prior knowledge and over TLS
--- by ALPN. What one behaviour needs in detail is in the specs that run by protocol (spec/protocols.lua) and in those of HTTP/2 itself.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"
local cjson = require "cjson"

local UPSTREAMS = { "h1", "h2" }
local MILLION = 1000000
local certs, ports, haproxy_behind
local nginx = {}

local function started(argv, what)
  local p = process.start(argv)
  local line = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 20, what)
  return p, line
end
local function listening(p, port)
  process.poll(function()
    local c = socket.connect("127.0.0.1", port)
    if c then c:close() end
    return c or p:ended() and error(p:errors())
  end, 10, "port " .. port)
end

--- HAProxy before a server, by HTTP/2 on both sides.
local function haproxy(port)
  local own = peers.free_port()
  local file = process.write_file(process.temp_dir() .. "/haproxy.cfg", ([[
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 5s
frontend f
  bind 127.0.0.1:%d proto h2
  default_backend b
backend b
  server s 127.0.0.1:%d proto h2
]]):format(own, port))
  local p = process.start { "haproxy", "-db", "-f", file }
  listening(p, own)
  return p, own
end
local function nghttpx(port)
  local own = peers.free_port()
  local p = process.start { "nghttpx", ("-f127.0.0.1,%d;no-tls"):format(own), ("-b127.0.0.1,%d;;proto=h2"):format(port), "--conf=/dev/null", "--workers=1" }
  listening(p, own)
  return p, own
end

setup(function()
  certs = peers.certificates()
  local dir = process.temp_dir()
  process.write_file(dir .. "/static", ("s"):rep(MILLION))
  local _, line = started({ "node", "spec/support/peers/http2_server.mjs", certs }, "node's servers")
  ports = cjson.decode(line)
  for _, protocol in ipairs(UPSTREAMS) do
    nginx[protocol] = peers.nginx(("root %s; location /nothing { return 204; }"):format(dir), protocol == "h2" and "http2" or "")
  end
  _, haproxy_behind = haproxy(ports.plain)
end)

--- A proxy whose upstreams speak `protocol`, chosen by the first part of a path: node, tls (node's), nginx and haproxy (HTTP/2 only). Its second listener is TLS.
local function start(protocol, more)
  local h2 = protocol == "h2" and "true" or "false"
  local p = jeton.start(([[
    return { listen = { "127.0.0.1:0", { "[::]:0", tls = { certificates = { { cert = %q, key = %q } } } } },
      upstreams = {
        node = { "http://127.0.0.1:%d", http2 = %s }, tls = { "https://127.0.0.1:%d", tls = { ca = %q }, http2 = %s },
        nginx = { "http://127.0.0.1:%d", http2 = %s }, haproxy = { "http://127.0.0.1:%d", http2 = %s },
      },
      on_request = function(req)
        local name, rest = req.path:match "^/(%%a+)(/.*)$"
        req.upstream, req.path = name, rest
      end,
      limits = { body = 0 }, timeouts = { drain = "20s" }, %s }]]):format(certs .. "/rsa.pem", certs .. "/rsa.key", ports.plain, h2, ports.tls, certs .. "/ca.pem", h2, nginx[protocol].port, h2,
    haproxy_behind, h2, more or ""))
  return p
end
local function url(p, path) return ("http://127.0.0.1:%d%s"):format(p.port, path) end
local function tls_url(p, path) return ("https://localhost:%d%s"):format(p:port_of(2), path) end
local function node_client(...)
  local code, out, err = process.run({ "node", "spec/support/peers/http2_client.mjs", ... }, { timeout = 60 })
  assert(code == 0, err)
  return cjson.decode(out), err
end

--- What HAProxy passes on. Node's client is not for it: HAProxy 2.6 ends a stream whose reply comes before the request is whole, and node's sends such.
local function through_haproxy(base)
  local file = process.write_file(process.temp_dir() .. "/million", ("m"):rep(MILLION))
  local function curl(path, ...)
    local code, out, err = peers.curl("--http2-prior-knowledge", base .. path, ...)
    assert.equal(0, code, err)
    return out
  end
  assert.matches("^%d%.%d$", curl "/version")
  assert.equal(MILLION .. " {}", curl("/count", "--data-binary", "@" .. file))
  assert.equal(5000000, #curl "/large?5000000")
  assert.equal("304", (curl("/cached", "-H", 'If-None-Match: "one"', "-o", "/dev/null", "-w", "%{http_code}")))
  assert.matches("bodyx%-checksum: abc\r\n", (curl("/trailers", "-i", "-H", "TE: trailers")))
  local code, out, err = process.run { "h2load", "-n", "500", "-c", "2", "-m", "20", base .. "/version" }
  assert.equal(0, code, err)
  assert.matches("500 done, 500 succeeded, 0 failed, 0 errored, 0 timeout", out)
end

for _, protocol in ipairs(UPSTREAMS) do
  describe("h2 to " .. protocol .. ":", function()
    local p
    setup(function() p = start(protocol) end)

    for name, base in pairs { ["by prior knowledge"] = function() return { url(p, "/node") } end, ["over TLS on both sides"] = function() return { tls_url(p, "/tls"), certs .. "/ca.pem" } end } do
      it("node's client does with node's server what both can, " .. name, function()
        local got, err = node_client(table.unpack(base()))
        assert.equal("", err)
        assert.same({ 200, protocol == "h2" and "2.0" or "1.1", 0 }, { got.get.status, got.get.body, got.get.code })
        assert.same({ 200, 0, "3" }, { got.head.status, got.head.bytes, got.head.headers["content-length"] })
        for _, what in ipairs { "post", "stream" } do assert.same({ 200, MILLION, 0 }, { got[what].status, got[what].bytes, got[what].code }) end
        assert.equal('5 {"x-sum":"abc"}', got.upload_trailers.body)
        assert.same({ "body", { ["x-checksum"] = "abc" } }, { got.trailers.body, got.trailers.trailers })
        assert.same({ 200, "hinted", { 103, "</style.css>; rel=preload" } }, { got.hints.status, got.hints.body, got.hints.hints })
        assert.same({ 304, 0, '"one"' }, { got.cached.status, got.cached.bytes, got.cached.headers.etag })
        assert.same({ 200, "whole" }, { got.fresh.status, got.fresh.body })
        assert.same({ 413, "too much" }, { got.early.status, got.early.body })
        assert.is_true(got.early.code == 0 or got.early.code == 8, got.early.code) -- NO_ERROR, or what node says for it
        assert.same({ 200, "half" }, { got.cut.status, got.cut.body })
        assert.is_true(got.cut.code ~= 0, "a reply that was cut looks whole")
        assert.same({ 5000000, 0 }, { got.large.bytes, got.large.code })
        assert.equal(100, got.many.fine)
        assert.equal(200, got.after.status)
      end)
    end

    it("curl over TLS speaks HTTP/2 by ALPN", function()
      local file = process.write_file(process.temp_dir() .. "/million", ("m"):rep(MILLION))
      local function curl(path, ...)
        local code, out, err = peers.curl("--http2", "--cacert", certs .. "/ca.pem", "--connect-to", "::127.0.0.1:", "-w", "\n%{http_version} %{http_code} %{size_download}", tls_url(p, path), ...)
        assert.equal(0, code, err)
        return out:match "\n([^\n]*)$"
      end
      assert.equal("2 200 3", (curl("/tls/version", "-s")))
      assert.equal("2 200 " .. MILLION, (curl("/tls/echo", "--data-binary", "@" .. file)))
      assert.equal("2 200 0", (curl("/tls/version", "-I", "-o", "/dev/null")))
      assert.equal("2 304 0", (curl("/tls/cached", "-H", 'If-None-Match: "one"')))
      assert.equal("2 200 " .. MILLION, (curl("/nginx/static", "-o", "/dev/null")))
      assert.equal("2 204 0", (curl("/nginx/nothing", "-s")))
    end)

    it("python3-httpx over TLS does what it can", function()
      local code, out, err = process.run({ "/usr/bin/python3", "spec/support/peers/httpx_client.py", tls_url(p, "/tls"), certs .. "/ca.pem" }, { timeout = 60 })
      assert.equal(0, code, err)
      assert.same({
        version = "HTTP/2", get = protocol == "h2" and "2.0" or "1.1", head = "3", post = MILLION, stream = MILLION .. " {}", cached = 304, large = 5000000, cut = "cut", many = 100, cancelled = true, after = 200,
      }, cjson.decode(out))
    end)

    it("nghttp gets several at once, and h2load thousands, reload upon reload meanwhile", function()
      local code, out, err = process.run { "nghttp", "-n", "-s", url(p, "/node/version"), url(p, "/node/large?100000"), url(p, "/nginx/static") }
      assert.equal(0, code, err)
      assert.equal(3, select(2, out:gsub(" 200 ", "")), out)
      local load = process.start { "h2load", "-n", "4000", "-c", "4", "-m", "25", url(p, "/nginx/nothing") }
      local reloads = 0
      while not load:ended() do
        local res = p:control("POST", "/reload")
        assert.equal(200, res.status, res.body)
        reloads = reloads + 1
        socket.sleep(0.05)
      end
      assert.is_true(reloads > 0)
      assert.matches("4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout", load:output())
    end)

    it("behind nghttpx and HAProxy, which speak HTTP/2 with it", function()
      local front, port = nghttpx(p.port)
      local got = node_client(("http://127.0.0.1:%d/node"):format(port))
      assert.same({ 200, 200, MILLION, 100, 200 }, { got.get.status, got.post.status, got.post.bytes, got.many.fine, got.after.status })
      assert.same({ 5000000, '5 {"x-sum":"abc"}' }, { got.large.bytes, got.upload_trailers.body })
      assert.is_true(got.cut.code ~= 0)
      front:stop()
      front, port = haproxy(p.port)
      through_haproxy(("http://127.0.0.1:%d/node"):format(port))
      front:stop()
    end)

    it("a reload lets streams that are under way go on, and a drain too: nothing is lost", function()
      local client = process.start { "node", "spec/support/peers/http2_client.mjs", url(p, "/node"), "-", "slow", "60", "1000" }
      process.poll(function() return p:status().workers[1].streams == 60 end, 10, "the requests")
      assert.equal(200, (p:control("POST", "/reload")).status)
      assert.equal(0, (client:wait(15)))
      assert.same({ fine = 60, goaway = false }, cjson.decode(client:output():match "({.*})"))

      client = process.start { "node", "spec/support/peers/http2_client.mjs", url(p, "/node"), "-", "slow", "60", "1500" }
      process.poll(function() return p:status().workers[1].streams == 60 end, 10, "the requests")
      p:finish(20)
      assert.equal(0, (client:wait(15)))
      assert.same({ fine = 60, goaway = true }, cjson.decode(client:output():match "({.*})"))
    end)
  end)
end

describe("an upstream of HTTP/2 that is", function()
  it("HAProxy or node gives the same to clients of either protocol", function()
    local p = start "h2"
    through_haproxy(url(p, "/haproxy"))
    local c = http.connect(p.port)
    assert.equal("2.0", c:request("GET", "/node/version").body)
    assert.equal("2.0", c:request("GET", "/tls/version").body)
    local body = ("b"):rep(MILLION)
    assert.is_true(http.request(p.port, "POST", "/node/echo", nil, body, 20).body == body)
    c:send "POST /node/count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n"
    assert.equal('5 {"x-sum":"abc"}', c:read_response("POST").body)
    local res = c:request("GET", "/node/trailers", { TE = "trailers" })
    assert.same({ "body", { ["x-checksum"] = "abc" } }, { res.body, res.trailers })
    assert.equal("", c:request("HEAD", "/node/version").body)
    assert.equal(304, c:request("GET", "/node/cached", { ["If-None-Match"] = '"one"' }).status)
    assert.equal(103, c:request("GET", "/node/hints").status)
    assert.equal("hinted", c:read_response("GET").body)
    assert.equal("closed", c:request("GET", "/node/cut").broken)
    c:close()
    p:finish()
  end)
end)

describe("an upstream of HTTP/2", function()
  it("is reset no stream whose request and reply are whole", function()
    local upstream = peers.raw([[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:read(tonumber(head:match "Content%-Length: (%d+)") or 0)
        if head:find "HEAD" then c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
        elseif head:find "/chunked" then c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n" c:sleep(20) c:write "0\r\nX-End: 1\r\n\r\n"
        else c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end
      end]], true)
    local p = jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'http://127.0.0.1:%d', http2 = true } }"):format(upstream.port))
    local c = http.connect(p.port)
    for _ = 1, 3 do
      assert.equal("fine", c:request("GET", "/").body)
      assert.equal("fine", c:request("POST", "/", nil, "hello").body)
      assert.equal("fine", c:request("GET", "/chunked").body)
      assert.equal(200, c:request("HEAD", "/").status)
    end
    c:close()
    p:finish()
    process.poll(function() return upstream.process:output():find "goaway" end, 5, "the connection's end")
    assert.is_nil(upstream.process:output():find "reset %d", upstream.process:output())
    assert.is_nil(upstream.process:output():find "FAULT", upstream.process:output())
  end)
end)
