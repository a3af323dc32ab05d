--- The credentials of jeton.aws: where each comes from, a refusal and its replay, a wait, a reload. AWS's credential services are an imitation (peers/aws.mjs), whose
--- service believes only what aws4 and @smithy/signature-v4 sign.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
local aws, url, dir, proxy

local STATIC = ([[aws.static { access_key_id = %q, secret_access_key = jeton.secret.value %q }]]):format(ID, SECRET)

local function order(orders)
  local res = assert(http.request(aws.port, "POST", "/world", nil, cjson.encode(orders)))
  assert.equal(200, res.status, res.body)
end
local function world() return cjson.decode(assert(http.get(aws.port, "/world")).body) end

--- options: token (Lua text), sign (options of aws.sign as Lua text), more, env, upstream, top, send (the whole on_send).
local function start(options)
  local sign = options.sign or [[{ service = "dynamodb", region = "eu-west-1" }]]
  proxy = jeton.start({ env = options.env, policy = (([[
local aws = require "jeton.aws"
%s
return {
  listen = "127.0.0.1:0", upstream = %q,
  tokens = { aws = %s },
  on_send = function(req, tokens, try) %s end,
  %s
}]]):format(options.top or "", url,
    options.token or STATIC, options.send or ("aws.sign(req, tokens.aws, %s)"):format(sign), options.more or ""):gsub("URL", url):gsub("DIR", dir)) })
  return proxy
end

--- What the service saw, of a request that it believes.
local function believed(res, what)
  assert.equal(200, res.status, (what or "") .. " " .. tostring(res.body))
  local seen = cjson.decode(res.body)
  assert.is_true(seen.smithy, (what or "") .. " " .. res.body)
  return seen
end

setup(function()
  dir = process.temp_dir()
  aws = peers.aws()
  url = "http://127.0.0.1:" .. aws.port
  process.write_file(dir .. "/web-identity", "web-identity-token")
  process.write_file(dir .. "/container", "container-token")
  assert(os.execute(("chmod 600 %s/*"):format(dir)))
end)
teardown(function() aws.process:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
  order { ttl = 3600, fail = cjson.null }
end)

local LOGINS = {
  static = { token = STATIC, forever = true },
  environment = { token = "aws.environment()", env = { AWS_ACCESS_KEY_ID = ID, AWS_SECRET_ACCESS_KEY = SECRET }, forever = true },
  ["profile with keys"] = { token = "aws.profile { name = 'keys', credentials = 'DIR/credentials', config = 'DIR/config' }", forever = true },
  ["profile with a role"] = { token = "aws.profile { name = 'role', credentials = 'DIR/credentials', config = 'DIR/config', sts_url = 'URL', region = 'eu-west-1' }" },
  ["profile with a role of the instance"] = { token = "aws.profile { name = 'instance', credentials = 'DIR/credentials', config = 'DIR/config', sts_url = 'URL', imds_url = 'URL' }" },
  ["profile with a web identity"] = { token = "aws.profile { name = 'web', credentials = 'DIR/credentials', config = 'DIR/config', sts_url = 'URL' }" },
  ["profile with a process"] = { token = "aws.profile { name = 'process', credentials = 'DIR/credentials', config = 'DIR/config' }", forever = true },
  process = { token = "aws.process { command = { 'sh', 'DIR/login.sh', 'a b' } }", forever = true },
  imds = { token = "aws.imds()", env = { AWS_EC2_METADATA_SERVICE_ENDPOINT = "URL" } },
  ["imds with a role"] = { token = "aws.imds { url = 'URL/', role = 'instance-role' }" },
  ecs = { token = "aws.ecs()", env = { AWS_CONTAINER_CREDENTIALS_FULL_URI = "URL/ecs", AWS_CONTAINER_AUTHORIZATION_TOKEN = "container-token" } },
  ["ecs with a token's file"] = { token = "aws.ecs { url = 'URL/ecs' }", env = { AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = "DIR/container" } },
  web_identity = { token = "aws.web_identity { role_arn = 'arn:aws:iam::1:role/a', token = jeton.secret.file 'DIR/web-identity', url = 'URL' }" },
  ["web_identity of a pod"] = { token = "aws.web_identity { url = 'URL' }", env = { AWS_ROLE_ARN = "arn:aws:iam::1:role/a", AWS_WEB_IDENTITY_TOKEN_FILE = "DIR/web-identity" } },
  assume_role = { token = ("aws.assume_role { from = %s, role_arn = 'arn:aws:iam::1:role/a', external_id = 'x y', duration = 900, region = 'eu-west-1', url = 'URL' }"):format(STATIC) },
  ["assume_role from the instance"] = { token = "aws.assume_role { from = aws.imds { url = 'URL' }, role_arn = 'arn:aws:iam::1:role/a', url = 'URL' }" },
}

local function profiles()
  process.write_file(dir .. "/credentials", ("# mine\n[keys]\naws_access_key_id = %s\naws_secret_access_key=%s\n"):format(ID, SECRET))
  process.write_file(dir .. "/config", ([[
[profile role]
role_arn = arn:aws:iam::1:role/a
source_profile = keys
s3 =
  max_concurrent_requests = 20
[profile instance]
role_arn = arn:aws:iam::1:role/a
credential_source = Ec2InstanceMetadata
[profile web]
role_arn = arn:aws:iam::1:role/a
web_identity_token_file = DIR/web-identity
[profile process]
credential_process = sh "DIR/login.sh" 'a b'
[profile sso]
sso_session = mine
[profile circle]
role_arn = arn:aws:iam::1:role/a
source_profile = circle
]]):gsub("DIR", dir))
  process.write_file(dir .. "/login.sh", ([[[ "$1" = "a b" ] && echo '{ "Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "%s" }']]):format(ID, SECRET))
  assert(os.execute(("chmod 600 %s/*"):format(dir)))
end

local NO_ENV = { HOME = "/nonexistent" }

for name, login in pairs(LOGINS) do
  describe("aws." .. name, function()
    it("serves requests, replaces what is refused, and outlives a reload", function()
      profiles()
      local env = {}
      for key, value in pairs(NO_ENV) do env[key] = value end
      for key, value in pairs(login.env or {}) do env[key] = value:gsub("URL", url):gsub("DIR", dir) end
      start { token = login.token, env = env }
      local first = believed(http.get(proxy.port, "/a"))
      if not login.forever then
        order { revoke = true }
        local second = believed(http.request(proxy.port, "POST", "/a", nil, "body"))
        assert.not_equal(first.id, second.id)
        assert.equal(2, proxy:status().tokens[1].generation)
        first = second
      end
      local text = process.read_file(proxy.policy)
      proxy:reload_file((text:gsub("listen =", "via = true, listen =")))
      assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
      assert.equal(first.id, believed(http.get(proxy.port, "/a")).id)
      local said = proxy:errors() .. proxy:output() .. proxy:control("GET", "/status").body
      for _, secret in ipairs { SECRET, "session/", "secret/", "container-token", "web-identity-token" } do assert.is_nil(said:find(secret, 1, true)) end
    end)
  end)
end

describe("a token of jeton.aws", function()
  it("is awaited, and signs with what came then", function()
    order { fail = 500 }
    start { token = "aws.imds { url = 'URL', wait = '20s', backoff = { min = '100ms', max = '200ms' } }" }
    local c = http.connect(proxy.port)
    c:send "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    proxy:wait_log "500"
    order { fail = cjson.null }
    believed(c:read_response "GET")
    c:close()
  end)

  it("is refused by what AWS says of its key, and not by a permission that it has not", function()
    start { token = "aws.imds { url = 'URL' }", send = [[ if req.path == "/denied" then req.headers["x-amz-late"] = "x" end
      aws.sign(req, tokens.aws, { service = "s3", region = "us-east-1" })
      if req.path == "/denied" then req.headers["x-amz-late"] = "y" end ]] }
    believed(http.get(proxy.port, "/a"))
    local given = world().given
    assert.equal(403, http.get(proxy.port, "/denied").status)
    believed(http.get(proxy.port, "/a"))
    assert.equal(given, world().given)
  end)

  it("tells what STS said", function()
    order { fail = 403 }
    start { token = ("aws.assume_role { from = %s, role_arn = 'arn:aws:iam::1:role/a', url = 'URL', wait = '100ms' }"):format(STATIC) }
    assert.equal(503, http.get(proxy.port, "/a").status)
    proxy:wait_log "STS answered 403: AccessDenied: User is not authorized & never was"
  end)

  it("has a family by role", function()
    start { token = ("aws.assume_role { from = %s, role_arn = function(key) return 'arn:aws:iam::1:role/' .. key end, url = 'URL', family = true }"):format(STATIC),
      send = [[aws.sign(req, tokens.aws[req.path:sub(2)], { service = "s3", region = "us-east-1" })]] }
    local one, two = believed(http.get(proxy.port, "/one")), believed(http.get(proxy.port, "/two"))
    assert.not_equal(one.id, two.id)
    assert.equal(one.id, believed(http.get(proxy.port, "/one")).id)
    local asked = world().asked
    assert.equal("arn:aws:iam::1:role/two", asked[#asked].RoleArn)
  end)

  for what, case in pairs {
    ["the profile is not there"] = { "aws.profile { name = 'none', credentials = 'DIR/credentials', config = 'DIR/config', wait = 0 }", "there is no profile none in" },
    ["the profile is a login by SSO"] = { "aws.profile { name = 'sso', credentials = 'DIR/credentials', config = 'DIR/config', wait = 0 }",
      'use aws.process { command = "aws configure export-credentials --profile sso --format process" }' },
    ["profiles lead in a circle"] = { "aws.profile { name = 'circle', credentials = 'DIR/credentials', config = 'DIR/config', wait = 0 }", "its source_profile leads in a circle" },
    ["the program is killed"] = { [[aws.process { command = { "/bin/sh", "-c", "echo '{ \"Version\": 1, \"AccessKeyId\": \"a\", \"SecretAccessKey\": \"b\" }'; kill -9 $$" }, wait = 0 }]], "sh was ended by signal 9" },
    ["the program fails"] = { "aws.process { command = \"sh -c 'echo no login >&2; exit 3'\", wait = 0 }", "sh ended with 3: no login" },
    ["the program prints something else"] = { "aws.process { command = { 'echo', '{}' }, wait = 0 }", "echo printed no credentials of Version 1" },
  } do
    it("says so where " .. what, function()
      profiles()
      start { token = case[1] }
      assert.equal(503, http.get(proxy.port, "/a").status)
      proxy:wait_log(case[2])
    end)
  end

  for what, case in pairs {
    ["no secret"] = { "aws.static { access_key_id = 'x', secret_access_key = 'y' }", 'aws.static: secret_access_key: expected a secret such as jeton.secret.file "PATH", got another string' },
    ["an environment without keys"] = { "aws.environment()", "aws.environment: AWS_ACCESS_KEY_ID is not set in the environment" },
    ["no container"] = { "aws.ecs()", "aws.ecs: url: is needed where the environment has neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor" },
    ["a container's URL that anybody may read"] = { "aws.ecs { url = 'http://10.0.0.1/' }", "aws.ecs: url: without TLS it is the loopback" },
    ["a role that is none"] = { "aws.assume_role { from = aws.imds(), role_arn = 'reports' }", "aws.assume_role: role_arn: expected the ARN of a role, such as" },
    ["no web identity"] = { "aws.web_identity { role_arn = 'arn:aws:iam::1:role/a' }", "aws.web_identity: token: is needed" },
    ["nothing to assume with"] = { "aws.assume_role { role_arn = 'arn:aws:iam::1:role/a' }", "aws.assume_role: from: is needed" },
    ["an unknown source"] = { "aws.sso {}", "jeton.aws has no 'sso'" },
  } do
    it("is refused with " .. what .. " when the policy is loaded", function()
      local file = process.write_file(dir .. "/bad.lua", ("local aws = require 'jeton.aws'\nreturn { listen = '127.0.0.1:0', upstream = 'http://127.0.0.1:1', tokens = { aws =\n%s } }"):format(case[1]))
      local code, _, err = jeton.run({ "check", file }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts", AWS_ACCESS_KEY_ID = "" } })
      assert.equal(78, code, err)
      assert.truthy(err:find("bad.lua:3: " .. case[2], 1, true), err)
    end)
  end
end)
