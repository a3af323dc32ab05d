--- Everything that can go wrong, at once and at random: the proxy must come out of it without a report of its sanitizers, with no connection left behind.
local wire = require "spec.support.wire"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"

local seconds = tonumber(os.getenv "JETON_STORM" or "3")
local dice = math.random

local function faulty_upstream()
  return peers.raw [[
    local dice = math.random
    local kinds = {
      function() c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end,
      function() c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: y\r\n\r\n" end,
      function() c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n" end,
      function() c:write "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" c:sleep(dice(20)) c:write "0\r\n\r\n" end,
      function() c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\nhello" c:close() return true end,
      function() c:write("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" .. ("x"):rep(300000)) end,
      function() c:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello" c:sleep(dice(10)) c:reset() return true end,
      function() c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" c:sleep(dice(10)) c:close() return true end,
      function() c:write "HTTP/1.1 103 Early Hints\r\n\r\n" c:sleep(dice(10)) c:write "HTTP/1.1 204 No Content\r\n\r\n" end,
      function() c:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokpoison" end,
      function() c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nearly" c:sleep(dice(30)) c:close() return true end,
      function() c:write "garbage\r\n\r\n" end,
      function() c:write "HTTP/1.0 200 OK\r\n\r\nuntil the end" c:close() return true end,
      function() c:sleep(dice(200)) c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow" end,
      function() c:close() return true end,
      function() c:reset() return true end,
      function() c:sleep(1000) end,
    }
    while true do
      local head = c:read "head"
      if not head then return c:close() end
      local n = tonumber(head:match "Content%-Length: (%d+)")
      if n and dice(3) > 1 then if not c:read(n) then return c:close() end end
      local kind = dice(4) == 1 and dice(#kinds) or dice(6)
      if kinds[kind]() then return end
      if c.ended then return c:close() end
    end]]
end

--- A policy whose every hook and fetch misbehaves now and then; `n` makes its text another one.
local function policy(upstream, n)
  return ([[-- %d
    local dice = math.random
    return {
      listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", "http://127.0.0.1:1" }, log = { access = false },
      timeouts = { first_byte = "150ms", response = "150ms", body = "300ms", connect = "1s", exchange = "700ms", drain = "1s", tunnel = "1s" },
      tokens = { api = {
        fetch = function()
          jeton.sleep(dice() * 0.02)
          if dice(5) == 1 then error "on purpose" end
          return { value = "v" .. dice(1000), expires_in = dice(3) }
        end,
        wait = "300ms", leeway = 0, backoff = { min = "10ms", max = "50ms" },
      } },
      on_request = function(req, tokens)
        req.headers.authorization = "Bearer " .. tokens.api
        local n = dice(20)
        if n == 1 then jeton.sleep(0.01)
        elseif n == 2 then req:body()
        elseif n == 3 then error "on purpose"
        elseif n == 4 then req:respond(202, {}, "own")
        elseif n == 5 then req:set_body "other"
        elseif n == 6 then tokens.api:refresh() end
      end,
      on_response = function(res, _, tokens)
        local n = dice(20)
        if n == 1 then jeton.sleep(0.01)
        elseif n == 2 then res:body()
        elseif n == 3 then error "on purpose"
        elseif n == 4 then res:set_body "other"
        elseif n == 5 then tokens.api:refresh() end
      end,
      on_error = function() if dice(3) == 1 then jeton.sleep(0.005) end end,
      on_log = function() if dice(10) == 1 then jeton.sleep(0.01) end end,
    }]]):format(n, upstream.port)
end

local requests = {
  "GET / HTTP/1.1\r\nHost: a\r\n\r\n", ("GET / HTTP/1.1\r\nHost: a\r\n\r\n"):rep(5), "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" .. ("x"):rep(100000),
  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: y\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz", "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nmore",
  "GET / HTTP/1.0\r\n\r\n", "GET / HT", "rubbish\r\n\r\n", "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" .. ("x"):rep(300000) .. "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}
--- One thing that a client may do to its connection. True: it has gone.
local function act(s)
  local what = dice(6)
  if what <= 2 then
    if what == 1 then s:setoption("linger", { on = true, timeout = 0 }) end
    s:close()
    return true
  end
  if what == 3 then s:shutdown "send"
  elseif what == 4 then s:send(requests[dice(#requests)])
  else s:receive(dice(100000)) end
end

local function crowd_step(open, port)
  while #open < 40 do
    local s = socket.tcp()
    s:settimeout(2)
    assert(s:connect("127.0.0.1", port))
    s:settimeout(0)
    s:send(requests[dice(#requests)])
    open[#open + 1] = s
  end
  socket.sleep(0.002)
  for _ = 1, 6 do
    local i = dice(#open)
    if act(open[i]) then table.remove(open, i) end
  end
end

describe("a storm of faults", function()
  it("of upstream, clients, hooks, tokens and reloads at once leaves the proxy well, and no connection behind", function()
    local upstream = faulty_upstream()
    local p = jeton.start { policy = policy(upstream, 0), workers = 2 }
    local open, reloads = {}, 0
    local stop, next_reload = socket.gettime() + seconds, socket.gettime() + 0.3
    while socket.gettime() < stop do
      assert(not p:ended(), p:errors():sub(-6000))
      crowd_step(open, p.port)
      if socket.gettime() > next_reload then
        reloads = reloads + 1
        process.write_file(p.policy, policy(upstream, reloads))
        assert.equal(200, (p:control("POST", "/reload")).status)
        next_reload = socket.gettime() + 0.3
      end
    end
    for _, s in ipairs(open) do s:close() end
    local workers
    process.poll(function()
      workers = p:status().workers
      return workers[1].connections == 0 and workers[2].connections == 0
    end, 5, "the connections to go") -- less than the time of a head: what has left is not waited for
    assert.is_true(workers[1].requests > 50 and workers[1].tunnels == 0)
    local before = wire.cpu(p)
    socket.sleep(0.3)
    assert.is_true(wire.cpu(p) - before < 0.2, "it spins")
    p:finish(20)
    upstream.process:stop()
  end)
end)
