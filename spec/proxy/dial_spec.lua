--- Addresses that are silent, refuse or are no longer a name's (spec/README.md, 36a): in a network of the spec's own (spec/support/dns.lua), in which what is sent
--- to some addresses gets lost.
local dns = require "spec.support.dns"
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local wire = require "spec.support.wire"

local DEAD6, DEAD4, LIVE, NOBODY = "-620010db8000000000000000000000007", "-4c0000207", "-47f000001", "-47f000003"
local HALF_DEAD = "at" .. DEAD6 .. LIVE -- 2001:db8::7 first, as the system sorts them, and 127.0.0.1

local stub
setup(function() stub = dns.start(nil, { "2001:db8::7", "192.0.2.7" }) end)
teardown(function() if stub then stub:stop() end end)
local spec = dns.it(function() return stub end)

local function get(p, path, headers)
  local took, res = wire.timed(function() return http.request(p.target, "GET", path or "/", headers, nil, 20) end)
  return res.status, took, res.body
end

local function burst(p, n)
  local cs, statuses = {}, {}
  for i = 1, n do
    cs[i] = http.connect(p.target)
    cs[i]:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
  end
  for i = 1, n do
    statuses[i] = cs[i]:read_response("GET").status
    cs[i]:close()
  end
  return statuses
end

local function all(n, status)
  local t = {}
  for i = 1, n do t[i] = status end
  return t
end

describe("a name whose first address is silent", function()
  spec("is reached by its next one within 300 ms, and at once from then on", function()
    local p = stub:jeton(([[upstream = { "http://%s.test:8000", pool = { idle = 0 } }]]):format(HALF_DEAD))
    local status, took = get(p)
    assert.equal(200, status)
    assert.is_true(took > 0.2 and took < process.stretched(1.2), took) -- 0.3 on a machine at rest
    local at_once = 0 -- the others met a stall of this machine
    for _ = 1, 5 do
      status, took = get(p)
      assert.equal(200, status)
      if took < 0.24 then at_once = at_once + 1 end
    end
    assert.is_true(at_once >= 3, at_once)
    p:finish()
  end)
  spec("serves a burst", function()
    local p = stub:jeton(([[upstream = { "http://%s.test:8000", pool = { idle = 0 } }, timeouts = { connect = "3s" }]]):format(HALF_DEAD))
    local took, statuses = wire.timed(function() return burst(p, 20) end)
    assert.same(all(20, 200), statuses)
    assert.is_true(took < process.stretched(2), took)
    p:finish()
  end)
  spec("is reached by jeton.http", function()
    local p = stub:jeton(([[on_request = function(req)
      local res, why = jeton.http.get("http://%s.test:8000/", { timeout = 3 })
      req:respond(res and res.status or 500, {}, res and res.body or why)
    end]]):format(HALF_DEAD))
    local status, took, body = get(p)
    assert.same({ 200, "fine" }, { status, body })
    assert.is_true(took < process.stretched(1.2), took)
    p:finish()
  end)
  spec("is reached as a forward target, by a request and by CONNECT", function()
    local name = HALF_DEAD .. ".test"
    local p = stub:jeton(([[forward = { hosts = { "%s:8000" }, connect = { "%s:8000" }, private = { "127.0.0.0/8", "2001:db8::/32" } }]]):format(name, name))
    local status, took, body = get(p, ("http://%s:8000/"):format(name))
    assert.same({ 200, "fine" }, { status, body })
    assert.is_true(took < process.stretched(1.2), took)
    local c = http.connect(p.target)
    took = wire.timed(function()
      c:send(("CONNECT %s:8000 HTTP/1.1\r\nHost: %s:8000\r\n\r\n"):format(name, name))
      assert.equal(200, c:read_response("HEAD").status) -- there is nothing behind the head but the tunnel
    end)
    assert.is_true(took < process.stretched(1.2), took)
    c:close()
    p:finish()
  end)
  spec("is a 504 when all are, at the end of timeouts.connect", function()
    local p = stub:jeton(([[upstream = "http://at%s%s.test:8000", timeouts = { connect = "1s" }]]):format(DEAD6, DEAD4))
    local status, took = get(p)
    assert.equal(504, status)
    assert.is_true(took > 0.9 and took < process.stretched(3), took)
    p:finish()
  end)
end)

describe("a name whose AAAA question gets lost", function()
  spec("is reached by its IPv4 address after a second, by all who wait and by jeton.http", function()
    local p = stub:jeton([[upstream = "http://lost6-upstream.test:8000", on_request = function(req)
      if req.path ~= "/call" then return end
      local res, why = jeton.http.get("http://lost6-call.test:8000/", { timeout = 4 })
      req:respond(res and res.status or 500, {}, res and res.body or why)
    end]], { workers = 2 })
    local took, statuses = wire.timed(function() return burst(p, 10) end)
    assert.same(all(10, 200), statuses)
    assert.is_true(took < 4, took) -- libc waits for five seconds
    assert.equal(200, (get(p)))
    local status, _, body = get(p, "/call")
    assert.same({ 200, "fine" }, { status, body })
    p:finish()
  end)
end)

describe("a name that has moved", function()
  local MOVED = "at-47f000002" -- the only one that port 8001 is served at
  local function start() return stub:jeton([[upstream = { "http://from-mover.test:8001", pool = { idle = 0 } }, timeouts = { connect = "4s" }]], { workers = 2 }) end
  --- The proxy's view of it is old enough to be asked again.
  local function a_moment_later()
    local t0 = os.time()
    process.poll(function() return os.time() >= t0 + 2 end, 10, "two seconds")
  end
  spec("is found at its new address by the first request, and by every worker", function()
    stub:say("mover", "at" .. NOBODY)
    local p = start()
    assert.equal(502, (get(p)))
    a_moment_later()
    stub:say("mover", MOVED)
    assert.same(all(20, 200), burst(p, 20))
    p:finish()
  end)
  spec("is found when the old address is silent now", function()
    stub:say("mover", "at" .. DEAD4)
    local p = start()
    local c = http.connect(p.target)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n" -- the old answer is in the cache now
    a_moment_later()
    stub:say("mover", MOVED)
    local status, took = get(p)
    assert.equal(200, status)
    assert.is_true(took < process.stretched(2), took)
    c:close()
    p:finish()
  end)
  spec("is served by what is known while the name server is silent, by every worker", function()
    stub:say("mover", MOVED)
    local p = start()
    assert.equal(200, (get(p)))
    stub:say("mover", "never")
    for _ = 1, 3 do assert.same(all(10, 200), burst(p, 10)) end
    p:finish()
  end)
end)

describe("pool.age", function()
  it("ends a connection under steady traffic", function()
    local peer = peers.raw [[ while c:read "head" do c:write(("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d"):format(c.number % 10)) end ]]
    local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", pool = { age = "1s" } } }]]):format(peer.port))
    local c = http.connect(p.port)
    local first = c:request("GET", "/").body
    assert.equal(first, c:request("GET", "/").body)
    process.poll(function() return c:request("GET", "/").body ~= first end, 10, "another connection")
    c:close()
    p:finish()
    peer.process:stop()
  end)
end)
