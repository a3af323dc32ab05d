--- jeton.kubernetes: token files as the kubelet writes them, and TokenRequest, against an imitation of the API (peers/kubernetes.mjs) that kubectl is served by, too.
local cjson = require "cjson"
local mime = require "mime"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local uv = require "luv"

local certs, dir, api, proxy

local function policy(made, more)
  return (([[
local kubernetes = require "jeton.kubernetes"
return {
  listen = "127.0.0.1:0", upstream = "URL", log = { level = "debug" },
  tokens = { api = %s },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end, %s
}]]):format(made, more or ""):gsub("URL", "http://127.0.0.1:" .. api.port):gsub("TLS", "https://localhost:" .. api.tls_port):gsub("DIR", dir))
end
local function token() return proxy:status().tokens[1] end
local function claims()
  local res = http.get(proxy.port, "/billing")
  assert.equal(200, res.status, res.body)
  return cjson.decode(res.body)
end
local function order(orders) assert(http.request(api.port, "POST", "/world", nil, cjson.encode(orders))) end
local function requests() return cjson.decode(http.get(api.port, "/world").body).requests end

--- A token that ends at `exp`, as the kubelet puts it into a volume: a link to a directory that is replaced as a whole.
local function jwt(exp, n)
  local function part(text) return (mime.b64(text):gsub("[+/=]", { ["+"] = "-", ["/"] = "_", ["="] = "" })) end
  return part '{"alg":"RS256"}' .. "." .. part(cjson.encode { exp = exp, n = n }) .. ".c2ln"
end
local function project(text)
  local version = dir .. "/..version" .. tostring(uv.hrtime())
  assert(uv.fs_mkdir(version, 448))
  process.write_file(version .. "/token", text)
  assert(uv.fs_symlink(version, dir .. "/..data_tmp"))
  assert(os.rename(dir .. "/..data_tmp", dir .. "/..data"))
  if not uv.fs_lstat(dir .. "/token") then assert(uv.fs_symlink("..data/token", dir .. "/token")) end
end

setup(function()
  certs = peers.certificates()
  local p = process.start { "node", "spec/support/peers/kubernetes.mjs", certs .. "/rsa.pem", certs .. "/rsa.key" }
  local ports = cjson.decode(process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 20, "the imitation to start"))
  api = { process = p, port = math.tointeger(ports.port), tls_port = math.tointeger(ports.tls_port) }
end)
teardown(function() api.process:stop() end)
before_each(function()
  dir = process.temp_dir()
  project "pod-token\n"
  process.write_file(dir .. "/namespace", "default")
  process.write_file(dir .. "/ca.crt", process.read_file(certs .. "/ca.pem"))
end)
after_each(function()
  if proxy then
    assert.is_nil(proxy:errors():find("pod-token", 1, true))
    proxy:finish()
  end
  proxy = nil
end)

local REQUEST = [[kubernetes.token_request { service_account = "reports", audience = "billing", expiration = 900, url = "TLS", mount = "DIR" }]]

describe("kubernetes.token_request", function()
  it("gets a token for an audience with the pod's own, over a refusal and a reload", function()
    proxy = jeton.start(policy(REQUEST))
    local first = claims()
    assert.same({ { "billing" }, "system:serviceaccount:default:reports" }, { first.aud, first.sub })
    assert.is_true(token().expires_in > 880 and token().expires_in <= 900, token().expires_in)
    order { revoke = true }
    assert.not_equal(first.n, claims().n)
    proxy:reload_file(policy(REQUEST, "via = true,"))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    claims()
    assert.equal(2, token().generation)
  end)

  it("asks what kubectl asks", function()
    local config = process.write_file(dir .. "/config", (cjson.encode {
      apiVersion = "v1", kind = "Config", ["current-context"] = "c", contexts = { { name = "c", context = { cluster = "c", user = "u" } } },
      clusters = { { name = "c", cluster = { server = "https://localhost:" .. api.tls_port, ["certificate-authority"] = certs .. "/ca.pem" } } },
      users = { { name = "u", user = { token = "pod-token" } } },
    }:gsub("\\/", "/")))
    local pod = { apiVersion = "v1", kind = "Pod", name = "p", uid = "1" }
    local code, out, err = process.run { "kubectl", "--kubeconfig", config, "create", "token", "reports", "--audience", "billing", "--duration", "15m",
      "--bound-object-kind", "Pod", "--bound-object-name", "p", "--bound-object-uid", "1" }
    if code ~= 0 and err:find "unknown command\"?" or err:find "unknown flag" then return pending "this kubectl has no `create token` (1.24)" end
    assert.equal(0, code, err)
    assert.matches("^e[%w_-]+%.[%w_-]+%.", out)
    local asked = requests()
    proxy = jeton.start(policy((REQUEST:gsub("mount =", 'bound_to = { apiVersion = "v1", kind = "Pod", name = "p", uid = "1" }, mount ='))))
    claims()
    assert.same(pod, asked[#asked].spec.boundObjectRef)
    assert.same(asked[#asked], requests()[#asked + 1])
  end)

  it("finds the API as a pod is told of it", function()
    local env = { KUBERNETES_SERVICE_HOST = "localhost", KUBERNETES_SERVICE_PORT = tostring(api.tls_port) }
    proxy = jeton.start { policy = policy [[kubernetes.token_request { service_account = "reports", mount = "DIR" }]], env = env }
    assert.same({ "https://kubernetes.default.svc" }, claims().aud)
  end)

  it("is a family by account or audience", function()
    local text = policy [[kubernetes.token_request { service_account = "reports", url = "TLS", mount = "DIR", family = true, audience = function(key) return { key } end }]]
    proxy = jeton.start((text:gsub("tokens%.api end", "tokens.api[req.path:sub(2)] end")))
    assert.same({ "one" }, cjson.decode(http.get(proxy.port, "/one").body).aud)
    assert.same({ "two" }, cjson.decode(http.get(proxy.port, "/two").body).aud)
  end)

  it("tells the API's words for a refusal", function()
    proxy = jeton.start(policy((REQUEST:gsub('"reports"', '"nobody"'):gsub("mount", "wait = '500ms', mount"))))
    assert.equal(503, http.get(proxy.port, "/billing").status)
    proxy:wait_log 'the Kubernetes API answered 404: '
    proxy:wait_log 'serviceaccounts "nobody" not found'
  end)
end)

describe("kubernetes.service_account", function()
  local echo
  setup(function() echo = peers.nginx [[ if ($http_authorization ~ "refused") { return 401; } location / { return 200 "$http_authorization"; } ]] end)
  teardown(function() echo.process:stop() end)
  local function start(options)
    proxy = jeton.start((policy([[kubernetes.service_account { path = "DIR/token", ]] .. (options or "") .. "}"):gsub('upstream = "[^"]*"', ('upstream = "http://127.0.0.1:%d"'):format(echo.port))))
  end
  local function sent() return (http.get(proxy.port, "/").body:gsub("^Bearer ", "")) end

  it("sends the token of the file until that ends, and follows the kubelet", function()
    local first, second = jwt(os.time() + 3600, 1), jwt(os.time() + 3600, 2)
    project(first .. "\n")
    start "lifetime = 1"
    assert.equal(first, sent())
    project(second)
    process.poll(function() return sent() == second end, 5, "the new token")
  end)

  it("is never used behind its own end", function()
    project(jwt(os.time() + 30, 1))
    start()
    sent()
    assert.is_true(token().expires_in <= 30)
    project(jwt(os.time() - 5, 2))
    assert.not_equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    proxy:wait_log "has ended: is the kubelet there to write another one?"
  end)

  it("reads the file again behind a 401", function()
    local refused = jwt(os.time() + 3600, 1):gsub("c2ln", "refused")
    project(refused)
    start()
    process.poll(function() return token().generation == 1 end, 5, "the first token")
    project(jwt(os.time() + 3600, 2))
    assert.equal(jwt(os.time() + 3600, 2):sub(1, 10), sent():sub(1, 10))
    assert.equal(2, token().generation)
  end)

  it("says what is no token", function()
    start "wait = '500ms'" -- "pod-token"
    assert.equal(503, http.get(proxy.port, "/").status)
    proxy:wait_log "/token holds no token of a service account"
  end)
end)

describe("the example", function()
  it("kubernetes-token works", function()
    proxy = jeton.start { file = jeton.root .. "/examples/kubernetes-token.lua",
      env = { LISTEN = "127.0.0.1:0", UPSTREAM = "http://127.0.0.1:" .. api.port, API = "http://127.0.0.1:" .. api.port, TOKEN_FILE = dir .. "/token" } }
    assert.same({ "https://billing.internal.svc" }, claims().aud)
  end)
end)

describe("a policy with what is no account", function()
  local cases = {
    [ [[kubernetes.token_request { service_account = "a" }]] ] = 'kubernetes.token_request: url: is needed outside of a pod (KUBERNETES_SERVICE_HOST is not set)',
    [ [[kubernetes.token_request { url = "URL" }]] ] = "kubernetes.token_request: service_account: is needed, and is a string",
    [ [[kubernetes.token_request { url = "URL", service_account = "default/a" }]] ] = "kubernetes.token_request: service_account: expected its name alone; the namespace stands in namespace",
    [ [[kubernetes.token_request { url = "URL", service_account = "a", expiration = 60 }]] ] = "kubernetes.token_request: expiration: expected whole seconds, 600 or more, since the API takes no less",
    [ [[kubernetes.token_request { url = "URL", service_account = "a", token = "t" }]] ] = 'kubernetes.token_request: token: expected a secret such as jeton.secret.file "PATH", got another string',
    [ [[kubernetes.service_account { file = "a" }]] ] = "kubernetes.service_account: unknown option 'file'",
    [ [[kubernetes.service_account "a"]] ] = "kubernetes.service_account: expected a table of options, got string",
    [ [[kubernetes.pod {}]] ] = "jeton.kubernetes has no 'pod'",
  }
  local refusal = jeton.refusals([[local kubernetes = require "jeton.kubernetes"]], cases, function(text) return (text:gsub("URL", "http://127.0.0.1:" .. api.port):gsub("TLS", "https://localhost:" .. api.tls_port):gsub("DIR", dir)) end)
  for text, expected in pairs(cases) do
    it("is refused: " .. text, function() assert.is_truthy(refusal(text):find(expected, 1, true), refusal(text)) end)
  end
end)
