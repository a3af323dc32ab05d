--- A reload loses nothing, and a broken policy changes nothing.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local nginx, proxy

setup(function() nginx = peers.nginx [[ location / { return 200 "fine\n"; } ]] end)
teardown(function() nginx.process:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- A policy that answers `word` on /word and relays everything else; `more` are further keys.
local function policy(word, more, listen)
  return ([[return { listen = %s, upstream = "http://127.0.0.1:%d",
    on_request = function(req) if req.path == "/word" then req:respond(200, nil, %q) end end,
    %s }]]):format(listen or '"127.0.0.1:0"', nginx.port, word, more or "")
end
local function word() return http.get(proxy.port, "/word").body end
local function becomes(expected) process.poll(function() return word() == expected end, 5, function() return expected .. "; log:\n" .. proxy:errors() end) end
local function reload(...) return jeton.run { "reload", "--control", proxy.control_path, ... } end
local function dialed()
  local n = 0
  for _, w in ipairs(proxy:status().workers) do n = n + w.upstream_dialed end
  return n
end

describe("jeton reload", function()
  it("takes a changed policy, says its number and exits 0", function()
    proxy = jeton.start { policy = policy "one", workers = 2 }
    assert.equal("one", word())
    proxy:reload_file(policy "two")
    assert.equal("one", word()) -- nobody watches
    local code, out, err = reload()
    assert.equal(0, code, err)
    assert.matches("^reloaded: policy 2 is active\n$", out)
    for _ = 1, 10 do assert.equal("two", word()) end
    assert.equal(2, proxy:status().policy.number)
    proxy:wait_log "policy 2 is active"
  end)

  it("refuses a broken one with all its errors and 78; status and log say so, and the old one goes on", function()
    proxy = jeton.start(policy "one")
    proxy:reload_file 'return {\n  listen = "127.0.0.1:0",\n  upstream = "api.example.com",\n  wrokers = 2,\n}'
    local code, out, err = reload()
    assert.equal(78, code)
    assert.equal("", out)
    assert.matches('policy.lua:3: upstream: expected a URL, got "api.example.com" %(did you mean "https://api.example.com"%?%)', err)
    assert.matches('policy.lua:4: wrokers: unknown key %(did you mean "workers"%?%)', err)
    assert.equal("one", word())
    local status = proxy:status().policy
    assert.equal(1, status.refused)
    assert.equal(1, status.number)
    assert.matches("api.example.com", status.last_error)
    assert.matches("wrokers", select(2, jeton.run { "status", "--control", proxy.control_path }))
    proxy:wait_log "wrokers: unknown key"
    proxy:wait_log "the policy was refused, the active one goes on"
    proxy:reload_file(policy "two")
    assert.equal(0, (reload()))
    assert.equal("two", word())
    assert.equal("", proxy:status().policy.last_error)
  end)

  for name, text in pairs {
    ["a syntax error"] = "return { listen = 5 ",
    ["an error at its top"] = "error 'at the top'",
    ["a file that returns nothing"] = "local x = 1",
    ["a loop"] = "while true do end",
    ["a module that does not exist"] = "local m = require 'no_such_module' return {}",
    ["a call that waits"] = "jeton.sleep(1) return {}",
    ["an address in use"] = "TAKEN",
  } do
    it("refuses " .. name, function()
      proxy = jeton.start(policy "one")
      proxy:reload_file(text == "TAKEN" and policy("two", nil, ('{ "127.0.0.1:%d" }'):format(nginx.port)) or text)
      local code, _, err = reload()
      assert.is_true(code == 78, ("%s: %s"):format(code, err))
      assert.is_true(#err > 10)
      assert.equal("one", word())
      assert.equal(1, proxy:status().policy.refused)
    end)
  end

  it("refuses a policy whose file has gone", function()
    proxy = jeton.start(policy "one")
    os.remove(proxy.policy)
    assert.equal(78, (reload()))
    assert.equal("one", word())
  end)

  it("prints warnings, and takes the policy", function()
    proxy = jeton.start(policy "one")
    proxy:reload_file(policy("two", "workers = 3,"))
    local code, out = reload()
    assert.equal(0, code)
    assert.is_string(out)
    assert.equal("two", word())
  end)
end)

describe("SIGHUP", function()
  it("reloads, and a broken policy is refused in the log", function()
    proxy = jeton.start(policy "one")
    proxy:reload_file(policy "two")
    proxy:kill "sighup"
    becomes "two"
    proxy:reload_file "return {"
    proxy:kill "sighup"
    proxy:wait_log "the policy was refused, the active one goes on"
    assert.equal("two", word())
  end)

  it("many times over is no more than one reload at a time", function()
    proxy = jeton.start(policy "one")
    for i = 1, 30 do
      proxy:reload_file(policy("word" .. i))
      proxy:kill "sighup"
    end
    becomes "word30"
  end)
end)

describe("SIGUSR1", function()
  it("opens the access log anew when it goes to a file, in every worker, and loses no line", function()
    local log = process.temp_dir() .. "/access.log"
    proxy = jeton.start { policy = (policy "one"):gsub("return {", ("return { log = { access = %q },"):format(log), 1), workers = 2 }
    for _ = 1, 20 do assert.equal("one", word()) end
    os.rename(log, log .. ".1")
    proxy:kill "sigusr1"
    proxy:wait_log "SIGUSR1: opening"
    process.poll(function() return io.open(log) end, 5, "a new file")
    for _ = 1, 20 do assert.equal("one", word()) end
    process.poll(function()
      local old, new = process.read_file(log .. ".1"), process.read_file(log)
      return select(2, old:gsub("\n", "")) + select(2, new:gsub("\n", "")) == 40 and #new > 0
    end, 5, "every line in one of the two")
  end)
  it("does nothing otherwise, and says so", function()
    proxy = jeton.start(policy "one")
    for _ = 1, 3 do proxy:kill "sigusr1" end
    proxy:wait_log "SIGUSR1: no log goes to a file"
    assert.equal("one", word())
  end)
end)

describe("--watch", function()
  local function watch(text)
    proxy = jeton.start { policy = text, args = { "--watch" } }
  end

  it("takes a file that was written in place", function()
    watch(policy "one")
    proxy:reload_file(policy "two")
    becomes "two"
    proxy:reload_file(policy "three")
    becomes "three"
  end)

  it("takes a file that an editor renamed over the old one, again and again", function()
    watch(policy "one")
    for _, text in ipairs { "two", "three", "four" } do
      local file = process.write_file(proxy.dir .. "/policy.lua.tmp", policy(text))
      assert(os.rename(file, proxy.policy))
      becomes(text)
    end
  end)

  it("takes a file that an editor moved away and wrote anew", function()
    watch(policy "one")
    assert(os.rename(proxy.policy, proxy.policy .. "~"))
    socket.sleep(0.2)
    assert.equal("one", word())
    proxy:reload_file(policy "two")
    becomes "two"
  end)

  it("follows modules beside the policy, also one that is required only later", function()
    local dir = process.temp_dir()
    process.write_file(dir .. "/words.lua", "return { word = 'one' }")
    local path = process.write_file(dir .. "/policy.lua", policy("WORD"):gsub('"WORD"', 'require "words".word'):gsub("^", 'local _ = require "words"\n'))
    proxy = jeton.start { file = path, args = { "--watch" } }
    assert.equal("one", word())
    process.write_file(dir .. "/words.lua", "return { word = 'two' }")
    becomes "two"
    process.write_file(dir .. "/words.lua.tmp", "return require 'deeper'")
    process.write_file(dir .. "/deeper.lua", "return { word = 'three' }")
    assert(os.rename(dir .. "/words.lua.tmp", dir .. "/words.lua"))
    becomes "three"
    process.write_file(dir .. "/deeper.lua", "return { word = 'four' }")
    becomes "four"
  end)

  it("takes a policy that was refused for its module when that is repaired, or made, in a new folder too", function()
    watch(policy "one")
    local text = 'local word = require "%s".word ' .. policy("WORD"):gsub('"WORD"', "word")
    process.write_file(proxy.dir .. "/later.lua", "return { word = ")
    proxy:reload_file(text:format "later")
    proxy:wait_log "later.lua:1: unexpected symbol"
    process.write_file(proxy.dir .. "/later.lua", "return { word = 'two' }")
    becomes "two"
    proxy:reload_file(text:format "lib.missing")
    proxy:wait_log "module 'lib.missing' not found"
    assert.equal(0, (process.run { "mkdir", proxy.dir .. "/lib" }))
    process.write_file(proxy.dir .. "/lib/missing.lua", "return { word = 'three' }")
    becomes "three"
  end)

  it("keeps the old policy while a file is broken, says why, and takes the repaired one", function()
    watch(policy "one")
    proxy:reload_file "return { listen = "
    proxy:wait_log "the policy was refused, the active one goes on"
    assert.equal("one", word())
    assert.matches("policy.lua:1", proxy:status().policy.last_error)
    proxy:reload_file(policy "two")
    becomes "two"
  end)

  it("does not reload for a file that is not its own", function()
    watch(policy "one")
    process.write_file(proxy.dir .. "/other.lua", "return 1")
    socket.sleep(0.4)
    assert.equal(1, proxy:status().policy.number)
    assert.equal(0, proxy:status().policy.refused)
  end)
end)

describe("a reload", function()
  it("keeps the connections of clients and to upstreams", function()
    proxy = jeton.start(policy "one")
    local c = http.connect(proxy.port)
    assert.equal("fine\n", c:request("GET", "/").body)
    process.poll(function() return dialed() == 1 end)
    for i = 1, 5 do
      proxy:reload_file(policy("word" .. i))
      assert.equal(0, (reload()))
      assert.equal("word" .. i, c:request("GET", "/word").body) -- its next request meets the new policy
      assert.equal("fine\n", c:request("GET", "/").body)
    end
    c:close()
    socket.sleep(0.3) -- the counter is copied four times a second
    assert.equal(1, dialed())
  end)

  it("lets a long request end under the policy that it began with", function()
    local text = [[ on_response = function(res, req)
        if req.path == "/long" then jeton.sleep "600ms" end
        res.headers["x-policy"] = "NAME"
      end, on_log = function(e) if e.path == "/long" then jeton.log.info "logged by NAME" end end, ]]
    proxy = jeton.start(policy("one", (text:gsub("NAME", "old"))))
    local long = http.connect(proxy.port)
    long:send "GET /long HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return proxy:status().workers[1].requests >= 1 end)
    proxy:reload_file(policy("two", (text:gsub("NAME", "new"))))
    assert.equal(0, (reload()))
    assert.equal("new", http.get(proxy.port, "/").headers["x-policy"])
    local res = long:read_response "GET"
    assert.equal(200, res.status)
    assert.equal("old", res.headers["x-policy"])
    proxy:wait_log "logged by old"
    assert.equal("new", long:request("GET", "/").headers["x-policy"])
    long:close()
  end)

  it("lets a body in mid-transfer go on", function()
    proxy = jeton.start(policy "one")
    local c = http.connect(proxy.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"
    proxy:reload_file(policy "two")
    assert.equal(0, (reload()))
    c:send "world"
    assert.equal(200, c:read_response("POST").status)
    c:close()
  end)

  it("leaves a body under way to the limits of the policy that it began with", function()
    local function gathering(more)
      return ([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", workers = 1, on_request = function(req) req:body() end, %s }]]):format(nginx.port, more)
    end
    proxy = jeton.start(gathering "")
    local c = http.connect(proxy.port)
    c:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"
    process.poll(function() return proxy:status().workers[1].bytes_in == 5 end)
    proxy:reload_file(gathering 'timeouts = { body = "200ms" }, limits = { body = 7 }')
    assert.equal(0, (reload()))
    c:send "wo"
    process.poll(function() return proxy:status().workers[1].bytes_in == 7 end)
    local late = http.connect(proxy.port) -- by the time that the new policy's limit has struck, the old request has been silent for longer
    late:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"
    assert.equal(408, late:read_response("POST").status)
    late:close()
    c:send "rld"
    assert.equal(200, c:read_response("POST").status)
    c:close()
  end)

  it("opens a new address and closes a missing one, while kept connections of both go on", function()
    local dir = process.temp_dir()
    local both = ('{ "127.0.0.1:0", "unix:%s/a.sock" }'):format(dir)
    proxy = jeton.start(policy("one", nil, '"127.0.0.1:0"'))
    local port = proxy.port
    local kept = http.connect(port)
    assert.equal("one", kept:request("GET", "/word").body)
    proxy:reload_file(policy("two", nil, both))
    assert.equal(0, (reload()))
    assert.equal("two", word())
    local unix = http.connect("unix:" .. dir .. "/a.sock")
    assert.equal("two", unix:request("GET", "/word").body)
    assert.same({ "http://127.0.0.1:" .. port, "unix:" .. dir .. "/a.sock" }, proxy:status().listeners)
    proxy:reload_file(policy("three", nil, '"127.0.0.1:0"'))
    assert.equal(0, (reload()))
    assert.equal("three", kept:request("GET", "/word").body)
    assert.equal("three", unix:request("GET", "/word").body)
    assert.is_false((pcall(http.connect, "unix:" .. dir .. "/a.sock")))
    assert.equal(1, #proxy:status().listeners)
    kept:close()
    unix:close()
  end)

  it("serves those who had connected to an address that goes, also when nobody had accepted them", function()
    local gate = process.temp_dir() .. "/gate"
    local function with(listen, text)
      return policy("fine", ([[limits = { script_time = "20s" }, tokens = { api = { fetch = function()
          while not jeton.file.read(%q) do jeton.sleep(0.02) end
          return { value = %q, expires_in = 60 }
        end } },]]):format(gate, text), listen):gsub("on_request = function%(req%)", [[%0
        if req.path == "/busy" then jeton.log.info "busy" local till = jeton.now() + 1.5 while jeton.now() < till do end end]])
    end
    proxy = jeton.start(with('{ "127.0.0.1:0", ":0" }', "one"))
    local going = proxy:port_of(2)
    proxy:reload_file(with('"127.0.0.1:0"', "two"))
    local reloading = http.connect("unix:" .. proxy.control_path)
    reloading:send "POST /reload?prove=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    socket.sleep(0.3) -- the worker has prepared; its switch comes when the gate opens, while it is busy
    local busy = http.connect(proxy.port)
    busy:send "GET /busy HTTP/1.1\r\nHost: a\r\n\r\n"
    proxy:wait_log "busy"
    process.write_file(gate, "open")
    socket.sleep(0.5)
    local late = http.connect(going)
    late:send "GET /word HTTP/1.1\r\nHost: a\r\n\r\n"
    local res = assert(late:read_response("GET", 10))
    assert.equal("fine", res.body)
    assert.equal(200, reloading:read_response("POST", 10).status)
    for _, c in ipairs { reloading, busy, late } do c:close() end
  end)

  it("under load fails no request", function()
    proxy = jeton.start { policy = policy("w0", "log = { access = false },"), workers = 2 }
    local wrk = process.start { "wrk", "-t1", "-c8", "-d3s", "--timeout", "5s", ("http://127.0.0.1:%d/"):format(proxy.port) }
    local n = 0
    while not wrk:ended() do
      n = n + 1
      proxy:reload_file(policy("w" .. n, "log = { access = false },"))
      assert.equal(200, proxy:control("POST", "/reload").status)
      socket.sleep(0.05)
    end
    assert.is_true(n > 5)
    assert.is_nil(wrk:output():find("Non-2xx", 1, true), wrk:output())
    assert.is_nil(wrk:output():find("Socket errors", 1, true), wrk:output())
    process.poll(function() return word() == "w" .. n end)
  end)

  it("changes the level of the log", function()
    local text = [[log = { level = "LEVEL", access = false }, on_log = function() jeton.log.debug "chatter" end, ]]
    proxy = jeton.start(policy("one", (text:gsub("LEVEL", "info"))))
    word()
    assert.is_nil(proxy:errors():find("chatter", 1, true))
    proxy:reload_file(policy("two", (text:gsub("LEVEL", "debug"))))
    assert.equal(0, (reload()))
    word()
    proxy:wait_log "chatter"
  end)
end)

describe("tokens over a reload", function()
  local w
  before_each(function() w = peers.world() end)
  after_each(function() w:stop() end)

  it("stay, with their generation, also when their settings change", function()
    proxy = jeton.start(peers.policy(w))
    assert.equal(200, http.get(proxy.port).status)
    proxy:reload_file(peers.policy(w, 'wait = "7s", refresh_at = 0.5,'))
    assert.equal(0, (reload()))
    assert.equal(200, http.get(proxy.port).status)
    local token = proxy:status().tokens[1]
    assert.equal(1, token.generation)
    assert.is_true(token.next_attempt_in < 3600 * 0.55, token.next_attempt_in)
    assert.equal(1, w:stats().fetches)
  end)

  it("are wanted by those who wait for them: a fetch under way goes on and counts", function()
    w:order { delay = 800 }
    proxy = jeton.start(peers.policy(w, 'wait = "10s",'))
    local c = http.connect(proxy.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return w:stats().fetches == 1 end)
    proxy:reload_file(peers.policy(w, 'wait = "10s",', 'on_log = function() end,'))
    assert.equal(0, (reload()))
    assert.equal(200, c:read_response("GET").status)
    assert.equal(1, w:stats().fetches)
    assert.equal(200, http.get(proxy.port).status)
    c:close()
  end)

  it("may come and go: a new one is fetched, one that is no longer named is forgotten", function()
    proxy = jeton.start(policy "one")
    proxy:reload_file(peers.policy(w))
    assert.equal(0, (reload()))
    assert.equal(200, http.get(proxy.port).status)
    proxy:reload_file(policy("two", 'timeouts = { drain = "1s" },'))
    assert.equal(0, (reload()))
    assert.same({}, proxy:status().tokens)
    assert.equal("two", word())
  end)

  --- A policy whose token `name` comes from `fetch` (Lua text); requests wait in their hook until the file `gate` is there.
  local function gated(name, fetch, gate, more)
    return ([[local n = 0
      return { listen = "127.0.0.1:0", upstream = %q,
        tokens = { %s = { wait = "10s", backoff = { min = "50ms", max = "100ms" }, fetch = function(ctx) n = n + 1 %s end } },
        on_request = function(req, tokens)
          while req.path == "/open/late" and not jeton.file.read(%q) do jeton.sleep(0.02) end
          req.headers.x = tokens.%s
        end, %s }]]):format(w.upstream_url, name, fetch, gate, name, more or "")
  end
  local function late()
    local c = http.connect(proxy.port)
    c:send "GET /open/late HTTP/1.1\r\nHost: a\r\n\r\n"
    return c
  end
  local function in_hand() return proxy:status().workers[1].requests end

  for name, more in pairs { ["is no limit"] = "timeouts = { drain = 0 },", ["is long"] = "" } do
    it("that are no longer named are there for requests of the old policy, when timeouts.drain " .. name .. ", and are wiped behind the last", function()
      local gate = process.temp_dir() .. "/gate"
      local fetch = "if n < 4 then return nil, 'not yet' end return { value = 'old' .. n, expires_in = 60 }"
      proxy = jeton.start(gated("old", fetch, gate, more))
      local c = late()
      process.poll(function() return in_hand() == 1 end)
      proxy:reload_file(gated("old", fetch, gate, more .. "on_log = function() end,")) -- which has no exchange itself
      assert.equal(0, (reload()))
      proxy:reload_file(gated("new", "return { value = 'new', expires_in = 60 }", gate))
      assert.equal(0, (reload()))
      socket.sleep(1.2) -- it has not been wiped
      process.write_file(gate, "open")
      local res = c:read_response "GET"
      assert.equal(200, res.status, proxy:errors())
      assert.is_truthy(res.body:find("old", 1, true))
      c:close()
      assert.same({ "new" }, { proxy:status().tokens[1].name, proxy:status().tokens[2] })
      local function take(name_)
        proxy:reload_file(gated(name_, "return { value = 'anew', expires_in = 60 }", gate))
        assert.equal(0, (reload()))
      end
      process.poll(function() -- named again it would still be there, had it not been wiped
        socket.sleep(0.3)
        take "old"
        if http.get(proxy.port, "/open").body:find("anew", 1, true) then return true end
        take "new"
      end, 10, "a slot of its own")
    end)
  end

  it("that are no longer named are wiped although reload follows upon reload", function()
    local function take(name, value)
      proxy:reload_file(gated(name, ("return { value = '%s', expires_in = 60 }"):format(value), "/"))
      assert.equal(200, (proxy:control("POST", "/reload")).status)
    end
    proxy = jeton.start(gated("old", "return { value = 'first', expires_in = 60 }", "/"))
    assert.is_truthy(http.get(proxy.port, "/open").body:find("first", 1, true))
    local ends, i = socket.gettime() + 2, 0
    repeat
      i = i + 1
      take("new" .. i % 2, "v")
    until i > 20 and socket.gettime() > ends
    take("old", "second")
    assert.is_truthy(http.get(proxy.port, "/open").body:find("second", 1, true))
  end)

  it("are fetched by the function that they have now: at once, when the last attempt of another one failed", function()
    proxy = jeton.start(policy("one", "tokens = { api = { backoff = { min = '10m', max = '20m' }, fetch = function() return nil, 'a wrong secret' end } },"))
    proxy:wait_log "a wrong secret"
    proxy:reload_file(policy("two", "tokens = { api = { backoff = { min = '10m', max = '20m' }, fetch = function() return { value = 'v', expires_in = 60 } end } },"))
    assert.equal(0, (reload()))
    process.poll(function() return proxy:status().tokens[1].valid end, 5, function() return "a token; log:\n" .. proxy:errors() end)
  end)

  it("are fetched anew when a fetch under way fails whose function was replaced", function()
    proxy = jeton.start(policy("one", "tokens = { api = { timeout = '2s', backoff = { min = '10m', max = '20m' }, fetch = function() jeton.log.info 'stuck' jeton.sleep(100) end } },"))
    proxy:wait_log "stuck"
    proxy:reload_file(policy("two", "tokens = { api = { backoff = { min = '10m', max = '20m' }, fetch = function() return { value = 'v', expires_in = 60 } end } },"))
    assert.equal(0, (reload()))
    process.poll(function() return proxy:status().tokens[1].valid end, 10, function() return "a token; log:\n" .. proxy:errors() end)
    assert.equal(1, proxy:status().tokens[1].failures)
  end)

  it("that are removed while a refresh by hand waits for them end it with 409, not at its limit", function()
    local hasty = "timeouts = { drain = '1s' }," -- the end waits for a fetch under way
    proxy = jeton.start(policy("one", hasty .. "tokens = { api = { fetch = function() jeton.sleep(100) end } },"))
    local c = http.connect("unix:" .. proxy.control_path)
    c:send "POST /refresh/api HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    proxy:reload_file(policy("two", hasty))
    assert.equal(0, (reload()))
    local res = c:read_response("POST", 15)
    assert.equal(409, res.status)
    assert.is_truthy(res.body:find("a reload took its fetch away", 1, true), res.body)
    c:close()
  end)

  it("and families of one name are two: neither is fetched by the function of the other", function()
    local function named(kind, index)
      return ([[-- %s
        return { listen = "127.0.0.1:0", upstream = %q, tokens = { api = { %s leeway = 0,
          fetch = function(ctx) jeton.log.info("%s of " .. tostring(ctx.key)) return { value = "%s-" .. tostring(ctx.key), expires_in = 1 } end } },
        on_request = function(req, tokens) req.headers.x = "<" .. tokens.api%s .. ">" end }]]):format(kind, w.upstream_url .. "/open", kind == "family" and "family = true," or "", kind, kind, index)
    end
    local function sent() return http.get(proxy.port).body:match "<(.-)>" end
    proxy = jeton.start(named("single", ""))
    assert.equal("single-nil", sent())
    for _ = 1, 2 do
      proxy:reload_file(named("family", "['k']"))
      assert.equal(0, (reload()))
      assert.equal("family-k", sent())
      proxy:reload_file(named("single", ""))
      assert.equal(0, (reload()))
      assert.equal("single-nil", sent())
    end
    process.poll(function() return proxy:status().tokens[1].generation > 2 end, 10, "refreshes")
    assert.is_nil(proxy:errors():find("family of nil", 1, true))
    assert.is_nil(proxy:errors():find("single of k", 1, true))
  end)

  it("a broken policy fetches nothing and changes no token", function()
    proxy = jeton.start(peers.policy(w))
    assert.equal(200, http.get(proxy.port).status)
    proxy:reload_file(peers.policy(w, "refresh_at = 7,"))
    assert.equal(78, (reload()))
    assert.equal(200, http.get(proxy.port).status)
    assert.equal(1, w:stats().fetches)
  end)
end)

describe("--prove", function()
  local function with_fetch(word_, body)
    return policy(word_, ("tokens = { api = { version = 1, fetch = function(ctx) jeton.log.info('fetched by %s') %s end } },"):format(word_, body))
  end
  local good = "return { value = 'proof-value', expires_in = 60 }"

  it("refuses a policy whose changed fetch fails, with its reason", function()
    proxy = jeton.start(with_fetch("one", good))
    process.poll(function() return proxy:status().tokens[1].generation == 1 end)
    for name, body in pairs { ["the issuer is on holiday"] = "return nil, 'the issuer is on holiday'", ["no lifetime"] = "return { value = 'v' }", ["on purpose"] = "error 'on purpose'" } do
      proxy:reload_file(with_fetch("two", body))
      local code, _, err = reload "--prove"
      assert.equal(78, code)
      assert.is_truthy(err:find("api", 1, true), err)
      assert.is_truthy(err:find(name, 1, true), err)
      assert.equal("one", word())
    end
    assert.equal(1, proxy:status().tokens[1].generation)
    assert.equal(0, proxy:status().tokens[1].failures)
  end)

  it("takes one whose fetch works, and uses what it brought: nothing is fetched once more", function()
    proxy = jeton.start(with_fetch("one", good))
    process.poll(function() return proxy:status().tokens[1].generation == 1 end)
    proxy:reload_file(with_fetch("two", good))
    local code, _, err = reload "--prove"
    assert.equal(0, code, err)
    assert.equal("two", word())
    proxy:wait_log "fetched by two"
    local token = proxy:status().tokens[1]
    assert.equal(2, token.generation)
    assert.equal(2, token.fetches) -- the first one, and the proof's
    assert.equal(1, select(2, proxy:errors():gsub("fetched by two", "")))
    assert.is_nil(proxy:errors():find("proof-value", 1, true))
  end)

  it("runs no fetch when nothing has changed", function()
    proxy = jeton.start(with_fetch("one", good))
    process.poll(function() return proxy:status().tokens[1].generation == 1 end)
    assert.equal(0, (reload "--prove"))
    assert.equal(1, select(2, proxy:errors():gsub("fetched by one", "")))
  end)
end)

describe("tunnels", function()
  it("go on over reloads", function()
    local raw = peers.raw [[
      c:read "head" c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
      while true do local b = c:read(1) if not b then return c:close() end c:write(b) end ]]
    local text = 'return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", on_log = function() local _ = "%s" end }'
    proxy = jeton.start(text:format(raw.port, "one"))
    local c = http.connect(proxy.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    assert.equal(101, c:read_response("GET").status)
    for i = 1, 3 do
      proxy:reload_file(text:format(raw.port, "word" .. i))
      assert.equal(0, (reload()))
      c:send "ping"
      process.poll(function() return (c:read_all(0.05)) == "ping" end, 5, "the echo")
    end
    c:close()
  end)
end)
