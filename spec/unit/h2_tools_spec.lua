--- The specs' own HTTP/2, held against peers that nobody here wrote: curl, nghttpx, and the examples of RFC 7541.
local protocols = require "spec.support.protocols"
local hpack = require "spec.support.hpack"
local h2 = require "spec.support.h2"
local http = require "spec.support.http"
local h2_client = require "spec.support.h2_client"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"

local function bytes(hex) return (hex:gsub("%s", ""):gsub("%x%x", function(x) return string.char(tonumber(x, 16)) end)) end
local function text(fields)
  local lines = {}
  for _, field in ipairs(fields) do lines[#lines + 1] = field[1] .. ": " .. field[2] end
  return table.concat(lines, "\n")
end

describe("field blocks", function()
  it("are read as RFC 7541 has them in its examples, with Huffman codes and a table that evicts (C.6)", function()
    local decoder = hpack.decoder(256)
    local date, location = "date: Mon, 21 Oct 2013 20:13:%d GMT", "location: https://www.example.com"
    assert.equal(":status: 302\ncache-control: private\n" .. date:format(21) .. "\n" .. location,
      text(decoder:decode(bytes "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3")))
    assert.equal(":status: 307\ncache-control: private\n" .. date:format(21) .. "\n" .. location, text(decoder:decode(bytes "4883640effc1c0bf")))
    assert.equal(":status: 200\ncache-control: private\n" .. date:format(22) .. "\n" .. location
      .. "\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
      text(decoder:decode(bytes [[88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007]])))
    assert.equal(215, decoder.size)
  end)
  it("come back as they were written", function()
    local fields = { { ":method", "GET" }, { "a", ("x"):rep(5000), "index" }, { "authorization", "secret", "never" }, { "empty", "" } }
    local got = hpack.decoder():decode(hpack.encode(fields))
    assert.equal(text(fields), text(got))
    assert.same({ "plain", "index", "never", "plain" }, { got[1][3], got[2][3], got[3][3], got[4][3] })
  end)
end)

describe("what no peer may send", function()
  local function fault(side, frames)
    local peer = h2.new(side, function() end)
    if side == "client" then peer:headers(nil, { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" } }, true) end
    local ok, why = pcall(peer.feed, peer, (side == "server" and h2.PREFACE or "") .. h2.frame(4, 0, 0, "") .. frames)
    return not ok and why
  end
  local function head(fields, flags) return h2.frame(1, flags or 4, 1, hpack.encode(fields)) end
  local ok = head { { ":status", "200" } }
  for what, case in pairs {
    ["DATA before a head"] = { "client", h2.frame(0, 0, 1, "x") },
    ["a window that is passed"] = { "client", ok .. h2.frame(0, 0, 1, ("x"):rep(16384)):rep(5) },
    ["a length that does not hold"] = { "client", head { { ":status", "200" }, { "content-length", "5" } } .. h2.frame(0, 1, 1, "four") },
    ["a body for 304"] = { "client", head { { ":status", "304" } } .. h2.frame(0, 1, 1, "four") },
    ["DATA behind the end"] = { "client", head({ { ":status", "200" } }, 5) .. h2.frame(0, 1, 1, "") },
    ["a field of the connection"] = { "client", head { { ":status", "200" }, { "connection", "close" } } },
    ["a name in upper case"] = { "client", head { { ":status", "200" }, { "Server", "x" } } },
    ["END_STREAM with 103"] = { "client", head({ { ":status", "103" } }, 5) },
    ["101"] = { "client", head { { ":status", "101" } } },
    ["a stream that nobody opened"] = { "client", h2.frame(1, 4, 3, "\x88") },
    ["PUSH_PROMISE"] = { "client", h2.frame(5, 4, 1, "\0\0\0\2\x88") },
    ["a window update of nothing"] = { "client", h2.frame(8, 0, 0, "\0\0\0\0") },
    ["a frame within a field block"] = { "client", h2.frame(1, 0, 1, "\x88") .. h2.frame(6, 0, 0, ("x"):rep(8)) },
    ["no :path"] = { "server", head { { ":method", "GET" }, { ":scheme", "http" } } },
    ["a pseudo-field behind a field"] = { "server", head { { ":method", "GET" }, { ":scheme", "http" }, { "a", "b" }, { ":path", "/" } } },
    ["te: gzip"] = { "server", head { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { "te", "gzip" } } },
  } do
    it("is found: " .. what, function() assert.is_truthy(fault(case[1], case[2])) end)
  end
end)

describe("client and upstream, by nghttpx,", function()
  local upstream, front, port
  local SCRIPT = [[
    while true do
      local head = c:read "head"
      if not head then return c:close() end
      if head:find("/cut", 1, true) then c:write "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" c:sleep(50) return c:close() end
      if head:find("/reset", 1, true) then c:write "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" c:sleep(50) return c:reset_stream(2) end
      if head:find("/refuse", 1, true) then return c:reset_stream(7) end
      local body, trailers = "", ""
      if head:find "chunked" then
        while true do
          local size = tonumber(c:read "line", 16)
          if size == 0 then
            local line
            repeat line = c:read "line" trailers = trailers .. line until line == "\r\n"
            break
          end
          body = body .. c:read(size + 2):sub(1, -3)
        end
      else
        body = c:read(tonumber(head:match "Content%-Length: (%d+)") or 0)
      end
      if head:find "^GET /later" then c:sleep(30) end
      c:write "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
      local text = head:match "^[^\r]*" .. "|" .. trailers:match "^[^\r]*" .. "|" .. body
      if head:find "^HEAD" then text = text .. "none" c:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #text .. "\r\n\r\n")
      else c:write(("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-End: yes\r\n\r\n"):format(#text, text)) end
    end]]
  setup(function()
    protocols.upstream, protocols.client = "h2", "h2"
    upstream = peers.raw(SCRIPT)
    port = peers.free_port()
    front = process.start { "nghttpx", ("-f127.0.0.1,%d;no-tls"):format(port), ("-b127.0.0.1,%d;;proto=h2"):format(upstream.port), "--conf=/dev/null", "--no-via", "--no-add-x-forwarded-proto" }
    process.poll(function()
      local c = socket.connect("127.0.0.1", port)
      if c then c:close() end
      return c
    end, 5, "nghttpx")
    protocols.ports[port] = true
  end)
  teardown(function()
    front:stop()
    upstream.process:stop()
    protocols.upstream, protocols.client = "h1", "h1"
  end)
  local function final(c)
    local res
    repeat res = assert(c:read_response()) until res.status >= 200
    return res
  end

  it("carry heads, hints, bodies of both framings and trailers", function()
    local c = http.connect(port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    local res = c:read_response()
    assert.same({ 103, "</a>" }, { res.status, res.headers.link })
    res = c:read_response()
    assert.same({ 200, "POST /a HTTP/1.1||hello", { ["x-end"] = "yes" } }, { res.status, res.body, res.trailers })
    c:send "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    c:send "6\r\n world\r\n0\r\nX-T: 1\r\n\r\n"
    assert.equal("POST /b HTTP/1.1|X-T: 1|hello world", final(c).body)
    c:send "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n"
    assert.equal("", final(c).body)
    c:close()
  end)
  it("have many requests under way, on one connection", function()
    local c = http.connect(port)
    for i = 1, 60 do c:send(("GET /later%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i)) end
    for i = 1, 60 do assert.equal(("GET /later%d HTTP/1.1||"):format(i), final(c).body) end
    c:close()
  end)
  it("carry bodies larger than every window", function()
    local body = ("0123456789abcdef"):rep(128 * 1024)
    local c = http.connect(port, 20)
    c:send(("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(#body) .. body)
    assert.is_true(final(c).body == "PUT / HTTP/1.1||" .. body)
    c:close()
  end)
  it("show a reply that is cut, reset or refused as what it is", function()
    local c = http.connect(port)
    for _, path in ipairs { "/cut", "/reset" } do
      local res = c:request("GET", path)
      assert.same({ 200, "half", "closed" }, { res.status, res.body, res.broken })
    end
    assert.same({ nil, "closed" }, { c:request("POST", "/refuse", nil, "") })
    assert.equal(h2.ERRORS.REFUSED_STREAM, c.exchanges[3].reset)
    c:close()
  end)
  it("speak with curl, and the client says what HTTP/1.1 would have said", function()
    local code, out = peers.curl("--http2-prior-knowledge", ("http://127.0.0.1:%d/curl"):format(upstream.port), "-d", "data")
    assert.same({ 0, "POST /curl HTTP/1.1||data" }, { code, out })
    code = peers.curl("--http2-prior-knowledge", ("http://127.0.0.1:%d/cut"):format(upstream.port))
    assert.is_true(code == 18 or code == 92 or code == 56, code)
    local all, why = http.raw(port, "GET /raw HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 5)
    assert.matches("^HTTP/1.1 103 .*\r\n\r\nHTTP/1.1 200 .*\r\n\r\nGET /raw HTTP/1.1||$", all)
    assert.equal("closed", why)
  end)
  it("hold up who sends while nothing is taken, and nobody else", function()
    local c = h2_client.connect(port, 10, { hold = true, window = 100000 })
    local big = c:open({ { ":method", "POST" }, { ":scheme", "http" }, { ":path", "/big" }, { ":authority", "a" } }, false)
    c:data(big, ("x"):rep(500000), true)
    c:await(function() return big.received >= 100000 end)
    local small = c:open({ { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/small" }, { ":authority", "a" } }, true)
    assert.is_true(c:await(function() return small.finished end))
    assert.equal(100000, big.received)
    c:await(function() c:take(big) return big.finished end)
    assert.equal(#"POST /big HTTP/1.1||" + 500000, big.received)
    c:close()
  end)
  it("found no fault with it", function() assert.is_nil(upstream.process:output():match "FAULT[^\n]*") end)
end)
