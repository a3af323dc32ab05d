--- What a script does wrong costs its own request only.
local uv = require "luv"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

describe("a script", function()
  local nginx
  setup(function() nginx = peers.nginx [[ location / { return 200 "fine\n"; } ]] end)
  teardown(function() nginx.process:stop() end)

  local function start(hooks)
    return jeton.start(('return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", %s }'):format(nginx.port, hooks))
  end

  local loops = {
    ["a plain loop"] = "while true do end",
    ["a loop that pcall guards"] = "while true do pcall(function() while true do end end) end",
    ["a loop in xpcall's handler"] = "xpcall(error, function() while true do end end, 'x')",
    ["a loop in a coroutine"] = "coroutine.wrap(function() while true do end end)()",
    ["a loop in __close"] = "do local x <close> = setmetatable({}, { __close = function() while true do end end }) end",
    ["a loop in a sort comparator"] = "local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() while true do end end)",
    ["a pattern bomb"] = "local s = ('a'):rep(30000) s:find('.-.-.-.-b')",
    ["a string of 1 GB"] = "local s = ('x'):rep(2^30)",
    ["tables without end"] = "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
    ["error(nil)"] = "error(nil)",
    ["error({})"] = "error({})",
    ["a finalizer"] = "setmetatable({}, { __gc = function() while true do end end })",
    ["an undeclared global"] = "leak = 1",
  }
  for name, code in pairs(loops) do
    it("with " .. name .. " in on_request gets a 500, its neighbours do not", function()
      local p = start(("on_request = function(req) if req.path == '/bad' then %s end end,"):format(code))
      local bad = http.connect(p.port)
      bad:send "GET /bad HTTP/1.1\r\nHost: a\r\n\r\n"
      for _ = 1, 5 do assert.equal("fine\n", http.get(p.port, "/good").body) end
      local res = bad:read_response("GET", 20)
      assert.equal(500, res.status)
      bad:close()
      assert.equal("fine\n", http.get(p.port, "/good").body)
      p:wait_log "policy.lua:1"
      p:finish()
      assert.is_nil(nginx.log():find("/bad", 1, true))
    end)
  end

  it("that loops in on_response gets a 500", function()
    local p = start "on_response = function(res, req) if req.path == '/bad' then while true do end end end,"
    assert.equal(500, http.get(p.port, "/bad").status)
    assert.equal(200, http.get(p.port, "/good").status)
    p:finish()
  end)

  it("that loops in on_error leaves the usual reply", function()
    local p = start "on_request = function(req) if req.path == '/bad' then error 'x' end end, on_error = function() while true do end end,"
    local res = http.get(p.port, "/bad")
    assert.equal(500, res.status)
    assert.matches("^500 Internal Server Error\nrequest ", res.body)
    assert.equal(200, http.get(p.port, "/good").status)
    p:finish()
  end)

  it("that loops in on_start or a task is ended, and the policy serves", function()
    local p = start "on_start = function() while true do end end, tasks = { bad = function() while true do end end },"
    p:wait_log "on_start failed: "
    p:wait_log "task bad failed"
    assert.equal(200, http.get(p.port, "/good").status)
    p:finish()
  end)

  it("that loops or raises in on_log costs nobody anything", function()
    local p = start "on_log = function(entry) if entry.path == '/bad' then while true do end end error('in on_log') end,"
    assert.equal(200, http.get(p.port, "/bad").status)
    assert.equal(200, http.get(p.port, "/good").status)
    p:wait_log "in on_log"
    p:finish()
  end)

  it("that loops in a fetch fails that fetch, and the others go on", function()
    local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      tokens = {
        bad = { fetch = function() while true do end end, wait = "100ms" },
        good = { fetch = function() return { value = "v", expires_in = 60 } end },
      },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. (req.path == "/bad" and tokens.bad or tokens.good) end,
    }]]):format(nginx.port))
    assert.equal(503, http.get(p.port, "/bad").status)
    assert.equal(200, http.get(p.port, "/good").status)
    p:finish()
  end)

  for name, code in pairs {
    ["Content-Length"] = "req.headers['content-length'] = '5'",
    ["Transfer-Encoding"] = "req.headers['transfer-encoding'] = 'chunked'",
    ["Connection"] = "req.headers.connection = 'close'",
    ["a value with CR LF"] = "req.headers.x = 'a\\r\\nb: c'",
    ["a name that is none"] = "req.headers['a b'] = 'x'",
    ["os.execute"] = "os.execute('true')",
    ["io.popen"] = "io.popen('true')",
    ["os.exit"] = "os.exit()",
  } do
    it("that uses " .. name .. " is refused with its line, and nothing goes upstream", function()
      local p = start(("on_request = function(req) %s end,"):format(code))
      assert.equal(500, http.get(p.port, "/refused").status)
      p:wait_log "policy.lua:1"
      p:finish()
      assert.is_nil(nginx.log():find("/refused", 1, true))
    end)
  end

  it("in bytecode is refused", function()
    local dir = process.temp_dir()
    local path = process.write_file(dir .. "/policy.lua", string.dump(load "return {}"))
    local code, _, err = jeton.run { "check", path }
    assert.equal(78, code)
    assert.matches("compiled Lua", err)
  end)
end)

describe("machine code", function()
  it("is not loaded from the folder that jeton was started in, whatever the path for it says", function()
    local dir = process.temp_dir()
    local source = process.write_file(dir .. "/trap.c", '#include <fcntl.h>\n__attribute__((constructor)) static void f(void) { (void)!open("sprung", O_CREAT | O_WRONLY, 0600); }\nint luaopen_cjson(void *L) { (void)L; return 0; }\n')
    local code, _, err = process.run { "gcc", "-shared", "-fPIC", "-o", dir .. "/cjson.so", source }
    assert.equal(0, code, err)
    local policy = process.write_file(dir .. "/policy.lua", 'return { listen = "127.0.0.1:0", upstream = "http://a.example" }')
    code, _, err = jeton.run({ "check", policy }, { cwd = dir, env = { LUA_CPATH = "./?.so;?.so", LUA_CPATH_5_4 = "./?.so" } })
    assert.equal(0, code, err)
    assert.is_nil((uv.fs_stat(dir .. "/sprung")))
  end)
end)
