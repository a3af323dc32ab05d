--- A token goes to whom it was fetched for, whatever a reload makes of its name.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"
local token_peer = require "spec.support.token_peer"

local a, b, proxy

setup(function() a, b = token_peer.start(), token_peer.start() end)
teardown(function()
  a:finish()
  b:finish()
end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local cases = 0
local function name() -- of an issuer, a new one for each case
  cases = cases + 1
  return "case" .. cases
end

--- `token` is the Lua text of tokens.api; `more` stands in the policy's table.
local function policy(upstreams, token, more)
  return ([[local oauth2 = require "jeton.oauth2"
    return { listen = "127.0.0.1:0", %s, tokens = { api = %s },
      on_request = function(req, tokens)
        if req.path:find "^/b" then req.upstream = "b" end
        req.headers.authorization = "Bearer " .. tokens.api
      end, %s }]]):format(upstreams, token, more or "")
end
local function upstream(peer) return ("upstream = %q"):format(peer:url()) end
local function credentials(peer, who, more)
  return ([[oauth2.client_credentials { token_url = %q, client_id = "spec", client_secret = jeton.secret.value "s3cret", %s }]]):format(
    peer:url("/" .. who .. "/token"), more or "")
end
local function written(peer, who, more, code)
  return ([[{ fetch = function(ctx) %s
      local body = assert(assert(jeton.http.post(%q, { form = { reason = ctx.reason } })):json())
      return { value = body.access_token, expires_in = body.expires_in }
    end, %s }]]):format(code or "", peer:url("/" .. who .. "/token"), more or "")
end
local function reload(text)
  proxy:reload_file(text)
  local code, _, err = jeton.run { "reload", "--control", proxy.control_path }
  assert.equal(0, code, err)
end
local function fetches(peer, who) return #peer:seen("/" .. who .. "/token") end
local function becomes(count, peer, who)
  process.poll(function() return fetches(peer, who) == count end, 10, function() return ("%d fetches of %s, not %d:\n%s"):format(count, who, fetches(peer, who), proxy:errors()) end)
end
local function authorization(path, seconds)
  local res, why = http.request(proxy.port, "GET", path or "/x", nil, nil, seconds or 10)
  assert(res, ("no reply to %s: %s\n%s"):format(path or "/x", why, proxy:errors()))
  return res.status == 200 and res.body or res.status
end
--- Did a token of that issuer reach the peer?
local function reached(peer, who)
  for _, request in ipairs(peer:seen()) do
    if (request.authorization or ""):find(who .. "-", 1, true) then return true end
  end
  return false
end

describe("a reload that changes a token under its name", function()
  it("sends no token of the old issuer to the new upstream: requests wait for the new one", function()
    local old, new = name(), name()
    proxy = jeton.start(policy(upstream(a), credentials(a, old)))
    assert.matches("^Bearer " .. old, authorization())
    b:hold(new)
    reload(policy(upstream(b), credentials(b, new, 'wait = "10s"')))
    becomes(1, b, new) -- at once, though the token at hand is valid
    local waiting = http.connect(proxy.port)
    waiting:send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    process.poll(function() return proxy:status().tokens[1].waiters == 1 end, 5, "a request to wait")
    b:release(new)
    assert.matches("^Bearer " .. new, waiting:read_response().body)
    assert.matches("^Bearer " .. new, authorization())
    assert.is_false(reached(b, old))
  end)

  it("lets the old value serve hosts that both policies name, and only those", function()
    local old, new = name(), name()
    local both = ("upstream = %q, upstreams = { b = %q }"):format(a:url(), b:url())
    proxy = jeton.start(policy(upstream(a), credentials(a, old)))
    assert.matches("^Bearer " .. old, authorization())
    a:hold(new)
    reload(policy(both, credentials(a, new, 'wait = "200ms"')))
    becomes(1, a, new)
    assert.matches("^Bearer " .. old, authorization "/x")
    assert.equal(503, authorization "/b")
    assert.is_false(reached(b, old))
    a:release(new)
    process.poll(function() return tostring(authorization "/b"):find(new, 1, true) end, 5, "the new token")
    assert.matches("^Bearer " .. new, authorization "/x")
  end)

  it("fetches at once for another scope, client or audience, and serves the old value until then", function()
    for _, more in ipairs { 'scope = "write"', 'audience = "other"', 'extra = { resource = "r" }', 'version = 2' } do
      local who = name()
      proxy = jeton.start(policy(upstream(a), credentials(a, who)))
      assert.matches("^Bearer " .. who .. "%-", authorization())
      local first = authorization()
      a:hold(who)
      reload(policy(upstream(a), credentials(a, who, more)))
      becomes(2, a, who)
      assert.equal(first, authorization())
      a:release(who)
      process.poll(function() return authorization() ~= first end, 5, "the new token after " .. more)
      proxy:finish()
      proxy = nil
    end
  end)

  it("fetches nothing where nothing of the token changed: a comment, the schedule, hooks, other keys", function()
    for _, make in ipairs { credentials, written } do
      local who = name()
      proxy = jeton.start(policy(upstream(a), make(a, who)))
      assert.matches("^Bearer " .. who, authorization())
      local first = authorization()
      reload("-- a comment\n\n" .. policy(upstream(a), make(a, who, 'refresh_at = 0.5, leeway = "2s", wait = "3s", missing = "wait", timeout = "20s"'),
        'timeouts = { idle = "9s" }, on_log = function() end'))
      assert.equal(first, authorization())
      if make == written then
        reload(policy(upstream(a), make(a, who, nil, "-- a comment in the fetch\n")))
        assert.equal(first, authorization())
      end
      jeton.run { "reload", "--control", proxy.control_path }
      assert.equal(1, proxy:status().tokens[1].fetches)
      assert.equal(1, fetches(a, who))
      proxy:finish()
      proxy = nil
    end
  end)

  it("sees that a fetch written by hand has another text, unless its version says that it is the same", function()
    local who, other = name(), name()
    proxy = jeton.start(policy(upstream(a), written(a, who)))
    assert.matches("^Bearer " .. who, authorization())
    reload(policy(upstream(a), written(a, other)))
    becomes(1, a, other)
    assert.matches("reason=changed", a:seen("/" .. other .. "/token")[1].body)
    process.poll(function() return tostring(authorization()):find(other, 1, true) end, 5, "the other token")
    reload(policy(upstream(a), written(a, other, "version = 1")))
    becomes(2, a, other)
    reload(policy(upstream(a), written(a, other, "version = 1", "local unused = 1")))
    assert.equal(2, proxy:status().tokens[1].fetches - 1)
    reload(policy(upstream(a), written(a, other, "version = { 1, 'b' }")))
    becomes(3, a, other)
  end)

  it("does not hand one issuer's refresh token to another", function()
    local who, other = name(), name()
    local function grant(peer, issuer)
      return ([[oauth2.refresh_token { token_url = %q, client_id = "spec", auth = "none", refresh_token = "first-of-%s" }]]):format(peer:url("/" .. issuer .. "/token"), issuer)
    end
    proxy = jeton.start(policy(upstream(a), grant(a, who)))
    assert.matches("^Bearer " .. who, authorization())
    reload(policy(upstream(a), grant(b, other)))
    becomes(1, b, other)
    assert.matches("refresh_token=first%-of%-" .. other, b:seen("/" .. other .. "/token")[1].body)
    process.poll(function() return tostring(authorization()):find(other, 1, true) end, 5, "the other token")
  end)

  it("goes on with the refresh token of the same issuer", function()
    local who = name()
    local function grant(more)
      return ([[oauth2.refresh_token { token_url = %q, client_id = "spec", auth = "none", refresh_token = "first-of-%s", %s }]]):format(a:url("/" .. who .. "/token"), who, more)
    end
    proxy = jeton.start(policy(upstream(a), grant ""))
    local first = authorization():match "%-(%d+)$"
    reload(policy(upstream(a), grant 'scope = "write"'))
    becomes(2, a, who)
    assert.matches("refresh_token=" .. who .. "%-refresh%-" .. first, a:seen("/" .. who .. "/token")[2].body)
  end)

  it("lets requests of the old policy end as they began, with the token of their policy", function()
    local old, new = name(), name()
    local slow = ([[local oauth2 = require "jeton.oauth2"
      return { listen = "127.0.0.1:0", upstream = %q, tokens = { api = %s },
        on_request = function(req, tokens)
          jeton.http.get(%q)
          req.headers.authorization = "Bearer " .. tokens.api
        end }]]):format(a:url(), credentials(a, old), a:url "/gate/x")
    proxy = jeton.start(slow)
    a:hold "gate"
    local waiting = http.connect(proxy.port)
    waiting:send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    process.poll(function() return #a:seen "/gate/x" == 1 end, 5, "the request to be in its hook")
    reload(policy(upstream(b), credentials(b, new)))
    assert.matches("^Bearer " .. new, authorization())
    a:release "gate"
    assert.matches("^Bearer " .. old, waiting:read_response().body)
    assert.is_false(reached(b, old))
    assert.is_false(reached(a, new))
  end)
end)

--- A policy whose fetch of `made` runs `code` with jeton.tokens at hand; what it returns or raises is what GET /try says.
local function trial(hosts_of_made, code, token)
  return ([[
    local function run(tokens) %s end
    return { listen = "127.0.0.1:0", upstream = %q, upstreams = { b = %q },
      tokens = { api = { hosts = { %q }, %s }, made = { hosts = { %s } } },
      on_request = function(req, tokens)
        if req.path == "/try" then
          assert(tokens.api:set("api-token-bytes", { expires_in = 3600, fields = { session = "session-bytes" } }))
          local good, a, b = pcall(run, tokens)
          req:respond(200, nil, tostring(good) .. " " .. tostring(a) .. " " .. tostring(b))
          return
        end
        if req.path == "/b" then req.upstream = "b" end
        req.headers.authorization = "Bearer " .. tokens.made
      end }]]):format(code, a:url(), b:url(), (a:url():gsub("^http://", "http://")), token or "reveal = false", hosts_of_made)
end
local function both_hosts() return ("%q, %q"):format(a:url(), b:url()) end
local function said() return http.get(proxy.port, "/try").body end
local function arrived(peer, bytes)
  for _, request in ipairs(peer:seen()) do
    if (request.authorization or ""):find(bytes, 1, true) then return true end
  end
  return false
end

describe("a value that is made of a token", function()
  for what, value in pairs {
    ["the token"] = "tokens.api",
    ["a join"] = '"x" .. tokens.api .. "y"',
    ["an encoding"] = "jeton.base64.encode(tokens.api)",
    ["a field"] = 'tokens.api:field "session"',
  } do
    it("goes to no host that the token may not go to: " .. what, function()
      proxy = jeton.start(trial(both_hosts(), ("return tokens.made:set(%s, { expires_in = 60 })"):format(value)))
      assert.equal("true true nil", said())
      assert.equal(200, http.get(proxy.port, "/a").status)
      assert.is_true(http.get(proxy.port, "/b").status >= 500)
      for _, bytes in ipairs { "api-token-bytes", "session-bytes", "YXBpLXRva2Vu" } do assert.is_false(arrived(b, bytes)) end
    end)
  end

  it("is bound as narrowly when a field of it was made of one", function()
    proxy = jeton.start(trial(both_hosts(), "return tokens.made:set('plain', { expires_in = 60, fields = { f = tokens.api } })"))
    assert.equal("true true nil", said())
    assert.is_true(http.get(proxy.port, "/b").status >= 500)
  end)

  it("stays narrow through another value in between", function()
    proxy = jeton.start(trial(both_hosts() .. " }, reveal = true, missing = 'wait'", [[
      assert(tokens.made:set(tokens.api, { expires_in = 60 }))
      return tokens.made:set(tokens.made, { expires_in = 60 }) ]]):gsub("missing = 'wait' } }", "missing = 'wait' }"))
    assert.equal("true true nil", said())
    assert.is_true(http.get(proxy.port, "/b").status >= 500)
  end)

  it("cannot be revealed where the token cannot, whatever its own policy says", function()
    local hosts = both_hosts() .. " }, reveal = true, missing = 'wait'"
    local function start(code, token) proxy = jeton.start((trial(hosts, code, token):gsub("missing = 'wait' } }", "missing = 'wait' }"))) end
    start "assert(tokens.made:set(tokens.api .. '', { expires_in = 60 })) return tokens.made:reveal()"
    assert.matches("^false .*made of another token whose policy does not say reveal = true", said())
    proxy:finish()
    start("assert(tokens.made:set(tokens.api .. '', { expires_in = 60 })) return tokens.made:reveal()", "reveal = true")
    assert.equal("true api-token-bytes nil", said())
    proxy:finish()
    start "assert(tokens.made:set('plain', { expires_in = 60 })) return tokens.made:reveal()"
    assert.equal("true plain nil", said())
  end)

  it("is bound when a fetch returns it", function()
    local who = name()
    proxy = jeton.start(([[
      return { listen = "127.0.0.1:0", upstream = %q, upstreams = { b = %q },
        tokens = {
          api = { hosts = { %q }, fetch = function() return { value = "%s-bytes", expires_in = 60 } end },
          made = { hosts = { %s }, fetch = function() assert(jeton.tokens.api:wait(5)) return { value = "m" .. jeton.tokens.api, expires_in = 60 } end },
        },
        on_request = function(req, tokens)
          if req.path == "/b" then req.upstream = "b" end
          req.headers.authorization = "Bearer " .. tokens.made
        end }]]):format(a:url(), b:url(), a:url(), who, both_hosts()))
    assert.equal("Bearer m" .. who .. "-bytes", http.get(proxy.port, "/a").body)
    assert.is_true(http.get(proxy.port, "/b").status >= 500)
    assert.is_false(arrived(b, who .. "-bytes"))
  end)
end)

describe("a command and a file", function()
  local path = process.temp_dir() .. "/out"
  local ways = {
    stdin = { "exec:/bin/cat", [[return assert(jeton.exec { "/bin/cat", stdin = VALUE }).stdout]], "reveal = true" },
    environment = { "exec:/usr/bin/printenv", [[return (assert(jeton.exec { "/usr/bin/printenv", "T", env = { T = VALUE } }).stdout:gsub("\n$", ""))]] },
    file = { "file:" .. path, ([[assert(jeton.file.write(%q, VALUE)) return assert(jeton.file.read %q)]]):format(path, path) },
  }
  for way, how in pairs(ways) do
    local place, code = how[1], how[2]
    it("get a token only where its hosts list them, or it may be revealed: " .. way, function()
      local function try(value, token)
        proxy = jeton.start(trial(both_hosts(), (code:gsub("VALUE", value)), token))
        local answer = said()
        proxy:finish()
        proxy = nil
        return answer
      end
      local other = ("hosts = { %q, %q }"):format(a:url(), place)
      assert.matches('^false .*<token api> may not go there.*list "' .. place:gsub("%p", "%%%0") .. '" among the token\'s hosts.*or say reveal = true', try "tokens.api")
      assert.matches("^false .*may not go there", try '"x" .. jeton.base64.encode(tokens.api)')
      assert.matches("^false .*may not go there", try 'tokens.api:field "session"')
      assert.equal("true api-token-bytes nil", try("tokens.api", "reveal = true"))
      assert.equal("true api-token-bytes nil", try("tokens.api", other))
      assert.equal("true session-bytes nil", try('tokens.api:field "session"', other))
      assert.matches("^false", try("tokens.api", ('hosts = { %q, %q }'):format(a:url(), place .. "x")))
      assert.equal("true plain nil", try 'jeton.secret.value "plain"')
      assert.equal("true plain nil", try '"plain"')
    end)
  end

  it("are told by absolute paths, and leave the upstreams in place", function()
    proxy = jeton.start(trial(both_hosts(), [[return jeton.exec { "cat", stdin = tokens.api }]], 'hosts = { "exec:/bin/cat" }'))
    assert.matches("with an absolute path there and here", said())
    proxy:finish()
    proxy = jeton.start(([[ return { listen = "127.0.0.1:0", upstream = %q,
      tokens = { api = { hosts = { "exec:/bin/cat", "file:/run/x" }, fetch = function() return { value = "for-a", expires_in = 60 } end } },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end }]]):format(a:url()))
    assert.equal("Bearer for-a", http.get(proxy.port, "/x").body)
    local file = process.write_file(process.temp_dir() .. "/policy.lua", 'return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", tokens = { api = { hosts = { "exec:cat", "file:x" } } } }')
    local code, _, err = jeton.run { "check", file }
    assert.equal(78, code)
    assert.matches('hosts%[1%]: expected the command\'s absolute path behind exec:', err)
    assert.matches('hosts%[2%]: expected the file\'s absolute path behind file:', err)
  end)

  it("get what ctx.previous holds as they get the token", function()
    for _, more in ipairs { "", "reveal = true," } do
      proxy = jeton.start(([[ return { listen = "127.0.0.1:0", upstream = %q, tokens = { api = { %s
        fetch = function(ctx)
          if not ctx.previous then return { value = "v", expires_in = 60, fields = { refresh_token = "refresh-bytes" } } end
          return { value = assert(jeton.exec { "/bin/cat", stdin = ctx.previous:field "refresh_token" }).stdout, expires_in = 60 }
        end } },
        on_request = function(req, tokens)
          local good, why = tokens.api:refresh()
          req:respond(200, nil, tostring(good) .. " " .. tostring(why))
        end }]]):format(a:url(), more))
      process.poll(function() return proxy:status().tokens[1].generation == 1 end, 5, "the first token")
      local answer = http.get(proxy.port, "/x").body
      if more == "" then assert.matches("^nil .*may not go there", answer) else assert.equal("true nil", answer) end
      proxy:finish()
      proxy = nil
    end
  end)
end)
