--- jeton.oauth2 against issuers that nobody here wrote: oauth2-mock-server (in peers/world.mjs) and oidc-provider (peers/oidc.mjs).
local cjson = require "cjson"
local uv = require "luv"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local proxy
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- A policy before `upstream` whose token is made by oauth2.GRANT { OPTIONS }.
local function start(upstream, grant, options, more)
  proxy = jeton.start(([[
local oauth2 = require "jeton.oauth2"
return {
  listen = "127.0.0.1:0", upstream = %q, log = { level = "debug" },
  tokens = { api = oauth2.%s { %s } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
  %s
}]]):format(upstream, grant, options, more or ""))
  return proxy
end
local function token() return proxy:status().tokens[1] end
local function refresh() return jeton.run { "refresh", "api", "--control", proxy.control_path } end
local function secret_of(text) return ("jeton.secret.value %q"):format(text) end
--- Nothing of what the program said holds any of these.
local function keeps_quiet(secrets)
  local said = proxy:errors() .. proxy:output() .. proxy:control("GET", "/status").body
  for _, s in ipairs(secrets) do assert.is_nil(said:find(s, 1, true), said) end
end

describe("client_credentials with oauth2-mock-server", function()
  local w
  before_each(function() w = peers.world() end)
  after_each(function() w:stop() end)
  local function options(more) return ("token_url = %q, client_id = 'spec', client_secret = %s, %s"):format(w.token_url, secret_of "s3cret", more or "") end

  it("authenticates in the header by default, and in the body when asked", function()
    start(w.upstream_url, "client_credentials", options())
    assert.equal(200, http.get(proxy.port).status)
    local sent = w:stats().bodies[1]
    assert.equal("Basic " .. require "mime".b64 "spec:s3cret", sent.authorization)
    assert.same({ grant_type = "client_credentials" }, sent.form)
    proxy:finish()
    start(w.upstream_url, "client_credentials", options 'auth = "post"')
    assert.equal(200, http.get(proxy.port).status)
    sent = w:stats().bodies[2]
    assert.equal(cjson.null, sent.authorization)
    assert.same({ grant_type = "client_credentials", client_id = "spec", client_secret = "s3cret" }, sent.form)
    keeps_quiet { "s3cret" }
  end)

  it("sends scope, audience and extra parameters", function()
    start(w.upstream_url, "client_credentials", options 'scope = { "a.read", "b.write" }, audience = "https://api.example.com", extra = { tenant = "acme", n = 5, k = jeton.secret.value "hidden" }')
    assert.equal(200, http.get(proxy.port).status)
    assert.same({ grant_type = "client_credentials", scope = "a.read b.write", audience = "https://api.example.com", tenant = "acme", n = "5", k = "hidden" }, w:stats().bodies[1].form)
  end)

  it("says why it failed, and shows nothing secret", function()
    for mode, reason in pairs { ["500"] = "the token endpoint answered 500: server_error: on purpose", empty = "no access_token", nolife = "no lifetime", html = "JSON" } do
      w:order { mode = mode }
      start(w.upstream_url, "client_credentials", options 'wait = "50ms"')
      assert.equal(503, http.get(proxy.port).status)
      process.poll(function() return token().failures >= 1 end)
      assert.is_truthy(token().last_error:find(reason, 1, true), token().last_error)
      proxy:wait_log(reason)
      keeps_quiet { "s3cret", "c3BlYzpzM2NyZXQ", "<html" }
      proxy:finish()
    end
    proxy = nil
  end)

  it("takes `lifetime` when the issuer tells none", function()
    w:order { mode = "nolife" }
    start(w.upstream_url, "client_credentials", options "lifetime = 120")
    assert.equal(200, http.get(proxy.port).status)
    assert.is_true(token().expires_in > 100 and token().expires_in <= 120)
  end)

  it("passes a token's own keys on", function()
    start(w.upstream_url, "client_credentials", options 'refresh_at = 0.25, jitter = 0, wait = "7s"')
    assert.equal(200, http.get(proxy.port).status)
    assert.is_true(math.abs(token().next_attempt_in - 900) < 20)
  end)
end)

describe("with oidc-provider", function()
  local oidc, ports

  before_each(function()
    oidc, ports = peers.oidc()
  end)
  after_each(function() oidc:stop() end)

  local function upstream() return ("http://127.0.0.1:%d"):format(ports.upstream) end
  local function world(orders) return cjson.decode(http.request(math.tointeger(ports.upstream), orders and "POST" or "GET", "/world", nil, orders and cjson.encode(orders)).body) end
  local function options(client, more)
    return ("token_url = 'http://127.0.0.1:%d/token', client_id = %q, %s"):format(ports.issuer, client, more or "")
  end
  local function with_secret(more) return ("client_secret = %s, %s"):format(secret_of(ports.secret), more or "") end
  local function refresh_token(text) return ("refresh_token = %s,"):format(secret_of(text)) end

  describe("client_credentials", function()
    for _, auth in ipairs { "basic", "post" } do
      it("gets tokens with " .. auth .. " authentication, whatever bytes the secret has", function()
        start(upstream(), "client_credentials", options(auth, with_secret(("auth = %q, scope = 'reports.read'"):format(auth))))
        local res = http.get(proxy.port)
        assert.equal(200, res.status, proxy:errors())
        assert.same({ client = auth, scope = "reports.read" }, cjson.decode(res.body))
        keeps_quiet { ports.secret, world().tokens[1] }
      end)
    end

    it("gets one for a resource, by an extra parameter (RFC 8707)", function()
      start(upstream(), "client_credentials", options("basic", with_secret 'scope = { "reports.read", "reports.write" }, extra = { resource = "urn:reports" }'))
      local res = http.get(proxy.port)
      assert.equal(200, res.status, proxy:errors())
      assert.equal("urn:reports", cjson.decode(res.body).audience)
    end)

    it("renews what expires and what was revoked, without a request that fails", function()
      world { ttl = 2 }
      start(upstream(), "client_credentials", options("basic", with_secret()))
      local deadline = uv.hrtime() + 3e9
      while uv.hrtime() < deadline do
        assert.equal(200, http.get(proxy.port).status)
        uv.sleep(20)
      end
      assert.is_true(#world().granted >= 2)
      assert.equal(0, world().refused)
      world { ttl = 3600 }
      assert.equal(0, (refresh()))
      world { revoke = true }
      for _, res in ipairs(http.together(proxy.port, 20, "GET", "/")) do assert.equal(200, res.status) end
      assert.is_true(world().refused >= 1)
    end)

    it("says what the issuer says when it refuses, and nothing of the secret", function()
      for reason, args in pairs {
        ["401: invalid_client"] = options("basic", "client_secret = " .. secret_of "wr0ng-s3cret" .. ", wait = '50ms'"),
        ["invalid_target"] = options("basic", with_secret 'wait = "50ms", extra = { resource = "no-uri" }'),
      } do
        start(upstream(), "client_credentials", args)
        assert.equal(503, http.get(proxy.port).status)
        process.poll(function() return token().failures >= 1 end)
        assert.is_truthy(token().last_error:find(reason, 1, true), token().last_error)
        keeps_quiet { ports.secret, "wr0ng-s3cret" }
        proxy:finish()
      end
      proxy = nil
    end)
  end)

  describe("refresh_token", function()
    it("rotates in memory: each answer's refresh token is the next request's", function()
      start(upstream(), "refresh_token", options("app", with_secret(refresh_token(ports.refresh))))
      assert.equal(200, http.get(proxy.port).status, proxy:errors())
      for _ = 1, 3 do
        local code, _, err = refresh()
        assert.equal(0, code, err) -- a refresh token that is used twice is the end of its grant
        assert.equal(200, http.get(proxy.port).status)
      end
      local stats = world()
      assert.equal(4, #stats.granted)
      assert.same({}, stats.errors)
      for i = 2, 4 do assert.equal(stats.refresh_tokens[i - 1], stats.bodies[i].refresh_token) end
      keeps_quiet { ports.refresh, stats.refresh_tokens[1], stats.refresh_tokens[4], stats.tokens[1], ports.secret }
    end)

    it("rotates over a reload: the newest is kept beside the token", function()
      start(upstream(), "refresh_token", options("public", 'auth = "none", ' .. refresh_token(ports.refresh_public)))
      assert.equal(200, http.get(proxy.port).status, proxy:errors())
      assert.equal(0, (refresh()))
      proxy:reload_file(process.read_file(proxy.policy) .. "\n-- changed")
      assert.equal(200, proxy:control("POST", "/reload").status)
      assert.equal(0, (refresh()))
      assert.same({}, world().errors)
      assert.equal(200, http.get(proxy.port).status)
    end)

    it("keeps it on disk where a restart finds it: 0600, whole or not at all", function()
      local dir = process.temp_dir()
      local path = process.write_file(dir .. "/refresh", ports.refresh .. "\n")
      assert(uv.fs_chmod(path, tonumber("644", 8)))
      local args = options("app", with_secret(("path = %q"):format(path)))
      start(upstream(), "refresh_token", args)
      assert.equal(200, http.get(proxy.port).status, proxy:errors())
      assert.equal(0, (refresh()))
      local stats = world()
      assert.equal(stats.refresh_tokens[#stats.refresh_tokens], (process.read_file(path):gsub("%s+$", "")))
      local stat = uv.fs_stat(path)
      assert.equal(tonumber("600", 8), stat.mode & 511)
      local names = {}
      for name in uv.fs_scandir_next, uv.fs_scandir(dir) do names[#names + 1] = name end
      table.sort(names)
      assert.same({ "refresh", "refresh.lock" }, names)
      proxy:finish()
      start(upstream(), "refresh_token", args)
      assert.equal(200, http.get(proxy.port).status, proxy:errors())
      assert.same({}, world().errors)
      assert.is_not.equal(stat.ino, uv.fs_stat(path).ino) -- replaced, not written over
    end)

    it("falls back from one that the issuer refuses to the policy's own", function()
      local path = process.write_file(process.temp_dir() .. "/refresh", "a-stale-one\n")
      start(upstream(), "refresh_token", options("app", with_secret(("path = %q, %s"):format(path, refresh_token(ports.refresh)))))
      assert.equal(200, http.get(proxy.port).status, proxy:errors())
      assert.equal(1, #world().errors)
      assert.equal(world().refresh_tokens[1], process.read_file(path))
    end)

    it("is not used again when it was refused, wherever else it stands", function()
      local path = process.write_file(process.temp_dir() .. "/refresh", "a-stale-one\n")
      start(upstream(), "refresh_token", options("app", with_secret(("path = %q, %s wait = '50ms', backoff = { min = '30s', max = '30s' }"):format(path, refresh_token "a-stale-one"))))
      assert.equal(503, http.get(proxy.port).status)
      process.poll(function() return token().failures >= 1 end)
      assert.equal(1, #world().errors)
    end)

    it("that is no good is told as what it is, and is not shown", function()
      start(upstream(), "refresh_token", options("app", with_secret('wait = "50ms", ' .. refresh_token "wr0ng-refresh")))
      assert.equal(503, http.get(proxy.port).status)
      process.poll(function() return token().failures >= 1 end)
      assert.matches("the token endpoint answered 400: invalid_grant", token().last_error)
      keeps_quiet { "wr0ng-refresh", ports.secret }
    end)

    it("goes on when the disk does not take it, and says so", function()
      local path = process.temp_dir() .. "/no/such/directory/refresh"
      start(upstream(), "refresh_token", options("app", with_secret(("path = %q, %s"):format(path, refresh_token(ports.refresh)))))
      assert.equal(200, http.get(proxy.port).status, proxy:errors())
      proxy:wait_log "the new refresh token was not saved"
      assert.equal(0, (refresh()))
      assert.same({}, world().errors)
      keeps_quiet { world().refresh_tokens[1], world().refresh_tokens[2] }
    end)
  end)
end)

-- oidc-provider always rotates here and always tells a lifetime; an issuer that does neither is a stand-in of ours: two fixed replies.
describe("refresh_token with an issuer that does not rotate", function()
  it("goes on with the one it has", function()
    local body = '{"access_token":"AT","token_type":"bearer","expires_in":"3600","refresh_token":null}'
    local raw = peers.raw(([[ while true do
        local head = c:read "head"
        if not head then return c:close() end
        if head:find("GET", 1, true) then c:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        else
          c:read(tonumber(head:lower():match "content%%-length: (%%d+)"))
          c:write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" .. %q)
        end
      end ]]):format(#body, body))
    local url = "http://127.0.0.1:" .. raw.port
    start(url, "refresh_token", ("token_url = '%s/token', client_id = 'a', auth = 'none', refresh_token = 'the-only-one'"):format(url))
    assert.equal(200, http.get(proxy.port).status, proxy:errors())
    assert.equal(0, (refresh()))
    assert.equal(2, select(2, raw.received():gsub("refresh_token=the%-only%-one", "")))
  end)
end)

describe("misuse of jeton.oauth2", function()
  for what, case in pairs {
    ["an unknown option"] = { "token_url = 'https://a/t', client_id = 'x', client_secret = 'y', client_secrte = 'z'", "unknown option 'client_secrte': did you mean 'client_secret'?" },
    ["a scope that is no text"] = { "token_url = 'https://a/t', client_id = 'x', client_secret = 'y', scope = { 'a', 5 }", "scope: expected a string or a list of strings" },
    ["a lifetime that is text"] = { "token_url = 'https://a/t', client_id = 'x', client_secret = 'y', lifetime = '1h'", "lifetime: expected seconds as a number, got string" },
    ["http2 by another name"] = { "token_url = 'https://a/t', client_id = 'x', client_secret = 'y', http2 = 'h2'", 'http2: expected true, false or "auto", got "h2"' },
    ["http2 by agreement, and no TLS"] = { "token_url = 'http://a/t', client_id = 'x', client_secret = 'y', http2 = 'auto'", 'http2: "auto" has no use over http://' },
    ["a token_url without its scheme"] = {
      "token_url = 'login.example.com/t', client_id = 'x', client_secret = 'y'",
      'expected a URL that begins with https:// or http://, got "login.example.com/t" (did you mean "https://login.example.com/t"?)',
    },
    ["a token_url of another scheme"] = { "token_url = 'ftp://a/t', client_id = 'x', client_secret = 'y'", 'got "ftp://a/t"\n' },
    ["a token_url that may hold a password"] = { "token_url = 'me:s3cret@a/t', client_id = 'x', client_secret = 'y'", "got another text\n" },
    ["no token_url"] = { "client_id = 'x', client_secret = 'y'", "token_url" },
    ["no secret"] = { "token_url = 'https://a/t', client_id = 'x'", "client_secret" },
    ["an authentication that it does not know"] = { "token_url = 'https://a/t', client_id = 'x', client_secret = 'y', auth = 'bearer'", "auth: expected" },
    ["an extra parameter that the grant writes"] = { "token_url = 'https://a/t', client_id = 'x', client_secret = 'y', extra = { scope = 'z' }", "extra: scope" },
    ["a token's key with a wrong value"] = { "token_url = 'https://a/t', client_id = 'x', client_secret = 'y', wait = 'long'", "tokens.api.wait" },
  } do
    it("is told with the policy's line: " .. what, function()
      local path = process.write_file(process.temp_dir() .. "/policy.lua",
        ("local oauth2 = require 'jeton.oauth2'\nreturn { listen = '127.0.0.1:0', upstream = 'http://a',\n tokens = { api = oauth2.client_credentials { %s } } }"):format(case[1]))
      local code, _, err = jeton.run { "check", path }
      assert.equal(78, code)
      assert.matches("policy.lua:3: ", err)
      assert.is_truthy(err:find(case[2], 1, true), err)
    end)
  end

  for module, case in pairs {
    ["jeton.oauth2"] = { "client_credential {}", "has no 'client_credential': did you mean 'client_credentials'?" },
    ["jeton.jwt"] = { "verify 'x'", "has no 'verify': there are claims and sign" },
  } do
    it("names the functions of " .. module .. " when it is asked for one that it has not", function()
      local path = process.write_file(process.temp_dir() .. "/policy.lua", ("local module = require '%s'\nmodule.%s"):format(module, case[1]))
      local code, _, err = jeton.run { "check", path }
      assert.equal(78, code)
      assert.is_truthy(err:find("policy.lua:2: " .. module .. " " .. case[2], 1, true), err)
    end)
  end
end)
