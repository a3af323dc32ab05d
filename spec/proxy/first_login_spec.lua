--- jeton login: the first login of a token that lasts, by a device code or by a browser that comes back, with oidc-provider (peers/grants.mjs) and curl as the browser.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local uv = require "luv"

local issuer, ports, proxy, login, policy, path

local function world(orders)
  return cjson.decode(http.request(math.tointeger(ports.upstream), "POST", "/world", nil, cjson.encode(orders)).body)
end

--- A policy with the token `api` made by oauth2.GRANT, whose login is kept at `path`.
local function write_policy(grant, options, hook)
  local dir = process.temp_dir()
  path = dir .. "/login"
  policy = process.write_file(dir .. "/policy.lua", ([[
local oauth2 = require "jeton.oauth2"
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
  tokens = {
    api = oauth2.%s { token_url = "http://127.0.0.1:%d/token", scope = "openid offline_access", path = %q, %s },
    machine = { fetch = function() return { value = "x", expires_in = 60 } end },
  },
  on_request = function(req, tokens) %s end,
}]]):format(ports.upstream, grant, ports.issuer, path, options, hook or [[req.headers.authorization = "Bearer " .. tokens.api]]))
end
local function device(more)
  write_policy("device", ("client_id = 'device', device_url = 'http://127.0.0.1:%d/device/auth', %s"):format(ports.issuer, more or ""))
end
local function browser(more)
  write_policy("authorization_code", ("client_id = 'loopback', authorize_url = 'http://127.0.0.1:%d/auth', authorize = { prompt = 'consent' }, %s"):format(ports.issuer, more or ""))
end

local function begin(name, env) login = process.start({ jeton.binary, "login", policy, name or "api" }, { env = env }) end
--- As a browser of somebody who agrees; the page that he sees in the end.
local function visit_all(url)
  local jar = process.temp_dir() .. "/cookies"
  local function visit(...)
    local _, out = process.run { "curl", "-sSL", "--max-time", "15", "-c", jar, "-b", jar, "-w", "\n%{url_effective}", ... }
    return out:match "([^\n]*)$", out
  end
  local form = visit("-d", "prompt=login&login=someone&password=any", (visit(url)))
  return select(2, visit("-d", "prompt=consent", form))
end
local function said(pattern)
  return process.poll(function()
    if login:ended() and not login:output():match(pattern) then error(login:errors() .. login:output()) end
    return login:output():match(pattern)
  end, 20, pattern)
end
local function ends(code)
  process.poll(function() return login:ended() end, 20, "the login to end")
  assert.equal(code, login.code, login:errors() .. login:output())
end
local function served()
  proxy = jeton.start { file = policy }
  assert.equal(200, http.get(proxy.port).status, proxy:errors())
end

describe("jeton login", function()
  setup(function() issuer, ports = peers.grants(peers.certificates()) end)
  teardown(function() issuer:stop() end)
  after_each(function()
    if proxy then proxy:finish() end
    if login and not login:ended() then login:stop() end
    proxy, login = nil, nil
  end)

  it("asks for a code to be typed in, and keeps what comes of it for the policy", function()
    device()
    begin()
    local code = said "enter the code ([%w-]+)"
    assert.is_true(world({ approve = code }).done)
    ends(0)
    assert.matches("Logged in: the refresh token is at " .. path:gsub("%p", "%%%0"), login:output())
    local token = process.read_file(path)
    assert.is_nil((login:output() .. login:errors()):find(token, 1, true))
    served()
    assert.is_not.equal(token, process.read_file(path)) -- which rotates
  end)

  it("ends with what the issuer says when somebody refuses", function()
    device()
    begin()
    world { deny = said "enter the code ([%w-]+)" }
    ends(70)
    assert.matches("access_denied", login:errors())
  end)

  it("is found by a proxy that runs already", function()
    device "wait = '100ms'"
    proxy = jeton.start { file = policy }
    assert.equal(503, http.get(proxy.port).status)
    process.poll(function() return proxy:status().tokens[1].failures >= 1 end, 10, "a failed fetch")
    assert.matches("no refresh token: .*: log in with jeton login POLICY NAME", proxy:status().tokens[1].last_error)
    begin()
    world { approve = said "enter the code ([%w-]+)" }
    ends(0)
    process.poll(function() return http.get(proxy.port).status == 200 end, 20, "the new login to be used")
  end)

  it("waits for a browser that the issuer sends back to this machine, with PKCE", function()
    browser()
    begin()
    local url = said "open (%S+)"
    assert.matches("code_challenge=[%w_-]+&code_challenge_method=S256", url)
    local port = math.tointeger(tonumber(url:match "redirect_uri=http%%3A%%2F%%2F127%.0%.0%.1%%3A(%d+)"))
    assert.equal(400, http.get(port, "/?code=stolen&state=of-somebody-else").status)
    assert.equal(400, http.get(port, "/").status)
    assert.matches("Go back to the terminal", visit_all(url))
    ends(0)
    served()
  end)

  it("waits where redirect_url says", function()
    local port = peers.free_port()
    browser(("redirect_url = 'http://127.0.0.1:%d/'"):format(port))
    begin()
    local url = said "open (%S+)"
    assert.is_truthy(url:find(("redirect_uri=http%%3A%%2F%%2F127.0.0.1%%3A%d%%2F"):format(port), 1, true), url)
    assert.matches("Go back to the terminal", visit_all(url))
    ends(0)
    served()
  end)

  it("is for one member of a family: NAME[KEY]", function()
    local dir = process.temp_dir()
    write_policy("device", ("client_id = 'device', device_url = 'http://127.0.0.1:%d/device/auth', family = true, path = function(key) return %q .. key end"):format(ports.issuer, dir .. "/of-"),
      [[local user = req.headers["x-user"] req.headers.authorization = "Bearer " .. tokens.api[user] ]])
    local code, _, err = jeton.run { "login", policy, "api" }
    assert.equal(78, code)
    assert.is_truthy(err:find("tokens.api is a family, which has a login for each key: jeton login POLICY 'api[KEY]'", 1, true), err)
    begin "api[ann]"
    world { approve = said "enter the code ([%w-]+)" }
    ends(0)
    assert.is_truthy(uv.fs_stat(dir .. "/of-ann"))
    proxy = jeton.start { file = policy }
    assert.equal(200, http.get(proxy.port, "/", { ["X-User"] = "ann" }).status, proxy:errors())
    assert.equal(503, http.get(proxy.port, "/", { ["X-User"] = "bob" }).status)
    proxy:wait_log "no refresh token"
  end)

  for _, signals in ipairs { { "sigint" }, { "sigterm" }, { "sigterm", "sigterm" } } do
    it("has a control socket that nobody else can reach or foresee, which is gone behind " .. table.concat(signals, " and "), function()
      local dir = process.temp_dir()
      local function socket()
        local name = uv.fs_scandir_next(assert(uv.fs_scandir(dir)))
        return name and dir .. "/" .. name
      end
      device()
      begin("api", { XDG_RUNTIME_DIR = dir })
      said "enter the code ([%w-]+)"
      local own = socket()
      assert.matches("/jeton%-%w%w%w%w%w%w$", own)
      assert.equal(tonumber("700", 8), uv.fs_stat(own).mode & tonumber("777", 8))
      assert.equal("socket", uv.fs_stat(own .. "/login.sock").type)
      for _, signal in ipairs(signals) do login:kill(signal) end
      login:wait(20)
      assert.is_nil(socket())
    end)
  end

  for what, case in pairs {
    ["a token that is none"] = { "nope", "the policy has no token named 'nope'" },
    ["a token without a login"] = { "machine", "tokens.machine needs no login with a browser: oauth2.device and oauth2.authorization_code do" },
    ["a key where there are none"] = { "api[x]", "tokens.api is no family: jeton login POLICY api" },
  } do
    it("says what is wrong: " .. what, function()
      device()
      local code, _, err = jeton.run { "login", policy, case[1] }
      assert.equal(78, code)
      assert.is_truthy(err:find(case[2], 1, true), err)
    end)
  end

  for what, case in pairs {
    ["no path"] = { "device", "device_url = 'https://a/d'", "path: is needed, where the login is kept" },
    ["no device_url"] = { "device", "path = '/tmp/x'", "device_url: expected an http or https URL, got nil" },
    ["a redirect to elsewhere"] = {
      "authorization_code", "path = '/tmp/x', authorize_url = 'https://a/auth', redirect_url = 'https://app.example.com/'",
      'redirect_url: expected one of this machine with its port and a path, such as "http://127.0.0.1:8400/"',
    },
  } do
    it("is told with the policy's line: " .. what, function()
      local file = process.write_file(process.temp_dir() .. "/policy.lua",
        ("local oauth2 = require 'jeton.oauth2'\nreturn { listen = '127.0.0.1:0', upstream = 'http://a',\n tokens = { api = oauth2.%s { token_url = 'https://a/t', client_id = 'x', %s } } }")
          :format(case[1], case[2]))
      local code, _, err = jeton.run { "check", file }
      assert.equal(78, code)
      assert.is_truthy(err:find("policy.lua:3: oauth2." .. case[1] .. ": ", 1, true), err)
      assert.is_truthy(err:find(case[3], 1, true), err)
    end)
  end
end)
