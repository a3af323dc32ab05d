--- jeton.exec_credential: programs that hand out credentials. kubectl and git are asked for the same, and have to come to the same.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local uv = require "luv"

local V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
local dir, upstream, proxy

--- A program that writes its arguments, environment and input to DIR/NAME.*, counts its runs there, and then does what `text` says.
local function program(name, text)
  local file = process.write_file(dir .. "/" .. name, ([[#!/bin/sh
cd %s
echo "$*" >%s.args
env >%s.env
echo x >>%s.runs
runs=$(wc -l <%s.runs)
%s
]]):format(dir, name, name, name, name, text))
  assert(uv.fs_chmod(file, 448))
  return file
end
local function runs(name) return select(2, process.read_file(dir .. "/" .. name .. ".runs"):gsub("\n", "")) end
local function told(name, what) return process.read_file(dir .. "/" .. name .. "." .. what) end
local function variable(name, which) return ("\n" .. told(name, "env")):match("\n" .. which .. "=([^\n]*)") end

local function policy(made, more)
  return (([[
local exec_credential = require "jeton.exec_credential"
return {
  listen = "127.0.0.1:0", upstream = "URL", log = { level = "debug" },
  tokens = { api = %s },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end, %s
}]]):format(made, more or ""):gsub("URL", "http://127.0.0.1:" .. upstream.port):gsub("DIR", dir))
end
local function token() return proxy:status().tokens[1] end
local function get(path, headers) return http.get(proxy.port, path or "/", headers) end
local function why_not(text)
  local res = get()
  assert.equal(503, res.status, res.body)
  proxy:wait_log(text)
end

setup(function()
  upstream = peers.nginx [[
    if ($http_authorization ~ "refused") { return 401; }
    location / { return 200 "$http_authorization $http_x_more"; } ]]
end)
teardown(function() upstream.process:stop() end)
before_each(function() dir = process.temp_dir() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- What a plugin prints; its token has the number of the run in it.
local function plugin(status, version)
  return program("plugin", ([[printf '{"apiVersion":"%s","kind":"ExecCredential","status":%s}' "$runs"]]):format(version or V1, status))
end
local KUBERNETES = [[exec_credential.kubernetes { command = { "DIR/plugin", "get-token", "a b" }, wait = "5s" }]]

describe("exec_credential.kubernetes", function()
  it("sends what the plugin gives, until it says that it ends", function()
    plugin(('{"token":"tok%%s","expirationTimestamp":"%s"}'):format(os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + 600)))
    proxy = jeton.start(policy(KUBERNETES))
    assert.equal("Bearer tok1 ", get().body)
    assert.equal("get-token a b\n", told("plugin", "args"))
    local left = token().expires_in
    assert.is_true(left > 580 and left <= 600, left)
    assert.is_nil(proxy:errors():find("tok1", 1, true))
  end)

  it("asks the plugin again behind a 401, and for each reload that names another one", function()
    plugin [[{"token":"'$([ $runs = 1 ] && echo refused)'tok%s"}]]
    proxy = jeton.start(policy(KUBERNETES))
    assert.equal("Bearer tok2 ", get().body)
    proxy:reload_file(policy(KUBERNETES, "via = true,"))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    assert.equal("Bearer tok2 ", get().body)
    assert.equal(2, runs "plugin")
    proxy:reload_file(policy((KUBERNETES:gsub("a b", "other"))))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    process.poll(function() return get().body == "Bearer tok3 " end, 5, "the other plugin's token")
  end)

  it("takes a token without an end for as long as it says itself, or `lifetime`", function()
    local exp = os.time() + 1200
    local jwt = "e30." .. (require("mime").b64(('{"exp":%d}'):format(exp)):gsub("=", "")) .. ".c2ln"
    plugin(('{"token":"%s"}'):format(jwt))
    proxy = jeton.start(policy(KUBERNETES))
    assert.equal("Bearer " .. jwt .. " ", get().body)
    assert.is_true(token().expires_in > 1150 and token().expires_in <= 1200, token().expires_in)
    proxy:finish()
    plugin '{"token":"opaque"}'
    proxy = jeton.start(policy [[exec_credential.kubernetes { command = { "DIR/plugin" }, lifetime = 90 }]])
    assert.equal("Bearer opaque ", get().body)
    assert.is_true(token().expires_in > 80 and token().expires_in <= 90, token().expires_in)
  end)

  it("is what kubectl sends with the same plugin, which is told the same", function()
    local certs = peers.certificates()
    local api = peers.nginx(([[ ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key;
      location / { default_type application/json; return 200 '{"major":"1","minor":"20","gitVersion":"$http_authorization"}'; } ]]):format(certs, certs), "ssl")
    local version = program("plugin", [[
version=$(printenv KUBERNETES_EXEC_INFO | sed 's/.*"apiVersion":"\([^"]*\)".*/\1/')
printf '{"apiVersion":"%s","kind":"ExecCredential","status":{"token":"tok"}}' "$version"]])
    for _, api_version in ipairs { V1BETA1, V1 } do
      local server = "https://localhost:" .. api.port
      local config = process.write_file(dir .. "/config", (cjson.encode {
        apiVersion = "v1", kind = "Config", ["current-context"] = "c", contexts = { { name = "c", context = { cluster = "c", user = "u" } } },
        clusters = { { name = "c", cluster = { server = server, ["certificate-authority"] = certs .. "/ca.pem" } } },
        users = { { name = "u", user = { exec = { apiVersion = api_version, command = version, interactiveMode = "Never", provideClusterInfo = true } } } },
      }:gsub("\\/", "/")))
      local code, out, err = process.run({ "kubectl", "--kubeconfig", config, "get", "--raw", "/version" }, { env = { KUBECONFIG = config, HOME = dir } })
      if api_version == V1BETA1 or not err:find("unknown", 1, true) and not err:find("Unsupported", 1, true) and not err:find("invalid apiVersion", 1, true) then
        assert.equal(0, code, err)
        local from_kubectl = cjson.decode(variable("plugin", "KUBERNETES_EXEC_INFO"))
        proxy = jeton.start(policy(([[exec_credential.kubernetes { command = { "DIR/plugin" }, api_version = %q,
          cluster = { server = %q, ["certificate-authority-data"] = %q, config = jeton.json.null } }]]):format(api_version, server,
          from_kubectl.spec.cluster["certificate-authority-data"])))
        assert.equal(cjson.decode(out).gitVersion .. " ", get().body)
        from_kubectl.spec.interactive = from_kubectl.spec.interactive or false -- old ones leave it out
        assert.same(from_kubectl, cjson.decode(variable("plugin", "KUBERNETES_EXEC_INFO")))
        proxy:finish()
        proxy = nil
      end
    end
  end)

  for said, expected in pairs {
    ['{"clientCertificateData":"x","clientKeyData":"y"}'] = "gave a client certificate and no token: a certificate goes into the upstream's tls = { cert =, key = }",
    ["{}"] = "'s ExecCredential has no token",
  } do
    it("says what is wrong with what it got: " .. said, function()
      plugin(said)
      proxy = jeton.start(policy [[exec_credential.kubernetes { command = { "DIR/plugin" }, wait = "1s" }]])
      why_not(expected)
    end)
  end

  it("says why a plugin failed, and which version one speaks", function()
    plugin("{}", V1BETA1)
    proxy = jeton.start(policy [[exec_credential.kubernetes { command = { "DIR/plugin" }, wait = "1s" }]])
    why_not(('speaks another version than %s: write api_version = "%s"'):format(V1, V1BETA1))
    program("plugin", [[echo 'log in first:'; echo 'aws sso login' >&2; exit 3]])
    assert.not_equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    proxy:wait_log "/plugin ended with 3: aws sso login"
    program("plugin", [[echo 'Bearer printed-anyway']])
    assert.not_equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    proxy:wait_log "/plugin printed what is not a JSON object"
    assert.is_nil(proxy:errors():find("printed-anyway", 1, true))
    os.remove(dir .. "/plugin")
    assert.not_equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    proxy:wait_log "no such file"
  end)

  it("has a plugin a key, with its own environment", function()
    program("plugin", [[printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s-%s"}}' "$1" "$REGION"]])
    proxy = jeton.start((policy [[exec_credential.kubernetes { family = true, command = function(key) return { "DIR/plugin", key } end,
      env = function(key) return { REGION = jeton.secret.value("r-" .. key), AWS_PROFILE = false } end }]]):gsub("tokens%.api end", "tokens.api[req.path:sub(2)] end"))
    assert.equal("Bearer one-r-one ", get("/one").body)
    assert.equal("Bearer two-r-two ", get("/two").body)
  end)
end)

--- git with a home of its own.
local function git(argv, stdin)
  local line = process.write_file(dir .. "/stdin", stdin or "")
  return process.run({ "git", table.unpack(argv) }, { env = { HOME = dir, GIT_TERMINAL_PROMPT = "0", GIT_ASKPASS = "true" }, stdin = line })
end
local STORE = [[exec_credential.git { url = "https://git.example.com:8443/acme/api", helper = "store", env = { HOME = "DIR" }, %s }]]
local function git_policy(more)
  return (policy(STORE:format(more or "")):gsub('"Bearer " .. tokens.api', 'tokens.api:field "authorization"; req.headers["x-more"] = tokens.api:field "username"'))
end
local function basic(text) return "Basic " .. require("mime").b64(text) end

describe("exec_credential.git", function()
  it("is what git itself sends to a server", function()
    local asks = peers.nginx [[ if ($http_authorization = "") { return 401; } add_header WWW-Authenticate 'Basic realm="git"' always; location / { return 404; } ]]
    process.write_file(dir .. "/.git-credentials", ("http://mona:p%%40ss%%3aw%%25rd@127.0.0.1:%d\n"):format(asks.port))
    local _, _, err = git { "-c", "credential.helper=store", "-c", "http.extraHeader=X-Trace: 1", "ls-remote", ("http://127.0.0.1:%d/acme/api"):format(asks.port) }
    assert.is_truthy(err:find("not found", 1, true), err)
    assert.matches('" 401 .- mona %[[^\n]+" 404 ', (asks.log():gsub("\n", " ", 1):gsub("%- %- %[", "- - [", 1))) -- it has logged in as mona
    proxy = jeton.start((git_policy():gsub("https://git.example.com:8443", "http://127.0.0.1:" .. asks.port)))
    assert.equal(basic "mona:p@ss:w%rd" .. " mona", get().body)
    local code, out = git({ "-c", "credential.helper=store", "credential", "fill" }, ("protocol=http\nhost=127.0.0.1:%d\n\n"):format(asks.port))
    assert.equal(0, code)
    assert.equal(get().body, basic("mona:" .. out:match "password=([^\n]*)") .. " mona")
    assert.is_nil(proxy:errors():find("p@ss", 1, true))
  end)

  it("tells git of a refusal where it is asked to, so that what is kept is forgotten", function()
    process.write_file(dir .. "/.git-credentials", "https://refused:first@git.example.com:8443\nhttps://mona:other@elsewhere.example\n")
    proxy = jeton.start((git_policy("reject = true, wait = '1s', lifetime = 600,"):gsub([[tokens.api:field "authorization"]], [[tokens.api:field "username"]], 1)))
    assert.equal(503, get().status)
    assert.equal("https://mona:other@elsewhere.example\n", process.read_file(dir .. "/.git-credentials"))
    proxy:wait_log "could not read Username"
    process.write_file(dir .. "/.git-credentials", "https://mona:second@git.example.com:8443\n")
    assert.equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    assert.equal("mona mona", get().body)
  end)

  it("leaves git's helpers alone otherwise", function()
    process.write_file(dir .. "/.git-credentials", "https://refused:first@git.example.com:8443\n")
    proxy = jeton.start((git_policy():gsub([[tokens.api:field "authorization"]], [[tokens.api:field "username"]], 1)))
    assert.equal(401, get().status)
    assert.equal("https://refused:first@git.example.com:8443\n", process.read_file(dir .. "/.git-credentials"))
  end)

  it("takes a helper's end, and a type of its own where git knows that", function()
    local helper = program("helper", ([[cat >helper.in; echo username=mona; echo password=secret; echo password_expiry_utc=%d]]):format(os.time() + 300))
    proxy = jeton.start((git_policy():gsub('"store"', ("%q"):format(helper))))
    assert.equal(basic "mona:secret" .. " mona", get().body)
    assert.matches("protocol=https\nhost=git.example.com:8443\n", told("helper", "in"))
    local code, version = git { "version" }
    assert.equal(0, code)
    local major, minor = version:match "(%d+)%.(%d+)"
    if tonumber(major) > 2 or tonumber(minor) >= 40 then assert.is_true(token().expires_in <= 300) end
  end)
end)

describe("exec_credential.credential_process", function()
  it("gives the secret access key with its fields", function()
    program("aws", ([[printf '{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"secret%%s","SessionToken":"session","Expiration":"%s"}' "$runs"]]):format(
      os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + 900)))
    local text = policy([[exec_credential.credential_process { command = { "DIR/aws" } }]]):gsub('"Bearer " .. tokens.api',
      'tokens.api:field "access_key_id" .. "/" .. tokens.api; req.headers["x-more"] = tokens.api:field "session_token"')
    proxy = jeton.start(text)
    assert.equal("AKIA/secret1 session", get().body)
    assert.is_true(token().expires_in > 880 and token().expires_in <= 900)
  end)

  it("refuses what is no credential", function()
    program("aws", [[echo '{"Version":2}']])
    proxy = jeton.start(policy [[exec_credential.credential_process { command = { "DIR/aws" }, wait = "1s" }]])
    why_not "/aws printed no credentials of Version 1"
    program("aws", [[echo '{"Version":1,"AccessKeyId":"AKIA"}']])
    assert.not_equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    proxy:wait_log "/aws's credentials have no SecretAccessKey"
  end)
end)

describe("exec_credential.gcloud", function()
  it("asks for an access token that lives, or for an ID token", function()
    program("gcloud", ([[
case "$*" in
  "config config-helper --format=json --min-expiry=15m --account=me@example.com") echo '{"credential":{"access_token":"ya29","id_token":"x","token_expiry":"%s"}}' ;;
  "auth print-identity-token --audiences=https://service.example --impersonate-service-account=bot@example.com") echo "e30.eyJleHAiOjk5OTk5OTk5OTl9.c2ln" ;;
  *) exit 9 ;;
esac]]):format(os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + 3600)))
    proxy = jeton.start(policy [[exec_credential.gcloud { program = "DIR/gcloud", account = "me@example.com" }]])
    assert.equal("Bearer ya29 ", get().body)
    assert.is_true(token().expires_in > 3500)
    assert.equal("1", variable("gcloud", "CLOUDSDK_CORE_DISABLE_PROMPTS"))
    proxy:finish()
    proxy = jeton.start(policy [[exec_credential.gcloud { program = "DIR/gcloud", audience = "https://service.example", impersonate = "bot@example.com" }]])
    assert.equal("Bearer e30.eyJleHAiOjk5OTk5OTk5OTl9.c2ln ", get().body)
  end)
end)

describe("exec_credential.az", function()
  it("takes the end that has a zone, and where an old az has none that of the token", function()
    program("az", ([[
[ "$*" = "account get-access-token --output json --resource https://vault.azure.net --tenant t" ] || exit 9
echo '{"accessToken":"e30.eyJleHAiOjk5OTk5OTk5OTl9.c2ln","expiresOn":"2020-01-01 00:00:00.000000","expires_on":%d,"tokenType":"Bearer"}']]):format(os.time() + 3000))
    local made = [[exec_credential.az { program = "DIR/az", resource = "https://vault.azure.net", tenant = "t" }]]
    proxy = jeton.start(policy(made))
    assert.equal("Bearer e30.eyJleHAiOjk5OTk5OTk5OTl9.c2ln ", get().body)
    assert.is_true(token().expires_in > 2900 and token().expires_in <= 3000)
    program("az", [[echo '{"accessToken":"e30.eyJleHAiOjk5OTk5OTk5OTl9.c2ln","expiresOn":"2020-01-01 00:00:00.000000","tokenType":"Bearer"}']])
    assert.equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    assert.is_true(token().expires_in > 1e6)
  end)
end)

describe("the example", function()
  it("exec-credential works", function()
    plugin('{"token":"k8s-aws-v1.%s"}', V1BETA1)
    proxy = jeton.start { file = jeton.root .. "/examples/exec-credential.lua",
      env = { LISTEN = "127.0.0.1:0", UPSTREAM = "http://127.0.0.1:" .. upstream.port, TOKEN_COMMAND = dir .. "/plugin" } }
    assert.equal("Bearer k8s-aws-v1.1 ", get().body)
    assert.equal("eks get-token --cluster-name production\n", told("plugin", "args"))
  end)
end)

describe("a policy with what is no program", function()
  local cases = {
    [ [[exec_credential.kubernetes { command = "aws eks get-token" }]] ] =
      'exec_credential.kubernetes: command: expected a list such as { "program", "argument" }, got another string',
    [ [[exec_credential.kubernetes {}]] ] = 'exec_credential.kubernetes: command: is needed, and is a list such as { "program", "argument" }',
    [ [[exec_credential.kubernetes { command = { "a" }, api_version = "v1" }]] ] = "exec_credential.kubernetes: api_version: expected one of \"" .. V1 .. '"',
    [ [[exec_credential.kubernetes { command = { "a" }, tls = {} }]] ] = "exec_credential.kubernetes: unknown option 'tls'",
    [ [[exec_credential.git { url = "git.example.com" }]] ] = 'exec_credential.git: url: expected a URL such as "https://host", got another string',
    [ [[exec_credential.git { url = "https://git.example.com", program = "git" }]] ] = 'exec_credential.git: program: expected a path from the root such as "/usr/bin/git"',
    [ [[exec_credential.git { url = "https://git.example.com", username = "a\nhost=b" }]] ] = "exec_credential.git: username: expected a string of one line",
    [ [[exec_credential.gcloud { audiences = "a" }]] ] = "exec_credential.gcloud: unknown option 'audiences': did you mean 'audience'?",
    [ [[exec_credential.az { resource = "a", scope = "b" }]] ] = "exec_credential.az: scope: resource says already what the token is for",
    [ [[exec_credential.az "a"]] ] = "exec_credential.az: expected a table of options, got string",
    [ [[exec_credential.kubectl {}]] ] = "jeton.exec_credential has no 'kubectl'",
  }
  local refusal = jeton.refusals([[local exec_credential = require "jeton.exec_credential"]], cases, function(text) return (text:gsub("URL", "http://127.0.0.1:" .. upstream.port):gsub("DIR", dir)) end)
  for text, expected in pairs(cases) do
    it("is refused: " .. text, function() assert.is_truthy(refusal(text):find(expected, 1, true), refusal(text)) end)
  end
end)
