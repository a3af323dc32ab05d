--- Families whose tokens are fetched with something of each request: tokens.user:of(key, { subject = secret }), and keys that are secrets or long.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local echo, proxy
setup(function() echo = peers.world() end)
teardown(function() echo:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- `use` is what on_request takes as the token; the request's key and subject are in its headers. The value is `value`, by the fetch.
local function policy(use, value, more)
  return ([[local n = 0
return { listen = "127.0.0.1:0", upstream = "%s/open",
  tokens = { user = { family = true, fetch = function(ctx)
    n = n + 1
    return { value = %s, expires_in = 60 }
  end, %s } },
  on_request = function(req, tokens)
    local key, subject = req.headers.key, req.headers.subject
    req.headers.key, req.headers.subject = nil, nil
    req.headers.x = "<" .. %s .. ">"
  end }]]):format(echo.upstream_url, value or '(ctx.data and ctx.data.subject or "none") .. "/" .. n', more or "", use)
end
local function start(...) proxy = jeton.start(policy(...)) end

local function sent(res)
  assert.equal(200, res.status, res.body)
  local list = cjson.decode(res.body).headers
  for i = 1, #list, 2 do
    if list[i]:lower() == "x" then return list[i + 1] end
  end
end
local function get(key, subject) return sent(http.get(proxy.port, "/", { key = key, subject = subject })) end
local function tokens() return proxy:status().tokens end
local OF = "tokens.user:of(key, { subject = jeton.secret.value(subject) })"

describe("tokens.NAME:of(key, data)", function()
  it("gives its fetch the data, opaque where they were", function()
    start('tokens.user:of(key, { subject = jeton.secret.value(subject), scope = "read", level = 3, ratio = 0.5, admin = false })',
      [[tostring(ctx.data.subject):gsub("[<>]", "|") .. "," .. ctx.data.scope .. "," .. ctx.data.level .. "," .. ctx.data.ratio .. "," .. tostring(ctx.data.admin) .. "," .. ctx.key
        .. "," .. tostring(jeton.crypto.equal(ctx.data.subject, "hers")) ]])
    assert.equal("<secret||secret value||,read,3,0.5,false,alice,true>", get("alice", "hers"))
  end)

  it("is one token as long as the data are the same", function()
    start(OF)
    for _ = 1, 3 do assert.equal("<hers/1>", get("alice", "hers")) end
    assert.equal(1, #tokens())
    assert.matches("^user%[alice#%x%x%x%x%x%x%x%x%]$", tokens()[1].name)
  end)

  it("is another one with other data: a key alone gives nobody what was fetched with somebody else's", function()
    start("(subject and " .. OF .. " or tokens.user[key])")
    assert.equal("<hers/1>", get("alice", "hers"))
    assert.equal("<his/2>", get("alice", "his"))
    assert.equal("<none/3>", get "alice")
    assert.equal("<hers/1>", get("alice", "hers"))
    assert.equal("<his/2>", get("alice", "his"))
    assert.equal("<none/3>", get "alice")
    assert.equal(3, #tokens())
  end)

  it("is known by what is in the data, whatever the order, and by kinds", function()
    start([[tokens.user:of(key, ({
      a = { one = "1", two = "2" }, b = { two = "2", one = "1" }, number = { one = 1, two = "2" }, float = { one = 1.0, two = "2" },
      secret = { one = jeton.secret.value "1", two = "2" }, moved = { one = "12", two = "" }, more = { one = "1", two = "2", three = true },
    })[subject])]], '"v" .. n')
    local seen = {}
    for _, case in ipairs { "a", "b", "number", "float", "secret", "moved", "more" } do seen[case] = get("k", case) end
    assert.equal(seen.a, seen.b)
    assert.equal(6, #tokens())
  end)

  it("is the key's own without data", function()
    start "tokens.user:of(key)"
    assert.equal("<none/1>", get "alice")
    assert.equal("user[alice]", tokens()[1].name)
    assert.equal("<none/2>", get "of")
    assert.equal("user[of]", tokens()[2].name)
  end)

  it("keeps its data over refreshes and reloads", function()
    start(OF)
    assert.equal("<hers/1>", get("alice", "hers"))
    local name = tokens()[1].name
    assert.equal(0, (jeton.run { "refresh", name, "--control", proxy.control_path }))
    assert.equal("<hers/2>", get("alice", "hers"))
    assert.equal(200, proxy:control("POST", "/reload").status)
    assert.equal("<hers/2>", get("alice", "hers"))
    process.write_file(proxy.policy, policy(OF, '(ctx.data.subject) .. "/new/" .. ctx.reason'))
    assert.equal(200, proxy:control("POST", "/reload").status)
    process.poll(function() return get("alice", "hers") == "<hers/new/changed>" end, 5, "the new fetch, with the data")
    assert.equal(1, #tokens())
  end)

  it("sends a file's secret with what is in the file", function()
    local path = process.write_file(process.temp_dir() .. "/actor", "one\n")
    proxy = jeton.start(("local actor = jeton.secret.file %q\n"):format(path) .. policy("tokens.user:of(key, { subject = actor })"))
    assert.equal("<one/1>", get "alice")
    process.write_file(path, "two\n")
    process.poll(function() return get("alice") == "<two/2>" end, 5, "another token for the new secret")
  end)

  for text, wrong in pairs {
    ['"alice", { subject = tokens.other }'] = "tokens.user:of: data.subject: a token, or computed of one, which is renewed, and data are not: let the fetch take it from jeton.tokens, and compute there",
    ['"alice", { subject = tokens.other:set("v", { expires_in = 60 }) and "x" .. jeton.crypto.hash("sha256", tokens.other) }'] = "tokens.user:of: data.subject: a token, or computed of one, which is renewed",
    ['"alice", { subject = "Bearer " .. tokens.other }'] = "tokens.user:of: data.subject: a token, or computed of one, which is renewed",
    ['"alice", { subject = {} }'] = "tokens.user:of: data.subject: expected a string, a number, a boolean or a secret, got",
    ['"alice", { jeton.secret.value "x" }'] = "tokens.user:of: data: a key that is a number: expected names, as in { subject = … }",
    ['"alice", jeton.secret.value "x"'] = "tokens.user:of: data: expected a table such as { subject = secret }, got a secret",
    ['"alice", { text = ("x"):rep(17000) }'] = "tokens.user:of: data of more than 16 KiB",
    ['"alice", { text = jeton.secret.value(("x"):rep(17000)) }'] = "tokens.user:of: data of more than 16 KiB",
    ['"alice", { a=1, b=1, c=1, d=1, e=1, f=1, g=1, h=1, i=1, j=1, k=1, l=1, m=1, n=1, o=1, p=1, q=1 }'] = "tokens.user:of: data: more than 16 values",
    ['5, { subject = "x" }'] = "tokens.user: a family's key is a string or a secret, got a number",
    ['"", {}'] = "tokens.user: an empty key",
    ['jeton.secret.value "", {}'] = "tokens.user: an empty key",
  } do
    it("says what is wrong with " .. text, function()
      proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", tokens = { user = { family = true }, other = {} },
        on_request = function(req, tokens) req.headers.x = tokens.user:of(%s) end }]]):format(text))
      assert.equal(500, http.get(proxy.port).status)
      proxy:wait_log(wrong)
    end)
  end

  it("wants a colon", function()
    proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", tokens = { user = { family = true } },
      on_request = function(req, tokens) req.headers.x = tokens.user.of("alice", {}) end }]]
    assert.equal(500, http.get(proxy.port).status)
    proxy:wait_log 'of: expected a family and a key: write tokens.NAME:of(key, { … }), with a colon, got a string'
  end)
end)

describe("a family's key", function()
  local HASH = "sha256:" -- of it in hexadecimal
  local function sha256(text) return HASH .. io.popen(("printf %%s '%s' | sha256sum"):format(text)):read "a":match "%x+" end

  it("may be a secret, which is hashed and shown nowhere", function()
    start("tokens.user[jeton.secret.value(key)]", 'ctx.key .. "/" .. n')
    assert.equal("<" .. sha256 "the-clients-own-key" .. "/1>", get "the-clients-own-key")
    assert.equal("<" .. sha256 "the-clients-own-key" .. "/1>", get "the-clients-own-key")
    assert.equal(1, #tokens())
    assert.matches("^user%[#%x%x%x%x%x%x%x%x%]$", tokens()[1].name)
    local _, out = jeton.run { "status", "--control", proxy.control_path }
    for _, text in ipairs { out, proxy:errors(), proxy:control("GET", "/metrics").body } do
      assert.is_nil(text:find("the-clients-own-key", 1, true))
      assert.is_nil(text:find(sha256("the-clients-own-key"):sub(8, 16), 1, true))
    end
  end)

  it("of more than 256 bytes is hashed", function()
    start("tokens.user[key]", 'ctx.key .. "/" .. n')
    local long = ("k"):rep(257)
    assert.equal("<" .. sha256(long) .. "/1>", get(long))
    assert.equal("<" .. ("k"):rep(256) .. "/2>", get(("k"):rep(256)))
    assert.equal("<" .. sha256(long .. "k") .. "/3>", get(long .. "k"))
    assert.equal("<" .. sha256(long) .. "/1>", get(long))
  end)

  it("that looks like a hash gets nothing of the secret that has it", function()
    start("(subject and tokens.user[jeton.secret.value(subject)] or tokens.user[key])", 'ctx.key .. "/" .. n')
    assert.equal("<" .. sha256 "secret-key" .. "/1>", get("-", "secret-key"))
    assert.equal("<" .. sha256(sha256 "secret-key") .. "/2>", get(sha256 "secret-key"))
    assert.equal(2, #tokens())
  end)
end)
