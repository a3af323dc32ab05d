--- jeton.pool: several keys for one API, which answers 429 for those that a file in DIR names.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local uv = require "luv"

local dir, api, proxy

local function key(name)
  local file = process.write_file(dir .. "/" .. name, "key-" .. name .. "\n")
  assert(uv.fs_chmod(file, 384))
end
local function limit(name) process.write_file(dir .. "/limit-key-" .. name, "") end
local function free(name) os.remove(dir .. "/limit-key-" .. name) end

local function policy(options, more)
  return (([[
local pool = require "jeton.pool"
local keys = pool.new { tokens = { "one", "two", "three" }, %s }
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:PORT", log = { level = "debug" }, limits = { retries = 2 },
  tokens = { one = jeton.secret.file "DIR/one", two = jeton.secret.file "DIR/two", three = jeton.secret.file "DIR/three" },
  on_request = function(req)
    if req.path ~= "/pool" then return end
    local lines = {}
    for i, each in ipairs(keys:status()) do lines[i] = ("%%s %%d %%s"):format(each.token, each.used, each.resting and "rests" or "serves") end
    req:respond(200, nil, table.concat(lines, "\n"))
  end,
  on_send = function(req, tokens)
    local key = keys:choose(req, tokens)
    if key then req.headers["x-api-key"] = key end
  end,
  on_response = function(res, req) keys:answered(res, req) end, %s
}]]):format(options or "", more or ""):gsub("DIR", dir):gsub("PORT", tostring(api.port)))
end
local function get() return http.get(proxy.port, "/") end
local function used() return (assert(get().body:match "^key%-(%w+)")) end

setup(function()
  dir = process.temp_dir()
  api = peers.nginx(([[
    location / {
      set $limit "%s/limit-$http_x_api_key";
      if (-f $limit) { add_header Retry-After 2 always; return 429 "limit of $http_x_api_key"; }
      if ($http_x_api_key = "") { return 400; }
      return 200 "$http_x_api_key $content_length";
    } ]]):format(dir))
end)
teardown(function() api.process:stop() end)
before_each(function()
  for _, name in ipairs { "one", "two", "three" } do
    key(name)
    free(name)
  end
end)
after_each(function()
  if proxy then
    assert.is_nil((proxy:errors() .. proxy:control("GET", "/status").body):find("key-one", 1, true))
    proxy:finish()
  end
  proxy = nil
end)

describe("a pool", function()
  it("takes its keys in turn", function()
    proxy = jeton.start(policy())
    local seen = {}
    for i = 1, 6 do seen[i] = used() end
    assert.same({ "one", "two", "three", "one", "two", "three" }, seen)
  end)

  it("takes the key that was used least, and one that comes back first", function()
    limit "two"
    proxy = jeton.start(policy 'choose = "least_used", window = 600')
    for _ = 1, 6 do used() end
    free "two"
    process.poll(function() return http.get(proxy.port, "/pool").body:find "two %d+ serves" end, 10, "the end of the rest")
    local before = http.get(proxy.port, "/pool").body
    assert.matches("one 3 serves\ntwo 1 serves\nthree 3 serves", before)
    assert.same({ "two", "two" }, { used(), used() })
  end)

  it("lets a key rest that is at its limit, for as long as the API says, and sends the request again with another", function()
    limit "one"
    proxy = jeton.start(policy())
    for _ = 1, 4 do assert.not_equal("one", used()) end
    assert.matches("one 1 rests", http.get(proxy.port, "/pool").body) -- it was asked once
    proxy:wait_log "a key is at its limit, and rests"
    assert.matches("seconds=2", proxy:errors())
    free "one"
    process.poll(function() return used() == "one" end, 10, "the key after its rest")
  end)

  it("goes on to the third key, and a body goes along", function()
    limit "one"
    limit "two"
    proxy = jeton.start(policy())
    local res = http.request(proxy.port, "POST", "/", nil, ("x"):rep(5000))
    assert.equal(200, res.status)
    assert.equal("key-three 5000", res.body)
  end)

  it("relays the last reply where all are at their limit, then says itself when the first is back", function()
    for _, name in ipairs { "one", "two", "three" } do limit(name) end
    proxy = jeton.start(policy())
    local res = get()
    assert.same({ 429, "limit of key-three", "2" }, { res.status, res.body, res.headers["retry-after"] })
    res = get()
    assert.equal(429, res.status)
    assert.equal("all keys are at their limit\n", res.body)
    assert.is_true(tonumber(res.headers["retry-after"]) <= 2)
  end)

  it("relays a limit where it may not send again", function()
    limit "one"
    proxy = jeton.start(policy "retry = false")
    assert.equal(429, get().status)
    assert.equal("two", used())
    proxy:finish()
    proxy = jeton.start((policy():gsub("retries = 2", "retries = 0")))
    assert.equal(429, get().status)
    assert.equal("two", used())
  end)

  it("lets keys rest over a reload, and in every worker", function()
    limit "one"
    proxy = jeton.start { policy = policy "longest = 600, rest = 600", args = { "--workers", "2" } }
    for _ = 1, 3 do assert.not_equal("one", used()) end
    free "one"
    proxy:reload_file(policy("longest = 600, rest = 600", "via = true,"))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    assert.matches("one 1 rests", http.get(proxy.port, "/pool").body)
  end)

  it("rests for `longest` at the most", function()
    limit "one"
    proxy = jeton.start(policy "longest = 0.3")
    assert.equal("two", used())
    free "one"
    process.poll(function() return http.get(proxy.port, "/pool").body:find "one 1 serves" end, 1.9, "a short rest")
  end)

  it("rests by other statuses as well, such as those of a key that was taken back", function()
    local other = peers.nginx [[ location / { if ($http_x_api_key = "key-one") { return 403; } return 200 "$http_x_api_key"; } ]]
    proxy = jeton.start((policy "rest_on = { 403, 429 }, rest = 600":gsub("127%.0%.0%.1:%d%d+", "127.0.0.1:" .. other.port)))
    for _ = 1, 4 do assert.not_equal("one", used()) end
    assert.matches("one 1 rests", http.get(proxy.port, "/pool").body)
  end)
end)

describe("the example", function()
  it("key-pool works", function()
    limit "one"
    proxy = jeton.start { file = jeton.root .. "/examples/key-pool.lua", env = { LISTEN = "127.0.0.1:0", UPSTREAM = "http://127.0.0.1:" .. api.port, KEYS_DIR = dir } }
    for _ = 1, 4 do assert.not_equal("one", used()) end
  end)
end)

describe("a policy with what is no pool", function()
  for text, expected in pairs {
    [ [[pool.new {}]] ] = 'pool.new: tokens: expected a list of names in `tokens`, as in { "one", "two" }, got nil',
    [ [[pool.new { tokens = { jeton.secret.value "a" } }]] ] = "pool.new: tokens: expected names in `tokens`, got userdata: give each key a name there",
    [ [[pool.new { tokens = { "one", "one" } }]] ] = "pool.new: tokens: one is there twice",
    [ [[pool.new { tokens = { "one" }, choose = "random" }]] ] = 'pool.new: choose: expected "round_robin" or "least_used"',
    [ [[pool.new { tokens = { "one" }, rest_on = 429 }]] ] = "pool.new: rest_on: expected a list of statuses such as { 429 }, got number",
    [ [[pool.new { tokens = { "one" }, rest = "1m" }]] ] = "pool.new: rest: expected seconds as a number, got string",
    [ [[pool.new { tokens = { "one" }, rests = 1 }]] ] = "pool.new: unknown option 'rests': did you mean 'rest'?",
    [ [[pool.keys {}]] ] = "jeton.pool has no 'keys'",
  } do
    it("is refused: " .. text, function()
      local file = process.write_file(process.temp_dir() .. "/policy.lua", ([[
local pool = require "jeton.pool"
local keys = %s
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }]]):format(text))
      local code, out, err = jeton.run { "check", file }
      assert.equal(78, code, out .. err)
      assert.is_truthy((out .. err):find(expected, 1, true), out .. err)
      assert.is_truthy((out .. err):find("policy.lua:2:", 1, true), out .. err)
    end)
  end
end)
