--- Tokens that are secrets of the policy's: bound to hosts like any token, without an end, and read anew when what they were read from changes.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local proxy, dir, raw
before_each(function() dir = process.temp_dir() end)
after_each(function()
  if proxy then proxy:finish() end
  if raw then raw.process:stop() end
  proxy, raw = nil, nil
end)

--- An upstream that answers 401 unless the token is one of `good`, and shows what it got.
local function upstream(...)
  local good = {}
  for i, token in ipairs { ... } do good[i] = ("[%q] = true"):format(token) end
  raw = peers.raw(([[ local good = { %s }
    while true do
      local head = c:read "head"
      if not head then return c:close() end
      local token = head:match "[Xx]: ([^\r]*)" or "nothing"
      c:write(("HTTP/1.1 %%d X\r\nContent-Length: %%d\r\n\r\n%%s"):format(good[token] and 200 or 401, #token, token))
    end ]]):format(table.concat(good, ", ")))
end

local function policy(token, more)
  return ([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { api = %s },
    on_request = function(req, tokens) req.headers.x = tokens.api end, %s }]]):format(raw and raw.port or 1, token, more or "")
end
local function start(token, more) proxy = jeton.start(policy(token, more)) end
local function key(text) return process.write_file(dir .. "/key", text .. "\n") end
local function file() return ("jeton.secret.file %q"):format(dir .. "/key") end
local function token() return proxy:status().tokens[1] end
local function got() local res = http.get(proxy.port) return res.status .. " " .. res.body end
local function reload(...) return jeton.run { "reload", "--control", proxy.control_path, ... } end

describe("tokens = { api = jeton.secret.file … }", function()
  it("is a token that does not end", function()
    upstream "one"
    key "one"
    start(file(), [[on_response = function(res, req, tokens)
      res.headers.shown, res.headers.left, res.headers.state = tostring(tokens.api), tostring(tokens.api.expires_in), tokens.api.state
    end]])
    local res = http.get(proxy.port)
    assert.equal("200 one", res.status .. " " .. res.body)
    assert.equal("token<api generation 1, does not end>", res.headers.shown)
    assert.equal("inf", res.headers.left)
    assert.equal("valid", res.headers.state)
    assert.is_true(token().valid)
    assert.equal(require "cjson".null, token().expires_in)
    assert.is_nil(token().next_attempt_in)
    local _, out = jeton.run { "status", "--control", proxy.control_path }
    assert.matches("api +valid +generation 1, does not end", out)
    assert.matches('jeton_token_expires_in_seconds{token="api"} %+Inf', proxy:control("GET", "/metrics").body)
    assert.equal(200, proxy:control("GET", "/ready").status)
  end)

  it("is read anew when the file changes", function()
    upstream("one", "two")
    key "one"
    start(file())
    assert.equal("200 one", got())
    key "two"
    process.poll(function() return got() == "200 two" end, 5, "the new secret")
    assert.equal(2, token().generation)
    assert.equal(2, token().fetches)
    key "two" -- another file with the same in it
    socket.sleep(1.5)
    assert.equal(2, token().generation)
  end)

  it("goes on with the last content while the file is gone or empty", function()
    upstream("one", "two")
    key "one"
    start(file())
    os.remove(dir .. "/key")
    socket.sleep(1.5)
    assert.equal("200 one", got())
    process.write_file(dir .. "/key", "")
    socket.sleep(1.5)
    assert.equal("200 one", got())
    key "two"
    process.poll(function() return got() == "200 two" end, 5, "the new secret")
    assert.equal(2, token().generation)
    assert.equal(0, token().failures)
  end)

  it("is relayed its 401 when nothing has changed, and goes on", function()
    upstream "another"
    key "one"
    start(file())
    for _ = 1, 3 do assert.equal("401 one", got()) end
    proxy:wait_log "an upstream refused generation 1, "
    proxy:wait_log "its secret is what it was, it goes on"
    assert.equal(1, token().generation)
    assert.equal(1, token().rejections)
    assert.equal(0, proxy:status().workers[1].replays)
    assert.is_true(token().valid)
  end)

  it("is read again by a 401, and sent again when it has changed", function()
    upstream "two"
    key "one"
    start(file())
    assert.equal("401 one", got())
    key "two"
    assert.equal("200 two", got()) -- sooner than the look of each second, or by it
    assert.equal(2, token().generation)
  end)

  it("goes to the policy's upstreams alone, or to its hosts", function()
    upstream "one"
    key "one"
    start(("{ secret = %s, hosts = { %q } }"):format(file(), "http://127.0.0.1:1"))
    local res = http.get(proxy.port)
    assert.equal(500, res.status)
    assert.is_nil(raw.received():find("one", 1, true))
    proxy:finish()
    start(("{ secret = %s, hosts = { %q } }"):format(file(), "http://127.0.0.1:" .. raw.port))
    assert.equal("200 one", got())
  end)

  it("may be joined and encoded of several, and each file counts", function()
    upstream(("user:one"):gsub(".*", require "mime".b64), ("user:two"):gsub(".*", require "mime".b64))
    key "one"
    process.write_file(dir .. "/user", "user\n")
    start(('jeton.base64.encode(jeton.secret.file(%q) .. ":" .. %s)'):format(dir .. "/user", file()))
    assert.matches("^200 ", got())
    key "two"
    process.poll(function() return token().generation == 2 end, 5)
    assert.matches("^200 ", got())
  end)

  it("waits for a command's first outcome, and follows the next ones", function()
    upstream("one", "two")
    key "one"
    start(('jeton.secret.exec { "sh", "-c", "sleep 0.3; cat %s/key", ttl = "300ms" }'):format(dir))
    assert.equal("200 one", got())
    assert.equal(0, token().failures)
    key "two"
    process.poll(function() return got() == "200 two" end, 8, "the new secret")
  end)

  it("stays what it is over a reload, and follows the policy's text", function()
    upstream("one", "two")
    start 'jeton.secret.value "one"'
    assert.equal("200 one", got())
    assert.equal(0, (reload()))
    socket.sleep(0.3)
    assert.equal(1, token().generation)
    assert.equal(1, token().fetches)
    process.write_file(proxy.policy, policy 'jeton.secret.value "two"')
    assert.equal(0, (reload "--prove"))
    process.poll(function() return got() == "200 two" end, 5, "the new secret")
    assert.equal(2, token().generation)
  end)

  it("becomes a token with a fetch, and one again, by a reload", function()
    upstream("one", "fetched")
    key "one"
    start(file())
    assert.equal("200 one", got())
    process.write_file(proxy.policy, policy '{ fetch = function() return { value = "fetched", expires_in = 60 } end }')
    assert.equal(0, (reload()))
    process.poll(function() return got() == "200 fetched" end, 5)
    assert.is_true(token().expires_in > 0)
    process.write_file(proxy.policy, policy(file()))
    assert.equal(0, (reload()))
    process.poll(function() return got() == "200 one" end, 5)
  end)

  it("may be refreshed by hand, which reads it", function()
    upstream("one", "two")
    key "one"
    start(file())
    local code, out = jeton.run { "refresh", "api", "--control", proxy.control_path }
    assert.equal(0, code)
    assert.matches("token api: generation 1, its secret is what it was", out)
    key "two"
    code, out = jeton.run { "refresh", "api", "--control", proxy.control_path }
    assert.equal(0, code)
    assert.matches("token api: generation 2, ", out)
  end)
end)

describe("a policy is refused", function()
  for text, wrong in pairs {
    ['"abc"'] = 'tokens.api: expected a table with a fetch function, or a secret such as jeton.secret.file "PATH", got a string',
    ['{ secret = "abc" }'] = 'tokens.api.secret: expected a secret such as jeton.secret.file "/run/secrets/api", got a string',
    ['{ secret = jeton.secret.value "a", fetch = function() end }'] = "tokens.api.fetch: expected either secret or fetch, got both",
    ['{ secret = jeton.secret.value "a", refresh_at = 0.5 }'] = "tokens.api.refresh_at: has no meaning beside secret, which does not end and is read when its source changes",
    ['{ secret = jeton.secret.value "a", family = true }'] = "tokens.api.family: a secret is one for all keys: write fetch = function(ctx)",
  } do
    it("with tokens = { api = " .. text .. " }", function()
      local path = process.write_file(dir .. "/policy.lua", policy(text))
      local code, _, err = jeton.run { "check", path }
      assert.equal(78, code)
      assert.is_truthy(err:find(wrong, 1, true), err)
    end)
  end
end)
