--- What jeton says of mistakes that are easily made: each sentence names what to write instead, and an outage does not fill the log.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local proxy
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local function check(text)
  local path = process.write_file(process.temp_dir() .. "/policy.lua", text)
  local code, out, err = jeton.run { "check", path }
  return code, out .. err
end
local function says(text, ...)
  local code, said = check(text)
  assert.equal(78, code, said)
  for _, part in ipairs { ... } do assert.is_truthy(said:find(part, 1, true), said) end
  return said
end
local function count(text) return select(2, proxy:errors():gsub(text:gsub("%p", "%%%0"), "")) end

describe("a module that is not found", function()
  it("is named by the one that was meant, among those that come with jeton", function()
    says('require "jeton.oauth"', "module 'jeton.oauth' not found (did you mean 'jeton.oauth2'? That and jeton.jwt come with jeton)")
    says('require "oauth2"', "did you mean 'jeton.oauth2'?")
    says('require "jwt"', "did you mean 'jeton.jwt'?")
    says('require "jeton.http"', "jeton.http is there without a require: it is a part of the global jeton")
    says('require "jeton.something"', "(jeton.jwt and jeton.oauth2 come with jeton)")
    assert.is_nil(says('require "mine"'):find("jeton.oauth2", 1, true))
  end)
end)

describe("a misspelt name of the shipped modules", function()
  it("is answered with the one that was meant, and with all there are when none is near", function()
    local function oauth2(options) return "return { tokens = { api = require('jeton.oauth2').client_credentials { token_url = 'https://a/t', client_id = 'x', client_secret = 'y', " .. options .. " } } }" end
    local said = says(oauth2 "client_secrte = 'z'", "unknown option 'client_secrte': did you mean 'client_secret'?")
    assert.is_nil(said:find("audience", 1, true))
    says(oauth2 "scopes = 'z'", "did you mean 'scope'?")
    says(oauth2 "zzzzzz = 1", "unknown option 'zzzzzz': there are assertion, audience, auth,")
    says("require 'jeton.oauth2'.client_credential {}", "has no 'client_credential': did you mean 'client_credentials'?")
    says("require 'jeton.jwt'.verify 'x'", "has no 'verify': there are claims and sign")
  end)
end)

describe("a secret that is not there", function()
  it("hides no other mistake", function()
    local said = says([[
local a = jeton.secret.file "/none/a"
local b = jeton.secret.env "NONE_OF_THIS_NAME"
return { listen = 5, upstream = "api.example.com",
  tokens = { api = require "jeton.oauth2".client_credentials { token_url = "https://a/t", client_id = "x", client_secret = a } } }]],
      "policy.lua:1: jeton.secret.file: /none/a: no such file or directory", "policy.lua:2: jeton.secret.env: NONE_OF_THIS_NAME is not set",
      "policy.lua:3: listen: expected an address", "policy.lua:3: upstream: expected a URL")
    assert.equal(4, select(2, said:gsub("\n", "")))
  end)

  it("is still an error that a policy can catch", function()
    local code, said = check [[
local ok, why = pcall(jeton.secret.file, "/none/a")
local ok2 = pcall(function() return jeton.secret.file "/none/a" end)
assert(not ok and not ok2 and why:find "no such file")
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }]]
    assert.equal(0, code, said)
  end)
end)

describe("a scheme that is not the server's", function()
  local function policy(url) return ('return { listen = "127.0.0.1:0", upstream = %q }'):format(url) end

  it("is asked about: https to a port of plain HTTP", function()
    local plain = peers.nginx 'location / { return 200 "plain"; }'
    proxy = jeton.start(policy("https://127.0.0.1:" .. plain.port))
    assert.equal(502, http.get(proxy.port).status)
    proxy:wait_log "the server answered in plain HTTP: is its URL one that begins with http://?"
  end)

  it("is asked about: http to a port of TLS", function()
    local server = peers.raw [[ c:read(1) c:write("\x15\x03\x03\0\2\2\x46") c:close() ]]
    proxy = jeton.start(policy("http://127.0.0.1:" .. server.port))
    assert.equal(502, http.get(proxy.port).status)
    proxy:wait_log "the server answers in TLS: is it https:// there?"
  end)

  it("is asked about for jeton.http as well", function()
    local plain = peers.nginx 'location / { return 200 "plain"; }'
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      tokens = { api = { fetch = function() return assert(jeton.http.get "https://127.0.0.1:%d/") end } } }]]):format(plain.port))
    proxy:wait_log "the server answered in plain HTTP"
  end)

  it("is asked about: a client that speaks TLS to a plain listener", function()
    proxy = jeton.start(policy "http://127.0.0.1:1")
    local socket = require "socket".connect("127.0.0.1", proxy.port)
    socket:send "\x16\x03\x01\0\5hello"
    socket:receive "*a"
    socket:close()
    proxy:wait_log "the client speaks TLS"
  end)
end)

describe("a field that a fetch did not return", function()
  it("is named, with those that it did", function()
    proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      tokens = { api = { fetch = function() return { value = "v", expires_in = 60, fields = { session = "s" } } end } },
      on_request = function(req, tokens) req.headers.x = "" .. tokens.api:field "sesion" end }]]
    local up = peers.raw "c:close()"
    proxy:reload_file(process.read_file(proxy.policy):gsub("127.0.0.1:1\"", "127.0.0.1:" .. up.port .. "\""))
    assert.equal(200, proxy:control("POST", "/reload").status)
    assert.equal(503, http.get(proxy.port).status)
    proxy:wait_log [[503: the token api has no such field, "sesion": its fetch returned session]]
  end)
end)

describe("an outage", function()
  it("has a few lines of each kind, and then how many more there were", function()
    local port = peers.free_port()
    proxy = jeton.start(('return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d" }'):format(port))
    for _ = 1, 40 do assert.equal(502, http.get(proxy.port).status) end
    process.poll(function() return select(2, proxy:output():gsub("\n", "")) >= 40 end) -- the access log has every one
    process.poll(function() return count "502: connection refused" >= 8 and count "warn  upstream default" >= 8 end, 5, function() return proxy:errors() end)
    assert.equal(8, count "502: connection refused")
    assert.equal(8, count("warn  upstream default"))
    proxy:kill "sigterm"
    proxy:wait(15)
    assert.is_truthy(proxy:errors():find("32 more like it in ", 1, true), proxy:errors())
    proxy = nil
  end)
end)
