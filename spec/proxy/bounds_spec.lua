--- What C holds for a script is charged to its VM or freed at once; what all requests see cannot be set.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"

--- A policy whose on_request runs `body`, which answers with `out`. The release binary: a sanitizer keeps what was freed.
local function start(body, more)
  return jeton.start { binary = jeton.root .. "/build/jeton", policy = ([[local big = ("x"):rep(1 << 10):rep(1 << 10)
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", workers = 1, limits = { memory = "16m", script_time = "10s" }, %s
  on_request = function(req, tokens)
    local out = ""
    %s
    req:respond(200, {}, tostring(out) .. (big:sub(1, 0)))
  end }]]):format(more or "", body) }
end

local function ask(p, path, seconds) return http.request(p.port, "GET", path or "/", nil, nil, seconds or 30).body end

local function rss(p) return tonumber(process.read_file(("/proc/%d/status"):format(p.pid)):match "VmRSS:%s+(%d+)") end

describe("what a script makes C hold", function()
  it("for a command's input is given back when the command has it", function()
    local p = start [[local r = assert(jeton.exec { "cat", stdin = big, limits = { stdout = "4m" } }) out = #r.stdout]]
    assert.equal(tostring(1 << 20), ask(p))
    local before = rss(p)
    for _ = 1, 60 do ask(p) end
    assert.is_true(rss(p) - before < 40000, ("grew by %d kB"):format(rss(p) - before))
    p:finish()
  end)

  it("of a command's output, a file or a response ends at limits.memory, whatever the call allows", function()
    local p = start [[
      local results = {
        table.pack(jeton.exec { "head", "-c", "300000000", "/dev/zero", limits = { stdout = "1g" } }),
        table.pack(jeton.file.read("/dev/zero", { max = "1g" })),
      }
      for _, r in ipairs(results) do out = out .. tostring(r[1]) .. " " .. tostring(r[2]) .. " " .. tostring(r[3]) .. "\n" end]]
    assert.equal("nil exec head: its output has no room within limits.memory LIMIT\nnil read /dev/zero: it has no room within limits.memory LIMIT\n", ask(p))
    p:finish()
  end)

  it("of one string that is named a thousand times is bounded, in memory and in time", function()
    local p = start [[
      local many, fields, words = {}, {}, { "/bin/true" }
      for i = 1, 1000 do many[i], fields["n" .. i], words[i + 1] = big, big, big end
      local nested = { 1 }
      for _ = 1, 40 do nested = { nested, nested } end
      local at = "http://127.0.0.1:1/"
      local function tell(name, ...) out = out .. name .. ": " .. tostring(...) .. " " .. tostring((select(3, ...))) .. "\n" end
      for _ = 1, 2 do
        tell("list", jeton.json.encode(many))
        tell("names", jeton.json.encode { { [big] = many }, { [big] = many } })
        tell("nested", jeton.json.encode(nested))
      end
      tell("json", jeton.http.post(at, { json = many }))
      tell("form", jeton.http.post(at, { form = { a = many } }))
      tell("headers", jeton.http.post(at, { headers = fields }))
      tell("arguments", jeton.exec(words))
      tell("environment", jeton.exec { "/bin/true", env = fields })
      jeton.log.info("many", fields)]]
    local expected = ("list: nil LIMIT\nnames: nil LIMIT\nnested: nil LIMIT\n"):rep(2)
      .. "json: nil LIMIT\nform: nil LIMIT\nheaders: nil LIMIT\narguments: nil E2BIG\nenvironment: nil E2BIG\n"
    assert.equal(expected, ask(p, "/", 60))
    local peak = tonumber(process.read_file(("/proc/%d/status"):format(p.pid)):match "VmHWM:%s+(%d+)")
    assert.is_true(peak < 150000, ("%d kB"):format(peak))
    p:finish()
  end)

  it("for watches bounds their number", function()
    local p = start [[
      local n = 0
      local _, code
      repeat
        n = n + 1
        _, _, code = jeton.file.watch("/dev/none" .. n, function() end)
      until code or n == 5000
      out = (n > 500 and n < 1100 and "bounded " or n) .. tostring(code)]]

    assert.equal("bounded LIMIT", ask(p))
    p:finish()
  end)

  it("of long strings asks the clock while it reads them", function()
    local p = jeton.start { binary = jeton.root .. "/build/jeton", policy = [[local big
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", workers = 1,
  on_request = function(req)
    big = big or ("\1"):rep(1 << 12):rep(1 << 10)
    local words = { "/bin/true" }
    for i = 1, 1000 do words[i + 1] = big end
    if req.path == "/exec" then jeton.exec(words) end
    if req.path == "/json" then jeton.json.encode(big) end
    if req.path == "/form" then jeton.http.post("http://127.0.0.1:1/", { form = { a = big } }) end
    req:respond(200, {}, "done")
  end }]] }
    process.poll(function() return http.get(p.port, "/").status == 200 end, 10, "the long string") -- which on a busy machine is a budget of its own
    for _, path in ipairs { "/exec", "/json", "/form" } do assert.equal(500, http.request(p.port, "GET", path, nil, nil, 30).status, path) end
    local cpu = 0
    for ticks in process.read_file(("/proc/%d/stat"):format(p.pid)):match "%) %S (.*)":gmatch "%S+" do
      cpu = cpu + 1
      if cpu == 11 then cpu = tonumber(ticks) break end
    end
    assert.is_true(cpu < 100, ("%d hundredths of a second in three runs of 50 ms"):format(cpu))
    p:finish()
  end)

  it("in secrets is collected when they are garbage, and bounded when they are not", function()
    local p = start [[
      if req.path == "/drop" then
        for i = 1, 1000 do local _ = jeton.secret.value(big:sub(1, 200000) .. i) .. "x" end
        out = "fine"
      else
        local kept = {}
        local _, why = pcall(function() for i = 1, 1000 do kept[i] = jeton.secret.value(big:sub(1, 200000) .. i) end end)
        out = (#kept < 100 and "bounded: " or "not bounded: ") .. tostring(why)
      end]]
    assert.equal("fine", ask(p, "/drop"))
    assert.equal("bounded: not enough memory", ask(p, "/keep"))
    assert.equal("fine", ask(p, "/drop"))
    p:finish()
  end)

  it("for tostring(req) is nothing", function()
    local p = start [[for _ = 1, 20000 do tostring(req) end out = tostring(req)]]
    local path = "/" .. ("a"):rep(6000)
    local before = rss(p)
    assert.equal("request<GET " .. path .. ">", ask(p, path))
    assert.is_true(rss(p) - before < 60000, ("grew by %d kB"):format(rss(p) - before))
    p:finish()
  end)

  it("for calls under way bounds their number", function()
    local p = start [[
      local refused, why, ended = { 0, 0 }, {}, 0
      for i = 1, 300 do
        jeton.spawn(function()
          local _, e, code = jeton.exec { "sleep", "0.2" }
          if code == "LIMIT" then refused[1] = refused[1] + 1 why[1] = e end
          ended = ended + 1
        end)
      end
      while ended < 300 do jeton.sleep "20ms" end
      for i = 1, 2500 do
        jeton.spawn(function()
          local _, e, code = jeton.http.get("http://127.0.0.1:9/", { timeout = 10 })
          if code == "LIMIT" then refused[2] = refused[2] + 1 why[2] = e end
        end)
      end
      out = (refused[1] > 200 and refused[1] < 300 and tostring(why[1])) .. "\n" .. (refused[2] > 1000 and refused[2] < 2500 and tostring(why[2]))]]
    assert.equal("exec sleep: the commands under way have no room for another within limits.memory\njeton.http: the calls under way have no room for another within limits.memory", ask(p, "/", 60))
    p:finish()
  end)
end)

describe("a handle in a <close> variable", function()
  it("is cancelled with it, and its task ends as by :cancel()", function()
    local p = start [[
      local kept, steps = nil, {}
      do
        local h <close> = jeton.spawn(function()
          local _ <close> = setmetatable({}, { __close = function() steps[#steps + 1] = "closed" end })
          jeton.sleep(1000)
        end)
        kept = h
        steps[#steps + 1] = tostring(h)
      end
      steps[#steps + 1] = tostring(kept)
      local n = 0
      do
        local _ <close> = jeton.every("2ms", function() n = n + 1 end)
        while n == 0 do jeton.sleep("2ms") end
      end
      local before = n
      jeton.sleep("30ms")
      steps[#steps + 1] = tostring(n == before)
      do local _ <close> = jeton.spawn(function() steps[#steps + 1] = "ran" end) end
      out = table.concat(steps, " ")]]
    assert.equal("spawn<running> closed spawn<done> true ran", ask(p))
    p:finish()
  end)
end)

describe("the library's tables", function()
  it("cannot be set, neither in what they have nor in what they have not", function()
    local p = start([[
      local tries = {
        function() jeton.crypto.equal = function() return true end end,
        function() jeton.crypto.other = 1 end,
        function() jeton.http = nil end,
        function() jeton.log.info = print end,
        function() jeton.select.seed = print end,
        function() jeton.version = "9" end,
        function() jeton = setmetatable({ crypto = { equal = print } }, { __index = jeton }) end,
        function() _G.jeton = nil end,
        function() jeton.tokens = {} end,
        function() rawset(jeton.crypto, "equal", print) end,
        function() rawset(tokens, "api", "x") end,
        function() table.insert(jeton.json, 1) end,
        function() setmetatable(jeton.json, {}) end,
      }
      for i, f in ipairs(tries) do if pcall(f) then out = out .. " " .. i end end
      local names = {}
      for name in pairs(jeton) do names[name] = true end
      for name in pairs(jeton.crypto) do names["crypto." .. name] = true end
      for _, name in ipairs { "http", "tokens", "version", "spawn", "crypto.equal", "crypto.hmac" } do
        if not names[name] then out = out .. " no " .. name end
      end
      if jeton.crypto.equal("a", "b") or jeton.env.PATH ~= jeton.env "PATH" then out = out .. " wrong" end
      local _, why = pcall(function() return jeton.crypto.equall end)
      if not why:find "did you mean 'equal'" then out = out .. why end
      _, why = pcall(function() jeton.http:get "x" end)
      if not why:find "with a dot" then out = out .. why end]], 'tokens = { api = { fetch = function() return { value = "v", expires_in = 60 } end } },')
    assert.equal("", ask(p))
    p:finish()
  end)
end)

describe("a policy of thousands of addresses", function()
  it("is checked in seconds", function()
    local entries = {}
    for i = 1, 20000 do entries[i] = ('"127.0.%d.%d:8080"'):format(i // 250, i % 250 + 1) end
    local path = process.write_file(process.temp_dir() .. "/policy.lua", "return { listen = { " .. table.concat(entries, ",") .. ' }, upstream = "http://a.example" }')
    local before = os.time()
    local code, _, err = jeton.run { "check", path }
    assert.equal(0, code, err)
    assert.is_true(os.time() - before < process.stretched(30), "took " .. os.time() - before .. " s")
    entries[20001] = entries[7]
    process.write_file(path, "return { listen = { " .. table.concat(entries, ",") .. ' }, upstream = "http://a.example" }')
    code, _, err = jeton.run { "check", path }
    assert.equal(78, code)
    assert.matches("listens on the same address as", err)
  end)
end)
