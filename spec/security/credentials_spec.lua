--- Where a token goes and where it never does, by what arrives at an upstream that records every byte.
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local cjson = require "cjson"

local token = "tok3n-of-the-spec"
--- A policy with a token whose fetch needs no network; `fetch` is its body, `hook` that of on_request.
local function policy(port, options)
  return ([[return {
    listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
    tokens = { api = { fetch = function(ctx) %s end, %s } },
    on_request = function(req, tokens) %s end,
    %s
  }]]):format(port, options.fetch or ("return { value = %q, expires_in = 60 }"):format(token), options.token or "",
    options.hook or 'req.headers.authorization = "Bearer " .. tokens.api', options.more or "")
end
local function start(upstream, options) return jeton.start(policy(upstream.port, options or {})) end
--- The heads that came for this path.
local function heads_for(upstream, path)
  local found = {}
  for _, h in ipairs(wire.heads(upstream.received())) do
    if h.line:match "^%u+ (%S+)" == path then found[#found + 1] = h end
  end
  return found
end

describe("a client's own credentials", function()
  local upstream, proxy
  setup(function()
    upstream = peers.raw(wire.fine)
    proxy = start(upstream, { hook = [[
      req.headers.authorization = "Bearer " .. tokens.api
      if req.path == "/x-auth" then req.headers["X-Auth"] = "key " .. tokens.api end]] })
  end)
  local function sent(path, fields)
    local c = http.connect(proxy.port)
    c:send("GET " .. path .. " HTTP/1.1\r\nHost: a\r\n" .. fields .. "\r\n")
    assert.equal(200, c:read_response("GET").status)
    c:close()
    local found = heads_for(upstream, path)
    assert.equal(1, #found)
    return found[1]
  end
  for i, case in ipairs {
    { "Connection: authorization", "Connection: authorization\r\n" },
    { "Connection that names the field twice, and close", "Connection: close, Authorization, AUTHORIZATION\r\n" },
    { "a Connection field each", "Connection: keep-alive\r\nConnection: Authorization\r\nAuthorization: Bearer mine\r\n" },
    { "aUthorization", "aUthorization: Bearer mine\r\n" },
    { "several Authorizations", "Authorization: Bearer mine\r\nauthorization: Basic bWluZQ==\r\nAUTHORIZATION: Bearer mine\r\n" },
    { "an empty Authorization", "Authorization:\r\n" },
    { "Authorization behind the other fields", "X-A: b\r\nAuthorization: Bearer mine\r\n" },
  } do
    it("are replaced, and exactly one goes out: " .. case[1], function()
      local h = sent("/case" .. i, case[2])
      assert.equal("Bearer " .. token, h.fields.authorization)
      assert.equal(1, h.count.authorization)
    end)
  end
  it("under a twin's name of an injected field are dropped", function()
    local h = sent("/x-auth", "X_Auth: mine\r\nx_auth: mine\r\nX-Auth: mine\r\nX_Author: kept\r\n")
    assert.equal("key " .. token, h.fields["x-auth"])
    assert.equal(1, h.count["x-auth"])
    assert.is_nil(h.fields["x_auth"])
    assert.equal("kept", h.fields["x_author"])
  end)
  it("for the proxy end here", function()
    local h = sent("/proxy-auth", "Proxy-Authorization: Basic mine\r\nPROXY-authorization: mine\r\nProxy-Authenticate: mine\r\nProxy-Connection: keep-alive\r\n")
    for name in pairs(h.fields) do assert.is_nil(name:find("proxy", 1, true)) end
  end)
  it("never arrived", function()
    assert.is_nil(upstream.received():find("mine", 1, true))
    proxy:finish()
  end)
end)

describe("a token", function()
  local function one_hundred(p, path)
    for _, res in ipairs(http.together(p.port, 100, "GET", path or "/")) do assert.equal(200, res.status) end
  end

  it("goes to no port but its own: the request fails, and nothing is sent", function()
    local own, other = peers.raw(wire.fine), peers.raw(wire.fine)
    for _, hosts in ipairs { ("http://127.0.0.1:%d"):format(own.port), "api.example.com", ("127.0.0.1:%d"):format(other.port) } do
      local p = start(other, { token = ("hosts = { %q }, wait = '2s'"):format(hosts) })
      assert.equal(500, http.get(p.port, "/").status, hosts)
      p:finish()
    end
    assert.equal("", other.received())
    assert.equal("", own.received())
  end)
  it("goes to an upstream that is named as its host, and not to another that a hook chooses", function()
    local own, other = peers.raw(wire.fine), peers.raw(wire.fine)
    local p = start(own, {
      token = ("hosts = { 'http://127.0.0.1:%d' }"):format(own.port),
      hook = 'req.headers.authorization = "Bearer " .. tokens.api if req.path == "/other" then req.upstream = "other" end',
      more = ("upstreams = { other = 'http://127.0.0.1:%d' }"):format(other.port),
    })
    assert.equal(200, http.get(p.port, "/").status)
    assert.equal(500, http.get(p.port, "/other").status)
    assert.equal("", other.received())
    assert.is_truthy(own.received():find(token, 1, true))
    p:finish()
  end)
  it("does not follow a redirect, which is relayed", function()
    local elsewhere = peers.raw(wire.fine)
    local upstream = peers.raw(([[
      while c:read "head" do c:write "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" end c:close()]]):format(elsewhere.port))
    local p = start(upstream)
    local res = http.get(p.port)
    assert.equal(302, res.status)
    assert.equal(("http://127.0.0.1:%d/"):format(elsewhere.port), res.headers.location)
    assert.equal("", elsewhere.received())
    p:finish()
  end)
  it("does not come back to the client: not in the reply, the error page or a header", function()
    local upstream = peers.raw(wire.fine)
    local p = start(upstream, { hook = 'req.headers.authorization = "Bearer " .. tokens.api if req.path == "/tell" then req:respond(200, {}, tostring(tokens.api) .. tostring(req.headers.authorization)) end' })
    local res = http.get(p.port, "/tell")
    assert.equal(200, res.status)
    assert.is_nil(res.body:find(token, 1, true))
    p:finish()
    assert.is_nil((p:errors() .. p:output()):find(token, 1, true))
  end)

  for name, value in pairs { ["CR LF"] = "a\\r\\nX-Evil: b", ["a bare LF"] = "a\\nX-Evil: b", ["a bare CR"] = "a\\rX-Evil: b", ["a NUL"] = "a\\0X-Evil: b" } do
    it("with " .. name .. " is refused, and nothing is sent", function()
      local upstream = peers.raw(wire.fine)
      local p = start(upstream, { fetch = ("return { value = '%s', expires_in = 60 }"):format(value), token = "wait = '200ms'" })
      assert.matches("^50[03]$", tostring(http.get(p.port).status))
      assert.equal("", upstream.received())
      p:finish()
      assert.is_nil(p:errors():find("X-Evil", 1, true))
    end)
  end
  for name, code in pairs {
    ["CR LF in a value"] = 'req.headers.x = "a\\r\\nX-Evil: b"', ["LF in a value"] = 'req.headers.x = "a\\nX-Evil: b"', ["NUL in a value"] = 'req.headers.x = "a\\0b"',
    ["CR LF in a name"] = 'req.headers["x\\r\\nX-Evil"] = "b"', ["CR LF in a secret's text"] = 'req.headers.x = "a\\r\\nX-Evil: b" .. tokens.api',
    ["CR LF in the path"] = 'req.path = "/a\\r\\nX-Evil: b"', ["a space in the path"] = 'req.path = "/a b"', ["CR LF in the query"] = 'req.query = "a\\r\\nX-Evil: b"',
    ["CR LF in the method"] = 'req.method = "GET /x HTTP/1.1\\r\\nX-Evil: b"', ["CR LF in Host"] = 'req.headers.host = "a\\r\\nX-Evil: b"',
  } do
    it("is not sent by a script that puts " .. name, function()
      local upstream = peers.raw(wire.fine)
      local p = start(upstream, { hook = 'req.headers.authorization = "Bearer " .. tokens.api ' .. code })
      assert.matches("^50[02]$", tostring(http.get(p.port).status))
      assert.equal("", upstream.received())
      p:finish()
    end)
  end

  it("is fetched once for 100 misses at the same time", function()
    local upstream = peers.raw(wire.fine)
    local p = start(upstream, { fetch = 'jeton.log.info("fetching") jeton.sleep(0.2) return { value = "v", expires_in = 60 }', token = "wait = '5s'" })
    one_hundred(p)
    assert.equal(1, select(2, p:errors():gsub("fetching", "")))
    p:finish()
  end)
  it("is fetched once more for 100 refusals at the same time, each request is replayed once", function()
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        if head:find("Bearer generation-1\r\n", 1, true) then c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        else c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end
      end]]
    local p = start(upstream, { fetch = [[
      jeton.log.info("fetching " .. ctx.reason)
      if ctx.reason == "first" then return { value = "generation-1", expires_in = 60 } end
      jeton.sleep(0.2)
      return { value = "generation-2", expires_in = 60 }]], token = "wait = '5s'" })
    one_hundred(p, "/hundred")
    assert.equal(1, select(2, p:errors():gsub("fetching first", "")))
    assert.equal(1, select(2, p:errors():gsub("fetching rejected", "")))
    local first, second = 0, 0
    for _, h in ipairs(heads_for(upstream, "/hundred")) do
      if h.fields.authorization == "Bearer generation-1" then first = first + 1 else second = second + 1 end
    end
    assert.is_true(first >= 1 and first <= 100) -- the others came when there was no token any more, and waited
    assert.equal(100, second)
    p:finish()
  end)
  it("is not fetched for a 401 to a generation that is past: the request is replayed with the present one", function()
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        if head:find("GET /late ", 1, true) and head:find("generation-1", 1, true) then c:sleep(400) end
        if head:find("generation-1", 1, true) then c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        else c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end
      end]]
    local p = start(upstream, { fetch = [[
      local n = ctx.reason == "first" and 1 or 2
      jeton.log.info("fetching " .. ctx.reason)
      return { value = "generation-" .. n, expires_in = 60 }]], token = "wait = '5s'" })
    local late = http.connect(p.port)
    late:send "GET /late HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return #heads_for(upstream, "/late") == 1 end, 5, "the late request to arrive")
    assert.equal("fine", http.get(p.port, "/now").body)
    assert.equal("fine", late:read_response("GET").body)
    late:close()
    assert.equal(1, select(2, p:errors():gsub("fetching rejected", "")))
    p:finish()
  end)
  it("that is refused again with the replay gives the client that answer, not a third request", function()
    local upstream = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nnope" end c:close()]]
    local p = start(upstream, { token = "wait = '2s'" })
    local res = http.get(p.port, "/again")
    assert.same({ 401, "nope" }, { res.status, res.body })
    assert.equal(2, #heads_for(upstream, "/again"))
    p:finish()
  end)
  it("that is refused with a body too large to replay is not replayed", function()
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:read(tonumber(head:match "Content%-Length: (%d+)"))
        c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
      end]]
    local p = start(upstream)
    assert.equal(401, http.request(p.port, "POST", "/large", nil, ("x"):rep(200000)).status)
    assert.equal(1, #heads_for(upstream, "/large"))
    p:finish()
  end)
end)

describe("a token for a Unix socket", function()
  local others, sockets

  before_each(function()
    sockets = process.temp_dir()
    others = jeton.start(([[return { listen = { "127.0.0.1:0", "unix:%s/a", "unix:%s/b" },
      on_request = function(req) req:respond(200, nil, "seen: " .. tostring(req.headers.x)) end }]]):format(sockets, sockets))
  end)
  after_each(function() others:finish() end)

  local function proxy_with(hosts)
    return jeton.start(([[return { listen = "127.0.0.1:0", upstream = "unix:%s/a",
      tokens = { api = { %s fetch = function() return { value = "for-one-socket", expires_in = 60 } end } },
      on_request = function(req, tokens)
        tokens.api:wait(5)
        req.headers.x = tokens.api
        if req.path ~= "/by-script" then return end
        local res, _, code = jeton.http.get("unix:%s/b:/", { headers = { x = tokens.api } })
        req:respond(200, nil, res and res.body or code)
      end }]]):format(sockets, hosts, sockets))
  end

  it("goes to no other one", function()
    local proxy = proxy_with ""
    assert.equal("seen: for-one-socket", http.get(proxy.port).body)
    assert.equal("TOKEN_AUDIENCE", http.get(proxy.port, "/by-script").body)
    proxy:finish()
  end)

  it("goes to the one that hosts names, alone", function()
    local proxy = proxy_with(("hosts = { 'unix:%s/b' },"):format(sockets))
    assert.equal(500, http.get(proxy.port).status)
    assert.equal("seen: for-one-socket", http.get(proxy.port, "/by-script").body)
    proxy:finish()
  end)
end)

describe("a fetch", function()
  local broken = {
    ["an expired value"] = "return { value = 'bad', expires_in = 0 }", ["a negative life"] = "return { value = 'bad', expires_in = -1 }",
    ["no life"] = "return { value = 'bad' }", ["no value"] = "return { expires_in = 60 }", ["an empty value"] = "return { value = '', expires_in = 60 }",
    ["nothing"] = "", ["a string"] = "return 'bad'", ["a life of NaN"] = "return { value = 'bad', expires_in = 0/0 }",
    ["a life in words"] = "return { value = 'bad', expires_in = 'long' }", ["an end in the past"] = "return { value = 'bad', expires_at = jeton.now() - 10 }",
    ["an error"] = "error 'on purpose'", ["error(nil)"] = "error(nil)", ["a number as the value"] = "return { value = 5, expires_in = 60 }",
  }
  for name, code in pairs(broken) do
    it("that gives " .. name .. " is a failure: 503, nothing sent, and service returns by itself", function()
      local upstream = peers.raw(wire.fine)
      local dir = process.temp_dir()
      local p = start(upstream, {
        fetch = ("if jeton.file.read(%q) then return { value = 'good', expires_in = 60 } end %s"):format(dir .. "/good", code),
        token = "wait = '50ms', backoff = { min = '20ms', max = '100ms' }",
      })
      assert.equal(503, http.get(p.port).status)
      assert.equal("", upstream.received())
      process.write_file(dir .. "/good", "1")
      process.poll(function() return http.get(p.port).status == 200 end, 5, "service to return")
      assert.is_nil(upstream.received():find("bad", 1, true))
      p:finish()
    end)
  end
  it("that gives the life as text is understood", function()
    local upstream = peers.raw(wire.fine)
    local p = start(upstream, { fetch = "return { value = 'good', expires_in = '3600' }" })
    assert.equal(200, http.get(p.port).status)
    local left = p:status().tokens[1].expires_in
    assert.is_true(left > 3500 and left <= 3600)
    p:finish()
  end)
end)

describe("two tenants", function()
  it("are never crossed over pooled connections, under load, with refusals among them", function()
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        local who, kind = head:match "^GET /(%w+)/(%w+) "
        local right = head:find("\r\n[Aa]uthorization: Bearer token%-of%-" .. who .. "%-%d+\r\n") ~= nil
        local status = not right and "500 Crossed" or (kind == "refused" and "401 Unauthorized" or "200 OK")
        c:write("HTTP/1.1 " .. status .. "\r\nContent-Length: " .. #who .. "\r\n\r\n" .. who)
      end]]
    local p = jeton.start { workers = 2, policy = ([[
      local n = 0
      return {
        listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", log = { access = false },
        tokens = { tenant = { family = true, wait = "5s", fetch = function(ctx)
          n = n + 1
          jeton.sleep(0.01)
          return { value = "token-of-" .. ctx.key .. "-" .. n, expires_in = 60 }
        end } },
        on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.tenant[req.path:match "^/(%%w+)/"] end,
      }]]):format(upstream.port) }
    local tenants = { "anna", "bert", "cleo", "dora" }
    local connections = {}
    for i = 1, 16 do connections[i] = http.connect(p.port) end
    for round = 1, 40 do
      for i, c in ipairs(connections) do
        local kind = (round * i) % 23 == 0 and "refused" or "plain"
        c.who, c.kind = tenants[(i + round) % #tenants + 1], kind
        c:send(("GET /%s/%s HTTP/1.1\r\nHost: a\r\n\r\n"):format(c.who, kind))
      end
      for _, c in ipairs(connections) do
        local res = c:read_response "GET"
        assert.equal(c.kind == "refused" and 401 or 200, res.status)
        assert.equal(c.who, res.body)
      end
    end
    for _, c in ipairs(connections) do c:close() end
    local dialed = 0
    for _, w in ipairs(p:status().workers) do dialed = dialed + w.upstream_dialed end
    assert.is_true(dialed <= 40, "pooled connections were not used: " .. dialed)
    p:finish()
  end)
end)

describe("the control side", function()
  it("tells of a token everything but its bytes", function()
    local upstream = peers.raw(wire.fine)
    local p = start(upstream)
    assert.equal(200, http.get(p.port).status)
    local res = p:control("GET", "/status")
    assert.is_nil(res.body:find(token, 1, true))
    assert.equal("api", cjson.decode(res.body).tokens[1].name)
    for _, path in ipairs { "/metrics", "/", "/nothing" } do assert.is_nil((p:control("GET", path)).body:find(token, 1, true)) end
    assert.is_nil(process.read_file("/proc/" .. p.pid .. "/cmdline"):find(token, 1, true))
    p:finish()
  end)
end)

describe("credentials at a forward proxy", function()
  local mine, other, p
  setup(function()
    mine, other = peers.raw(wire.fine), peers.raw [[
      c:read "head" c:write "HTTP/1.1 302 Found\r\nLocation: http://localhost:1/elsewhere\r\nContent-Length: 0\r\n\r\n" c:read(1000) ]]
    p = jeton.start(([[return {
      listen = "127.0.0.1:0",
      forward = { hosts = { "http://localhost:%d", "http://localhost:%d" }, connect = { "localhost:%d" }, private = { "127.0.0.1", "::1" } },
      tokens = { api = { fetch = function() return { value = %q, expires_in = 60 } end, hosts = { "http://localhost:%d" } } },
      on_request = function(req, tokens)
        if req.path ~= "/bare" then req.headers.authorization = "Bearer " .. tokens.api end
      end }]]):format(mine.port, other.port, mine.port, token, mine.port))
  end)
  local function send(port, path, fields)
    local c = http.connect(p.port)
    c:send(("GET http://localhost:%d%s HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(port, path, fields or ""))
    local res = c:read_response "GET"
    c:close()
    return res
  end

  it("are the token where it belongs, once, whatever the client sent or named in Connection", function()
    for i, fields in ipairs { "", "Authorization: Bearer mine\r\n", "Connection: authorization\r\nauthorization: Bearer mine\r\n" } do
      assert.equal(200, send(mine.port, "/own" .. i, fields).status)
      local found = heads_for(mine, "/own" .. i)
      assert.equal(1, #found)
      assert.same({ "Bearer " .. token, 1 }, { found[1].fields.authorization, found[1].count.authorization })
    end
  end)
  it("are not sent to another host that may be reached: nothing is", function()
    assert.equal(500, send(other.port, "/other").status)
    assert.equal("", other.received())
  end)
  it("do not follow a redirect, which is relayed", function()
    local res = send(other.port, "/bare")
    assert.same({ 302, "http://localhost:1/elsewhere" }, { res.status, res.headers.location })
    assert.is_nil(other.received():find(token, 1, true))
  end)
  it("for the proxy itself are consumed, in every spelling of it that counts", function()
    for i, fields in ipairs { "Proxy-Authorization: Basic bWluZQ==\r\n", "pRoXy-AuThOrIzAtIoN: Basic bWluZQ==\r\nProxy-Authorization: Basic bWluZQ==\r\n",
      "Connection: Proxy-Authorization\r\nProxy-Authorization: Basic bWluZQ==\r\n" } do
      assert.equal(200, send(mine.port, "/consumed" .. i, fields).status)
    end
    assert.is_nil(mine.received():find("bWluZQ==", 1, true))
    assert.is_nil(p:errors():find("bWluZQ==", 1, true))
  end)
  it("are not in a tunnel", function()
    local before = mine.received()
    local c = http.connect(p.port)
    c:send(("CONNECT localhost:%d HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic bWluZQ==\r\n\r\n"):format(mine.port))
    assert.equal("HTTP/1.1 200 Connection established\r\n", (c.sock:receive "*l") .. "\r\n")
    c:send "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    process.poll(function() return mine.received():find("/tunnel", 1, true) end, 5, "the request in the tunnel")
    assert.equal("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", mine.received():sub(#before + 1))
    c:close()
  end)
  it("leave no trace in the log", function()
    p:finish()
    assert.is_nil((p:errors() .. p:output()):find(token, 1, true))
  end)
end)
