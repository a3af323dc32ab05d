--- What goes wrong around the proxy: upstreams that refuse, hang, reset; clients that leave; descriptors that run out; signals under load.
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"
local cjson = require "cjson"

local function count(text, what) return select(2, text:gsub(what, "")) end

describe("an upstream", function()
  it("that refuses is a 502 at once", function()
    local p = wire.proxy(peers.free_port())
    local took, res = wire.timed(function() return http.get(p.port) end)
    assert.equal(502, res.status)
    assert.is_true(took < 1, took)
    assert.matches("^502 Bad Gateway\n", res.body)
    assert.is_nil(res.body:find("127.0.0.1", 1, true)) -- internals are for the log
    p:finish()
  end)
  it("that does not accept is a 504 when the time to connect is over", function()
    local port, done = peers.hanging_port()
    local p = wire.proxy(port, "timeouts = { connect = '300ms' },")
    local took, res = wire.timed(function() return http.get(p.port) end)
    assert.equal(504, res.status)
    assert.is_true(took > 0.2 and took < 2, took)
    p:finish()
    done()
  end)
  it("that swallows the request is a 504 on time, and its connection is not used again", function()
    local upstream = peers.raw [[ while c:read "head" do print("request on " .. c.number) end print("closed " .. c.number) c:close() ]]
    local p = wire.proxy(upstream, "timeouts = { first_byte = '300ms' },")
    local took, res = wire.timed(function() return http.get(p.port) end)
    assert.equal(504, res.status)
    assert.is_true(took > 0.2 and took < 2, took)
    process.poll(function() return upstream.process:output():find "closed 1" end, 5, "the connection to close")
    assert.equal(504, http.get(p.port).status)
    assert.is_truthy(upstream.process:output():find "request on 2")
    p:finish()
  end)
  it("that stalls within its reply is seen by the client as an abort, and the worker lives", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello" ]]
    local p = wire.proxy(upstream, "timeouts = { response = '300ms' },")
    local took, res = wire.timed(function() return http.get(p.port) end)
    assert.same({ 200, "hello", "closed" }, { res.status, res.body, res.broken })
    assert.is_true(took < 2, took)
    p:finish()
  end)
  it("that resets in the middle of its body is seen by the client as an abort, and the worker lives", function()
    local upstream = peers.raw [[
      local head = c:read "head"
      if head:find("/whole", 1, true) then return c:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" end
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"
      c:sleep(30)
      c:reset()]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send "GET /cut HTTP/1.1\r\nHost: a\r\n\r\nGET /whole HTTP/1.1\r\nHost: a\r\n\r\n"
    local res = c:read_response "GET"
    assert.same({ 200, "hello", "closed" }, { res.status, res.body, res.broken })
    c:close()
    assert.equal("ok", http.get(p.port, "/whole").body)
    p:finish()
  end)
  it("that does not read a large request is a 504 when the time to send is over", function()
    local server = assert(socket.bind("127.0.0.1", 0)) -- accepts by its queue, reads nothing
    local _, port = server:getsockname()
    local p = wire.proxy(math.tointeger(port), "timeouts = { send = '300ms', body = '5s' },")
    local c = http.connect(p.port)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(64 * 1024 * 1024))
    c.sock:settimeout(0)
    local piece = ("x"):rep(1024 * 1024)
    for _ = 1, 64 do if not c.sock:send(piece) and not select(2, socket.select(nil, { c.sock }, 0.1))[1] then break end end
    local res = c:read_response("POST", 5)
    assert.equal(504, res.status)
    c:close()
    server:close()
    p:finish()
  end)
  it("that is too slow as a whole is a 504", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 100 Continue\r\n\r\n" ]]
    local p = wire.proxy(upstream, "timeouts = { exchange = '300ms' },")
    local took, res = wire.timed(function() return http.get(p.port) end)
    assert.equal(504, res.status)
    assert.is_true(took < 2, took)
    p:finish()
  end)
  it("whose name does not resolve is a 502 or 504 in time, and the loop is not blocked meanwhile", function()
    local live = peers.raw(wire.fine)
    local p = wire.proxy("http://name.invalid:80", ("timeouts = { connect = '2s' }, upstreams = { live = 'http://127.0.0.1:%d' }, %s"):format(live.port,
      "on_request = function(req) if req.path == '/live' then req.upstream = 'live' end end,"))
    local c = http.connect(p.port)
    local t0 = socket.gettime()
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ = 1, 10 do
      local took, res = wire.timed(function() return http.get(p.port, "/live") end)
      assert.equal("fine", res.body)
      assert.is_true(took < 1.5, took)
    end
    assert.matches("^50[24]$", tostring(c:read_response("GET").status))
    assert.is_true(socket.gettime() - t0 < 5)
    c:close()
    p:finish()
  end)
end)

describe("an error reply", function()
  it("is short text, or JSON for who accepts that; its id is in the log, and what went wrong is there alone", function()
    local p = wire.proxy("http://name-that-is-internal.invalid:1")
    for _, case in ipairs { { nil, "text/plain; charset=utf-8" }, { "text/html, */*;q=0.1", "text/plain; charset=utf-8" }, { "application/json", "application/json" },
      { "text/plain;q=0.5, application/problem+json", "application/json" } } do
      local res = http.request(p.port, "GET", "/", { Accept = case[1] })
      assert.equal(502, res.status)
      assert.equal(case[2], res.headers["content-type"])
      assert.equal("no-store", res.headers["cache-control"])
      assert.is_nil(res.headers["retry-after"]) -- a 502 promises nothing
      local id
      if case[2] == "application/json" then
        local body = cjson.decode(res.body)
        id = body.id
        assert.same({ status = 502, error = "Bad Gateway", id = id }, body)
      else
        id = res.body:match "^502 Bad Gateway\nrequest (%x+)\n$"
      end
      assert.is_truthy(id, res.body)
      assert.is_nil(res.body:find("internal", 1, true))
      p:wait_log("request " .. id .. ": 502: ")
    end
    p:finish()
  end)
  it("to what is no request is the same, and closes", function()
    local p = wire.proxy(peers.free_port())
    local all, why = wire.exchange(p.port, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert.equal("closed", why)
    assert.matches("^HTTP/1.1 400 Bad Request\r\n", all)
    assert.matches("\r\n\r\n400 Bad Request\nrequest %x+\n$", all)
    p:finish()
  end)
  it("of 503 says when to come again", function()
    local p = wire.proxy(peers.free_port(), [[ tokens = { api = { fetch = function() error "down" end, missing = "fail", backoff = { min = "30s", max = "30s" } } },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end, ]])
    local res = http.get(p.port)
    assert.equal(503, res.status)
    local seconds = tonumber(res.headers["retry-after"])
    assert.is_true(seconds >= 1 and seconds <= 31, seconds)
    p:finish()
  end)
end)

describe("an upstream of several addresses", function()
  local function several(ports, more)
    local urls = {}
    for i, port in ipairs(ports) do urls[i] = ("'http://127.0.0.1:%d'"):format(port) end
    return jeton.start(("return { listen = '127.0.0.1:0', upstream = { %s }, %s }"):format(table.concat(urls, ", "), more or ""))
  end
  it("takes them in turn", function()
    local a, b = peers.raw(wire.fine), peers.raw(wire.fine)
    local p = several { a.port, b.port }
    for _ = 1, 10 do assert.equal(200, http.get(p.port).status) end
    assert.equal(5, #wire.heads(a.received()))
    assert.equal(5, #wire.heads(b.received()))
    p:finish()
  end)
  it("of which one refuses shows no client an error, POST included, and passes it over from then on", function()
    local live = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" .. c:read(5))
      end]]
    local dead = peers.free_port()
    local p = several { dead, live.port, dead }
    for _ = 1, 20 do assert.equal("hello", http.request(p.port, "POST", "/", nil, "hello").body) end
    assert.is_true(count(p:errors(), "connection refused") <= 2, p:errors())
    p:finish()
  end)
  it("of which one hangs costs its time to connect once", function()
    local live = peers.raw(wire.fine)
    local port, done = peers.hanging_port()
    local p = several({ port, live.port }, "timeouts = { connect = '1s' },")
    local took = wire.timed(function() for _ = 1, 10 do assert.equal(200, http.get(p.port).status) end end)
    assert.is_true(took < 3.5, took) -- five of the ten begin with the one that hangs
    p:finish()
    done()
  end)
  it("that are all dead is a 502", function()
    local p = several { peers.free_port(), peers.free_port() }
    for _ = 1, 4 do assert.equal(502, http.get(p.port).status) end
    p:finish()
  end)
end)

describe("a pooled connection whose upstream says how long it waits", function()
  it("is closed before that, and one that waits longer than the pool is not", function()
    local upstream = peers.raw [[
      local limits = { "timeout=1", "max=5, timeout=3", "timeout=1000", "timeout=soon" }
      c:read "head"
      begun = (begun or 0) + 1
      while begun < 4 do c:sleep(5) end -- all are asked before one is answered: so each request has a connection of its own
      c:write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nKeep-Alive: " .. limits[c.number] .. "\r\n\r\n")
      if not c:read "head" then print(("connection %d ended"):format(c.number)) end]]
    local p = wire.proxy(upstream, "timeouts = { pool = '1h' },")
    local clients = {}
    for i = 1, 4 do
      clients[i] = http.connect(p.port)
      clients[i]:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    for i = 1, 4 do assert.equal(200, clients[i]:read_response("GET").status) end
    process.poll(function() return select(2, upstream.process:output():gsub("ended", "")) == 2 end, 20, "two connections to be closed")
    assert.matches("connection 1 ended.*connection 2 ended", upstream.process:output())
    for i = 1, 4 do clients[i]:close() end
    p:finish()
  end)
end)

describe("a pooled connection that the upstream closes when a request comes", function()
  -- The first request of a connection is answered; at the second it closes. `always`: fresh ones close without an answer, too, once there was one.
  local function closing(always)
    return peers.raw(([[
      if %s and c.number > 1 then c:read "head" return c:close() end
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
      c:read "head"
      c:close()]]):format(always and "true" or "false"))
  end
  for _, method in ipairs { "GET", "HEAD", "PUT", "DELETE", "OPTIONS" } do
    it("is no error for an idempotent request: " .. method .. " is sent once more", function()
      local upstream = closing()
      local p = wire.proxy(upstream)
      assert.equal(200, http.get(p.port, "/first").status)
      assert.equal(200, http.request(p.port, method, "/second").status)
      assert.equal(2, count(upstream.received(), "/second HTTP"))
      p:finish()
    end)
  end
  for _, method in ipairs { "POST", "PATCH" } do
    it("is a 502 for " .. method .. ", which is never sent twice", function()
      local upstream = closing()
      local p = wire.proxy(upstream)
      assert.equal(200, http.get(p.port, "/first").status)
      assert.equal(502, http.request(p.port, method, "/second", nil, "").status)
      assert.equal(1, count(upstream.received(), "/second HTTP"))
      p:finish()
    end)
  end
  it("is tried again once, not for ever", function()
    local upstream = closing(true)
    local p = wire.proxy(upstream)
    assert.equal(200, http.get(p.port, "/first").status)
    assert.equal(502, http.get(p.port, "/second").status)
    assert.equal(2, count(upstream.received(), "/second HTTP"))
    p:finish()
  end)
  it("is a 502 for a PUT whose body is not at hand any more", function()
    local upstream = closing()
    local p = wire.proxy(upstream)
    assert.equal(200, http.get(p.port, "/first").status)
    assert.equal(502, http.request(p.port, "PUT", "/second", nil, ("x"):rep(1024 * 1024)).status)
    assert.equal(1, count(upstream.received(), "/second HTTP"))
    p:finish()
  end)
  it("while it is idle is not used at all", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" c:sleep(20) c:close() ]]
    local p = wire.proxy(upstream)
    local descriptors = wire.descriptors(p)
    for _ = 1, 5 do
      assert.equal(200, http.request(p.port, "POST", "/", nil, "").status)
      process.poll(function() return wire.descriptors(p) == descriptors end, 5, "the connections to close")
    end
    p:finish()
  end)
end)

describe("a client", function()
  it("that leaves in the middle of its upload releases the upstream", function()
    local upstream = peers.raw [[ c:read "head" c:read(10000000) print "released" c:close() ]]
    local p = wire.proxy(upstream)
    for i, leave in ipairs { function(c) c:close() end, function(c) c.sock:setoption("linger", { on = true, timeout = 0 }) c:close() end, function(c) c:finish() end } do
      local c = http.connect(p.port)
      c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhello"
      process.poll(function() return count(upstream.received(), "hello") == i end, 5, "the body's beginning to arrive")
      leave(c)
      process.poll(function() return count(upstream.process:output(), "released") == i end, 5, "the upstream to be released")
    end
    process.poll(function() return p:status().workers[1].connections <= 1 end, 5, "the connections to be gone")
    p:finish()
  end)
  it("that leaves in the middle of its reply releases the upstream", function()
    local upstream = peers.raw [[
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      while not c.ended do c:write(("400\r\n" .. ("x"):rep(1024) .. "\r\n"):rep(64)) end
      print "released"
      c:close()]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() c.sock:settimeout(0.1) return c.sock:receive(1000) end, 5, "the reply to begin")
    c:close()
    process.poll(function() return count(upstream.process:output(), "released") == 1 end, 5, "the upstream to be released")
    p:finish()
  end)
end)

describe("a slow client", function()
  local upstream, proxy
  setup(function()
    upstream = peers.raw(wire.fine)
    proxy = wire.proxy(upstream, "timeouts = { head = '400ms', body = '400ms', idle = '400ms', send = '400ms' },")
  end)
  -- The drops come in one by one meanwhile, and others are served as ever.
  local function drip(c, drops, seconds)
    local t0, times, all = socket.gettime(), {}, ""
    while socket.gettime() - t0 < seconds do
      c:send(drops)
      times[#times + 1] = wire.timed(function() assert.equal("fine", http.get(proxy.port, "/other").body) end)
      local bytes, why = c:read_all(0.05)
      all = all .. bytes
      if why == "closed" then break end
    end
    table.sort(times)
    local median = times[(#times + 1) // 2] -- who had to wait for the slow one would wait its 400 ms
    assert.is_true(median < 0.3, "others waited " .. median)
    return all, socket.gettime() - t0
  end
  it("with a head drop by drop gets a 408 when the head's time is over", function()
    local c = http.connect(proxy.port)
    c:send "GET /slow HTTP/1.1\r\nHost: a\r\n"
    local all, took = drip(c, "X: y\r\n", 3)
    assert.matches("^HTTP/1.1 408 ", all)
    assert.is_true(took < 2, took)
    c:close()
    assert.is_nil(upstream.received():find("/slow", 1, true))
  end)
  it("with a body that stalls gets a 408", function()
    local c = http.connect(proxy.port)
    c:send "POST /stalled HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"
    local took, res = wire.timed(function() return c:read_response "POST" end)
    -- The scripted upstream answers at the head: an early reply is as good
    assert.is_true(res.status == 408 or res.body == "fine", res.status)
    assert.is_true(took < 2, took)
    assert.equal("closed", select(2, c:read_all(3)))
    c:close()
  end)
  it("that says nothing is closed without a word when the idle time is over, before and between requests", function()
    local c = http.connect(proxy.port)
    local took, all = wire.timed(function() return (c:read_all(3)) end)
    assert.equal("", all)
    assert.is_true(took > 0.2 and took < 2, took)
    c:close()
    c = http.connect(proxy.port)
    assert.equal("fine", c:request("GET", "/").body)
    took, all = wire.timed(function() return (c:read_all(3)) end)
    assert.equal("", all)
    assert.is_true(took > 0.2 and took < 2, took)
    c:close()
  end)
  it("that does not read its reply is given up, and the upstream is released", function()
    local endless = peers.raw [[
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      while not c.ended do c:write(("400\r\n" .. ("x"):rep(1024) .. "\r\n"):rep(64)) end
      print "released"
      c:close()]]
    local p = wire.proxy(endless, "timeouts = { send = '400ms' },")
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return endless.process:output():find "released" end, 5, "the upstream to be released")
    c:close()
    p:finish()
  end)
  it("with a body that stalls and an upstream that waits for it gets a 408, and the upstream is released", function()
    local waiting = peers.raw [[ c:read "head" c:read(1000000) print "released" c:close() ]]
    local p = wire.proxy(waiting, "timeouts = { body = '300ms' },")
    local c = http.connect(p.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"
    assert.equal(408, c:read_response("POST").status)
    process.poll(function() return waiting.process:output():find "released" end, 5, "the upstream to be released")
    c:close()
    p:finish()
  end)
  it("leaves the proxy well", function() proxy:finish() end)
end)

describe("without descriptors", function()
  -- The program started by a shell that has lowered the limit.
  local function limited(n, upstream, more)
    local wrapper = process.write_file(process.temp_dir() .. "/jeton", ("#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n"):format(n, jeton.binary))
    assert(os.execute("chmod 755 " .. wrapper))
    local real = jeton.binary
    jeton.binary = wrapper
    local ok, p = pcall(wire.proxy, upstream, more)
    jeton.binary = real
    return assert(ok and p, p)
  end
  local function crowd(p, n)
    local all = {}
    for _ = 1, n do
      local s = socket.tcp()
      s:settimeout(1)
      if s:connect("127.0.0.1", p.port) then all[#all + 1] = s else s:close() end
    end
    return all
  end
  local function leave(all) for _, s in ipairs(all) do s:close() end end

  for name, more in pairs { ["for more clients than the policy allows"] = "limits = { connections = 1000 },", ["when jeton itself holds clients back"] = "" } do
    it("it neither spins nor dies, and recovers: " .. name, function()
      local upstream = peers.raw(wire.fine)
      local p = limited(64, upstream, more)
      assert.equal("fine", http.get(p.port).body)
      local all = crowd(p, 120)
      local before = wire.cpu(p)
      socket.sleep(0.5)
      assert.is_true(wire.cpu(p) - before < 0.25, "processor time: " .. wire.cpu(p) - before)
      leave(all)
      process.poll(function()
        local ok, res = pcall(http.get, p.port)
        return ok and res and res.body == "fine"
      end, 5, "service to return")
      for _ = 1, 20 do assert.equal("fine", http.get(p.port).body) end
      p:finish()
    end)
  end
  it("for clients and upstreams there are some for the control socket, and a reload", function()
    local upstream = peers.raw [[ c:read "head" c:sleep(60000) ]]
    local p = limited(64, upstream, "limits = { connections = 1000 },")
    local all = crowd(p, 120)
    for _, s in ipairs(all) do s:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n" end -- busy: none can be closed for another one, and each wants an upstream
    p:wait_log "too many open files"
    for _ = 1, 5 do
      assert.is_true(p:status().workers[1].connections > 5)
      assert.equal(200, (p:control("POST", "/reload")).status)
      socket.sleep(0.15) -- the listeners try again
    end
    leave(all)
    upstream.process:stop()
    p:kill "sigterm"
    p:kill "sigterm"
    p:wait(15)
  end)
  it("for upstream connections a request is a 502 or 503, and service returns", function()
    local upstream = peers.raw(wire.fine)
    local p = limited(40, upstream, "limits = { connections = 1000 },")
    local all = crowd(p, 60)
    for _, s in ipairs(all) do s:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n" end
    local statuses = {}
    for _, s in ipairs(all) do
      s:settimeout(0.05)
      local line = s:receive "*l"
      if line then statuses[line:match "HTTP/1.1 (%d+)"] = true end
    end
    for status in pairs(statuses) do assert.matches("^[25]0[023]$", status) end
    leave(all)
    process.poll(function()
      local ok, res = pcall(http.get, p.port)
      return ok and res and res.body == "fine"
    end, 5, "service to return")
    p:finish()
  end)
end)

describe("an end", function()
  --- n connections that ask again and again; each step reads what is there. Replies are counted; `torn` is the first connection that ended in the middle of one.
  local function load_of(port, n, path)
    local l = { replies = 0, open = {} }
    for i = 1, n do
      local s = socket.tcp()
      assert(s:connect("127.0.0.1", port))
      l.open[i] = { s = s, rest = "" }
    end
    local function ask(c)
      c.s:settimeout(1)
      c.waiting = c.s:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path)) ~= nil
    end
    for _, c in ipairs(l.open) do ask(c) end
    function l.step(seconds)
      local socks, by_sock = {}, {}
      for _, c in ipairs(l.open) do
        socks[#socks + 1] = c.s
        by_sock[c.s] = c
      end
      if #socks == 0 then return end
      for _, s in ipairs((socket.select(socks, nil, seconds or 0.02))) do
        local c = by_sock[s]
        s:settimeout(0)
        local data, err, part = s:receive(1024 * 1024)
        c.rest = c.rest .. (data or part)
        local head = c.rest:match "^(.-\r\n\r\n)"
        local length = head and tonumber(head:match "[Cc]ontent%-[Ll]ength: (%d+)")
        if head and #c.rest >= #head + length then
          assert(head:match "^HTTP/1.1 200 ", head)
          assert(#c.rest == #head + length, "bytes behind a reply")
          l.replies = l.replies + 1
          c.rest = ""
          c.waiting = false
          if err ~= "closed" and not head:find("Connection: close", 1, true) then ask(c) end
        end
        if err == "closed" then
          if #c.rest > 0 then l.torn = c.rest:sub(1, 200) .. ("… %d bytes"):format(#c.rest) end
          c.s:close()
          for i, o in ipairs(l.open) do if o == c then table.remove(l.open, i) break end end
        end
      end
    end
    return l
  end

  it("by SIGTERM under load tears no reply, and is on time", function()
    local dir = process.temp_dir()
    process.write_file(dir .. "/body", ("0123456789abcdef"):rep(16 * 1024))
    local nginx = peers.nginx(("root %s; limit_rate 2m;"):format(dir)) -- a reply takes an eighth of a second
    local p = wire.proxy(nginx, "timeouts = { drain = '5s' },", { workers = 2 })
    local l = load_of(p.port, 24, "/body")
    process.poll(function() l.step() return l.replies >= 24 end, 10, "the load to run")
    local t0, replies = socket.gettime(), l.replies
    p:kill "sigterm"
    process.poll(function() l.step() return p:ended() end, 10, "the end")
    process.poll(function() l.step() return #l.open == 0 end, 5, "the connections to close")
    assert.is_nil(l.torn)
    assert.is_true(l.replies > replies, "nothing was under way")
    assert.equal(0, p.code)
    assert.is_true(socket.gettime() - t0 < 4)
  end)
  it("by SIGTERM with a reply that does not end keeps the deadline, and the client sees that its reply was cut", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" while not c.ended do c:write "5\r\nhello\r\n" c:sleep(50) end ]]
    local p = wire.proxy(upstream, "timeouts = { drain = '500ms' },")
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return upstream.received():find("\r\n\r\n", 1, true) end, 5, "the request to arrive")
    local took = wire.timed(function()
      p:kill "sigterm"
      p:wait(10)
    end)
    assert.is_true(took > 0.3 and took < 3, took)
    assert.equal(0, p.code)
    assert.is_truthy(c:read_response("GET").broken)
    c:close()
  end)
  it("by SIGTERM closes idle connections at once", function()
    local p = wire.proxy(peers.raw(wire.fine))
    local c = http.connect(p.port)
    assert.equal("fine", c:request("GET", "/").body)
    local took = wire.timed(function() p:finish() end)
    assert.is_true(took < 2, took)
    assert.equal("closed", select(2, c:read_all(1)))
    c:close()
  end)
  it("by a second SIGTERM is at once", function()
    local upstream = peers.raw [[ c:read "head" print "asked" c:read(1) ]]
    local p = wire.proxy(upstream, "timeouts = { drain = '30s' },")
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return upstream.process:output():find "asked" end, 5, "the request to arrive")
    p:kill "sigterm"
    p:wait_log "drain"
    local took = wire.timed(function()
      p:kill "sigterm"
      p:wait(10)
    end)
    assert.is_true(took < 2, took)
    c:close()
  end)
  it("by SIGKILL leaves nothing that hinders a new start, Unix socket included", function()
    local dir = process.temp_dir()
    local upstream = peers.raw(wire.fine)
    local port = peers.free_port()
    local listen = ("listen = { '127.0.0.1:%d', 'unix:%s/in.sock' },"):format(port, dir)
    for _ = 1, 2 do
      local p = wire.proxy(upstream, listen, { args = {} })
      assert.equal("fine", http.get(port).body)
      assert.equal("fine", http.get("unix:" .. dir .. "/in.sock").body)
      p:kill "sigkill"
      p:wait(5)
    end
    local p = wire.proxy(upstream, listen)
    assert.equal("fine", http.get(port).body)
    p:finish()
  end)
  it("of a policy by reload costs no request under load, and a broken one changes nothing", function()
    local nginx = peers.nginx [[ location / { return 200 "fine\n"; } ]]
    local p = wire.proxy(nginx, "log = { access = false },", { workers = 2 })
    local text = process.read_file(p.policy)
    local l = load_of(p.port, 8, "/")
    for i = 1, 12 do
      process.write_file(p.policy, i % 3 == 0 and "return { listen = 5" or text)
      local before = l.replies
      process.poll(function() l.step() return l.replies > before + 20 end, 5, "replies")
      local res = p:control("POST", "/reload")
      assert.equal(i % 3 == 0 and 422 or 200, res.status, res.body)
      process.poll(function() l.step() return l.replies > before + 40 end, 5, "replies")
    end
    assert.is_nil(l.torn)
    assert.equal(8, #l.open)
    for _, c in ipairs(l.open) do c.s:close() end
    p:finish()
  end)
end)

describe("the access log", function()
  it("has the address of a client that reset its connection before anybody asked for it", function()
    local p = jeton.start [[return { listen = { "127.0.0.1:0", "[::1]:0" }, forwarded = "off", on_request = function(req) jeton.sleep "1h" end }]]
    for i, host in ipairs { "127.0.0.1", "::1" } do
      local c = assert((host == "::1" and socket.tcp6 or socket.tcp4)())
      assert(c:connect(host, p:port_of(i)))
      c:send "GET /gone HTTP/1.1\r\nHost: a\r\n\r\n"
      process.poll(function() return p:status().workers[1].requests == i end, 5, "the request")
      assert(c:setoption("linger", { on = true, timeout = 0 }))
      c:close()
      process.poll(function() return count(p:output(), "/gone") == i end, 5, "a line for it")
      assert.matches("Z " .. host:gsub("%p", "%%%0") .. ' "GET /gone HTTP/1.1" 499 ', p:output())
    end
    p:finish()
  end)
end)

describe("without memory", function()
  --- The release binary (a sanitized one wants terabytes of addresses) under `ulimit -v`, in KiB.
  local function limited(kib, upstream, more, env)
    return wire.release_proxy(upstream, more, { prefix = { "sh", "-c", ('ulimit -v %d; exec "$@"'):format(kib), "sh" }, env = env })
  end
  for _, kib in ipairs { 100000, 400000 } do
    it("for 32 threads a name is looked up by fewer: ulimit -v " .. kib, function()
      local upstream = peers.raw(wire.fine)
      local p = limited(kib, "http://localhost:" .. upstream.port)
      assert.equal("fine", http.get(p.port).body)
      p:finish()
      upstream.process:stop()
    end)
  end
  it("the process ends with a line that says so, whoever was refused it: libuv its threads", function()
    local p = limited(200000, "http://localhost:1", nil, { UV_THREADPOOL_SIZE = "1000" })
    pcall(http.get, p.port)
    process.poll(function() return p:ended() end, 10, "its end")
    assert.matches("\njeton: ended by an abort: [^\n]*memory[^\n]*\n$", p:errors())
  end)
end)
