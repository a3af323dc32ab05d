--- What goes wrong at bad moments: clients, scripts and upstreams that leave, retry or end half-way. Then a short storm of all of it.
local socket = require "socket"
local unix = require "socket.unix"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local wire = require "spec.support.wire"

local proxy
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local function connections(p)
  local n = 0
  for _, w in ipairs(p:status().workers) do n = n + w.connections end
  return n
end
local function rests(p) process.poll(function() return connections(p) == 0 end, 10, "no connection is left") end

describe("a status that a script changes", function()
  it("from 304 to 200 does not promise a body that is not there", function()
    local up = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n" end c:close() ]]
    proxy = wire.proxy(up, "on_response = function(res) res.status = 200 end")
    local c = http.connect(proxy.port)
    for _ = 1, 2 do
      local res = c:request("GET", "/", nil, nil, 2)
      assert.equal(200, res.status)
      assert.is_nil(res.broken)
      assert.equal("0", res.headers["content-length"])
    end
    c:close()
  end)

  it("or a body that a script reads leave a 304 its Content-Length", function()
    local up = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n" end c:close() ]]
    proxy = wire.proxy(up, "on_response = function(res) res:body() end")
    assert.equal("1000", http.get(proxy.port).headers["content-length"])
  end)

  it("from 200 to 204 takes the body away", function()
    local up = peers.raw(wire.fine)
    proxy = wire.proxy(up, "on_response = function(res) res.status = 204 end")
    local c = http.connect(proxy.port)
    for _ = 1, 2 do assert.equal(204, c:request("GET", "/").status) end
    c:close()
  end)
end)

describe("a body in a script", function()
  it("of a reply that broke off says so as often as it is asked for", function()
    local up = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" c:sleep(100) c:close() ]]
    proxy = wire.proxy(up, [[ on_response = function(res)
      local one, two = res:body(), res:body()
      res:set_body(tostring(one) .. tostring(two)) end ]])
    local res = http.request(proxy.port, "GET", "/", nil, nil, 3)
    assert.equal("nilnil", res and res.body)
  end)

  it("that replaces one over the limit is all that the upstream gets", function()
    local up = peers.raw [[ local head = c:read "head" local n = head:match "ength: (%d+)" c:read(tonumber(n)) c:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" c:sleep(300) ]]
    proxy = wire.proxy(up, [[ limits = { script_body = "10B" }, on_request = function(req)
      assert(req:body() == nil) req:set_body "mine" jeton.sleep(0.3) end ]])
    local c = http.connect(proxy.port)
    c:send "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n12345678901234567890\r\n"
    socket.sleep(0.1)
    c:send "5\r\nYOURS\r\n0\r\n\r\n"
    assert.equal(200, (c:read_response "POST" or {}).status)
    c:close()
    assert.matches("ength: 4\r\n", up.received())
    assert.is_nil(up.received():find("YOURS", 1, true))
  end)

  it("that a task awaits beyond its hook ends with the exchange, and its request cannot be answered any more", function()
    local up = peers.raw [[ c:read "head" c:sleep(200) c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" c:sleep(200) c:write "fine" c:sleep(50) c:close() ]]
    proxy = wire.proxy(up, [[
      on_request = function(req)
        jeton.spawn(function() local b, e = req:body() jeton.log.warn("task 1: " .. tostring(b)) end)
        jeton.spawn(function() jeton.sleep(0.1) jeton.log.warn("task 2: " .. tostring(pcall(req.respond, req, 201))) end)
      end,
      on_response = function(res)
        jeton.spawn(function() jeton.sleep(0.1) local b = res:body() jeton.log.warn("task 3: " .. tostring(b)) end)
      end]])
    local c = http.connect(proxy.port)
    c:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1"
    local res = c:read_response("POST", 3)
    assert.equal(200, res and res.status)
    assert.equal("fine", res.body)
    c:close()
    for i, text in ipairs { "nil", "false", "nil" } do proxy:wait_log(("task %d: %s"):format(i, text)) end
    for _ = 1, 3 do assert.equal("fine", http.get(proxy.port).body) end
  end)
end)

describe("an upload", function()
  it("with trailers that a stale connection swallowed is sent anew, whole", function()
    local up = peers.raw [[
      c:read "head"
      if c.number == 1 then c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" c:read "head" c:sleep(50) return c:close() end
      c:sleep(200) c:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain" ]]
    proxy = wire.proxy(up, "on_request = function(req) req:body() end")
    assert.equal("fine", http.get(proxy.port).body)
    local res = http.request(proxy.port, "PUT", "/", { ["Transfer-Encoding"] = "chunked", TE = "trailers", Trailer = "X-Sum" }, "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", 5)
    assert.equal("again", res and res.body)
    assert.matches("[^\n]\r\n\r\n3\r\nabc\r\n0\r\n", up.received():match ".*(PUT .*)$")
  end)

  it("with trailers that a script has gathered is sent anew, whole, though it is over limits.replay_buffer", function()
    local up = peers.raw [[
      c:read "head"
      if c.number == 1 then c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" c:read "head" c:sleep(50) return c:close() end
      local n = tonumber(c:read "line", 16)
      c:read(n + 2)
      local reply = n .. " bytes"
      c:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #reply .. "\r\n\r\n" .. reply) ]]
    proxy = wire.proxy(up, "limits = { replay_buffer = '1k' }, on_request = function(req) req:body() end")
    assert.equal("fine", http.get(proxy.port).body)
    local body = "1388\r\n" .. ("x"):rep(5000) .. "\r\n0\r\nX-Sum: 1\r\n\r\n"
    local res = http.request(proxy.port, "PUT", "/", { ["Transfer-Encoding"] = "chunked", TE = "trailers", Trailer = "X-Sum" }, body, 5)
    assert.equal("5000 bytes", res and res.body)
  end)

  it("that has come whole owes nothing more, however late the upstream reads and replies", function()
    -- What a Unix socket takes of a peer that does not read is the same each time: with one of these sizes the last bytes fill jeton's queue beyond its mark.
    local path = process.temp_dir() .. "/upstream.sock"
    local server = assert(unix.stream())
    assert(server:bind(path))
    assert(server:listen(64))
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "unix:%s", timeouts = { body = "500ms" } }]]):format(path))
    local clients, upstreams = {}, {}
    for size = 200000, 700000, 9000 do
      local c = http.connect(proxy.port)
      c:send(("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"):format(size) .. ("x"):rep(size))
      clients[#clients + 1] = c
      upstreams[#upstreams + 1] = assert(server:accept())
    end
    socket.sleep(0.3) -- for all to fill up
    for _, up in ipairs(upstreams) do
      local size
      repeat
        local line = assert(up:receive "*l")
        size = tonumber(line:match "^Content%-Length: (%d+)") or size
      until line == ""
      assert.equal(size, #assert(up:receive(size)))
    end
    socket.sleep(1.5) -- three times what the clients would have for a body
    for i, up in ipairs(upstreams) do
      assert(up:send "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
      local res = clients[i]:read_response("POST", 3) or {}
      assert.same({ 200, "fine" }, { res.status, res.body })
      up:close()
      clients[i]:close()
    end
    server:close()
  end)

  it("may pause for longer than an upstream may take to read", function()
    local up = peers.raw [[ c:read "head" c:read(12000000) c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" ]]
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", timeouts = { send = "1s" } } }]]):format(up.port))
    local c = http.connect(proxy.port)
    c:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12000000\r\n\r\n"
    c:send(("x"):rep(11999999))
    socket.sleep(2.5)
    c:send "x"
    assert.equal(200, (c:read_response("POST", 5) or {}).status)
    c:close()
  end)

  it("that waits for 100 Continue is not late while a hook holds it back", function()
    local up = peers.raw [[ c:read "head" c:read(2) c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" c:sleep(100) ]]
    proxy = wire.proxy(up, 'timeouts = { body = "500ms" }, on_request = function() jeton.sleep(1.5) end')
    local c = http.connect(proxy.port)
    c:send "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert.equal(100, (c:read_response("POST", 4) or {}).status)
    c:send "ab"
    assert.equal(200, (c:read_response("POST", 4) or {}).status)
    c:close()
  end)
end)

describe("the last bytes for a slow reader", function()
  local SIZE = 12 * 1024 * 1024
  local function slow_read(c, seconds)
    socket.sleep(seconds)
    local all = c:read_all(10)
    c:close()
    return all
  end

  it("arrive though the tunnel has ended on both sides", function()
    local up = peers.raw(([[ c:read "head" c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
      c:write(("x"):rep(%d)) c:close() ]]):format(SIZE))
    proxy = wire.proxy(up)
    local c = http.connect(proxy.port)
    c:send "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    assert(socket.select({ c.sock }, nil, 5)[1]) -- the tunnel is there: a FIN before it would be a client that has left
    c:finish()
    local all = slow_read(c, 1)
    assert.equal(SIZE, #(all:match "\r\n\r\n(.*)$" or ""))
  end)

  it("arrive though the idle time is short", function()
    local up = peers.raw(([[ c:read "head" c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n")) c:write(("x"):rep(%d)) c:sleep(5000) ]]):format(SIZE, SIZE))
    proxy = wire.proxy(up, 'timeouts = { idle = "300ms" }')
    local c = http.connect(proxy.port)
    c:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    local all = slow_read(c, 2)
    assert.equal(SIZE, #(all:match "\r\n\r\n(.*)$" or ""))
  end)
end)

describe("at the limit of connections", function()
  it("one that was held back takes the place of one that goes idle", function()
    proxy = wire.proxy(peers.raw(wire.fine), 'limits = { connections = 2 }, on_request = function(req) jeton.sleep(0.5) end')
    local kept = {}
    for i = 1, 2 do
      kept[i] = http.connect(proxy.port)
      kept[i]:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    end
    socket.sleep(0.2)
    assert.equal("fine", (http.request(proxy.port, "GET", "/", nil, nil, 3) or {}).body)
    for i = 1, 2 do kept[i]:close() end
  end)

  it("many that come at once do not share the place of one", function()
    proxy = wire.proxy(peers.raw(wire.fine), "limits = { connections = 4 }")
    local all = {}
    for i = 1, 4 do all[i] = http.connect(proxy.port) end
    process.poll(function() return connections(proxy) == 4 end, 5, "4 connections")
    proxy:kill "sigstop"
    for i = 5, 40 do all[i] = http.connect(proxy.port) end
    proxy:kill "sigcont"
    process.poll(function() return connections(proxy) > 0 end, 5, "it goes on")
    socket.sleep(0.3)
    assert.is_true(connections(proxy) <= 4, "connections: " .. connections(proxy))
    for i = 1, 40 do all[i]:close() end
    assert.equal("fine", http.get(proxy.port).body)
  end)

  it("a reload that raises it lets those in who wait", function()
    local up = peers.raw(wire.fine)
    local hook = "on_request = function(req) if req.path == '/long' then jeton.sleep(3) end end"
    proxy = wire.proxy(up, "limits = { connections = 1 }, " .. hook)
    local first = http.connect(proxy.port)
    first:send "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"
    socket.sleep(0.2)
    local second = http.connect(proxy.port)
    second:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.is_nil(second:read_response("GET", 0.3))
    local text = wire.policy(up.port, "limits = { connections = 9 }, " .. hook)
    proxy:reload_file((text:gsub("127.0.0.1:0'", "127.0.0.1:0'", 1)))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    assert.equal("fine", (second:read_response("GET", 1.5) or {}).body)
    first:close()
    second:close()
  end)
end)

--- CHAOS_SEED repeats a run's choices.
describe("a storm", function()
  local SECONDS = 8
  local HOOKS = [[
    on_request = function(req, tokens)
      local kind = req.path:match "^/(%a+)"
      if kind == "sleep" then jeton.sleep(0.02) end
      if kind == "body" then req:body() end
      if kind == "mine" then req:set_body "mine" end
      if kind == "http" then jeton.http.get(WORLD .. "/open") end
      if kind == "task" then jeton.spawn(function() req:body() jeton.sleep(0.05) return pcall(req.respond, req, 200) end) end
      if kind == "fail" then error "on purpose" end
      if kind == "here" then return req:respond(200, nil, ("here"):rep(5000)) end
      req.headers["authorization"] = "Bearer " .. tokens.api
    end,
    on_response = function(res, req)
      if req.path:find "^/sleep" then jeton.sleep(0.02) end
      if req.path:find "^/body" then res:body() end
    end,
    on_error = function(req) if req.path:find "^/fail" then jeton.sleep(0.02) req:respond(418) end end,
    on_log = function() jeton.sleep(0.01) end,]]
  local KINDS = { "sleep", "body", "mine", "http", "task", "fail", "here", "plain" }
  local random = math.random

  local function request()
    local path = "/" .. KINDS[random(#KINDS)]
    if random(2) == 1 then return ("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path) end
    local body = ("x"):rep(random(0, random(4) == 1 and 200000 or 2000))
    if random(2) == 1 then return ("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"):format(path, #body, body) end
    local chunk = #body > 0 and ("%x\r\n%s\r\n"):format(#body, body) or ""
    return ("POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n"):format(path, chunk)
  end

  --- What to send, in how many pieces, and how to leave.
  local function client(port)
    local sock = socket.tcp()
    sock:settimeout(1)
    if not sock:connect("127.0.0.1", port) then return end
    sock:settimeout(0)
    local bytes = {}
    for i = 1, random(4) do bytes[i] = request() end
    bytes = table.concat(bytes)
    if random(4) == 1 then bytes = bytes:sub(1, random(#bytes)) end
    return { sock = sock, bytes = bytes, at = 1, piece = random(3) == 1 and random(500) or #bytes, leave = random(4), patience = random(20) }
  end

  --- One move of a client; false when it has left.
  local function step(c)
    if c.at <= #c.bytes then
      local last, err, part = c.sock:send(c.bytes, c.at, math.min(#c.bytes, c.at + c.piece - 1))
      c.at = (last or part or c.at) + 1
      if err and err ~= "timeout" then c.patience = 0 end
      if c.at > #c.bytes and c.leave == 1 then c.sock:shutdown "send" end
    end
    if c.leave ~= 2 and select(2, c.sock:receive(100000)) == "closed" then c.patience = 0 end
    c.patience = c.patience - 1
    if c.patience > 0 then return true end
    if c.leave == 3 then c.sock:setoption("linger", { on = true, timeout = 0 }) end
    c.sock:close()
  end

  local function blow(world, seconds)
    local finish, reload_at, revoke_at, clients, served = socket.gettime() + seconds, 0, socket.gettime() + 1, {}, 0
    while socket.gettime() < finish do
      local now = socket.gettime()
      if now > reload_at then
        reload_at = now + 0.3
        proxy:kill "sighup"
      end
      if now > revoke_at then
        revoke_at = now + random() * 2
        world:order { revoke = true }
      end
      while #clients < 20 do
        local c = client(proxy.port)
        if not c then break end
        clients[#clients + 1] = c
        served = served + 1
      end
      for i = #clients, 1, -1 do
        if not step(clients[i]) then table.remove(clients, i) end
      end
      assert(not proxy:ended(), "the proxy ended")
      socket.sleep(0.005)
    end
    for _, c in ipairs(clients) do c.sock:close() end
    return served
  end

  it("of clients, reloads and revocations leaves nothing behind", function()
    local seed = math.tointeger(os.getenv "CHAOS_SEED" or os.time())
    math.randomseed(seed)
    local world = peers.world()
    local policy = peers.policy(world):gsub("on_request = .-\n", "") -- its hooks are ours
    proxy = jeton.start { policy = ("local WORLD = %q\n"):format(world.upstream_url) .. policy:gsub("}%s*$", function() return HOOKS .. "\n}" end) }
    local ok, err = pcall(function()
      assert(blow(world, SECONDS) > 100, "too few clients")
      local res = http.request(proxy.port, "GET", "/plain", nil, nil, 10)
      assert(res and res.status == 200, "a good client: " .. tostring(res and res.raw_head))
      rests(proxy)
      process.poll(function() return proxy:status().workers[1].upstream_leased == 0 end, 10, "no upstream connection in use")
      proxy:finish()
    end)
    local log = proxy:errors()
    if not ok then proxy:kill "sigkill" end
    proxy = nil
    world:stop()
    if not ok then error(("CHAOS_SEED=%d: %s\n%s"):format(seed, err, log:sub(-6000)), 0) end
  end)
end)
