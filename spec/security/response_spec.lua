--- What an upstream may answer: a reply that is not certain is a 502 and its connection is never used again; a reply that is cut is seen to be cut.
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

--- An upstream that answers GET /KEY with the bytes of replies[KEY] (a table: pieces, a packet each; `lua`: an expression), every other request with its
--- connection's number.
--- `then_close`: it closes behind such a reply.
local function scripted(replies, then_close)
  local lines = {}
  for key, reply in pairs(replies) do
    local pieces = {}
    for i, piece in ipairs(type(reply) == "table" and reply or { reply }) do pieces[i] = ("%q"):format(piece) end
    if type(reply) == "table" and reply.lua then pieces[1] = reply.lua end
    lines[#lines + 1] = ("[%q] = { %s }"):format(key, table.concat(pieces, ", "))
  end
  return peers.raw(([[
    local replies = { %s }
    while true do
      local head = c:read "head"
      if not head then
        print("closed " .. c.number)
        return c:close()
      end
      local reply = replies[head:match "^%%u+ /(%%S*)"]
      for i, piece in ipairs(reply or { "HTTP/1.1 200 OK\r\nContent-Length: " .. #tostring(c.number) .. "\r\n\r\n" .. c.number }) do
        if i > 1 then c:sleep(20) end
        c:write(piece)
      end
      if reply and %s then return c:close() end
    end]]):format(table.concat(lines, ",\n"), tostring(then_close or false)))
end

local function ok(fields, body) return "HTTP/1.1 200 OK\r\n" .. fields .. "\r\n" .. (body or "") end
local poison = ok("Content-Length: 6\r\n", "poison")

describe("a reply whose framing or head is not certain is a 502, and its connection is not used again:", function()
  local cases = {
    ["two different Content-Lengths"] = ok("Content-Length: 2\r\nContent-Length: 5\r\n", "hello"),
    ["the same Content-Length twice"] = ok("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"),
    ["a list of Content-Lengths"] = ok("Content-Length: 2, 2\r\n", "ok"),
    ["Content-Length: +2"] = ok("Content-Length: +2\r\n", "ok"),
    ["Content-Length: 0x2"] = ok("Content-Length: 0x2\r\n", "ok"),
    ["Content-Length: -1"] = ok("Content-Length: -1\r\n", "ok"),
    ["an empty Content-Length"] = ok("Content-Length:\r\n", "ok"),
    ["a Content-Length of 2^64"] = ok("Content-Length: 18446744073709551616\r\n", "ok"),
    ["Content-Length with Transfer-Encoding"] = ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
    ["chunked, identity"] = ok("Transfer-Encoding: chunked, identity\r\n", "2\r\nok\r\n0\r\n\r\n"),
    ["chunked twice"] = ok("Transfer-Encoding: chunked, chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
    ["gzip, chunked"] = ok("Transfer-Encoding: gzip, chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
    ["xchunked"] = ok("Transfer-Encoding: xchunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
    ["Transfer-Encoding on HTTP/1.0"] = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ["a folded line"] = ok("Content-Length: 2\r\nX-A: a\r\n b\r\n", "ok"),
    ["a fold in packets of their own"] = { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: a\r\n", " b\r\n\r\nok" },
    ["a bare CR"] = ok("Content-Length: 2\r\nX-A: a\rX-B: b\r\n", "ok"),
    ["a bare LF"] = ok("Content-Length: 2\nX-A: a\r\n", "ok"),
    ["a NUL"] = ok("Content-Length: 2\r\nX-A: a\0b\r\n", "ok"),
    ["a space before a colon"] = ok("Content-Length : 2\r\n", "ok"),
    ["an empty name"] = ok("Content-Length: 2\r\n: b\r\n", "ok"),
    ["the status 20"] = "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    ["the status 099"] = "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    ["the status 600"] = "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    ["the status 2000"] = "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    ["no status"] = "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    ["another version"] = "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ["another protocol"] = "SSH-2.0-OpenSSH_9.2p1\r\n",
    ["HTTP/0.9"] = "<html>hello</html>\n",
    ["101 that nobody asked for"] = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" .. poison,
    ["200 fields"] = ok(("X-A: b\r\n"):rep(200) .. "Content-Length: 2\r\n", "ok"),
    ["a field of 1 MB"] = { lua = [["HTTP/1.1 200 OK\r\nX-A: " .. ("a"):rep(1024 * 1024) .. "\r\nContent-Length: 2\r\n\r\nok"]] },
  }
  local upstream, proxy
  setup(function()
    local replies, i = {}, 0
    for name, reply in pairs(cases) do
      i = i + 1
      cases[name] = "case" .. i
      replies["case" .. i] = reply
    end
    upstream = scripted(replies)
    proxy = wire.proxy(upstream, "timeouts = { first_byte = '5s' },")
  end)
  local names = {}
  for name in pairs(cases) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it(name, function()
      local c = http.connect(proxy.port)
      local before = tonumber(c:request("GET", "/number").body)
      assert.equal(502, c:request("GET", "/" .. cases[name]).status)
      local after = tonumber(c:request("GET", "/number").body)
      assert.is_true(after > before, ("connection %d, then %d"):format(before, after))
      c:close()
    end)
  end
  it("and the proxy ends well", function() proxy:finish() end)
end)

describe("a head without end", function()
  it("is a 502, and bounded", function()
    local upstream = peers.raw [[
      if not c:read "head" then return c:close() end
      c:write "HTTP/1.1 200 OK\r\n"
      while not c.ended do c:write(("X-A: " .. ("a"):rep(1000) .. "\r\n"):rep(10)) end
      print "given up"
      c:close()]]
    local p = wire.release_proxy(upstream, "timeouts = { connect = '2s' },")
    assert.equal(502, http.get(p.port).status)
    local before = wire.rss(p)
    for i = 1, 5 do
      assert.equal(502, http.get(p.port).status)
      process.poll(function() return select(2, upstream.process:output():gsub("given up", "")) >= i end, 5, "the connection to close")
    end
    assert.is_true(wire.rss(p) - before < 2048)
    p:finish()
  end)
  it("that comes drop by drop ends when the first byte's time is over", function()
    local upstream = peers.raw [[
      if not c:read "head" then return c:close() end
      c:write "HTTP/1.1 200 OK\r\n"
      while not c.ended do c:write "X-A: b\r\n" c:sleep(20) end]]
    local p = wire.proxy(upstream, "timeouts = { first_byte = '300ms' },")
    local took, res = wire.timed(function() return http.get(p.port) end)
    assert.equal(504, res.status)
    assert.is_true(took < 2, took)
    p:finish()
  end)
end)

describe("bytes that no request asked for", function()
  local upstream, proxy
  setup(function()
    upstream = scripted {
      behind = ok("Content-Length: 2\r\n", "ok" .. poison),
      chunked_behind = ok("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n" .. poison),
      later = { ok("Content-Length: 2\r\n", "ok"), poison },
      no_content = "HTTP/1.1 204 No Content\r\n\r\n" .. poison,
      not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison",
      head = ok("Content-Length: 6\r\n", "poison"),
    }
    proxy = wire.proxy(upstream)
  end)
  local function next_is_right(c, before)
    process.poll(function()
      local res = c:request("GET", "/number")
      assert(res.status == 200 and res.body:match "^%d+$", res.body) -- never the poison
      return tonumber(res.body) > before
    end, 5, "a fresh connection")
  end
  for _, case in ipairs {
    { "behind a reply", "behind", "ok" }, { "behind a chunked reply", "chunked_behind", "ok" },
    { "behind a 204", "no_content", "" },
    { "as the body of a 304", "not_modified", "" },
  } do
    it(case[1] .. " are discarded and close the connection", function()
      local c = http.connect(proxy.port)
      local before = tonumber(c:request("GET", "/number").body)
      assert.equal(case[3], c:request("GET", "/" .. case[2]).body)
      next_is_right(c, before)
      c:close()
    end)
  end
  it("as a reply on a pooled connection are discarded and close the connection", function()
    local c = http.connect(proxy.port)
    local before = tonumber(c:request("GET", "/number").body)
    assert.equal("ok", c:request("GET", "/later").body)
    process.poll(function() return upstream.process:output():find(("closed %d\n"):format(before), 1, true) end, 5, "the connection to close")
    assert.is_true(tonumber(c:request("GET", "/number").body) > before)
    c:close()
  end)
  it("as the body of a HEAD are discarded and close the connection", function()
    local c = http.connect(proxy.port)
    local before = tonumber(c:request("GET", "/number").body)
    assert.equal("6", c:request("HEAD", "/head").headers["content-length"])
    next_is_right(c, before)
    c:close()
  end)
  it("end well", function() proxy:finish() end)
end)

describe("a reply that is cut", function()
  local upstream, proxy
  setup(function()
    upstream = scripted({
      short = ok("Content-Length: 100\r\n", "0123456789"),
      no_last_chunk = ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
      in_chunk = ok("Transfer-Encoding: chunked\r\n", "5\r\nhe"),
      in_trailers = ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-A: b\r\n"),
      bad_chunk = ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n"),
      in_head = "HTTP/1.1 200 OK\r\nContent-Le",
      nothing = "",
      until_close = "HTTP/1.1 200 OK\r\n\r\nhello",
    }, true)
    proxy = wire.proxy(upstream)
  end)
  for _, key in ipairs { "short", "no_last_chunk", "in_chunk", "in_trailers", "bad_chunk" } do
    it("is never seen as whole: " .. key, function()
      local c = http.connect(proxy.port)
      local res = c:request("GET", "/" .. key)
      -- what came before the fault may be relayed, or nothing; but never a clean end
      assert.is_true(res == nil or res.status == 502 or (res.status == 200 and res.broken ~= nil), res and res.status .. res.body)
      c:close()
    end)
    it("is never seen as whole by HTTP/1.0: " .. key, function()
      local code, out = peers.curl("--http1.0", ("http://127.0.0.1:%d/%s"):format(proxy.port, key), "-w", "%{http_code}")
      assert.is_true(code == 18 or code == 56 or out:match "502$" ~= nil, code .. out)
    end)
  end
  it("in its head is a 502, and so is none", function()
    assert.equal(502, http.get(proxy.port, "/in_head").status)
    assert.equal(502, http.get(proxy.port, "/nothing").status)
  end)
  it("is not what a reply is that ends with its connection", function()
    local res = http.get(proxy.port, "/until_close")
    assert.equal("hello", res.body)
    assert.is_nil(res.broken)
    local all, why = http.raw(proxy.port, "GET /until_close HTTP/1.0\r\n\r\n", 5)
    assert.matches("\r\n\r\nhello$", all)
    assert.equal("closed", why)
  end)
  it("leaves the proxy well", function() proxy:finish() end)
end)

describe("a reply without a body", function()
  local upstream, proxy
  setup(function()
    upstream = scripted {
      head = ok "Content-Length: 1000\r\n",
      head_chunked = ok "Transfer-Encoding: chunked\r\n",
      no_content = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
      not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
      interim = "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </a>\r\n\r\n" .. ok("Content-Length: 2\r\n", "ok"),
      reset_content = "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    }
    proxy = wire.proxy(upstream)
  end)
  for _, case in ipairs {
    { "to HEAD", "HEAD", "head", 200 }, { "to HEAD, chunked", "HEAD", "head_chunked", 200 }, { "with 204 and a length", "GET", "no_content", 204 },
    { "with 304 and a length", "GET", "not_modified", 304 }, { "with 205", "GET", "reset_content", 205 },
  } do
    it(case[1] .. " does not hang, and the next request is right, on the same connections", function()
      local c = http.connect(proxy.port, 3)
      local before = c:request("GET", "/number").body
      local res = c:request(case[2], "/" .. case[3])
      assert.equal(case[4], res.status)
      assert.equal(before, c:request("GET", "/number").body)
      if case[4] == 204 then assert.is_nil(res.headers["content-length"]) end
      c:close()
    end)
  end
  it("with 103 and a length is relayed, and the final one is right", function()
    local c = http.connect(proxy.port, 3)
    local before = c:request("GET", "/number").body
    local res = c:request("GET", "/interim")
    assert.same({ 103, "</a>", nil }, { res.status, res.headers.link, res.headers["content-length"] })
    assert.equal("ok", c:read_response("GET").body)
    assert.equal(before, c:request("GET", "/number").body)
    c:close()
  end)
  it("ends well", function() proxy:finish() end)
end)

describe("interim replies", function()
  it("before the final one are relayed or dropped, however many, and the final one is matched", function()
    local upstream = scripted {
      hints = { "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n",
        ok("Content-Length: 5\r\n", "final") },
      many = ("HTTP/1.1 102 Processing\r\n\r\n"):rep(20) .. ok("Content-Length: 5\r\n", "final"),
    }
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    for _, path in ipairs { "/hints", "/many" } do
      local res = c:request("GET", path)
      local interim = 0
      while res.status < 200 do
        interim = interim + 1
        assert.is_true(res.status ~= 100) -- this client did not ask for it
        res = assert(c:read_response "GET")
      end
      assert.equal("final", res.body)
    end
    assert.matches("^%d+$", c:request("GET", "/number").body)
    c:close()
    -- HTTP/1.0 knows none of them
    local all = http.raw(p.port, "GET /hints HTTP/1.0\r\n\r\n", 5)
    assert.matches("^HTTP/1.1 200 ", all)
    assert.matches("\r\n\r\nfinal$", all)
    p:finish()
  end)
  it("without end are bounded", function()
    local upstream = peers.raw [[
      if not c:read "head" then return c:close() end
      while not c.ended do c:write(("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"):rep(100)) end]]
    local p = wire.release_proxy(upstream, "timeouts = { first_byte = '500ms' },")
    http.get(p.port)
    local before = wire.rss(p)
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local all = c:read_all(1) -- interim replies, then the end
    c:close()
    assert.matches("HTTP/1.1 50[24] ", all:sub(-400))
    assert.is_true(wire.rss(p) - before < 8192, wire.rss(p) - before)
    p:finish()
  end)
end)

describe("an upgrade answered 200", function()
  it("is a reply like any other: what the client sends behind it is a request, what the upstream sends is discarded", function()
    local upstream = scripted { up = ok("Content-Length: 2\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", "ok" .. poison) }
    local p = wire.proxy(upstream)
    local c = http.connect(p.port)
    c:send("GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /number HTTP/1.1\r\nHost: a\r\n\r\n")
    local res = c:read_response "GET"
    assert.same({ 200, "ok" }, { res.status, res.body })
    assert.equal("2", c:read_response("GET").body)
    c:close()
    p:finish()
  end)
end)

describe("a 407", function()
  it("of an upstream is a 502: it asks jeton, and its challenge is not the client's to answer", function()
    local upstream = scripted { ["407"] = 'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="theirs"\r\nContent-Length: 2\r\n\r\nno' }
    local p = wire.proxy(upstream)
    local res = http.get(p.port, "/407")
    assert.equal(502, res.status)
    assert.is_nil(res.raw_head:lower():find("authenticate", 1, true))
    assert.is_nil(res.body:find("407", 1, true))
    p:wait_log "proxy credentials: 407"
    p:finish()
  end)
  it("of a script carries its challenge, and an upstream's challenge on another status is dropped", function()
    local upstream = scripted { ["200"] = ok('Proxy-Authenticate: Basic realm="theirs"\r\nContent-Length: 2\r\n', "ok") }
    local p = wire.proxy(upstream, [[ on_request = function(req)
      if req.path == "/own" then req:respond(407, { ["Proxy-Authenticate"] = 'Basic realm="ours"' }) end end, ]])
    local res = http.get(p.port, "/own")
    assert.same({ 407, 'Basic realm="ours"' }, { res.status, res.headers["proxy-authenticate"] })
    res = http.get(p.port, "/200")
    assert.same({ 200, "ok" }, { res.status, res.body })
    assert.is_nil(res.headers["proxy-authenticate"])
    p:finish()
  end)
end)
