--- TCP keep-alive, as the kernel tells of it: which sockets have a timer for it, and when it is due.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

--- Milliseconds to the keep-alive probe of the connection whose own port, or whose peer's, is `port`; false: it has no such timer; nil: no such connection, or one that
--- waits for an acknowledgement, whose timer is another one meanwhile.
local function probe_due(p, own, port)
  for _, family in ipairs { "tcp", "tcp6" } do
    for line in process.read_file(("/proc/%d/net/%s"):format(p.pid, family)):gmatch "[^\n]+" do
      local from, to, state, timer, due = line:match "^ *%d+: %x+:(%x+) %x+:(%x+) (%x+) %x+:%x+ (%x+):(%x+)"
      local acknowledged = timer ~= "01" and timer ~= "04"
      if state == "01" and acknowledged and tonumber(own and from or to, 16) == port then return timer == "02" and tonumber(due, 16) * 10 end
    end
  end
end

describe("a silent connection is probed", function()
  -- Answers /quick at once and leaves others waiting, so that either side of the proxy has a connection on which nothing moves.
  local SILENT = [[ local head = c:read "head" while head and head:find "/quick" do c:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" head = c:read "head" end c:read "head" c:close() ]]

  local function both_sides(more, listener, upstream_keys)
    local upstream = peers.raw(SILENT)
    local p = jeton.start(([[return { listen = { { "127.0.0.1:0", %s } }, upstream = { "http://127.0.0.1:%d", %s }, %s }]])
      :format(listener or "", upstream.port, upstream_keys or "", more or ""))
    local c = http.connect(p.port)
    c:send "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return upstream.received():find("\r\n\r\n", 1, true) end, 5, "the request to arrive")
    local client, server
    process.poll(function()
      client, server = probe_due(p, true, p.port), probe_due(p, false, upstream.port)
      return client ~= nil and server ~= nil
    end, 5, "both connections")
    c:close()
    p:finish()
    return client, server
  end

  local function within(due, from, to, what) assert.is_true(due and due > from * 1000 and due <= to * 1000, ("%s: %s"):format(what, due)) end

  it("on both sides, a minute after its last byte", function()
    local client, server = both_sides()
    within(client, 40, 60.1, "the client's")
    within(server, 40, 60.1, "the upstream's")
  end)
  it("when the policy says, and a listener or upstream may say otherwise", function()
    local client, server = both_sides "tcp_keepalive = { idle = '5m' }"
    within(client, 240, 300.1, "the client's")
    within(server, 240, 300.1, "the upstream's")
    client, server = both_sides("tcp_keepalive = { idle = '5m' }", "tcp_keepalive = { idle = '100s', interval = '2s', probes = 2 }", "tcp_keepalive = false")
    within(client, 80, 100.1, "the client's")
    assert.is_false(server)
  end)
  it("or not at all", function()
    local client, server = both_sides "tcp_keepalive = false"
    assert.same({ false, false }, { client, server })
    client, server = both_sides("tcp_keepalive = false", nil, "tcp_keepalive = true")
    assert.is_false(client)
    within(server, 40, 60.1, "the upstream's")
  end)
  it("as a reload says, from then on, and with --listen as the policy says", function()
    local upstream = peers.raw(SILENT)
    local text = "return { listen = '127.0.0.1:0', upstream = 'http://127.0.0.1:%d', tcp_keepalive = %s }"
    local p = jeton.start { policy = text:format(upstream.port, "false"), args = { "--listen", "127.0.0.1:0" } }
    local function due()
      local c = http.connect(p.port)
      assert.equal(200, c:request("GET", "/quick").status)
      local found
      process.poll(function() found = probe_due(p, true, p.port) return found ~= nil end, 5, "the connection")
      c:close()
      process.poll(function() return p:status().workers[1].connections == 0 end, 5, "the client to be gone")
      return found
    end
    assert.is_false(due())
    p:reload_file(text:format(upstream.port, "{ idle = '200s' }"))
    assert.equal(200, (p:control("POST", "/reload")).status)
    within(due(), 150, 200.1, "the client's")
    p:finish()
  end)
  it("of a script's own calls, too", function()
    local upstream = peers.raw(SILENT)
    local p = jeton.start(([[return { listen = "127.0.0.1:0", tcp_keepalive = { idle = "90s" },
      on_request = function(req)
        if req.path == "/pooled" then jeton.http.get "http://127.0.0.1:%d/quick" end
        req:respond(200)
      end }]]):format(upstream.port))
    assert.equal(200, http.get(p.port, "/pooled").status)
    local due
    process.poll(function() due = probe_due(p, false, upstream.port) return due ~= nil end, 5, "the connection")
    within(due, 60, 90.1, "the script's")
    p:finish()
  end)
end)
