--- What becomes of a client's connections of HTTP/2 in the life of the program: its end, reloads, limits of time, too many clients, renewed certificates.
local jeton = require "spec.support.jeton"
local life = require "spec.support.h2_life"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local cjson = require "cjson"

local play, is_fine = life.play, life.is_fine
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

  it("that is ended for a flood takes its requests with it, also while the client stays", function()
    local p = start()
    assert.same({ left = 0, gone = false }, play("flood", p.port, p.control_path))
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
