--- Secrets that are computed from others: where they may go, when they end, and what a replay, a reload, a fetch, a channel and a log make of them.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

-- Says what it was sent in x, and refuses what was signed with the first key under /guarded: HMAC-SHA256("key-1", "data").
local FIRST = "5f1a6b" -- set below
local echo, proxy

setup(function()
  local code, out = process.run { "sh", "-c", "printf data | openssl dgst -sha256 -hmac key-1 | sed 's/.*= *//'" }
  assert(code == 0 and #out == 65, out)
  FIRST = out:sub(1, 64)
  echo = peers.raw(([[
    while true do
      local head = c:read "head"
      if not head then return end
      local n = tonumber(head:lower():match "\ncontent%%-length: *(%%d+)") or 0
      local body = n > 0 and c:read(n) or ""
      local x = head:lower():match "\nx: *([^\r]*)" or body
      local refused = head:find("/guarded", 1, true) and x == %q
      if head:find("/says", 1, true) then x = "it said " .. x end
      c:write(("HTTP/1.1 %%s\r\nContent-Length: %%d\r\n\r\n%%s"):format(refused and "401 Unauthorized" or "200 OK", #x, x))
    end]]):format(FIRST))
end)
teardown(function() echo.process:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- `body`: of on_request. Each fetch of `api` brings key-1, key-2, ….
local function policy(body, token, top)
  return ([[
local n, upstream = 0, "http://127.0.0.1:%d"
local crypto = jeton.crypto
%s
return { listen = "127.0.0.1:0", upstream = upstream,
  tokens = { api = { fetch = function() n = n + 1 return { value = "key-" .. n, expires_in = 300, fields = { id = "id" .. n } } end, %s } },
  on_request = function(req, tokens) %s end }]]):format(echo.port, top or "", token or "", body)
end
local function start(...)
  proxy = jeton.start(policy(...)) -- a hook that computes with a token needs one
  proxy:wait_log "token api: generation 1"
  return proxy
end
local SIGN = [[ req.headers.x = crypto.hex(assert(crypto.hmac("sha256", tokens.api, "data"))) ]]

describe("what is computed of a token", function()
  it("is sent where the token may go", function()
    start(SIGN)
    assert.equal(FIRST, http.get(proxy.port).body)
  end)

  it("is not sent to another host, also not by jeton.http nor as what another token is made of", function()
    start(SIGN, [[hosts = { "api.example.com" },]])
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log "the target may not receive this secret"
    proxy:finish()
    start([[
      local ok, why, code = jeton.http.post(upstream, { body = crypto.hex(crypto.hmac("sha256", tokens.api, "data")) })
      assert(tokens.other:set(crypto.hash("sha256", tokens.api), { expires_in = 60 }))
      req:respond(200, nil, tostring(ok) .. " " .. code .. " " .. tostring(pcall(tokens.other.reveal, tokens.other))) ]],
      [[hosts = { "api.example.com" } }, other = { reveal = true,]])
    assert.equal("nil TOKEN_AUDIENCE false", http.get(proxy.port).body)
  end)

  it("is sent by jeton.http to whom the token is for, and masked in what comes back", function()
    start([[
      local res = assert(jeton.http.post(upstream .. "/says", { body = crypto.hex(crypto.hmac("sha256", tokens.api, "data")) }))
      jeton.log.info("masked: " .. (res.body:find("said", 1, true) and "seen" or "not seen"))
      req:respond(200, nil, res.body) ]])
    assert.equal("it said " .. FIRST, http.get(proxy.port).body) -- a script may have a server's words; the log may not
  end)

  it("is not sent again when the upstream has refused it, and the log says where to compute it", function()
    start(SIGN)
    local res = http.get(proxy.port, "/guarded")
    assert.equal(503, res.status)
    proxy:wait_log "compute it in on_send, which runs for each try"
    proxy:wait_log "token api: generation 2" -- nothing waits for it here: on_request computes with what there is
    local next = http.get(proxy.port, "/guarded")
    assert.equal(200, next.status)
    assert.not_equal(FIRST, next.body)
  end)

  it("is not sent when its token has ended, though another is there", function()
    proxy = jeton.start((policy([[
      if not kept.mac then kept.mac = crypto.hmac("sha256", tokens.api, "data") end
      req.headers.x = crypto.hex(kept.mac) ]], [[leeway = 0,]], "local kept = {}"):gsub("expires_in = 300", "expires_in = 1")))
    assert.equal(FIRST, http.get(proxy.port).body)
    process.poll(function() return http.get(proxy.port).status == 503 end, 5, "the end of the first token")
    proxy:wait_log "has ended, was refused or was replaced"
  end)

  it("goes with its own token only", function()
    start([[
      if not kept.mac then kept.mac = crypto.hmac("sha256", tokens.api, "data") end
      req.headers.authorization = "Bearer " .. tokens.api
      req.headers.x = crypto.hex(kept.mac) ]], nil, "local kept = {}")
    assert.equal(FIRST, http.get(proxy.port).body)
    assert.equal(200, (proxy:control("POST", "/refresh/api")).status)
    assert.equal(503, http.get(proxy.port).status)
    proxy:wait_log "what was computed is of a token that has ended, was refused or was replaced"
  end)

  it("is, with the tokens beside it, of 8 tokens at the most in one request, and the log says so", function()
    start([[ for i = 1, 8 do req.headers["x" .. i] = tokens.user["k" .. i] end
      if req.path == "/nine" then req.headers.x = crypto.hex(assert(crypto.hmac("sha256", tokens.api, "data"))) end ]],
      [[}, user = { family = true, fetch = function(ctx) return { value = ctx.key, expires_in = 60 } end,]])
    assert.equal(200, http.get(proxy.port, "/eight").status)
    assert.equal(502, http.get(proxy.port, "/nine").status)
    proxy:wait_log "it cannot be written: one request carries 8 tokens at the most"
  end)

  it("outlives a reload as it is, in a channel", function()
    local channel = [[local c = jeton.channel("macs", 1)]]
    local carry = [[
      if req.path == "/put" then assert(c:send { mac = crypto.hmac("sha256", tokens.api, "data") }) return req:respond(200, nil, "put") end
      req.headers.x = crypto.hex(c:recv().mac) ]]
    start(carry, nil, channel)
    assert.equal("put", http.get(proxy.port, "/put").body)
    proxy:reload_file(policy(carry, [[hosts = { "http://127.0.0.1", "http://localhost" },]], channel))
    local res = proxy:control("POST", "/reload")
    assert.equal(200, res.status, res.body)
    local got = http.get(proxy.port)
    assert.equal(FIRST, got.body, proxy:errors())
  end)

  it("does not go into a shared store, a command's arguments, a reply or a log", function()
    start([[
      local mac, s = crypto.hmac("sha256", tokens.api, "data"), store
      local function raises(f, ...) local ok, why = pcall(f, ...) assert(not ok, "it did not raise") return (tostring(why):gsub("^.-:%d+: ", "")) end
      jeton.log.info("here", { mac = mac })
      req:respond(200, nil, jeton.json.encode { raises(s.set, s, "k", mac), raises(jeton.exec, { "true", mac }), raises(req.respond, req, 200, nil, mac),
        raises(string.rep, mac, 1), tostring(crypto.hex(mac)) }) ]], nil, [[local store = jeton.shared "s"]])
    local res = http.get(proxy.port)
    assert.equal(200, res.status, proxy:errors())
    local said = cjson.decode(res.body)
    assert.matches("secret", said[1])
    assert.matches("secret", said[2])
    assert.equal("secret<hex(<secret hmac>)>", said[5])
    proxy:wait_log "secret<<secret hmac>>"
  end)
end)

describe("what on_send computes", function()
  -- on_request keeps to plain text here; a hook's name in `policy` is replaced
  local function sending(body)
    proxy = jeton.start((policy(body):gsub("on_request = function%(req, tokens%)", "on_send = function(req, tokens, try)")))
  end

  it("is made anew for a replay, with the next token", function()
    sending(SIGN)
    local res = http.get(proxy.port, "/guarded")
    assert.equal(200, res.status)
    assert.equal(64, #res.body)
    assert.not_equal(FIRST, res.body)
  end)

  it("covers a query and a body with secrets, as they go out", function()
    sending [[
      req:set_query("id", tokens.api:field "id")
      local signed = crypto.hash("sha256", req.target.path .. "?" .. req.target.query)
      req.headers.x = jeton.url.escape(req.target.query) .. " " .. crypto.hex(signed):len() ]]
    assert.equal(500, http.get(proxy.port, "/a?b=1").status) -- a secret has no length
    proxy:finish()
    sending [[
      req:set_query("id", tokens.api:field "id")
      req.headers.x = req.target.query .. " " .. crypto.hex(crypto.hash("sha256", req.target.path .. "?" .. req.target.query)) ]]
    local _, sum = process.run { "sh", "-c", "printf '/a?b=1&id=id1' | sha256sum | cut -d' ' -f1" }
    assert.equal("b=1&id=id1 " .. sum:sub(1, 64), http.get(proxy.port, "/a?b=1").body)
  end)

  it("sees a body with secrets, and its length, and signs it", function()
    proxy = jeton.start((policy [[ req:set_json { k = tokens.api } ]]):gsub("on_request = ", [[
      on_send = function(req) req.headers.x = req.headers["content-length"] .. " " .. crypto.hex(crypto.hash("sha256", req:body())) end, on_request = ]]))
    local _, sum = process.run { "sh", "-c", [[printf '{"k":"key-1"}' | sha256sum | cut -d' ' -f1]] }
    assert.equal("13 " .. sum:sub(1, 64), http.request(proxy.port, "POST", "/", nil, "x").body)
  end)

  it("waits for a token that is first used there, in a query or cookie as in a hash", function()
    for _, use in ipairs { 'req:set_query("k", tokens.late)', 'req:set_cookie("k", tokens.late)', 'crypto.hash("sha256", tokens.late)' } do
      local text = policy(use .. " req.headers.x = tokens.late", [[}, late = { fetch = function() jeton.sleep(0.2) return { value = "late", expires_in = 60 } end]])
      proxy = jeton.start((text:gsub("on_request = function%(req, tokens%)", "on_send = function(req, tokens, try)")))
      assert.equal("late", http.get(proxy.port).body)
      proxy:finish()
    end
    proxy = nil
  end)
end)

describe("what is computed of secrets", function()
  it("says nothing before there is a token, and fails with the reason", function()
    start([[ local mac, why, code = crypto.hmac("sha256", tokens.none, "data") req:respond(200, nil, tostring(mac) .. " " .. code .. " " .. why) ]],
      [[}, none = { missing = "fail", wait = 0,]])
    assert.equal("nil TOKEN_MISSING no valid token is available", http.get(proxy.port).body)
  end)

  it("is compared by equal, and by nothing else", function()
    start([[
      local mac = crypto.hmac("sha256", key, "data")
      req:respond(200, nil, jeton.json.encode { crypto.equal(crypto.hex(mac), req.headers.signature), mac == crypto.hmac("sha256", key, "data"),
        (pcall(function() return #mac end)), (pcall(function() return mac < mac end)) }) ]], nil, [[local key = jeton.secret.value "key-1"]])
    assert.equal("[true,false,false,false]", http.get(proxy.port, "/", { signature = FIRST }).body)
    assert.equal("[false,false,false,false]", http.get(proxy.port, "/", { signature = FIRST:gsub("^.", "x") }).body)
  end)

  it("encodes for URLs and JSON", function()
    start([[ req.headers.x = jeton.url.escape(key) .. " " .. jeton.url.escape(key, "/") .. " " .. jeton.json.encode { key } ]], nil,
      [[local key = jeton.secret.value 'a/b "c"']])
    assert.equal('a%2fb%20%22c%22 a/b%20%22c%22 ["a/b \\"c\\""]', http.get(proxy.port).body)
  end)

  it("is known by what it was made of where a reload looks", function() -- a token that is fetched with another password is another login
    start([[ req:respond(200, nil, tostring(a) .. "\n" .. tostring(b)) ]], nil, [[
      local a = crypto.hash("sha256", jeton.secret.value "x" .. "1") local b = crypto.hash("sha256", jeton.secret.value "x" .. "2")]])
    local a, b = http.get(proxy.port).body:match "^(.-)\n(.*)$"
    assert.matches("^secret<<secret hash%(<secret value>1%) %x+>>$", a)
    assert.not_equal(a, b)
  end)
end)
