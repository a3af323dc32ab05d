--- Hooks as a policy's author meets them: what a request and a response let a script see and change, what may wait, and what is refused.
local cjson = require "cjson"
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local protocols = require "spec.support.protocols"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local echo -- answers with what it was sent
local proxy -- of the case that runs

setup(function() echo = peers.world() end)
teardown(function() echo:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- A policy before the echo; `body` are the keys behind listen and upstream.
local function policy(body)
  return ('local echo = %q\nreturn { listen = "127.0.0.1:0", upstream = echo .. "/open", %s }'):format(echo.upstream_url, body)
end

local function start(body)
  proxy = jeton.start(policy(body))
  return proxy
end

local function check(text)
  return jeton.run { "check", process.write_file(process.temp_dir() .. "/policy.lua", text) }
end

--- What the upstream saw: { method, url, body, headers = { lower-case name = value }, names = { in order, as written } }.
local function seen(res)
  assert.equal(200, res.status, res.body)
  local all = cjson.decode(res.body)
  local headers, names = {}, {}
  for i = 1, #all.headers, 2 do
    names[#names + 1] = all.headers[i]
    headers[all.headers[i]:lower()] = all.headers[i + 1]
  end
  all.headers, all.names = headers, names
  return all
end

--- The reply of a hook that responds with JSON.
local function said(res)
  assert.equal(200, res.status, res.body)
  return cjson.decode(res.body)
end

describe("a request in on_request", function()
  it("shows its line, its host, its client and its id", function()
    start [[ on_request = function(req)
      req:respond(200, nil, jeton.json.encode { method = req.method, path = req.path, query = req.query, url = req.url, host = req.host,
        scheme = req.scheme, version = req.version, id = req.id, client = req.client.address, tls = req.client.tls ~= nil, upstream = req.upstream,
        text = tostring(req) })
    end ]]
    local got = said(http.request(proxy.port, "DELETE", "/a%20b/c?x=1&y", { Host = "somewhere.example:81" }))
    assert.equal("DELETE", got.method)
    assert.equal("/a%20b/c", got.path)
    assert.equal("x=1&y", got.query)
    assert.equal("http://somewhere.example:81/a%20b/c?x=1&y", got.url)
    assert.equal("somewhere.example:81", got.host)
    assert.equal("http", got.scheme)
    assert.equal(protocols.version, got.version)
    assert.matches("^%x+$", got.id)
    assert.equal("127.0.0.1", got.client)
    assert.is_false(got.tls)
    assert.equal("default", got.upstream)
    assert.matches("DELETE /a%%20b/c", got.text)
    if protocols.client == "h1" then
      local raw = http.raw(proxy.port, "GET /old HTTP/1.0\r\n\r\n")
      assert.equal("1.0", cjson.decode(raw:match "\r\n\r\n(.*)").version)
    end
    assert.is_nil(said(http.get(proxy.port, "/no-query")).query)
  end)

  it("tells an IPv6 client and one of a Unix socket", function()
    local path = process.temp_dir() .. "/listen.sock"
    proxy = jeton.start(('return { listen = { "127.0.0.1:0", "[::1]:0", "unix:%s" }, on_request = function(req) req:respond(200, nil, req.client.address) end }'):format(path))
    assert.equal("127.0.0.1", http.get(proxy.port).body)
    assert.equal("::1", http.get("[::1]:" .. proxy:port_of(2)).body)
    assert.equal("unix:", http.get("unix:" .. path).body)
  end)

  it("goes upstream with the path and the query that were set", function()
    start [[ on_request = function(req)
      if req.path == "/set" then req.path, req.query = "/new/place%2f", "q=%20&r" end
      if req.path == "/clear" then req.query = nil end
      if req.path == "/empty" then req.query = "" end
    end ]]
    assert.equal("/open/new/place%2f?q=%20&r", seen(http.get(proxy.port, "/set?old=1")).url)
    assert.equal("/open/clear", seen(http.get(proxy.port, "/clear?old=1")).url)
    assert.equal("/open/kept?old=1", seen(http.get(proxy.port, "/kept?old=1")).url)
    assert.equal("/open/empty?", seen(http.get(proxy.port, "/empty?old=1")).url)
  end)

  for name, case in pairs {
    ["a path without a slash"] = { "req.path = 'x'", "begins with '/'" },
    ["a path with a query"] = { "req.path = '/x?y'", "'?'" },
    ["a path with a line end"] = { "req.path = '/x\\r\\nHost: y'", "percent%-encoded" },
    ["a query with a blank"] = { "req.query = 'a b'", "percent%-encoded" },
    ["a method"] = { "req.method = 'GET'", "req.method cannot be set" },
    ["an unknown field"] = { "req.user = 'x'", "req.ctx" },
    ["an unknown upstream"] = { "req.upstream = 'nowhere'", "no upstream 'nowhere'" },
  } do
    it("refuses " .. name .. " with a reason", function()
      start(("on_request = function(req) %s end"):format(case[1]))
      assert.equal(500, http.get(proxy.port).status)
      proxy:wait_log "policy.lua:2"
      assert.matches(case[2], proxy:errors())
    end)
  end

  it("raises for a field that it does not have, and names ctx", function()
    start "on_request = function(req) return req.users end"
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "a request has no field 'users'; for a table of your own use req.ctx"
  end)

  it("keeps ctx for the hooks behind it, and for this request alone", function()
    start [[
      log = { access = false },
      on_request = function(req) req.ctx.n = (req.ctx.n or 0) + 1 req.ctx.path = req.path end,
      on_response = function(res, req) req.ctx.n = req.ctx.n + 1 res.headers["x-ctx"] = req.ctx.path .. " " .. req.ctx.n end,
      on_log = function(entry) jeton.log.info("ctx " .. entry.ctx.path .. " " .. entry.ctx.n) end ]]
    local c = http.connect(proxy.port)
    for _, path in ipairs { "/a", "/b", "/c" } do assert.equal(path .. " 2", c:request("GET", path).headers["x-ctx"]) end
    c:close()
    for _, path in ipairs { "/a", "/b", "/c" } do proxy:wait_log("ctx " .. path .. " 2") end
  end)

  it("may not be used when its exchange has ended", function()
    start [[ on_request = function(req)
      local headers = req.headers
      jeton.spawn(function()
        jeton.sleep "100ms"
        for name, f in pairs { field = function() return req.path end, header = function() return headers.host end, set = function() req.path = "/x" end,
            all = function() return headers:all "host" end, pairs = function() for _ in pairs(headers) do end end, body = function() return req:body() end,
            respond = function() req:respond(200) end, ctx = function() return req.ctx end } do
          jeton.log.info(name .. ": " .. select(2, pcall(f)))
        end
      end)
    end ]]
    local c = http.connect(proxy.port)
    assert.equal(200, c:request("GET", "/").status)
    for _, name in ipairs { "field", "header", "set", "all", "pairs", "body", "respond", "ctx" } do
      proxy:wait_log(name .. ": ")
      assert.matches(name .. ": [^\n]*this request is over: keep what you need of it in a local", proxy:errors())
    end
    assert.equal(200, c:request("GET", "/").status)
    c:close()
  end)
end)

describe("request headers", function()
  it("are read without regard to case, all of them, and in order", function()
    start [[ on_request = function(req)
      local order = {}
      for name, value in pairs(req.headers) do if name:lower():find "^x%-" and not name:lower():find "forwarded" then order[#order + 1] = name .. "=" .. value end end
      req:respond(200, nil, jeton.json.encode { one = req.headers["X-MANY"], all = req.headers:all "x-many", none = jeton.json.array(req.headers:all "x-none"),
        absent = req.headers["x-none"] == nil, order = order })
    end ]]
    local c = http.connect(proxy.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\nX-Many: 1\r\nx-other: o\r\nx-mANY: 2\r\nX-Many: \t3 \r\n\r\n"
    local got = said(c:read_response "GET")
    c:close()
    assert.equal("1", got.one)
    assert.same({ "1", "2", "3" }, got.all)
    assert.same({}, got.none)
    assert.is_true(got.absent)
    assert.same({ protocols.name "X-Many" .. "=1", "x-other=o", protocols.name "x-mANY" .. "=2", protocols.name "X-Many" .. "=3" }, got.order)
  end)

  it("go upstream as they were set: replaced whatever their case, removed by nil, added as written", function()
    start [[ on_request = function(req)
      req.headers["x-REPLACED"] = "new"
      req.headers["x-removed"] = nil
      req.headers["X-Added"] = 7
      req.headers["x-never-there"] = nil
    end ]]
    local c = http.connect(proxy.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\nX-Replaced: a\r\nX-Removed: 1\r\nx-replaced: b\r\nX-Removed: 2\r\nx-Kept: k\r\n\r\n"
    local got = seen(c:read_response "GET")
    c:close()
    local all = table.concat(got.names, " ")
    assert.equal("new", got.headers["x-replaced"])
    assert.equal(1, select(2, all:lower():gsub("x%-replaced", "")))
    assert.is_nil(got.headers["x-removed"])
    assert.equal("7", got.headers["x-added"])
    assert.matches(protocols.upstream == "h2" and "x%-added" or "X%-Added", all) -- HTTP/2 has no other case
    assert.matches("x%-" .. (protocols.upstream == "h2" and "kept" or protocols.name "Kept"), all)
  end)

  it("have lost their hop-by-hop fields before the script sees them", function()
    start [[ on_request = function(req)
      req:respond(200, nil, jeton.json.encode { mine = req.headers["x-mine"] == nil, connection = req.headers.connection == nil, te = req.headers.te == nil,
        proxy = req.headers["proxy-authorization"] == nil, forwarded = req.headers["x-forwarded-for"] })
    end, forwarded = "set" ]]
    local got = said(http.get(proxy.port, "/", { Connection = "x-mine, keep-alive", ["X-Mine"] = "1", ["Proxy-Authorization"] = "Basic eA==" }))
    assert.same({ mine = true, connection = true, te = true, proxy = true, forwarded = "127.0.0.1" }, got)
  end)

  it("let the host be chosen", function()
    start "on_request = function(req) req.headers.host = 'tenant.example:8080' end"
    assert.equal("tenant.example:8080", seen(http.get(proxy.port)).headers.host)
  end)

  it("let the host be what it was without a hook's", function()
    start "on_request = function(req) req.headers.host = 'tenant.example' req.headers.host = nil end"
    assert.equal(echo.upstream_url:match "//(.*)", seen(http.get(proxy.port)).headers.host)
  end)

  for name, case in pairs {
    ["a table"] = { "req.headers.x = {}", "header 'x': expected a string or a number, or nil for none, got a table" },
    ["a host that is none"] = { "req.headers.host = 'a b'", "host name" },
    ["NUL"] = { "req.headers.x = 'a\\0b'", "NUL" },
    ["a secret host"] = { "req.headers.host = jeton.secret.env 'PATH'", "header 'host': a secret cannot stand there" },
    ["credentials of a proxy"] = { "req.headers['proxy-authorization'] = 'Basic eA=='", "goes to no upstream" },
    ["Upgrade"] = { "req.headers.upgrade = 'x'", "set by jeton itself" },
    ["Expect"] = { "req.headers.expect = 'x'", "set by jeton itself" },
  } do
    it("refuse " .. name, function()
      start(("on_request = function(req) %s end"):format(case[1]))
      assert.equal(500, http.get(proxy.port).status)
      proxy:wait_log(case[2])
    end)
  end

  it("cannot be changed once the request has been sent", function()
    start "on_response = function(res, req) req.headers.x = '1' end"
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "on_response changed the request, which has been sent: call req:retry()"
  end)
end)

describe("req:respond", function()
  it("answers with status, fields and body, and nothing goes upstream", function()
    local raw = peers.raw [[ c:read "head" c:close() ]]
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", on_request = function(req)
      if req.path == "/plain" then return req:respond(403) end
      if req.path == "/text" then return req:respond(404, nil, "nothing here\n") end
      req:respond(201, { ["X-One"] = "1", ["set-cookie"] = { "a=1", "b=2" }, ["Content-Type"] = "application/json", n = 5 }, "{}")
    end }]]):format(raw.port))
    local c = http.connect(proxy.port)
    local res = c:request("POST", "/", nil, "a body that nobody reads")
    assert.equal(201, res.status)
    assert.equal("1", res.headers["x-one"])
    assert.equal("a=1, b=2", res.headers["set-cookie"])
    assert.equal("application/json", res.headers["content-type"])
    assert.equal("5", res.headers.n)
    assert.equal("{}", res.body)
    c:close()
    c = http.connect(proxy.port)
    res = c:request("GET", "/plain")
    assert.equal(403, res.status)
    assert.equal("0", res.headers["content-length"])
    res = c:request("GET", "/text")
    assert.equal("nothing here\n", res.body)
    assert.matches("^text/plain", res.headers["content-type"])
    assert.equal("", c:request("HEAD", "/text").body)
    assert.equal(403, c:request("GET", "/plain").status)
    c:close()
    assert.equal("", raw.received())
  end)

  for name, case in pairs {
    ["a status below 200"] = { "req:respond(100)", "from 200 to 599" },
    ["a status that is no number"] = { "req:respond('ok')", "expected a status from 200 to 599, got a string" },
    ["a field that frames"] = { "req:respond(200, { ['content-length'] = '5' })", "set by jeton itself" },
    ["a field with a line end"] = { "req:respond(200, { x = 'a\\r\\nb' })", "CR" },
    ["a secret"] = { "req:respond(200, { x = jeton.secret.value 's' })", "would reach the client" },
  } do
    it("refuses " .. name, function()
      start(("on_request = function(req) %s end"):format(case[1]))
      assert.equal(500, http.get(proxy.port).status)
      proxy:wait_log(case[2])
    end)
  end

  it("in on_response takes the place of the upstream's answer", function()
    start "on_response = function(res, req) if req.path == '/hide' then req:respond(404, { ['x-instead'] = '1' }, 'gone\\n') end end"
    local c = http.connect(proxy.port)
    local res = c:request("GET", "/hide")
    assert.equal(404, res.status)
    assert.equal("gone\n", res.body)
    assert.equal("1", res.headers["x-instead"])
    assert.equal(200, c:request("GET", "/show").status)
    c:close()
  end)
end)

describe("a request's body", function()
  local reader = [[ limits = { script_body = "32k" }, on_request = function(req)
    if req.path == "/replace" then req:set_body("<" .. req:body() .. ">") return end
    if req.path == "/drop" then req:set_body "" return end
    if req.path == "/read" then req.headers["x-length"] = tostring(#req:body() + #req:body()) return end
    if req.path == "/late" then return end
    local body, message, code = req:body()
    if not body then req:respond(413, { ["x-code"] = code }, message) end
  end, on_response = function(res, req)
    if req.path ~= "/late" then return end
    local body, message, code = req:body()
    res.headers["x-late"] = tostring(body) .. " " .. tostring(message) .. " " .. tostring(code)
  end ]]

  it("is read by the script, and goes upstream all the same", function()
    start(reader)
    local got = seen(http.request(proxy.port, "POST", "/read", nil, "12345"))
    assert.equal("12345", got.body)
    assert.equal("10", got.headers["x-length"])
    assert.equal("0", seen(http.get(proxy.port, "/read")).headers["x-length"])
  end)

  it("is gathered from pieces and chunks", function()
    start(reader)
    local c = http.connect(proxy.port)
    c:send "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"
    socket.sleep(0.05)
    c:send "lo\r\n3\r\n wo\r\n3\r\nrld\r\n0\r\n\r\n"
    local got = seen(c:read_response "POST")
    assert.equal("hello world", got.body)
    assert.equal("22", got.headers["x-length"])
    c:close()
  end)

  it("is asked for with 100 Continue", function()
    start(reader)
    local c = http.connect(proxy.port)
    c:send "POST /read HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert.equal(100, c:read_response("POST").status)
    c:send "abc"
    assert.equal("abc", seen(c:read_response "POST").body)
    c:close()
  end)

  it("is replaced, with its new length", function()
    start(reader)
    local c = http.connect(proxy.port)
    local got = seen(c:request("POST", "/replace", nil, "text"))
    assert.equal("<text>", got.body)
    assert.equal("6", got.headers["content-length"])
    assert.equal("", seen(c:request("POST", "/drop", nil, ("x"):rep(100000))).body)
    c:close() -- the reply may come before that body has, and then the connection ends
    assert.equal("<>", seen(http.get(proxy.port, "/replace")).body)
  end)

  for _, kind in ipairs { "length", "chunked" } do
    it("over the limit gives nil, a message and LIMIT when it has " .. kind, function()
      start(reader)
      local body, headers = ("x"):rep(40000), nil
      if kind == "chunked" then body, headers = ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body), { ["Transfer-Encoding"] = "chunked" } end
      local res = http.request(proxy.port, "POST", "/over", headers, body)
      assert.equal(413, res.status)
      assert.equal("LIMIT", res.headers["x-code"])
      assert.matches("limits.script_body", res.body)
      assert.equal(200, http.get(proxy.port, "/read").status)
    end)
  end

  it("that has gone upstream cannot be had any more, and says so", function()
    start(reader)
    local res = http.request(proxy.port, "POST", "/late", nil, ("x"):rep(100000))
    assert.matches("^nil .*call req:body%(%) in on_request", res.headers["x-late"])
  end)

  it("that breaks off ends its own exchange only", function()
    start(reader)
    local c = http.connect(proxy.port)
    c:send "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"
    c:close()
    process.poll(function() return proxy:status().workers[1].connections == 0 end)
    assert.equal("5", seen(http.request(proxy.port, "POST", "/read", nil, "12")).headers["x-length"] + 1 .. "")
  end)

  it("cannot be replaced in on_response", function()
    start "on_response = function(_, req) req:set_body 'x' end"
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "req:set_body works in on_request only"
  end)
end)

describe("a response in on_response", function()
  it("has its status and fields read and changed", function()
    local raw = peers.raw [[
      while c:read "head" do c:write "HTTP/1.1 200 Fine\r\nX-A: 1\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nX-Gone: g\r\nContent-Length: 2\r\n\r\nok" end ]]
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", on_response = function(res, req)
      res.headers["x-saw"] = res.status .. " " .. res.headers["x-a"] .. " " .. table.concat(res.headers:all "Set-Cookie", "+")
      res.headers["x-gone"], res.headers["X-A"] = nil, "2"
      res.status = 418
    end }]]):format(raw.port))
    local res = http.get(proxy.port)
    assert.equal(418, res.status)
    assert.equal("I'm a teapot", res.reason ~= "" and res.reason or "I'm a teapot")
    assert.equal("200 1 a=1+b=2", res.headers["x-saw"])
    assert.equal("2", res.headers["x-a"])
    assert.equal("a=1, b=2", res.headers["set-cookie"])
    assert.is_nil(res.headers["x-gone"])
    assert.equal("ok", res.body)
  end)

  it("has its body read and replaced, and the connection goes on", function()
    start [[ on_response = function(res, req)
      if req.path == "/read" then res.headers["x-length"] = tostring(#res:body()) end
      if req.path == "/replace" then res:set_body(res:body():upper()) end
      if req.path == "/instead" then res:set_body "instead" end
      if req.path == "/none" then res:set_body "" end
    end ]]
    local c = http.connect(proxy.port)
    local res = c:request("GET", "/read")
    assert.equal(tostring(#res.body), res.headers["x-length"])
    assert.matches('"METHOD":"GET"', c:request("GET", "/replace").body)
    assert.equal("instead", c:request("GET", "/instead").body)
    res = c:request("GET", "/none")
    assert.equal("", res.body)
    assert.equal("0", res.headers["content-length"])
    assert.equal("", c:request("HEAD", "/read").body)
    assert.equal("", c:request("HEAD", "/instead").body)
    assert.equal(200, c:request("GET", "/plain").status)
    c:close()
  end)

  it("with a body over the limit gives nil and LIMIT, and the body is relayed whole", function()
    start [[ limits = { script_body = "32k" }, on_response = function(res)
      local body, message, code = res:body()
      if not body then res.headers["x-code"] = code res.headers["x-message"] = message end
    end ]]
    local text = ("0123456789"):rep(30000)
    local c = http.connect(proxy.port)
    local res = c:request("POST", "/", nil, text)
    assert.equal("LIMIT", res.headers["x-code"])
    assert.matches("limits.script_body", res.headers["x-message"])
    assert.equal(text, seen(res).body)
    assert.equal(200, c:request("GET", "/").status)
    c:close()
  end)

  it("may not carry a secret, another version of the framing, or be changed once it has been sent", function()
    start [[ on_response = function(res, req)
      if req.path == "/secret" then res.headers.x = jeton.secret.value "s3cr3t" end
      if req.path == "/length" then res.headers["content-length"] = "1" end
      if req.path == "/status" then res.status = 99 end
      if req.path == "/field" then res.reason = "x" end
      if req.path == "/late" then jeton.spawn(function() jeton.sleep "50ms" res.status = 500 end) end
    end ]]
    for path, text in pairs { secret = "would reach the client", length = "set by jeton itself", status = "from 200 to 599", field = "res.reason cannot be set" } do
      assert.equal(500, http.get(proxy.port, "/" .. path).status)
      proxy:wait_log(text)
    end
    assert.equal(200, http.get(proxy.port, "/late").status)
    proxy:wait_log "this response is over"
    assert.is_nil(proxy:errors():find("s3cr3t", 1, true))
  end)

  it("is not called for replies that jeton makes", function()
    proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      on_response = function(res) res.status = 200 res:set_body "wrong" end }]]
    assert.equal(502, http.get(proxy.port).status)
  end)
end)

describe("waiting", function()
  it("in every hook holds up nobody else", function()
    proxy = jeton.start("local quick = 0 " .. policy [[
      on_request = function(req)
        if req.path ~= "/slow" then return end
        while quick < 10 do jeton.sleep "5ms" end
      end,
      on_response = function(res, req)
        if req.path ~= "/slow" then quick = quick + 1 return end
        while quick < 20 do jeton.sleep "5ms" end
        res.headers["x-asked"] = tostring(jeton.http.get(echo .. "/open").status)
      end,
      on_log = function(entry)
        if entry.path ~= "/slow" then return end
        jeton.sleep "50ms"
        jeton.log.info("logged " .. jeton.http.get(echo .. "/open").status)
      end ]])
    local slow = http.connect(proxy.port)
    slow:send "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ = 1, 20 do assert.equal(200, http.get(proxy.port, "/quick").status) end -- it waits for ten in each hook: so none may wait for it
    local res = slow:read_response "GET"
    assert.equal("200", res.headers["x-asked"])
    slow:close()
    proxy:wait_log "logged 200"
  end)

  it("in on_response loses no reply, whatever its framing and its size, nor the connection behind it", function()
    local raw = peers.raw [[
      local replies = { ["/none"] = "204 No Content\r\n\r\n", ["/zero"] = "200 OK\r\nContent-Length: 0\r\n\r\n", ["/not"] = "304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ["/length"] = "200 OK\r\nContent-Length: 5\r\n\r\nhello", ["/chunked"] = "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        ["/many"] = "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" .. ("10\r\n0123456789abcdef\r\n"):rep(60000) .. "0\r\n\r\n" }
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:write("HTTP/1.1 " .. replies[head:match "^%u+ (%S+)"])
      end ]]
    proxy = jeton.start(('return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", on_response = function() jeton.sleep "20ms" end }'):format(raw.port))
    local c = http.connect(proxy.port)
    for path, want in pairs { none = { 204, "" }, zero = { 200, "" }, ["not"] = { 304, "" }, length = { 200, "hello" }, chunked = { 200, "hello" } } do
      for _ = 1, 2 do
        local res = c:request("GET", "/" .. path, nil, nil, 5)
        assert.is_truthy(res, path)
        assert.same(want, { res.status, res.body })
      end
    end
    assert.equal(200, c:request("HEAD", "/zero", nil, nil, 5).status)
    c:send "GET /many HTTP/1.1\r\nHost: a\r\n\r\n"
    socket.sleep(0.3) -- a client that is slow to read: everything between is full
    local res = c:read_response("GET", 20)
    assert.is_nil(res.broken)
    assert.equal(("0123456789abcdef"):rep(60000), res.body)
    assert.equal(200, c:request("GET", "/length", nil, nil, 5).status)
    c:close()
  end)

  it("ends when the client leaves, and its to-be-closed variables run", function()
    start [[ on_request = function()
      local gone <close> = setmetatable({}, { __close = function() jeton.log.info "closed" end })
      jeton.sleep "1h"
    end ]]
    local c = http.connect(proxy.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return proxy:status().workers[1].requests == 1 end)
    c.sock:setoption("linger", { on = true, timeout = 0 })
    c:close()
    proxy:wait_log "closed"
    process.poll(function() return proxy:status().workers[1].client_aborts == 1 end)
  end)

  it("finds no body to wait for when the client has left, or has its reply: in a to-be-closed variable, and in on_log", function()
    proxy = jeton.start [[ local kept return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_request = function(req)
      kept = req
      if req.path == "/answered" then return req:respond(403) end
      local gone <close> = setmetatable({}, { __close = function() jeton.log.info("closing: " .. select(2, req:body())) end })
      jeton.sleep "1h"
    end, on_log = function() jeton.log.info("logging: " .. select(2, kept:body())) end } ]]
    local head = "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    local c = http.connect(proxy.port)
    c:send(head:format "answered")
    assert.equal(403, c:read_response("POST").status)
    c:close()
    proxy:wait_log "logging: the client has left, or has its reply"
    c = http.connect(proxy.port)
    c:send(head:format "left")
    process.poll(function() return proxy:status().workers[1].requests == 2 end)
    c.sock:setoption("linger", { on = true, timeout = 0 })
    c:close()
    proxy:wait_log "closing: the client has left, or has its reply"
  end)

  for name, case in pairs {
    ["a coroutine of the script's own"] = { "coroutine.wrap(function() jeton.sleep(0) end)()", "a coroutine of your own; call it outside" },
    ["a sort comparator"] = { "table.sort({ 3, 2, 1 }, function() jeton.sleep(0) end)", "a sort comparator" },
    ["a gsub function"] = { "(('x'):gsub('x', function() jeton.sleep(0) end))", "given to gsub" },
    ["a metamethod"] = { "local t = setmetatable({}, { __tostring = function() jeton.sleep(0) return '' end }) tostring(t)", "a metamethod" },
  } do
    it("in " .. name .. " raises and says what to do", function()
      start(("on_request = function() local _ = %s end"):format(case[1]:find "^local" and ("(function() " .. case[1] .. " end)()") or case[1]))
      assert.equal(500, http.get(proxy.port).status)
      proxy:wait_log "'sleep' cannot wait here"
      assert.is_truthy(proxy:errors():find(case[2], 1, true), proxy:errors())
    end)
  end

  for name, call in pairs {
    ["jeton.sleep"] = "jeton.sleep(1)", ["jeton.http"] = "jeton.http.get 'http://127.0.0.1:1/'", ["jeton.exec"] = "jeton.exec { 'true' }",
    ["jeton.file.read"] = "jeton.file.read '/dev/null'",
  } do
    it("at the top of the policy's file raises and names on_start and tasks: " .. name, function()
      local code, _, err = check(call .. "\n" .. policy "")
      assert.equal(78, code)
      assert.matches("policy.lua:1", err)
      assert.matches("on_start", err)
      assert.matches("tasks", err)
    end)
  end

  it("at the top is refused for what would go on running, too", function()
    for _, call in ipairs { "jeton.spawn(function() end)", "jeton.every(1, function() end)", "jeton.file.watch('/dev/null', function() end)" } do
      local code, _, err = check(call .. "\n" .. policy "")
      assert.equal(78, code, call)
      assert.matches("policy.lua:1", err)
      assert.matches("on_start", err)
    end
  end)
end)

describe("a global", function()
  it("that nobody declared raises where it is set, in a hook and at the top", function()
    start "on_request = function(req) counter = (counter or 0) + 1 end"
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "undeclared global 'counter'"
    local code, _, err = check("counter = 0\n" .. policy "")
    assert.equal(78, code)
    assert.matches("policy.lua:1: assignment to undeclared global 'counter'", err)
  end)
end)

describe("several upstreams", function()
  it("are chosen by name, with their own path before the request's", function()
    local other = peers.nginx [[ location / { return 200 "other $request_uri"; } ]]
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "%s/open", upstreams = { other = "http://127.0.0.1:%d/v1/" },
      on_request = function(req)
        local rest = req.path:match "^/other(/.*)$"
        if rest then req.upstream, req.path = "other", rest end
        if req.path == "/back" then req.upstream = "other" req.upstream = "default" end
      end,
      on_response = function(res, req) res.headers["x-upstream"] = req.upstream end,
      on_log = function(entry) jeton.log.info("went to " .. entry.upstream) end }]]):format(echo.upstream_url, other.port))
    local res = http.get(proxy.port, "/other/7?a=b")
    assert.equal("other /v1/7?a=b", res.body)
    assert.equal("other", res.headers["x-upstream"])
    assert.equal("/open/mine", seen(http.get(proxy.port, "/mine")).url)
    assert.equal("default", http.get(proxy.port, "/back").headers["x-upstream"])
    proxy:wait_log "went to other"
    proxy:wait_log "went to default"
  end)

  it("without a default one leave a request that chose none with a 500 that says so", function()
    proxy = jeton.start(('return { listen = "127.0.0.1:0", upstreams = { a = "%s/open" }, on_request = function(req) if req.path == "/a" then req.upstream = "a" end end }'):format(echo.upstream_url))
    assert.equal(200, http.get(proxy.port, "/a").status)
    assert.equal(500, http.get(proxy.port, "/b").status)
    proxy:wait_log "no default upstream"
  end)

  it("with several addresses take turns", function()
    local a = peers.nginx [[ location / { return 200 "a"; } ]]
    local b = peers.nginx [[ location / { return 200 "b"; } ]]
    proxy = jeton.start(('return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", "http://127.0.0.1:%d" } }'):format(a.port, b.port))
    local count = { a = 0, b = 0 }
    for _ = 1, 10 do
      local body = http.get(proxy.port).body
      count[body] = count[body] + 1
    end
    assert.same({ a = 5, b = 5 }, count)
    b.process:stop()
    for _ = 1, 6 do http.get(proxy.port) end -- finds out
    for _ = 1, 6 do assert.equal("a", http.get(proxy.port).body) end
  end)
end)

describe("on_error", function()
  it("shapes a reply, and is told what happened", function()
    proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      tokens = { api = { fetch = function() return nil, "no luck" end, wait = "10ms" } },
      on_request = function(req, tokens)
        req.ctx.path = req.path
        if req.path == "/token" then req.headers.authorization = tokens.api end
        if req.path == "/script" then error "on purpose" end
      end,
      on_error = function(req, err)
        jeton.sleep "10ms"
        req:respond(err.status == 502 and 504 or err.status, { ["x-code"] = err.code, ["x-retry"] = err.retry_after, ["x-ctx"] = req.ctx.path },
          jeton.json.encode { message = err.message, id = req.id })
      end }]]
    local c = http.connect(proxy.port)
    local res = c:request("GET", "/refused")
    assert.equal(504, res.status)
    assert.equal("ECONNREFUSED", res.headers["x-code"])
    assert.equal("/refused", res.headers["x-ctx"])
    res = c:request("GET", "/token")
    assert.equal(503, res.status)
    assert.equal("TOKEN_MISSING", res.headers["x-code"])
    assert.is_truthy(tonumber(res.headers["x-retry"]))
    assert.matches("no luck", res.body)
    res = c:request("GET", "/script")
    assert.equal(500, res.status)
    assert.equal("SCRIPT", res.headers["x-code"])
    assert.matches("policy.lua:%d+: on purpose", res.body)
    c:close()
  end)

  it("that does not respond, or raises, leaves the usual reply", function()
    proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_error = function(req) if req.path == "/raise" then error "worse" end end }]]
    local res = http.get(proxy.port, "/nothing")
    assert.equal(502, res.status)
    assert.matches("^502 Bad Gateway\nrequest %x+\n$", res.body)
    assert.equal(502, http.get(proxy.port, "/raise").status)
    proxy:wait_log "worse"
    res = http.get(proxy.port, "/json", { Accept = "application/json" })
    assert.equal("application/json", res.headers["content-type"])
    assert.equal(502, cjson.decode(res.body).status)
  end)

  it("is not asked about what a script responds", function()
    start "on_request = function(req) req:respond(503) end, on_error = function(req) req:respond(200) end"
    assert.equal(503, http.get(proxy.port).status)
  end)
end)

describe("a reply that is made here", function()
  --- Sends both at once; the second must be answered on the same connection.
  local function twice(first, want)
    local c = http.connect(proxy.port)
    c:send(first .. "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    local res = c:read_response "POST"
    assert.same({ want, nil }, { res.status, res.headers.connection })
    assert.equal(204, c:read_response("GET").status)
    c:close()
  end
  it("to a request whose body comes right behind its head keeps the connection", function()
    start [[ on_request = function(req) req:respond(403) end ]]
    local c, kept = http.connect(proxy.port), 0
    for _ = 1, 10 do -- as Python's http.client sends it
      c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
      c:send "hello"
      local res = c:read_response "POST"
      assert.equal(403, res.status)
      if res.headers.connection == "close" then -- a stall of this machine between the two was longer than it waits
        c:close()
        c = http.connect(proxy.port)
      else
        kept = kept + 1
      end
    end
    assert.is_true(kept >= 7, kept)
    c:close()
  end)
  local function post(path, framed) return "POST " .. path .. " HTTP/1.1\r\nHost: a\r\n" .. framed end
  local bodies = {
    ["a length"] = "Content-Length: 5\r\n\r\nhello", chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ["a length of 60,000 bytes"] = "Content-Length: 60000\r\n\r\n" .. ("x"):rep(60000),
  }

  for name, body in pairs(bodies) do
    it("to a request whose body came with it keeps the connection: " .. name, function()
      proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", limits = { replay_buffer = 0 },
        tokens = { api = { fetch = function() return nil, "none" end, missing = "fail" } },
        on_request = function(req, tokens)
          if req.path == "/next" then return req:respond(204) end
          if req.path == "/respond" then return req:respond(403, nil, "no") end
          if req.path == "/raise" then error "on purpose" end
          if req.path == "/token" then req.headers.authorization = "Bearer " .. tokens.api end
        end,
        on_error = function(req, err) if req.path == "/raise" then return req:respond(err.status, nil, tostring(req:body())) end end }]]
      twice(post("/respond", body), 403)
      twice(post("/token", body), 503)
      twice(post("/raise", body), 500)
    end)
  end
  it("to a request whose body has not come closes the connection, and does not wait for it", function()
    start [[ on_request = function(req) req:respond(403) end ]]
    local c = http.connect(proxy.port)
    c:send(post("/", "Content-Length: 5\r\n\r\nhel"))
    local res = c:read_response "POST"
    assert.same({ 403, "close" }, { res.status, res.headers.connection })
    c:close()
  end)
  it("to a request whose body is broken is a 400", function()
    start [[ on_request = function(req) req:respond(403) end ]]
    local c = http.connect(proxy.port)
    c:send(post("/", "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX"))
    local res = c:read_response "POST"
    assert.same({ 400, "close" }, { res.status, res.headers.connection })
    c:close()
  end)
  it("in place of the upstream's keeps the connection as well", function()
    start [[ on_response = function(res, req) if req.path == "/next" then req:respond(204) else res:set_body "mine" end end ]]
    twice(post("/", bodies.chunks), 200)
  end)
end)

describe("on_log", function()
  local function logged(what)
    proxy:wait_log(what)
    return proxy:errors()
  end

  it("is told of every exchange, once, when it has ended", function()
    start [[ log = { access = false }, on_log = function(e)
      jeton.log.info(("%s %s %s %s %s %s in=%d out=%d %s %s err=%s d=%s"):format(e.method, e.path, e.query, e.version, e.client, e.status, e.bytes_in, e.bytes_out, e.upstream,
        e.replayed, e.error, e.duration >= 0 and e.duration < 30))
    end, on_request = function(req) if req.path == "/own" then req:respond(202, nil, "x") end end ]]
    assert.equal(200, http.request(proxy.port, "POST", "/up?a=1", nil, "12345").status)
    local text = logged "POST /up"
    assert.matches("POST /up a=1 " .. protocols.version .. " 127.0.0.1 200 in=5 out=%d%d%d+ default false err=nil d=true", text)
    assert.equal(202, http.get(proxy.port, "/own").status)
    assert.matches("GET /own nil " .. protocols.version .. " 127.0.0.1 202 in=0 out=%d+ %S- ?false err=nil", logged "GET /own")
    assert.equal(1, select(2, proxy:errors():gsub("POST /up", "")))
  end)

  it("is told when the upstream failed, and when the client left first", function()
    local raw = peers.raw [[ c:read "head" c:sleep(60000) ]]
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", upstreams = { slow = "http://127.0.0.1:%d" },
      on_request = function(req) if req.path == "/slow" then req.upstream = "slow" end end,
      on_log = function(e) jeton.log.info(("ended %%s %%s %%s"):format(e.path, e.status, e.error)) end }]]):format(raw.port))
    assert.equal(502, http.get(proxy.port, "/refused").status)
    assert.matches("ended /refused 502 [^\n]*connection refused", logged "ended /refused")
    local c = http.connect(proxy.port)
    c:send "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return raw.received() ~= "" end)
    c.sock:setoption("linger", { on = true, timeout = 0 })
    c:close()
    assert.matches("ended /slow 499", logged "ended /slow")
  end)
end)

describe("on_start", function()
  it("runs once on the keeper, may wait and set tokens, and runs again after a reload", function()
    proxy = jeton.start { workers = 2, policy = policy [[
      tokens = { api = { wait = "5s" } },
      on_start = function()
        jeton.sleep "50ms"
        assert(jeton.http.get(echo .. "/open").status == 200)
        assert(jeton.tokens.api:set("from-the-start", { expires_in = 60 }))
        jeton.log.info "started"
      end,
      on_request = function(req, tokens) req.headers["x-token"] = tokens.api end ]] }
    assert.equal("from-the-start", seen(http.get(proxy.port)).headers["x-token"])
    proxy:wait_log "started"
    local res = proxy:control("POST", "/reload")
    assert.equal(200, res.status, res.body)
    process.poll(function() return select(2, proxy:errors():gsub("started", "")) == 2 end)
    socket.sleep(0.1)
    assert.equal(2, select(2, proxy:errors():gsub("started", "")))
  end)

  it("that raises is told with its line, and the policy serves", function()
    start "on_start = function() error 'not today' end"
    proxy:wait_log "policy.lua:2: not today"
    assert.equal(200, http.get(proxy.port).status)
  end)
end)
