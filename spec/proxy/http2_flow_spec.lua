--- Flow control of HTTP/2 end to end: memory with a slow reader in all four combinations of protocols, a stream that stalls beside others, and windows that grow on a long path.
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local h2_client = require "spec.support.h2_client"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"
local cjson = require "cjson"

local MIB = 1024 * 1024
local SIZE = 200 * MIB

local function get(path) return { { ":method", "GET" }, { ":scheme", "http" }, { ":path", path }, { ":authority", "a" } } end
local function upstream_key(port, protocol) return ("upstream = { 'http://127.0.0.1:%d', http2 = %s },"):format(port, protocol == "h2" and "true" or "false") end

--- Clients that take a reply in bites: take(n) reads about so many bytes more and returns how many.
local slow_reader = {}
function slow_reader.h1(port)
  local c = http.connect(port)
  c:send "GET /big HTTP/1.1\r\nHost: a\r\n\r\n"
  return {
    take = function(n)
      local data, _, part = c.sock:receive(n)
      return #(data or part)
    end,
    close = function() c:close() end,
  }
end
function slow_reader.h2(port)
  local c = h2_client.connect(port, 10, { hold = true })
  local stream = c:open(get "/big", true)
  return {
    take = function(n)
      c:await(function() return stream.unread >= n or stream.finished end, 5)
      n = math.min(n, stream.unread)
      c:take(stream, n)
      stream.res.parts = {}
      stream.text = {}
      return n
    end,
    close = function() c:close() end,
  }
end

describe("memory", function()
  local nginx = {}
  setup(function()
    local dir = process.temp_dir()
    assert(os.execute(("truncate -s %d %s/big"):format(SIZE, dir)))
    nginx.h1 = peers.nginx(("root %s; sendfile on;"):format(dir))
    nginx.h2 = peers.nginx(("root %s; sendfile on;"):format(dir), "http2")
  end)
  for _, client in ipairs { "h1", "h2" } do
    for _, upstream in ipairs { "h1", "h2" } do
      it(("grows by less than 1 MiB for a body of 200 MB, read at 64 KB/s for some seconds: %s to %s"):format(client, upstream), function()
        local p = wire.release_proxy(1, upstream_key(nginx[upstream].port, upstream))
        for _ = 1, 5 do
          http.get(p.port, "/none")
          local warm = h2_client.connect(p.port)
          local stream = warm:open(get "/none", true)
          warm:await(function() return stream.finished end)
          warm:close()
        end
        local before, most = wire.rss_at_rest(p), 0
        local reader = slow_reader[client](p.port)
        local got = 0
        for _ = 1, 30 do
          got = got + reader.take(6553)
          socket.sleep(0.1)
          most = math.max(most, wire.rss(p))
        end
        assert.is_true(got >= 6553 * 25 and got < MIB, got)
        assert.is_true(most - before < 1024, ("%d KiB more"):format(most - before))
        reader.close()
        p:finish()
      end)
    end
  end
end)

describe("a stream that nobody reads", function()
  for _, upstream in ipairs { "h1", "h2" } do
    it("holds up no other of its connection, on either side: h2 to " .. upstream, function()
      local dir = process.temp_dir()
      assert(os.execute(("truncate -s %d %s/big"):format(20 * MIB, dir)))
      process.write_file(dir .. "/small", "small")
      local nginx = peers.nginx(("root %s;"):format(dir), upstream == "h2" and "http2" or "")
      local p = wire.proxy(1, upstream_key(nginx.port, upstream))
      local c = h2_client.connect(p.port, 20, { hold = true, connection_window = 512 * MIB })
      local stalled = {}
      for i = 1, 3 do stalled[i] = c:open(get "/big", true) end
      c:await(function() return stalled[1].received >= 65535 and stalled[2].received >= 65535 and stalled[3].received >= 65535 end, 10)
      for _ = 1, 20 do
        local small = c:open(get "/small", true)
        assert.is_true(c:await(function() return small.finished end, 5), "a small one waits")
      end
      for i = 1, 3 do assert.equal(65535, stalled[i].received) end
      for i = 1, 3 do assert.is_true(c:await(function() c:take(stalled[i]) return stalled[i].finished end, 20)) end
      assert.same({ 20 * MIB, 20 * MIB, 20 * MIB }, { stalled[1].received, stalled[2].received, stalled[3].received })
      c:close()
      p:finish()
    end)
  end
end)

describe("each piece of a message", function()
  local node, ports
  setup(function()
    node = process.start { "node", "spec/support/peers/http2_server.mjs" }
    ports = cjson.decode(process.poll(function() return node:ended() and error(node:errors()) or node:output():match "^(.-)\n" end, 20, "node's server"))
  end)
  teardown(function() node:stop() end)
  for _, upstream in ipairs { "h1", "h2" } do
    it("arrives before the next one is sent, both ways: h2 to " .. upstream, function()
      local p = wire.proxy(1, upstream_key(ports.plain, upstream))
      local c = h2_client.connect(p.port)
      local stream = c:open({ { ":method", "POST" }, { ":scheme", "http" }, { ":path", "/echo" }, { ":authority", "a" } }, false)
      local sent = 0
      for _, n in ipairs { 1, 8, 1, 3000, 16384, 1, 70000, 1 } do
        c:data(stream, ("p"):rep(n))
        sent = sent + n
        assert.is_true(c:await(function()
          c:take(stream)
          return stream.received == sent
        end, process.stretched(5)), ("%d bytes of %d"):format(stream.received, sent))
      end
      c:data(stream, "", true)
      assert.is_true(c:await(function() return stream.finished end, process.stretched(5)))
      c:close()
      p:finish()
    end)
  end
end)

describe("a path of 50 ms is filled by one stream:", function()
  local BYTES = 12 * MIB -- 9.4 s with a window of 64 KB
  local LIMIT = 4
  local node, ports
  local function relay(port)
    local r = process.start { "lua5.4", "spec/support/delay_relay.lua", tostring(port), "25" }
    return r, tonumber(process.poll(function() return r:output():match "^(%d+)\n" end, 10, "the relay"))
  end
  setup(function()
    node = process.start { "node", "spec/support/peers/http2_server.mjs" }
    ports = cjson.decode(process.poll(function() return node:ended() and error(node:errors()) or node:output():match "^(.-)\n" end, 20, "node's server"))
  end)
  teardown(function() node:stop() end)

  it("a client's upload", function()
    local p = wire.release_proxy(1, upstream_key(ports.plain, "h1") .. "limits = { body = 0 },")
    local r, far = relay(p.port)
    local c = h2_client.connect(far, 30)
    local stream = c:open({ { ":method", "POST" }, { ":scheme", "http" }, { ":path", "/count" }, { ":authority", "a" } }, false)
    local took = wire.timed(function()
      c:data(stream, ("u"):rep(BYTES), true)
      assert.is_true(c:await(function() return stream.finished end, 30))
    end)
    assert.equal(BYTES .. " {}", table.concat(stream.res.parts))
    assert.is_true(took < process.stretched(LIMIT), took)
    c:close()
    r:stop()
    p:finish()
  end)
  it("an upstream's reply", function()
    local r, far = relay(ports.plain)
    local p = wire.release_proxy(1, upstream_key(far, "h2"))
    local took, res = wire.timed(function() return http.request(p.port, "GET", "/large?" .. BYTES, nil, nil, 30) end)
    assert.equal(BYTES, #res.body)
    assert.is_true(took < process.stretched(LIMIT), took)
    r:stop()
    p:finish()
  end)
end)
