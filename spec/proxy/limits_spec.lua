--- Limits in number and in time: connections of one address, connections in all, descriptors, clients that are slow with their bodies or with reading.
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"
local socket = require "socket"

--- A connection from an address of its own; nil when it was reset before connect had returned.
local function try_from(address, port)
  local s = socket.tcp()
  assert(s:bind(address, 0))
  s:settimeout(5)
  local ok, why = s:connect("127.0.0.1", port)
  if ok then return s end
  assert(why == "closed", why)
  s:close()
end
local function connect_from(address, port) return assert(try_from(address, port)) end
--- The status of a request on s, or nil and why there is none.
local function ask(s)
  if not s:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n" then return nil, "closed" end
  local line, err = s:receive "*l"
  if not line then return nil, err end
  local length = 0
  repeat
    local field = assert(s:receive "*l")
    length = tonumber(field:match "^Content%-Length: (%d+)") or length
  until field == ""
  s:receive(length)
  return tonumber(line:match "^HTTP/1.1 (%d+)")
end
--- A connection from there is turned away.
local function refused_from(address, port)
  local s = try_from(address, port)
  if not s then return end
  assert.same({ nil, "closed" }, { ask(s) })
  s:close()
end
local function close_all(all) for _, s in ipairs(all) do s:close() end end
local function sum(p, what)
  local n = 0
  for _, w in ipairs(p:status().workers) do n = n + w[what] end
  return n
end

describe("a request over a limit of its policy", function()
  local gate
  setup(function()
    gate = wire.gate [[limits = { request_line = 1024, head = 4096, headers = 10, body = 1000, chunk_line = 32, chunk_overhead = 256 },]]
  end)
  local function get(target, fields) return ("GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(target, fields or "") end
  local function chunked(body) return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" .. body end
  for _, case in ipairs {
    { "request_line", "414", get("/" .. ("a"):rep(1024)) },
    { "head", "431", get("/", "X-A: " .. ("a"):rep(4096) .. "\r\n") },
    { "head, by many fields", "431", get("/", ("X-A: " .. ("a"):rep(600) .. "\r\n"):rep(8)) },
    { "headers", "431", get("/", ("X-A: b\r\n"):rep(10)) },
    { "body, by its length", "413", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" .. ("x"):rep(1001) },
    { "chunk_line", "400", chunked("1;" .. ("a"):rep(40) .. "\r\nx\r\n0\r\n\r\n") },
  } do
    it(("has a status that says which: %s is %s, and nothing goes upstream"):format(case[1], case[2]), function() gate:refuses(case[3], case[2]) end)
  end
  it("is told from one that fits, and nothing arrived", function() gate:ends() end)
  it("in what comes behind its head is cut off from the upstream: body is 413, chunk_overhead 400", function()
    local upstream = peers.raw [[ c:read "head" c:read(1000000) print "broken off" c:close() ]]
    local p = wire.proxy(upstream, "limits = { body = 1000, chunk_overhead = 256 },")
    for i, case in ipairs { { "413", "3e9\r\n" .. ("x"):rep(1001) .. "\r\n0\r\n\r\n" }, { "400", ("1;aaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n"):rep(100) .. "0\r\n\r\n" } } do
      assert.matches("^HTTP/1.1 " .. case[1] .. " ", (wire.exchange(p.port, chunked(case[2]))))
      assert.is_true(select(2, upstream.process:output():gsub("broken off", "")) <= i)
    end
    assert.is_nil(upstream.received():find("0\r\n\r\n", 1, true))
    p:finish()
  end)
end)

describe("limits.pipelined", function()
  it("lets others have their turn, and every request its answer, in order", function()
    local upstream = peers.raw(wire.fine)
    local p = wire.proxy(upstream, [[limits = { pipelined = 1 }, on_request = function(req)
      if req.path ~= "/other" then req:respond(200, nil, req.path) end end,]])
    local c = http.connect(p.port)
    local all = {}
    for i = 1, 500 do all[i] = ("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i) end
    c:send(table.concat(all))
    assert.equal("fine", http.get(p.port, "/other").body)
    for i = 1, 500 do assert.equal("/" .. i, c:read_response("GET").body) end
    c:close()
    p:finish()
  end)
  it("does not make a connection idle whose requests wait for their turn: a drain ends it with a reply that says so", function()
    local p = wire.proxy(1, [[limits = { pipelined = 1 }, on_request = function(req) req:respond(200, nil, req.path) end,]])
    local c = http.connect(p.port)
    local all = {}
    for i = 1, 20000 do all[i] = ("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i) end
    c.sock:settimeout(0)
    c:send(table.concat(all)) -- as much as is taken at once
    c.sock:settimeout(5)
    assert.equal("/1", c:read_response("GET").body)
    p:kill "sigterm"
    local replies = c:read_all(5)
    c:close()
    assert.equal(1, select(2, replies:gsub("Connection: close", "")))
    assert.equal(0, (p:wait(15)))
  end)
end)

describe("a drain", function()
  it("lets a client take the last reply, all of which has been said", function()
    local p = wire.proxy(1, [[limits = { script_time = "5s" }, on_request = function(req) req:respond(200, nil, ("x"):rep(8000000)) end,]])
    local c = http.connect(p.port)
    c:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.matches("^HTTP/1.1 200 OK\r\n", c:head()) -- and no more of it than came with that
    p:kill "sigterm"
    p:wait_log "draining"
    local got = 0
    while got < 8000000 do
      local bite, err = c:bite(math.min(50000, 8000000 - got))
      got = got + #bite
      if err then break end
    end
    assert.equal(8000000, got)
    c:close()
    assert.equal(0, (p:wait(15)))
  end)
end)

describe("limits.buffered", function()
  --- Memory for 100 clients that do not read an endless reply, in KiB.
  local function endless_file()
    local dir = process.temp_dir()
    assert(os.execute(("truncate -s 1G %s/endless"):format(dir)))
    return peers.nginx(("root %s; sendfile on;"):format(dir))
  end
  local function growth(limit)
    local endless = protocols.upstream == "h2" and endless_file() or peers.raw [[
      local head = c:read "head"
      if not head or head:find("/small", 1, true) then
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        return c:close()
      end
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      local piece = ("10000\r\n" .. ("x"):rep(65536) .. "\r\n"):rep(4)
      while not c.ended do c:write(piece) end
      c:close()]]
    local p = wire.release_proxy(endless, ("limits = { buffered = %q },"):format(limit))
    for _ = 1, 10 do http.get(p.port, "/small") end
    local before, all = wire.rss(p), {}
    for i = 1, 100 do
      all[i] = socket.tcp()
      all[i]:setoption("recv-buffer-size", 4096)
      assert(all[i]:connect("127.0.0.1", p.port))
      all[i]:send "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    local last, steady = 0, 0
    process.poll(function() -- until it grows no more
      socket.sleep(0.1)
      local now = wire.rss(p)
      steady = now == last and sum(p, "connections") >= 100 and steady + 1 or 0
      last = now
      return steady >= 10
    end, 30, "the queues to be full")
    close_all(all)
    p:finish()
    endless.process:stop()
    return last - before
  end
  it("bounds what waits for all slow readers together", function()
    local little, much = growth "1m", growth "64m"
    assert.is_true(little < 12 * 1024, little)
    assert.is_true(much > little * 1.5, ("%d KiB with 1m, %d KiB with 64m"):format(little, much))
  end)
end)

describe("timeouts.pool", function()
  it("closes an idle upstream connection, and the next request makes a new one", function()
    local upstream = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end print("closed " .. c.number) c:close() ]]
    local p = wire.proxy(upstream, "timeouts = { pool = '300ms' },")
    assert.equal("fine", http.get(p.port).body)
    local took = wire.timed(function()
      process.poll(function() return upstream.process:output():find "closed 1" end, 5, "the connection to close")
    end)
    assert.is_true(took > 0.1 and took < 2, took)
    assert.equal("fine", http.get(p.port).body)
    process.poll(function() return p:dialed() == 2 end, 5, "a second connection")
    p:finish()
  end)
end)

describe("limits.connections_per_address", function()
  local upstream
  setup(function() upstream = peers.raw(wire.fine) end)

  it("is counted over all workers: one more is reset, those that are there and other addresses go on", function()
    local p = wire.proxy(upstream, "limits = { connections_per_address = 4 },", { workers = 3 })
    local mine = {}
    for i = 1, 4 do
      mine[i] = connect_from("127.0.0.1", p.port)
      assert.equal(200, ask(mine[i]))
    end
    for _ = 1, 3 do refused_from("127.0.0.1", p.port) end
    for i = 1, 4 do assert.equal(200, ask(mine[i])) end
    local other = connect_from("127.0.0.2", p.port)
    assert.equal(200, ask(other))
    other:close()
    assert.equal(3, sum(p, "over_address_limit"))
    close_all(mine)
    p:finish()
  end)
  it("frees the place of a connection that has gone, however it went", function()
    local p = wire.proxy(upstream, "limits = { connections_per_address = 2 }, timeouts = { idle = '300ms' },")
    for _, leave in ipairs { function(s) s:close() end, function(s) s:setoption("linger", { on = true, timeout = 0 }) s:close() end, function(s) s:settimeout(5) s:receive "*a" s:close() end } do
      local a, b = connect_from("127.0.0.1", p.port), connect_from("127.0.0.1", p.port)
      assert.equal(200, ask(a))
      assert.equal(200, ask(b))
      leave(a)
      leave(b)
      process.poll(function() return sum(p, "connections") == 0 end, 5, "the connections to go")
    end
    p:finish()
  end)
  it("does not drive out the idle connections of others when all places are taken", function()
    local p = wire.proxy(upstream, "limits = { connections = 3, connections_per_address = 2 },")
    local other = connect_from("127.0.0.2", p.port)
    assert.equal(200, ask(other))
    local mine = { connect_from("127.0.0.1", p.port), connect_from("127.0.0.1", p.port) }
    for _, s in ipairs(mine) do assert.equal(200, ask(s)) end
    for _ = 1, 5 do refused_from("127.0.0.1", p.port) end
    assert.equal(200, ask(other))
    assert.same({ 0, 5 }, { sum(p, "shed"), sum(p, "over_address_limit") })
    close_all(mine)
    other:close()
    p:finish()
  end)
  it("leaves Unix sockets alone, and comes and goes by reload", function()
    local dir = process.temp_dir()
    local listen = ("listen = { '127.0.0.1:0', 'unix:%s/in.sock' },"):format(dir)
    local p = wire.proxy(upstream, listen .. " limits = { connections_per_address = 1 },")
    local all = {}
    for i = 1, 3 do
      all[i] = http.connect("unix:" .. dir .. "/in.sock")
      assert.equal(200, all[i]:request("GET", "/").status)
    end
    local first = connect_from("127.0.0.1", p.port)
    assert.equal(200, ask(first))
    refused_from("127.0.0.1", p.port)
    p:reload_file(wire.policy(upstream.port, listen))
    assert.equal(200, (p:control("POST", "/reload")).status)
    local second = connect_from("127.0.0.1", p.port)
    assert.equal(200, ask(second))
    close_all { first, second }
    for _, c in ipairs(all) do c:close() end
    p:finish()
  end)
  it("holds before TLS: no handshake is spent on who is over it", function()
    local dir = peers.certificates()
    local p = jeton.start(([[return { upstream = "http://127.0.0.1:%d", limits = { connections_per_address = 1 },
      listen = { { "127.0.0.1:0", tls = { certificates = { { cert = "%s", key = "%s" } } } } } }]]):format(upstream.port, dir .. "/ecdsa.pem", dir .. "/ecdsa.key"))
    local a = connect_from("127.0.0.1", p.port)
    process.poll(function() return sum(p, "connections") == 1 end, 5, "the first connection")
    refused_from("127.0.0.1", p.port)
    process.poll(function() return sum(p, "over_address_limit") == 1 end, 5, "the second to be turned away")
    a:close()
    p:finish()
  end)
end)

describe("limits.connections", function()
  it("closes the connection idle longest for a new one, and no busy one", function()
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        if head:find("/slow", 1, true) then c:sleep(700) end
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
      end]]
    local p = wire.proxy(upstream, "limits = { connections = 3 },")
    local busy = http.connect(p.port)
    busy:send "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return upstream.received():find("/slow", 1, true) end, 5, "the slow request")
    local idle = { http.connect(p.port), http.connect(p.port) }
    for _, c in ipairs(idle) do assert.equal("fine", c:request("GET", "/").body) end
    local new = http.connect(p.port)
    assert.equal("fine", new:request("GET", "/").body)
    assert.same({ "", "closed" }, { idle[1]:read_all(3) })
    assert.equal("fine", idle[2]:request("GET", "/").body)
    assert.equal("fine", busy:read_response("GET").body)
    assert.equal(1, sum(p, "shed"))
    for _, c in ipairs { busy, new, idle[1], idle[2] } do c:close() end
    p:finish()
  end)
end)

describe("limits.connections and clients that have just come", function()
  local upstream, certs
  setup(function()
    upstream = peers.raw [[
      while true do
        if not c:read "head" then return c:close() end
        c:sleep(20)
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
      end]]
    certs = peers.certificates()
  end)
  -- 60 at once where 20 have a place; each sends when all have connected, and after a pause. Returns how many were served.
  local function crowd(p, pause, close)
    local all, served = {}, 0
    for i = 1, 60 do all[i] = http.connect(p.port, 30) end
    if pause > 0 then socket.sleep(pause) end
    for i = 1, 60 do all[i]:send("GET / HTTP/1.1\r\nHost: a\r\n" .. (close and "Connection: close\r\n" or "") .. "\r\n") end
    for i = 1, 60 do
      local res = all[i]:read_response("GET", 30)
      if res and res.body == "fine" then served = served + 1 end
    end
    for i = 1, 60 do all[i]:close() end
    return served
  end

  for _, close in ipairs { false, true } do
    it("lets those wait for whom there is no place, and serves all: " .. (close and "a request each" or "clients that stay"), function()
      local p = wire.proxy(upstream, "limits = { connections = 20 },")
      for _, pause in ipairs { 0, 0.3 } do assert.equal(60, crowd(p, pause, close)) end
      p:finish()
    end)
  end
  it("counts no handshake under way as idle", function()
    local p = jeton.start(([[return { upstream = "http://127.0.0.1:%d", limits = { connections = 3 },
      listen = { "127.0.0.1:0", tls = { certificates = { { cert = "%s", key = "%s" } } } } }]]):format(upstream.port, certs .. "/rsa.pem", certs .. "/rsa.key"))
    local all = {}
    for i = 1, 12 do
      all[i] = process.start { "curl", "-sS", "--max-time", "30", "--cacert", certs .. "/ca.pem", "--connect-to", "::127.0.0.1:", ("https://localhost:%d/"):format(p.port) }
    end
    for i = 1, 12 do
      assert.equal(0, (all[i]:wait(30)), all[i]:errors())
      assert.equal("fine", all[i]:output())
    end
    p:finish()
  end)
  it("counts one as idle that has been silent for timeouts.head", function()
    local p = wire.proxy(upstream, "limits = { connections = 3 }, timeouts = { head = '500ms' },")
    local silent = {}
    for i = 1, 3 do silent[i] = http.connect(p.port) end
    process.poll(function() return sum(p, "connections") == 3 end, 5, "three that say nothing")
    local c = http.connect(p.port)
    local took, res = wire.timed(function() return c:request("GET", "/") end)
    assert.equal("fine", res.body)
    assert.is_true(took < process.stretched(3), took)
    assert.same({ "", "closed" }, { silent[1]:read_all(3) })
    assert.equal("fine", silent[2]:request("GET", "/").body)
    assert.equal(1, sum(p, "shed"))
    for _, s in ipairs(silent) do s:close() end
    c:close()
    p:finish()
  end)
end)

describe("without a descriptor for a new connection", function()
  it("the listeners of several workers rest: no processor time, one line in the log, nobody turned away who can wait", function()
    local upstream = peers.raw [[ c:read "head" c:sleep(1500) c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" ]]
    local wrapper = process.write_file(process.temp_dir() .. "/jeton", ("#!/bin/sh\nulimit -n 90\nexec %s \"$@\"\n"):format(jeton.binary))
    assert(os.execute("chmod 755 " .. wrapper))
    local real = jeton.binary
    jeton.binary = wrapper
    local ok, p = pcall(wire.proxy, upstream, "limits = { connections = 10000 },", { workers = 4 })
    jeton.binary = real
    assert(ok, p)
    -- Busy connections, so that none can be closed for another one: each has a request whose body is missing.
    local all = {}
    for i = 1, 120 do
      all[i] = socket.tcp()
      all[i]:settimeout(2)
      assert(all[i]:connect("127.0.0.1", p.port))
      all[i]:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"
    end
    p:wait_log "too many open files"
    local before = wire.cpu(p)
    socket.sleep(1)
    local used = wire.cpu(p) - before
    assert.is_true(used < 0.25, "processor time: " .. used)
    local _, lines = p:errors():gsub("accepting on", "")
    assert.is_true(lines >= 1 and lines <= 4, p:errors()) -- one a worker
    -- Those that wait in the kernel's queue are served when the others have gone.
    for i = 1, 60 do all[i]:close() end
    process.poll(function()
      local fine, res = pcall(http.get, p.port)
      return fine and res and res.status == 200
    end, 10, "service to return")
    for i = 61, 120 do all[i]:close() end
    p:finish()
  end)
end)

describe("a client's body", function()
  local waiting, proxy
  setup(function()
    waiting = peers.raw [[
      local head = c:read "head"
      local body = c:read(tonumber(head:match "Content%-Length: (%d+)"))
      if body then c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine" end
      c:close()]]
    proxy = wire.proxy(waiting, "timeouts = { body = '1500ms' }, limits = { body_rate = 1000 },") -- long enough for a machine that pauses
  end)
  --- Sends `pieces` pieces with a pause before each; returns the status, and when it came.
  local function upload(p, pieces, size, pause)
    local c = http.connect(p.port)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(pieces * size))
    local t0 = socket.gettime()
    for _ = 1, pieces do
      if c:answered(pause) then break end
      c:send(("x"):rep(size))
    end
    local res = c:read_response("POST", 10)
    c:close()
    return res and res.status, socket.gettime() - t0
  end

  it("that comes a byte at a time never pauses for long, and yet is a 408 when its bucket is empty", function()
    local status, took = upload(proxy, 200, 1, 0.05)
    assert.equal(408, status)
    assert.is_true(took > 1.4 and took < 5, took)
  end)
  it("that is slow but above the rate arrives, though it takes several times the limit", function()
    local status, took = upload(proxy, 45, 300, 0.1)
    assert.equal(200, status)
    assert.is_true(took > 4, took)
  end)
  it("may pause now and then", function()
    assert.equal(200, (upload(proxy, 4, 4000, 0.8)))
  end)
  it("has its time from read to read when there is no rate", function()
    local p = wire.proxy(waiting, "timeouts = { body = '1500ms' }, limits = { body_rate = 0 },")
    local status, took = upload(p, 10, 1, 0.4)
    assert.equal(200, status)
    assert.is_true(took > 3.5, took)
    p:finish()
  end)
  it("is not late while a hook or the upstream holds it back", function()
    local p = wire.proxy(waiting, "timeouts = { body = '1s' }, on_request = function() jeton.sleep(2) end,")
    local c = http.connect(p.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
    c:send(("x"):rep(199990)) -- more than is gathered: reading stops, and the rest is nobody's fault
    assert.is_nil(c:answered(2.1) or nil)
    c:send(("x"):rep(10))
    assert.equal(200, c:read_response("POST").status)
    c:close()
    p:finish()
  end)
  it("leaves the proxy well", function() proxy:finish() end)
end)

describe("a reader", function()
  local SIZE = 32 * 1024 * 1024
  local nginx
  setup(function()
    local dir = process.temp_dir()
    assert(os.execute(("truncate -s %d %s/big"):format(SIZE, dir)))
    nginx = peers.nginx(("root %s; sendfile on;"):format(dir))
  end)
  local function begin(p)
    local s = socket.tcp()
    s:setoption("recv-buffer-size", 65536) -- else the kernel may have room for megabytes, and tells of progress in steps as large
    assert(s:connect("127.0.0.1", p.port))
    s:send "GET /big HTTP/1.1\r\nHost: a\r\n\r\n"
    return s
  end

  it("of 64 KB/s lives on, though its queue is never empty for several times the limit", function()
    local p = wire.proxy(nginx, "timeouts = { send = '2s', response = '1s' },")
    local s = begin(p)
    s:settimeout(5)
    local t0, got = socket.gettime(), 0
    while socket.gettime() - t0 < 7 do
      local data, err, part = s:receive(6553)
      got = got + #(data or part)
      assert(data, err)
      socket.sleep(0.1)
    end
    assert.is_true(got < 1024 * 1024, got)
    assert.equal(1, p:status().workers[1].connections)
    s:close()
    p:finish()
  end)
  -- curl behind a slow line of ours, with its small buffer.
  it("of 64 KB/s lives on over TLS, too: curl", function()
    local certs = peers.certificates()
    local p = jeton.start(([[return { upstream = "http://127.0.0.1:%d", timeouts = { send = "3s", response = "1s" },
      listen = { { "127.0.0.1:0", tls = { certificates = { { cert = "%s/ecdsa.pem", key = "%s/ecdsa.key" } } } } } }]]):format(nginx.port, certs, certs))
    local server = assert(socket.bind("127.0.0.1", 0))
    local curl = process.start { "curl", "-sS", "--cacert", certs .. "/ca.pem", "-o", "/dev/null", ("https://localhost:%d/big"):format(select(2, server:getsockname())) }
    server:settimeout(5)
    local near, far = assert(server:accept()), socket.tcp()
    far:setoption("recv-buffer-size", 65536)
    assert(far:connect("127.0.0.1", p.port))
    near:settimeout(0)
    far:settimeout(0)
    local t0, got = socket.gettime(), 0
    while socket.gettime() - t0 < 9 do
      local data, err, part = near:receive(8192)
      assert(err ~= "closed", curl:errors())
      far:send(data or part)
      data, err, part = far:receive(6553)
      assert(err ~= "closed", "it was cut short")
      near:send(data or part)
      got = got + #(data or part)
      socket.sleep(0.1)
    end
    assert.is_true(got > 128 * 1024 and got < 1024 * 1024, got)
    assert.equal(1, p:status().workers[1].connections)
    curl:stop()
    for _, s in ipairs { near, far, server } do s:close() end
    p:finish()
  end)
  it("that takes nothing is cut in time, and so is one that stops", function()
    local p = wire.proxy(nginx, "timeouts = { send = '600ms' },")
    local idle, stopped = begin(p), begin(p)
    for _ = 1, 10 do
      assert(stopped:receive(6553))
      socket.sleep(0.05)
    end
    local took = wire.timed(function()
      process.poll(function() return p:status().workers[1].connections == 0 end, 8, "both to be cut")
    end)
    assert.is_true(took < 4, took)
    idle:close()
    stopped:close()
    p:finish()
  end)
  it("may be an upstream: one that takes an upload slowly lives, whatever its limit", function()
    local server = assert(socket.bind("127.0.0.1", 0))
    local _, port = server:getsockname()
    local p = wire.proxy(math.tointeger(port), "timeouts = { send = '2s', body = '1s' },")
    local c = http.connect(p.port)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(SIZE))
    local upstream = assert(server:accept())
    upstream:settimeout(5)
    local piece, t0 = ("x"):rep(64 * 1024), socket.gettime()
    while socket.gettime() - t0 < 7 do
      c:offer(piece)
      assert(upstream:receive(6553))
      socket.sleep(0.1)
    end
    assert.equal(1, p:status().workers[1].connections)
    assert.equal(0, p:status().workers[1].upstream_errors)
    c:close()
    upstream:close()
    server:close()
    p:finish()
  end)
end)

describe("slow clients in number", function()
  it("with heads, with bodies and with reading cost nobody else: 150 of each beside normal requests", function()
    local upstream = peers.raw [[
      local head = c:read "head"
      if not head then return c:close() end
      if head:find("/endless", 1, true) then
        c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        local piece = ("4000\r\n" .. ("x"):rep(16384) .. "\r\n"):rep(8)
        while not c.ended do c:write(piece) end
        return c:close()
      end
      c:read(1000000)
      c:close()]]
    local nginx = peers.nginx [[ location / { return 200 "fine\n"; } ]]
    local p = wire.proxy(upstream, ([[upstreams = { live = "http://127.0.0.1:%d" }, limits = { buffered = "1m" },
      on_request = function(req) if req.path == "/live" then req.upstream = "live" end end,]]):format(nginx.port))
    local function measure(n, took)
      for _ = 1, n do took[#took + 1] = wire.timed(function() assert.equal("fine\n", http.get(p.port, "/live").body) end) end
      return took
    end
    --- The slowest of them, and the middle one.
    local function latency(took)
      table.sort(took)
      return took[#took], took[#took // 2]
    end
    measure(20, {})
    local _, before = latency(measure(100, {}))
    local slow = {}
    local function crowd(n, bytes)
      local all = {}
      for i = 1, n do
        local s = socket.tcp()
        s:setoption("recv-buffer-size", 4096)
        assert(s:connect("127.0.0.1", p.port))
        s:send(bytes)
        all[i], slow[#slow + 1] = s, s
      end
      return all
    end
    local heads = crowd(150, "GET /head HTTP/1.1\r\nHost: a\r\n")
    local bodies = crowd(150, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    crowd(150, "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    process.poll(function() return p:status().workers[1].connections >= 450 end, 10, "all of them to be there")
    -- Of all rounds: a single one takes 10 ms, and a busy machine may give the processor to others for longer than that.
    local took = {}
    for _ = 1, 10 do
      for _, s in ipairs(heads) do s:send "X: y\r\n" end
      for _, s in ipairs(bodies) do s:send "some bytes" end
      measure(20, took)
    end
    local worst, middle = latency(took)
    assert.is_true(middle < before * 5 + 0.02, ("%.4f s instead of %.4f"):format(middle, before))
    assert.is_true(worst < 2 * jeton.slow, worst)
    assert.is_true(sum(p, "connections") >= 450)
    close_all(slow)
    process.poll(function() return sum(p, "connections") == 0 end, 10, "all of them to be gone")
    p:finish()
  end)
end)
