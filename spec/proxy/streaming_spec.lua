--- Bodies on their way: bounded memory both ways, framings of every kind, replies that come early, addresses of every kind.
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"
local socket = require "socket"
local cjson = require "cjson"

local MIB = 1024 * 1024
local BIG = 200 * MIB
local GROWTH_KIB = 8 * 1024
local H2_CLIENT, H2_UPSTREAM = protocols.client == "h2", protocols.upstream == "h2"
local CLOSE = not H2_CLIENT and "close" or nil -- what Connection says
-- Of a stream that an upstream of HTTP/2 sends at full speed: its window has grown to 672 KiB by then, up to 96 KiB are queued for the client, the thread's buffer for reads (128 KiB), of which
-- splicing uses none, is touched as a whole; and the allocator has holes between buffers of these sizes that come and go (1,116 to 1,384 KiB in all).
local FULL_SPEED_KIB = H2_UPSTREAM and 1536 or 1024

--- A TCP server in this very process, so that a spec decides when it reads.
local function own_server()
  local server = assert(socket.bind("127.0.0.1", 0))
  local _, port = server:getsockname()
  server:settimeout(5)
  return server, math.tointeger(port)
end
local function read_head(sock)
  local head = {}
  repeat head[#head + 1] = assert(sock:receive "*l") until head[#head] == ""
  return table.concat(head, "\n")
end

describe("memory", function()
  it("stays bounded while a slow client reads 200 MB", function()
    local dir = process.temp_dir()
    assert(os.execute(("truncate -s %d %s/big"):format(BIG, dir)))
    local nginx = peers.nginx(("root %s; sendfile on;"):format(dir))
    local p = wire.release_proxy(nginx)
    http.get(p.port, "/none")
    local before = wire.rss_at_rest(p)
    local c = http.connect(p.port)
    c:send "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    local got, next_stop, most = 0, 0, 0
    assert.matches("^HTTP/1.1 200", c:head())
    while true do
      if got >= next_stop then -- no reading for a while: everything up to here fills up
        socket.sleep(0.15)
        most = math.max(most, wire.rss(p))
        next_stop = next_stop + 25 * MIB
      end
      local data, err = c:bite(H2_CLIENT and 32 * 1024 or 256 * 1024)
      got = got + #data
      if err then assert.equal("closed", err) break end
    end
    c:close()
    assert.equal(BIG, got)
    assert.is_true(most - before < GROWTH_KIB, ("%d KiB more"):format(most - before))
    p:finish()
  end)

  it("grows by less than 1 MiB for a body of 1 GB, read at 64 KB/s for 8 s, and then whole" .. (H2_UPSTREAM and " by less than 1.5" or ""), function()
    local dir = process.temp_dir()
    local size = 1024 * MIB
    assert(os.execute(("truncate -s %d %s/huge"):format(size, dir)))
    local nginx = peers.nginx(("root %s; sendfile on;"):format(dir))
    local p = wire.release_proxy(nginx)
    for _ = 1, 20 do http.get(p.port, "/none") end
    local before, most = wire.rss_at_rest(p), 0
    local c = http.connect(p.port)
    c:send "GET /huge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert.matches("^HTTP/1.1 200", c:head())
    local t0, got = socket.gettime(), 0
    while socket.gettime() - t0 < 8 do
      got = got + #c:bite(6553)
      most = math.max(most, wire.rss(p))
      socket.sleep(0.1)
    end
    assert.is_true(got > MIB // 5 and got < 2 * MIB, got)
    assert.is_true(most - before < 1024, ("%d KiB more at 64 KB/s"):format(most - before))
    local whole = H2_CLIENT and 128 * MIB or size -- the specs' client of HTTP/2 is slow: it shows no more of the rest
    local piece = H2_CLIENT and 32 * 1024 or MIB -- less than its window
    repeat
      local data, err = c:bite(piece)
      got = got + #data
      if got % (64 * MIB) < MIB then most = math.max(most, wire.rss(p)) end
    until err or whole < size and got > whole
    assert.is_true(got >= whole, got)
    assert.is_true(most - before < FULL_SPEED_KIB, ("%d KiB more"):format(most - before))
    c:close()
    p:finish()
  end)

  it("stays bounded while a slow upstream takes 200 MB, and every byte arrives", function()
    local server, port = own_server()
    local p = wire.release_proxy(port)
    local c = http.connect(p.port)
    local before = wire.rss_at_rest(p)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(BIG))
    local upstream = assert(server:accept())
    upstream:settimeout(5)
    read_head(upstream)
    local piece = ("x"):rep(MIB)
    local sent, got, most, stalls = 0, 0, 0, 0
    upstream:settimeout(0)
    while got < BIG do
      while sent < BIG do -- until nobody takes any more
        local n = math.min(MIB, BIG - sent)
        local went = c:offer(piece:sub(1, n))
        sent = sent + went
        if went < n and not select(2, socket.select(nil, { c.sock }, 0.03))[1] then break end
        if went == 0 and H2_CLIENT then break end -- it waits for a window
      end
      most = math.max(most, wire.rss(p))
      stalls = stalls + 1
      local target = math.min(BIG, got + 40 * MIB)
      while got < target do
        local data, err, part = upstream:receive(math.min(MIB, BIG - got))
        got = got + #(data or part)
        if err == "timeout" then
          if H2_CLIENT then sent = sent + c:offer "" end -- its windows open as it reads
          if not socket.select({ upstream }, { sent < BIG and c.sock or nil }, H2_CLIENT and 0.01 or 5)[1] then break end
        end
        assert(err ~= "closed")
      end
    end
    assert.equal(BIG, got)
    assert.is_true(stalls >= 4)
    assert.is_true(most - before < GROWTH_KIB, ("%d KiB more"):format(most - before))
    upstream:send "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert.equal(200, c:read_response("POST").status)
    c:close()
    upstream:close()
    server:close()
    p:finish()
  end)
end)

--- Bodies with a length that nobody in the program needs to see go from socket to socket within the kernel.
describe("a large body that only passes through", function()
  local SIZES = { 200 * 1024, 700001, 5 * MIB + 3 }
  local noise
  setup(function()
    local f = assert(io.open("/dev/urandom", "rb"))
    noise = f:read(SIZES[#SIZES])
    f:close()
  end)

  it("comes back as it went, on one connection, and short ones between", function()
    -- echoes what it is sent, in one write when all is there; in pieces for /slow
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        local n = tonumber(head:match "\nContent%-Length: (%d+)" or "0")
        local body = c:read(n)
        c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(n))
        if head:find("/slow", 1, true) then
          for at = 1, n, 100000 do c:write(body:sub(at, at + 99999)) c:sleep(3) end
        else
          c:write(body)
        end
      end]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port, 20)
    for _, path in ipairs { "/", "/slow" } do
      for _, size in ipairs(SIZES) do
        local res = c:request("PUT", path, nil, noise:sub(1, size), 20)
        assert.equal(200, res.status)
        assert.is_true(res.body == noise:sub(1, size), "the bytes differ")
        assert.equal("short", c:request("PUT", path, nil, "short").body)
      end
    end
    -- both at once, and a second request behind the body in the same write
    c:send(("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(#noise) .. noise .. "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nbehind")
    assert.is_true(c:read_response("PUT", 20).body == noise)
    assert.equal("behind", c:read_response("PUT").body)
    c:close()
    p:finish()
  end)

  it("reaches a client that takes it in bites with long rests", function()
    local dir = process.temp_dir()
    process.write_file(dir .. "/noise", noise)
    local p = wire.proxy(peers.nginx(("root %s;"):format(dir)))
    local c = http.connect(p.port, 20)
    c.sock:setoption("recv-buffer-size", 65536)
    c:send "GET /noise HTTP/1.1\r\nHost: a\r\n\r\n"
    c:head()
    local most = H2_CLIENT and 60000 or 300000 -- of its window
    local parts, got = {}, 0
    while got < #noise do
      local data = c:bite(math.min(most, #noise - got))
      parts[#parts + 1], got = data, got + #data
      socket.sleep(0.02)
    end
    assert.is_true(table.concat(parts) == noise, "the bytes differ")
    if H2_CLIENT then assert(c:read_response "GET") end
    assert.equal(404, c:request("GET", "/none").status)
    c:close()
    p:finish()
  end)

  it("that breaks off is cut short for the client, too", function()
    local upstream = peers.raw [[ c:read "head" c:write("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" .. ("x"):rep(1500000)) c:sleep(200) c:close() ]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local res = c:read_response("GET")
    assert.equal(200, res.status)
    assert.is_truthy(res.broken)
    assert.is_true(#res.body <= 1500000)
    c:close()
    p:finish()
  end)

  it("whose receiver leaves takes the other side with it, and nobody else", function()
    local upstream = peers.raw [[
      local head = c:read "head"
      if head:find "^GET" then
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
        while not c.ended do c:write(("x"):rep(300000)) end
        print "download over"
      elseif head:find "^PUT" then
        c:read(400000)
        c:reset()
        print "upload over"
      end ]]
    local live = peers.raw(wire.fine)
    local p = wire.proxy(upstream, ("upstreams = { live = 'http://127.0.0.1:%d' }, on_request = function(req) if req.path == '/live' then req.upstream = 'live' end end"):format(live.port))
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    c:head()
    for _ = 1, 40 do assert.equal(50000, #c:bite(50000)) end
    c:close()
    process.poll(function() return upstream.process:output():find "download over" end, 10, "the upstream to see the client leave")
    c = http.connect(p.port)
    c:send "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
    c.sock:settimeout(1)
    for _ = 1, 20 do if not c:send(noise:sub(1, 300000)) then break end end
    process.poll(function() return upstream.process:output():find "upload over" end, 10, "the upstream to break off")
    local res = c:read_response("PUT", 5)
    assert.is_true(res == nil or res.status == 502, res and res.status)
    c:close()
    assert.equal("fine", http.get(p.port, "/live").body)
    p:finish()
  end)

  it("still counts for the limit of bodies, the log and the counters", function()
    local upstream = peers.raw [[
      local head = c:read "head"
      local n = tonumber(head:match "\nContent%-Length: (%d+)")
      c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(n) .. c:read(n)) ]]
    local p = wire.proxy(upstream, "log = { access = true }, limits = { body = '4m' }")
    assert.equal(413, http.request(p.port, "PUT", "/", nil, noise).status)
    local res = http.request(p.port, "PUT", "/", nil, noise:sub(1, 3 * MIB))
    assert.is_true(res.body == noise:sub(1, 3 * MIB))
    local head = H2_CLIENT and 0 or #res.raw_head
    for _, field in ipairs(H2_CLIENT and res.fields or {}) do head = head + #field[1] + #field[2] end
    local logged = ('"PUT / HTTP/%s" 200 %d '):format(protocols.in_log, head + 3 * MIB)
    process.poll(function() return p:output():find(logged, 1, true) end, 5, function() return p:output() end)
    p:finish()
  end)
end)

describe("a body", function()
  local upstream, proxy
  setup(function()
    upstream = peers.world()
    proxy = wire.proxy(upstream.upstream_url)
  end)
  local function echoed(res) return cjson.decode(res.body) end

  it("of a pipelined request ends where it should: 60 with bodies of both framings, in one write", function()
    local c = http.connect(proxy.port)
    local all = {}
    for i = 1, 30 do
      local body = ("%d,"):format(i):rep(i * 40)
      all[#all + 1] = ("POST /open?l%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"):format(i, #body, body)
      all[#all + 1] = ("POST /open?c%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n2\r\nzz\r\n0\r\n\r\n"):format(i, #body, body)
    end
    c:send(table.concat(all))
    for i = 1, 30 do
      local body = ("%d,"):format(i):rep(i * 40)
      local first, second = echoed(c:read_response "POST"), echoed(c:read_response "POST")
      assert.same({ "/open?l" .. i, body }, { first.url, first.body })
      assert.same({ "/open?c" .. i, body .. "zz" }, { second.url, second.body })
    end
    c:close()
  end)
  it("goes in the client's framing, on a new connection as on one that was kept", function()
    local reader = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        local chunked = head:find "chunked"
        local body = c:read(chunked and #"5\r\nhello\r\n0\r\n\r\n" or 5)
        local said = (chunked and "chunks" or "length " .. head:match "Length: (%d+)") .. " " .. body:match "hello" .. " on " .. c.number
        c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#said, said))
      end]]
    local p = wire.proxy(reader, "on_request = function(req) if req.path == '/gathered' then req:body() elseif req.path == '/replaced' then req:set_body 'hello' end end,")
    local function post(path)
      local c = http.connect(p.port)
      c:send("POST " .. path .. " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
      local res = c:read_response "POST"
      c:close()
      return res.body
    end
    assert.same({ "chunks hello on 1", "chunks hello on 1" }, { post "/", post "/" })
    assert.same({ "length 5 hello on 1", "length 5 hello on 1" }, { post "/gathered", post "/replaced" })
    assert.equal("length 5 hello on 1", http.request(p.port, "POST", "/", nil, "hello").body)
    p:finish()
    reader.process:stop()
  end)
  it("that is empty goes in any framing", function()
    local c = http.connect(proxy.port)
    assert.equal("", echoed(c:request("POST", "/open", { ["Content-Length"] = "0" })).body)
    c:send "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert.equal("", echoed(c:read_response "POST").body)
    assert.equal("", echoed(c:request("DELETE", "/open")).body)
    c:close()
  end)
  it("reaches an upstream that reads lines with each chunk's CRLF behind it, before the next chunk has come", function()
    local reader = peers.raw [[
      local head = c:read "head"
      for _ = 1, 2 do
        local size, data = c:read "line", c:read "line"
        c:write(("HTTP/1.1 103 Early Hints\r\nLink: %s%s\r\n\r\n"):format(size:match "%x+", data:match "%w+"))
      end
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]]
    local p = wire.proxy(reader)
    local c = http.connect(p.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    local seen = ""
    for _, chunk in ipairs { "hello", "bye" } do
      c:send(("%x\r\n%s\r\n"):format(#chunk, chunk))
      process.poll(function()
        seen = seen .. c:read_all(0.01)
        return seen:find(#chunk .. chunk, 1, true)
      end, 5, "the upstream to take " .. chunk)
    end
    c:close()
    p:finish()
  end)
  it("over the policy's limit is a 413, by its length before it is sent and by its bytes when it is chunked", function()
    local p = wire.proxy(upstream.upstream_url, "limits = { body = 1000 },")
    assert.equal(413, http.request(p.port, "POST", "/open", nil, ("x"):rep(1001)).status)
    assert.equal(200, http.request(p.port, "POST", "/open", nil, ("x"):rep(1000)).status)
    local c = http.connect(p.port)
    c:send "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    c:send("3e9\r\n" .. ("x"):rep(1001) .. "\r\n0\r\n\r\n")
    assert.equal(413, c:read_response("POST").status)
    c:close()
    p:finish()
  end)
  it("that the client waits to send is asked for when the upstream is there, and not when it is not", function()
    local port = peers.free_port()
    local p = wire.proxy(port)
    local c = http.connect(p.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert.equal(502, c:read_response("POST").status) -- no 100 before it
    c:close()
    p:finish()
  end)
  it("that the client waits to send is asked for when the upstream asks, which may also refuse it unseen", function()
    local picky = peers.raw [[
      local head = c:read "head"
      if head:find "^POST /refused" then c:write "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nbig\n" c:read(1) return c:close() end
      if head:find "^POST /asked" then c:write "HTTP/1.1 100 Continue\r\n\r\n" end -- /unknown: an upstream that knows no Expect waits for the body
      c:write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n" .. c:read(3)) c:close()]]
    local p = wire.proxy(picky)
    local function post(path)
      local c = http.connect(p.port)
      c:send(("POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"):format(path))
      return c, c:read_response "POST"
    end
    for _, path in ipairs { "/asked", "/unknown" } do
      local c, first = post(path)
      assert.equal(100, first.status)
      c:send "abc"
      local last = c:read_response "POST"
      assert.same({ 200, "abc" }, { last.status, last.body })
      c:close()
    end
    local c, refusal = post "/refused"
    assert.same({ 413, CLOSE }, { refusal.status, refusal.headers.connection })
    c:close()
    assert.equal(3, select(2, picky.received():gsub("\r\nExpect: 100%-continue\r\n", "")))
    p:finish()
  end)
  it("that curl waits to send arrives soon", function()
    local path = process.write_file(process.temp_dir() .. "/body", ("x"):rep(2 * MIB))
    local code, out = peers.curl("-H", "Expect: 100-continue", "--expect100-timeout", "10", "--data-binary", "@" .. path,
      ("http://127.0.0.1:%d/open"):format(proxy.port), "-o", "/dev/null", "-w", "%{http_code} %{time_total}")
    assert.equal(0, code)
    assert.matches("^200 ", out)
    assert.is_true(tonumber(out:match " (%S+)$") < 5, out)
  end)
  it("leaves the proxy well", function() proxy:finish() end)
end)

describe("a reply", function()
  it("keeps its chunks' data and its trailers", function()
    local upstream = peers.raw [[
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;x=y\r\nhello\r\n"
      c:sleep(20)
      c:write "6\r\n world\r\n0\r\nX-Sum: abc\r\nContent-Type: evil\r\n\r\n"]]
    local p = wire.proxy(upstream)
    local res = http.get(p.port)
    assert.equal("hello world", res.body)
    assert.same({ ["x-sum"] = "abc" }, res.trailers)
    p:finish()
  end)
  it("keeps its trailers when a hook has waited for its body, but not when the body is another one", function()
    local upstream = peers.raw [[
      while c:read "head" do c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n" end]]
    local p = wire.proxy(upstream, "on_response = function(res, req) if res:body() and req.path == '/other' then res:set_body 'other' end end")
    local c = http.connect(p.port)
    local kept, other = c:request("GET", "/"), c:request("GET", "/other")
    assert.same({ "hello", { ["x-sum"] = "abc" } }, { kept.body, kept.trailers })
    assert.same({ "other", "5" }, { other.body, other.headers["content-length"] })
    c:close()
    if not H2_CLIENT then
      local all = http.raw(p.port, "GET / HTTP/1.0\r\n\r\n", 5)
      assert.matches("\r\nContent%-Length: 5\r\n.-\r\n\r\nhello$", all)
    end
    p:finish()
  end)
  it("in chunks becomes one that ends with the connection for HTTP/1.0", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n" ]]
    local p = wire.proxy(upstream)
    local all, why = http.raw(p.port, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 5)
    assert.equal("closed", why)
    assert.matches("\r\n\r\nhello$", all)
    assert.is_nil(all:lower():find("transfer-encoding", 1, true))
    assert.is_nil(all:lower():find("keep-alive", 1, true))
    p:finish()
  end)
  it("of an HTTP/1.0 upstream is relayed, and its connection is not used again", function()
    local upstream = peers.raw [[ c:read "head" c:write("HTTP/1.0 200 OK\r\n\r\n" .. c.number) c:close() ]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    assert.equal("1", c:request("GET", "/").body)
    assert.equal("2", c:request("GET", "/").body)
    c:close()
    p:finish()
  end)
  it("arrives as it comes: each piece before the next one is written", function()
    local upstream = peers.raw [[
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"
      local path = os.tmpname()
      print(path)
      for i = 1, 3 do
        c:write(("8\r\nevent %d\n\r\n"):format(i))
        repeat c:sleep(5) local f = io.open(path) local n = f:read "n" f:close() until n == i
      end
      os.remove(path)
      c:write "0\r\n\r\n"]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local seen = ""
    for i = 1, 3 do
      process.poll(function()
        seen = seen .. c:read_all(0.01)
        return seen:find("event " .. i, 1, true)
      end, 5, "event " .. i)
      process.write_file(upstream.process:output():match "\n(.-)\n", tostring(i))
    end
    if H2_CLIENT then
      process.poll(function() c:read_all(0.01) return c.exchanges[1].finished end, 5, "the end")
    else
      process.poll(function() seen = seen .. c:read_all(0.01) return seen:find("0\r\n\r\n", 1, true) end, 5, "the end")
    end
    c:close()
    p:finish()
  end)
  it("arrives with each chunk's CRLF behind it, before the next chunk has come: alone, and many in one read", function()
    local upstream = peers.raw [[
      local many = c:read "head":find "/many"
      c:write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" .. (many and ("2\r\nzz\r\n"):rep(20) or "5\r\nhello\r\n"))
      c:read "head"]] -- nothing more
    local p = wire.proxy(upstream)
    for path, text in pairs { ["/one"] = "5\r\nhello\r\n", ["/many"] = ("2\r\nzz\r\n"):rep(20) } do
      local c = http.connect(p.port)
      c:send("GET " .. path .. " HTTP/1.1\r\nHost: a\r\n\r\n")
      local seen = ""
      process.poll(function()
        seen = seen .. c:read_all(0.01)
        return seen:sub(-#text - 4) == "\r\n\r\n" .. text
      end, 5, path)
      c:close()
    end
    p:finish()
  end)
  it("that comes while the body is still sent reaches the client, and the connection closes", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nbig\n" ]]
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(10 * MIB))
    local piece = ("x"):rep(64 * 1024)
    local res
    for _ = 1, 10 do if not c:send(piece) then break end end
    res = c:read_response "POST"
    assert.same({ 413, "big\n", CLOSE }, { res.status, res.body, res.headers.connection })
    if not H2_CLIENT then assert.equal("closed", select(2, c:read_all(5))) end
    c:close()
    p:finish()
  end)
  it("that comes early reaches a client that sends all of its body before it reads", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nbig\n" ]]
    local p = wire.proxy(upstream)
    for _, framing in ipairs { ("Content-Length: %d"):format(24 * MIB), "Transfer-Encoding: chunked" } do
      local c = http.connect(p.port)
      c:send(("POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n"):format(framing))
      local piece = framing:find "chunked" and ("100000\r\n%s\r\n"):format(("x"):rep(MIB)) or ("x"):rep(MIB)
      for i = 1, 24 do assert(c:send(piece), ("refused in the %d. MiB"):format(i)) end
      local res = c:read_response "POST"
      assert.same({ 413, "big\n", CLOSE }, { res.status, res.body, res.headers.connection })
      c:close()
    end
    p:finish()
  end)
  it("of any size that is made here reaches such a client, too", function()
    local p = wire.proxy(1, "limits = { script_body = '16m', script_time = '10s' }, on_request = function(req) req:respond(413, {}, ('big '):rep(2 * 1024 * 1024)) end")
    local c = http.connect(p.port)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(24 * MIB))
    local piece = ("x"):rep(MIB)
    for i = 1, 24 do assert(c:send(piece), ("refused in the %d. MiB"):format(i)) end
    local res = c:read_response "POST"
    assert.same({ 413, 8 * MIB, CLOSE }, { res.status, #res.body, res.headers.connection })
    c:close()
    p:finish()
  end)
  it("that comes early from an upstream that closes at once reaches the client, too", function()
    local upstream = peers.raw [[ c:read "head" c:write "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig\n" c:close() ]]
    local p = wire.proxy(upstream)
    for _ = 1, 5 do
      local c = http.connect(p.port)
      c:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(MIB))
      for _ = 1, 16 do if not c:send(("x"):rep(64 * 1024)) then break end end
      local res = assert(c:read_response "POST")
      assert.is_true(res.status == 413 or res.status == 502, res.status) -- 502: its RST overtook the reply
      c:close()
    end
    p:finish()
  end)
end)

describe("a connection", function()
  local nginx, proxy
  setup(function()
    nginx = peers.nginx [[ location / { return 200 "fine\n"; } location /304 { return 304; } location /204 { return 204; } ]]
    proxy = wire.proxy(nginx)
  end)
  it("closes behind the reply when the client asks for that", function()
    local c = http.connect(proxy.port)
    local res = c:request("GET", "/", { Connection = "close" })
    assert.same({ "fine\n", CLOSE }, { res.body, res.headers.connection })
    assert.equal("closed", select(2, c:read_all(5)))
    c:close()
  end)
  it("serves no request behind one that asked for the end", function()
    local all, why = http.raw(proxy.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 5)
    assert.equal("closed", why)
    assert.equal(1, select(2, all:gsub("HTTP/1.1 200", "")))
  end)
  it("stays open for HTTP/1.0 that asks for it", function()
    local c = http.connect(proxy.port)
    for _ = 1, 3 do
      c:send "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
      local res = c:read_response "GET"
      assert.same({ "fine\n", "keep-alive" }, { res.body, res.headers.connection })
    end
    c:close()
  end)
  it("goes on behind HEAD, 204 and 304, pipelined", function()
    local c = http.connect(proxy.port)
    c:send(("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\nGET /304 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"):rep(5))
    for _ = 1, 5 do
      assert.equal("5", c:read_response("HEAD").headers["content-length"])
      assert.equal(204, c:read_response("GET").status)
      assert.equal(304, c:read_response("GET").status)
      assert.equal("fine\n", c:read_response("GET").body)
    end
    c:close()
  end)
  it("answers all that was pipelined before a FIN when its listener lets clients half-close, then closes", function()
    local p = wire.proxy(nginx, "half_close = true,")
    local c = http.connect(p.port)
    c:send(("GET / HTTP/1.1\r\nHost: a\r\n\r\n"):rep(100))
    c:finish()
    local all, why = c:read_all(5)
    assert.equal("closed", why)
    assert.equal(100, select(2, all:gsub("fine\n", "")))
    c:close()
    p:finish()
  end)
  it("leaves the proxy well", function() proxy:finish() end)
end)

describe("an address", function()
  it("may be a Unix socket on both sides", function()
    local dir = process.temp_dir()
    local nginx = peers.nginx(('listen unix:%s/up.sock; location / { return 200 "$request_uri $http_host\\n"; }'):format(dir))
    local p = wire.proxy(("unix:%s/up.sock:/base"):format(dir), ("listen = { '127.0.0.1:0', 'unix:%s/in.sock' },"):format(dir))
    assert.equal("/base/x localhost\n", http.get("unix:" .. dir .. "/in.sock", "/x").body)
    assert.equal("/base/x localhost\n", http.get(p.port, "/x").body)
    local c = http.connect("unix:" .. dir .. "/in.sock")
    for _ = 1, 20 do assert.equal(200, c:request("GET", "/").status) end
    c:close()
    p:finish()
    assert.is_nil(io.open(dir .. "/in.sock")) -- it goes with the process
    nginx.process:stop()
  end)
  it("of a Unix socket that nobody listens on is a 502", function()
    local p = wire.proxy "unix:/nonexistent/up.sock"
    assert.equal(502, http.get(p.port).status)
    p:finish()
  end)
  it("may be IPv6, and there may be several", function()
    local v6 = socket.tcp6()
    if not v6:bind("::1", 0) then return pending "no IPv6 here" end
    v6:listen()
    local _, port = v6:getsockname()
    v6:close()
    local nginx = peers.nginx(('listen [::1]:%d; location / { return 200 "$http_host $http_x_forwarded_for\\n"; }'):format(port))
    local p = wire.proxy(("http://[::1]:%d"):format(port), "forwarded = 'set', listen = { '127.0.0.1:0', '[::1]:0', '127.0.0.2:0' },")
    for n = 1, 3 do
      local address = select(2, p:port_of(n))
      local target = address:match "^http://(.*)$" or address
      local res = http.get(target, "/")
      assert.equal(("[::1]:%d %s\n"):format(port, address:find("[::1]", 1, true) and "::1" or "127.0.0.1"), res.body)
    end
    p:finish()
    nginx.process:stop()
  end)
end)
