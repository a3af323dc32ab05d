--- What all modules for issuers have in common: options that are told where they stand, and an issuer that asks for patience.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local dir

setup(function()
  dir = process.temp_dir()
  local function pem(name, arguments) assert(os.execute(("openssl %s -out %s/%s 2>/dev/null"):format(arguments, dir, name))) end
  pem("rsa.pem", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048")
  pem("ec.pem", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")
  pem("rsa.crt", ("req -x509 -new -key %s/rsa.pem -subj /CN=spec -days 30"):format(dir))
  assert(os.execute(("chmod 600 %s/*"):format(dir)))
end)

local MODULES = [[
local oauth2, aws, gcp, azure = require "jeton.oauth2", require "jeton.aws", require "jeton.gcp", require "jeton.azure"
local github, vault, kubernetes, session = require "jeton.github", require "jeton.vault", require "jeton.kubernetes", require "jeton.session"
local registry, pool = require "jeton.registry", require "jeton.pool"
local S, RSA, EC = jeton.secret.value "s3cret", jeton.secret.file "DIR/rsa.pem", jeton.secret.file "DIR/ec.pem"
]]

describe("an option of an issuer", function()
  local APP, ROLE = 'app_id = 1, key = RSA, organization = "acme"', 'role_arn = "arn:aws:iam::1:role/a", from = aws.imds()'
  local CLIENT = 'token_url = "https://a/t", client_id = "c", client_secret = S'
  local cases = {
    -- a number where there is to be a text
    [ [[github.app { app_id = 1, key = RSA, repository = 5 }]] ] = "github.app: repository: expected a string, got number",
    [ [[azure.managed_identity { resource = 5 }]] ] = "azure.managed_identity: resource: expected a string, got number",
    [ [[kubernetes.token_request { service_account = 5, url = "https://a" }]] ] = "kubernetes.token_request: service_account: expected a string, got number",
    -- how the issuer is reached
    [ ("github.app { %s, proxy = 5 }"):format(APP) ] = 'github.app: proxy: expected "http://HOST:PORT", "environment", false, or a table',
    [ ("github.app { %s, http2 = 'yes' }"):format(APP) ] = 'github.app: http2: expected true, false or "auto", got "yes"',
    [ ("github.app { %s, url = 'https://u:pw@a' }"):format(APP) ] = "github.app: url: expected a URL without a name or password before an @",
    [ ("github.app { %s, url = 'https://a:99999' }"):format(APP) ] = 'github.app: url: expected a URL such as "https://host", got another string',
    [ [[oauth2.password { token_url = "https://u:pw@a", username = "a", password = S }]] ] = "oauth2.password: token_url: expected a URL without a name or password before an @",
    -- keys and certificates
    [ [[github.app { app_id = 1, key = EC, organization = "acme" }]] ] = "ec.pem>> cannot sign RS256: this algorithm needs an RSA key",
    [ [[github.app { app_id = 1, key = S, organization = "acme" }]] ] = "cannot sign RS256: not a key in PEM",
    [ [[azure.certificate { tenant = "t", client_id = "c", scope = "a/.default", cert = "DIR/rsa.crt", key = EC }]] ] = "azure.certificate: cert: DIR/rsa.crt is not the certificate of key",
    -- whole numbers, lists, regions
    [ [[gcp.impersonate { from = gcp.metadata(), service_account = "a", lifetime = 1.5 }]] ] = "gcp.impersonate: lifetime: expected whole seconds, above 0, got number",
    [ ("github.app { %s, repositories = 'api' }"):format(APP) ] = "github.app: repositories: expected a list of strings, got another string",
    [ ("aws.assume_role { %s, region = 'eu west' }"):format(ROLE) ] = 'aws.assume_role: region: expected the name of a region, such as "eu-west-1", got another string',
    [ [[aws.web_identity "a"]] ] = "aws.web_identity: expected a table of options, got string",
    [ ("oauth2.client_credentials { %s, lifetime = -1 }"):format(CLIENT) ] = "oauth2.client_credentials: lifetime: expected seconds above 0",
    [ ("oauth2.client_credentials { %s, extra = { a = { b = {} } } }"):format(CLIENT) ] = "oauth2.client_credentials: extra: a: expected a string, a number, true or false, a secret",
    -- of two pools each has its own name
    [ [[pool.new { tokens = { "a" } }, pool.new { tokens = { "b" } }]] ] = "pool.new: name: another pool of this policy is 'keys'",
  }
  local function put(text) return (text:gsub("DIR", dir)) end
  local refusal = jeton.refusals(MODULES, cases, put)
  for text, expected in pairs(cases) do
    it("is refused where it stands: " .. text, function()
      local said = refusal(text)
      assert.is_truthy(said:find(put(expected), 1, true), said)
      assert.is_nil(said:find("u:pw", 1, true), said)
    end)
  end
end)

--- An issuer that answers everything with the bytes of a file, and what its heads are.
local SERVER = [[ while true do
  local head = c:read "head"
  if not head then return c:close() end
  c:read(tonumber(head:lower():match "content%%-length: (%%d+)" or 0))
  local f = io.open(%q, "rb")
  local text = f:read "a"
  f:close()
  c:write(text)
end ]]

local ISSUERS = {
  oauth2 = [[oauth2.client_credentials { token_url = "URL/t", client_id = "c", client_secret = S, %s }]],
  imds = [[aws.imds { url = "URL/", %s }]],
  ecs = [[aws.ecs { url = "URL/c", %s }]],
  sts = [[aws.assume_role { role_arn = "arn:aws:iam::1:role/a", from = aws.static { access_key_id = "a", secret_access_key = S }, url = "URL/", %s }]],
  metadata = [[gcp.metadata { url = "URL/", %s }]],
  id_token = [[gcp.metadata { url = "URL/", audience = "a", %s }]],
  federation = [[gcp.workload_identity { provider = "p", token = S, sts_url = "URL/", %s }]],
  azure = [[azure.client_secret { tenant = "t", client_id = "c", client_secret = S, scope = "a/.default", authority = "URL/", %s }]],
  identity = [[azure.managed_identity { resource = "a", url = "URL/", %s }]],
  github = [[github.app { app_id = 1, key = RSA, organization = "acme", url = "URL/", %s }]],
  vault = [[vault.approle { url = "URL/", role_id = "a", secret_id = S, %s }]],
  vault_token = [[vault.token { url = "URL/", token = S, %s }]],
  kubernetes = [[kubernetes.token_request { service_account = "a", namespace = "b", token = S, url = "URL/", %s }]],
  session = [[session.login { url = "URL/login", form = { user = "a" }, cookie = "sid", %s }]],
  session_page = [[session.login { url = "URL/login", form = { user = "a" }, cookie = "sid", csrf = { input = "_csrf" }, %s }]],
}
local BACKOFF = 'backoff = { min = "1s", max = "1s" }, jitter = 0'

describe("all issuers", function()
  local issuer, proxy
  local function answer(head, body)
    process.write_file(dir .. "/next", ("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s"):format(head, #body, body))
    assert(os.rename(dir .. "/next", dir .. "/reply"))
  end
  local function start()
    issuer = peers.raw(SERVER:format(dir .. "/reply"))
    local list, url = {}, "http://127.0.0.1:" .. issuer.port
    for name, text in pairs(ISSUERS) do list[#list + 1] = ("%s = %s"):format(name, text:format(BACKOFF):gsub("URL", url)) end
    local registry = ('registry = registry.token { url = "%s/", wait = "50ms", %s }'):format(url, BACKOFF)
    proxy = jeton.start((('%sreturn { listen = "127.0.0.1:0", upstream = "%s", tokens = { %s, %s },\n  on_request = function(req, tokens) req.headers.a = tokens.registry["-"] end }'):format(
      MODULES, url, table.concat(list, ",\n"), registry):gsub("DIR", dir)))
    http.get(proxy.port, "/") -- uses the registry's
  end
  after_each(function()
    if proxy then proxy:finish() end
    proxy = nil
  end)
  local function tokens()
    local found = {}
    for _, token in ipairs(cjson.decode(proxy:control("GET", "/status").body).tokens) do found[token.name] = token end
    return found
  end

  it("are given the time that they ask for", function()
    answer("503 Busy\r\nRetry-After: 1000", "")
    start()
    process.poll(function()
      for _, token in pairs(tokens()) do
        if token.failures == 0 then return false end
      end
      return true
    end, 20, "the first fetches")
    for name, token in pairs(tokens()) do
      assert.is_truthy(token.last_error:find "503", name .. ": " .. token.last_error)
      assert.is_true(token.next_attempt_in > 900, ("%s: %f s"):format(name, token.next_attempt_in))
    end
  end)

  it("are asked behind the path of their URL, with a slash at its end or without, and a redirect is told without another's option", function()
    answer("307 Elsewhere\r\nLocation: /elsewhere", "")
    start()
    process.poll(function()
      for _, token in pairs(tokens()) do
        if token.failures == 0 then return false end
      end
      return true
    end, 20, "the first fetches")
    assert.is_nil(issuer.received():find " //")
    for name, token in pairs(tokens()) do
      if name ~= "oauth2" then assert.is_nil(token.last_error:find("token_url", 1, true), name .. ": " .. token.last_error) end
    end
  end)
end)
