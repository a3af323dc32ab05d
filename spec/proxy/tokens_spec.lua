--- The keys of a token, one by one, and what a script can ask of its handle. Fetches are scripts' own: the issuer is a file that a spec writes, or a counter.
local cjson = require "cjson"
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local echo, proxy

setup(function() echo = peers.world() end)
teardown(function() echo:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- `token`: the table of token `api` as Lua text; `more`: further keys; `top`: lines before the table. `/x` puts the token into the header x and echoes.
local function start(token, more, top)
  proxy = jeton.start(([[
local echo = %q
local n = 0
%s
return { listen = "127.0.0.1:0", upstream = echo .. "/open", tokens = { api = %s },
  on_request = function(req, tokens)
    if req.path == "/plain" then return end
    req.headers.x = "<" .. tokens.api .. ">"
  end,
  %s }]]):format(echo.upstream_url, top or "", token, more or ""))
  return proxy
end

local function header(res, name)
  assert.equal(200, res.status, res.body)
  local list = cjson.decode(res.body).headers
  for i = 1, #list, 2 do
    if list[i]:lower() == (name or "x") then return list[i + 1] end
  end
end
local function token_status(name)
  for _, t in ipairs(proxy:status().tokens) do
    if t.name == (name or "api") then return t end
  end
end
--- A fetch that hands out v1, v2, …; `fields` go into its result.
local function counting(fields) return ("fetch = function(ctx) n = n + 1 return { value = 'v' .. n, %s } end,"):format(fields) end

describe("refresh_at", function()
  for name, case in pairs {
    ["a fraction"] = { "refresh_at = 0.5, jitter = 0", 10, 5 },
    ["the default of 0.8"] = { "jitter = 0", 10, 8 },
    ["a time before the end"] = { 'refresh_at = "60s", jitter = 0', 100, 40 },
    ["jitter"] = { "refresh_at = 0.5, jitter = 0.2", 100, 44.5, 6.5 },
  } do
    it("plans the next fetch by " .. name, function()
      start(("{ %s %s }"):format(counting("expires_in = " .. case[2]), case[1]))
      assert.equal("<v1>", header(http.get(proxy.port)))
      local t = token_status()
      assert.equal("valid", t.state)
      assert.is_true(math.abs(t.next_attempt_in - case[3]) < (case[4] or 1.5), t.next_attempt_in)
    end)
  end

  it("comes before a request meets the old token's end", function()
    start(("{ %s refresh_at = 0.5 }"):format(counting "expires_in = 1"))
    local seen, deadline = {}, socket.gettime() + 2.2
    local c = http.connect(proxy.port)
    while socket.gettime() < deadline do
      seen[header(c:request("GET", "/"))] = true
      socket.sleep(0.02)
    end
    c:close()
    assert.is_true(seen["<v1>"] and seen["<v2>"] and seen["<v3>"])
  end)
end)

describe("leeway", function()
  it("is taken off the life, a tenth of it at the most", function()
    start("{ " .. counting "expires_in = 100" .. ' leeway = "5s" }')
    assert.equal("<v1>", header(http.get(proxy.port)))
    local left = token_status().expires_in
    assert.is_true(left > 90 and left <= 95, left)
  end)
end)

describe("missing", function()
  local failing = 'fetch = function() return nil, "closed today" end, backoff = { min = "1h", max = "1h" },'

  it('"wait" waits for `wait`, then says 503 with Retry-After', function()
    start('{ fetch = function() jeton.sleep "5s" return nil, "closed today" end, wait = "300ms" }')
    local t0 = socket.gettime()
    local res = http.get(proxy.port)
    local took = socket.gettime() - t0
    assert.equal(503, res.status)
    assert.is_true(tonumber(res.headers["retry-after"]) >= 1)
    assert.is_true(took >= 0.25 and took < 3, took)
    assert.equal(200, http.get(proxy.port, "/plain").status)
  end)

  it('"wait" says 503 at once when the next attempt comes too late', function()
    start("{ " .. failing .. ' wait = "30s" }')
    local t0 = socket.gettime()
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.is_true(socket.gettime() - t0 < 5)
    assert.is_true(tonumber(res.headers["retry-after"]) > 1000)
    proxy:wait_log "closed today"
    assert.is_nil(res.body:find("closed today", 1, true))
    assert.equal(200, http.get(proxy.port, "/plain").status)
  end)

  it('"wait" goes on as soon as the token is there', function()
    start('{ wait = "10s", fetch = function() jeton.sleep "200ms" return { value = "late", expires_in = 60 } end }')
    local t0 = socket.gettime()
    assert.equal("<late>", header(http.get(proxy.port)))
    assert.is_true(socket.gettime() - t0 < 3)
  end)

  it('"fail" says 503 at once', function()
    start('{ missing = "fail", wait = "10s", fetch = function() jeton.sleep "1s" return { value = "late", expires_in = 60 } end }')
    local t0 = socket.gettime()
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.is_truthy(tonumber(res.headers["retry-after"]))
    assert.is_true(socket.gettime() - t0 < 0.8)
    process.poll(function() return http.get(proxy.port).status == 200 end)
  end)

  it('"pass" sends the request without it, and with it when it is there', function()
    start('{ missing = "pass", fetch = function() jeton.sleep "300ms" return { value = "late", expires_in = 60 } end }')
    local res = http.get(proxy.port, "/", { x = "the client's" })
    assert.is_nil(header(res))
    assert.is_nil(res.body:find("the client's", 1, true))
    process.poll(function() return header(http.get(proxy.port)) == "<late>" end)
  end)
end)

describe("waiters", function()
  it("leave when their client leaves", function()
    start('{ wait = "1h" }')
    local clients = {}
    for i = 1, 5 do
      clients[i] = http.connect(proxy.port)
      clients[i]:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    process.poll(function() return token_status().waiters == 5 end)
    for i = 1, 5 do
      clients[i].sock:setoption("linger", { on = true, timeout = 0 })
      clients[i]:close()
    end
    process.poll(function() return token_status().waiters == 0 end, 5, "the waiters to leave")
    process.poll(function() return proxy:status().workers[1].client_aborts == 5 end)
  end)

  it("are bounded by limits.waiters: one more gets 503 at once", function()
    start('{ wait = "1h" }', "limits = { waiters = 2 },")
    local clients = {}
    for i = 1, 2 do
      clients[i] = http.connect(proxy.port)
      clients[i]:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    process.poll(function() return token_status().waiters == 2 end)
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.is_truthy(tonumber(res.headers["retry-after"]))
    proxy:wait_log "too many requests wait for a token"
    assert.equal(200, http.get(proxy.port, "/plain").status)
    for i = 1, 2 do
      clients[i].sock:setoption("linger", { on = true, timeout = 0 }) -- a FIN alone is a client that still waits
      clients[i]:close()
    end
  end)

  it("are all woken, once", function()
    start('{ wait = "10s" }', [[ on_start = function() while true do
      local gone = jeton.file.exists(go)
      if gone then assert(jeton.tokens.api:set("pushed", { expires_in = 60 })) return end
      jeton.sleep "20ms"
    end end, ]], ("local go = %q"):format(process.temp_dir() .. "/go"))
    local go = process.read_file(proxy.policy):match 'local go = "([^"]+)"'
    local clients = {}
    for i = 1, 30 do
      clients[i] = http.connect(proxy.port)
      clients[i]:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    process.poll(function() return token_status().waiters == 30 end)
    process.write_file(go, "")
    for i = 1, 30 do
      assert.equal("<pushed>", header(clients[i]:read_response "GET"))
      clients[i]:close()
    end
    assert.equal(0, token_status().waiters)
  end)
end)

describe("reject_on", function()
  -- An upstream that refuses what it is told to refuse: the statuses of its replies stand in the token.
  local refusing = [[ local http = "HTTP/1.1 %%s X\r\nContent-Length: 2\r\n\r\nok"
    while true do
      local head = c:read "head"
      if not head then return c:close() end
      c:write(http:format(head:find("v1", 1, true) and %d or 200))
    end ]]

  local function refuser(status, token)
    local raw = peers.raw(refusing:format(status))
    proxy = jeton.start(([[local n = 0
      return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { api = { fetch = function() n = n + 1 return { value = "v" .. n, expires_in = 60 } end, %s } },
      on_request = function(req, tokens) req.headers.x = tokens.api end }]]):format(raw.port, token))
    return raw
  end

  it("is 401 by default: another status is relayed", function()
    refuser(401, "")
    assert.equal(200, http.get(proxy.port).status)
    assert.equal(2, token_status().generation)
    assert.equal(1, token_status().rejections)
    proxy:finish()
    refuser(403, "")
    assert.equal(403, http.get(proxy.port).status)
    assert.equal(1, token_status().generation)
  end)

  it("may name other statuses", function()
    refuser(403, "reject_on = { 401, 403 }")
    assert.equal(200, http.get(proxy.port).status)
    assert.equal(1, proxy:status().workers[1].replays)
  end)

  it("may be empty", function()
    refuser(401, "reject_on = {}")
    assert.equal(401, http.get(proxy.port).status)
    assert.equal(1, token_status().generation)
  end)

  for name, framing in pairs { ["a length"] = "Content-Length: 10", chunks = "Transfer-Encoding: chunked" } do
    it("replays a request whose body, with " .. name .. ", has not come to its end: the rest follows", function()
      local raw = peers.raw [[ local head = c:read "head"
        if head:find("v1", 1, true) then
          c:write "HTTP/1.1 401 X\r\nContent-Length: 2\r\n\r\nno"
          while c:read(1) do end
          return c:close()
        end
        local body = c:read(head:find "chunked" and #"5\r\nfirst\r\n5\r\nother\r\n0\r\n\r\n" or 10):gsub("5\r\n", ""):gsub("\r\n", ""):gsub("0", "")
        c:write(("HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body)) ]]
      proxy = jeton.start(([[local n = 0
        return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { api = { fetch = function() n = n + 1 return { value = "v" .. n, expires_in = 60 } end } },
        on_request = function(req, tokens) req.headers.x = tokens.api end }]]):format(raw.port))
      local chunked = name == "chunks"
      local c = http.connect(proxy.port)
      c:send("POST / HTTP/1.1\r\nHost: a\r\n" .. framing .. "\r\n\r\n" .. (chunked and "5\r\nfirst\r\n" or "first"))
      process.poll(function() return raw.received():find("v2", 1, true) end, 5, "the replay")
      c:send(chunked and "5\r\nother\r\n0\r\n\r\n" or "other")
      local res = c:read_response "POST"
      assert.equal("200 firstother", res.status .. " " .. res.body)
      c:close()
    end)
  end

  it("replays an upload of any size whose client asks first (Expect: 100-continue), and tells it to go on once", function()
    local size = 300000 -- limits.replay_buffer is 64 KiB
    local raw = peers.raw(([[ local head = c:read "head"
      if head:find("v1", 1, true) then c:write "HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n" c:read(1) return c:close() end
      c:write "HTTP/1.1 100 Continue\r\n\r\n"
      c:write(("HTTP/1.1 200 X\r\nContent-Length: 6\r\n\r\n%%d"):format(#c:read(%d))) ]]):format(size))
    proxy = jeton.start(([[local n = 0
      return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { api = { fetch = function() n = n + 1 return { value = "v" .. n, expires_in = 60 } end } },
      on_request = function(req, tokens) req.headers.x = tokens.api end }]]):format(raw.port))
    local c = http.connect(proxy.port)
    c:send(("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"):format(size))
    assert.equal(100, c:read_response("POST").status)
    c:send(("x"):rep(size))
    local res = c:read_response "POST"
    assert.equal("200 300000", res.status .. " " .. res.body)
    assert.equal(2, select(2, raw.received():gsub("Expect: 100%-continue", "")))
    c:close()
  end)

  it("takes nothing from a token without a fetch: there is nobody to ask for another, and other paths may accept it", function()
    local raw = peers.raw [[ while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:write(("HTTP/1.1 %s X\r\nContent-Length: 2\r\n\r\nok"):format(head:find("GET /closed", 1, true) and 401 or 200))
      end ]]
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { api = {} },
      on_start = function() jeton.tokens.api:set("pushed", { expires_in = 300 }) end,
      on_request = function(req, tokens) req.headers.x = tokens.api end }]]):format(raw.port))
    assert.equal(200, http.get(proxy.port).status)
    for _ = 1, 2 do assert.equal(401, http.get(proxy.port, "/closed").status) end
    assert.equal(200, http.get(proxy.port).status)
    assert.equal(1, token_status().rejections)
    assert.is_true(token_status().valid)
  end)

  it("with a refresh that fails gives 503, not the upstream's 401", function()
    local raw = peers.raw(refusing:format(401))
    proxy = jeton.start(([[local n = 0
      return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { api = { wait = "200ms",
        fetch = function(ctx) n = n + 1 if n > 1 then return nil, "reason " .. ctx.reason end return { value = "v1", expires_in = 60 } end } },
      on_request = function(req, tokens) req.headers.x = tokens.api end }]]):format(raw.port))
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.is_truthy(tonumber(res.headers["retry-after"]))
    proxy:wait_log "reason rejected"
  end)
end)

describe("wait", function()
  it("counts anew for a replay: a request that has waited once, and an upstream that was slow to refuse, leave nothing of it short", function()
    local raw = peers.raw [[ local http = "HTTP/1.1 %s X\r\nContent-Length: 2\r\n\r\nok"
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:sleep(1500)
        c:write(http:format(head:find("v1", 1, true) and 401 or 200))
      end ]]
    proxy = jeton.start(([[local n = 0
      return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
        tokens = { api = { wait = "1s", fetch = function() n = n + 1 jeton.sleep(0.3) return { value = "v" .. n, expires_in = 60 } end } },
        on_request = function(req, tokens) req.headers.x = tokens.api end }]]):format(raw.port))
    assert.equal(200, http.get(proxy.port).status)
    assert.equal(2, token_status().generation)
    assert.equal(2, proxy:status().workers[1].token_waits)
  end)
end)

describe("hosts", function()
  it("are the upstreams by default: jeton.http to anybody else gives TOKEN_AUDIENCE, and nothing is sent", function()
    local other = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" ]]
    start("{ " .. counting "expires_in = 60" .. " }", ([[
      on_response = function(res, req, tokens)
        local ok, message, code = jeton.http.get("http://127.0.0.1:%d/", { headers = { authorization = "Bearer " .. tokens.api } })
        res.headers["x-other"] = tostring(ok) .. " " .. tostring(code)
        local own = jeton.http.get(echo .. "/open", { headers = { authorization = "Bearer " .. tokens.api } })
        res.headers["x-own"] = tostring(own and own.body:find("Bearer v1", 1, true) ~= nil)
      end, ]]):format(other.port))
    local res = http.get(proxy.port)
    assert.equal("nil TOKEN_AUDIENCE", res.headers["x-other"])
    assert.equal("true", res.headers["x-own"])
    assert.is_nil(other.received():find("v1", 1, true))
  end)

  it("when they are named are the only ones: the upstream itself gets nothing", function()
    start("{ " .. counting "expires_in = 60" .. ' hosts = { "api.example.com", "http://127.0.0.1:1" } }')
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "TOKEN_AUDIENCE"
    assert.equal(0, echo:stats().accepted)
  end)

  it("are told apart by upstream: a request to another one of the policy may not carry it when hosts say so", function()
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "%s/open", upstreams = { other = "http://localhost:%d/open" },
      tokens = { api = { fetch = function() return { value = "v1", expires_in = 60 } end, hosts = { "%s" } } },
      on_request = function(req, tokens)
        if req.path == "/other" then req.upstream = "other" end
        req.headers.x = "<" .. tokens.api .. ">"
      end }]]):format(echo.upstream_url, echo.upstream, echo.upstream_url))
    assert.equal("<v1>", header(http.get(proxy.port)))
    assert.equal(500, http.get(proxy.port, "/other").status)
  end)
end)

describe("reveal", function()
  local revealing = [[ on_response = function(res, req, tokens)
    local value, message, code = tokens.api:reveal()
    res.headers["x-revealed"] = tostring(value) .. " " .. tostring(code)
  end, ]]
  it("is refused unless the token says so", function()
    start("{ " .. counting "expires_in = 60" .. " }", revealing)
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "reveal = true"
  end)
  it("gives the bytes when the token says so", function()
    start("{ " .. counting "expires_in = 60" .. " reveal = true }", revealing)
    assert.equal("v1 nil", http.get(proxy.port).headers["x-revealed"])
  end)
end)

describe("fields", function()
  it("belong to the value that they came with, and stay opaque", function()
    start('{ fetch = function() n = n + 1 return { value = "v" .. n, expires_in = 60, fields = { session = "s" .. n, key = jeton.secret.value("k" .. n) } } end }', [[
      on_response = function(res, req, tokens) res.headers["x-text"] = tostring(tokens.api:field "session") end, ]],
      [[local old = nil]])
    local policy = process.read_file(proxy.policy):gsub('req.headers.x = "<"', 'req.headers.session = tokens.api:field "session" req.headers.key = "k:" .. tokens.api:field "key" req.headers.x = "<"', 1)
    proxy:reload_file(policy)
    assert.equal(200, proxy:control("POST", "/reload").status)
    local res = http.get(proxy.port)
    assert.equal("<v1>", header(res))
    assert.equal("s1", header(res, "session"))
    assert.equal("k:k1", header(res, "key"))
    assert.matches("secret<", res.headers["x-text"])
    assert.is_nil(res.headers["x-text"]:find("s1", 1, true))
  end)

  it("that the fetch did not return leave the request unsent, with a reason", function()
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "%s/open", tokens = { api = { fetch = function() return { value = "v", expires_in = 60 } end, wait = "300ms" } },
      on_request = function(req, tokens) req.headers.x = tokens.api:field "sesion" end }]]):format(echo.upstream_url))
    assert.equal(503, http.get(proxy.port).status)
    proxy:wait_log "no such field"
  end)
end)

describe("set", function()
  local setter = [[ on_response = function(res, req, tokens)
      if req.path ~= "/plain" then return end
      local value, options = req.query:match "value=([^&]*)", load("return " .. (req.headers["x-options"] or "{}"))()
      local ok, message, code = tokens.api:set(value, options)
      res.headers["x-set"] = tostring(ok) .. " " .. tostring(message) .. " " .. tostring(code)
    end, ]]
  local function set(value, options) return http.get(proxy.port, "/plain?value=" .. value, { ["X-Options"] = options }).headers["x-set"] end

  it("publishes a value at once, also without a fetch", function()
    start("{}", setter)
    assert.equal("true nil nil", set("pushed", "{ expires_in = 60 }"))
    assert.equal("<pushed>", header(http.get(proxy.port)))
    assert.equal("true nil nil", set("newer", "{ expires_in = '60' }"))
    assert.equal("<newer>", header(http.get(proxy.port)))
    assert.equal(2, token_status().generation)
    assert.equal("true nil nil", set("dated", ("{ expires_at = %d }"):format(os.time() + 100)))
    assert.is_true(token_status().expires_in > 80 and token_status().expires_in <= 100)
  end)

  it("refuses nonsense with nil, a message and a code, and the old value stays", function()
    start("{}", setter)
    assert.equal("true nil nil", set("good", "{ expires_in = 60 }"))
    for options, what in pairs {
      ["{}"] = "lifetime", ["{ expires_in = 0 }"] = "expires_in", ["{ expires_in = -1 }"] = "expires_in", ["{ expires_in = 'soon' }"] = "expires_in",
      ["{ expires_in = {} }"] = "expires_in", ["{ expires_at = 5 }"] = "past", ["{ expires_at = '2090-01-01 00:00' }"] = "without a zone", ["{ expires_in = 0/0 }"] = "expires_in", ["{ expires_in = math.huge }"] = "expires_in",
    } do
      local said = set("bad", options)
      assert.matches("^nil .*" .. what, said)
      assert.matches("EINVAL$", said)
    end
    assert.matches("^nil", set("", "{ expires_in = 60 }"))
    assert.equal("<good>", header(http.get(proxy.port)))
  end)

  it("ends: a pushed value is not sent after its life", function()
    start('{ wait = "50ms" }', setter)
    assert.equal("true nil nil", set("short", "{ expires_in = 0.5 }"))
    assert.equal("<short>", header(http.get(proxy.port)))
    process.poll(function() return http.get(proxy.port).status == 503 end)
    assert.equal("expired", token_status().state)
  end)
end)

describe("refresh and wait", function()
  it("await the outcome, join what is under way, and say what failed", function()
    start('{ fetch = function(ctx) n = n + 1 jeton.sleep "100ms" if n == 3 then return nil, "third time" end return { value = "v" .. n .. ctx.reason, expires_in = 60 } end }', [[
      on_response = function(res, req, tokens)
        if req.path ~= "/plain" then return end
        local done = 0
        for _ = 1, 3 do jeton.spawn(function() tokens.api:refresh() done = done + 1 end) end
        local ok, message, code = tokens.api:refresh()
        while done < 3 do jeton.sleep "5ms" end
        res.headers["x-refresh"] = tostring(ok) .. " " .. tostring(message) .. " " .. tostring(code)
      end, ]])
    assert.equal("<v1first>", header(http.get(proxy.port)))
    assert.equal("true nil nil", http.get(proxy.port, "/plain").headers["x-refresh"])
    assert.equal("<v2manual>", header(http.get(proxy.port)))
    assert.equal(2, token_status().fetches)
    local said = http.get(proxy.port, "/plain").headers["x-refresh"]
    assert.matches("^nil token api: .*third time", said)
    assert.equal("<v2manual>", header(http.get(proxy.port)))
  end)

  it("wait gives up after its timeout", function()
    start("{}", [[ on_response = function(res, req, tokens)
      local ok, message, code = tokens.api:wait "100ms"
      res.headers["x-wait"] = tostring(ok) .. " " .. tostring(code)
    end, ]])
    assert.equal("nil TOKEN_MISSING", http.get(proxy.port, "/plain").headers["x-wait"])
  end)
end)

describe("a fetch", function()
  it("is told why it runs, how often it was tried, and what was before", function()
    start('{ refresh_at = 0.3, jitter = 0, backoff = { min = "10ms", max = "20ms" }, fetch = function(ctx) n = n + 1 ' ..
      'jeton.log.info(("fetch %d %s %d %s"):format(n, ctx.reason, ctx.attempt, ctx.previous and ctx.previous.generation or "none")) ' ..
      'if n == 1 or n == 3 then error "on purpose" end ' ..
      'local before = ctx.previous and ctx.previous:field() return { value = before and (before .. "+") or "v", expires_in = n == 2 and 1 or 60 } end }')
    for _, line in ipairs { "fetch 1 first 1 none", "fetch 2 first 2 none", "fetch 3 expiring 1 1", "fetch 4 expiring 2 1" } do proxy:wait_log(line) end
    process.poll(function() return header(http.get(proxy.port)) == "<v+>" end)
  end)

  for name, case in pairs {
    ["expires_at as epoch seconds"] = { "expires_at = os.time() + 100", 100 },
    ["expires_at as a string"] = { "expires_at = tostring(os.time() + 100)", 100 },
    ["expires_at as a date of ISO 8601"] = { "expires_at = os.date('!%Y-%m-%dT%H:%M:%S.5Z', os.time() + 100)", 100 },
    ["expires_at as a date of HTTP"] = { "expires_at = os.date('!%a, %d %b %Y %H:%M:%S GMT', os.time() + 100)", 100 },
    ["expires_in as a string"] = { "expires_in = '3600'", 3600 },
    ["the earlier of both"] = { "expires_in = 3600, expires_at = os.time() + 100", 100 },
  } do
    it("may say " .. name, function()
      start("{ " .. counting(case[1]) .. " }")
      assert.equal("<v1>", header(http.get(proxy.port)))
      local left = token_status().expires_in
      assert.is_true(left > case[2] - 10 and left <= case[2], left)
    end)
  end

  for name, case in pairs {
    ["nothing"] = { "return", "policy.lua:4: the fetch returned nothing: expected { value = …, expires_in = seconds }" },
    ["a bare string"] = { "return 'token'", "bare string" },
    ["no value"] = { "return { expires_in = 60 }", "without a value" },
    ["an empty value"] = { "return { value = '', expires_in = 60 }", "" },
    ["no lifetime"] = { "return { value = 'v' }", "no lifetime" },
    ["a date of the past"] = { "return { value = 'v', expires_at = '2020-01-01T00:00:00Z' }", "expires_at is in the past" },
    ["a date without a zone"] = { "return { value = 'v', expires_at = '2090-01-01T00:00:00' }", 'expires_at: a date without a zone is no moment: with "Z" behind it, it is UTC' },
    ["a life that is a date"] = { "return { value = 'v', expires_in = '2090-01-01T00:00:00Z' }", "expires_in: a string that is not a decimal number" },
    ["an end that is no date"] = { "return { value = 'v', expires_at = 'soon' }", "expires_at: expected a date such as" },
    ["milliseconds of the past"] = { "return { value = 'v', expires_at = 12345 }", "past" },
    ["a lifetime of 0"] = { "return { value = 'v', expires_in = 0 }", "expires_in is not positive" },
    ["a negative lifetime"] = { "return { value = 'v', expires_in = -3600 }", "expires_in is not positive" },
    ["a negative lifetime as a string"] = { "return { value = 'v', expires_in = '-3600' }", "" },
    ["a lifetime that is no number"] = { "return { value = 'v', expires_in = 'soon' }", "" },
    ["a lifetime without end"] = { "return { value = 'v', expires_in = math.huge }", "expires_in is not a finite number" },
    ["an expiry of a clock that is behind"] = { "return { value = 'v', expires_at = os.time() - 300 }", "expires_at is in the past" },
    ["a value with a line end behind it"] = { "return { value = 'v\\r\\n', expires_in = 60 }", "a line end at its edge" },
    ["a value of blanks"] = { "return { value = ' \\n', expires_in = 60 }", "nothing but white space" },
    ["a value that is a number"] = { "return { value = 5, expires_in = 60 }", "value: expected a string or a secret, got number" },
    ["an error that is a table"] = { "error {}", "" },
    ["an endless loop"] = { "while true do end", "time budget" },
  } do
    it("that gives " .. name .. " has failed, with a reason, and nothing is sent", function()
      start(("{ wait = '20ms', backoff = { min = '1h', max = '1h' }, fetch = function() %s end }"):format(case[1]))
      process.poll(function() return token_status().failures >= 1 or token_status().generation >= 1 end)
      local res = http.get(proxy.port)
      assert.equal(503, res.status)
      proxy:wait_log "token api: "
      assert.is_truthy(proxy:errors():find(case[2], 1, true), proxy:errors())
    end)
  end

  for name, value in pairs { ["DEL"] = "v\\127", ["a control byte"] = "v\\1", ["a line end inside"] = "v\\r\\nx: y", ["any bytes"] = "\\0\\255\\10\\128" } do
    it("may give a value with " .. name .. ", which computes, and which no header takes", function()
      start(("{ fetch = function() return { value = '%s', expires_in = 60 } end }"):format(value), nil, nil)
      process.poll(function() return token_status().generation == 1 end)
      assert.equal(500, http.get(proxy.port).status)
      proxy:wait_log "a secret's bytes may not stand there (base64 makes text)"
      proxy:finish()
      proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "%s/open",
        tokens = { api = { fetch = function() return { value = '%s', expires_in = 60 } end } },
        on_request = function(req, tokens)
          tokens.api:wait(5)
          req.headers.x = jeton.crypto.hex(tokens.api) .. jeton.base64.encode(tokens.api)
          assert(jeton.crypto.equal(assert(jeton.crypto.hash("md5", tokens.api)), jeton.crypto.hash("md5", '%s')))
        end }]]):format(echo.upstream_url, value, value))
      local bytes = load("return '" .. value .. "'")()
      assert.equal(bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. require "mime".b64(bytes), header(http.get(proxy.port)))
    end)
  end

  it("has a limit of its own", function()
    start('{ timeout = "200ms", wait = "50ms", backoff = { min = "10ms", max = "10ms" }, fetch = function() n = n + 1 if n == 1 then jeton.sleep "1h" end return { value = "v" .. n, expires_in = 60 } end }')
    process.poll(function() return http.get(proxy.port).status == 200 end)
    assert.equal("<v2>", header(http.get(proxy.port)))
    assert.equal(1, token_status().failures)
  end)

  it("that another token's fetch waits for does not hold it up", function()
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "%s/open",
      timeouts = { drain = "1s" }, -- the end waits for a fetch under way
      tokens = { slow = { fetch = function() jeton.sleep "1h" end }, quick = { fetch = function() return { value = "q", expires_in = 60 } end } },
      on_request = function(req, tokens) req.headers.x = tokens.quick end }]]):format(echo.upstream_url))
    assert.equal("q", header(http.get(proxy.port)))
  end)
end)

describe("a token's handle", function()
  it("tells facts, and never its bytes", function()
    start("{ " .. counting "expires_in = 60" .. " }", [[ on_response = function(res, req, tokens)
      local t = tokens.api
      res.headers["x-facts"] = table.concat({ tostring(t.valid), tostring(t.expires_in > 50 and t.expires_in <= 60), t.generation, t.state, t.name, tostring(t.last_error) }, " ")
      res.headers["x-text"] = tostring(t)
      res.headers["x-joined"] = tostring("Bearer " .. t)
      res.headers["x-length"] = tostring(select(2, pcall(function() return #t end)))
      res.headers["x-json"] = tostring(select(2, pcall(jeton.json.encode, { t })))
    end, ]])
    local res = http.get(proxy.port)
    assert.equal("true true 1 valid api nil", res.headers["x-facts"])
    assert.matches("^token<api generation 1, expires in %d+ s>$", res.headers["x-text"])
    for _, name in ipairs { "x-text", "x-joined", "x-length", "x-json" } do assert.is_nil(res.headers[name]:find("v1", 1, true), res.headers[name]) end
  end)

  it("has a name that is checked, with a suggestion", function()
    start("{ " .. counting "expires_in = 60" .. " }", "on_response = function(res, req, tokens) local _ = tokens.apo end,")
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "no token named 'apo' (did you mean 'api'?)"
  end)

  it("is not sent to a client", function()
    start("{ " .. counting "expires_in = 60" .. " }", "on_response = function(res, req, tokens) res.headers.x = tokens.api end,")
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "would reach the client"
  end)
end)

describe("a family", function()
  local function family(options)
    proxy = jeton.start(([[local counts = {}
      return { listen = "127.0.0.1:0", upstream = "%s/open",
      tokens = { tenant = { family = true, wait = "2s", fetch = function(ctx)
        if ctx.key == "bad" then return nil, "no such tenant" end
        counts[ctx.key] = (counts[ctx.key] or 0) + 1
        return { value = ctx.key .. counts[ctx.key], expires_in = 60 }
      end, %s } },
      on_request = function(req, tokens)
        local key = req.path:sub(2)
        if key == "whole" then req.headers.x = "x" .. tokens.tenant return end
        req.headers.x = "<" .. tokens.tenant[key] .. ">"
      end,
      on_response = function(res, req, tokens) res.headers["x-family"] = tostring(tokens.tenant) end }]]):format(echo.upstream_url, options or ""))
  end

  it("keeps one token a key, each fetched when it is first used", function()
    family()
    for _ = 1, 3 do
      for _, key in ipairs { "acme", "umbrella" } do assert.equal("<" .. key .. "1>", header(http.get(proxy.port, "/" .. key))) end
    end
    assert.equal(1, token_status("tenant[acme]").fetches)
    assert.matches("family<tenant of 2 tokens>", http.get(proxy.port, "/acme").headers["x-family"])
    local code, out = jeton.run { "refresh", "tenant[acme]", "--control", proxy.control_path }
    assert.equal(0, code, out)
    assert.equal("<acme2>", header(http.get(proxy.port, "/acme")))
    assert.equal("<umbrella1>", header(http.get(proxy.port, "/umbrella")))
  end)

  it("fails for one key alone", function()
    family 'backoff = { min = "1h", max = "1h" }'
    assert.equal(503, http.get(proxy.port, "/bad").status)
    proxy:wait_log "no such tenant"
    assert.equal("<good1>", header(http.get(proxy.port, "/good")))
  end)

  it("is bounded: the one that has not been used longest goes", function()
    family "max = 3"
    for i = 1, 20 do assert.equal(("<k%d1>"):format(i), header(http.get(proxy.port, "/k" .. i))) end
    local n = 0
    for _, t in ipairs(proxy:status().tokens) do n = n + (t.name:find "^tenant%[" and 1 or 0) end
    assert.is_true(n <= 3, n)
    assert.equal("<k12>", header(http.get(proxy.port, "/k1")))
  end)

  it("drops a key that is not used for `idle`", function()
    family 'idle = "300ms"'
    assert.equal("<acme1>", header(http.get(proxy.port, "/acme")))
    process.poll(function() return token_status "tenant[acme]" == nil end, 10, "the idle key to go")
    assert.equal("<acme2>", header(http.get(proxy.port, "/acme")))
  end)

  it("itself is no token, and an empty key is none", function()
    family()
    assert.equal(500, http.get(proxy.port, "/whole").status)
    proxy:wait_log "index it with a key first, tokens.tenant[key]"
    assert.equal(500, http.get(proxy.port, "/").status)
    proxy:wait_log "an empty key"
  end)

  it("survives a reload with all its keys", function()
    family()
    assert.equal("<acme1>", header(http.get(proxy.port, "/acme")))
    assert.equal(200, proxy:control("POST", "/reload").status)
    assert.equal("<acme1>", header(http.get(proxy.port, "/acme")))
  end)
end)

describe("a policy whose tokens are wrong", function()
  it("is refused with the key's path and a suggestion", function()
    local path = process.write_file(process.temp_dir() .. "/policy.lua", [[return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  tokens = {
    api = {
      fetch = function() end,
      refresh_at = 60,
      wiat = 5,
      missing = "wate",
      reject_on = { 200 },
      hosts = { "https://api.example.com/v1" },
      max = 5,
    },
  },
}]])
    local code, _, err = jeton.run { "check", path }
    assert.equal(78, code)
    for _, part in ipairs {
      'policy.lua:6: tokens.api.refresh_at:', '(did you mean "60s"?)', 'policy.lua:7: tokens.api.wiat: unknown key (did you mean "wait"?)',
      'policy.lua:8: tokens.api.missing:', '(did you mean "wait"?)', "policy.lua:9: tokens.api.reject_on", "policy.lua:10: tokens.api.hosts[1]:", '(did you mean "api.example.com"?)',
      "policy.lua:11: tokens.api.max:",
    } do assert.is_truthy(err:find(part, 1, true), part .. " in\n" .. err) end
  end)
end)
