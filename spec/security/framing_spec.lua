--- Where a request ends: whatever two parsers could read differently is refused, and no upstream sees a byte of it.
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
local function post(fields, body) return "POST /refused HTTP/1.1\r\nHost: a\r\n" .. fields .. "\r\n" .. (body or "") end
local function chunked(body) return post("Transfer-Encoding: chunked\r\n", body) end

wire.refusals("a request with a doubtful length", {
  { "Content-Length with Transfer-Encoding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" .. smuggled), "400" },
  { "Transfer-Encoding with Content-Length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n" .. smuggled), "400" },
  { "two different Content-Lengths", post("Content-Length: 0\r\nContent-Length: 5\r\n", "hello" .. smuggled), "400" },
  { "Content-Length: 0, 5", post("Content-Length: 0, 5\r\n", "hello" .. smuggled), "400" },
  { "Content-Length: +1", post("Content-Length: +1\r\n", "x"), "400" },
  { "Content-Length: -1", post("Content-Length: -1\r\n", "x"), "400" },
  { "Content-Length: 0x1", post("Content-Length: 0x1\r\n", "x"), "400" },
  { "Content-Length: 1 1", post("Content-Length: 1 1\r\n", "x"), "400" },
  { "Content-Length: 1.0", post("Content-Length: 1.0\r\n", "x"), "400" },
  { "a Content-Length of 2^64", post("Content-Length: 18446744073709551616\r\n", "x"), "400" },
  { "a Content-Length of 2^64 + 1 after leading zeros", post("Content-Length: 00018446744073709551617\r\n", "x"), "400" },
  { "an empty Content-Length", post("Content-Length:\r\n", smuggled), "400" },
  { "a Content-Length of white space", post("Content-Length: \t \r\n", smuggled), "400" },
  { "a list that ends in nothing", post("Content-Length: 5,\r\n", "hello"), "400" },
  { "Content_Length, which some read as the field", post("Content_Length: 5\r\n", "hello"), "400" },
})

wire.refusals("a request with a doubtful Transfer-Encoding", {
  { "chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n") },
  { "xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n") },
  { "chunked twice in one field", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), "400" },
  { "chunked in two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400" },
  { "chunked, then identity in another field", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), "400" },
  { "identity alone", post("Transfer-Encoding: identity\r\n", smuggled) },
  { "an empty one", post("Transfer-Encoding:\r\n", smuggled), "400" },
  { "an empty member", post("Transfer-Encoding: , chunked\r\n", "0\r\n\r\n"), "400" },
  { "gzip, chunked is not done here", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501" },
  { "quoted", post('Transfer-Encoding: "chunked"\r\n', "0\r\n\r\n") },
  { "with a parameter", post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n") },
  { "with a vertical tab before its name", post("Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n"), "400" },
  { "on HTTP/1.0", "POST /refused HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400" },
  { "with a space before its colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), "400" },
  { "with a tab before its colon", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"), "400" },
  { "as Transfer_Encoding, which some read as the field", post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n" .. smuggled), "400" },
})

local folded = post "X-A: one\r\n two\r\nContent-Length: 0\r\n"
local fold_at = folded:find("\r\n two", 1, true)
wire.refusals("a head with an ambiguous byte", {
  { "a folded line", folded, "400" },
  { "a line folded with a tab", post "X-A: one\r\n\ttwo\r\n", "400" },
  { "a fold of white space only", post "X-A: one\r\n \r\n", "400" },
  { "a fold cut before its CRLF", { folded:sub(1, fold_at - 1), folded:sub(fold_at) }, "400" },
  { "a fold cut between CR and LF", { folded:sub(1, fold_at), folded:sub(fold_at + 1) }, "400" },
  { "a fold cut behind its CRLF", { folded:sub(1, fold_at + 1), folded:sub(fold_at + 2) }, "400" },
  { "a folded Transfer-Encoding", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), "400" },
  { "a bare CR in a value", post "X-A: one\rX-B: two\r\n", "400" },
  { "a bare CR as every separator", "GET /refused HTTP/1.1\rHost: a\r\rx\r\n\r\n", "400" },
  { "a CR and another byte at the end of the head", "GET /refused HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n", "400" },
  { "a CR before CRLF", "GET /refused HTTP/1.1\r\nHost: a\r\r\n\r\n", "400" },
  { "a bare LF behind the request line", "GET /refused HTTP/1.1\nHost: a\r\n\r\n", "400" },
  { "a bare LF behind a field", "GET /refused HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", "400" },
  { "a bare LF as the last line", "GET /refused HTTP/1.1\r\nHost: a\r\n\n", "400" },
  { "bare LFs everywhere", "GET /refused HTTP/1.1\nHost: a\n\n", "400" },
  { "a bare LF before the request line", "\nGET /refused HTTP/1.1\r\nHost: a\r\n\r\n", "400" },
  { "a NUL in a value", post "X-A: o\0ne\r\n", "400" },
  { "a NUL in a name", post "X\0A: one\r\n", "400" },
  { "a NUL in the target", "GET /ref\0used HTTP/1.1\r\nHost: a\r\n\r\n", "400" },
  { "a control byte in a value", post "X-A: o\1ne\r\n", "400" },
  { "a DEL in a value", post "X-A: o\127ne\r\n", "400" },
  { "an empty name", post ": one\r\n", "400" },
  { "a name with a space", post "X A: one\r\n", "400" },
  { "a name with an 8-bit byte", post "X-\xe9: one\r\n", "400" },
  { "a name with a bracket", post "X[A]: one\r\n", "400" },
  { "a line without a colon", post "X-A\r\n", "400" },
  { "white space before the first field", "GET /refused HTTP/1.1\r\n Host: a\r\n\r\n", "400" },
  { "white space before the first field, which hides another Host", "GET /refused HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", "400" },
  { "white space before the request line", " GET /refused HTTP/1.1\r\nHost: a\r\n\r\n", "400" },
})

wire.refusals("a chunked body on a fresh upstream connection", {
  { "the size 0x5", chunked "0x5\r\nhello\r\n0\r\n\r\n", "400" },
  { "a space behind the size", chunked "5 \r\nhello\r\n0\r\n\r\n", "400" },
  { "a space before the size", chunked " 5\r\nhello\r\n0\r\n\r\n", "400" },
  { "the size 1_0", chunked "1_0\r\nhellohellohelloh\r\n0\r\n\r\n", "400" },
  { "the size +5", chunked "+5\r\nhello\r\n0\r\n\r\n", "400" },
  { "an empty size", chunked "\r\nhello\r\n0\r\n\r\n", "400" },
  { "a size of 2^64", chunked "10000000000000000\r\nhello\r\n0\r\n\r\n", "400" },
  { "a size of 2^64 + 5", chunked "10000000000000005\r\nhello\r\n0\r\n\r\n", "400" },
  { "a bare LF behind the size", chunked "5\nhello\r\n0\r\n\r\n", "400" },
  { "a bare LF in an extension", chunked "5;a\nhello\r\n0\r\n\r\n", "400" },
  { "a bare CR in an extension", chunked "5;a\rb\r\nhello\r\n0\r\n\r\n", "400" },
  { "no CRLF behind the data", chunked "5\r\nhello0\r\n\r\n", "400" },
  { "a bare LF behind the data", chunked "5\r\nhello\n0\r\n\r\n", "400" },
  { "a bare LF behind the last chunk", chunked "5\r\nhello\r\n0\n\n", "400" },
  { "data longer than said", chunked "5\r\nhello!\r\n0\r\n\r\n", "400" },
  { "a Content-Length in the trailers", chunked "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n", "400" },
  { "a Transfer-Encoding in the trailers", chunked "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "400" },
  { "a folded trailer", chunked "5\r\nhello\r\n0\r\nX-A: a\r\n b\r\n\r\n", "400" },
})

describe("a body that breaks after its head has gone upstream", function()
  it("is never completed towards the upstream, whose connection closes", function()
    local upstream = peers.raw [[ c:read "head" c:read(1000000) print "the request broke off" c:close() ]]
    local p = wire.proxy(upstream)
    for i, bad in ipairs { "0x5\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhello!\r\n0\r\n\r\n" } do
      local c = http.connect(p.port)
      c:send(chunked "3\r\none\r\n")
      process.poll(function() return select(2, upstream.received():gsub("one", "")) == i end, 5, "the first chunk to arrive")
      c:send(bad .. smuggled)
      assert.equal(400, c:read_response("POST").status)
      assert.equal("closed", select(2, c:read_all(5)))
      c:close()
      process.poll(function() return select(2, upstream.process:output():gsub("broke off", "")) == i end, 5, "the upstream connection to close")
    end
    assert.is_nil(upstream.received():find("0\r\n\r\n", 1, true))
    assert.is_nil(upstream.received():find("smuggled", 1, true))
    p:finish()
  end)
end)

describe("a flood of chunk overhead", function()
  local gate
  setup(function() gate = wire.gate() end)

  it("of 1 MB of extension is refused", function()
    gate:refuses(chunked("5;" .. ("a"):rep(1024 * 1024)), "4%d%d")
  end)
  it("of 1 MB of size digits is refused", function()
    gate:refuses(chunked(("0"):rep(1024 * 1024)), "4%d%d")
  end)
  it("costs the others nothing", function() gate:ends() end)
  it("of 1 MB of trailers is refused, and the request is never completed", function()
    local upstream = peers.raw [[ c:read "head" c:read(1000000) c:close() ]] -- the head may be on its way before the trailers are too many
    local p = wire.proxy(upstream)
    assert.matches("^HTTP/1.1 4%d%d ", (wire.exchange(p.port, chunked("0\r\n" .. ("X-A: " .. ("a"):rep(1000) .. "\r\n"):rep(1024)))))
    p:finish()
    assert.is_nil(upstream.received():find("0\r\n", 1, true))
    assert.is_nil(upstream.received():find("X-A", 1, true))
  end)

  it("leaves the memory flat", function()
    local p = wire.release_proxy(peers.raw(wire.fine))
    http.get(p.port)
    local before = wire.rss(p)
    for _ = 1, 20 do
      local all = wire.exchange(p.port, chunked("5;" .. ("a"):rep(1024 * 1024)))
      assert.matches("^HTTP/1.1 4%d%d ", all)
    end
    assert.is_true(wire.rss(p) - before < 2048, ("%d KiB more"):format(wire.rss(p) - before))
    p:finish()
  end)
end)

describe("what is unambiguous", function()
  local upstream, proxy
  setup(function()
    upstream = peers.world()
    proxy = wire.proxy(upstream.upstream_url)
  end)
  local function seen(res) return require "cjson".decode(res.body) end
  local function post_open(fields, body)
    local c = http.connect(proxy.port)
    c:send("POST /open HTTP/1.1\r\nHost: a\r\n" .. fields .. "\r\n" .. body)
    local res = c:read_response "POST"
    assert.equal(200, c:request("GET", "/open").status) -- framed right: the connection goes on
    c:close()
    return res
  end

  it("is served: Content-Length twice the same, as one or not at all", function()
    local all = wire.exchange(proxy.port, "POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx")
    local status = all:match "^HTTP/1.1 (%d+)"
    assert.is_true(status == "400" or select(2, all:lower():gsub('"content%-length","1"', "")) == 1, all)
  end)
  it("is served: chunk extensions, which end here", function()
    local res = post_open("Transfer-Encoding: chunked\r\n", '5;a=b;c="d;e"\r\nhello\r\n0;last\r\n\r\n')
    assert.equal("hello", seen(res).body)
  end)
  it("is served: chunked in capitals, sizes in capitals and with leading zeros", function()
    assert.equal("0123456789", seen(post_open("Transfer-Encoding: CHUNKED\r\n", "0000A\r\n0123456789\r\n000\r\n\r\n")).body)
  end)
  it("is served: a chunked body byte by byte", function()
    local c = http.connect(proxy.port)
    for byte in ("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n\r\n"):gmatch "." do c:send(byte) end
    assert.equal("hello", seen(c:read_response "POST").body)
    c:close()
  end)
  it("is served: a GET with a body, and the request pipelined behind it", function()
    local c = http.connect(proxy.port)
    c:send("GET /open?1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /open?2 HTTP/1.1\r\nHost: a\r\n\r\n")
    local first, second = seen(c:read_response "GET"), seen(c:read_response "GET")
    assert.same({ "/open?1", "hello" }, { first.url, first.body })
    assert.same({ "/open?2", "" }, { second.url, second.body })
    c:close()
  end)
  it("is served: one empty line before a request", function()
    local c = http.connect(proxy.port)
    c:send "\r\nGET /open HTTP/1.1\r\nHost: a\r\n\r\n"
    assert.equal(200, c:read_response("GET").status)
    c:close()
  end)
  it("passes harmless trailers on and merges no dangerous one", function()
    local raw = peers.raw [[
      c:read "head"
      local seen = ""
      repeat seen = seen .. c:read(1) until seen:find "\r\n\r\n$"
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" ]]
    local p = wire.proxy(raw)
    local c = http.connect(p.port)
    c:send(chunked "5\r\nhello\r\n")
    process.poll(function() return raw.received():find("hello", 1, true) end, 5, "the body to arrive")
    c:send "0\r\nX-Checksum: abc\r\nHost: evil\r\nAuthorization: Bearer evil\r\nProxy_Authorization: evil\r\nCookie: evil\r\n\r\n"
    assert.equal(200, c:read_response("POST").status)
    c:close()
    assert.is_truthy(raw.received():find("\r\n0\r\nX-Checksum: abc\r\n\r\n", 1, true), raw.received())
    assert.is_nil(raw.received():find("evil", 1, true))
    p:finish()
  end)

  it("ends well", function() proxy:finish() end)
end)
