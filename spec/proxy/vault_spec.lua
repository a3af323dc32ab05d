--- jeton.vault, against an imitation of Vault (peers/vault.mjs): no package of the server can be had.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local uv = require "luv"

local dir, server, url, proxy

local function secret(name, text)
  local file = process.write_file(dir .. "/" .. name, text .. "\n")
  assert(uv.fs_chmod(file, 384))
end
local function order(orders)
  local res = assert(http.request(server.port, "POST", "/world", nil, cjson.encode(orders)))
  assert.equal(200, res.status, res.body)
  return cjson.decode(res.body)
end
local function world() return cjson.decode(assert(http.get(server.port, "/world")).body) end
local function asked(what)
  local count = 0
  for _, request in ipairs(world().requests) do count = count + (request:find(what, 1, true) and 1 or 0) end
  return count
end

local LOGIN = [[vault.approle { url = "URL", role_id = "role", secret_id = jeton.secret.file "DIR/secret-id" }]]
local DB = [[vault.dynamic { login = LOGIN, path = "database/creds/reports", value = "password", fields = { "username" }, %s }]]
local KV = [[vault.kv { login = LOGIN, path = "reports/api", value = "key", fields = { number = "id" }, %s }]]

local function policy(made, hook, more)
  return (([[
local vault = require "jeton.vault"
return {
  listen = "127.0.0.1:0", upstream = "URL", log = { level = "debug" },
  tokens = { api = %s },
  on_request = function(req, tokens) %s end, %s
}]]):format(made, hook, more or ""):gsub("LOGIN", LOGIN):gsub("URL", url):gsub("DIR", dir))
end
local DB_HOOK = [[req.headers.authorization = "Basic " .. jeton.base64.encode(tokens.api:field "username" .. ":" .. tokens.api)]]
local KV_HOOK = [[req.headers["x-api-key"] = tokens.api]]
local VAULT_HOOK = [[req.headers["x-vault-token"], req.headers["x-vault-request"] = tokens.api, "true"]]
local function db(options, more) return policy(DB:format(options or ""), DB_HOOK, more) end
local function kv(options, more) return policy(KV:format(options or ""), KV_HOOK, more) end

local function token() return proxy:status().tokens[1] end
local function user()
  local res = http.get(proxy.port, "/db")
  assert.equal(200, res.status, res.body)
  return cjson.decode(res.body).user
end
local function reload(text)
  proxy:reload_file(text)
  assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
end

setup(function()
  local p = process.start { "node", "spec/support/peers/vault.mjs" }
  local ports = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 20, "the imitation to start")
  server = { process = p, port = math.tointeger(cjson.decode(ports).port) }
  url = "http://127.0.0.1:" .. server.port
end)
teardown(function() server.process:stop() end)
before_each(function()
  dir = process.temp_dir()
  secret("secret-id", "secret-of-role")
  secret("jwt", "service-account-jwt")
  secret("ci", "ci-jwt")
  order { forget = true, token_ttl = 3600, lease_ttl = 600, max_ttl = 86400, renewable = true, key = "first", sealed = false, last_second = false, namespace = "" }
end)
after_each(function()
  local said = proxy and proxy:errors() .. proxy:control("GET", "/status").body or ""
  if proxy then proxy:finish() end
  proxy = nil
  for _, word in ipairs { "hvs%.", "secret%-of%-role", "pw%-%x", "ci%-jwt", "account%-jwt" } do assert.is_nil(said:find(word), said) end
end)

describe("a login to Vault", function()
  for name, made in pairs {
    approle = LOGIN,
    kubernetes = [[vault.kubernetes { url = "URL", role = "reports", token = jeton.secret.file "DIR/jwt" }]],
    jwt = [[vault.jwt { url = "URL", role = "reports", mount = "ci", token = jeton.secret.file "DIR/ci" }]],
  } do
    it("is a token for Vault itself: " .. name, function()
      proxy = jeton.start(policy(made, VAULT_HOOK))
      local res = http.get(proxy.port, "/v1/secret/data/reports/api")
      assert.equal(200, res.status, res.body)
      assert.is_true(token().expires_in > 3500)
      order { forget = true } -- all tokens are gone: Vault answers 403, which is not a refusal by default
      assert.equal(403, http.get(proxy.port, "/v1/secret/data/reports/api").status)
      reload(policy((made:gsub("}$", ", reject_on = { 403 } }")), VAULT_HOOK))
      assert.equal(200, http.get(proxy.port, "/v1/secret/data/reports/api").status)
    end)
  end

  it("goes to Vault and nobody else", function()
    local other = peers.nginx [[ location / { return 200 "$http_x_vault_token"; } ]]
    proxy = jeton.start((policy(LOGIN, VAULT_HOOK):gsub('upstream = "[^"]*"', ('upstream = "http://127.0.0.1:%d"'):format(other.port))))
    local res = http.get(proxy.port, "/")
    assert.equal(500, res.status, res.body)
    proxy:wait_log "TOKEN_AUDIENCE"
  end)

  it("is renewed until max_ttl, then made anew", function()
    order { token_ttl = 4, max_ttl = 7 }
    proxy = jeton.start(policy(LOGIN, VAULT_HOOK))
    process.poll(function()
      assert.equal(200, http.get(proxy.port, "/v1/secret/data/reports/api").status)
      return world().logins >= 2
    end, 15, "another login")
    assert.is_true(asked "renew-self" >= 1)
  end)

  it("may be a token that somebody else has made, which is renewed and not revoked", function()
    order { token_ttl = 6 }
    secret("token", order { make = { ttl = 300, renewable = true } }.token) -- what a start takes is not known
    proxy = jeton.start(policy([[vault.token { url = "URL", token = jeton.secret.file "DIR/token" }]], VAULT_HOOK))
    assert.equal(200, http.get(proxy.port, "/v1/secret/data/reports/api").status)
    process.poll(function() return asked "renew-self" >= 2 end, 10, function() return "a renewal:\n" .. proxy:errors() end)
    proxy:finish()
    proxy = nil
    assert.equal(0, asked "revoke")
    assert.equal(1, world().tokens)
  end)

  it("has an end where Vault says 0 seconds in its last one, and none where it says that there is none", function()
    secret("token", order { last_second = true, token_ttl = 60, make = { ttl = 300, renewable = true } }.token)
    proxy = jeton.start(policy([[vault.token { url = "URL", token = jeton.secret.file "DIR/token" }]], VAULT_HOOK))
    assert.equal(200, http.get(proxy.port, "/v1/secret/data/reports/api").status)
    assert.is_true(token().expires_in <= 60)
    secret("token", order { make = { ttl = 0, renewable = false } }.token)
    assert.equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    assert.is_true(token().expires_in > 3000)
  end)

  it("has a namespace", function()
    order { namespace = "team/a" }
    proxy = jeton.start(policy((LOGIN:gsub("}$", ', namespace = "team/a" }')), [[req.headers["x-vault-namespace"] = "team/a" ]] .. VAULT_HOOK))
    assert.equal(200, http.get(proxy.port, "/v1/secret/data/reports/api").status)
  end)

  it("that is refused is told in Vault's words", function()
    secret("secret-id", "another")
    proxy = jeton.start(policy((LOGIN:gsub("}$", ', wait = "500ms" }')), VAULT_HOOK))
    assert.equal(503, http.get(proxy.port, "/v1/secret/data/reports/api").status)
    proxy:wait_log "Vault answered 400: invalid role or secret ID"
    secret("secret-id", "secret-of-role")
    assert.equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    assert.equal(200, http.get(proxy.port, "/v1/secret/data/reports/api").status)
  end)
end)

describe("vault.dynamic", function()
  it("serves one secret for as long as its lease can be renewed, and over a reload", function()
    order { lease_ttl = 2 }
    proxy = jeton.start(db())
    local first = user()
    process.poll(function()
      assert.equal(first, user())
      return asked "leases/renew" >= 2
    end, 10, "two renewals")
    reload(db(nil, "via = true,"))
    assert.equal(first, user())
    assert.equal(1, world().logins)
    assert.equal(1, #world().leases)
  end)

  it("has another secret at max_ttl, before the first has ended, and no request fails", function()
    order { lease_ttl = 2, max_ttl = 4 }
    proxy = jeton.start(db())
    local first = user()
    process.poll(function() return user() ~= first end, 12, "another secret")
  end)

  it("lives no longer than the client token that it hangs on", function()
    order { token_ttl = 100, lease_ttl = 600 }
    proxy = jeton.start(db())
    user()
    assert.is_true(token().expires_in <= 100)
  end)

  it("has another secret behind a 401, for the same request", function()
    proxy = jeton.start(db())
    local first = user()
    order { forget = true }
    assert.not_equal(first, user())
    assert.equal(2, token().generation)
  end)

  it("keeps what is valid while Vault is sealed", function()
    order { lease_ttl = 3 }
    proxy = jeton.start(db())
    local first = user()
    order { sealed = true }
    proxy:wait_log("Vault answered 503: Vault is sealed", 10)
    assert.equal(first, user())
    order { sealed = false }
    process.poll(function() return asked "leases/renew" >= 1 end, 10, "a renewal")
    assert.equal(first, user())
  end)

  it("gives its lease back at the end, with the client token that jeton made", function()
    proxy = jeton.start(db())
    user()
    proxy:finish()
    proxy = nil
    assert.equal(1, asked "revoke-self")
    assert.same({ 0, 0 }, { world().tokens, #world().leases })
  end)

  it("gives its lease alone back where the client token is somebody else's", function()
    secret("token", order { make = { ttl = 600, renewable = true } }.token)
    proxy = jeton.start((db():gsub("vault%.approle %b{}", ('vault.token { url = %q, token = jeton.secret.file %q }'):format(url, dir .. "/token"))))
    user()
    proxy:finish()
    proxy = nil
    assert.same({ 1, 0 }, { world().tokens, #world().leases })
  end)

  it("may have no lease, with keys renamed to what a signature wants", function()
    proxy = jeton.start(policy([[vault.dynamic { login = LOGIN, path = "aws/sts/deploy", data = { ttl = "15m" }, value = "secret_key",
      fields = { access_key_id = "access_key", session_token = "security_token" }, lifetime = 900 }]],
      [[req.headers["x-api-key"] = tokens.api:field "access_key_id" .. tokens.api .. tokens.api:field "session_token"]]))
    order { key = "AKIAsk-15mst" }
    assert.equal(200, http.get(proxy.port, "/key").status)
    assert.is_true(token().expires_in > 800 and token().expires_in <= 900)
  end)
end)

describe("vault.kv", function()
  for name, engine in pairs { ["KV 2"] = "", ["KV 1"] = [[engine = 1, mount = "kv", fields = {}]] } do
    it("reads what stands there, and again behind a 401: " .. name, function()
      proxy = jeton.start(kv(engine))
      assert.equal(200, http.get(proxy.port, "/key").status)
      order { key = "second" }
      assert.equal(200, http.get(proxy.port, "/key").status)
      assert.equal(1, world().logins) -- the client token is another matter
    end)
  end

  it("reads again after `lifetime`, with the same login while that can be renewed", function()
    proxy = jeton.start(kv "lifetime = 1")
    process.poll(function() return asked "secret/data" >= 3 end, 10, "three readings")
    assert.equal(1, world().logins)
    order { renewable = false, token_ttl = 60 }
    order { key = "second" }
    process.poll(function() return http.get(proxy.port, "/key").status == 200 end, 5, "the new key")
  end)

  it("leaves no client token behind that cannot be renewed", function()
    order { renewable = false }
    proxy = jeton.start(kv "lifetime = 1")
    process.poll(function() return asked "secret/data" >= 3 end, 10, "three readings")
    process.poll(function() return world().tokens <= 1 end, 5, "one token at the most")
  end)

  it("says what is not there", function()
    proxy = jeton.start((kv "wait = '500ms'":gsub('"reports/api"', '"reports/none"')))
    assert.equal(503, http.get(proxy.port, "/key").status)
    proxy:wait_log "Vault answered 404: no handler for route"
    proxy:finish()
    proxy = jeton.start((kv "wait = '500ms'":gsub('value = "key"', 'value = "password"')))
    assert.equal(503, http.get(proxy.port, "/key").status)
    proxy:wait_log "Vault's secret has no 'password'"
  end)

  it("is a family by path", function()
    proxy = jeton.start((policy(KV:format "family = true", [[req.headers["x-api-key"] = tokens.api["api"] ]]):gsub('path = "reports/api"', 'path = function(key) return "reports/" .. key end')))
    assert.equal(200, http.get(proxy.port, "/key").status)
  end)
end)

describe("the example", function()
  it("vault-dynamic works", function()
    proxy = jeton.start { file = jeton.root .. "/examples/vault-dynamic.lua",
      env = { LISTEN = "127.0.0.1:0", UPSTREAM = url, VAULT_ADDR = url, ROLE_ID = "role", SECRET_FILE = dir .. "/secret-id" } }
    assert.equal("v-", user():sub(1, 2))
  end)
end)

describe("a policy with what is no secret of Vault's", function()
  for text, expected in pairs {
    [ [[vault.approle { role_id = "r" }]] ] = 'vault.approle: url: is needed, and is a URL such as "https://host"',
    [ [[vault.approle { url = "URL", role_id = "r", secret_id = "s" }]] ] = 'vault.approle: secret_id: expected a secret such as jeton.secret.file "PATH", got another string',
    [ [[vault.jwt { url = "URL", role = "r" }]] ] = "vault.jwt: token: is needed, and is a secret",
    [ [[vault.dynamic { login = {}, path = "a", value = "b" }]] ] = "vault.dynamic: login: expected a login such as vault.approle { … }, got table",
    [ [[vault.dynamic { login = LOGIN, path = "a", value = "b", fields = { "lease_id" } }]] ] =
      'vault.dynamic: fields: lease_id is the module\'s own: give it another name, as in { my_lease_id = "lease_id" }',
    [ [[vault.dynamic { login = LOGIN, path = "a", value = "b", url = "URL" }]] ] = "vault.dynamic: unknown option 'url'",
    [ [[vault.kv { login = LOGIN, path = "a", value = "b", engine = 3 }]] ] = "vault.kv: engine: expected one of 1, 2, got number",
    [ [[vault.kv { login = vault.approle { url = "URL", family = true, role_id = function(key) return key end }, path = "a", value = "b" }]] ] = "vault.kv: login: is a family",
    [ [[vault.login {}]] ] = "jeton.vault has no 'login'",
  } do
    it("is refused: " .. text, function()
      local file = process.write_file(dir .. "/policy.lua", policy(text, ""))
      local code, out, err = jeton.run { "check", file }
      assert.equal(78, code, out .. err)
      assert.is_truthy((out .. err):find(expected, 1, true), out .. err)
      assert.is_truthy((out .. err):find("policy.lua:4:", 1, true), out .. err)
    end)
  end
end)
