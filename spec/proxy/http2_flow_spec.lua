--- Flow control of HTTP/2 end to end: streams that stall beside others, pieces that arrive before the next is sent, and windows that grow on a long path. What a slow reader costs is in
--- backpressure_spec.lua.
local wire = require "spec.support.wire"
local flood = require "spec.support.flood"
local h2_client = require "spec.support.h2_client"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local cjson = require "cjson"

local MIB = 1024 * 1024

local function get(path) return { { ":method", "GET" }, { ":scheme", "http" }, { ":path", path }, { ":authority", "a" } } end
local function upstream_key(port, protocol) return ("upstream = { 'http://127.0.0.1:%d', http2 = %s },"):format(port, protocol == "h2" and "true" or "false") end

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

describe("a body that nobody takes", function()
  for _, upstream in ipairs { "h1", "h2" } do
    it("holds up no other of its connection, be it a request's or a reply's, on either side: h2 to " .. upstream, function()
      local server = peers.raw([[
        while true do
          local head = c:read "head"
          if not head then return c:close() end
          if head:find "^POST /stall" then return c:stop() end
          local n = tonumber(head:match "\nContent%-Length: (%d+)" or 0)
          c:read(n)
          local body = head:find "^GET /big" and ("b"):rep(4000000) or tostring(n)
          c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
        end]], upstream == "h2")
      local p = wire.proxy(1, upstream_key(server.port, upstream))
      local c = h2_client.connect(p.port, 20, { hold = true, connection_window = 512 * MIB })
      local function post(path, n)
        local stream = c:open({ { ":method", "POST" }, { ":scheme", "http" }, { ":path", path }, { ":authority", "a" }, { "content-length", tostring(n) } })
        c:data(stream, ("p"):rep(n), true)
        return stream
      end
      local up, down = {}, {}
      for i = 1, 3 do up[i], down[i] = post("/stall", 20 * MIB), c:open(get "/big", true) end
      c:await(function() return down[1].received >= 65535 and down[2].received >= 65535 and down[3].received >= 65535 end, 10)
      for _ = 1, 10 do
        local other, small = post("/count", 200000), c:open(get "/small", true)
        assert.is_true(c:await(function() return other.finished and small.finished end, process.stretched(5)), "another one waits")
        assert.same({ "200000", "0" }, { table.concat(other.res.parts), table.concat(small.res.parts) })
      end
      for i = 1, 3 do
        assert.equal(65535, down[i].received)
        assert.is_true(up[i].stream.queued > 0, "the upload was taken")
        assert.is_nil(up[i].reset)
      end
      c:close()
      p:finish()
    end)
  end
end)

describe("a path of 100 Mbit/s and 50 ms is filled by one stream:", function()
  local FULL = 12.5e6 -- bytes a second
  local SIZE = 100 * MIB
  local function relay(port)
    local r = process.start { "lua5.4", "spec/support/delay_relay.lua", tostring(port), "25", "100" }
    return r, tonumber(process.poll(function() return r:output():match "^(%d+)\n" end, 10, "the relay"))
  end
  for _, case in ipairs { { "upload", "h1" }, { "upload", "h2" }, { "download", "h1" }, { "download", "h2" } } do
    local direction, near = table.unpack(case)
    it(("%s, and %s on the other side"):format(direction == "upload" and "a client's upload" or "an upstream's reply", near), function()
      local up = direction == "upload"
      local server = flood.server(up and near or "h2")
      local r, far
      if not up then r, far = relay(server.port) end
      local p = wire.release_proxy(1, upstream_key(far or server.port, server.protocol) .. "limits = { body = 0 },")
      if up then r, far = relay(p.port) end
      local client = flood.client(up and "h2" or near, up and far or p.port)
      local reader = up and server or client
      if up then client:ask("POST", "/flood", SIZE) else client:ask("GET", "/flood?" .. SIZE) end
      local function read(seconds)
        local before = reader.got
        local took = wire.timed(function() flood.turn({ client, server }, seconds, function() reader:take(MIB) end) end)
        return (reader.got - before) / took
      end
      read(0.7) -- its windows grow
      local rate = 0
      for _ = 1, 3 do rate = math.max(rate, read(0.4)) end
      assert.is_true(rate > 0.85 * FULL / process.stretched(1), ("%.1f MB/s"):format(rate / 1e6))
      client:close()
      server:close()
      r:stop()
      p:finish()
    end)
  end
end)
