--- jeton.oauth2 over TLS, and every way in which a client authenticates, against oidc-provider (peers/oidc.mjs) with certificates of a throw-away authority.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local dir, oidc, ports, proxy

local function pem(name) return dir .. "/" .. name end
local function file(name) return ("jeton.secret.file %q"):format(pem(name)) end
local function token() return proxy:status().tokens[1] end
local function refresh() return jeton.run { "refresh", "api", "--control", proxy.control_path } end
local function world() return cjson.decode(http.get(math.tointeger(ports.upstream), "/world").body) end
local function last_body()
  local bodies = world().bodies
  return bodies[#bodies]
end

--- A policy whose token is made by oauth2.GRANT for that client; `tls` replaces the trust in the authority.
local function start(grant, client, options, tls)
  proxy = jeton.start(([[
local oauth2 = require "jeton.oauth2"
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", log = { level = "debug" },
  tokens = { api = oauth2.%s { token_url = "https://localhost:%d/token", client_id = %q, tls = { %s }, wait = %q, %s } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
}]]):format(ports.upstream, grant, ports.issuer, client, tls or ("ca = %q"):format(pem "ca.pem"), options:find "BAD" and "50ms" or "9s", options))
  return proxy
end
local function with_certificate(name) return ("ca = %q, cert = %q, key = %q"):format(pem "ca.pem", pem(name .. ".pem"), pem(name .. ".key")) end

--- The lines of a private key, without its frame: none may be said anywhere.
local function lines_of(name)
  local lines = {}
  for line in process.read_file(pem(name)):gmatch "[%w+/=]+\n" do lines[#lines + 1] = line:sub(1, -2) end
  assert(#lines >= 1)
  return lines
end
local function keeps_quiet(secrets)
  local said = proxy:errors() .. proxy:output() .. proxy:control("GET", "/status").body
  for _, s in ipairs(secrets) do assert.is_nil(said:find(s, 1, true), said) end
end

--- 200 through the proxy; what the upstream says of the token.
local function served()
  local res = http.get(proxy.port)
  assert.equal(200, res.status, proxy:errors())
  return cjson.decode(res.body)
end
--- 503 through the proxy, and the token's last error holds `reason`.
local function refused(reason)
  assert.equal(503, http.get(proxy.port).status)
  process.poll(function() return token().failures >= 1 end, 10, "a failed fetch")
  local why = token().last_error
  assert.is_truthy(why:find(reason, 1, true), why)
  proxy:wait_log(reason)
end

--- jose and node:crypto believe the assertion: its header and claims.
local function verified(assertion, alg, key)
  local path = process.write_file(process.temp_dir() .. "/token", assertion)
  local code, out, err = process.run { "node", jeton.root .. "/spec/support/peers/verify-jwt.mjs", path, alg, key }
  return code == 0 and cjson.decode(out) or nil, err
end

describe("jeton.oauth2 over TLS", function()
  setup(function()
    dir = peers.certificates()
    oidc, ports = peers.oidc(dir)
    process.write_file(pem "client.secret", ports.secret)
  end)
  teardown(function() oidc:stop() end)
  after_each(function()
    if proxy then proxy:finish() end
    proxy = nil
  end)

  describe("with a secret", function()
    for short, auth in pairs { basic = "client_secret_basic", post = "client_secret_post" } do
      it("authenticates by " .. auth, function()
        start("client_credentials", short, ("auth = %q, client_secret = %s"):format(auth, file "client.secret"))
        assert.equal(short, served().client)
        keeps_quiet { ports.secret }
      end)
    end

    it("tells what TLS said behind the handshake, too", function()
      -- In front of the issuer: relays the handshake record by record, and answers the client's first record of application data with what is no record.
      -- With TLS 1.3 that is its Finished, behind which its handshake is over; its request may come in one piece with it or with what goes before.
      local script = process.write_file(process.temp_dir() .. "/middle.mjs", [[
import net from 'node:net';
const server = net.createServer((client) => {
  const issuer = net.connect(Number(process.argv[2]), '127.0.0.1');
  issuer.on('data', (d) => client.write(d));
  let rest = Buffer.alloc(0);
  client.on('data', (d) => {
    rest = Buffer.concat([rest, d]);
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt16BE(3)) {
      if (rest[0] === 23) return void client.end('this is no record of TLS');
      issuer.write(rest.subarray(0, 5 + rest.readUInt16BE(3)));
      rest = rest.subarray(5 + rest.readUInt16BE(3));
    }
  });
  for (const s of [client, issuer]) s.on('error', () => {}).on('close', () => { client.destroy(); issuer.destroy(); });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.on('SIGTERM', () => process.exit(0));
]])
      local middle = process.start { "node", script, tostring(math.tointeger(ports.issuer)) }
      local port = process.poll(function() return middle:output():match "^(%d+)\n" end, 20, "the peer in the middle")
      local issuer = ports.issuer
      ports.issuer = math.tointeger(tonumber(port))
      start("client_credentials", "basic", ("--[[BAD]] client_secret = %s"):format(file "client.secret"))
      ports.issuer = issuer
      refused "what the peer sent is not TLS"
      middle:stop()
    end)

    it("sends nothing to a server whose certificate it cannot verify", function()
      local before = #world().granted + #world().errors
      start("client_credentials", "basic", ("--[[BAD]] client_secret = %s"):format(file "client.secret"), ("ca = %q"):format(pem "other-ca.pem"))
      refused "certificate"
      assert.equal(before, #world().granted + #world().errors)
      keeps_quiet { ports.secret }
    end)
  end)

  describe("with an assertion", function()
    local cases = { RS256 = "rsa", PS256 = "rsa", ES256 = "ecdsa", ES384 = "p384" }
    for alg, key in pairs(cases) do
      it("authenticates by private_key_jwt with " .. alg, function()
        start("client_credentials", alg, ("auth = 'private_key_jwt', assertion = { alg = %q, key = %s }"):format(alg, file(key .. ".key")))
        assert.equal(alg, served().client)
        local body = last_body()
        assert.equal("urn:ietf:params:oauth:client-assertion-type:jwt-bearer", body.client_assertion_type)
        assert.is_nil(body.client_secret)
        local jwt = assert(verified(body.client_assertion, alg, pem(key .. ".pub")))
        assert.same({ alg = alg, typ = "JWT" }, jwt.header)
        local claims = jwt.payload
        assert.equal(alg, claims.iss)
        assert.equal(alg, claims.sub)
        assert.equal(("https://localhost:%d/token"):format(ports.issuer), claims.aud)
        assert.equal(60, claims.exp - claims.iat)
        keeps_quiet(lines_of(key .. ".key"))
        keeps_quiet { body.client_assertion:match "[%w_-]+$" }
      end)
    end

    it("authenticates by client_secret_jwt, whatever bytes the secret has", function()
      start("client_credentials", "HS256", ("auth = 'client_secret_jwt', client_secret = %s"):format(file "client.secret"))
      assert.equal("HS256", served().client)
      assert.is_truthy(verified(last_body().client_assertion, "HS256", pem "client.secret"))
      keeps_quiet { ports.secret }
    end)

    it("makes a new one for each request", function()
      start("client_credentials", "ES256", ("auth = 'private_key_jwt', assertion = { alg = 'ES256', key = %s }"):format(file "ecdsa.key"))
      served()
      local first = last_body().client_assertion
      assert.equal(0, (refresh())) -- the provider takes each jti once
      assert.is_not.equal(first, last_body().client_assertion)
    end)

    it("names a key and another audience when told to", function()
      start("client_credentials", "RS256", ("auth = 'private_key_jwt', assertion = { key = %s, kid = 'k1', audience = 'https://localhost:%d', header = { typ = 'client-authentication+jwt' } }")
        :format(file "rsa.key", ports.issuer))
      -- The provider knows no key of that name.
      process.poll(function() return token().failures >= 1 end, 10, "a failed fetch")
      assert.is_truthy(token().last_error:find("401: invalid_client", 1, true), token().last_error)
      proxy:finish()
      start("client_credentials", "RS256", ("auth = 'private_key_jwt', assertion = { key = %s, audience = { 'https://localhost:%d', 'urn:other' }, header = { typ = 'client-authentication+jwt' } }")
        :format(file "rsa.key", ports.issuer))
      served()
      local jwt = assert(verified(last_body().client_assertion, "RS256", pem "rsa.pub"))
      assert.equal("client-authentication+jwt", jwt.header.typ)
      assert.same({ ("https://localhost:%d"):format(ports.issuer), "urn:other" }, jwt.payload.aud)
    end)

    it("for another audience is refused", function()
      start("client_credentials", "ES256", ("--[[BAD]] auth = 'private_key_jwt', assertion = { alg = 'ES256', key = %s, audience = 'https://elsewhere' }"):format(file "ecdsa.key"))
      refused "the token endpoint answered 401: invalid_client"
      local details = world().details
      assert.matches("audience", details[#details])
    end)

    it("by a wrong key is refused, and the log holds nothing of it", function()
      start("client_credentials", "ES256", ("--[[BAD]] auth = 'private_key_jwt', assertion = { alg = 'ES256', key = %s }"):format(file "exact.key"))
      refused "the token endpoint answered 401: invalid_client"
      keeps_quiet(lines_of "exact.key")
      keeps_quiet { "eyJ" }
    end)

    it("is signed by the key that is in the file now", function()
      local path = process.temp_dir() .. "/rotating.key"
      local function put(text)
        process.write_file(path .. ".new", text)
        assert(os.rename(path .. ".new", path))
      end
      put(process.read_file(pem "client.key"))
      start("client_credentials", "rotating", ("auth = 'private_key_jwt', assertion = { alg = 'ES256', key = jeton.secret.file %q }"):format(path))
      served()
      for _, name in ipairs { "client", "exact" } do
        assert.equal(0, (process.run { "openssl", "pkey", "-in", pem(name .. ".key"), "-pubout", "-out", pem(name .. ".pub") }))
      end
      assert.is_truthy(verified(last_body().client_assertion, "ES256", pem "client.pub"))

      put(process.read_file(pem "exact.key"))
      process.poll(function()
        assert.equal(0, (refresh()))
        return verified(last_body().client_assertion, "ES256", pem "exact.pub")
      end, 15, "an assertion by the new key")
      assert.is_nil((verified(last_body().client_assertion, "ES256", pem "client.pub")))

      put(process.read_file(pem "rsa.key")) -- a slip: the token at hand goes on, and the log says what is wrong
      process.poll(function() return refresh() ~= 0 end, 15, "a refresh to fail")
      assert.matches("rotating%.key>+ cannot sign ES256: this algorithm needs an EC key", token().last_error)
      served()
      keeps_quiet(lines_of "rsa.key")
      put(process.read_file(pem "client.key"))
      process.poll(function() return refresh() == 0 end, 15, "a refresh with the right key")
    end)
  end)

  describe("with a certificate", function()
    it("authenticates by tls_client_auth", function()
      start("client_credentials", "certificate", "auth = 'tls_client_auth'", with_certificate "client")
      assert.equal("certificate", served().client)
      local body = last_body()
      assert.equal("certificate", body.client_id)
      assert.is_nil(body.client_secret)
      assert.is_nil(body.client_assertion)
      assert.equal(0, (refresh()))
      keeps_quiet(lines_of "client.key")
    end)

    it("authenticates by self_signed_tls_client_auth", function()
      start("client_credentials", "self-signed", "auth = 'self_signed_tls_client_auth'", with_certificate "self-signed")
      assert.equal("self-signed", served().client)
    end)

    for name, detail in pairs { ["foreign-client"] = "not verified", ["expired-client"] = "not verified", ["other-client"] = "subject" } do
      it("that is not the client's is refused: " .. name, function()
        start("client_credentials", "certificate", "--[[BAD]] auth = 'tls_client_auth'", with_certificate(name))
        refused "the token endpoint answered 401: invalid_client"
        local details = world().details
        assert.matches(detail, details[#details])
        keeps_quiet(lines_of(name .. ".key"))
      end)
    end

    -- With TLS 1.2 the server says so within the handshake, with TLS 1.3 behind it.
    for name, said in pairs { ["foreign-client"] = "it does not know the authority of our certificate", ["expired-client"] = "our certificate has expired" } do
      it("that a server refuses by itself is told in its words: " .. name, function()
        local server = process.start { "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", pem "ecdsa.pem", "-key", pem "ecdsa.key",
          "-CAfile", pem "ca.pem", "-Verify", "2", "-verify_return_error", "-www" }
        local port = process.poll(function() return server:output():match "ACCEPT [%d.]+:(%d+)" end, 10, "s_server to listen")
        local issuer = ports.issuer
        ports.issuer = math.tointeger(tonumber(port))
        start("client_credentials", "certificate", "--[[BAD]] auth = 'tls_client_auth'", with_certificate(name))
        ports.issuer = issuer
        refused("the peer refused: " .. said)
        server:stop()
      end)
    end

    it("is another one for each token, also with one server", function()
      proxy = jeton.start(([[
local oauth2 = require "jeton.oauth2"
local function options(client, auth, name)
  return { token_url = "https://localhost:%d/token", client_id = client, auth = auth, tls = { ca = %q, cert = %q .. name .. ".pem", key = %q .. name .. ".key" } }
end
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
  tokens = { a = oauth2.client_credentials(options("certificate", "tls_client_auth", "client")),
    b = oauth2.client_credentials(options("self-signed", "self_signed_tls_client_auth", "self-signed")) },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens[req.path:sub(2)] end,
}]]):format(ports.issuer, pem "ca.pem", dir .. "/", dir .. "/", ports.upstream))
      assert.equal("certificate", cjson.decode(http.get(proxy.port, "/a").body).client)
      assert.equal("self-signed", cjson.decode(http.get(proxy.port, "/b").body).client)
    end)
  end)

  describe("refresh_token", function()
    for client, how in pairs {
      ["app-jwt"] = function() return "auth = 'private_key_jwt', assertion = { alg = 'PS256', key = " .. file "rsa.key" .. " }", nil, ports.refresh_jwt end,
      ["app-certificate"] = function() return "auth = 'tls_client_auth'", with_certificate "client", ports.refresh_certificate end,
    } do
      it("rotates for a client that has no secret: " .. client, function()
        local options, tls, first = how()
        start("refresh_token", client, ("refresh_token = jeton.secret.value %q, %s"):format(first, options), tls)
        assert.equal(client, served().client)
        local errors = #world().errors
        for _ = 1, 2 do assert.equal(0, (refresh())) end
        assert.equal(errors, #world().errors)
        assert.equal(client, served().client)
        keeps_quiet { first, last_body().refresh_token }
      end)
    end
  end)
end)

describe("a token whose server tells no lifetime", function()
  it("lives as long as the exp in it says, when it is a JWT", function()
    local w = peers.world { mode = "jwtlife", ttl = 120 }
    proxy = jeton.start(peers.policy(w))
    assert.equal(200, http.get(proxy.port).status, proxy:errors())
    assert.is_true(token().expires_in > 90 and token().expires_in <= 121, tostring(token().expires_in))
    proxy:finish()
    w:order { ttl = 600 }
    proxy = jeton.start(peers.policy(w, "lifetime = 60"))
    assert.equal(200, http.get(proxy.port).status, proxy:errors())
    assert.is_true(token().expires_in <= 60, tostring(token().expires_in))
    proxy:finish()
    proxy = nil
    w:stop()
  end)
end)

describe("jeton check", function()
  setup(function()
    dir = peers.certificates()
    process.write_file(pem "client.secret", "a-secret-of-32-bytes-or-more-here\n")
  end)
  local function check(options)
    local path = process.write_file(process.temp_dir() .. "/policy.lua",
      ("local oauth2 = require 'jeton.oauth2'\nreturn { listen = '127.0.0.1:0', upstream = 'http://a',\n tokens = { api = oauth2.client_credentials { client_id = 'x', %s } } }"):format(options))
    return jeton.run({ "check", path }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
  end
  local url = "token_url = 'https://a/t', "
  local private = url .. "auth = 'private_key_jwt', "

  for what, case in pairs {
    ["an unknown method"] = { url .. "auth = 'digest'", 'auth: expected "client_secret_basic", "client_secret_basic_raw", "client_secret_post", "client_secret_jwt", "private_key_jwt"' },
    ["no key"] = { private, "assertion.key: expected a private key such as jeton.secret.file" },
    ["a key that is text"] = { private .. "assertion = { key = 'plain-key' }", "assertion.key: expected a private key such as jeton.secret.file" },
    ["a key of another kind"] = { private .. "assertion = { alg = 'RS256', key = KEY }", "ecdsa.key>> cannot sign RS256: this algorithm needs an RSA key" },
    ["an algorithm that there is not"] = { private .. "assertion = { alg = 'RS1', key = KEY }", 'assertion: alg: expected "RS256"' },
    ["an algorithm of secrets"] = { private .. "assertion = { alg = 'HS256', key = KEY }", 'auth = "client_secret_jwt"' },
    ["a kid that is no text"] = { private .. "assertion = { alg = 'ES256', key = KEY, kid = 7 }", "assertion: kid: expected a string" },
    ["an unknown key of the assertion"] = { private .. "assertion = { alg = 'ES256', key = KEY, kidd = 'x' }", "unknown option 'assertion.kidd'" },
    ["an id that cannot be signed"] = { private .. "assertion = { alg = 'ES256', key = KEY }, client_id = KEY", "client_id: expected a string" },
    ["a secret that is not used"] = { private .. "assertion = { alg = 'ES256', key = KEY }, client_secret = 'y'", "client_secret: has no use" },
    ["an assertion that is not used"] = { url .. "client_secret = 'y', assertion = {}", 'assertion: has no use with auth = "client_secret_basic"' },
    ["a secret that is text, to sign with"] = { url .. "auth = 'client_secret_jwt', client_secret = 'y'", "client_secret: expected an opaque secret" },
    ["a secret with a private key's algorithm"] = { url .. "auth = 'client_secret_jwt', client_secret = SECRET, assertion = { alg = 'RS256' }", "HS256, HS384 or HS512" },
    ["a secret and a key"] = { url .. "auth = 'client_secret_jwt', client_secret = SECRET, assertion = { key = KEY }", "assertion.key" },
    ["no certificate"] = { url .. "auth = 'tls_client_auth', tls = { ca = 'ca.pem' }", "needs the client's certificate: tls = { cert =" },
    ["a certificate without TLS"] = { "token_url = 'http://a/t', auth = 'self_signed_tls_client_auth', tls = { cert = 'a', key = 'b' }", "needs https" },
    ["a certificate that is not there"] = { url .. "auth = 'tls_client_auth', tls = { cert = '/nonexistent/a.pem', key = 'b' }", "tls: /nonexistent/a.pem: no such file" },
    ["an authority that is not there"] = { url .. "client_secret = 'y', tls = { ca = '/nonexistent/ca.pem' }", "tls: /nonexistent/ca.pem: no such file" },
    ["a key of another certificate"] = { url .. "auth = 'tls_client_auth', tls = { cert = 'CERT', key = 'OTHER' }", "ecdsa.key: not the key of the certificate in" },
    ["an option of TLS that there is not"] = { url .. "client_secret = 'y', tls = { server = 'a' }", "tls: unknown option 'server'" },
    ["a name that no certificate has"] = { url .. "client_secret = 'y', tls = { server_name = 'https://a' }", 'tls: server_name "https://a": expected a host name' },
    ["an assertion among the extra parameters"] = { url .. "client_secret = 'y', extra = { client_assertion = 'z' }", "extra: client_assertion" },
  } do
    it("tells with the policy's line: " .. what, function()
      local options = case[1]:gsub("KEY", function() return file "ecdsa.key" end):gsub("SECRET", function() return file "client.secret" end)
        :gsub("CERT", function() return pem "client.pem" end):gsub("OTHER", function() return pem "ecdsa.key" end)
      local code, _, err = check(options)
      assert.equal(78, code, err)
      assert.matches("policy.lua:3: ", err)
      assert.is_truthy(err:find(case[2], 1, true), err)
      assert.is_nil(err:find("plain-key", 1, true), err)
    end)
  end

  it("warns of a certificate that ends soon or is careless, and of what is not verified", function()
    local code, _, err = check(url .. ("auth = 'tls_client_auth', tls = { cert = %q, key = %q, verify = false, insecure = 'a trial' }"):format(pem "expired-client.pem", pem "expired-client.key"))
    assert.equal(0, code, err)
    assert.matches("warning: policy.lua: jeton.http: tls: .-expired%-client.pem: the certificate expired on 2020%-01%-02", err)
    assert.matches("warning: policy.lua: jeton.http: tls: certificates are not verified %(a trial%)", err)
    assert.equal(2, (select(2, err:gsub("\n", ""))), err)
  end)

  it("takes a key that a command will print, without waiting for it", function()
    local code, _, err = check(private .. "assertion = { alg = 'ES256', key = jeton.secret.exec { 'cat', '/nonexistent' } }")
    assert.equal(0, code, err)
  end)
end)
