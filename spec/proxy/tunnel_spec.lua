--- Upgrades: WebSocket between two ends that nobody here wrote, and upstreams that answer an upgrade with something else.
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"
local cjson = require "cjson"

local upgrade = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
local switching = [[c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\nX-Kept: yes\r\n\r\n"]]

local function ws_server()
  local p = process.start { "node", "spec/support/peers/ws-server.mjs" }
  local port = process.poll(function() return p:output():match "^(%d+)\n" or p:ended() end, 20, "the server's port")
  return { port = tonumber(port), process = p }
end
local function ws_start(mode, p, path, ...)
  return process.start { "node", "spec/support/peers/ws-client.mjs", mode, ("ws://127.0.0.1:%d%s"):format(p.port, path), ... }
end
local function ws(mode, p, path, ...)
  local client = ws_start(mode, p, path, ...)
  local code = client:wait(30)
  assert(code == 0, client:errors())
  return cjson.decode(client:output():match "([^\n]*)\n$")
end

describe("a WebSocket", function()
  local server, proxy
  setup(function()
    server = ws_server()
    proxy = wire.proxy(server, "timeouts = { drain = '10s' },")
  end)

  it("opens, echoes 200 messages and closes with a code, its subprotocol negotiated through", function()
    assert.same({ protocol = "spec.v1", close = 1005 }, ws("echo", proxy, "/", "200"))
  end)
  it("carries a message of 32 MB both ways unchanged", function()
    assert.same({ close = 1005 }, ws("big", proxy, "/", tostring(32 * 1024 * 1024)))
  end)
  it("brings what the server says at once, right behind its 101", function()
    assert.same({ first = "hello nobody" }, ws("first", proxy, "/hello"))
  end)
  it("carries the server's close", function()
    assert.same({ echo = "x", code = 4000 }, ws("closed", proxy, "/close"))
  end)
  it("that is not granted gets the reply", function()
    assert.same({ status = 200 }, ws("status", proxy, "/refuse"))
  end)
  it("leaves plain requests alone, on the same proxy", function()
    local res = http.get(proxy.port)
    assert.same({ "plain", "none" }, { res.body, res.headers["x-upgrade"] })
  end)
  it("is not offered upstream when the client's Connection does not say so, for h2c, or beside a body", function()
    for _, fields in ipairs { { Upgrade = "websocket" }, { Upgrade = "h2c", Connection = "Upgrade, HTTP2-Settings", ["HTTP2-Settings"] = "AAMAAABk" } } do
      assert.equal("none", http.get(proxy.port, "/", fields).headers["x-upgrade"])
    end
    local res = http.request(proxy.port, "POST", "/", { Upgrade = "websocket", Connection = "Upgrade" }, "body")
    assert.equal("none", res.headers["x-upgrade"])
  end)
  it("carries the token, which the client never sees", function()
    local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      tokens = { api = { fetch = function() return { value = "tok3n", expires_in = 60 } end } },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end }]]):format(server.port))
    assert.same({ first = "hello Bearer tok3n" }, ws("first", p, "/hello"))
    p:finish()
  end)
  it("lives on over reloads, 50 of them at once, none torn or crossed", function()
    local stop = process.temp_dir() .. "/stop"
    local clients = ws_start("hold", proxy, "/", "50", stop)
    process.poll(function() return clients:output():find "open" or clients:ended() end, 20, "the tunnels to open")
    process.poll(function() return proxy:status().workers[1].tunnels == 50 end, 5, "50 tunnels")
    for _ = 1, 3 do
      assert.equal(200, (proxy:control("POST", "/reload")).status)
      assert.equal("plain", http.get(proxy.port).body)
    end
    assert.equal(50, proxy:status().workers[1].tunnels)
    process.write_file(stop, "")
    assert.equal(0, clients:wait(20), clients:errors())
    assert.is_true(cjson.decode(clients:output():match "([^\n]*)\n$").echoed >= 50)
    process.poll(function() return proxy:status().workers[1].tunnels == 0 end, 5, "the tunnels to go")
  end)
  it("is one of 1,000 at once that go on over a reload, beside one whose client does not read, in bounded memory", function()
    if tonumber(process.read_file "/proc/self/limits":match "Max open files%s+%d+%s+(%d+)") < 4096 then return pending "too few descriptors here" end
    local p = wire.release_proxy(server, "timeouts = { drain = '10s' },")
    local dir = process.temp_dir()
    local function tunnels() return p:status().workers[1].tunnels end
    http.get(p.port)
    local before = wire.rss(p)
    local clients = ws_start("hold", p, "/", "1000", dir .. "/stop")
    process.poll(function() return clients:output():find "open" or clients:ended() end, 30, "the tunnels to open")
    process.poll(function() return tunnels() == 1000 end, 5, "1,000 tunnels")
    local open = wire.rss(p)
    local slow = ws_start("slow", p, "/", "128", dir .. "/read")
    process.poll(function() return slow:output():find "sending" or slow:ended() end, 20, "the slow one to send")
    for _ = 1, 3 do
      assert.equal(200, (p:control("POST", "/reload")).status)
      assert.equal("plain", http.get(p.port).body)
    end
    socket.sleep(1)
    assert.equal(1001, tunnels())
    local full = wire.rss(p)
    process.write_file(dir .. "/read", "")
    assert.equal(0, slow:wait(20), slow:errors())
    assert.same({ back = 128, close = 1005 }, cjson.decode(slow:output():match "([^\n]*)\n$"))
    process.write_file(dir .. "/stop", "")
    assert.equal(0, clients:wait(30), clients:errors())
    assert.is_true(cjson.decode(clients:output():match "([^\n]*)\n$").echoed >= 1000)
    process.poll(function() return tunnels() == 0 end, 5, "the tunnels to go")
    assert.is_true(open - before < 16 * 1024, ("%d KiB for 1,000 tunnels"):format(open - before))
    assert.is_true(full - open < 8 * 1024, ("%d KiB for the one that does not read, and reloads"):format(full - open))
    p:finish()
  end)
  it("leaves the proxy well, and so does one that is open at its end, which is ended by the drain limit", function()
    proxy:finish()
    local p = wire.proxy(server, "timeouts = { drain = '300ms' },")
    local client = ws_start("hold", p, "/", "1", "/nonexistent/stop")
    process.poll(function() return client:output():find "open" or client:ended() end, 20, "the tunnel to open")
    local took = wire.timed(function() p:finish() end)
    assert.is_true(took < 3, took)
    client:wait(5)
    assert.is_nil(client:output():find("echoed", 1, true))
    server.process:stop()
  end)
end)

describe("a tunnel", function()
  local function answering(script) return peers.raw("local head = c:read 'head' " .. script) end
  local function open(p)
    local c = http.connect(p.port)
    local res = c:request("GET", "/up", { Connection = "Upgrade", Upgrade = "chat" })
    assert.equal(101, res.status)
    return c, res
  end

  it("keeps the upstream's fields, and the two that make it one", function()
    local p = wire.proxy(answering(switching .. " c:write(c:read(5)) c:close()"))
    local c, res = open(p)
    assert.same({ "upgrade", "chat", "yes" }, { res.headers.connection:lower(), res.headers.upgrade, res.headers["x-kept"] })
    c:send "hello"
    assert.equal("hello", (c:read_all(3)))
    c:close()
    p:finish()
  end)
  it("names the protocol that the upstream took, of several that the client would speak", function()
    local p = wire.proxy(answering(switching .. " c:close()"))
    local c = http.connect(p.port)
    local res = c:request("GET", "/up", { Connection = "Upgrade", Upgrade = "spec/2, chat" })
    assert.same({ 101, "upgrade", "chat" }, { res.status, res.headers.connection:lower(), res.headers.upgrade })
    c:close()
    p:finish()
  end)
  it("carries what the client sent behind its head, and what the upstream sent behind its 101", function()
    local upstream = answering [[ c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nearly" c:write("|" .. c:read(7)) c:close() ]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send(upgrade .. "pending")
    assert.equal(101, c:read_response("GET").status)
    assert.equal("early|pending", (c:read_all(3)))
    c:close()
    p:finish()
  end)
  it("passes a FIN on each way and goes on in the other direction", function()
    local upstream = answering(switching .. [[ while not c.ended do c:sleep(5) end c:write("you said " .. c:joined()) c:close() ]])
    local p = wire.proxy(upstream)
    local c = open(p)
    c:send "goodbye"
    c:finish()
    local all, why = c:read_all(5)
    assert.same({ "you said goodbye", "closed" }, { all, why })
    c:close()
    process.poll(function() return p:status().workers[1].tunnels == 0 end, 5, "the tunnel to go")
    p:finish()
  end)
  it("ends when either side resets", function()
    local p = wire.proxy(answering(switching .. " c:read(1) c:reset()"))
    local c = open(p)
    c:send "x"
    assert.equal("closed", select(2, c:read_all(5)))
    c:close()
    p:finish()
    local upstream = answering(switching .. " c:read(1000) print 'released' c:close()")
    p = wire.proxy(upstream)
    c = open(p)
    c.sock:setoption("linger", { on = true, timeout = 0 })
    c:close()
    process.poll(function() return upstream.process:output():find "released" end, 5, "the upstream to be released")
    p:finish()
  end)
  it("gives its client what was queued before the upstream reset, and then ends", function()
    local dir = process.temp_dir()
    -- A Unix socket takes some 200 KiB for a client that does not read yet. Somewhere in these sizes the rest waits in the proxy, and is less than stops its reading.
    for size = 180000, 260000, 16000 do
      local upstream = answering(switching .. ("c:write(('x'):rep(%d)) c:read(1) c:reset() print 'reset'"):format(size))
      local p = jeton.start(([[return { listen = "unix:%s/in-%d.sock", upstream = "http://127.0.0.1:%d" }]]):format(dir, size, upstream.port))
      local c = http.connect(("unix:%s/in-%d.sock"):format(dir, size))
      c:send(upgrade)
      assert.equal(101, c:read_response("HEAD").status)
      process.poll(function() return p:status().workers[1].bytes_out >= size end, 5, "all of it to be in the proxy, or behind it")
      c:send "x"
      process.poll(function() return upstream.process:output():find "reset" end, 5, "the upstream's reset")
      assert.equal(size, #c:read_all(5))
      c:close()
      process.poll(function() return p:status().workers[1].tunnels == 0 end, 5, "the tunnel to go")
      p:finish()
    end
  end)
  it("in which nothing moves ends after its idle time", function()
    local p = wire.proxy(answering(switching .. " c:read(1000)"), "timeouts = { tunnel = '300ms' },")
    local c = open(p)
    local took = wire.timed(function() assert.equal("closed", select(2, c:read_all(5))) end)
    assert.is_true(took > 0.2 and took < 2, took)
    c:close()
    p:finish()
  end)
  it("bounds memory when one side does not read", function()
    local upstream = answering(switching .. [[ for _ = 1, 64 do c:write(("x"):rep(1024 * 1024)) end c:close() ]])
    local p = wire.release_proxy(upstream)
    local before = wire.rss(p)
    local c = open(p)
    local most = 0
    for _ = 1, 20 do
      socket.sleep(0.01)
      most = math.max(most, wire.rss(p))
    end
    assert.is_true(most - before < 8192, ("%d KiB more"):format(most - before))
    local got, ended = #c.rest, nil
    while not ended do
      local data, err, part = c.sock:receive(1024 * 1024)
      got, ended = got + #(data or part), err
    end
    assert.equal(64 * 1024 * 1024, got)
    c:close()
    p:finish()
  end)

  it("is not made by a 426, which says what to upgrade to, whoever asks", function()
    local p = wire.proxy(peers.raw [[ while c:read "head" do
      c:write "HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat/2\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\nold" end ]])
    local c = http.connect(p.port)
    for _, fields in ipairs { {}, { Connection = "Upgrade", Upgrade = "chat" } } do
      local res = c:request("GET", "/up", fields)
      assert.same({ 426, "upgrade", "chat/2", "old" }, { res.status, res.headers.connection, res.headers.upgrade, res.body })
    end
    local last = c:request("GET", "/up", { Connection = "close" })
    assert.equal("upgrade, close", last.headers.connection)
    assert.equal("closed", select(2, c:read_all(5)))
    c:close()
    p:finish()
  end)
  it("does not come of a 101 that nobody asked for: 502, and the connection closes", function()
    local upstream = answering(switching .. " c:write 'poison' c:read(1) print 'closed' c:close()")
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    assert.equal(502, c:request("GET", "/").status)
    c:send "more" -- not a tunnel: this is a request, and no good one
    c:close()
    process.poll(function() return upstream.process:output():find "closed" end, 5, "the connection to close")
    assert.is_nil(upstream.received():find("more", 1, true))
    p:finish()
  end)
  it("does not come of an upgrade that is answered 200: what the client sends behind it is its next request", function()
    local upstream = peers.raw [[
      local head = c:read "head"
      local body = head:find("/up", 1, true) and "HTTP/1.1 200 OK\r\nUpgrade: chat\r\nContent-Length: 5\r\n\r\nplainHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
      c:write(body or "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send(upgrade)
    assert.equal("plain", c:read_response("GET").body)
    assert.equal("next", c:request("GET", "/next").body)
    c:close()
    p:finish()
  end)
  it("comes of a request with a body, as docker exec and docker attach send it: the body goes first, then the tunnel", function()
    local upstream = peers.raw [[
      local head = c:read "head"
      local body = c:read(head:find "chunked" and #"5\r\nhello\r\n0\r\n\r\n" or 5)
      c:write "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
      c:write(head:lower():match "upgrade: (%w+)" .. "|" .. body:match "hello" .. "|" .. c:read(5))
      c:close()]]
    local p = wire.proxy(upstream)
    for _, body in ipairs { "Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" } do
      for _, cut in ipairs { 0, 3 } do
        local all = "POST /exec/1/start HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n" .. body .. "stdin"
        local reply = wire.exchange(p.port, { all:sub(1, #all - 5 - cut), all:sub(#all - 4 - cut) })
        assert.matches("^HTTP/1.1 101 UPGRADED\r\n.*\r\n\r\ntcp|hello|stdin$", reply)
      end
    end
    p:finish()
    upstream.process:stop()
  end)
  it("does not come of a 101 before the request was sent: 502, and nothing of the body is taken for the other protocol", function()
    local upstream = answering(switching .. " c:read(100) c:close()")
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send "POST /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\nContent-Length: 5\r\n\r\nhel"
    assert.equal(502, c:read_response("POST").status)
    c:send "lo"
    assert.equal("closed", select(2, c:read_all(5)))
    c:close()
    p:finish()
    upstream.process:stop()
  end)
  it("is not made when the client's body has been replaced and has not come", function()
    local upstream = answering(switching .. " c:read(100) c:close()")
    local p = wire.proxy(upstream, "on_request = function(req) req:set_body 'mine' end,")
    local c = http.connect(p.port)
    c:send "POST /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\nContent-Length: 5\r\n\r\nhel"
    assert.equal(502, c:read_response("POST").status)
    c:close()
    p:finish()
    upstream.process:stop()
  end)
  it("is not made for HTTP/1.0", function()
    local upstream = answering [[ c:write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" .. (head:lower():find("upgrade", 1, true) and "seen" or "none")) ]]
    local p = wire.proxy(upstream)
    assert.matches("none$", (wire.exchange(p.port, "GET /up HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")))
    p:finish()
  end)
end)

describe("on_response of a 101", function()
  local upstream, p
  setup(function()
    upstream = peers.raw("local head = c:read 'head' " .. switching .. " c:write(c:read(4)) c:close()")
    p = wire.proxy(upstream, [[
      on_request = function(req) req.ctx.began = true end,
      on_response = function(res, req)
        jeton.log.info(("seen %d %s %s %s %q"):format(res.status, req.path, req.ctx.began, res.headers["x-kept"], res:body()))
        if req.path == "/fields" then
          jeton.sleep(0.05)
          res.headers["x-kept"] = nil
          res.headers["x-mine"] = "yes"
        end
        if req.path == "/status" then res.status = 200 end
        if req.path == "/body" then res:set_body "no" end
        if req.path == "/respond" then req:respond(403) end
        if req.path == "/return" then return false end
      end,
      on_error = function(req, err) if req.path == "/respond" then req:respond(err.status, { ["x-error"] = "yes" }) end end,]])
  end)
  teardown(function()
    p:finish()
    upstream.process:stop()
  end)

  it("sees it, may change its fields, may wait, and the tunnel follows", function()
    local c = http.connect(p.port)
    c:send((upgrade:gsub("/up", "/fields")) .. "earl")
    local res = c:read_response "GET"
    assert.same({ 101, "upgrade", "chat", "yes" }, { res.status, res.headers.connection, res.headers.upgrade, res.headers["x-mine"] })
    assert.is_nil(res.headers["x-kept"])
    assert.equal("earl", (c:read_all(5)))
    c:close()
    p:wait_log 'seen 101 /fields true yes ""'
  end)
  for path, name in pairs { status = "res.status", body = "res:set_body", respond = "req:respond" } do
    it("cannot make a reply of it by " .. name .. ", which raises: 500, no tunnel, and the connection lives on", function()
      local c = http.connect(p.port)
      local res = c:request("GET", "/" .. path, { Connection = "Upgrade", Upgrade = "chat" })
      assert.same({ 500, path == "respond" and "yes" or nil }, { res.status, res.headers["x-error"] })
      p:wait_log(name .. ": the upstream has switched protocols (101)")
      assert.equal(500, c:request("GET", "/" .. path, { Connection = "Upgrade", Upgrade = "chat" }).status)
      c:close()
    end)
  end
  it("cannot let it pass by returning false", function()
    assert.equal(500, http.get(p.port, "/return", { Connection = "Upgrade", Upgrade = "chat" }).status)
  end)
  it("may end while its client leaves, or the upstream", function()
    for _, path in ipairs { "/fields", "/fields" } do
      local c = http.connect(p.port)
      c:send((upgrade:gsub("/up", path)))
      c:close()
    end
    process.poll(function() return p:status().workers[1].tunnels == 0 end, 5, "no tunnel")
  end)
end)
