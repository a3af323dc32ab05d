--- What becomes of HTTP/2 connections, on both sides, in the life of the program: its end, reloads, limits of time, too many clients, peers that vanish, age, renewed
--- certificates. Frame by frame, by python3-h2 (spec/support/peers/h2_life.py).
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local cjson = require "cjson"
local socket = require "socket"
local uv = require "luv"

local PROGRAM = { "/usr/bin/python3", "spec/support/peers/h2_life.py" }
local HIGHEST = 2 ^ 31 - 1

--- An upstream of HTTP/1.1: the path says what it does.
local UPSTREAM = [[
  while true do
    local head = c:read "head"
    if not head then return c:close() end
    local path = head:match "^%u+ (%S+)"
    local length = head:lower():match "content%-length: *(%d+)"
    if length and not c:read(tonumber(length)) then return c:close() end
    local ms = path:match "^/wait/(%d+)"
    if ms then c:sleep(tonumber(ms)) end
    if path:find "/mute" then c:sleep(60000) end
    if path:find "/stall$" then
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
      c:sleep(60000)
    elseif path == "/long" then
      c:write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" .. ("x"):rep(100000))
    else
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
    end
  end]]

local function start_program(...)
  local argv = { table.unpack(PROGRAM) }
  for _, a in ipairs { ... } do argv[#argv + 1] = tostring(a) end
  return process.start(argv)
end

--- Plays a scenario to its end: what it saw.
local function play(...)
  local p = start_program(...)
  p:wait(60)
  if p.code ~= 0 then error(("%s failed:\n%s"):format((...), p:errors():sub(-3000)), 2) end
  return cjson.decode(p:output())
end

--- An upstream of HTTP/2: { port, process, seen(event) } (how often it saw that).
local function h2_server()
  local log = process.temp_dir() .. "/seen"
  local p = start_program("server", log)
  local port = process.poll(function() return p:ended() and error(p:errors()) or tonumber(p:output():match "^(%d+)\n") end, 20, "the upstream's port")
  local function seen(event)
    local found = {}
    for line in process.read_file(log):gmatch "[^\n]+" do
      local e = cjson.decode(line)
      if e.event == event then found[#found + 1] = e end
    end
    return found
  end
  return { port = math.tointeger(port), process = p, seen = seen }
end

local function relay(port)
  local p = start_program("relay", port)
  return { process = p, port = math.tointeger(process.poll(function() return tonumber(p:output():match "^(%d+)\n") end, 20, "the relay's port")) }
end

local function is_fine(said, body) assert.same({ 200, body or "fine", true, cjson.null }, { said.status, said.body, said.ended, said.reset }) end

describe("a client's connection of HTTP/2", function()
  local upstream, certs
  setup(function() upstream, certs = peers.raw(UPSTREAM), peers.certificates() end)

  local function start(more, listen)
    return jeton.start(([[return { listen = %s, upstreams = {
        default_ = "http://127.0.0.1:%d",
        quick = { "http://127.0.0.1:%d", timeouts = { first_byte = "300ms", response = "600ms" } } },
      on_request = function(req)
        if req.path == "/policy" then return req:respond(200, nil, "fine") end
        req.upstream = (req.path == "/mute" or req.path == "/stall") and "quick" or "default_"
      end, %s }]]):format(listen or '"127.0.0.1:0"', upstream.port, upstream.port, more or ""))
  end

  it("is told twice that the program ends, loses no stream, and serves those that the client opened in between", function()
    local p = start()
    local saw = play("drain", p.port, p.pid, 5, 700)
    assert.same({ HIGHEST, 0 }, saw.first)
    assert.equal(2, saw.ngoaways)
    assert.same({ saw.last_stream, 0 }, saw.last)
    for _, said in ipairs(saw.got) do is_fine(said) end
    is_fine(saw.late)
    assert.equal("FIN", saw.closed)
    assert.equal(0, (p:wait(20)), p:errors())
  end)

  it("with 50 streams under way ends when all of them have", function()
    local p = start()
    local saw = play("drain", p.port, p.pid, 50, 1000)
    assert.same({ HIGHEST, 0 }, saw.first)
    assert.equal(50, #saw.got)
    for _, said in ipairs(saw.got) do is_fine(said) end
    assert.equal("FIN", saw.closed)
    assert.equal(0, (p:wait(20)), p:errors())
  end)

  it("without a stream ends at once when the program does", function()
    local p = start()
    local saw = play("drain_idle", p.port, p.pid)
    assert.is_true(#saw.goaways >= 1)
    assert.equal(0, saw.goaways[#saw.goaways][2])
    assert.equal("FIN", saw.closed)
    assert.equal(0, (p:wait(20)), p:errors())
  end)

  it("of TLS is told twice, too", function()
    local p = start("", ('{ "[::]:0", tls = { certificates = { { cert = %q, key = %q } } } }'):format(certs .. "/rsa.pem", certs .. "/rsa.key"))
    local saw = play("drain", p.port, p.pid, 5, 700, certs .. "/ca.pem")
    assert.same({ HIGHEST, 0 }, saw.first)
    assert.same({ saw.last_stream, 0 }, saw.last)
    for _, said in ipairs(saw.got) do is_fine(said) end
    is_fine(saw.late)
    assert.equal(0, (p:wait(20)), p:errors())
  end)

  it("whose preface is half there when the drain begins is served, and told", function()
    local p = start()
    local saw = play("drain_preface", p.port, p.pid)
    is_fine(saw.said)
    assert.same({ HIGHEST, 0 }, saw.goaways[1])
    assert.same({ 1, 0 }, saw.goaways[#saw.goaways])
    assert.equal(0, (p:wait(20)), p:errors())
  end)

  it("is closed at the drain's end when a stream of it is still under way, which does not look whole", function()
    local p = start('timeouts = { drain = "500ms" },', nil)
    local saw = play("drain_deadline", p.port, p.pid)
    assert.same({ 200, "hello", false }, { saw.said.status, saw.said.body, saw.said.ended })
    assert.is_true(saw.ms >= 450 and saw.ms < process.stretched(3000), saw.ms)
    assert.equal(0, (p:wait(20)), p:errors())
  end)

  it("ends when it has had no stream for timeouts.idle, in order, and PINGs do not keep it", function()
    local p = start 'timeouts = { idle = "500ms" },'
    local saw = play("idle", p.port)
    is_fine(saw.said)
    assert.equal(0, saw.goaways[#saw.goaways][2])
    assert.equal("FIN", saw.closed)
    assert.is_true(saw.ms >= 400 and saw.ms < process.stretched(3000), saw.ms)
    p:finish()
  end)

  it("outlives reloads, and so does a stream on it", function()
    local p = start()
    local saw = play("reload", p.port, p.control_path)
    assert.same({ 200, 200, 200 }, saw.reloads)
    is_fine(saw.before)
    is_fine(saw.slow)
    is_fine(saw.after)
    assert.same({ {}, cjson.null }, { saw.goaways, saw.closed })
    p:finish()
  end)

  it("makes room for a new one when it has no stream, and before one that has", function()
    local p = start "limits = { connections = 2 },"
    local saw = play("shed", p.port)
    is_fine(saw.third)
    is_fine(saw.busy)
    assert.equal("FIN", saw.idle.closed)
    assert.equal(0, #saw.busy_goaways)
    process.poll(function() return p:status().workers[1].shed == 1 end, 5, "the count of connections that were closed")
    p:finish()
  end)

  it("goes on when streams of it run into limits of time", function()
    local p = start 'timeouts = { body = "300ms", exchange = "3s" },'
    local saw = play("limits", p.port)
    local said = saw.said
    assert.same({ 504, true }, { said.first_byte.status, said.first_byte.ended })
    assert.same({ 408, true }, { said.body.status, said.body.ended })
    assert.same({ 504, true }, { said.exchange.status, said.exchange.ended })
    assert.same({ 200, "hello", false }, { said.response.status, said.response.body, said.response.ended })
    assert.is_true(said.response.reset ~= cjson.null and said.response.reset ~= 0, tostring(said.response.reset))
    is_fine(said.fine)
    is_fine(saw.again)
    assert.same({ {}, cjson.null }, { saw.goaways, saw.closed })
    p:finish()
  end)

  it("goes on when a stream of it is cut because its reader takes nothing", function()
    local p = start 'timeouts = { send = "1s" },'
    local saw = play("stalled", p.port)
    assert.same({ 200, 1000, false }, { saw.shut.status, saw.shut.body, saw.shut.ended })
    assert.is_true(saw.shut.reset ~= cjson.null and saw.shut.reset ~= 0)
    assert.is_true(saw.after_ms >= 900, saw.after_ms)
    assert.is_true(#saw.others >= 3)
    for _, said in ipairs(saw.others) do is_fine(said) end
    is_fine(saw.again)
    assert.same({ {}, cjson.null }, { saw.goaways, saw.closed })
    p:finish()
  end)

  it("loses no stream when its listener's certificate is renewed, and new ones get the new certificate", function()
    local dir = process.temp_dir()
    process.write_file(dir .. "/cert", process.read_file(certs .. "/rsa.pem"))
    process.write_file(dir .. "/key", process.read_file(certs .. "/rsa.key"))
    local p = start("", ('{ "[::]:0", tls = { certificates = { { cert = %q, key = %q } } } }'):format(dir .. "/cert", dir .. "/key"))
    local saw = play("renewed", p.port, certs .. "/ca.pem", dir .. "/cert", dir .. "/key", certs .. "/ecdsa.pem", certs .. "/ecdsa.key")
    assert.is_true(saw.changed)
    is_fine(saw.before)
    is_fine(saw.slow)
    is_fine(saw.new)
    if saw.again ~= cjson.null then is_fine(saw.again) end
    p:finish()
  end)
end)

describe("an upstream's connection of HTTP/2", function()
  local upstream
  before_each(function() upstream = h2_server() end)
  after_each(function() upstream.process:stop() end)

  local function start(port, more)
    return jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", http2 = true, %s } }]]):format(port, more or ""))
  end
  local function idle(p) return p:status().workers[1].upstream_idle end

  it("has a stream reset, not ended, when the client leaves in the middle of its request, and serves on", function()
    local p = start(upstream.port)
    local saw = play("cancel", p.port)
    is_fine(saw.again, "1")
    process.poll(function() return #upstream.seen "reset" == 1 end, 5, "a reset")
    assert.equal(8, upstream.seen "reset"[1].code)
    assert.equal(0, #upstream.seen "whole")
    assert.equal("1", http.request(p.port, "POST", "/upload", nil, "all of it").body)
    assert.equal(1, #upstream.seen "whole")
    p:finish()
  end)

  it("outlives reloads", function()
    local p = start(upstream.port)
    for _ = 1, 3 do
      assert.equal("1", http.get(p.port).body)
      assert.equal(200, (p:control("POST", "/reload")).status)
    end
    assert.equal("1", http.get(p.port).body)
    assert.equal(1, #upstream.seen "connection")
    assert.equal(0, #upstream.seen "goaway")
    p:finish()
  end)

  it("is left when it is too old, and not before its streams have ended", function()
    local p = start(upstream.port, 'pool = { age = "1s" }')
    local slow = http.connect(p.port)
    slow:send "GET /wait/2500 HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return #upstream.seen "request" == 1 end, 5, "the slow request")
    local last
    process.poll(function()
      last = http.get(p.port).body
      socket.sleep(0.1)
      return last ~= "1"
    end, 5, "another connection")
    local res = slow:read_response "GET"
    assert.same({ 200, "1" }, { res.status, res.body })
    slow:close()
    process.poll(function() return #upstream.seen "end" >= 1 end, 5, "the old connection's end")
    p:finish()
  end)

  it("that leads nowhere any more is found by PINGs, before a request is sent on it and under one that waits; one that lives stays", function()
    local one, two = relay(upstream.port), relay(upstream.port)
    local idle_one, busy, alive = start(one.port), start(two.port, "timeouts = { first_byte = 0 }"), start(upstream.port)
    local first, living = http.get(idle_one.port).body, http.get(alive.port).body
    local c = http.connect(busy.port)
    c:send "GET /wait/100000 HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return idle(idle_one) == 1 and #upstream.seen "request" == 3 end, 5, "an idle connection, and one that waits")
    for _, r in ipairs { one, two } do uv.kill(r.process.pid, "sigusr1") end
    process.poll(function() return idle(idle_one) == 0 end, 60, "the dead connection to be found")
    local t0 = socket.gettime()
    local res = http.get(idle_one.port)
    assert.equal(200, res.status)
    assert.is_not.equal(first, res.body)
    assert.is_true(socket.gettime() - t0 < process.stretched(1))
    assert.equal(502, c:read_response("GET", 60).status)
    c:close()
    local function pinged()
      for _, e in ipairs(upstream.seen "ping") do
        if ("%d"):format(e.number) == living then return true end
      end
    end
    process.poll(pinged, 30, "a PING on the living connection")
    assert.equal(living, http.get(alive.port).body)
    for _, p in ipairs { idle_one, busy, alive } do p:finish() end
    for _, r in ipairs { one, two } do r.process:stop() end
  end)

  it("that was made with a certificate which has been renewed is left, and not before its streams have ended", function()
    local certs, dir = peers.certificates(), process.temp_dir()
    local server = process.start { "node", process.write_file(dir .. "/server.mjs", ([[
import fs from 'node:fs';
import http2 from 'node:http2';
const dir = %q;
const read = (name) => fs.readFileSync(dir + name);
const server = http2.createSecureServer({ cert: read('/rsa.pem'), key: read('/rsa.key'), ca: read('/ca.pem'), requestCert: true, rejectUnauthorized: true });
let sessions = 0;
server.on('session', (s) => { s.number = ++sessions; });
server.on('stream', (stream, fields) => {
  const { session } = stream, who = session.socket.getPeerCertificate().subject.CN;
  setTimeout(() => { stream.respond({ ':status': 200 }); stream.end(`${session.number} ${who}`); }, Number(fields[':path'].split('/')[2] || 0));
});
server.listen(0, 'localhost', () => console.log(server.address().port));
process.on('SIGTERM', () => process.exit(0));
]]):format(certs)) }
    local port = process.poll(function() return server:ended() and error(server:errors()) or tonumber(server:output():match "^(%d+)\n") end, 20, "a server's port")
    local function put(name, text)
      process.write_file(dir .. "/" .. name .. ".new", text)
      assert(os.rename(dir .. "/" .. name .. ".new", dir .. "/" .. name))
    end
    local function use(name)
      put("cert", process.read_file(certs .. "/" .. name .. ".pem"))
      put("key", process.read_file(certs .. "/" .. name .. ".key"))
    end
    use "client"
    local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:%d", http2 = true, tls = { ca = %q, cert = %q, key = %q } } }]])
      :format(port, certs .. "/ca.pem", dir .. "/cert", dir .. "/key"))
    assert.equal("1 reports", http.get(p.port).body)
    local slow = http.connect(p.port)
    slow:send "GET /wait/3000 HTTP/1.1\r\nHost: a\r\n\r\n"
    use "other-client"
    local last
    process.poll(function()
      last = http.get(p.port).body
      return last ~= "1 reports"
    end, 15, "another connection")
    assert.equal("2 somebody", last)
    assert.equal("1 reports", slow:read_response("GET").body)
    slow:close()
    p:finish()
    server:stop()
  end)

  it("loses no exchange when the program ends with 50 of them under way, and is told goodbye", function()
    local p = start(upstream.port)
    local saw = play("drain", p.port, p.pid, 50, 1000)
    for _, said in ipairs(saw.got) do is_fine(said, "1") end
    assert.equal(0, (p:wait(20)), p:errors())
    process.poll(function() return #upstream.seen "end" == 1 end, 5, "the connection's end")
    local goaways = upstream.seen "goaway"
    assert.is_true(#goaways >= 1)
    assert.equal(0, goaways[#goaways].code)
  end)
end)
