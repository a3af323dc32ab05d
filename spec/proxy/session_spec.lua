--- jeton.session: an application of express with sessions and CSRF tokens (peers/session.mjs).
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"
local uv = require "luv"

local SECRET = "s3cret-of-the-spec"
local dir, app, url, proxy

local function order(orders) assert(http.request(app.port, "POST", "/world", { ["Content-Type"] = "application/json" }, cjson.encode(orders))) end
local function world() return cjson.decode(http.get(app.port, "/world").body) end
local function password(text)
  local file = process.write_file(dir .. "/password", (text or SECRET) .. "\n")
  assert(uv.fs_chmod(file, 384))
end

local FORM = [[session.login { url = "URL/login", form = { user = "reports", password = jeton.secret.file "DIR/password" }, csrf = { input = "_csrf" },
  cookie = "connect.sid", %s }]]
local JSON = [[session.login { url = "URL/api/login", json = { user = "reports", password = jeton.secret.file "DIR/password" }, page = "URL/api/csrf", redirect = "/login",
  csrf = { cookie = "XSRF-TOKEN", header = "x-xsrf-token" }, cookie = { "connect.sid", "XSRF-TOKEN" }, %s }]]

local function policy(made, more, hook)
  return (([[
local session = require "jeton.session"
return {
  listen = "127.0.0.1:0", upstream = { "URL", http2 = false }, log = { level = "debug" },
  tokens = { app = %s },
  on_request = function(req, tokens) req.headers["cookie"] = tokens.app; %s end, %s
}]]):format(made, hook or "", more or ""):gsub("URL", url):gsub("DIR", dir))
end
local function form(options, ...) return policy(FORM:format(options or ""), ...) end
local function json(options, ...) return policy(JSON:format(options or ""), ...) end
local function get(path) return http.get(proxy.port, path or "/page", { Cookie = "mine=1" }) end
local function token() return proxy:status().tokens[1] end

setup(function()
  local p = process.start { "node", "spec/support/peers/session.mjs" }
  local ports = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 20, "the application to start")
  app = { process = p, port = math.tointeger(cjson.decode(ports).port) }
  url = "http://127.0.0.1:" .. app.port
end)
teardown(function() app.process:stop() end)
before_each(function()
  dir = process.temp_dir()
  password()
  order { forget = true, tell = "form", max_age = cjson.null }
end)
after_each(function()
  if proxy then
    local said = proxy:errors() .. proxy:control("GET", "/status").body
    for _, word in ipairs { SECRET, "connect.sid=s%3A" } do assert.is_nil(said:find(word, 1, true), said) end
    proxy:finish()
  end
  proxy = nil
end)

for name, made in pairs { ["a form with a hidden token"] = FORM, ["JSON with a token in a cookie"] = JSON } do
  describe("a login by " .. name, function()
    it("serves, logs in again when a redirect leads to the login, and outlives a reload", function()
      proxy = jeton.start(policy(made:format ""))
      local res = get()
      assert.equal(200, res.status, res.body)
      assert.equal("reports", cjson.decode(res.body).user)
      order { forget = true }
      res = get()
      assert.equal(200, res.status, res.headers.location)
      assert.equal(1, world().logins)
      proxy:reload_file(policy(made:format "", "via = true,"))
      assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
      assert.equal(cjson.decode(res.body).id, cjson.decode(get().body).id)
      assert.equal(1, world().logins)
    end)

    it("logs in again behind a 401, and repeats a body", function()
      proxy = jeton.start(policy(made:format "", nil, [[if req.method == "POST" then req.headers["x-xsrf-token"] = tokens.app:field "csrf" end]]))
      assert.equal(200, get("/api/data").status)
      order { forget = true }
      assert.equal(200, get("/api/data").status)
      order { forget = true }
      if made == JSON then
        local res = http.request(proxy.port, "POST", "/page", { ["Content-Type"] = "application/json" }, '{"n":1}')
        assert.equal(200, res.status, res.body)
        assert.equal(1, cjson.decode(res.body).body.n)
      end
    end)
  end)
end

describe("session.login", function()
  it("relays a redirect that leads elsewhere", function()
    proxy = jeton.start(form())
    local res = get "/elsewhere"
    assert.same({ 302, "/home" }, { res.status, res.headers.location })
    assert.equal(1, world().logins)
  end)

  it("reads the CSRF token that holds after the login from a page", function()
    proxy = jeton.start((form("", nil, [[req.headers["x-csrf-token"] = tokens.app:field "csrf"]]):gsub('input = "_csrf"', ('input = "_csrf", after = "%s/home"'):format(url))))
    proxy:wait_log 'the page has no <input name="_csrf"> with a CSRF token'
    proxy:finish()
    local login = JSON:gsub("header = ", "after = \"URL/api/csrf\", header = ")
    proxy = jeton.start(policy(login:format "", nil, [[req.headers["x-csrf-token"] = tokens.app:field "csrf"]]))
    assert.equal(200, http.request(proxy.port, "POST", "/page", nil, "").status)
  end)

  it("does not go on trying with a password that is refused, whichever way that is said", function()
    password "another"
    for tell, said in pairs { form = "the login answered with its form again", redirect = "the login leads back to itself" } do
      order { forget = true, tell = tell }
      proxy = jeton.start(form "wait = '300ms', backoff = { min = '20ms', max = '20ms' }")
      assert.equal(503, get().status)
      proxy:wait_log(said)
      assert.equal(503, get().status)
      assert.equal(1, world().tried)
      proxy:finish()
    end
    order { forget = true }
    proxy = jeton.start(json "wait = '300ms', backoff = { min = '20ms', max = '20ms' }")
    proxy:wait_log "the login answered 401"
    assert.equal(503, get().status)
    assert.equal(1, world().tried)
    password()
    process.poll(function() return get().status == 200 end, 10, "a login with the new password")
  end)

  it("lives as long as its cookie, or `lifetime`", function()
    proxy = jeton.start(form "lifetime = 120")
    get()
    assert.is_true(token().expires_in <= 120 and token().expires_in > 110, token().expires_in)
    proxy:finish()
    order { max_age = 60000 }
    proxy = jeton.start(form())
    get()
    assert.is_true(token().expires_in <= 60 and token().expires_in > 50, token().expires_in)
  end)

  it("ends its session at the end, where the application has a place for that", function()
    proxy = jeton.start(form 'logout = "URL/logout"')
    get()
    proxy:finish()
    proxy = nil
    assert.equal(1, world().logouts)
  end)

  it("may be a family, with a login a key", function()
    proxy = jeton.start((form("family = true"):gsub("form = (%b{})", "form = function(key) return { user = key, password = jeton.secret.file \"" .. dir .. "/password\" } end")
      :gsub('= tokens.app;', '= tokens.app[req.headers["x-user"]];')))
    for _, user in ipairs { "one", "two" } do assert.equal(user, cjson.decode(http.get(proxy.port, "/page", { ["X-User"] = user }).body).user) end
  end)

  it("says which cookie there is not, and takes a judge of its own", function()
    proxy = jeton.start((form "wait = '300ms'":gsub('cookie = "connect.sid"', 'cookie = "PHPSESSID"')))
    assert.equal(503, get().status)
    proxy:wait_log "the login gave no cookie 'PHPSESSID': there is connect.sid"
    proxy:finish()
    proxy = jeton.start(form "wait = '300ms', success = function(res) return res.headers.location == '/welcome' end")
    assert.equal(503, get().status)
    proxy:wait_log "the login answered 302, which `success` does not take for one"
  end)
end)

describe("the example", function()
  it("session-cookie works", function()
    proxy = jeton.start { file = jeton.root .. "/examples/session-cookie.lua", env = { LISTEN = "127.0.0.1:0", UPSTREAM = url, PASSWORD_FILE = dir .. "/password" } }
    assert.equal(200, get().status)
    order { forget = true }
    assert.equal(200, get().status)
  end)
end)

describe("a policy with what is no login", function()
  local cases = {
    [ [[session.login { url = "URL", form = {} }]] ] = "session.login: cookie: is needed, and is a string or a list of strings",
    [ [[session.login { url = "URL", cookie = "a" }]] ] = "session.login: form: is needed, and is what the login's form has",
    [ [[session.login { url = "URL", cookie = "a", form = {}, json = {} }]] ] = "session.login: json: form says already what is sent",
    [ [[session.login { url = "URL", cookie = "a", form = {}, csrf = { name = "a" } }]] ] = "session.login: csrf: unknown option 'name'",
    [ [[session.login { url = "URL", cookie = "a", form = {}, csrf = { header = "a" } }]] ] = "session.login: csrf: expected one place that it comes from",
    [ [[session.login { url = "URL", cookie = "a", form = {}, csrf = { meta = "a" } }]] ] = 'session.login: csrf: expected where it goes: header = "NAME" or field = "NAME"',
    [ [[session.login { url = "/login", cookie = "a", form = {} }]] ] = 'session.login: url: expected a URL such as "https://host"',
    [ [[session.login { url = "URL", cookie = "a", form = {}, cookies = {} }]] ] = "session.login: unknown option 'cookies': did you mean 'cookie'?",
    [ [[session.form {}]] ] = "jeton.session has no 'form'",
  }
  local refusal = jeton.refusals([[local session = require "jeton.session"]], cases, function(text) return (text:gsub("URL", url):gsub("DIR", dir)) end)
  for text, expected in pairs(cases) do
    it("is refused: " .. text, function() assert.is_truthy(refusal(text):find(expected, 1, true), refusal(text)) end)
  end
end)
