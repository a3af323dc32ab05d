--- jeton.github, jeton.gcp and jeton.azure. No server of these clouds can be had, so an imitation stands in (peers/clouds.mjs), from which the clouds' own libraries get their tokens as well
--- (peers/cloud-clients.mjs): @octokit/auth-app, google-auth-library and @azure/identity.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local ACCOUNT = "reports@project.iam.gserviceaccount.com"
local PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider"

local dir, cloud, url, proxy

--- A key, a certificate for it, Google's key file and a federated token.
local function credentials()
  local at = process.temp_dir()
  assert(os.execute(([[cd %s && openssl genrsa -out app.key 2048 2>/dev/null && openssl rsa -in app.key -pubout -out app.pub 2>/dev/null &&
    openssl req -x509 -new -key app.key -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -out cert.pem && chmod 600 app.key]]):format(at)))
  process.write_file(at .. "/account.json", cjson.encode { type = "service_account", client_email = ACCOUNT, private_key = process.read_file(at .. "/app.key"), private_key_id = "key-1" })
  process.write_file(at .. "/federated", "federated-token")
  assert(os.execute(("chmod 600 %s/account.json %s/federated"):format(at, at)))
  return at
end

local function order(orders)
  local res = assert(http.request(cloud.port, "POST", "/world", { ["Content-Type"] = "application/json" }, cjson.encode(orders)))
  assert.equal(200, res.status, res.body)
end
local function requests() return cjson.decode(assert(http.get(cloud.port, "/world")).body).requests end

--- A policy whose token `api` is what the text makes; DIR and URL stand for the directory and the imitation.
local function policy(made, more)
  return (([[
local github, gcp, azure = require "jeton.github", require "jeton.gcp", require "jeton.azure"
return {
  listen = "127.0.0.1:0", upstream = "URL", log = { level = "debug" },
  tokens = { api = %s },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end, %s
}]]):format(made, more or ""):gsub("URL", url):gsub("DIR", dir))
end

local function token() return proxy:status().tokens[1] end
local function says_nothing_secret()
  local said = proxy:errors() .. proxy:output() .. proxy:control("GET", "/status").body
  for _, secret in ipairs { "PRIVATE KEY", "federated%-token", "s3cret", "ghs_", "ya29_", "eyJ" } do assert.is_nil(said:find(secret), said) end
end

setup(function()
  dir = credentials()
  cloud = peers.clouds(dir)
  url = "http://127.0.0.1:" .. cloud.port
end)
teardown(function() cloud.process:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
  order { ttl = 3600, fail = cjson.null }
end)

describe("the imitation of the clouds", function()
  it("gives tokens to the clouds' own libraries", function()
    local code, out, err = process.run({ "node", "spec/support/peers/cloud-clients.mjs", tostring(cloud.port), tostring(cloud.tls_port), dir }, { env = { NODE_EXTRA_CA_CERTS = dir .. "/cert.pem" } })
    assert.equal(0, code, err)
    local seen = 0
    for name, made in pairs(cjson.decode(out)) do
      seen = seen + 1
      assert.is_nil(made:find "^error", name .. ": " .. made)
      assert.equal(200, http.get(cloud.port, "/api", { Authorization = "Bearer " .. made }).status, name)
    end
    assert.equal(11, seen)
  end)
end)

local LOGINS = {
  { "github.app by an installation's number", [[github.app { app_id = 12345, key = jeton.secret.file "DIR/app.key", installation = 42, url = "URL" }]] },
  { "github.app by an organization", [[github.app { app_id = "12345", key = jeton.secret.file "DIR/app.key", organization = "acme", url = "URL" }]] },
  { "github.app by a repository", [[github.app { app_id = 12345, key = jeton.secret.file "DIR/app.key", repository = "acme/api", url = "URL",
      permissions = { contents = "read" }, repositories = { "api" } }]] },
  { "github.app by a user", [[github.app { app_id = 12345, key = jeton.secret.file "DIR/app.key", user = "mona", url = "URL" }]] },
  { "gcp.key_file", [[gcp.key_file { path = "DIR/account.json", token_url = "URL/token" }]] },
  { "gcp.key_file for an ID token", [[gcp.key_file { path = "DIR/account.json", audience = "https://service.example", token_url = "URL/token" }]] },
  { "gcp.metadata", [[gcp.metadata { url = "URL" }]] },
  { "gcp.metadata with scopes", [[gcp.metadata { url = "URL", scope = { "https://www.googleapis.com/auth/devstorage.read_only", "openid" } }]] },
  { "gcp.metadata for an ID token", [[gcp.metadata { url = "URL", audience = "https://service.example" }]] },
  { "gcp.workload_identity", ([[gcp.workload_identity { provider = %q, token = jeton.secret.file "DIR/federated", sts_url = "URL" }]]):format(PROVIDER) },
  { "gcp.workload_identity of a service account", ([[gcp.workload_identity { provider = %q, token = jeton.secret.file "DIR/federated", sts_url = "URL", iam_url = "URL",
      service_account = %q }]]):format(PROVIDER, ACCOUNT) },
  { "gcp.impersonate", ([[gcp.impersonate { from = gcp.metadata { url = "URL" }, service_account = %q, url = "URL", lifetime = 600 }]]):format(ACCOUNT) },
  { "gcp.impersonate for an ID token", ([[gcp.impersonate { from = gcp.key_file { path = "DIR/account.json", token_url = "URL/token" }, service_account = %q, url = "URL",
      audience = "https://service.example" }]]):format(ACCOUNT) },
  { "azure.client_secret", [[azure.client_secret { tenant = "tenant", client_id = "app-id", client_secret = jeton.secret.value "s3cret", scope = "https://vault.azure.net/.default", authority = "URL" }]] },
  { "azure.certificate", [[azure.certificate { tenant = "tenant", client_id = "app-id", cert = "DIR/cert.pem", key = jeton.secret.file "DIR/app.key", scope = "https://vault.azure.net/.default",
      authority = "URL" }]] },
  { "azure.workload_identity", [[azure.workload_identity { tenant = "tenant", client_id = "app-id", token = jeton.secret.file "DIR/federated", scope = "https://vault.azure.net/.default", authority = "URL" }]] },
  { "azure.managed_identity", [[azure.managed_identity { resource = "https://vault.azure.net", url = "URL" }]] },
}

for _, login in ipairs(LOGINS) do
  describe(login[1], function()
    it("serves requests, replaces what is refused, and outlives a reload", function()
      proxy = jeton.start(policy(login[2]))
      local res = http.get(proxy.port, "/api")
      assert.equal(200, res.status, res.body)
      assert.is_true(token().expires_in > 3000 and token().expires_in <= 3600, token().expires_in)
      order { revoke = true }
      local second = http.get(proxy.port, "/api")
      assert.equal(200, second.status, second.body)
      assert.not_equal(res.body, second.body)
      assert.equal(2, token().generation)
      proxy:reload_file(policy(login[2], "via = true,"))
      assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
      assert.equal(second.body, http.get(proxy.port, "/api").body)
      assert.equal(2, token().generation)
      says_nothing_secret()
    end)
  end)
end

describe("a family", function()
  it("of github.app has a token for each repository", function()
    proxy = jeton.start(([[
      local github = require "jeton.github"
      return {
        listen = "127.0.0.1:0", upstream = %q,
        tokens = { app = github.app { app_id = 12345, key = jeton.secret.file %q, organization = "acme", url = %q,
          family = true, repositories = function(key) return { key } end } },
        on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.app[req.path:match "(%%w+)$"] end,
      }]]):format(url, dir .. "/app.key", url))
    local one, two = http.get(proxy.port, "/api/one"), http.get(proxy.port, "/api/two")
    assert.equal(200, one.status, one.body)
    assert.not_equal(one.body, two.body)
    local asked = requests()
    assert.same({ "one" }, cjson.decode(asked[#asked - 2].text).repositories)
    assert.same({ "two" }, cjson.decode(asked[#asked].text).repositories)
  end)
end)

describe("the example", function()
  for name, env in pairs {
    ["github-app"] = { KEY_FILE = "/app.key" },
    ["gcp-workload-identity"] = { TOKEN_FILE = "/federated", ISSUER = "" },
    ["azure-identity"] = { METADATA = "" },
  } do
    it(name .. " works", function()
      for key, value in pairs(env) do env[key] = (value == "" and url or dir) .. value end
      env.LISTEN, env.UPSTREAM = "127.0.0.1:0", url
      proxy = jeton.start { file = jeton.root .. "/examples/" .. name .. ".lua", env = env }
      assert.equal(200, http.get(proxy.port, "/api").status)
    end)
  end
end)

describe("an issuer's refusal", function()
  it("is told with its words, and asked again when it says", function()
    order { fail = { status = 429, headers = { ["retry-after"] = "120" }, body = { message = "API rate limit exceeded" } } }
    proxy = jeton.start(policy [[github.app { app_id = 12345, key = jeton.secret.file "DIR/app.key", installation = 42, url = "URL", wait = "1s" }]])
    local res = http.get(proxy.port, "/api")
    assert.equal(503, res.status)
    process.poll(function() return proxy:errors():find("GitHub answered 429: API rate limit exceeded", 1, true) end, 5, proxy:errors())
    assert.is_true(tonumber(res.headers["retry-after"]) > 100, res.headers["retry-after"])
  end)

  it("is not what a file without a certificate is told by", function()
    proxy = jeton.start(policy [[azure.certificate { tenant = "t", client_id = "app-id", cert = "DIR/app.pub", key = jeton.secret.file "DIR/app.key", scope = "a/.default", authority = "URL", wait = "1s" }]])
    assert.equal(503, http.get(proxy.port, "/api").status)
    process.poll(function() return proxy:errors():find("app.pub has no certificate in PEM", 1, true) end, 5, proxy:errors())
  end)

  it("of an identity that there is not is told by Google's metadata server", function()
    order { fail = { status = 404, body = {} } }
    proxy = jeton.start(policy [[gcp.metadata { url = "URL", audience = "a", wait = "1s" }]])
    assert.equal(503, http.get(proxy.port, "/api").status)
    process.poll(function() return proxy:errors():find("the metadata server answered 404", 1, true) end, 5, proxy:errors())
  end)
end)

describe("a policy with what is no login", function()
  local cases = {
    [ [[github.app { key = jeton.secret.file "DIR/app.key", installation = 42 }]] ] = "github.app: app_id: is needed, and is a string",
    [ [[github.app { app_id = 1, key = "DIR/app.key", installation = 42 }]] ] = 'github.app: key: expected a secret such as jeton.secret.file "PATH", got another string',
    [ [[github.app { app_id = 1, key = jeton.secret.file "DIR/app.key" }]] ] = "github.app: installation: is needed, its number or where it is",
    [ [[github.app { app_id = 1, key = jeton.secret.file "DIR/app.key", organization = "a", user = "b" }]] ] = "github.app: user: organization says already which installation it is",
    [ [[github.app { app_id = 1, key = jeton.secret.file "DIR/app.key", repository = "a" }]] ] = 'github.app: repository: expected owner and name, as in "acme/api"',
    [ [[github.app { app_id = 1, key = jeton.secret.file "DIR/app.key", organisation = "a" }]] ] = "github.app: unknown option 'organisation': did you mean 'organization'?",
    [ [[github.app { app_id = 1, key = jeton.secret.file "DIR/app.key", organization = "a", family = true }]] ] = "github.app: family = true, and no option is a function of the key",
    [ [[github.app { app_id = 1, key = jeton.secret.file "DIR/app.key", organization = function(key) return key end }]] ] = "github.app: organization: a function of the key is for a token with family = true",
    [ [[github.app "app"]] ] = "github.app: expected a table of options, got string",
    [ [[gcp.key_file { path = "DIR/none.json" }]] ] = "gcp.key_file: path: ",
    [ [[gcp.key_file { path = "DIR/app.pub" }]] ] = "gcp.key_file: path: ",
    [ [[gcp.metadata { scope = "a", audience = "b" }]] ] = "gcp.metadata: audience: makes an ID token, which has no scope: leave one of the two out",
    [ [[gcp.metadata { url = "metadata.google.internal" }]] ] = 'gcp.metadata: url: expected a URL such as "https://host", got another string',
    [ [[gcp.impersonate { from = "me", service_account = "a" }]] ] = "gcp.impersonate: from: expected a token that may impersonate, such as gcp.metadata(), got another string",
    [ [[gcp.workload_identity { provider = "p", token = jeton.secret.value "t", audience = "a" }]] ] = "gcp.workload_identity: service_account: is needed for an ID token",
    [ [[azure.client_secret { tenant = "t", client_id = "c", client_secret = "s", scope = "https://vault.azure.net" }]] ] = 'azure.client_secret: scope: expected "https://vault.azure.net/.default"',
    [ [[azure.managed_identity { resource = "a", client_id = "b", identity = "c" }]] ] = "azure.managed_identity: identity: client_id says already which identity it is",
    [ [[azure.workload_identity { scope = "a/.default" }]] ] = "is needed, and is",
  }
  local refusal = jeton.refusals([[local github, gcp, azure = require "jeton.github", require "jeton.gcp", require "jeton.azure"]], cases, function(text) return (text:gsub("URL", url):gsub("DIR", dir)) end)
  for text, expected in pairs(cases) do
    it("is refused: " .. text, function() assert.is_truthy(refusal(text):find(expected, 1, true), refusal(text)) end)
  end
end)
