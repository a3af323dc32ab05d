--- release(ctx): what a token has at its issuer, a lease or a session, is given back when the token leaves: at the end of the program, when a key of a family goes, and
--- when a reload takes the token away. The issuer is a directory, in which a release leaves a file.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"

local proxy, dir
before_each(function() dir = process.temp_dir() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local RELEASE = [[function(ctx)
  local lease = ctx.previous:field "lease"
  local data = ctx.data and ctx.data.subject or "none"
  assert(jeton.file.write(dir .. "/" .. (ctx.key or ctx.name), lease .. " " .. ctx.reason .. " " .. tostring(ctx.attempt) .. " " .. data))
end]]
local HOSTS = 'hosts = { "http://127.0.0.1:1" }, reveal = true'
local FETCH = 'function(ctx) n = n + 1 return { value = "v" .. n, expires_in = 60, fields = { lease = "lease" .. n } } end'

local function policy(tokens, on_request, more)
  return ([[local dir, n = %q, 0
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", tokens = { %s },
  on_request = function(req, tokens) %s req:respond(200) end, %s }]]):format(dir, tokens, on_request or "", more or "")
end
local function start(...) proxy = jeton.start(policy(...)) end
local function api(keys) return ("api = { fetch = %s, release = %s, %s, %s }"):format(FETCH, RELEASE, HOSTS, keys or "") end
local function family(keys) return ("lease = { family = true, fetch = %s, release = %s, %s, %s }"):format(FETCH, RELEASE, HOSTS, keys or "") end
local ASK = 'assert(tokens.lease[req.path:sub(2)]:wait "5s")'

local function released(name)
  local f = io.open(dir .. "/" .. name)
  local text = f and f:read "a"
  if f then f:close() end
  return text
end
local function comes(name, text) process.poll(function() return released(name) == text end, 8, function() return text .. " in " .. name .. ", not " .. tostring(released(name)) end) end
local function token(name)
  for _, t in ipairs(proxy:status().tokens) do
    if t.name == name then return t end
  end
end
local function valid(name) process.poll(function() return token(name) and token(name).valid end, 8, name .. " to be valid") end
local function stop() proxy:finish() end
local function reload(text)
  process.write_file(proxy.policy, text)
  assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
end

describe("release", function()
  it("runs at the end of the program, with the token that was there last", function()
    start(api())
    valid "api"
    assert.equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    stop()
    assert.equal("lease2 stop nil none", released "api")
  end)

  it("runs for each key of a family, with its data", function()
    start(family(), [[local key = req.path:sub(2)
      assert(tokens.lease:of(key, { subject = jeton.secret.value("of " .. key) }):wait "5s")]])
    for i = 1, 40 do assert.equal(200, http.get(proxy.port, "/k" .. i).status) end
    stop()
    for i = 1, 40 do assert.matches("^lease%d+ stop nil of k" .. i .. "$", released("k" .. i)) end
  end)

  it("runs when a key is not used any more, or makes room for another one", function()
    start(family 'idle = "300ms"', ASK)
    assert.equal(200, http.get(proxy.port, "/acme").status)
    comes("acme", "lease1 unused nil none")
    proxy:finish()
    start(family "max = 1", ASK)
    assert.equal(200, http.get(proxy.port, "/one").status)
    process.poll(function() return http.get(proxy.port, "/two").status == 200 end, 5)
    comes("one", "lease1 unused nil none")
    assert.is_nil(released "two")
  end)

  it("runs when a reload takes the token away, by the policy that had it", function()
    start(api())
    valid "api"
    reload(policy(api() .. ", other = {}"))
    socket.sleep(0.3)
    assert.is_nil(released "api")
    assert.equal(1, token "api".generation)
    reload(policy "other = {}")
    comes("api", "lease1 removed nil none")
  end)

  it("does not run for a token that there never was, or that is over", function()
    start('api = { fetch = function() return nil, "no" end, release = ' .. RELEASE .. " }, " ..
      'short = { fetch = function(ctx) if ctx.reason ~= "first" then return nil, "no" end return { value = "v", expires_in = 0.3 } end, release = ' .. RELEASE .. " }")
    valid "short"
    process.poll(function() return not token "short".valid end, 5)
    stop()
    assert.is_nil(released "api")
    assert.is_nil(released "short")
  end)

  it("runs for what a fetch brings that is under way at the end", function()
    start(([[api = { fetch = function(ctx) jeton.sleep "1s" return { value = "v", expires_in = 60, fields = { lease = "late" } } end, release = %s, %s }]]):format(RELEASE, HOSTS))
    stop()
    assert.equal("late stop nil none", released "api")
  end)

  it("is waited for at the end, for timeouts.drain at the most", function()
    local slow = RELEASE:gsub("function%(ctx%)", 'function(ctx) jeton.sleep "1s"', 1)
    start(("api = { fetch = %s, release = %s, %s }"):format(FETCH, slow, HOSTS))
    valid "api"
    stop()
    assert.equal("lease1 stop nil none", released "api")
    slow = RELEASE:gsub("function%(ctx%)", 'function(ctx) jeton.sleep "1m"', 1)
    start(("api = { fetch = %s, release = %s, %s, timeout = '2m' }"):format(FETCH, slow, HOSTS), nil, 'timeouts = { drain = "1s" }')
    valid "api"
    local t0 = socket.gettime()
    stop()
    assert.is_true(socket.gettime() - t0 < 20)
    assert.matches("the release of token api was cut off after %d+%.%d s: what it has at its issuer lasts until that ends it", proxy:errors())
  end)

  it("that fails, raises or takes too long is a line in the log", function()
    start(([[a = { fetch = %s, release = function(ctx) return nil, "it said no" end },
      b = { fetch = %s, release = function(ctx) error "it broke" end },
      c = { fetch = %s, release = function(ctx) jeton.sleep "1m" end, timeout = "200ms" },
      d = { fetch = %s, release = function(ctx) return true end }]]):format(FETCH, FETCH, FETCH, FETCH))
    for _, name in ipairs { "a", "b", "c", "d" } do valid(name) end
    stop()
    local said = proxy:errors()
    assert.matches("token a: its release failed, what it has at its issuer lasts until that ends it: it said no", said)
    assert.matches("token b: its release failed, [^\n]*: policy.lua:%d+: it broke", said)
    assert.matches("token c: its release failed, [^\n]*: it took longer than its limit of 200 ms", said)
    assert.is_nil(said:find("token d: its release", 1, true))
  end)

  it("of two hundred keys that leave at a time goes on a few at a time", function()
    local text = ([[function(ctx)
      at_a_time = at_a_time + 1
      if at_a_time > 16 then jeton.log.error "TOO MANY" end
      jeton.sleep "20ms"
      at_a_time = at_a_time - 1
      assert(jeton.file.write(dir .. "/" .. ctx.key, "released"))
    end]])
    proxy = jeton.start("local at_a_time = 0\n" .. policy(("lease = { family = true, fetch = %s, release = %s }"):format(FETCH, text), ASK))
    local c = http.connect(proxy.port)
    for i = 1, 200 do assert.equal(200, c:request("GET", "/k" .. i).status) end
    c:close()
    stop()
    assert.is_nil(proxy:errors():find("TOO MANY", 1, true))
    for i = 1, 200 do assert.equal("released", released("k" .. i)) end
  end)
end)

describe("a policy is refused", function()
  for text, wrong in pairs {
    ["{ release = true }"] = "tokens.api.release: expected a function, got true",
    ['{ secret = jeton.secret.value "a", release = function() end }'] = "tokens.api.release: has no meaning beside secret",
  } do
    it("with tokens = { api = " .. text .. " }", function()
      local code, _, err = jeton.run { "check", process.write_file(dir .. "/policy.lua", policy("api = " .. text)) }
      assert.equal(78, code)
      assert.is_truthy(err:find(wrong, 1, true), err)
    end)
  end
end)
