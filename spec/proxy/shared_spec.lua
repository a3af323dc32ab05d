--- jeton.shared: values that all workers and the keeper see and that stay over reloads; and the rate limit that the library's page recommends.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

--- Runs Lua that a request carries, with a store in reach; tells what it gives. `names` stand at the top of the policy.
local POLICY = [[
%s
return {
  listen = "127.0.0.1:0",
  log = { access = false },
  limits = { script_time = "2s" },
  tasks = { %s },
  on_request = function(req)
    local out = table.pack(pcall(assert(load("local store = ... " .. req:body(), "=script")), store))
    for i = 1, out.n do out[i] = math.type(out[i]) == "float" and ("float %%s"):format(out[i]) or tostring(out[i]) end
    req:respond(200, nil, table.concat(out, " "))
  end,
}]]
local STORE = [[local store = jeton.shared("spec", { max = "64k" })]]

local function policy(names, tasks) return POLICY:format(names or STORE, tasks or "") end
local function ask(p, code) return assert(http.request(p.port, "POST", "/", nil, code, 20)).body end
local function gives(expected, p, code) assert.equal("true" .. (expected ~= "" and " " .. expected or ""), ask(p, code)) end
local function raises(part, p, code)
  local out = ask(p, code)
  assert.equal("false", out:match "^%a+")
  assert.is_truthy(out:find(part, 1, true), out)
end

describe("jeton.shared", function()
  local p
  setup(function() p = jeton.start(policy()) end)
  teardown(function() p:finish() end)

  it("gives back booleans, integers, floats and strings as they were", function()
    gives("true true true true", p, [[return store:set("b", false), store:set("i", 3), store:set("f", 3.0), store:set("s", "a\0b")]])
    gives("false 3 float 3.0 3 nil", p, [[return store:get "b", store:get "i", store:get "f", #store:get "s", store:get "none"]])
    gives("true 30000", p, [[return store:set("s", ("x"):rep(30000)), #store:get "s"]])
  end)

  it("ends a value after its ttl", function()
    gives("true 1", p, [[return store:set("t", 1, "300ms"), store:get "t"]])
    process.poll(function() return ask(p, [[return store:get "t"]]) == "true nil" end, 10, "the value's end")
    gives("true", p, [[return store:add("t", 2)]])
  end)

  it("counts, and lets a count end a ttl after it began", function()
    gives("1 3 float 3.5", p, [[return store:incr "n", store:incr("n", 2), store:incr("n", 0.5)]])
    local t0 = socket.gettime()
    local n = 0
    repeat
      local now = tonumber(ask(p, [[return store:incr("w", 1, "500ms")]]):match "%d+$")
      local again = now <= n
      n = now
    until again or socket.gettime() - t0 > 20
    assert.equal(1, n)
    assert.is_true(socket.gettime() - t0 >= 0.498) -- clocks of whole milliseconds
  end)

  it("adds what is missing, swaps what is as expected, and deletes", function()
    gives("true false", p, [[return store:add("a", 1), store:add("a", 2)]])
    gives("false true true", p, [[return store:cas("a", 2, 3), store:cas("a", 1, "one"), store:cas("a", "one", nil)]])
    gives("false true true false", p, [[return store:cas("a", 1, 2), store:cas("a", nil, 2), store:delete "a", store:delete "a"]])
  end)

  it("lists keys up to a limit", function()
    gives("key-1,key-2,key-3 2", p, [[
      for _, k in ipairs(store:keys()) do store:delete(k) end
      for i = 1, 3 do store:set("key-" .. i, true) end
      local keys = store:keys()
      table.sort(keys)
      return table.concat(keys, ","), #store:keys(2)]])
  end)

  it("stays below max, forgets what was not used for longest, and counts that", function()
    gives("true true nil", p, [[
      store:set("kept", 1)
      store:set("forgotten", 1)
      for i = 1, 2000 do
        store:set("filler-" .. i, ("x"):rep(100))
        store:get "kept"
      end
      local s = store:stats()
      return s.bytes <= 65536 and s.max == 65536 and s.evictions > 1000 and s.entries < 500, store:get "kept" == 1, store:get "forgotten"]])
    local status = p:status().shared[1]
    assert.same({ "spec", 65536 }, { status.name, math.tointeger(status.max) })
    assert.is_true(status.evictions > 1000 and status.entries > 100 and status.bytes <= 65536)
    local res = p:control("GET", "/status?format=text")
    assert.is_truthy(res.body:find "shared     spec: %d+ entries, %d+ KiB of 64, %d+ evicted")
  end)

  it("does not take what is larger than the whole store", function()
    gives("nil jeton.shared: the value is larger than the whole store LIMIT", p, [[return store:set("large", ("x"):rep(70000))]])
  end)

  it("does not keep what it could not keep closed, and says where it belongs", function()
    raises("tokens.NAME:set(value, …) shares one", p, [[store:set("s", jeton.secret.value "hunter2")]])
    raises("keep jeton.json.encode(…) of it", p, [[store:set("s", {})]])
    raises("write store:delete(key)", p, [[store:set("s", nil)]])
    raises("value: expected a boolean, a number or a string, got function", p, [[store:set("s", print)]])
    assert.is_nil(p:errors():find("hunter2", 1, true))
  end)

  it("says what is wrong with a call", function()
    raises("key: expected a string, got number", p, [[store:get(1)]])
    raises("key: 1 to 256 bytes, got 0", p, [[store:get ""]])
    raises("key: 1 to 256 bytes, got 257", p, [[store:get(("k"):rep(257))]])
    raises("by: expected a number, got string", p, [[store:incr("k", "1")]])
    raises("the value there is not a number", p, [[store:set("k", "1") store:incr "k"]])
    raises("ttl: expected more than 0", p, [[store:set("k", 1, 0)]])
    raises("ttl: expected a duration", p, [[store:set("k", 1, -1)]])
    raises("keys: limit: expected 1 to 10000", p, [[store:keys(10001)]])
    raises("keys: limit: expected 1 to 10000", p, [[store:keys "all"]])
    raises("value: nil is no value: write store:delete(key)", p, [[store:set("k")]])
    raises("store:cas(key, old, new), nil for none", p, [[store:cas("k", 1)]])
    raises("'get' is a method of a store, and was given a table: call it with a colon", p, [[store.get({}, "k")]])
    raises("has no 'gte' (did you mean ':get'?)", p, [[store:gte "k"]])
    raises("has no 'fetch' (docs/library.md lists its methods)", p, [[store:fetch "k"]])
    raises("the policy names no 'spce' (did you mean 'spec'?)", p, [[jeton.shared "spce"]])
    raises("write `local x = jeton.shared(\"other\")` at the top of its file", p, [[jeton.shared "other"]])
    raises("named twice with another max", p, [[jeton.shared("spec", { max = "1m" })]])
    gives("true shared<spec>", p, [[return jeton.shared "spec" == store, tostring(store)]])
  end)
end)

describe("a policy that names a store", function()
  local function refused(names)
    local file = process.write_file(process.temp_dir() .. "/policy.lua", policy(names))
    local code, _, errors = jeton.run({ "check", file }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
    assert.equal(78, code)
    return errors
  end

  it("only declares it at the top", function()
    assert.matches("policy.lua:1:.-the top of a policy's file only declares", refused [[jeton.shared("spec"):set("a", 1)]])
  end)

  it("is refused for a name or an option that is wrong", function()
    assert.matches("name: 1 to 64 letters", refused [[jeton.shared "a b"]])
    assert.matches("name: expected a string, got table", refused [[jeton.shared {}]])
    assert.matches("unknown option 'mx' %(did you mean 'max'%?%)", refused [[jeton.shared("a", { mx = 1 })]])
    assert.matches('max: from "4k" to "16g"', refused [[jeton.shared("a", { max = 100 })]])
    assert.matches("max: expected a size", refused [[jeton.shared("a", { max = "much" })]])
    assert.matches("names 256 already, and may name no more", refused [[for i = 1, 257 do jeton.shared("store-" .. i) end]])
  end)
end)

describe("a store", function()
  it("is one in all workers and in tasks", function()
    local p = jeton.start {
      workers = 4,
      policy = policy(nil, [[writer = function()
        store:set("from a task", "hello")
        while true do
          if store:cas("ping", true, "pong") then return end
          jeton.sleep(0.01)
        end
      end]]),
    }
    process.poll(function() return ask(p, [[return store:get "from a task"]]) == "true hello" end, 10, "the task's value")
    for _ = 1, 10 do http.together(p.port, 40, "POST", "/", nil, [[return store:incr "n"]], 30) end
    gives("400", p, [[return store:get "n"]])
    local served = 0
    for _, w in ipairs(p:status().workers) do if w.requests > 0 then served = served + 1 end end
    assert.is_true(served > 1)
    gives("true", p, [[return store:set("ping", true)]])
    process.poll(function() return ask(p, [[return store:get "ping"]]) == "true pong" end, 10, "the task's answer")
    p:finish()
  end)

  it("survives reloads, under load as well, and goes with the last policy that names it", function()
    local p = jeton.start { workers = 2, policy = policy() }
    gives("true 1", p, [[return store:set("kept", "yes"), store:incr "n"]])
    local before = 1
    for round = 1, 5 do
      p:reload_file(policy() .. "\n-- " .. round)
      http.together(p.port, 20, "POST", "/", nil, [[return store:incr "n"]], 30)
      assert.equal(200, p:control("POST", "/reload").status)
      before = before + 20
      gives("yes " .. before, p, [[return store:get "kept", store:get "n"]])
    end
    p:reload_file(policy [[local store = { get = function() return "no store" end }]])
    assert.equal(200, p:control("POST", "/reload").status)
    gives("no store", p, [[return store:get "kept"]])
    process.poll(function() return #p:status().shared == 0 end, 10, "the store's end")
    p:reload_file(policy())
    assert.equal(200, p:control("POST", "/reload").status)
    gives("nil", p, [[return store:get "kept"]])
    p:finish()
  end)

  it("takes a new max at a reload, not from a policy that is refused", function()
    local p = jeton.start(policy())
    gives("true", p, [[for i = 1, 100 do store:set("k" .. i, ("x"):rep(100)) end return true]])
    p:reload_file(policy [[local store = jeton.shared("spec", { max = "4k" }) error "refused"]])
    assert.equal(422, p:control("POST", "/reload").status)
    gives("65536 100", p, [[local s = store:stats() return s.max, s.entries]])
    p:reload_file(policy [[local store = jeton.shared("spec", { max = "4k" })]])
    assert.equal(200, p:control("POST", "/reload").status)
    gives("4096 true x", p, [[store:set("last", "x") local s = store:stats() return s.max, s.entries < 30, store:get "last"]])
    p:finish()
  end)
end)

describe("the example rate-limit", function()
  it("lets a client have so many requests a second, over all workers and a reload", function()
    local nginx = peers.nginx [[location / { return 200 "ok\n"; }]]
    local p = jeton.start {
      file = jeton.root .. "/examples/rate-limit.lua",
      workers = 2,
      env = { LISTEN = "127.0.0.1:0", UPSTREAM = ("http://127.0.0.1:%d"):format(nginx.port), RATE = "50" },
    }
    local t0 = socket.gettime()
    local wrk = process.start { "wrk", "-t1", "-c8", "-d3s", "--timeout", "10s", ("http://127.0.0.1:%d/"):format(p.port) }
    process.poll(function() return socket.gettime() - t0 > 1 end, 5)
    assert.equal(200, p:control("POST", "/reload").status)
    assert.equal(0, (wrk:wait(30)))
    local seconds = socket.gettime() - t0
    local out = wrk:output()
    local all, refused = tonumber(out:match "(%d+) requests in"), tonumber(out:match "Non%-2xx or 3xx responses: (%d+)")
    assert.is_truthy(all and refused, out)
    local served = all - refused
    assert.is_true(served >= 100 and served <= 50 * (seconds + 1), ("%d served in %.1f s\n%s"):format(served, seconds, out))
    local res = http.get(p.port)
    if res.status == 429 then assert.equal("1", res.headers["retry-after"]) end
    process.poll(function() return http.get(p.port).status == 200 end, 5, "the next second")
    p:finish()
  end)
end)
