--- Replies that break off over HTTP/2: what had come before the end reaches its reader, however slow that is, and the end is seen behind it.
local h2_client = require "spec.support.h2_client"
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local INTERNAL_ERROR, CANCEL = 2, 8
local SIZE = 190000 -- more than the client's window and what the proxy queues for it (64 to 96 KiB): the rest waits in the upstream stream's window, which is 64 KB

local function start(script, more)
  local upstream = peers.raw(script, true)
  return jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'http://127.0.0.1:%d', http2 = true }, %s }"):format(upstream.port, more or "")), upstream
end

local function said(upstream, what)
  process.poll(function() return upstream.process:output():find(what, 1, true) end, 10, function() return what .. " of the upstream; it said " .. upstream.process:output() end)
end

--- A client that takes nothing until all has been said: then how many bytes of the reply came, and its exchange.
local function late(p, upstream)
  local c = h2_client.connect(p.port, 10, { hold = true })
  local exchange = c:open({ { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" } }, true)
  c:await(function() return exchange.received == 65535 end)
  said(upstream, "said")
  c:await(function() return exchange.finished or exchange.reset end, 0.1)
  assert.equal(65535, exchange.received)
  assert.is_nil(exchange.reset)
  assert(c:await(function()
    c:take(exchange)
    return exchange.finished or exchange.reset
  end))
  c:close()
  return exchange.received, exchange
end

describe("a reply of HTTP/2 that breaks off", function()
  local REPLY = ([[
    c:read "head"
    c:write("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" .. ("x"):rep(%d))
    %s
    print "said"]])

  for how, case in pairs {
    ["by a reset"] = { "c:reset_stream(2)", INTERNAL_ERROR }, ["by a cancelled stream"] = { "c:reset_stream(8)", CANCEL },
    ["by the end of its connection"] = { "c:sleep(50) c.connection:reset()", INTERNAL_ERROR },
  } do
    it(how .. " gives a slow client all that came, and then its own reset", function()
      local p, upstream = start(REPLY:format("900000", SIZE, case[1]))
      local n, exchange = late(p, upstream)
      assert.equal(SIZE, n)
      assert.equal(case[2], exchange.reset)
      local sent = SIZE
      for _, field in ipairs(exchange.res.fields) do sent = sent + #field[1] + #field[2] end
      process.poll(function() return p:output():match(" 200 " .. sent .. " .- cut\n") end, 5, function() return p:output() end)
      assert.equal(0, p:status().workers[1].client_aborts)
      p:finish()
    end)
  end

  it("behind its whole body is whole, though its client is slow", function()
    local p, upstream = start(REPLY:format(SIZE, SIZE, "c:reset_stream(8)"))
    local n, exchange = late(p, upstream)
    assert.same({ SIZE, true }, { n, exchange.finished })
    p:finish()
  end)

  it("ends the wait for a client that takes nothing after timeouts.send", function()
    local p, upstream = start(REPLY:format("900000", SIZE, "c:reset_stream(2)"), "timeouts = { send = '400ms' }")
    local c = h2_client.connect(p.port, 10, { hold = true })
    local exchange = c:open({ { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" } }, true)
    said(upstream, "said")
    assert(c:await(function() return exchange.reset end, 5))
    process.poll(function() return p:output():match " 200 %d+ .- aborted\n" end, 5, function() return p:output() end)
    process.poll(function() return p:status().workers[1].streams == 0 end, 5, "no stream to be left")
    c:close()
    p:finish()
  end)

  for name, gap in pairs { ["in one packet with its head"] = 0, ["behind its head"] = 50 } do
    it(name .. " is a clean 502 or a cut, and nothing between", function()
      local p = start(([[
        c:read "head"
        c.h2:headers(c.stream, { { ":status", "200" }, { "content-length", "50" } })
        c.h2:data(c.stream, ("x"):rep(20))
        if %d > 0 then c.connection:flush() c:sleep(%d) end
        c.h2:reset(c.stream, 2)
        c.connection:flush()]]):format(gap, gap))
      local c = h2_client.connect(p.port)
      local res = c:request("GET", "/", { Accept = "text/plain" })
      if gap == 0 then
        assert.equal(502, res.status)
        assert.is_nil(res.broken)
        assert.is_nil(res.body:find("x", 1, true))
        assert.equal(#res.body, tonumber(res.headers["content-length"]))
      else
        assert.same({ 200, INTERNAL_ERROR, 20 }, { res.status, res.reset, #res.body })
      end
      assert.equal(res.status, http.get(p.port).status) -- of HTTP/1.1
      c:close()
      p:finish()
    end)
  end
end)

it("a connection of HTTP/2 on which nothing can be sent any more is read to its end", function()
  local go = process.temp_dir() .. "/go"
  local p, upstream = start(([[
    local path = c:read("head"):match " (%%S+)"
    if path == "/again" then return c:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain" end
    c:write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" .. ("x"):rep(40000))
    repeat
      c:sleep(10)
      local f = io.open(%q)
    until f
    c:write(("x"):rep(50000))
    c:sleep(50)
    c.connection:reset()
    print "said"]]):format(go))
  assert.equal("again", http.get(p.port, "/again").body) -- so it has served before: what finds it gone is sent again
  local first, second = http.connect(p.port), http.connect(p.port)
  first:send "GET /long HTTP/1.1\r\nHost: a\r\n\r\n"
  local all = ""
  process.poll(function() all = all .. first:read_all(0.02) return #all > 40000 end, 5, "the beginning")
  p:kill "sigstop"
  second:send "GET /again HTTP/1.1\r\nHost: a\r\n\r\n" -- its head is the write that fails, before what has come is read
  process.write_file(go, "")
  said(upstream, "said")
  p:kill "sigcont"
  all = all .. first:read_all(5)
  assert.equal(90000, select(2, all:gsub("x", "")))
  assert.equal("again", assert(second:read_response "GET").body)
  first:close()
  second:close()
  process.poll(function() return p:output():match '"GET /again HTTP/1.1" 200 .-\n' end, 5, function() return p:output() end)
  p:finish()
end)
