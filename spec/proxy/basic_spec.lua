local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"

describe("a plain proxy in front of nginx", function()
  local nginx, proxy

  setup(function()
    nginx = peers.nginx [[
      location /hello { return 200 "hello\n"; }
      location /echo-host { return 200 "$host $http_x_forwarded_for $http_x_forwarded_proto"; }
      location /empty { return 204; }
      location /status { return 418 "teapot"; }
    ]]
    proxy = jeton.start(('return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", forwarded = "set" }'):format(nginx.port))
  end)
  teardown(function() proxy:finish() end)

  it("relays a response", function()
    local res = http.get(proxy.port, "/hello")
    assert.equal(200, res.status)
    assert.equal("hello\n", res.body)
    assert.matches("nginx", res.headers.server)
  end)

  it("relays other statuses as they are", function()
    assert.equal(418, http.get(proxy.port, "/status").status)
    assert.equal(204, http.get(proxy.port, "/empty").status)
  end)

  it("serves many requests on one connection", function()
    local c = http.connect(proxy.port)
    for _ = 1, 50 do assert.equal(200, c:request("GET", "/hello").status) end
    c:close()
    assert.is_true(proxy:dialed() <= 5)
  end)

  it("answers pipelined requests in order", function()
    local c = http.connect(proxy.port)
    c:send(("GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /status HTTP/1.1\r\nHost: a\r\n\r\n"):rep(20))
    for _ = 1, 20 do
      assert.equal(200, c:read_response("GET").status)
      assert.equal(418, c:read_response("GET").status)
    end
    c:close()
  end)

  it("answers HEAD without a body and goes on", function()
    local c = http.connect(proxy.port)
    local res = c:request("HEAD", "/hello")
    assert.equal(200, res.status)
    assert.equal("6", res.headers["content-length"])
    assert.equal("hello\n", c:request("GET", "/hello").body)
    c:close()
  end)

  it("writes the upstream's Host and says who asked", function()
    local res = http.get(proxy.port, "/echo-host", { Host = "elsewhere.example" })
    assert.equal("127.0.0.1 127.0.0.1 http", res.body)
  end)

  it("serves an HTTP/1.0 client and closes", function()
    local text, why = http.raw(proxy.port, "GET /hello HTTP/1.0\r\n\r\n", 3)
    assert.matches("^HTTP/1.1 200", text)
    assert.matches("hello\n$", text)
    assert.equal("closed", why)
  end)

  it("serves curl", function()
    local code, out = peers.curl("http://127.0.0.1:" .. proxy.port .. "/hello")
    assert.equal(0, code)
    assert.equal("hello\n", out)
  end)

  it("still answers a client that has sent FIN behind its request when clients may half-close", function()
    local patient = jeton.start(('return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", half_close = true }'):format(nginx.port))
    local c = http.connect(patient.port)
    c:send "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
    c:finish()
    assert.equal("hello\n", c:read_response("GET").body)
    c:close()
    patient:finish()
  end)
end)

describe("bodies", function()
  local upstream, proxy

  setup(function()
    upstream = peers.world()
    proxy = jeton.start(('return { listen = "127.0.0.1:0", upstream = %q }'):format(upstream.upstream_url))
  end)
  teardown(function() proxy:finish() end)

  local function echoed(res) return require "cjson".decode(res.body).body end

  it("relays a small body", function()
    assert.equal("abc", echoed(http.request(proxy.port, "POST", "/open", nil, "abc")))
  end)

  it("relays a body larger than every buffer", function()
    local body = ("0123456789abcdef"):rep(256 * 1024)
    local res = http.request(proxy.port, "POST", "/open", nil, body, 30)
    assert.equal(200, res.status)
    assert.equal(#body, #echoed(res))
  end)

  it("relays chunked bodies with their data unchanged", function()
    local c = http.connect(proxy.port)
    c:send "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    c:send "5\r\nhello\r\n"
    c:send "6\r\n world\r\n0\r\n\r\n"
    assert.equal("hello world", echoed(c:read_response "POST"))
    assert.equal(200, c:request("GET", "/open").status)
    c:close()
  end)

  it("sends 100 Continue to a client that waits for it", function()
    local c = http.connect(proxy.port)
    c:send "POST /open HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert.equal(100, c:read_response("POST").status)
    c:send "abc"
    assert.equal("abc", echoed(c:read_response "POST"))
    c:close()
  end)

  it("removes hop-by-hop fields and what Connection names", function()
    local res = http.get(proxy.port, "/open", { Connection = "x-mine", ["X-Mine"] = "1", ["Keep-Alive"] = "5", ["Proxy-Authorization"] = "x" })
    assert.is_nil(res.body:lower():find("x-mine", 1, true))
    assert.is_nil(res.body:lower():find("keep-alive: 5", 1, true))
    assert.is_nil(res.body:lower():find("proxy-authorization", 1, true))
  end)
end)
