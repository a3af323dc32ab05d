--- The access log: what a client writes cannot be taken for jeton's words, what could not be read is there, and a tunnel is logged when it has ended.
local wire = require "spec.support.wire"
local h2_client = require "spec.support.h2_client"
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

--- Waits for the n-th line (the first: 1) and takes it apart.
local function line(p, n)
  local text
  process.poll(function()
    local i = 0
    for l in p:output():gmatch "([^\n]*)\n" do
      i = i + 1
      if i == n then text = l end
    end
    return text
  end, 5, function() return ("line %d of the access log:\n%s"):format(n, p:output()) end)
  local client, request, status, sent, ms, upstream, id, rest = text:match '^%S+Z (%S+) "([^"]*)" (%d+) (%d+) (%d+%.%d%d%d)ms (%S+) (%x+)(.*)$'
  assert(client, "no line of the form that the documents give: " .. text)
  return { client = client, request = request, status = tonumber(status), sent = tonumber(sent), ms = tonumber(ms), upstream = upstream, id = id, rest = rest }
end

describe("a line of the access log", function()
  local upstream, proxy, n
  setup(function()
    upstream = peers.raw(wire.fine)
    proxy = wire.proxy(upstream, "timeouts = { head = '1s' },")
    n = 0
  end)
  teardown(function()
    proxy:finish()
    upstream.process:stop()
  end)
  --- The line of what these bytes ask for.
  local function logged(bytes)
    wire.exchange(proxy.port, bytes, 5)
    n = n + 1
    return line(proxy, n)
  end
  local function get(target, fields) return ("GET %s HTTP/1.1\r\nHost: a\r\n%sConnection: close\r\n\r\n"):format(target, fields or "") end

  it("has a target's quotes and backslashes escaped, so that no status can be forged", function()
    local l = logged(get [[/a"_200_999_0.001ms_default_ffffffffffffffff_"b\c]])
    assert.same({ [[GET /a\x22_200_999_0.001ms_default_ffffffffffffffff_\x22b\x5Cc HTTP/1.1]], 200, "default" }, { l.request, l.status, l.upstream })
  end)
  it("has the first 512 bytes of a target, of a line that was too long as well", function()
    assert.equal("GET /" .. ("x"):rep(511) .. " HTTP/1.1", logged(get("/" .. ("x"):rep(5000))).request)
    local l = logged(get("/" .. ('"'):rep(100000)))
    assert.same({ 414, "GET /" .. ([[\x22]]):rep(507), "-" }, { l.status, l.request, l.upstream })
  end)
  for _, case in ipairs {
    { "that is no method, target and version", "GET /only a line HTTP/1.1\r\n\r\n", "GET /only a line HTTP/1.1", 400 },
    { "in another version", "GET /v HTTP/2.0\r\nHost: a\r\n\r\n", "GET /v HTTP/2.0", 505 },
    { "with an unknown method", "SOURCE /mount HTTP/1.1\r\nHost: a\r\n\r\n", "SOURCE /mount HTTP/1.1", 501 },
    { "whose fields are wrong", "POST /f?q HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "POST /f?q HTTP/1.1", 400 },
    { "with a field that is none", "GET /n HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n", "GET /n HTTP/1.1", 400 },
    { "in bytes that are no text", "\22\3\1\0\"\\\127\200 HTTP/1.1\r\n\r\n", [[\x16\x03\x01\x00\x22\x5C\x7F\xC8 HTTP/1.1]], 400 },
    { "that came in pieces", { "GE", "T /pie", "ces HTT", "P/1.1\r\nHo st: a\r\n\r\n" }, "GET /pieces HTTP/1.1", 400 },
    { "that ends too late", "GET /slow HTTP/1.1\r\nHost: a\r\n", "GET /slow HTTP/1.1", 408 },
    { "of which nothing came but an empty one", "\rX", "-", 400 },
  } do
    it("has what can be said of a request " .. case[1], function()
      local l = logged(case[2])
      assert.same({ case[3], case[4], "-" }, { l.request, l.status, l.upstream })
    end)
  end
  it("has what can be said of a request whose client left within its head", function()
    local c = http.connect(proxy.port)
    c:send "GET /half HTTP/1.1\r\nHos"
    c:finish()
    c:close()
    n = n + 1
    local l = line(proxy, n)
    assert.same({ "GET /half HTTP/1.1", 499 }, { l.request, l.status })
  end)
  it("names no upstream where none was asked: no token, a hook's reply, a refused target", function()
    local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d/base" },
      tokens = { api = { fetch = function() return nil, "no" end, wait = "10ms" } },
      on_request = function(req, tokens)
        if req.path == "/own" then return req:respond(204) end
        req.headers.authorization = "Bearer " .. tokens.api
      end,
      on_log = function(e) jeton.log.info("logged " .. e.method .. " " .. e.path .. " by '" .. e.upstream .. "'") end }]]):format(upstream.port))
    for i, case in ipairs { { "/token", 503 }, { "/own", 204 }, { "/../x", 400 } } do
      assert.equal(case[2], http.get(p.port, case[1]).status)
      local l = line(p, i)
      assert.same({ case[2], "-" }, { l.status, l.upstream })
      p:wait_log(("logged GET %s by ''"):format(case[1]))
    end
    wire.exchange(p.port, "DESCRIBE /unread?q HTTP/1.1\r\n\r\n")
    p:wait_log "logged DESCRIBE /unread by ''"
    p:finish()
  end)
  it("names the upstream that was asked and did not answer", function()
    local p = wire.proxy(peers.free_port())
    assert.equal(502, http.get(p.port).status)
    assert.equal("default", line(p, 1).upstream)
    p:finish()
  end)
end)

describe("a tunnel is logged at its end", function()
  --- Switches, sends 20 bytes, and echoes.
  local echo = [[
    local head = c:read "head"
    c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
    c:write(("s"):rep(20))
    while true do
      local byte = c:read(1)
      if not byte then return c:close() end
      c:write(byte)
    end]]
  local function open(p, path)
    local c = http.connect(p.port)
    assert.equal(101, c:request("GET", path or "/up", { Connection = "Upgrade", Upgrade = "chat" }).status)
    return c
  end
  local function talk(c, n, greeting)
    c:send(("x"):rep(n))
    local got = ""
    process.poll(function()
      got = got .. c:read_all(0.05)
      return #got == n + greeting
    end, 5, "the echo")
  end
  local function metric(p, name) return tonumber(p:control("GET", "/metrics").body:match("\n" .. name .. " (%d+)")) end

  it("with the bytes of both ways and its time, and so is it counted", function()
    local upstream = peers.raw(echo)
    local p = wire.proxy(upstream, [[on_request = function(req) req.ctx.mine = "kept" end,
      on_log = function(e) jeton.log.info(("logged %d %d %d %s %s"):format(e.status, e.bytes_in, e.bytes_out, e.duration >= 0.2, e.ctx.mine)) end,]])
    local c = open(p)
    talk(c, 100, 20)
    require("socket").sleep(0.25)
    assert.equal("", p:output())
    assert.is_nil(p:errors():find("logged", 1, true))
    c:close()
    local l = line(p, 1)
    local head = l.sent - 120
    assert.is_true(head > 50 and head < 200, l.sent)
    assert.same({ "GET /up HTTP/1.1", 101, " received=100", "default" }, { l.request, l.status, l.rest, l.upstream })
    assert.is_true(l.ms >= 200, l.ms)
    p:wait_log(("logged 101 100 %d true kept"):format(l.sent))
    assert.same({ 100, l.sent, 1, 0 }, { metric(p, "jeton_bytes_in_total"), metric(p, "jeton_bytes_out_total"), metric(p, 'jeton_responses_total{class="1xx"}'), metric(p, "jeton_tunnels") })
    p:finish()
    upstream.process:stop()
  end)
  it("by the policy that it began with, whatever was loaded since", function()
    local upstream = peers.raw(echo)
    local p = wire.proxy(upstream, "on_log = function(e) jeton.log.info('first ' .. e.bytes_in) end,")
    local c = open(p)
    p:reload_file(wire.policy(upstream.port, "on_log = function(e) jeton.log.info('second ' .. e.bytes_in) end,"))
    assert.equal(200, (p:control("POST", "/reload")).status)
    talk(c, 7, 20)
    c:close()
    p:wait_log "first 7"
    assert.equal(" received=7", line(p, 1).rest)
    p:finish()
    upstream.process:stop()
  end)
  it("when the drain limit ends it", function()
    local upstream = peers.raw(echo)
    local p = wire.proxy(upstream, "timeouts = { drain = '200ms' }, on_log = function(e) jeton.log.info('logged ' .. e.bytes_in) end,")
    local c = open(p)
    talk(c, 3, 20)
    p:finish()
    assert.equal(" received=3", line(p, 1).rest)
    assert.matches("logged 3", p:errors())
    c:close()
    upstream.process:stop()
  end)
  it("when it was opened by CONNECT, too", function()
    local target = peers.raw [[ local all = c:read(5) c:write(all .. all) c:close() ]]
    local p = jeton.start(([[return { listen = "127.0.0.1:0", forward = { connect = { "127.0.0.1:%d" } } }]]):format(target.port))
    local all = wire.exchange(p.port, ("CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a\r\n\r\nhello"):format(target.port))
    assert.matches("^HTTP/1.1 200 .-\r\n\r\nhellohello$", all)
    local l = line(p, 1)
    assert.same({ ("CONNECT 127.0.0.1:%d HTTP/1.1"):format(target.port), 200, #all, " received=5", "forward" }, { l.request, l.status, l.sent, l.rest, l.upstream })
    p:finish()
    target.process:stop()
  end)
end)

describe("the bytes of a line over HTTP/2", function()
  local upstream, proxy, n = nil, nil, 0
  local function open(path, more)
    local c = h2_client.connect(proxy.port, 10)
    local fields = { { ":method", "POST" }, { ":scheme", "http" }, { ":path", path }, { ":authority", "a" } }
    return c, c:open(table.move(more or {}, 1, #(more or {}), #fields + 1, fields), true)
  end
  local function next_line()
    n = n + 1
    return line(proxy, n)
  end
  --- What a head is before it is compressed.
  local function size(fields)
    local sum = 0
    for _, field in ipairs(fields) do sum = sum + #field[1] + #field[2] end
    return sum
  end

  setup(function()
    upstream = peers.raw [[
      local head = c:read "head"
      if head:find "/trailers" then c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 12\r\n\r\n" end
      if not head:find "/long" then return c:close() end
      c:write("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" .. ("x"):rep(3000000))
      c:read "head"]]
    proxy = wire.proxy(upstream, "")
  end)
  teardown(function() proxy:finish() end)

  it("are its head, its body and its trailers", function()
    local c, reply = open "/trailers"
    assert.is_truthy(c:await(function() return reply.finished end))
    assert.equal(size(reply.res.fields) + #"hello" + #"x-sum" + #"12", next_line().sent)
    c:close()
  end)
  it("are those of an error reply, which for a call of gRPC has no body", function()
    for _, kind in ipairs { "text/plain", "application/grpc" } do
      local c, reply = open("/refused", { { "content-type", kind } })
      assert.is_truthy(c:await(function() return reply.finished end))
      assert.equal(kind == "text/plain", reply.received > 0)
      assert.equal(size(reply.res.fields) + reply.received, next_line().sent)
      c:close()
    end
  end)
  it("are those that the client's windows let through of a reply that it breaks off", function()
    local c, reply = open "/long"
    assert.is_truthy(c:await(function() return reply.received == 65535 end))
    c.session:reset(reply.id)
    c:flush()
    local l = next_line()
    assert.equal(size(reply.res.fields) + 65535, l.sent)
    assert.matches(" aborted$", l.rest)
    c:close()
  end)
end)
