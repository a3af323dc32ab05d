--- jeton.registry: Debian's docker-registry, which believes the tokens of a token server (peers/registry-tokens.mjs), and skopeo as its client.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local uv = require "luv"

local SECRET = "s3cret-of-the-spec"
local dir, tokens, registry, proxy

local function url_of(port) return "http://127.0.0.1:" .. port end
local function order(orders) assert(http.request(tokens.port, "POST", "/world", nil, cjson.encode(orders))) end
local function requests() return cjson.decode(http.get(tokens.port, "/world").body).requests end

local function token_server()
  assert(os.execute(([[cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout signing.key -out signing.pem -days 2 -subj /CN=spec 2>/dev/null]]):format(dir)))
  local p = process.start { "node", "spec/support/peers/registry-tokens.mjs", dir .. "/signing.key", dir .. "/signing.pem" }
  local ports = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 20, "the token server to start")
  return { process = p, port = math.tointeger(cjson.decode(ports).port) }
end
local function docker_registry()
  local port = peers.free_port()
  local config = process.write_file(dir .. "/config.yml", ([[
version: 0.1
log: { level: warn }
storage: { filesystem: { rootdirectory: %s/images }, delete: { enabled: true } }
http: { addr: "127.0.0.1:%d", secret: spec }
auth: { token: { realm: "%s/token", service: registry.spec, issuer: spec, rootcertbundle: %s/signing.pem } }
]]):format(dir, port, url_of(tokens.port), dir))
  local p = process.start({ "docker-registry", "serve", config }, { env = { OTEL_TRACES_EXPORTER = "none" } })
  process.poll(function() return p:ended() and error(p:errors()) or pcall(http.get, port, "/") end, 20, "docker-registry to listen")
  return { process = p, port = port }
end

local function sha256(file)
  local code, out = process.run { "openssl", "dgst", "-sha256", "-r", file }
  assert.equal(0, code)
  return out:match "^%x+"
end
--- An image of one layer, as an OCI layout.
local function image()
  local at = dir .. "/image"
  assert(os.execute(([[mkdir -p %s/blobs/sha256 && cd %s && echo hello >hello && tar cf layer.tar hello && gzip -nk layer.tar]]):format(at, at)))
  local function blob(text, file)
    file = file or process.write_file(at .. "/blob", text)
    local digest, size = sha256(file), uv.fs_stat(file).size
    assert(os.rename(file, at .. "/blobs/sha256/" .. digest))
    return { digest = "sha256:" .. digest, size = size }
  end
  local diff = sha256(at .. "/layer.tar")
  local function described(kind, what)
    what.mediaType = "application/vnd.oci.image." .. kind
    return what
  end
  local function json(value) return (cjson.encode(value):gsub("\\/", "/")) end
  local layer = described("layer.v1.tar+gzip", blob(nil, at .. "/layer.tar.gz"))
  local config = described("config.v1+json", blob(json { architecture = "amd64", os = "linux", rootfs = { type = "layers", diff_ids = { "sha256:" .. diff } } }))
  local manifest = described("manifest.v1+json", blob(json { schemaVersion = 2, mediaType = "application/vnd.oci.image.manifest.v1+json", config = config, layers = { layer } }))
  manifest.annotations = { ["org.opencontainers.image.ref.name"] = "1" }
  process.write_file(at .. "/oci-layout", '{"imageLayoutVersion":"1.0.0"}')
  process.write_file(at .. "/index.json", json { schemaVersion = 2, manifests = { manifest } })
  return at, manifest.digest, layer.digest
end

local function policy(options, more)
  return ([[
local registry = require "jeton.registry"
return {
  listen = "127.0.0.1:0", upstream = { %q, rewrite_location = true }, log = { level = "debug" },
  tokens = { registry = registry.token { url = %q, %s } },
  on_request = function(req, tokens) registry.authorize(req, tokens.registry) end, %s
}]]):format(url_of(registry.port), url_of(registry.port), options or 'username = "ci", password = jeton.secret.value "s3cret-of-the-spec"', more or "")
end
local function get(path, headers) return http.get(proxy.port, path, headers) end

local layout, digest, layer
setup(function()
  dir = process.temp_dir()
  tokens = token_server()
  registry = docker_registry()
  layout, digest, layer = image()
end)
teardown(function()
  registry.process:stop()
  tokens.process:stop()
end)
after_each(function()
  if proxy then
    local said = proxy:errors() .. proxy:control("GET", "/status").body
    for _, word in ipairs { SECRET, "eyJ" } do assert.is_nil(said:find(word, 1, true), said) end
    proxy:finish()
  end
  proxy = nil
  order { spoil = 0, ttl = 300 }
end)

local function skopeo(...)
  local code, out, err = process.run({ "skopeo", ... }, { env = { HOME = dir, XDG_RUNTIME_DIR = dir, TMPDIR = dir, REGISTRY_AUTH_FILE = dir .. "/none" } })
  assert.equal(0, code, err .. (proxy and proxy:errors() or ""))
  return out
end
local function at_proxy(what) return ("docker://127.0.0.1:%d/%s"):format(proxy.port, what) end
local function push(name) skopeo("copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:" .. layout .. ":1", at_proxy(name)) end

describe("registry.token", function()
  it("lets skopeo push, pull, list and delete, with a token a scope and no login of its own", function()
    assert.equal(401, http.get(registry.port, "/v2/").status)
    proxy = jeton.start(policy())
    push "acme/app:1"
    local out = dir .. "/pulled"
    skopeo("copy", "-q", "--insecure-policy", "--src-tls-verify=false", at_proxy "acme/app:1", "dir:" .. out)
    assert.equal(digest, "sha256:" .. sha256(out .. "/manifest.json"))
    assert.same({ "1" }, cjson.decode(skopeo("list-tags", "--tls-verify=false", at_proxy "acme/app")).Tags)
    skopeo("delete", "--tls-verify=false", at_proxy "acme/app:1")
    assert.equal(404, get("/v2/acme/app/manifests/1", { Accept = "*/*" }).status)
    local seen = {}
    for _, request in ipairs(requests()) do
      assert.same({ "ci", "registry.spec" }, { request.account, request.service })
      seen[request.scopes[1] or ""] = (seen[request.scopes[1] or ""] or 0) + 1
    end
    assert.same({ [""] = 1, ["repository:acme/app:pull"] = 1, ["repository:acme/app:pull,push"] = 1, ["repository:acme/app:delete"] = 1 }, seen)
  end)

  it("mounts a blob of another repository, with both scopes in one token", function()
    proxy = jeton.start(policy())
    push "acme/base:1"
    local res = http.request(proxy.port, "POST", ("/v2/acme/other/blobs/uploads/?mount=%s&from=acme%%2Fbase"):format(layer), nil, "")
    assert.equal(201, res.status, res.body)
    assert.equal("/v2/acme/other/blobs/" .. layer, res.headers.location)
    local asked = requests()
    assert.same({ "repository:acme/other:pull,push", "repository:acme/base:pull" }, asked[#asked].scopes)
    local long, longer = ("a"):rep(150), ("b"):rep(150) -- longer together than a family's key
    push(long .. ":1")
    res = http.request(proxy.port, "POST", ("/v2/%s/blobs/uploads/?mount=%s&from=%s"):format(longer, layer, long), nil, "")
    assert.equal(201, res.status, res.body)
  end)

  it("gets another token by the challenge of a 401, for the same request", function()
    proxy = jeton.start(policy())
    assert.equal(200, get("/v2/").status)
    order { spoil = 1 }
    assert.equal(200, get("/v2/_catalog", { Authorization = "Bearer mine" }).status)
    local asked = requests()
    assert.same({ { "registry:catalog:*" }, { "registry:catalog:*" } }, { asked[#asked - 1].scopes, asked[#asked].scopes })
  end)

  it("keeps its tokens over a reload", function()
    proxy = jeton.start(policy())
    assert.equal(200, get("/v2/_catalog").status)
    local count = #requests()
    proxy:reload_file(policy(nil, "via = true,"))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    assert.equal(200, get("/v2/_catalog").status)
    assert.equal(count, #requests())
  end)

  it("may have an identity token instead of a password", function()
    proxy = jeton.start(policy 'identity_token = jeton.secret.value "identity"')
    assert.equal(200, get("/v2/_catalog").status)
    local asked = requests()
    assert.equal("identity", asked[#asked].account)
  end)

  it("says in the token server's words why there is no token", function()
    proxy = jeton.start(policy('username = "ci", password = jeton.secret.value "another", wait = "500ms"'))
    assert.equal(503, get("/v2/").status)
    proxy:wait_log "the registry's token server answered 401: UNAUTHORIZED: authentication required"
  end)

  it("puts nothing on what is not a registry's path", function()
    local echo = peers.nginx [[ location / { return 200 "<$http_authorization>"; } ]]
    proxy = jeton.start((policy():gsub('upstream = { "[^"]+"', ('upstream = { "%s"'):format(url_of(echo.port)))))
    assert.equal("<>", get("/v2/acme/app", { Authorization = "Bearer mine" }).body)
    assert.equal("<>", get("/v2/Acme/manifests/1").body)
    assert.equal("<>", get("/token").body)
  end)

  for name, case in pairs {
    ["asks for a password itself"] = { [[ location / { add_header WWW-Authenticate 'Basic realm="r"' always; return 401; } ]], "the registry asks for a password itself, not for a token: write req.headers" },
    ["asks for nothing"] = { [[ location / { return 200; } ]], "the registry answered 200 to /v2/ without a Bearer challenge" },
    ["names no token server"] = { [[ location / { add_header WWW-Authenticate 'Bearer service="s"' always; return 401; } ]], "the registry's challenge names no token server (realm)" },
  } do
    it("says what to do where a registry " .. name, function()
      local other = peers.nginx(case[1])
      proxy = jeton.start((policy('wait = "500ms"'):gsub("127%.0%.0%.1:%d%d+", "127.0.0.1:" .. other.port)))
      assert.equal(503, get("/v2/").status)
      proxy:wait_log(case[2])
    end)
  end

  it("gives no password to a token server that is less safe to ask than the registry", function()
    local certs = peers.certificates()
    local other = peers.nginx(([[ ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key;
      location / { add_header WWW-Authenticate 'Bearer realm="http://127.0.0.1:%d/token",service="s"' always; return 401; } ]]):format(certs, certs, tokens.port), "ssl")
    local count = #requests()
    proxy = jeton.start((policy(('username = "ci", password = jeton.secret.value "s3cret-of-the-spec", wait = "500ms", tls = { ca = %q }'):format(certs .. "/ca.pem"))
      :gsub('registry%.token { url = "[^"]+"', ('registry.token { url = "https://localhost:%d"'):format(other.port))))
    assert.equal(503, get("/v2/").status)
    proxy:wait_log "the registry's challenge names a token server without TLS"
    assert.equal(count, #requests())
  end)
end)

describe("the example", function()
  it("registry works", function()
    local file = process.write_file(dir .. "/password", SECRET)
    assert(uv.fs_chmod(file, 384))
    proxy = jeton.start { file = jeton.root .. "/examples/registry.lua", env = { LISTEN = "127.0.0.1:0", UPSTREAM = url_of(registry.port), PASSWORD_FILE = file } }
    push "acme/example:1"
    assert.equal(200, get "/v2/acme/example/tags/list".status)
  end)
end)

describe("a policy with what is no registry", function()
  for options, expected in pairs {
    [ [[username = "ci"]] ] = "registry.token: password: is needed beside username",
    [ [[username = "ci", password = "p"]] ] = 'registry.token: password: expected a secret such as jeton.secret.file "PATH", got another string',
    [ [[username = "ci", password = jeton.secret.value "p", identity_token = jeton.secret.value "i"]] ] = "registry.token: identity_token: takes the place of username and password",
    [ [[family = true]] ] = "registry.token: family: every key would get the same token here: leave family out",
    [ [[user = "ci"]] ] = "registry.token: unknown option 'user'",
  } do
    it("is refused: " .. options, function()
      local file = process.write_file(process.temp_dir() .. "/policy.lua", policy(options))
      local code, out, err = jeton.run { "check", file }
      assert.equal(78, code, out .. err)
      assert.is_truthy((out .. err):find(expected, 1, true), out .. err)
      assert.is_truthy((out .. err):find("policy.lua:4:", 1, true), out .. err)
    end)
  end
end)
