--- Replies that refuse a token: which do (reject_on, a list or a function), what the fetch is shown of them, and whom one that repeats is charged to.
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

--- `answers`: Lua that gives the reply's status line and fields for `path` and `token`; the body is "fine".
local function answering(answers)
  return ([[
    while true do
      local head = c:read "head"
      if not head then return c:close() end
      local path, token = head:match "^%%u+ (%%S+)", head:match "Bearer (%%S+)"
      local status, fields = (function() %s end)()
      c:write("HTTP/1.1 " .. status .. "\r\n" .. (fields or "") .. "Content-Length: 4\r\n\r\nfine")
    end]]):format(answers)
end
--- `fetch`: the body of the token's fetch, `n` being its number; `token`: further keys of it.
local function policy(fetch, token, more)
  return ([[
local n = 0
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
  tokens = { api = { fetch = function(ctx) n = n + 1 %s end, %s } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
  %s }]]):format(upstream.port, fetch or "return { value = 'v' .. n, expires_in = 60 }", token or "", more or "")
end
local function start(answers, fetch, token, more)
  upstream = peers.raw(answering(answers))
  proxy = jeton.start(policy(fetch, token, more))
  return proxy
end
local function tokens_for(path)
  local found = {}
  for _, h in ipairs(wire.heads(upstream.received())) do
    if h.line:match "^%u+ (%S+)" == path then found[#found + 1] = h.fields.authorization:match "Bearer (%S+)" end
  end
  return table.concat(found, " ")
end
local function fetches() return proxy:status().tokens[1].fetches end

describe("reject_on, a function,", function()
  it("may refuse by any status: a redirect to a login", function()
    start([[ if token == "v1" then return "302 Found", "Location: /login?back=/a\r\n" end return "200 OK" ]], nil,
      [[ reject_on = function(res) return res.status == 302 and res.headers.location:find("/login", 1, true) ~= nil end ]])
    local res = http.get(proxy.port, "/a")
    assert.same({ 200, "v1 v2" }, { res.status, tokens_for "/a" })
  end)

  it("may refuse by a field of a 200", function()
    start([[ if token == "v1" then return "200 OK", "X-Session: expired\r\n" end return "200 OK" ]], nil,
      [[ reject_on = function(res) return res.headers["x-session"] == "expired" end ]])
    assert.is_nil(http.get(proxy.port, "/a").headers["x-session"])
    assert.equal("v1 v2", tokens_for "/a")
  end)

  it("takes the place of the list: a 401 that it does not refuse goes to the client", function()
    start([[ return "401 Unauthorized" ]], nil, [[ reject_on = function() end ]])
    assert.equal(401, http.get(proxy.port, "/a").status)
    assert.equal("v1", tokens_for "/a")
  end)

  if protocols.client == "h1" and protocols.upstream == "h1" then
    it("may refuse a 101", function()
      upstream = peers.raw [[
        local head = c:read "head"
        if head:find "Bearer v1\r\n" then
          c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
          return c:read(1)
        end
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
        c:read "head"
        c:close()]]
      proxy = jeton.start(policy(nil, "reject_on = function(res) return res.status == 101 end"))
      local c = http.connect(proxy.port)
      c:send "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
      assert.equal("fine", c:read_response("GET").body)
      c:close()
      assert.equal("v1 v2", tokens_for "/a")
    end)
  end

  for what, case in pairs {
    ["fails"] = { "error 'no idea'", "tokens.api.reject_on: policy.lua:3: no idea; the reply counts as not refused" },
    ["gives something else than a boolean"] = { "return res.status", "expected true (this reply refuses the token) or false, got a number" },
    ["waits"] = { "jeton.sleep(0)", "'sleep' cannot wait here: no task runs, so what calls it has to answer at once" },
    ["asks for the body"] = { "return res:body() == ''", "res:body: reject_on decides by status and headers, and changes nothing: the rest is for on_response" },
    ["changes the status"] = { "res.status = 200", "res.status: reject_on decides by status and headers, and changes nothing" },
    ["changes a field"] = { "res.headers.x = 'y'", "res.headers: reject_on decides by status and headers, and changes nothing" },
    ["does not end"] = { "while true do end", "tokens.api.reject_on: policy.lua:3: time budget of" },
  } do
    it("that " .. what .. " does not refuse, and is logged", function()
      start([[ return "401 Unauthorized" ]], nil, ("reject_on = function(res) %s end"):format(case[1]))
      assert.equal(401, http.get(proxy.port, "/a").status)
      proxy:wait_log(case[2])
      assert.equal("v1", tokens_for "/a")
    end)
  end

  it("is the new policy's behind a reload", function()
    start([[ return token == "v1" and "403 Forbidden" or "200 OK" ]], nil, [[ reject_on = function() return false end ]])
    assert.equal(403, http.get(proxy.port, "/a").status)
    proxy:reload_file(policy(nil, [[ reject_on = function(res) return res.status == 403 end ]]))
    proxy:control("POST", "/reload")
    assert.equal(200, http.get(proxy.port, "/b").status)
    assert.matches("^v1 v", tokens_for "/b")
  end)

  it("is checked", function()
    local function check(value)
      local path = process.write_file(process.temp_dir() .. "/policy.lua", ([[
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", tokens = { api = { fetch = function() end, reject_on = %s } } }]]):format(value))
      local _, out, err = jeton.run { "check", path }
      return out .. err
    end
    assert.matches("good", check "function(res) return res.status == 401 end")
    assert.truthy(check "401":find("reject_on: expected a list of statuses such as { 401 }, or a function of the reply", 1, true), check "401")
  end)
end)

describe("ctx.refusal", function()
  it("is the reply that refused: status and headers; nil before one", function()
    start([[ if token == "none" then return "401 Unauthorized", 'WWW-Authenticate: Bearer realm="r",scope="pull"\r\nX-Two: a\r\nX-Two: b\r\n' end return "200 OK" ]], [[
      local r = ctx.refusal
      if not r then return { value = "none", expires_in = 60 } end
      local scope = r.headers["WWW-Authenticate"]:match 'scope="(%w+)"'
      return { value = table.concat({ ctx.reason, r.status, scope, table.concat(r.headers:all "x-two", "+") }, "-"), expires_in = 60 } ]])
    assert.equal(200, http.get(proxy.port, "/a").status)
    assert.equal("none rejected-401-pull-a+b", tokens_for "/a")
  end)

  it("stays while the fetch fails, and is gone with the next value", function()
    start([[ return token == "v1" and "401 Unauthorized" or "200 OK" ]], [[
      jeton.log.info(("fetch %d refusal %s"):format(n, ctx.refusal and ctx.refusal.status))
      if n == 2 then return nil, "not now" end
      return { value = "v" .. n, expires_in = 60 } ]], "backoff = { min = '20ms', max = '20ms' }")
    assert.equal(200, http.get(proxy.port, "/a").status)
    assert.equal(200, (proxy:control("POST", "/refresh/api")).status)
    proxy:wait_log "fetch 4 refusal nil"
    for _, line in ipairs { "fetch 1 refusal nil", "fetch 2 refusal 401", "fetch 3 refusal 401" } do assert.truthy(proxy:errors():find(line, 1, true), line) end
  end)

  it("has the refused value hidden where the fetch says or logs what the reply repeats of it", function()
    start([[ if token:find "^first" then return "401 Unauthorized", "X-Said: Bearer " .. token .. " is no good\r\n" end return "200 OK" ]], [[
      if not ctx.refusal then return { value = "first-value", expires_in = 60 } end
      local said = ctx.refusal.headers["x-said"]
      jeton.log.info("it was said: " .. said)
      return nil, said ]])
    assert.equal(503, http.get(proxy.port, "/a").status)
    proxy:wait_log "it was said: Bearer *** is no good"
    proxy:wait_log "fetch failed: Bearer *** is no good"
    assert.is_nil(proxy:errors():find("first-value", 1, true))
    assert.is_nil(proxy:control("GET", "/status").body:find("first-value", 1, true))
  end)

  it("is of 8 KB at the most: what does not fit is left out", function()
    start([[ if token == "v1" then return "401 Unauthorized", "X-Large: " .. ("x"):rep(9000) .. "\r\nX-Small: y\r\n" end return "200 OK" ]], [[
      local h = ctx.refusal and ctx.refusal.headers
      return { value = "v" .. n .. (h and tostring(h["x-large"]) .. h["x-small"] or ""), expires_in = 60 } ]])
    assert.equal(200, http.get(proxy.port, "/a").status)
    assert.equal("v1 v2nily", tokens_for "/a")
  end)
end)

describe("a refusal that repeats with a fresh generation", function()
  local FORBIDDEN = [[ if path == "/forbidden" then return "403 Forbidden" end
    return token == "revoked" and "401 Unauthorized" or "200 OK" ]]

  it("is charged to its path: it causes no fetch for a while, and the others' refusals do", function()
    start(FORBIDDEN, nil, "reject_on = { 401, 403 }")
    assert.equal(403, http.get(proxy.port, "/forbidden").status)
    assert.equal("v1 v2", tokens_for "/forbidden")
    proxy:wait_log "an upstream refused generation 2, which was fetched because of a refusal: for 1 s refusals of /forbidden to 127.0.0.1 cause no fetch"
    assert.equal(403, http.get(proxy.port, "/forbidden").status)
    assert.equal(2, fetches())
    assert.equal(200, http.get(proxy.port, "/open").status)
    assert.equal("v2", tokens_for "/open") -- it was not taken from anybody
  end)

  it("does not hide a revocation from the others", function()
    start([[ if path == "/forbidden" then return "403 Forbidden" end
      return (token == "v1" or token == "v2") and "401 Unauthorized" or "200 OK" ]], nil, "reject_on = { 401, 403 }")
    assert.equal(403, http.get(proxy.port, "/forbidden").status)
    assert.equal(200, http.get(proxy.port, "/open").status)
    assert.equal("v2 v3", tokens_for "/open")
    assert.equal(3, fetches())
  end)

  it("is charged to its client, too", function()
    start(FORBIDDEN, nil, "reject_on = { 401, 403 }")
    assert.equal(403, http.get(proxy.port, "/forbidden").status)
    assert.equal(403, http.get(proxy.port, "/forbidden").status)
    assert.equal(2, fetches())
    if protocols.client == "h2" then return end -- a client of our own, for its address
    local other = socket.tcp()
    assert(other:bind("127.0.0.2", 0))
    assert(other:connect("127.0.0.1", proxy.port))
    other:send "GET /forbidden HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert.matches("^HTTP/1.1 403 ", other:receive "*a")
    other:close()
    assert.equal(3, fetches())
  end)

  it("of many paths costs a few fetches, and then one now and then", function()
    start([[ return "403 Forbidden" ]], nil, "reject_on = { 403 }")
    for i = 1, 40 do assert.equal(403, http.get(proxy.port, "/" .. i).status) end
    local n = fetches()
    assert.is_true(n >= 9 and n <= 16, n)
  end)
end)
