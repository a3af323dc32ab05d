--- Every policy in examples/ runs as it stands there, and does what its comments promise.
local cjson = require "cjson"
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local grpc = require "spec.support.grpc"
local peers = require "spec.support.peers"
local uv = require "luv"
local process = require "spec.support.process"

local SECRET = "s3cret-of-the-spec"
local dir, secret_file

local function example(name) return jeton.root .. "/examples/" .. name .. ".lua" end

local function start(name, env)
  env.LISTEN = "127.0.0.1:0"
  return jeton.start { file = example(name), env = env }
end

--- An HTTP server of node's: `handler` is the body of (req, body, send) => …, where send(status, object or text, headers). Prints its port.
local function service(handler)
  local file = process.write_file(process.temp_dir() .. "/service.mjs", ([[
import http from 'node:http';
const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (d) => chunks.push(d));
  req.on('end', () => {
    const send = (status, what, headers = {}) => {
      const text = typeof what === 'string' ? what : JSON.stringify(what);
      res.writeHead(status, { 'content-type': typeof what === 'string' ? 'text/plain' : 'application/json', ...headers });
      res.end(text);
    };
    handle(req, Buffer.concat(chunks).toString(), send);
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.on('SIGTERM', () => process.exit(0));
%s
]]):format(handler))
  local p = process.start { "node", file }
  local port = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(%d+)\n" end, 20, "a service to print its port")
  port = math.tointeger(tonumber(port))
  return { process = p, port = port, url = "http://127.0.0.1:" .. port, stop = function() p:stop() end }
end

--- Answers with what it was sent.
local ECHO = [[
function handle(req, body, send) { send(200, { name: NAME, method: req.method, url: req.url, headers: req.headers, body }); }
]]
local function echo(name) return service(("const NAME = %q;\n"):format(name or "echo") .. ECHO) end

--- The lower-case headers that the upstream got, and all that it saw.
local function seen(res)
  assert.equal(200, res.status, res.body)
  local all = cjson.decode(res.body)
  return all.headers, all
end

describe("the example", function()
  setup(function()
    dir = process.temp_dir()
    secret_file = process.write_file(dir .. "/secret", SECRET .. "\n")
    assert(uv.fs_chmod(secret_file, 384)) -- a secret that others may read is a warning
  end)

  describe("client-credentials", function()
    it("puts a fresh token on every request, before it expires and after it was revoked", function()
      local w = peers.world { ttl = 3 }
      local p = start("client-credentials", { UPSTREAM = w.upstream_url, TOKEN_URL = w.token_url, SECRET_FILE = secret_file })
      local deadline = socket.gettime() + 4
      while socket.gettime() < deadline do
        assert.equal(200, http.get(p.port, "/", { Authorization = "Bearer mine" }).status)
        socket.sleep(0.05)
      end
      local stats = w:stats()
      assert.is_true(stats.fetches >= 2)
      assert.equal(0, stats.refused)
      assert.equal("reports.read", stats.bodies[1].form.scope)
      w:order { revoke = true }
      assert.equal(200, http.get(p.port).status)
      p:finish()
      w:stop()
    end)

    it("uses the token at hand while the issuer is down, then answers 503 with Retry-After", function()
      local w = peers.world { ttl = 3 }
      local p = start("client-credentials", { UPSTREAM = w.upstream_url, TOKEN_URL = w.token_url, SECRET_FILE = secret_file })
      assert.equal(200, http.get(p.port).status)
      w:order { mode = "500" }
      local res
      process.poll(function()
        res = http.get(p.port)
        return res.status ~= 200
      end, 8, "the token's end")
      assert.equal(503, res.status)
      assert.is_truthy(tonumber(res.headers["retry-after"]))
      assert.equal(0, w:stats().refused)
      p:finish()
      w:stop()
    end)
  end)

  describe("refresh-token", function()
    local server

    -- Rotates: each refresh token is good once. A token lives two seconds.
    before_each(function()
      server = service [[
let current = 'refresh-0', n = 0, valid = new Set();
function handle(req, body, send) {
  if (req.url === '/token') {
    const form = new URLSearchParams(body);
    if (form.get('grant_type') !== 'refresh_token' || form.get('refresh_token') !== current) return send(400, { error: 'invalid_grant' });
    n++; current = 'refresh-' + n; valid = new Set(['access-' + n]);
    return send(200, { access_token: 'access-' + n, refresh_token: current, expires_in: 2, token_type: 'Bearer' });
  }
  const good = valid.has((req.headers.authorization || '').replace('Bearer ', ''));
  send(good ? 200 : 401, { n });
}]]
    end)
    after_each(function() server.stop() end)

    it("keeps the refresh token that came last, in its file too, and goes on from there after a restart", function()
      local file = process.write_file(process.temp_dir() .. "/refresh", "refresh-0\n")
      local env = { UPSTREAM = server.url, TOKEN_URL = server.url .. "/token", SECRET_FILE = secret_file, REFRESH_FILE = file }
      local p = start("refresh-token", env)
      process.poll(function() return cjson.decode(http.get(p.port).body).n >= 2 end, 8, "a rotation")
      assert.equal(200, http.get(p.port).status)
      p:finish()
      assert.matches("^refresh%-%d+", process.read_file(file))
      assert.is_not.equal("refresh-0", process.read_file(file):match "^[%w-]+")
      local again = start("refresh-token", env)
      assert.equal(200, http.get(again.port).status)
      again:finish()
    end)
  end)

  describe("private-key-jwt", function()
    it("signs with the key in the file, which the issuer knows", function()
      local ca = peers.certificates()
      local oidc, ports = peers.oidc(ca)
      local p = start("private-key-jwt", {
        UPSTREAM = ("http://127.0.0.1:%d"):format(ports.upstream), TOKEN_URL = ("https://localhost:%d/token"):format(ports.issuer),
        CLIENT_ID = "ES256", KEY_FILE = ca .. "/ecdsa.key", ISSUER_CA = ca .. "/ca.pem",
      })
      local res = http.get(p.port)
      assert.equal(200, res.status, p:errors())
      assert.equal("ES256", cjson.decode(res.body).client)
      p:finish()
      oidc:stop()
    end)
  end)

  describe("service-account", function()
    it("exchanges what it signed for a token, and says why it could not", function()
      local ca = peers.certificates()
      local issuer = service(([[
import crypto from 'node:crypto';
import fs from 'node:fs';
const key = fs.readFileSync(%q);
let n = 0;
function handle(req, body, send) {
  const form = new URLSearchParams(body);
  const [head, claims, signature] = form.get('assertion').split('.');
  const { iss, aud, iat, exp } = JSON.parse(Buffer.from(claims, 'base64url'));
  const good = crypto.verify('sha256', Buffer.from(head + '.' + claims), key, Buffer.from(signature, 'base64url'))
    && form.get('grant_type') === 'urn:ietf:params:oauth:grant-type:jwt-bearer' && iss === 'me@example.com' && aud.endsWith('/token')
    && exp - iat === 300 && Math.abs(iat - Date.now() / 1000) < 60;
  send(good ? 200 : 400, good ? { access_token: 'account-' + ++n, expires_in: 60 } : { error: 'invalid_grant' });
}]]):format(ca .. "/rsa.pub"))
      local upstream = echo()
      local env = { UPSTREAM = upstream.url, TOKEN_URL = issuer.url .. "/token", ACCOUNT = "me@example.com", KEY_FILE = ca .. "/rsa.key" }
      local p = start("service-account", env)
      assert.equal("Bearer account-1", seen(http.get(p.port)).authorization)
      p:finish()

      env.ACCOUNT = "you@example.com"
      p = start("service-account", env)
      p:wait_log "fetch failed: the token endpoint answered 400"
      p:finish()
      env.KEY_FILE = ca .. "/ecdsa.key"
      p = start("service-account", env)
      p:wait_log "cannot sign RS256: this algorithm needs an RSA key"
      p:finish()
      issuer.stop()
      upstream.stop()
    end)
  end)

  describe("jwt-bearer", function()
    it("exchanges a JWT that it signs", function()
      local ca = peers.certificates()
      local issuer = service(([[
import crypto from 'node:crypto';
import fs from 'node:fs';
const key = fs.readFileSync(%q);
function handle(req, body, send) {
  const [head, claims, signature] = new URLSearchParams(body).get('assertion').split('.');
  const { iss, scope } = JSON.parse(Buffer.from(claims, 'base64url'));
  const good = crypto.verify('sha256', Buffer.from(head + '.' + claims), key, Buffer.from(signature, 'base64url')) && iss === 'me' && scope.endsWith('read_only')
    && !body.includes('client_id') && !req.headers.authorization;
  send(good ? 200 : 400, good ? { access_token: 'account-1', expires_in: 60 } : { error: 'invalid_grant' });
}]]):format(ca .. "/rsa.pub"))
      local upstream = echo()
      local p = start("jwt-bearer", { UPSTREAM = upstream.url, TOKEN_URL = issuer.url .. "/token", ACCOUNT = "me", ACCOUNT_KEY = ca .. "/rsa.key" })
      assert.equal("Bearer account-1", seen(http.get(p.port)).authorization)
      p:finish()
      issuer.stop()
      upstream.stop()
    end)
  end)

  describe("token-exchange", function()
    it("exchanges each caller's token for another", function()
      local ca = peers.certificates()
      local issuer, ports = peers.grants(ca)
      local url, of_issuer = ("http://127.0.0.1:%d"):format(ports.upstream), math.tointeger(ports.issuer)
      local p = start("token-exchange", {
        UPSTREAM = url, TOKEN_URL = ("http://127.0.0.1:%d/token"):format(of_issuer), CLIENT_ID = "machine",
        SECRET_FILE = process.write_file(process.temp_dir() .. "/secret", ports.secret),
      })
      local function stats() return cjson.decode(http.get(math.tointeger(ports.upstream), "/world").body) end
      local function log_in()
        local basic = require "mime".b64("machine:" .. ports.secret:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end))
        local res = http.request(of_issuer, "POST", "/token", { ["Content-Type"] = "application/x-www-form-urlencoded", Authorization = "Basic " .. basic }, "grant_type=client_credentials")
        return cjson.decode(res.body).access_token
      end
      assert.equal(401, http.get(p.port).status)
      for _ = 1, 2 do
        local own = log_in()
        for _ = 1, 2 do assert.equal(200, http.request(p.port, "GET", "/", { Authorization = "Bearer " .. own }).status, p:errors()) end
        local bodies = stats().bodies
        assert.equal(own, bodies[#bodies].subject_token)
        assert.is_nil((p:errors() .. p:output()):find(own, 1, true))
      end
      assert.equal(4, #stats().granted)
      p:finish()
      issuer:stop()
    end)
  end)

  describe("device-login", function()
    it("serves behind a login by a code", function()
      local issuer, ports = peers.grants(peers.certificates())
      local function of(path) return ("http://127.0.0.1:%d%s"):format(ports.issuer, path) end
      local env = {
        LISTEN = "127.0.0.1:0", UPSTREAM = ("http://127.0.0.1:%d"):format(ports.upstream), DEVICE_URL = of "/device/auth", TOKEN_URL = of "/token", CLIENT_ID = "device",
        LOGIN_FILE = process.temp_dir() .. "/login",
      }
      local login = process.start({ jeton.binary, "login", example "device-login", "api" }, { env = env })
      local code = process.poll(function() return login:output():match "code ([%w-]+)" end, 20, "the code")
      http.request(math.tointeger(ports.upstream), "POST", "/world", nil, cjson.encode { approve = code })
      process.poll(function() return login:ended() end, 20, "the login to end")
      local p = start("device-login", env)
      assert.equal(200, http.get(p.port).status, p:errors())
      p:finish()
      issuer:stop()
    end)
  end)

  describe("dpop", function()
    it("proves that the sender has the key", function()
      local ca = peers.certificates()
      local issuer, ports = peers.grants(ca)
      local p = start("dpop", {
        UPSTREAM = ("http://127.0.0.1:%d"):format(ports.upstream), TOKEN_URL = ("http://127.0.0.1:%d/token"):format(ports.issuer), CLIENT_ID = "machine",
        SECRET_FILE = process.write_file(process.temp_dir() .. "/secret", ports.secret), KEY_FILE = ca .. "/ecdsa.key",
      })
      local res = http.get(p.port)
      assert.equal(200, res.status, res.body .. p:errors())
      p:finish()
      issuer:stop()
    end)
  end)

  describe("json-login", function()
    local server

    before_each(function()
      server = service(([[
let n = 0, over = false;
const PASSWORD = %q;
function handle(req, body, send) {
  if (req.url === '/login') {
    const { user, password } = JSON.parse(body);
    if (user !== 'reports' || password !== PASSWORD) return send(403, { error: 'who?' });
    n++; over = false;
    return send(200, { token: 't' + n, session: 's' + n, expires_at: Math.floor(Date.now() / 1000) + 600 });
  }
  if (req.url === '/end') { over = true; return send(200, {}); }
  if (over) return send(419, { error: 'session over' });
  send(200, { headers: req.headers, n });
}]]):format(SECRET))
    end)
    after_each(function() server.stop() end)

    local function run(file) return start("json-login", { UPSTREAM = server.url, LOGIN_URL = server.url .. "/login", PASSWORD_FILE = file or secret_file }) end

    it("sends the token and its session", function()
      local p = run()
      local headers = seen(http.get(p.port))
      assert.equal("Token t1", headers.authorization)
      assert.equal("s1", headers["x-session"])
      p:finish()
    end)

    it("logs in again when the session is over, and repeats the request with both values anew", function()
      local p = run()
      assert.equal(200, http.get(p.port).status)
      http.get(server.port, "/end")
      local headers = seen(http.get(p.port))
      assert.equal("Token t2", headers.authorization)
      assert.equal("s2", headers["x-session"])
      p:finish()
    end)

    it("says why a login failed, and not with which password", function()
      local p = run(process.write_file(dir .. "/wrong", "not-the-password\n"))
      p:wait_log "token api: fetch failed: the login answered 403"
      assert.is_nil(p:errors():find("not-the-password", 1, true))
      p:finish()
    end)
  end)

  describe("tenants", function()
    it("gives each tenant its own token, new ones without a reload, and others none", function()
      local issuer = service [[
let n = 0;
function handle(req, body, send) {
  const who = Buffer.from(req.headers.authorization.replace('Basic ', ''), 'base64').toString();
  n++;
  send(200, { access_token: who.replace(':', '/') + '/' + n, expires_in: 60 });
}]]
      local upstream = echo()
      local secrets = process.temp_dir()
      process.write_file(secrets .. "/acme", "one\n")
      process.write_file(secrets .. "/globex", "two\n")
      local p = start("tenants", { UPSTREAM = upstream.url, TOKEN_URL = issuer.url, SECRETS_DIR = secrets })
      local function get(tenant) return http.get(p.port, "/", { ["X-Tenant"] = tenant }) end

      local headers = seen(get "acme")
      assert.equal("Bearer acme/one/1", headers.authorization)
      assert.is_nil(headers["x-tenant"])
      assert.equal("Bearer globex/two/2", seen(get "globex").authorization)
      assert.equal("Bearer acme/one/1", seen(get "acme").authorization)

      assert.equal(400, get(nil).status)
      assert.equal(400, get("../acme").status)
      assert.equal(403, get("initech").status)
      process.write_file(secrets .. "/initech", "three\n")
      assert.equal("Bearer initech/three/3", seen(get "initech").authorization)

      local names = {}
      for _, token in ipairs(p:status().tokens) do names[#names + 1] = token.name end
      table.sort(names)
      assert.same({ "tenant[acme]", "tenant[globex]", "tenant[initech]" }, names)
      local code, out = jeton.run { "refresh", "tenant[acme]", "--control", p.control_path }
      assert.equal(0, code)
      assert.matches("tenant%[acme%]: generation 2", out)
      p:finish()
      issuer.stop()
      upstream.stop()
    end)
  end)

  describe("api-key", function()
    local upstream
    before_each(function() upstream = echo() end)
    after_each(function() upstream.stop() end)

    it("puts the file's key on each request, and notices a new one", function()
      local file = process.write_file(process.temp_dir() .. "/key", "first\n")
      local p = start("api-key", { UPSTREAM = upstream.url, API_KEY_FILE = file })
      assert.equal("first", seen(http.get(p.port, "/", { ["x-api-key"] = "mine" }))["x-api-key"])
      process.write_file(file .. ".new", "second\n")
      assert(os.rename(file .. ".new", file))
      process.poll(function() return seen(http.get(p.port))["x-api-key"] == "second" end, 5, "the new key")
      p:finish()
    end)

    it("takes the key from a variable", function()
      local p = start("api-key", { UPSTREAM = upstream.url, API_KEY = "from-the-environment" })
      assert.equal("from-the-environment", seen(http.get(p.port))["x-api-key"])
      p:finish()
    end)
  end)

  describe("exec-token", function()
    local function command(text)
      local file = process.write_file(process.temp_dir() .. "/az", "#!/bin/sh\n" .. text)
      os.execute("chmod +x " .. file)
      return file
    end

    it("takes what the command prints", function()
      local upstream = echo()
      local az = command [[
[ "$1 $2 $3" = "account get-access-token --resource" ] || exit 9
echo '{"accessToken":"from-the-command","expires_on":'$(($(date +%s) + 3600))'}'
]]
      local p = start("exec-token", { UPSTREAM = upstream.url, TOKEN_COMMAND = az })
      assert.equal("Bearer from-the-command", seen(http.get(p.port)).authorization)
      assert.is_nil(p:errors():find("from-the-command", 1, true))
      p:finish()
      upstream.stop()
    end)

    it("says why the command failed", function()
      local p = start("exec-token", { UPSTREAM = "http://127.0.0.1:1", TOKEN_COMMAND = command "echo 'run az login first' >&2; exit 3\n" })
      p:wait_log "ended with 3: run az login first"
      p:finish()
    end)
  end)

  describe("webhook-push", function()
    local upstream, p
    before_each(function()
      upstream = echo()
      p = start("webhook-push", { UPSTREAM = upstream.url, SECRET_FILE = secret_file })
    end)
    after_each(function()
      p:finish()
      upstream.stop()
    end)

    local function sign(body)
      local file = process.write_file(dir .. "/body", body)
      local code, out = process.run { "openssl", "dgst", "-sha256", "-hmac", SECRET, "-r", file }
      assert.equal(0, code)
      return out:match "^%x+"
    end
    local function push(body, signature) return http.request(p.port, "POST", "/_push", { ["X-Signature"] = signature or sign(body) }, body) end

    it("answers 503 before the first push, and uses each pushed token from then on", function()
      assert.equal(503, http.get(p.port).status)
      assert.equal(204, push('{"token":"pushed-1","expires_in":300}').status)
      assert.equal("Bearer pushed-1", seen(http.get(p.port)).authorization)
      assert.equal(204, push('{"token":"pushed-2","expires_in":300}').status)
      assert.equal("Bearer pushed-2", seen(http.get(p.port)).authorization)
      p:wait_log "token<api generation 2"
      assert.is_nil(p:errors():find("pushed-", 1, true))
    end)

    it("keeps the token over a reload", function()
      assert.equal(204, push('{"token":"pushed","expires_in":300}').status)
      assert.equal(200, (p:control("POST", "/reload")).status)
      assert.equal("Bearer pushed", seen(http.get(p.port)).authorization)
    end)

    it("refuses what is not signed, not a token, or over already", function()
      assert.equal(403, push('{"token":"t","expires_in":300}', ("0"):rep(64)).status)
      assert.equal(403, http.request(p.port, "POST", "/_push", nil, '{"token":"t","expires_in":300}').status)
      assert.equal(400, push("not json").status)
      assert.equal(400, push('{"expires_in":300}').status)
      assert.equal(422, push('{"token":"t"}').status)
      assert.equal(422, push('{"token":"t","expires_in":-1}').status)
      assert.equal(405, http.get(p.port, "/_push").status)
      assert.equal(503, http.get(p.port).status)
    end)
  end)

  describe("several-upstreams", function()
    it("chooses by path, takes machines in turn, and gives each upstream its own token", function()
      local issuer = service [[
function handle(req, body, send) { send(200, { access_token: 'for-' + new URLSearchParams(body).get('scope'), expires_in: 60 }); }
]]
      local a, b, reports = echo "a", echo "b", echo "reports"
      local p = start("several-upstreams", { API_A = a.url, API_B = b.url, REPORTS = reports.url, TOKEN_URL = issuer.url, SECRET_FILE = secret_file })
      local headers, all = seen(http.get(p.port, "/reports/7?x=1"))
      assert.equal("reports", all.name)
      assert.equal("/7?x=1", all.url)
      assert.equal("Bearer for-reports", headers.authorization)

      local names = {}
      for _ = 1, 6 do
        headers, all = seen(http.get(p.port, "/users"))
        assert.equal("/users", all.url)
        assert.equal("Bearer for-api", headers.authorization)
        names[all.name] = (names[all.name] or 0) + 1
      end
      assert.same({ a = 3, b = 3 }, names)

      b.stop()
      local failed = 0
      for _ = 1, 10 do
        local res = http.get(p.port, "/users")
        if res.status ~= 200 then failed = failed + 1 end
      end
      assert.is_true(failed <= 1, "failed: " .. failed)
      p:finish()
      for _, s in ipairs { issuer, a, reports } do s.stop() end
    end)
  end)

  describe("body-rewrite", function()
    local upstream, p
    before_each(function()
      upstream = service [[
function handle(req, body, send) {
  if (req.url === '/text') return send(200, 'as it is');
  if (req.url === '/large') return send(200, { internal_id: 7, filler: 'x'.repeat(400000) });
  if (req.url === '/list') return send(200, [1, 2]);
  if (req.url === '/none') return send(200, []);
  if (req.url === '/tags') return send(200, { internal_id: 7, tags: [], of: {} });
  send(200, { internal_id: 7, got: body, encoding: req.headers['accept-encoding'] ?? null }, { etag: '"1"' });
}]]
      p = start("body-rewrite", { UPSTREAM = upstream.url })
    end)
    after_each(function()
      p:finish()
      upstream.stop()
    end)

    local JSON = { ["Content-Type"] = "application/json", ["Accept-Encoding"] = "gzip" }

    it("adds to what goes up and takes from what comes down", function()
      local res = http.request(p.port, "POST", "/", JSON, '{"a":1}')
      local body = cjson.decode(res.body)
      assert.same({ a = 1, source = "gateway" }, cjson.decode(body.got))
      assert.is_nil(body.internal_id)
      assert.equal(cjson.null, body.encoding)
      assert.is_nil(res.headers.etag)
      assert.equal(#res.body, tonumber(res.headers["content-length"]))
    end)

    it("leaves everything else as it is", function()
      assert.equal("as it is", http.get(p.port, "/text").body)
      assert.same({ 1, 2 }, cjson.decode(http.get(p.port, "/list").body))
      assert.equal("[]", http.get(p.port, "/none").body)
      local tags = http.get(p.port, "/tags").body
      assert.is_truthy(tags:find('"tags":[]', 1, true) and tags:find('"of":{}', 1, true), tags)
      local body = cjson.decode(http.request(p.port, "POST", "/", { ["Content-Type"] = "text/plain" }, "plain").body)
      assert.equal("plain", body.got)
    end)

    it("relays a reply whole that is too large to be gathered", function()
      local body = cjson.decode(http.get(p.port, "/large").body)
      assert.equal(7, body.internal_id)
      assert.equal(400000, #body.filler)
    end)

    it("refuses a request that is too large, or not JSON", function()
      assert.equal(413, http.request(p.port, "POST", "/", JSON, '{"a":"' .. ("x"):rep(300000) .. '"}').status)
      assert.equal(400, http.request(p.port, "POST", "/", JSON, "not json").status)
      assert.equal(400, http.request(p.port, "POST", "/", JSON, "[1]").status)
      assert.equal(400, http.request(p.port, "POST", "/", JSON, "[]").status)
    end)
  end)

  describe("error-pages", function()
    local function error_of(res)
      assert.equal("application/json", res.headers["content-type"])
      return cjson.decode(res.body).error
    end

    it("answers in its own words without a token, without an upstream, and in place of the upstream's 500", function()
      local w = peers.world { mode = "500" }
      local upstream = service "function handle(req, body, send) { send(500, 'stack trace of secrets'); }"
      local p = start("error-pages", { UPSTREAM = upstream.url, TOKEN_URL = w.token_url })
      local res = http.get(p.port)
      assert.equal(503, res.status)
      local e = error_of(res)
      assert.equal(503, e.status)
      assert.equal(16, #e.id)
      assert.equal(tonumber(res.headers["retry-after"]), e.retry_after)
      assert.is_nil(res.body:find("127.0.0.1", 1, true))

      w:order { mode = "ok", ttl = 60 }
      process.poll(function() return http.get(p.port).status == 500 end, 8, "a token")
      res = http.get(p.port)
      assert.equal(500, error_of(res).status)
      assert.is_nil(res.body:find("stack trace", 1, true))

      upstream.stop()
      res = http.get(p.port)
      assert.equal(502, res.status)
      assert.equal(502, error_of(res).status)
      assert.is_nil(res.headers["retry-after"])
      p:finish()
      w:stop()
    end)
  end)

  describe("forward-proxy", function()
    it("puts the token on what is sent for its API alone, tunnels to what is listed, and asks for a password", function()
      local certs = peers.certificates()
      local api = peers.nginx(([[ ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; location / { return 200 "$http_authorization $http_x_forwarded_for$http_proxy_authorization"; } ]]):format(certs, certs), "ssl")
      local w = peers.world()
      local p = start("forward-proxy", { API = "localhost:" .. api.port, CONNECT = "localhost:" .. api.port, PRIVATE = "127.0.0.0/8", CA = certs .. "/ca.pem",
        TOKEN_URL = w.token_url, SECRET_FILE = secret_file, PROXY_CREDENTIALS = "reports:pass" })
      local function ask(target, fields)
        local c = http.connect(p.port)
        c:send("GET " .. target .. " HTTP/1.1\r\nHost: a\r\n" .. (fields or "") .. "\r\n")
        local res = c:read_response "GET"
        c:close()
        return res
      end
      local password = "Proxy-Authorization: Basic cmVwb3J0czpwYXNz\r\n"
      local url = ("https://localhost:%d/v1"):format(api.port)
      assert.equal(407, ask(url).status)
      assert.equal(407, ask(url, "Proxy-Authorization: Basic bm86bm8=\r\n").status)
      local res = ask(url, password)
      assert.equal(200, res.status)
      assert.matches("^Bearer %S+ $", res.body)
      assert.equal(403, ask("http://127.0.0.1/", password).status)
      local code, out, err = peers.curl("--proxy-anyauth", "-x", "http://reports:pass@127.0.0.1:" .. p.port, "--cacert", certs .. "/ca.pem", url)
      assert.equal(0, code, err)
      assert.equal(" ", out) -- its own TLS: no token
      p:finish()
      w:stop()
    end)
  end)

  describe("grpc", function()
    it("puts a token on calls of every kind, and refuses by a hook in gRPC's words", function()
      local issuer = service [[
function handle(req, body, send) { send(200, { access_token: 't' + (Date.now() + 60000), expires_in: 60 }); }
]]
      local server = grpc.server "js"
      local p = start("grpc", { UPSTREAM = "http://127.0.0.1:" .. server.plain, TOKEN_URL = issuer.url, SECRET_FILE = secret_file })
      local results = grpc.run("js", p.port, nil, { "unary", "up", "down", "both", "reflect", "stats" })
      for _, name in ipairs { "unary", "up", "down", "both" } do assert.equal(0, results[name].code, name) end
      assert.same({ 7, "no reflection from here" }, { results.reflect.code, results.reflect.details })
      assert.same({ 4, 0, 1 }, { results.stats.calls, results.stats.missing, results.stats.tokens })
      p:finish()
      server.process:stop()
      issuer.stop()
    end)
  end)

  describe("plain-proxy", function()
    it("relays nginx, says who asked, and writes an access line", function()
      local nginx = peers.nginx [[ location / { return 200 "$http_x_forwarded_for $http_authorization"; } client_max_body_size 100m; ]]
      local p = start("plain-proxy", { UPSTREAM = "http://127.0.0.1:" .. nginx.port })
      assert.equal("127.0.0.1 mine", http.get(p.port, "/x", { Authorization = "mine" }).body)
      assert.equal(413, http.request(p.port, "POST", "/", nil, ("x"):rep(11 * 1024 * 1024), 20).status)
      process.poll(function() return p:output():match '127%.0%.0%.1 "GET /x HTTP/1%.1" 200 %d+ %d+%.%d%d%dms default %x+\n' end, 5, "the access line")
      p:finish()
    end)
  end)
end)

--- Lines that are neither blank nor a comment alone.
local function code_lines(text)
  local n = 0
  for line in text:gmatch "[^\n]+" do
    if line:find "%S" and not line:find "^%s*%-%-" then n = n + 1 end
  end
  return n
end

describe("jeton check", function()
  local names = {}
  local list = assert(io.popen("ls " .. jeton.root .. "/examples"))
  for file in list:lines() do names[#names + 1] = file:match "^(.*)%.lua$" end
  list:close()

  -- These show something else, and have a module's call beside it.
  local OTHERS = { grpc = true, ["service-account"] = true, ["forward-proxy"] = true, ["several-upstreams"] = true }
  it("is given examples of the modules that are under 20 lines of code", function()
    for _, name in ipairs(names) do
      local text = process.read_file(example(name))
      if text:find('require "jeton.', 1, true) and not OTHERS[name] then assert.is_true(code_lines(text) < 20, name) end
    end
  end)

  for _, name in ipairs(names) do
    it("finds examples/" .. name .. ".lua good", function()
      local file = process.write_file(process.temp_dir() .. "/secret", SECRET)
      assert(uv.fs_chmod(file, 384))
      for _, one in ipairs { "one", "two", "three" } do
        assert(uv.fs_chmod(process.write_file(file:match "^(.*)/" .. "/" .. one, SECRET), 384))
      end
      local key = file .. ".key"
      assert.equal(0, (process.run { "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key }))
      local rsa = file .. ".rsa"
      assert.equal(0, (process.run { "openssl", "genrsa", "-out", rsa, "2048" }))
      local code, out, err = jeton.run({ "check", example(name) }, {
        env = { JETON_SCRIPTS = jeton.root .. "/scripts", SECRET_FILE = file, PASSWORD_FILE = file, API_KEY_FILE = file, REFRESH_FILE = file, KEY_FILE = name == "github-app" and rsa or key, ACCOUNT_KEY = rsa, LOGIN_FILE = file, KEYS_DIR = file:match "^(.*)/", TOKEN_FILE = file,
          JETON_DEMO_UPSTREAM = "http://127.0.0.1:1" },
      })
      assert.equal("", err)
      assert.equal(0, code)
      assert.matches(": good: ", out)
    end)
  end
end)
