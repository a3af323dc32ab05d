--- on_send: a hook before each try. What it sees, what it may set and for how long, what it waits for, and that what it computes and what goes out is of one generation of each token.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"

local proxy, upstream

after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- `hook`: the body of on_send; options: tokens, request (the body of on_request), more, top as Lua text, path (of the upstream), fine (the upstream's script).
local function start(hook, options)
  options = options or {}
  upstream = peers.raw(options.fine or wire.fine)
  proxy = jeton.start(([[
local crypto, n = jeton.crypto, 0
local function sign(key, text) return crypto.hex(crypto.hmac("sha256", key, text)) end
%s
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d%s", tokens = { %s },
  on_request = function(req, tokens) %s end,
  on_send = function(req, tokens, try) %s end,
  %s }]]):format(options.top or "", upstream.port, options.path or "", options.tokens or "", options.request or "", hook, options.more or ""))
  return proxy
end
local function heads(path)
  local found = {}
  for _, h in ipairs(wire.heads(upstream.received())) do
    if not path or h.line:match "^%u+ (%S+)" == path then found[#found + 1] = h end
  end
  return found
end
local COUNTING = "fetch = function(ctx) n = n + 1 return { value = 'v' .. n, expires_in = 60, fields = { id = 'id' .. n } } end,"
--- Refuses the first request of each process with 401.
local REFUSING = [[
  while true do
    local head = c:read "head"
    if not head then return c:close() end
    local length = tonumber(head:lower():match "content%-length: (%d+)") or 0
    if length > 0 then c:read(length) end
    if head:find("Bearer v1\r\n", 1, true) then c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    else c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end
  end]]
--- What `signed` is for a generation, made where nothing is pinned.
local function signature(key, text)
  local code, out = process.run({ "openssl", "dgst", "-sha256", "-hmac", key }, { stdin = process.write_file(process.temp_dir() .. "/text", text) })
  assert(code == 0, out)
  return out:match "(%x+)%s*$"
end

describe("on_send", function()
  it("runs before a request goes out, and what it sets goes with it", function()
    start [[ req.headers.try = try.number .. " " .. try.reason .. " " .. tostring(try.detail) ]]
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.equal("1 first nil", heads("/a")[1].fields.try)
  end)

  it("runs for a policy that has nothing else", function()
    upstream = peers.raw(wire.fine)
    proxy = wire.proxy(upstream, "on_send = function(req) req.headers.x = 'y' end")
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.equal("y", heads("/a")[1].fields.x)
  end)

  it("shows the fields that will go out, Host and Content-Length included", function()
    start([[
      local shown = {}
      for name, value in pairs(req.headers) do shown[#shown + 1] = name:lower() .. "=" .. value end
      table.sort(shown)
      jeton.log.info("shown: " .. table.concat(shown, " "))]], { request = "req.headers.own = '1'" })
    assert.equal(200, http.request(proxy.port, "GET", "/a", { te = "trailers", ["proxy-authorization"] = "Basic eA==" }).status)
    proxy:wait_log "shown: "
    local h = heads("/a")[1]
    local sent = {}
    for name, value in pairs(h.fields) do
      if name ~= "te" and name ~= "connection" then sent[#sent + 1] = name .. "=" .. value end
    end
    table.sort(sent)
    assert.equal(table.concat(sent, " "), proxy:errors():match "shown: ([^\n]*)")
    assert.truthy(proxy:errors():find("host=127.0.0.1:" .. upstream.port, 1, true))
  end)

  it("shows Host as it will go out, and may set it", function()
    start [[ req.headers.seen = req.headers.host .. " " .. req.target.authority
      req.headers.host = "other.example.com"
      req.headers.after = req.headers.host .. " " .. req.target.authority ]]
    assert.equal(200, http.get(proxy.port, "/a").status)
    local h = heads("/a")[1]
    local own = "127.0.0.1:" .. upstream.port
    assert.same({ own .. " " .. own, "other.example.com other.example.com", "other.example.com" }, { h.fields.seen, h.fields.after, h.fields.host })
  end)

  it("goes with the server's own Host where what was set is taken back", function()
    start([[ req.headers.host = nil req.headers.after = req.headers.host .. " " .. req.target.authority ]], { request = "req.headers.host = 'other.example.com'" })
    assert.equal(200, http.get(proxy.port, "/a").status)
    local h, own = heads("/a")[1], "127.0.0.1:" .. upstream.port
    assert.same({ own .. " " .. own, own }, { h.fields.after, h.fields.host })
  end)

  it("knows the target exactly as it will be sent", function()
    start([[ local t = req.target
      req.headers.x = table.concat({ t.scheme, t.host, t.port, t.authority, t.path, tostring(t.query), tostring(t) }, " ") ]], { path = "/base/" })
    assert.equal(200, http.get(proxy.port, "/a%20b?c=d%20e").status)
    assert.equal(200, http.get(proxy.port, "/").status)
    local where = ("127.0.0.1:%d"):format(upstream.port)
    local h = heads()
    assert.equal(("http 127.0.0.1 %d %s /base/a%%20b c=d%%20e http://%s/base/a%%20b"):format(upstream.port, where, where), h[1].fields.x)
    assert.equal(("http 127.0.0.1 %d %s /base/ nil http://%s/base/"):format(upstream.port, where, where), h[2].fields.x)
    assert.matches("^GET /base/a%%20b%?c=d%%20e ", h[1].line)
  end)

  it("may set the query for its try; log, on_response and the next request see the client's", function()
    start([[ req.query = (req.query and req.query .. "&" or "") .. "signed=1" req.headers.x = req.target.query ]], {
      more = [[ on_response = function(res, req) res.headers.query = tostring(req.query) res.headers.x = tostring(req.headers.x) end,
        on_log = function(entry) jeton.log.info("entry " .. tostring(entry.query)) end ]] })
    local res = http.get(proxy.port, "/a?b=c")
    assert.same({ "b=c", "nil" }, { res.headers.query, res.headers.x })
    proxy:wait_log "entry b=c"
    local h = heads()[1]
    assert.matches("^GET /a%?b=c&signed=1 ", h.line)
    assert.equal("b=c&signed=1", h.fields.x)
    assert.is_nil(proxy:output():find("signed", 1, true))
  end)

  it("answers by req:respond, and then nothing is sent", function()
    start [[ req:respond(403, { x = "y" }, "not today") ]]
    local res = http.request(proxy.port, "POST", "/a", nil, "body")
    assert.same({ 403, "y", "not today" }, { res.status, res.headers.x, res.body })
    assert.equal("", upstream.received())
  end)

  it("that fails sends nothing: 500, and on_error and on_log hear of it", function()
    start([[ error "no key" ]], { more = [[
      on_error = function(req, err) req:respond(500, nil, err.code .. " " .. err.message .. " " .. tostring(req.headers.x)) end,
      on_log = function(entry) jeton.log.info("entry " .. entry.status .. " " .. entry.error) end ]], request = "req.headers.x = 'as left'" })
    local res = http.get(proxy.port, "/a")
    assert.equal(500, res.status)
    assert.matches("^SCRIPT policy%.lua:%d+: no key as left$", res.body)
    proxy:wait_log "entry 500 policy.lua:"
    assert.equal("", upstream.received())
  end)

  it("has a budget of time", function()
    start [[ while true do end ]]
    assert.equal(500, http.get(proxy.port, "/a").status)
    proxy:wait_log "BUDGET"
    assert.equal("", upstream.received())
  end)

  for what, case in pairs {
    ["the upstream"] = { 'req.upstream = "default"', "req.upstream: the upstream of this try is chosen: choose it in on_request" },
    ["the path"] = { 'req.path = "/b"', "req.path: the route of this try is chosen: set the path in on_request" },
    ["the body"] = { 'req:set_body "x"', "req:set_body works in on_request only: every try sends the same body" },
    ["the target"] = { 'req.target.host = "b"', "req.target.host cannot be set: it shows what will be sent" },
    ["a field of the target that it has not"] = { "return req.target.user", "req.target has no field 'user': it has scheme, host, port, authority, path and query" },
    ["a header that is jeton's"] = { 'req.headers["content-length"] = 1', "header 'content-length' is set by jeton itself" },
    ["a result"] = { "return 403", "on_send returned a number, which has no effect: to answer the client call req:respond" },
  } do
    it("may not set " .. what, function()
      start(case[1])
      assert.equal(500, http.get(proxy.port, "/a").status)
      proxy:wait_log(case[2])
      assert.equal("", upstream.received())
    end)
  end

  it("waits for nothing but the body: the error says where else", function()
    start([[ local waits = { sleep = function() jeton.sleep(0) end, http = function() jeton.http.get "http://127.0.0.1:1/" end,
        refresh = function() tokens.api:refresh() end }
      local _, message = pcall(waits[req.path:sub(2)])
      req.headers.said = message ]], { tokens = "api = { " .. COUNTING .. " }" })
    for path, name in pairs { ["/sleep"] = "sleep", ["/http"] = "get", ["/refresh"] = "refresh" } do
      assert.equal(200, http.get(proxy.port, path).status)
      assert.matches("'" .. name .. "' cannot wait here: in on_send nothing but req:body%(%) may be awaited: get the rest in on_request", heads(path)[1].fields.said)
    end
  end)

  it("is no time for others: what a spawned task sets meanwhile is refused", function()
    start([[ req:body() ]], { request = [[ jeton.spawn(function() jeton.sleep "50ms"
      local ok, message = pcall(function() req.headers.x = "late" end)
      jeton.log.info("spawned: " .. tostring(message)) end) ]] })
    local c = http.connect(proxy.port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    proxy:wait_log "spawned: policy.lua:"
    c:send "body"
    assert.equal(200, c:read_response("POST").status)
    c:close()
    assert.is_nil(heads("/a")[1].fields.x)
  end)
end)

describe("the body in on_send", function()
  it("is awaited, and goes with its length, which the fields show", function()
    start [[ req.headers.before = tostring(req.headers["content-length"])
      local body = req:body()
      req.headers.body, req.headers.after = body, req.headers["content-length"] ]]
    local c = http.connect(proxy.port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    socket.sleep(0.05)
    assert.equal("", upstream.received())
    c:send "3\r\ndef\r\n0\r\n\r\n"
    assert.equal(200, c:read_response("POST").status)
    c:close()
    local h = heads("/a")[1]
    assert.same({ "nil", "abcdef", "6", "6" }, { h.fields.before, h.fields.body, h.fields.after, h.fields["content-length"] })
  end)

  it("may be larger than is gathered: nil, message, LIMIT", function()
    start([[ local body, message, code = req:body() req.headers.code = tostring(body) .. " " .. code ]], { more = "limits = { script_body = 4 }," })
    assert.equal(200, http.request(proxy.port, "POST", "/a", nil, "12345").status)
    assert.equal("nil LIMIT", heads("/a")[1].fields.code)
  end)

  it("is there for each try, also one that is refused while it is still coming", function()
    start([[ req.headers.authorization = "Bearer " .. tokens.api
      if try.number > 1 then req.headers.body = req:body() end
      req.headers.try = try.number .. " " .. try.reason ]], { tokens = "api = { " .. COUNTING .. " }", fine = [[
      local head = c:read "head"
      if not head then return c:close() end
      if head:find("Bearer v1\r\n", 1, true) then
        c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        return c:close()
      end
      c:read(8)
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
      c:close()]] })
    local c = http.connect(proxy.port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf"
    process.poll(function() return #heads "/a" == 1 end, 5, "the first try")
    proxy:wait_log "refused generation 1"
    c:send "half"
    assert.equal("fine", c:read_response("POST").body)
    c:close()
    local h = heads("/a")
    assert.same({ 2, "1 first", "2 rejected", "halfhalf" }, { #h, h[1].fields.try, h[2].fields.try, h[2].fields.body })
  end)

  it("is asked for when its client waits to be told (Expect: 100-continue)", function()
    start [[ req.headers.body = req:body() ]]
    local c = http.connect(proxy.port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    assert.equal(100, c:read_response("POST").status)
    c:send "body"
    assert.equal(200, c:read_response("POST").status)
    c:close()
    assert.same({ "body", nil }, { heads("/a")[1].fields.body, heads("/a")[1].fields.expect })
  end)

  it("that breaks off ends the request, and nothing is sent", function()
    start [[ req:body() ]]
    local c = http.connect(proxy.port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf"
    socket.sleep(0.05)
    c:close()
    process.poll(function() return proxy:output():find(" 499 ", 1, true) end, 5, "the line of a client that left")
    assert.equal("", upstream.received())
  end)

  it("is awaited over a reload, with the policy that the request began with", function()
    start [[ req:body() req.headers.policy = "old" ]]
    local c = http.connect(proxy.port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    socket.sleep(0.05)
    proxy:reload_file(wire.policy(upstream.port, "on_send = function(req) req.headers.policy = 'new' end"))
    proxy:control("POST", "/reload")
    assert.equal(200, http.get(proxy.port, "/b").status)
    c:send "body"
    assert.equal(200, c:read_response("POST").status)
    c:close()
    assert.same({ "old", "new" }, { heads("/a")[1].fields.policy, heads("/b")[1].fields.policy })
  end)
end)

describe("a try", function()
  it("behind a 401 signs anew, with the token that it sends", function()
    start([[ req.headers.authorization = "Bearer " .. tokens.api
      req.headers.signed = sign(tokens.api, req.target.path .. try.number)
      req.headers.id, req.headers.generation = tokens.api:field "id", tokens.api.generation
      if try.number == 1 then req.headers.first = "yes" end
      req.headers.try = try.number .. " " .. try.reason ]], { tokens = "api = { " .. COUNTING .. " }", fine = REFUSING })
    assert.equal("fine", http.request(proxy.port, "POST", "/a", nil, "body").body)
    local h = heads("/a")
    assert.equal(2, #h)
    for i = 1, 2 do
      local f = h[i].fields
      assert.same({ "Bearer v" .. i, "id" .. i, tostring(i), signature("v" .. i, "/a" .. i), i == 1 and "1 first" or "2 rejected" },
        { f.authorization, f.id, f.generation, f.signed, f.try })
    end
    assert.same({ "yes", nil }, { h[1].fields.first, h[2].fields.first })
  end)

  it("is refused by what it computed, too: a key that is never sent itself is fetched anew", function()
    start([[ req.headers.signed = sign(tokens.key, "x") ]], { tokens = "key = { " .. COUNTING .. " }", fine = ([[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        if head:find(%q, 1, true) then c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        else c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end
      end]]):format(signature("v1", "x")) })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.equal(signature("v2", "x"), heads("/a")[2].fields.signed)
  end)

  it("on a fresh connection, behind one that was stale, signs anew", function()
    start([[ n = n + 1 req.headers.try = n .. " " .. try.number .. " " .. try.reason req.headers.body = req:body() ]], { fine = [[
      if c.number > 1 then
        while c:read "head" do c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" end
        return c:close()
      end
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
      c:read "head"
      c:close()]] })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.equal("fine", http.request(proxy.port, "PUT", "/b", nil, "body").body)
    local h = heads("/b")
    assert.same({ 2, "2 1 first", "3 2 stale" }, { #h, h[1].fields.try, h[2].fields.try })
    assert.same({ "body", "body", "4" }, { h[1].fields.body, h[2].fields.body, h[2].fields["content-length"] })
  end)

  it("on a fresh connection may answer instead", function()
    start([[ if try.reason == "stale" then req:respond(503, nil, "stale") end ]], { fine = [[
      c:read "head"
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
      c:read "head"
      c:close()]] })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    local res = http.get(proxy.port, "/b")
    assert.same({ 503, "stale" }, { res.status, res.body })
    assert.equal("fine", http.get(proxy.port, "/c").body)
    assert.equal(1, #heads "/b")
  end)

  it("at another server of the upstream is made for that one", function()
    local failing = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n" end c:close()]]
    upstream = peers.raw(wire.fine)
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", "http://127.0.0.1:%d" },
      on_send = function(req, tokens, try) req.headers.try = req.target.port .. " " .. try.number .. " " .. try.reason end }]]):format(failing.port, upstream.port))
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.equal(("%d 2 retry"):format(upstream.port), heads("/a")[1].fields.try)
    assert.truthy(failing.received():lower():find(("try: %d 1 first"):format(failing.port), 1, true))
  end)

  it("at a server that cannot be reached was none: the next one has the first", function()
    upstream = peers.raw(wire.fine)
    local gone = socket.bind("127.0.0.1", 0)
    local _, port = gone:getsockname()
    gone:close()
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", "http://127.0.0.1:%d" },
      on_send = function(req, tokens, try) req.headers.try = req.target.port .. " " .. try.number .. " " .. try.reason end }]]):format(port, upstream.port))
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.equal(("%d 1 first"):format(upstream.port), heads("/a")[1].fields.try)
  end)
end)

if protocols.client == "h1" then
  describe("on_send of a forward proxy", function()
    it("sees the target that the client named, and does not run for CONNECT", function()
      upstream = peers.raw(wire.fine)
      proxy = jeton.start(([[return { listen = "127.0.0.1:0", forward = { hosts = { "127.0.0.1:%d" }, connect = { "127.0.0.1:%d" } },
        on_send = function(req) if req.method == "CONNECT" then error "it runs" end req.headers.target = tostring(req.target) end }]]):format(upstream.port, upstream.port))
      local c = http.connect(proxy.port)
      c:send(("GET http://127.0.0.1:%d/a HTTP/1.1\r\nHost: a\r\n\r\n"):format(upstream.port))
      assert.equal(200, c:read_response("GET").status)
      c:send(("CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(upstream.port))
      assert.equal(200, c:read_response("CONNECT").status)
      c:close()
      assert.equal(("http://127.0.0.1:%d/a"):format(upstream.port), heads("/a")[1].fields.target)
    end)
  end)
end

if protocols.upstream == "h2" then
  describe("a stream that the server has not looked at", function()
    it("is opened anew with a new signature, as often as without one", function()
      start([[ req.headers.try = try.number .. " " .. try.reason ]], { fine = [[
        local head = c:read "head"
        tries = (tries or 0) + 1
        if tries == 1 or head:find "/never" then return c:reset_stream(7) end
        c:write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" .. c:read(5))]] })
      assert.equal("hello", http.request(proxy.port, "POST", "/a", nil, "hello").body)
      assert.equal(502, http.get(proxy.port, "/never").status)
      local seen = {}
      for _, h in ipairs(heads()) do seen[#seen + 1] = h.fields.try end
      assert.equal("1 first, 2 stale, 1 first, 2 stale, 3 stale, 4 stale", table.concat(seen, ", "))
    end)
  end)
end

describe("a token that is first used in on_send", function()
  -- Families: their tokens are fetched when a request wants them, and not before.
  local SIGNING = [[ n = n + 1
    req.headers.signed = sign(tokens.key.k, "x")
    req.headers.key = tokens.key.k
    req.headers.runs = n ]]
  local function late(more)
    return ("key = { family = true, fetch = function() jeton.sleep '200ms' return { value = 'late', expires_in = 60 } end, %s }"):format(more or "")
  end

  it("is awaited, and the hook begins anew", function()
    start(SIGNING, { tokens = late() })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    local f = heads("/a")[1].fields
    assert.same({ "late", signature("late", "x"), "2" }, { f.key, f.signed, f.runs })
  end)

  it("is awaited when it is only put into a header", function()
    start([[ n = n + 1 req.headers.runs = n req.headers.authorization = "Bearer " .. tokens.key.k ]], { tokens = late() })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.same({ "Bearer late", "2" }, { heads("/a")[1].fields.authorization, heads("/a")[1].fields.runs })
  end)

  it("is awaited whatever the script makes of the error that ends its run", function()
    start([[ n = n + 1
      local ok, signed = pcall(sign, tokens.key.k, "x")
      req.headers.signed, req.headers.runs = ok and signed or "none", n
      if not ok then req:respond(500) end ]], { tokens = late() })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.same({ signature("late", "x"), "2" }, { heads("/a")[1].fields.signed, heads("/a")[1].fields.runs })
  end)

  it("is awaited for its `wait`, then 503 with Retry-After", function()
    start(SIGNING, { tokens = [[key = { family = true, fetch = function() jeton.sleep "5s" end, wait = "300ms" }]] })
    local t0 = socket.gettime()
    local res = http.get(proxy.port, "/a")
    local took = socket.gettime() - t0
    assert.equal(503, res.status)
    assert.is_true(tonumber(res.headers["retry-after"]) >= 1)
    assert.is_true(took >= 0.25 and took < process.stretched(3), took)
    proxy:wait_log "no valid token key[k]: its fetch has taken"
    assert.equal("", upstream.received())
  end)

  it('is a 503 at once with missing = "fail"', function()
    start(SIGNING, { tokens = late 'missing = "fail", wait = "10s"' })
    local t0 = socket.gettime()
    assert.equal(503, http.get(proxy.port, "/a").status)
    assert.is_true(socket.gettime() - t0 < process.stretched(0.8))
    process.poll(function() return http.get(proxy.port, "/b").status == 200 end)
    assert.equal(0, #heads "/a")
  end)

  it('is done without with missing = "pass": nil, message, code, and a header that is left out', function()
    start([[ local signed, message, code = crypto.hmac("sha256", tokens.key.k, "x")
      req.headers.code = code or "none"
      req.headers.key = tokens.key.k ]], { tokens = late 'missing = "pass"' })
    assert.equal("fine", http.request(proxy.port, "GET", "/a", { key = "the client's" }).body)
    assert.same({ "TOKEN_MISSING", nil }, { heads("/a")[1].fields.code, heads("/a")[1].fields.key })
    process.poll(function()
      http.get(proxy.port, "/b")
      local h = heads "/b"
      return h[#h].fields.code == "none" and h[#h].fields.key == "late"
    end)
  end)

  it("may be one of several, each awaited in its turn", function()
    start([[ n = n + 1 req.headers.runs = n
      for _, name in ipairs { "a", "b", "c" } do req.headers[name] = sign(tokens.key[name], name) end ]], {
      tokens = "key = { family = true, fetch = function(ctx) return { value = 'v' .. ctx.key, expires_in = 60 } end }" })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    local f = heads("/a")[1].fields
    assert.same({ signature("va", "a"), signature("vb", "b"), signature("vc", "c") }, { f.a, f.b, f.c })
    assert.equal("4", f.runs)
  end)

  it("that moves on within a run lets it begin anew", function()
    start([[ n = n + 1
      req.headers.first = sign(tokens.key, "x")
      if n == 1 then assert(tokens.key:set("second", { expires_in = 60 })) end
      req.headers.signed, req.headers.key, req.headers.runs = sign(tokens.key, "x"), tokens.key, n ]],
      { tokens = "key = { fetch = function() return { value = 'first', expires_in = 60 } end }" })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    local f = heads("/a")[1].fields
    assert.same({ "second", signature("second", "x"), signature("second", "x"), "2" }, { f.key, f.first, f.signed, f.runs })
  end)

  it("that moves on behind its last use lets the hook begin anew as well, though no byte of it goes out", function()
    start([[ n = n + 1
      req.headers.signed, req.headers.runs = sign(tokens.key, "x"), n
      if n == 1 then assert(tokens.key:set("second", { expires_in = 60 })) end ]],
      { tokens = "key = { fetch = function() return { value = 'first', expires_in = 60 } end }" })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    local f = heads("/a")[1].fields
    assert.same({ signature("second", "x"), "2" }, { f.signed, f.runs })
  end)

  it("that moves on in every run is a 503, in the end", function()
    start([[ sign(tokens.key, "x") n = n + 1 assert(tokens.key:set("v" .. n, { expires_in = 60 })) sign(tokens.key, "x") ]],
      { tokens = "key = { fetch = function() return { value = 'first', expires_in = 60 } end }" })
    local res = http.get(proxy.port, "/a")
    assert.equal(503, res.status)
    assert.truthy(res.body:find("on_send began anew too often: each time a token of it ended, or was replaced, before it was done", 1, true))
    assert.equal("", upstream.received())
  end)

  it("beside what was kept of an earlier one is a 503, which says so", function()
    start([[ kept.day = kept.day or crypto.hmac("sha256", tokens.key, "day")
      req.headers.day, req.headers.now = sign(kept.day, "x"), sign(tokens.key, "x") ]],
      { top = "local kept = {}", tokens = "key = { fetch = function(ctx) return { value = ctx.reason, expires_in = 60 } end }" })
    assert.equal(200, http.get(proxy.port, "/a").status)
    assert.equal(200, (proxy:control("POST", "/refresh/key")).status)
    local res = http.get(proxy.port, "/b")
    assert.same({ 503, 0 }, { res.status, #heads "/b" })
    assert.truthy(res.body:find("or it computes with what it kept of an earlier one", 1, true))
  end)

  it("and ends while the body is awaited lets the hook begin anew", function()
    start([[ n = n + 1
      local signed = sign(tokens.key, "x")
      local body = req:body()
      req.headers.signed, req.headers.key, req.headers.runs, req.headers.body = signed, tokens.key, n, body ]],
      { tokens = "key = { fetch = function(ctx) return { value = ctx.reason, expires_in = 60 } end }" })
    assert.equal(200, http.get(proxy.port, "/first").status)
    local c = http.connect(proxy.port)
    c:send "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    socket.sleep(0.1)
    assert.equal(200, (proxy:control("POST", "/refresh/key")).status)
    c:send "body"
    assert.equal("fine", c:read_response("POST").body)
    c:close()
    local f = heads("/a")[1].fields
    assert.same({ "manual", signature("manual", "x"), "body" }, { f.key, f.signed, f.body })
    assert.is_true(tonumber(f.runs) >= 3)
  end)

  it("is pinned by being the key of a family", function()
    start([[ n = n + 1
      local user = tokens.user[tokens.key]
      if n == 2 then assert(tokens.key:set("second", { expires_in = 60 })) end
      req.headers.key, req.headers.user, req.headers.wanted = tokens.key, user, "sha256:" .. crypto.hex(crypto.hash("sha256", "second")) ]],
      { tokens = "key = { fetch = function() return { value = 'first', expires_in = 60 } end }, user = { family = true, fetch = function(ctx) return { value = ctx.key, expires_in = 60 } end }" })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    local f = heads("/a")[1].fields
    assert.same({ "second", f.wanted }, { f.key, f.user })
  end)

  it("stays until the reply is judged, though its handle is garbage by then and another key wants its place", function()
    start([[ if not req.headers.key then return end
      assert(not crypto.equal(sign(tokens.user[req.headers.key], "x"), "y"))
      jeton.log.info("signed, " .. try.reason)
      req.headers.key = nil ]], { tokens = "user = { family = true, max = 1, fetch = function(ctx) return { value = ctx.key, expires_in = 60 } end }", fine = [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        if head:find "^GET /go " then GO = true end
        while head:find "^GET /slow " and not GO do c:sleep(10) end
        if head:find "^GET /slow " and not REFUSED then
          REFUSED = true
          c:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        else
          c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
        end
      end]] })
    assert.equal("fine", http.get(proxy.port, "/a", { key = "one" }).body)
    local c = http.connect(proxy.port)
    c:send "GET /slow HTTP/1.1\r\nHost: a\r\nKey: one\r\n\r\n"
    process.poll(function() return #heads "/slow" == 1 end, 5, "the slow request at the upstream")
    assert.equal(500, http.get(proxy.port, "/b", { key = "two" }).status) -- the place is in use
    assert.equal("fine", http.get(proxy.port, "/go").body)
    assert.equal("fine", c:read_response("GET").body)
    c:close()
    assert.truthy(proxy:errors():find("signed, rejected", 1, true))
  end)

  it("has its generation pinned by asking for that", function()
    start([[ n = n + 1
      local generation = tokens.key.generation
      if n == 1 then assert(tokens.key:set("second", { expires_in = 60 })) end
      req.headers.key, req.headers.generation = tokens.key, generation ]],
      { tokens = "key = { fetch = function() return { value = 'first', expires_in = 60 } end }" })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.same({ "second", "2" }, { heads("/a")[1].fields.key, heads("/a")[1].fields.generation })
  end)
end)

describe("jeton check", function()
  local function check(text)
    local path = process.write_file(process.temp_dir() .. "/policy.lua", text)
    local _, out, err = jeton.run { "check", path }
    return out .. err
  end
  it("knows on_send", function()
    assert.matches("good", check [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_send = function() end }]])
    assert.truthy(check([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_sent = function() end }]]):find('on_sent: unknown key (did you mean "on_send"?)', 1, true))
    assert.truthy(check([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_send = "sign" }]]):find("on_send: expected a function", 1, true))
  end)
end)
