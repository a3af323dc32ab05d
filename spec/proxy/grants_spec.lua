--- The grants of jeton.oauth2 beside client_credentials and refresh_token, and DPoP, against oidc-provider and jose (peers/grants.mjs) and oauth2-mock-server.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local dir, issuer, ports, proxy

local function pem(name) return dir .. "/" .. name end
local function url(port, path) return ("http://127.0.0.1:%d%s"):format(port, path or "") end
local function world(orders)
  local res = http.request(math.tointeger(ports.upstream), orders and "POST" or "GET", "/world", nil, orders and cjson.encode(orders))
  return cjson.decode(res.body)
end
local function last(list) return list[#list] end
local function token() return proxy:status().tokens[1] end
local function refresh() return jeton.run { "refresh", "api", "--control", proxy.control_path } end
local function keeps_quiet(secrets)
  local said = proxy:errors() .. proxy:output() .. proxy:control("GET", "/status").body
  for _, s in ipairs(secrets) do assert.is_nil(said:find(s, 1, true), said) end
end

--- A policy whose token is made by oauth2.GRANT { OPTIONS }, before the upstream; `more`: hooks, instead of the one that writes a Bearer token.
local function policy(grant, options, more)
  return ([[
local oauth2 = require "jeton.oauth2"
local dpop = oauth2.dpop { key = jeton.secret.file %q }
return {
  listen = "127.0.0.1:0", upstream = %q, log = { level = "debug" },
  tokens = { api = oauth2.%s { token_url = %q, %s } },
  %s
}]]):format(pem "ecdsa.key", url(ports.upstream), grant, url(ports.issuer, "/token"), options,
    more or [[on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,]])
end
local function start(...)
  proxy = jeton.start(policy(...))
  return proxy
end
local function machine(more) return ("client_id = 'machine', client_secret = jeton.secret.value %q, %s"):format(ports.secret, more) end
local function served()
  local res = http.get(proxy.port)
  assert.equal(200, res.status, proxy:errors() .. res.body)
end
local function refused(reason)
  assert.equal(503, http.get(proxy.port).status)
  process.poll(function() return token().failures >= 1 end, 10, "a failed fetch")
  assert.is_truthy(token().last_error:find(reason, 1, true), token().last_error)
end

describe("jeton.oauth2", function()
  setup(function()
    dir = peers.certificates()
    issuer, ports = peers.grants(dir)
  end)
  teardown(function() issuer:stop() end)
  before_each(function() world { issuer_nonce = false, nonce = cjson.null } end)
  after_each(function()
    if proxy then proxy:finish() end
    proxy = nil
  end)

  describe("jwt_bearer", function()
    local function jwt(more) return ("jwt = { issuer = 'reports', subject = 'someone', key = jeton.secret.file %q, %s }"):format(pem "rsa.key", more or "") end

    it("exchanges a JWT that it signs, a new one for each fetch", function()
      start("jwt_bearer", machine(jwt "claims = { team = 'a' }, lifetime = 300, skew = 30, kid = 'k1'"))
      served()
      local first = world()
      local claims = first.asserted.payload
      assert.same({ "reports", "someone", "a", url(ports.issuer, "/token") }, { claims.iss, claims.sub, claims.team, claims.aud })
      assert.equal(330, claims.exp - claims.iat)
      assert.equal("k1", first.asserted.header.kid)
      world { revoke = true } -- the token is refused, a new one fetched, and the request sent again
      served()
      assert.is_not.equal(claims.jti, world().asserted.payload.jti)
      keeps_quiet { last(world().bodies).assertion:match "[%w_-]+$", last(world().tokens), ports.secret }
    end)

    it("takes a JWT from a file that is rotated, from a client without a secret", function()
      local path = process.temp_dir() .. "/token"
      local function put(subject)
        local code = process.run({ "node", "--input-type=module", "-e", [[
          import fs from 'node:fs'; import { createPrivateKey } from 'node:crypto'; import { SignJWT } from 'jose';
          const [key, file, subject, audience] = process.argv.slice(1);
          const jwt = await new SignJWT({}).setProtectedHeader({ alg: 'RS256' }).setIssuer('cluster').setSubject(subject).setAudience(audience)
            .setIssuedAt().setExpirationTime('5m').sign(createPrivateKey(fs.readFileSync(key)));
          fs.writeFileSync(file + '.new', jwt + '\n'); fs.renameSync(file + '.new', file);]],
          pem "rsa.key", path, subject, url(ports.issuer, "/token") }, { cwd = jeton.root .. "/spec/support/peers" })
        assert.equal(0, code)
      end
      put "one"
      start("jwt_bearer", ("client_id = 'anyone', jwt = { token = jeton.secret.file %q }"):format(path))
      served()
      assert.equal("one", world().asserted.payload.sub)
      assert.is_nil(last(world().bodies).client_secret)
      put "two"
      process.poll(function()
        assert.equal(0, (refresh()))
        return world().asserted.payload.sub == "two"
      end, 10, "the new file")
    end)

    it("says what the issuer says of it", function()
      start("jwt_bearer", machine(jwt "audience = 'https://elsewhere', " .. ", wait = '50ms'"))
      refused 'invalid_grant'
    end)
  end)

  it("password logs in with a name and a password, whatever bytes they have", function()
    start("password", machine "username = 'me & you', password = jeton.secret.value 'pass word'")
    served()
    world { revoke = true }
    served()
    assert.equal("me & you", last(world().bodies).username)
    keeps_quiet { "pass word" }
  end)

  it("token_exchange gives one token for another (RFC 8693)", function()
    start("client_credentials", machine "")
    served()
    proxy:finish()
    local path = process.write_file(process.temp_dir() .. "/subject", last(world().tokens) .. "\n")
    start("token_exchange", machine(("subject = jeton.secret.file %q, requested = 'access_token', audience = 'reports'"):format(path)))
    served()
    local body = last(world().bodies)
    assert.equal("urn:ietf:params:oauth:token-type:access_token", body.subject_token_type)
    assert.equal("urn:ietf:params:oauth:token-type:access_token", body.requested_token_type)
    assert.is_nil(body.actor_token)
    assert.equal("reports", body.audience)
    keeps_quiet { body.subject_token }
  end)
end)

--- Proofs: what the upstream asks of them is in peers/grants.mjs, and of the issuer's oidc-provider's own.
describe("dpop", function()
  setup(function()
    dir = dir or peers.certificates()
    issuer, ports = peers.grants(dir)
  end)
  teardown(function() issuer:stop() end)
  before_each(function() world { issuer_nonce = false, nonce = cjson.null } end)
  after_each(function()
    if proxy then proxy:finish() end
    proxy = nil
  end)

  local SIGN = [[
  on_send = function(req, tokens) dpop:sign(req, tokens.api) end,
  on_response = function(res, req) dpop:check(res, req) end,]]

  it("proves each try, over a refused token and its replay", function()
    start("client_credentials", machine "dpop = dpop", SIGN)
    served()
    http.get(proxy.port, "/a/path?with=query")
    local before = world()
    world { revoke = true }
    served()
    local after = world()
    assert.equal(1, #after.granted - #before.granted)
    assert.equal(1, after.refused - before.refused)
    assert.equal("/a/path", before.proofs[#before.proofs].htu:match "//[^/]+(.*)")
    keeps_quiet { last(after.tokens), ports.secret }
    for _, proof in ipairs(after.proofs) do assert.is_nil(proof.nonce) end
  end)

  it("goes once more with the nonce that the issuer asks for", function()
    world { issuer_nonce = true }
    local before = #world().errors
    start("client_credentials", machine "dpop = { key = jeton.secret.file 'KEY' }" :gsub("KEY", pem "ecdsa.key"), SIGN)
    served()
    assert.equal(before + 1, #world().errors)
    assert.equal(0, (refresh())) -- with the nonce that is known
    assert.equal(before + 1, #world().errors)
    served()
  end)

  it("goes once more with the nonce that the upstream asks for, its body too, and keeps the token", function()
    start("client_credentials", machine "dpop = dpop", SIGN)
    served()
    local granted = #world().granted
    for _, nonce in ipairs { "n1", "n2" } do
      world { nonce = nonce }
      local refused_before = world().refused
      local res = http.request(proxy.port, "POST", "/x", nil, "the body")
      assert.equal(200, res.status, res.body)
      assert.equal("the body", cjson.decode(res.body).body)
      assert.equal(1, world().refused - refused_before)
      served()
      assert.equal(1, world().refused - refused_before)
    end
    assert.equal(granted, #world().granted)
  end)

  it("waits for a token, and goes on over a reload", function()
    start("client_credentials", machine "dpop = dpop", SIGN)
    served()
    proxy:reload_file(process.read_file(proxy.policy) .. "\n-- changed")
    assert.equal(200, proxy:control("POST", "/reload").status)
    local granted = #world().granted
    served()
    assert.equal(granted, #world().granted) -- the same key: the same token
    proxy:reload_file((process.read_file(proxy.policy):gsub("ecdsa%.key", "exact.key")))
    assert.equal(200, proxy:control("POST", "/reload").status)
    served()
    assert.is_true(#world().granted > granted)
  end)

  it("binds what a refresh token gives", function()
    start("refresh_token", ("client_id = 'app', client_secret = jeton.secret.value %q, refresh_token = jeton.secret.value %q, dpop = dpop"):format(ports.secret, ports.refresh), SIGN)
    served()
    assert.equal(0, (refresh()))
    served()
  end)

  for what, case in pairs {
    ["sign in on_request"] = { "on_request = function(req, tokens) dpop:sign(req, tokens.api) end,", "dpop:sign: belongs into on_send, where a request's target is known" },
    ["sign without a token"] = { "on_send = function(req) dpop:sign(req, 'text') end,", "dpop:sign: expected a token, as in dpop:sign(req, tokens.api), got string" },
  } do
    it("says what to write instead: " .. what, function()
      start("client_credentials", machine "dpop = dpop", case[1])
      assert.equal(500, http.get(proxy.port).status)
      proxy:wait_log(case[2])
    end)
  end
end)

describe("a client of jeton.oauth2", function()
  local w
  before_each(function() w = peers.world() end)
  after_each(function()
    if proxy then proxy:finish() end
    proxy = nil
    w:stop()
  end)
  local function open(options)
    proxy = jeton.start(([[
local oauth2 = require "jeton.oauth2"
return { listen = "127.0.0.1:0", upstream = %q, tokens = { api = oauth2.client_credentials { token_url = %q, client_id = "spec", %s } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end }]]):format(w.upstream_url, w.token_url, options))
    assert.equal(200, http.get(proxy.port).status)
    return last(w:stats().bodies)
  end

  it("sends Basic as it stands, without form encoding, when asked to", function()
    local sent = open [[auth = "basic_raw", client_secret = jeton.secret.value "s3cret+/ x"]]
    assert.equal("Basic " .. require "mime".b64 "spec:s3cret+/ x", sent.authorization)
  end)

  it("proves itself with somebody else's assertion, from a file that is rotated", function()
    local path = process.write_file(process.temp_dir() .. "/token", "first.assertion.x\n")
    local sent = open(("auth = 'private_key_jwt', assertion = { token = jeton.secret.file %q }"):format(path)).form
    assert.same({ "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "first.assertion.x", "spec" }, { sent.client_assertion_type, sent.client_assertion, sent.client_id })
    process.write_file(path .. ".new", "second.assertion.y\n")
    assert(os.rename(path .. ".new", path))
    process.poll(function()
      assert.equal(0, (refresh()))
      return last(w:stats().bodies).form.client_assertion == "second.assertion.y"
    end, 10, "the new file")
    keeps_quiet { "first.assertion", "second.assertion" }
  end)

  it("names its certificate by x5t and x5t#S256, and gives an assertion its lifetime, skew and claims", function()
    dir = dir or peers.certificates()
    local form = open(("auth = 'private_key_jwt', assertion = { key = jeton.secret.file %q, cert = %q, lifetime = 600, skew = 60, claims = { tier = 'gold' } }")
      :format(pem "client.key", pem "client.pem"):gsub("{ key", "{ alg = 'ES256', key")).form
    local part = function(n)
      local text = select(n, form.client_assertion:match "^([^.]+)%.([^.]+)"):gsub("-", "+"):gsub("_", "/")
      return cjson.decode((require "mime".unb64(text .. ("="):rep(-#text % 4))))
    end
    local header, claims = part(1), part(2)
    for name, hash in pairs { x5t = "sha1", ["x5t#S256"] = "sha256" } do
      local _, out = process.run { "sh", "-c", ("openssl x509 -in %s -outform der | openssl dgst -%s -binary | base64 | tr '+/' '-_' | tr -d '=\\n'"):format(pem "client.pem", hash) }
      assert.equal(out, header[name])
    end
    assert.equal(660, claims.exp - claims.iat)
    assert.equal("gold", claims.tier)
  end)
end)

describe("misuse of the grants of jeton.oauth2", function()
  local key = "key = jeton.secret.file 'KEY'"
  for what, case in pairs {
    ["no jwt"] = { "jwt_bearer", "", "jwt: is needed: jwt = { issuer =" },
    ["a jwt of nobody"] = { "jwt_bearer", "jwt = { " .. key .. " }", "jwt.issuer: expected a string, who signs, got nil" },
    ["a jwt with an unknown option"] = { "jwt_bearer", "jwt = { issuer = 'x', isuer = 'y' }", "unknown option 'jwt.isuer': did you mean 'issuer'?" },
    ["a key in plain text"] = { "jwt_bearer", "jwt = { issuer = 'x', key = 'pem' }", 'jwt.key: expected a private key such as jeton.secret.file "client.key", got string' },
    ["a key of the wrong kind"] = { "jwt_bearer", "jwt = { issuer = 'x', " .. key .. " }", "this algorithm needs an RSA key" },
    ["a claim that jeton writes"] = { "jwt_bearer", "jwt = { issuer = 'x', claims = { sub = 'y' }, " .. key .. " }", "jwt.claims: sub is written by jeton: give jwt.subject" },
    ["a token and a key"] = {
      "jwt_bearer", "jwt = { token = jeton.secret.value 'x', " .. key .. " }", "jwt.key: has no use beside jwt.token, which is signed already",
    },
    ["a life of nothing"] = { "jwt_bearer", "jwt = { issuer = 'x', lifetime = 0, " .. key .. " }", "jwt.lifetime: expected seconds, 1 to 86400, as a number" },
    ["a certificate that is named twice"] = {
      "jwt_bearer", "jwt = { issuer = 'x', cert = 'c.pem', header = { x5t = 'y' }, " .. key .. " }", "jwt.header: x5t is made of jwt.cert, leave one of them out",
    },
    ["another key's certificate"] = {
      "jwt_bearer", "jwt = { issuer = 'x', alg = 'ES256', cert = 'DIR/client.pem', " .. key .. " }", "client.pem is not the certificate of jwt.key",
    },
    ["a certificate that is not there"] = { "jwt_bearer", "jwt = { issuer = 'x', cert = 'DIR/none.pem', " .. key .. " }", "none.pem" },
    ["a certificate that is none"] = { "jwt_bearer", "jwt = { issuer = 'x', cert = 'DIR/ecdsa.pin', " .. key .. " }", "ecdsa.pin: not a key in PEM" },
    ["a client's claim that jeton writes"] = {
      "client_credentials", "client_id = 'x', auth = 'private_key_jwt', assertion = { claims = { iss = 'y' }, " .. key .. " }",
      "assertion.claims: iss is written by jeton: it is client_id",
    },
    ["a parameter that the grant writes"] = { "password", "username = 'a', password = 'b', extra = { username = 'c' }", "extra: username is written by the grant itself" },
    ["no password"] = { "password", "username = 'a'", "password: expected a string or a secret, got nil" },
    ["a colon in raw Basic"] = { "client_credentials", "client_id = 'a:b', client_secret = 'c', auth = 'basic_raw'", "client_id: it has a colon, which auth = " },
    ["no subject"] = { "token_exchange", "", "subject: is needed, the token to exchange: a secret, or family = true and tokens.NAME:of(key, { subject = … }) in on_request" },
    ["a subject in plain text"] = { "token_exchange", "subject = 'abc'", 'subject: expected a secret such as jeton.secret.file "PATH", got string' },
    ["an unknown type"] = { "token_exchange", "subject = jeton.secret.value 'x', requested = 'bearer'", 'requested: expected "access_token"' },
    ["a proof without a key"] = { "client_credentials", "client_id = 'a', client_secret = 'b', dpop = {}", 'dpop: key: expected a private key such as jeton.secret.file "dpop.key", got nil' },
    ["a proof by another algorithm"] = {
      "client_credentials", "client_id = 'a', client_secret = 'b', dpop = { alg = 'RS256', " .. key .. " }", "dpop: this algorithm needs an RSA key",
    },
  } do
    it("is told with the policy's line: " .. what, function()
      dir = dir or peers.certificates()
      local path = process.write_file(process.temp_dir() .. "/policy.lua",
        ("local oauth2 = require 'jeton.oauth2'\nreturn { listen = '127.0.0.1:0', upstream = 'http://a',\n tokens = { api = oauth2.%s { token_url = 'https://a/t', %s } } }")
          :format(case[1], (case[2]:gsub("KEY", pem "ecdsa.key"):gsub("DIR", dir))))
      local code, _, err = jeton.run { "check", path }
      assert.equal(78, code)
      assert.is_truthy(err:find("policy.lua:3: oauth2." .. case[1] .. ": ", 1, true), err)
      assert.is_truthy(err:find(case[3], 1, true), err)
    end)
  end
end)
