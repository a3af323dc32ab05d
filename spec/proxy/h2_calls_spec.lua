--- Requests to servers that speak HTTP/2: streams shared and limited, refused, reset and replayed. What HTTP/1.1 has in common with it is in the other specs, which run by both.
local http = require "spec.support.http"
local h2_client = require "spec.support.h2_client"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local REFUSED_STREAM, CANCEL = 7, 8

local function proxy(upstream, more)
  return jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'http://127.0.0.1:%d', http2 = true }, %s }"):format(upstream.port, more or ""))
end

local function raw(script) return peers.raw(script, true) end

local function count(text, part) return select(2, text:gsub(part, "")) end

--- node's server, of so many streams a connection.
local function server(streams, certificates)
  local argv = { "node", "spec/support/peers/h2_server.mjs", tostring(streams) }
  if certificates then argv[4], argv[5] = certificates .. "/ecdsa.pem", certificates .. "/ecdsa.key" end
  local p = process.start(argv)
  process.poll(function() return p:output():find "\n" end, 20, "the server's port")
  return { process = p, port = tonumber(p:output():match "%d+") }
end

local function stats(p)
  local most, connections = http.get(p.port, "/stats").body:match "^(%d+) (%d+)$"
  return tonumber(most), tonumber(connections)
end

--- n requests at the same time, each on a connection of its own; their bodies.
local function together(p, n, path)
  local clients, bodies = {}, {}
  for i = 1, n do
    clients[i] = http.connect(p.port, 20)
    clients[i]:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
  end
  for i = 1, n do
    local res = clients[i]:read_response("GET", 20)
    assert.equal(200, res.status)
    bodies[i] = res.body
    clients[i]:close()
  end
  return bodies
end

describe("calls to one server", function()
  it("share a connection from the first burst on, and carry bodies both ways", function()
    local s = server(100)
    local p = proxy(s)
    together(p, 60, "/wait/200")
    local most, connections = stats(p)
    assert.equal(60, most)
    assert.equal(1, connections)
    local body = ("0123456789"):rep(50000)
    local res = http.request(p.port, "POST", "/", nil, body, 20)
    assert.equal("POST 2.0 1 " .. body, res.body)
    assert.equal(200, http.request(p.port, "HEAD", "/").status)
    p:finish()
    s.process:stop()
  end)

  for _, limit in ipairs { 1, 10 } do
    it(("never have more streams than the server allows, which is %d, and dial for more"):format(limit), function()
      local s = server(limit)
      local p = proxy(s)
      together(p, 30, "/wait/100")
      local most, connections = stats(p)
      assert.equal(limit, most)
      assert.is_true(connections >= 30 // limit and connections <= 34, connections)
      p:finish()
      s.process:stop()
    end)
  end

  it("keep to a limit that changes under way", function()
    local s = server(50)
    local p = proxy(s)
    http.get(p.port, "/streams/3")
    local _, on_it = table.concat(together(p, 12, "/wait/200"), "\n"):gsub("2%.0 1 ", "")
    assert.equal(3, on_it)
    for _ = 1, 6 do http.get(p.port, "/streams/40") end -- on whichever connection
    assert.equal(12, #together(p, 12, "/wait/100"))
    p:finish()
    s.process:stop()
  end)

  it("find a connection that was dialled before they came, when most places of the others are taken", function()
    local s = server(8)
    local p = proxy(s)
    http.get(p.port, "/")
    local clients = {}
    for i = 1, 6 do
      clients[i] = http.connect(p.port, 20)
      clients[i]:send "GET /wait/1500 HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    process.poll(function() return p:dialed() == 2 end, 5, "a spare connection")
    for i = 1, 6 do assert.equal(200, clients[i]:read_response("GET", 5).status) end
    p:finish()
    s.process:stop()
  end)
end)

describe("a stream that the server has not looked at", function()
  it("is opened anew, whatever the method, with the body that is at hand", function()
    local s = raw [[
      c:read "head"
      tries = (tries or 0) + 1
      if tries == 1 then return c:reset_stream(7) end
      local body = c:read(5)
      c:write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" .. body)]]
    local p = proxy(s)
    local res = http.request(p.port, "POST", "/first", nil, "hello")
    assert.same({ 200, "hello" }, { res.status, res.body })
    assert.equal(2, count(s.received(), "POST /first"))
    p:finish()
  end)

  it("is opened a few times and not for ever", function()
    local s = raw(('c:read "head" c:reset_stream(%d)'):format(REFUSED_STREAM))
    local p = proxy(s)
    assert.equal(502, http.request(p.port, "POST", "/never", nil, "hello").status)
    assert.equal(4, count(s.received(), "POST /never"))
    assert.matches("refused the stream", p:errors())
    p:finish()
  end)

  it("is not what another RST_STREAM says: the request is not sent again, on a connection that has served before either", function()
    local s = raw [[
      local head = c:read "head"
      if head:find "/calm" then return c:reset_stream(11) end
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]]
    local p = proxy(s)
    assert.equal(200, http.get(p.port, "/").status)
    assert.equal(502, http.get(p.port, "/calm").status)
    assert.equal(1, count(s.received(), "GET /calm"))
    assert.equal(200, http.get(p.port, "/").status)
    p:finish()
  end)

  it("is a 502 when its body has gone", function()
    local s = raw(('c:read "head" c:read(300000) c:reset_stream(%d)'):format(REFUSED_STREAM))
    local p = proxy(s)
    assert.equal(502, http.request(p.port, "POST", "/gone", nil, ("x"):rep(400000), 20).status)
    assert.equal(1, count(s.received(), "POST /gone"))
    p:finish()
  end)

  it("since the server said GOAWAY goes to another connection", function()
    local s = raw [[
      local head = c:read "head"
      known = known or {}
      local of = c.connection
      if head:find "POST" and not first then
        first = of
        c:goaway(c.stream - 2, 0)
        return
      end
      c:write(("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s"):format(of == first and "older" or "other"))]]
    local p = proxy(s)
    assert.equal(200, http.get(p.port, "/").status)
    local res = http.request(p.port, "POST", "/", nil, "hello")
    assert.same({ 200, "other" }, { res.status, res.body })
    process.poll(function() return p:dialed() == 2 end, 5, "a second connection to be counted")
    p:finish()
  end)

  it("for want of HTTP/1.1 goes by that where ALPN may decide, and so do those behind it", function()
    local dir = peers.certificates()
    local s = server(100, dir)
    local p = jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'https://localhost:%d', http2 = 'auto', tls = { ca = %q } } }"):format(s.port, dir .. "/ca.pem"))
    assert.matches("^GET 2%.0 ", http.get(p.port, "/").body)
    assert.matches("^POST 1%.1 0 hello", http.request(p.port, "POST", "/http1", nil, "hello").body)
    assert.matches("^GET 1%.1 ", http.get(p.port, "/").body)
    p:finish()
    p = jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'https://localhost:%d', http2 = true, tls = { ca = %q } } }"):format(s.port, dir .. "/ca.pem"))
    assert.equal(502, http.get(p.port, "/http1").status)
    assert.matches("wants HTTP/1.1", p:errors())
    p:finish()
    s.process:stop()
  end)
end)

describe("the end of one stream", function()
  it("cuts its own reply, and no other of the connection", function()
    local s = raw(([[
      local head = c:read "head"
      if head:find "/cut" then
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"
        c:sleep(100)
        return c:reset_stream(%d)
      end
      c:sleep(400)
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"]]):format(CANCEL))
    local p = proxy(s)
    local other, cut = http.connect(p.port), http.connect(p.port)
    other:send "GET /other HTTP/1.1\r\nHost: a\r\n\r\n"
    cut:send "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n"
    assert.is_truthy(cut:read_response("GET").broken)
    assert.equal("fine", other:read_response("GET").body)
    assert.equal(1, p:dialed())
    p:finish()
  end)

  it("whose reply waited for a hook takes a connection with it that is too old", function()
    local s = server(100)
    local p = jeton.start(([[return { listen = '127.0.0.1:0', upstream = { 'http://127.0.0.1:%d', http2 = true, pool = { age = '100ms' } },
      on_response = function() jeton.sleep(0.3) end }]]):format(s.port))
    for i = 1, 3 do assert.equal(("POST 2.0 %d hello"):format(i), http.request(p.port, "POST", "/", nil, "hello").body) end
    p:finish()
    s.process:stop()
  end)

  it("by a limit of time leaves the connection as it is", function()
    local s = raw [[
      local head = c:read "head"
      if head:find "/mute" then return c:read "head" end
      c:write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")]]
    local p = jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'http://127.0.0.1:%d', http2 = true, timeouts = { first_byte = '300ms' } } }"):format(s.port))
    assert.equal(200, http.get(p.port, "/").status)
    assert.equal(504, http.get(p.port, "/mute").status)
    assert.equal(200, http.get(p.port, "/").status)
    assert.equal(1, p:dialed())
    assert.matches("stream %d+ reset 8", s.process:output())
    p:finish()
  end)

  it("by 401 is followed by a replay on a new stream, with the body that was kept, while others go on", function()
    local s = raw [[
      local head = c:read "head"
      if head:find "/slow" then c:sleep(600) end
      local body = head:find "POST" and c:read(5) or ""
      local fine = head:find("/slow", 1, true) or head:find("Bearer token2", 1, true)
      c:write(("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s"):format(fine and "200 OK" or "401 Unauthorized", #body, body))]]
    local p = proxy(s, [[
      tokens = { api = { fetch = function(ctx) return { value = ctx.reason == "rejected" and "token2" or "token1", expires_in = 300 } end } },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,]])
    local slow = http.connect(p.port)
    slow:send "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    local res = http.request(p.port, "POST", "/", nil, "hello")
    assert.same({ 200, "hello" }, { res.status, res.body })
    assert.equal(2, count(s.received(), "POST /"))
    assert.equal(200, slow:read_response("GET").status)
    assert.equal(1, p:dialed())
    p:finish()
  end)
end)

describe("a whole reply", function()
  it("in front of a request that is not counts as one, although its connection ends while its owner is paused", function()
    local s = raw [[
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Early: yes\r\n\r\n"
      c:sleep(200)
      c.connection:close()]]
    local p = proxy(s, "on_response = function() jeton.sleep(0.6) end")
    local client = http.connect(p.port)
    client:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhe"
    local res = client:read_response("POST", 5)
    assert.same({ 200, "yes" }, { res.status, res.headers["x-early"] })
    p:finish()
  end)
  it("to a request that waits for a window, all of which its client has sent, leaves the client its connection", function()
    local go = process.temp_dir() .. "/go"
    local upstream = raw(([[
      c.connection.hold = true -- nothing of the body is taken
      c:read "head"
      repeat c:sleep(10) local f = io.open(%q) until f
      c:write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")]]):format(go))
    local p = proxy(upstream)
    local c = http.connect(p.port)
    local first, last = 125000, 8000 -- with the last ones more waits than the proxy queues: it would take no more
    c:send(("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(first + last) .. ("x"):rep(first))
    local function has_come(n) process.poll(function() return p:status().workers[1].bytes_in == n end, 5, n .. " bytes to have come") end
    has_come(first)
    c:send(("x"):rep(last))
    has_come(first + last)
    process.write_file(go, "")
    local res = c:read_response "PUT"
    assert.same({ 200, "fine" }, { res.status, res.body })
    assert.is_nil(res.headers.connection)
    c:close()
    p:finish()
  end)
end)

describe("a body with secrets that waits for a window", function()
  local function waiting(expires_in)
    local go = process.temp_dir() .. "/go"
    local upstream = raw(([[
      c.connection.hold = true
      c:read "head"
      repeat c:sleep(10) local f = io.open(%q) until f
      c.connection.hold = false
      c.h2:consumed(c.stream, 65535)
      c.connection:flush()
      local body = c:read(100006)
      c:write(("HTTP/1.1 200 OK\r\nContent-Length: %%d\r\n\r\n%%s"):format(6, body and body:sub(-6) or "broken"))]]):format(go))
    local p = proxy(upstream, ([[timeouts = { first_byte = 0, send = 0 },
      tokens = { api = { leeway = 0, fetch = function() return { value = "t0ken!", expires_in = %s } end } },
      on_request = function(req, tokens) req:set_body(("x"):rep(100000) .. tokens.api) end]]):format(expires_in))
    return upstream, p, go
  end

  it("ends with its token, and nothing more of it is sent", function()
    local upstream, p, go = waiting(2)
    assert.equal(504, http.request(p.port, "POST", "/", nil, "x", process.stretched(20)).status)
    p:wait_log "the upstream did not take the request before a token in it ended"
    process.poll(function() return upstream.process:output():find "stream %d+ reset 8" end, 5, "the stream's reset")
    process.write_file(go, "")
    p:finish()
    assert.is_nil(upstream.received():find("t0ken", 1, true))
    upstream.process:stop()
  end)

  it("goes on when that opens before", function()
    local upstream, p, go = waiting(300)
    local c = http.connect(p.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    process.poll(function() return upstream.received():find "POST /" end, 5, "the head")
    process.write_file(go, "")
    assert.equal("t0ken!", c:read_response("POST").body)
    c:close()
    p:finish()
    upstream.process:stop()
  end)
end)

describe("requests of many clients", function()
  it("leave in far fewer writes than there are of them", function()
    local ROUNDS, CLIENTS = 20, 64
    local library = process.temp_dir() .. "/counters.so"
    assert.equal(0, (process.run { "gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library, jeton.root .. "/spec/support/counters.c", "-ldl" }))
    local file = process.write_file(process.temp_dir() .. "/counters", ("\0"):rep(8 * 9))
    local nginx = peers.nginx("location / { return 200 'ok'; }", "http2")
    local p = jeton.start {
      policy = ("return { listen = '127.0.0.1:0', upstream = { 'http://127.0.0.1:%d', http2 = true }, log = { access = false } }"):format(nginx.port),
      binary = jeton.root .. "/build/jeton", env = { LD_PRELOAD = library, COUNTERS = file, UV_USE_IO_URING = "0" },
    }
    local clients = {}
    for i = 1, CLIENTS do clients[i] = http.connect(p.port) end
    local function round()
      for i = 1, CLIENTS do clients[i]:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n" end
      for i = 1, CLIENTS do assert.equal(200, clients[i]:read_response("GET").status) end
    end
    local function writes() return (select(2, string.unpack("=I8I8", process.read_file(file)))) end
    round()
    local before = writes()
    for _ = 1, ROUNDS do round() end
    local each = (writes() - before) / (ROUNDS * CLIENTS)
    assert.is_true(each < 1.5, ("%.2f writes a request, one of them to its client"):format(each))
    p:finish()
    nginx.process:stop()
  end)
end)

describe("jeton.http", function()
  it("speaks HTTP/2 to an issuer that does, over TLS or with prior knowledge, and HTTP/1.1 where it is told to", function()
    local dir = peers.certificates()
    local plain, secure = server(100), server(100, dir)
    local p = jeton.start(([[return { listen = '127.0.0.1:0', on_request = function(req)
      local url = req.path == '/plain' and 'http://127.0.0.1:%d/' or 'https://localhost:%d/'
      local http2 = true
      if req.path == '/auto' then http2 = 'auto' elseif req.path == '/off' then http2 = false end
      local res = assert(jeton.http.post(url, { body = ('x'):rep(100000), http2 = http2, tls = req.path ~= '/plain' and { ca = %q } or nil }))
      req:respond(res.status, {}, res.body:sub(1, 12) .. #res.body)
    end }]]):format(plain.port, secure.port, dir .. "/ca.pem"))
    for path, said in pairs { ["/plain"] = "POST 2.0 1 x", ["/tls"] = "POST 2.0 ", ["/auto"] = "POST 2.0 ", ["/off"] = "POST 1.1 0 x" } do
      local res = http.get(p.port, path)
      assert.equal(200, res.status, res.body .. p:errors())
      assert.equal(said, res.body:sub(1, #said))
      assert.equal("100011", res.body:sub(13))
    end
    p:finish()
    plain.process:stop()
    secure.process:stop()
  end)
end)

-- In many pieces, more than a stream keeps without a copy.
describe("a reply that breaks in the read that brought its head", function()
  local REPLIES = {
    h1 = [[ c:read "head" c:write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" .. ("4\r\nhalf\r\n"):rep(20) .. "zz\r\n") ]],
    h2 = [[ c:read "head" c.h2:headers(c.stream, { { ":status", "200" } }) for _ = 1, 20 do c.h2:data(c.stream, "half") end c:reset_stream(2) ]],
  }
  for _, client in ipairs { "h1", "h2" } do
    for _, upstream in ipairs { "h1", "h2" } do
      it(("leaves nothing in the error that the client gets: %s to %s"):format(client, upstream), function()
        local broken = peers.raw(REPLIES[upstream], upstream == "h2")
        local p = jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'http://127.0.0.1:%d', http2 = %s }, log = { access = true } }"):format(broken.port, tostring(upstream == "h2")))
        local c = client == "h2" and h2_client.connect(p.port) or http.connect(p.port)
        c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        local res = c:read_response "GET"
        assert.equal(502, res.status)
        assert.is_nil(res.broken)
        assert.matches("^502 Bad Gateway\nrequest %x+\n$", res.body)
        assert.equal(tostring(#res.body), res.headers["content-length"])
        c:close()
        p:finish()
      end)
    end
  end
end)
