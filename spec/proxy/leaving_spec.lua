--- Who leaves before the end, and replies that break off: who is told of it, how soon, what still arrives, and what the log says.
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"
local socket = require "socket"

local H2_CLIENT = protocols.client == "h2"
local LOGGED = ' HTTP/' .. protocols.in_log .. '" ' -- behind a request's path in the access log

local function count(text, what) return select(2, text:gsub(what, "")) end

describe("a client that leaves", function()
  local SEND = "GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
  -- Says what it was asked, begins a reply or does not, and says when it has been told that nobody waits any more.
  local HANGING = [[
    local head = c:read "head"
    local path = head:match "^%u+ (%S+)"
    if path:find "/sse" then c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n: there\r\n" end
    if path:find "/old" then c:write "HTTP/1.0 200 OK\r\n\r\n: there" end
    print("asked " .. path)
    repeat local more = c:read(1) until not more
    print("told " .. path)
    c:close()]]
  local function reset(c)
    c.sock:setoption("linger", { on = true, timeout = 0 })
    c:close()
  end
  local function close(c) c:close() end
  local certs
  setup(function() certs = peers.certificates() end)
  -- A plain listener and one with TLS; `more` further keys.
  local function start(upstream, more)
    local policy = ([[return { listen = { "127.0.0.1:0", { "127.0.0.2:0", tls = { certificates = { { cert = %q, key = %q } } } } }, upstream = "http://127.0.0.1:%d", %s }]])
      :format(certs .. "/rsa.pem", certs .. "/rsa.key", upstream.port, more or "")
    return jeton.start(policy)
  end

  for way, leave in pairs { ["by FIN"] = close, ["by RST"] = reset, ["by a FIN behind which it listens"] = function(c) c:finish() end } do
    it(way .. " while its reply is awaited or under way ends the exchange within a second, and the log says so", function()
      local upstream = peers.raw(HANGING)
      local p = start(upstream)
      for path, line in pairs { ["/wait"] = "499 0 ", ["/sse"] = "200 %d+ ", ["/old"] = "200 %d+ " } do
        local c = http.connect(p.port)
        c:send(SEND:format(path))
        process.poll(function() return upstream.process:output():find("asked " .. path, 1, true) end, 5, "the request to arrive")
        if path ~= "/wait" then
          local seen = ""
          process.poll(function() seen = seen .. c:read_all(0.01) return seen:find(": there", 1, true) end, 5, "the reply's beginning")
        end
        leave(c)
        local took = wire.timed(function()
          process.poll(function() return upstream.process:output():find("told " .. path, 1, true) end, 5, "the upstream to be told: " .. path)
        end)
        assert.is_true(took < process.stretched(1), took)
        process.poll(function() return p:output():match('"GET ' .. path .. LOGGED .. line .. ".- default %x+ aborted\n") end, 5, function() return p:output() end)
      end
      assert.equal(3, p:status().workers[1].client_aborts)
      p:finish()
    end)
  end

  for _, how in ipairs { "close_notify", "fin" } do
    it("over TLS by " .. how .. " ends the exchange within a second", function()
      local upstream = peers.raw(HANGING)
      local p = start(upstream)
      local _, address = p:port_of(2)
      for _, path in ipairs { "/wait", "/sse" } do
        local host, port = address:match "//(.*):(%d+)$"
        local go = process.temp_dir() .. "/go"
        local request = SEND:format(path):gsub("\r\n", "\\r\\n")
        local client = process.start { "/usr/bin/python3", "spec/support/peers/tls_client.py", host, port, certs .. "/ca.pem", request, go, how }
        process.poll(function() return upstream.process:output():find("asked " .. path, 1, true) end, 10, function() return "the request to arrive: " .. client:errors() end)
        if path == "/sse" then process.poll(function() return client:output():find(": there", 1, true) end, 5, "the reply's beginning") end
        process.write_file(go, "")
        local took = wire.timed(function()
          process.poll(function() return upstream.process:output():find("told " .. path, 1, true) end, 5, "the upstream to be told: " .. path)
        end)
        assert.is_true(took < process.stretched(1), took)
        process.poll(function() return p:output():match('"GET ' .. path .. ' HTTP/1.1" %d+ .- aborted\n') end, 5, function() return p:output() end)
        client:kill "sigkill"
      end
      p:finish()
    end)
  end

  it("in a hook, while it waits for a token, or for a connection, ends the exchange, too", function()
    local port, done = peers.hanging_port()
    local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", timeouts = { connect = "60s", drain = "1s" },
      tokens = { api = { fetch = function() jeton.sleep(60) end, wait = "60s" } },
      on_request = function(req, tokens)
        if req.path == "/hook" then jeton.sleep(60) end
        if req.path == "/token" then req.headers.authorization = "Bearer " .. tokens.api end
      end }]]):format(port))
    for _, path in ipairs { "/hook", "/token", "/dial" } do
      local c = http.connect(p.port)
      c:send(SEND:format(path))
      process.poll(function() return p:status().workers[1].connections == 1 end, 5, "the client to be there")
      socket.sleep(0.05)
      c:close()
      process.poll(function() return p:output():match('"GET ' .. path .. LOGGED .. '499 0 .- aborted\n') end, 2, function() return p:output() end)
    end
    p:finish()
    done()
  end)

  it("while nobody reads what it sends is noticed all the same", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n: there\r\n" print "asked" repeat local more = c:read(1) until not more print "told" c:close() ]]
    for _, leave in ipairs { close, reset } do
      local p = start(upstream)
      local c = http.connect(p.port)
      c:send(SEND:format "/sse" .. SEND:format(("/x"):rep(100)):rep(300)) -- more pipelined requests than are kept
      local seen = ""
      process.poll(function() seen = seen .. c:read_all(0.01) return seen:find(": there", 1, true) end, 5, "the reply's beginning")
      local before = count(upstream.process:output(), "told")
      leave(c)
      process.poll(function() return count(upstream.process:output(), "told") == before + 1 end, 5, "the upstream to be told")
      p:finish()
    end
  end)

  it("in a storm of retries leaves neither connections nor upstream connections behind", function()
    local upstream = peers.raw [[ c:read "head" c:read(1) c:close() ]]
    local p = start(upstream)
    for round = 1, 10 do
      local all = {}
      for i = 1, 20 do
        all[i] = http.connect(p.port)
        all[i]:send(SEND:format("/" .. round))
      end
      process.poll(function() return count(upstream.received(), "GET /" .. round .. " ") == 20 end, 10, "20 requests to arrive")
      for i = 1, 20 do all[i]:close() end
    end
    process.poll(function()
      local w = p:status().workers[1]
      return w.connections == 0 and w.upstream_leased == 0
    end, 3, "all to be gone")
    assert.equal(200, p:status().workers[1].client_aborts)
    p:finish()
  end)

  it("may half-close where the policy says so, for as long as that says, and elsewhere may not: listeners differ", function()
    local upstream = peers.raw(HANGING)
    local p = jeton.start(([[return { listen = { "127.0.0.1:0", { "127.0.0.2:0", half_close = true } }, upstream = "http://127.0.0.1:%d", timeouts = { half_close = "2s" } }]]):format(upstream.port))
    local function leave(target, path)
      local c = http.connect(target)
      c:send(SEND:format(path))
      process.poll(function() return upstream.process:output():find("asked " .. path, 1, true) end, 5, "the request to arrive")
      c:finish()
      local took = wire.timed(function()
        process.poll(function() return upstream.process:output():find("told " .. path, 1, true) end, 5, "the upstream to be told")
      end)
      c:close()
      return took
    end
    local _, address = p:port_of(2)
    for _, path in ipairs { "/wait", "/sse" } do
      local here, there = leave(p.port, path .. 1), leave(address:match "//(.*)$", path .. 2)
      assert.is_true(here < 1.5, here)
      assert.is_true(there > 1.5 and there < process.stretched(5), there)
    end
    p:finish()
  end)

  it("by a half-close gets its reply when the policy says so, however late", function()
    local upstream = peers.raw [[ c:read "head" c:sleep(200) c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" ]]
    local p = wire.proxy(upstream, "half_close = true,")
    local c = http.connect(p.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    c:finish()
    assert.equal("fine", c:read_response("POST").body)
    assert.equal("closed", select(2, c:read_all(5)))
    c:close()
    p:finish()
  end)
end)

describe("a client that closes its half", function()
  local upstream
  setup(function()
    upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        local body = c:read(tonumber(head:match "Content%-Length: (%d+)" or 0))
        if not body then return c:close() end
        c:sleep(100)
        c:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #tostring(#body) .. "\r\n\r\n" .. #body)
      end]]
  end)

  it("behind a large body that waits for its upstream gets its reply", function()
    local p = wire.proxy(upstream, "half_close = true, on_request = function(req) jeton.sleep(0.2) end,")
    local c = http.connect(p.port)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(72 * 1024))
    c:send(("x"):rep(68 * 1024))
    socket.sleep(0.05) -- more than is gathered for a replay; what comes now is stashed
    c:send(("x"):rep(4 * 1024))
    c:finish()
    assert.equal(tostring(72 * 1024), assert(c:read_response "POST").body)
    assert.equal("closed", select(2, c:read_all(3)))
    c:close()
    p:finish()
  end)
  for name, rest in pairs { ["a head"] = "GET / HT", ["a body"] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello" } do
    it("in the middle of " .. name .. " gets the reply to what came before, and is not waited for", function()
      local p = wire.proxy(upstream, "half_close = true,")
      local c = http.connect(p.port)
      c:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n" .. rest)
      c:finish()
      assert.equal("0", assert(c:read_response "GET").body)
      assert.same({ "", "closed" }, { c:read_all(3) })
      c:close()
      p:finish()
    end)
  end
end)

describe("a reply that breaks off", function()
  local SIZE = 565000
  -- As much as it says, then the end, by FIN or RST; /stall goes silent instead.
  local BREAKING = ([[
    local head = c:read "head"
    local path = head:match "^%%u+ /(%%S+)"
    local body = ("x"):rep(%d)
    if path:find "length" then c:write("HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" .. body) end
    if path:find "chunked" then c:write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" .. ("%%x\r\n"):format(#body) .. body .. "\r\n") end
    if path:find "stall" then print("said " .. path) c:sleep(20000) end
    if path:find "reset" then c:sleep(500) c:reset() end -- the last bytes have been taken
    c:close()]]):format(SIZE)
  -- A client that begins to read when all has long been said: what a reset throws away is missing then.
  -- Over HTTP/2 its window lets as much through as the socket's buffers would.
  local function late_client(target, path, window)
    local c = http.connect(target, nil, { window = window or 1024 * 1024 })
    c.sock:setoption("recv-buffer-size", 32768)
    c:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
    return c
  end
  local function cut_line(p, path)
    return process.poll(function() return p:output():match('"GET ' .. path:gsub("%-", "%%-") .. ' HTTP/%d.%d" 200 (%d+) [^\n]* default %x+ cut\n') end, 5, function() return path .. " in the log:\n" .. p:output() end)
  end

  it("where its framing shows that gives the client all that came, then FIN, and is no client's abort", function()
    local upstream = peers.raw(BREAKING)
    local p = wire.proxy(upstream, "on_log = function(entry) jeton.log.info(('%s cut %s aborted %s'):format(entry.path, entry.cut, entry.aborted)) end,")
    for _, path in ipairs { "/length", "/chunked", "/length-reset", "/chunked-reset" } do
      local c = late_client(p.port, path)
      local sent = tonumber(cut_line(p, path))
      local all, why = c:read_all(10)
      assert.equal("closed", why)
      assert.equal(SIZE, select(2, all:gsub("x", "")))
      local head = H2_CLIENT and sent - SIZE or 0 -- of HTTP/2 it is counted as it was before compression, and read_all gives the body
      assert.is_true(head >= 0 and head < 200, head)
      assert.equal(H2_CLIENT and SIZE or #all, sent - head)
      assert.is_nil(all:find("\r\n0\r\n\r\n", 1, true))
      c:close()
      p:wait_log(path .. " cut true aborted false")
    end
    local w = p:status().workers[1]
    assert.same({ 0, 4 }, { w.client_aborts, w.replies_cut })
    p:finish()
  end)

  it("over TLS gives the client all that came, too", function()
    local upstream, certs = peers.raw(BREAKING), peers.certificates()
    local p = jeton.start(([[return { listen = { "127.0.0.1:0", tls = { certificates = { { cert = %q, key = %q } } } }, upstream = "http://127.0.0.1:%d" }]])
      :format(certs .. "/rsa.pem", certs .. "/rsa.key", upstream.port))
    for _, path in ipairs { "/length", "/chunked" } do
      local code, out = peers.curl("--cacert", certs .. "/ca.pem", ("https://localhost:%d%s"):format(p.port, path), "--connect-to", "::127.0.0.1:")
      assert.equal(H2_CLIENT and 92 or 18, code) -- a partial file, not a reset; over HTTP/2 it is one of the stream
      assert.equal(SIZE, #out)
      cut_line(p, path)
    end
    p:finish()
  end)

  it("where its end would look complete ends with a reset", function()
    local upstream = peers.raw(BREAKING)
    local p = wire.proxy(upstream)
    local code = peers.curl("--http1.0", ("http://127.0.0.1:%d/chunked"):format(p.port), "-o", "/dev/null")
    assert.equal(56, code)
    cut_line(p, "/chunked")
    assert.equal(0, p:status().workers[1].client_aborts)
    p:finish()
  end)

  it("by a limit of time is the same", function()
    local upstream = peers.raw(BREAKING)
    for _, limit in ipairs { "response", "exchange" } do
      local p = wire.proxy(upstream, ("timeouts = { %s = '1500ms' },"):format(limit))
      local c = late_client(p.port, "/length-stall")
      cut_line(p, "/length-stall")
      local all, why = c:read_all(10)
      assert.same({ SIZE, "closed" }, { select(2, all:gsub("x", "")), why })
      c:close()
      p:finish()
    end
  end)

  it("by the program's end is the same, as far as it has left", function()
    local upstream = peers.raw(BREAKING)
    local p = wire.proxy(upstream, "timeouts = { drain = '1s' },")
    local c = http.connect(p.port, nil, { window = 1024 * 1024 })
    c:send "GET /length-stall HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return upstream.process:output():find("said", 1, true) end, 5, "the reply to have been sent")
    p:kill "sigterm"
    assert.equal(0, (p:wait(10)))
    local all, why = c:read_all(5)
    assert.same({ SIZE, "closed" }, { select(2, all:gsub("x", "")), why })
    cut_line(p, "/length-stall")
    c:close()
  end)

  it("before its head, by the program's end, is not the client's doing either", function()
    local upstream = peers.raw [[ c:read "head" c:read(1) c:close() ]]
    local p = wire.proxy(upstream, "timeouts = { drain = '300ms' },")
    local c = http.connect(p.port)
    c:send "GET /none HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return upstream.received():find("\r\n\r\n", 1, true) end, 5, "the request to arrive")
    p:kill "sigterm"
    assert.equal(0, (p:wait(10)))
    assert.matches('"GET /none' .. LOGGED .. '503 0 [^\n]* cut\n', p:output())
    c:close()
  end)

  it("because its client left says so in the log, with the bytes that the client has taken", function()
    local upstream = peers.raw(BREAKING)
    local p = wire.proxy(upstream, "on_log = function(entry) jeton.log.info(('%s cut %s aborted %s bytes %d'):format(entry.path, entry.cut, entry.aborted, entry.bytes_out)) end,")
    local c = late_client(p.port, "/length-stall")
    assert(c.sock:receive(10000))
    socket.sleep(0.2)
    c:close() -- with unread bytes: a reset
    local sent = process.poll(function() return p:output():match '"GET /length%-stall HTTP/1.1" 200 (%d+) .- aborted\n' end, 5, function() return p:output() end)
    assert.is_true(tonumber(sent) >= 10000 and tonumber(sent) < SIZE, sent)
    p:wait_log("/length-stall cut false aborted true bytes " .. sent)
    local w = p:status().workers[1]
    assert.same({ 1, 0 }, { w.client_aborts, w.replies_cut })
    p:finish()
  end)

  it("because its client takes nothing counts as the client's doing", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" while not c.ended do c:write(("x"):rep(300000)) end c:close() ]]
    local p = wire.proxy(upstream, "timeouts = { send = '400ms' },")
    local c = late_client(p.port, "/", 65535)
    local sent = process.poll(function() return p:output():match('"GET /' .. LOGGED .. '200 (%d+) .- aborted\n') end, 10, function() return p:output() end)
    assert.is_true(tonumber(sent) < 1000000, sent)
    c:close()
    p:finish()
  end)
end)
