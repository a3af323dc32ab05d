--- What a failed fetch may say: that it cannot succeed, or that what it needs is spent; what makes it tried again all the same; and whom that keeps waiting.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"

local proxy, dir
before_each(function() dir = process.temp_dir() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- `fetch`: the function's body as Lua text; `dir` is a directory of the test's own.
local function policy(fetch, more)
  return ([[
local dir = %q
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  tokens = { api = { fetch = function(ctx) %s end, %s } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
}]]):format(dir, fetch, more or "")
end
local function start(fetch, more) proxy = jeton.start(policy(fetch, more)) end

local function token() return proxy:status().tokens[1] end
local function fetched(n, why) process.poll(function() return token().fetches == n and not token().fetching_for end, 8, why or n .. " fetches") end
local function refresh() return jeton.run { "refresh", "api", "--control", proxy.control_path } end

local function reload() return jeton.run { "reload", "--control", proxy.control_path } end

describe("permanent = true", function()
  it("answers requests at once, and asks every five minutes at most", function()
    start('return nil, "no such client", { permanent = true }', 'wait = "20s"')
    fetched(1)
    local t0 = socket.gettime()
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.is_true(socket.gettime() - t0 < 5)
    local seconds = tonumber(res.headers["retry-after"])
    assert.is_true(seconds > 290 and seconds <= 331, seconds)
    assert.matches("failed for good", res.body)
    assert.is_nil(res.body:find("no such client", 1, true))
    proxy:wait_log "fetch failed: no such client; there is no valid token, for good: next attempt in "
    proxy:wait_log ", or when its secret, file or policy changes (first, attempt 1, "
    assert.is_true(token().next_attempt_in > 290 and token().next_attempt_in <= 331)
    assert.equal(1, token().fetches)
  end)

  it("shows in status, metrics and readiness, with when it is tried again", function()
    start 'return nil, "no such client", { permanent = true }'
    fetched(1)
    assert.is_true(token().permanent_for >= 0 and token().permanent_for < 60)
    assert.is_false(token().spent)
    local _, out = jeton.run { "status", "--control", proxy.control_path }
    assert.matches("permanent failure since %d+%-%d%d%-%d%dT[%d:]+Z, asked again at %d+%-%d%d%-%d%dT[%d:]+Z or when its secret, file or policy changes; by hand: jeton refresh api", out)
    assert.matches('jeton_token_permanent_failure{token="api"} 1', proxy:control("GET", "/metrics").body)
    assert.matches("1 failures in a row, the last, for good: no such client", proxy:control("GET", "/ready").body)
  end)

  it("ends when an operator refreshes", function()
    start([[if jeton.file.exists(dir .. "/mended") then return { value = "v", expires_in = 60 } end
      return nil, "no such client", { permanent = true } ]])
    fetched(1)
    local code, _, err = refresh()
    assert.is_true(code ~= 0)
    assert.matches("no such client", err)
    process.write_file(dir .. "/mended", "")
    assert.equal(0, (refresh()))
    assert.is_nil(token().permanent_for)
    assert.matches('jeton_token_permanent_failure{token="api"} 0', proxy:control("GET", "/metrics").body)
  end)

  it("ends when the policy's text changes, and not by a reload of the same", function()
    start 'return nil, "no such client", { permanent = true }'
    fetched(1)
    assert.equal(0, (reload()))
    assert.equal(1, token().fetches)
    process.write_file(proxy.policy, policy('return { value = "v", expires_in = 60 }'))
    assert.equal(0, (reload()))
    process.poll(function() return token().valid end)
  end)

  for how, use in pairs {
    ["hashed"] = "jeton.crypto.hmac('sha256', key, 'x')",
    ["joined and sent"] = "jeton.http.get('http://127.0.0.1:1/', { headers = { authorization = 'Bearer ' .. key }, timeout = 1 })",
    ["sent in a form"] = "jeton.http.post('http://127.0.0.1:1/', { form = { client_secret = key }, timeout = 1 })",
    ["sent in a query"] = "jeton.http.get('http://127.0.0.1:1/', { query = { key = key }, timeout = 1 })",
    ["sent to a proxy"] = "jeton.http.get('http://127.0.0.1:1/', { proxy = { url = 'http://127.0.0.1:1', user = 'u', password = key }, timeout = 1 })",
    ["given to a command"] = "jeton.exec { 'cat', stdin = key }",
    ["read by jeton.file.read"] = "jeton.file.read(dir .. '/key')",
  } do
    it("ends when a secret's file changes that the fetch has used: " .. how, function()
      process.write_file(dir .. "/key", "old\n")
      process.write_file(dir .. "/other", "old\n")
      start(([[local key, other = jeton.secret.file(dir .. "/key"), jeton.secret.file(dir .. "/other")
        %s
        return nil, "no such client", { permanent = true } ]]):format(use))
      fetched(1)
      process.write_file(dir .. "/other", "another\n")
      socket.sleep(1.5)
      assert.equal(1, token().fetches)
      process.write_file(dir .. "/key", "new one\n")
      fetched(2, "the fetch for the new secret")
      assert.is_true(token().permanent_for < 5)
    end)
  end

  it("ends when a command's secret is another one", function()
    process.write_file(dir .. "/key", "old\n")
    proxy = jeton.start(([[
local key = jeton.secret.exec { "sh", "-c", "sleep 0.3; cat %s", ttl = "200ms" } -- the fetch waits for its first outcome
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  tokens = { api = { fetch = function()
    jeton.http.get("http://127.0.0.1:1/", { headers = { authorization = "Bearer " .. key } })
    return nil, "no such client", { permanent = true }
  end } } }]]):format(dir .. "/key"))
    fetched(1)
    socket.sleep(1.5)
    assert.equal(1, token().fetches)
    process.write_file(dir .. "/key", "new\n")
    fetched(2)
  end)

  it("yields to a longer retry_after", function()
    start 'return nil, "no such client", { permanent = true, retry_after = "20m" }'
    fetched(1)
    assert.is_true(token().next_attempt_in > 1190 and token().next_attempt_in <= 1320)
  end)
end)

describe('permanent = "spent"', function()
  it("plans no attempt at all", function()
    start 'return nil, "the refresh token is spent", { permanent = "spent" }'
    fetched(1)
    assert.is_nil(token().next_attempt_in)
    assert.is_true(token().spent)
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.equal("300", res.headers["retry-after"])
    local _, out = jeton.run { "status", "--control", proxy.control_path }
    assert.matches("permanent failure since [%d:TZ-]+, since what it needs is spent: not asked again until there is a new one; by hand: jeton refresh api", out)
    assert.is_true(refresh() ~= 0)
    assert.equal(2, token().fetches)
  end)

  it("is ended by a value that a script sets", function()
    start([[if ctx.attempt == 1 then jeton.spawn(function()
        jeton.sleep "300ms"
        jeton.tokens.api:set("pushed", { expires_in = 60 })
      end) end
      return nil, "the refresh token is spent", { permanent = "spent" } ]])
    process.poll(function() return token().valid end)
    assert.is_nil(token().permanent_for)
  end)
end)

describe("a fetch's third result", function()
  it("that is wrong is said behind the fetch's own words", function()
    start 'return nil, "no such client", { permanent = "yes" }'
    fetched(1)
    assert.equal('no such client (and its permanent is neither true nor false nor "spent")', token().last_error)
    assert.is_nil(token().permanent_for)
  end)
end)

describe("a request that waits", function()
  it("is answered as soon as a fetch fails with no attempt behind it that would come in time", function()
    start('jeton.sleep "500ms" return nil, "closed today", { retry_after = 60 }', 'wait = "20s"')
    local t0 = socket.gettime()
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.is_true(socket.gettime() - t0 < 8)
    local seconds = tonumber(res.headers["retry-after"])
    assert.is_true(seconds > 50 and seconds <= 66, seconds)
    assert.equal(1, token().fetches)
  end)

  it("waits for the next attempt when that comes in time", function()
    start([[if ctx.attempt == 1 then return nil, "later", { retry_after = 1 } end
      return nil, "for good", { permanent = true } ]], 'wait = "20s"')
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.equal(2, token().fetches)
  end)
end)
