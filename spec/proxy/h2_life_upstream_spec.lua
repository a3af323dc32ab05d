--- What becomes of connections of HTTP/2 to upstreams in the life of the program: its end, reloads, age, silence, renewed certificates, clients that leave.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local life = require "spec.support.h2_life"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"
local uv = require "luv"

local play, relay, is_fine = life.play, life.relay, life.is_fine

describe("an upstream's connection of HTTP/2", function()
  local upstream
  before_each(function() upstream = life.server() end)
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

  it("whose socket is full gets no other request, which would wait there while its token ends", function()
    local p = start(upstream.port, "}, workers = 1, tokens = { api = { fetch = function() return { value = 'token', expires_in = 60 } end } }, on_request = function(req, tokens) req.headers.authorization = 'Bearer ' .. tokens.api end, log = { access = false")
    local saw = play("full", p.port)
    assert.equal("HTTP/1.1 200 OK", saw.reply)
    assert.equal(2, #upstream.seen "connection")
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
