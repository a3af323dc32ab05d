--- jeton.digest, against a server (peers/digest.mjs) that counts nonces, which curl --digest logs in to as well.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local PASSWORD = 'open "sesame"'
local server, file, proxy

local function start(options)
  options = options or {}
  proxy = jeton.start(([[
local digest = require "jeton.digest"
local login = digest.login %s
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
  tokens = { password = { secret = jeton.secret.file %q, reject_on = {} } },
  on_send = function(req, tokens) login.sign(req, tokens.password) end,
  on_response = function(res, req) login.answer(res, req) end, %s
}]]):format(options.login or '{ username = "mona" }', server.port, file, options.more or ""))
end
local function good(res, what)
  assert.equal(200, res.status, (what or "") .. " " .. res.body .. " " .. tostring(res.headers["www-authenticate"]))
  return cjson.decode(res.body)
end
local function world(password) assert(http.request(server.port, "POST", "/world", nil, cjson.encode { password = password })) end
local function write(password)
  process.write_file(file, password)
  assert(os.execute("chmod 600 " .. file))
end

setup(function()
  server = peers.digest()
  file = process.temp_dir() .. "/password"
end)
before_each(function()
  write(PASSWORD)
  world(PASSWORD)
end)
teardown(function() server.process:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local FORMS = {
  "/SHA-256/auth/x?a=b&c=%20", "/MD5/auth/x", "/SHA-256-sess/auth/x", "/MD5-sess/auth/x", "/SHA-256/auth-int/x", "/MD5/none/x", "/MD5/auth+auth-int/x", "/SHA-256/auth/x?hash",
}

describe("the server", function()
  it("lets curl in", function()
    for _, form in ipairs { "/MD5/auth/x", "/SHA-256/auth/x" } do
      local code, out, err = process.run { "curl", "-sS", "--digest", "-u", "mona:" .. PASSWORD, ("http://127.0.0.1:%d%s"):format(server.port, form) }
      assert.equal(0, code, err)
      assert.equal("mona", cjson.decode(out).name, out)
    end
  end)
end)

describe("digest.login", function()
  it("answers each form of a challenge, with and without a body", function()
    for _, form in ipairs(FORMS) do
      start()
      for n, body in ipairs { "body", "", ("x"):rep(3000) } do
        local seen = good(http.request(proxy.port, "POST", form, nil, body), form)
        assert.equal(body, seen.body)
        if not form:find "none" then assert.equal(("%08x"):format(n), seen.nc, form) end
      end
      proxy:finish()
      proxy = nil
    end
  end)

  it("uses a nonce again and counts it, also for requests at once", function()
    start()
    good(http.get(proxy.port, "/SHA-256/auth/x"))
    for _, res in ipairs(http.together(proxy.port, 20, "GET", "/SHA-256/auth/x")) do good(res) end
    assert.equal("00000016", good(http.get(proxy.port, "/SHA-256/auth/x")).nc)
  end)

  it("takes another nonce where one is stale, used up, or the server names the next", function()
    start()
    for _, query in ipairs { "uses=2", "once", "next" } do
      local nonces, different = {}, 0
      for _ = 1, 5 do
        local nonce = good(http.get(proxy.port, "/SHA-256/auth/x?" .. query), query).nonce
        different = different + (nonces[nonce] and 0 or 1)
        nonces[nonce] = true
      end
      assert.equal(query == "uses=2" and 3 or 5, different, query)
    end
  end)

  it("chooses the strongest of several, and the other qop where that is preferred", function()
    start { login = '{ username = "mona", prefer = "auth-int" }' }
    assert.equal("SHA-256", good(http.get(proxy.port, "/both/auth/x")).algorithm)
    assert.equal("auth-int", good(http.request(proxy.port, "POST", "/MD5/auth+auth-int/x", nil, "body")).qop)
  end)

  it("writes names that are not ASCII, and secret ones", function()
    start { login = '{ username = "möna" }' }
    assert.equal("möna", good(http.get(proxy.port, "/SHA-256/auth/x")).name)
    proxy:finish()
    start { login = '{ username = jeton.secret.value "mona" }' }
    assert.equal("mona", good(http.get(proxy.port, "/SHA-256/auth/x")).name)
    assert.equal("mona", good(http.get(proxy.port, "/SHA-256/auth/x?hash")).name)
  end)

  it("relays the 401 of a wrong password, and reads a new one from its file", function()
    write "wrong"
    start()
    assert.equal(401, http.get(proxy.port, "/SHA-256/auth/x").status)
    write(PASSWORD)
    process.poll(function() return http.get(proxy.port, "/SHA-256/auth/x").status == 200 end, 10, "the new password")
    assert.is_nil((proxy:errors() .. proxy:output()):find("sesame", 1, true))
  end)

  it("outlives a reload", function()
    start()
    good(http.get(proxy.port, "/SHA-256/auth/x"))
    proxy:reload_file((process.read_file(proxy.policy):gsub("listen =", "via = true, listen =")))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    good(http.get(proxy.port, "/SHA-256/auth/x"))
  end)

  it("says what the server offers where none of it is Digest", function()
    start()
    assert.equal(401, http.get(proxy.port, "/basic/auth/x").status)
    proxy:wait_log "digest.login: the server offers basic, and none of it is Digest with SHA-256 or MD5"
  end)

  it("relays a 401 whose challenge ends in the middle of a text", function()
    for _, challenge in ipairs { [[Digest realm="a\]], [[Digest realm="a]], [[Digest realm=]], [[Digest realm="a", nonce="b\"]] } do
      local odd = peers.raw(([[
        while c:read "head" do c:write(%q) end c:close()]]):format("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: " .. challenge .. "\r\nContent-Length: 0\r\n\r\n"))
      local before = server
      server = odd
      start()
      server = before
      assert.equal(401, http.get(proxy.port, "/").status, challenge)
      assert.equal(challenge, http.get(proxy.port, "/").headers["www-authenticate"])
      proxy:finish()
    end
    proxy = nil
  end)

  it("says what to write where the body that is hashed is too large", function()
    start { more = "limits = { script_body = 4 }," }
    assert.equal(500, http.request(proxy.port, "POST", "/MD5/auth-int/x", nil, "12345").status)
    proxy:wait_log "digest.login: the body is larger than limits.script_body, and the server wants it hashed (qop=auth-int): raise that"
  end)

  for what, case in pairs {
    ["no name"] = { "{}", "digest.login: username: expected a string or a secret, got nil" },
    ["an unknown option"] = { "{ user = 'x' }", "digest.login: unknown option 'user'" },
    ["an unknown qop"] = { "{ username = 'x', prefer = 'int' }", 'digest.login: prefer: expected "auth" or "auth-int"' },
  } do
    it("refuses " .. what .. " when the policy is loaded", function()
      local bad = process.write_file(process.temp_dir() .. "/bad.lua", ("local digest = require 'jeton.digest'\nlocal login = digest.login %s\nreturn { listen = '127.0.0.1:0', upstream = 'http://127.0.0.1:1', on_request = login.sign }"):format(case[1]))
      local code, _, err = jeton.run({ "check", bad }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
      assert.equal(78, code, err)
      assert.truthy(err:find("bad.lua:2: " .. case[2], 1, true), err)
    end)
  end
end)

describe("the example", function()
  it("digest logs in", function()
    proxy = jeton.start { file = jeton.root .. "/examples/digest.lua",
      env = { LISTEN = "127.0.0.1:0", UPSTREAM = "http://127.0.0.1:" .. server.port, USERNAME = "mona", SECRET_FILE = file } }
    assert.equal("mona", good(http.get(proxy.port, "/SHA-256/auth/x")).name)
  end)
end)
