--- The program's commands as a shell sees them: what they print, where, and how they exit.
local cjson = require "cjson"
local socket = require "socket"
local unix = require "socket.unix"
local uv = require "luv"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local run = jeton.run
local PLAIN = 'return { listen = "127.0.0.1:0", on_request = function(req) req:respond(200, nil, "here\\n") end }'

local function file(text, name) return process.write_file(process.temp_dir() .. "/" .. (name or "policy.lua"), text) end
local function mode(path) return assert(uv.fs_stat(path)).mode & 511 end

--- A process that was asked to stop while a request of the client c hangs in its hook; `more` are further keys of the policy.
local function stopping(more)
  local p = jeton.start(('return { listen = "127.0.0.1:0", %s on_request = function(req) jeton.sleep "1h" end }'):format(more or ""))
  local c = http.connect(p.port)
  c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
  process.poll(function() return p:status().workers[1].requests == 1 end)
  p:kill "sigterm"
  return p, c
end

describe("jeton", function()
  it("without a command prints its usage and exits 64", function()
    local code, out, err = run {}
    assert.equal(64, code)
    assert.equal("", out)
    assert.matches("jeton run POLICY", err)
  end)

  it("--help names every command, and --version the version", function()
    local code, out, err = run { "--help" }
    assert.equal(0, code)
    assert.equal("", err)
    for _, command in ipairs { "run", "check", "demo", "init", "login", "reload", "status", "refresh", "stop" } do assert.matches("jeton " .. command, out) end
    for _, option in ipairs { "--listen", "--workers", "--watch", "--control", "--prove", "--json" } do assert.is_truthy(out:find(option, 1, true), option) end
    for line in out:gmatch "[^\n]+" do assert.is_true(#line <= 120, line) end
    for _, same in ipairs { { "-h" }, { "help" } } do assert.equal(out, select(2, run(same))) end
    code, out = run { "--version" }
    assert.equal(0, code)
    assert.matches("^jeton %d+%.%d+%.%d+\n$", out)
  end)

  it("--help of a command tells its own options, and no other's", function()
    local code, out, err = run { "run", "--help" }
    assert.same({ 0, "" }, { code, err })
    assert.matches("^jeton run POLICY: ", out)
    for _, option in ipairs { "--listen ADDR", "--workers N", "--watch", "--control PATH" } do assert.is_truthy(out:find(option, 1, true), option) end
    assert.is_nil(out:find("--json", 1, true))
    assert.is_nil(out:find("refresh", 1, true))
    assert.equal(out, select(2, run { "help", "run" }))
    assert.matches("%-%-json", (select(2, run { "status", "--help" })))
  end)

  it("suggests only what is near", function()
    for _, word in ipairs { "version", "frobnicate", "help-me" } do assert.is_nil((select(3, run { word })):find "did you mean", word) end
    assert.is_nil((select(3, run { "run", "x", "--port", "80" })):find "did you mean")
  end)

  for line, expected in pairs {
    ["statsu"] = 'unknown command "statsu" (did you mean "status"?)',
    ["frobnicate"] = 'unknown command "frobnicate"',
    ["run x --wrokers 2"] = 'unknown option "--wrokers" (did you mean "--workers"?)',
    ["run"] = "POLICY is missing",
    ["check"] = "POLICY is missing",
    ["refresh"] = "NAME is missing",
    ["run a b"] = "one argument too many: b",
    ["check x --watch"] = "--watch is no option of jeton check",
    ["run x --workers"] = "--workers: N is missing",
    ["run x --workers none"] = 'expected a number from 1 to',
    ["run x --workers 0"] = 'expected a number from 1 to',
    ["run x --workers 257"] = 'expected a number from 1 to 256', -- as the policy's own key
    ["run x --listen localhost"] = 'got "localhost"',
    ["run x --watch=yes"] = "--watch: takes no value",
    ["status --control " .. ("x"):rep(200)] = "--control",
  } do
    it("refuses `" .. line:sub(1, 40) .. "` with 64 and a reason", function()
      local args = {}
      for word in line:gmatch "%S+" do args[#args + 1] = word end
      local code, out, err = run(args)
      assert.equal(64, code)
      assert.equal("", out)
      assert.is_truthy(err:find(expected, 1, true), err)
      assert.matches("^jeton: ", err)
    end)
  end
end)

describe("jeton check", function()
  it("says what is good, without starting anything", function()
    local code, out, err = run { "check", file('return { listen = "127.0.0.1:1", upstream = "http://a.example", tokens = { t = { fetch = function() error "never" end } } }') }
    assert.equal(0, code, err)
    assert.matches("policy.lua: good: 1 listen address, 1 upstream, 1 token\n$", out)
    assert.equal("", err)
  end)

  it("tells all errors together, by line, with key path, what was expected and found, and a suggestion", function()
    local code, out, err = run { "check", file [[
return {
  listen = "localhost:8080",
  upstream = "api.example.com",
  wrokers = 2,
  timeouts = { connect = "5 sec", fisrt_byte = 1 },
  limits = { memory = "64x" },
  log = { level = "loud" },
  tokens = {
    api = {
      fetch = "https://x",
      wait = -1,
    },
  },
  on_request = 5,
}
]] }
    assert.equal(78, code)
    assert.equal("", out)
    for _, part in ipairs {
      "policy.lua:2: listen: expected ", 'policy.lua:3: upstream: expected a URL, got "api.example.com" (did you mean "https://api.example.com"?)',
      'policy.lua:4: wrokers: unknown key (did you mean "workers"?)', 'policy.lua:5: timeouts.connect: expected a duration', 'policy.lua:5: timeouts.fisrt_byte: unknown key (did you mean "first_byte"?)',
      "policy.lua:6: limits.memory: expected a size", "policy.lua:7: log.level: expected ", "policy.lua:10: tokens.api.fetch: expected a function, got ", "policy.lua:11: tokens.api.wait: expected ",
      "policy.lua:14: on_request: expected a function, got ",
    } do assert.is_truthy(err:find(part, 1, true), part .. "\nin\n" .. err) end
    local last = 0
    for line in err:gmatch "policy.lua:(%d+): " do
      assert.is_true(tonumber(line) >= last, "not by line:\n" .. err)
      last = tonumber(line)
    end
  end)

  for name, case in pairs {
    ["a syntax error"] = { "return {\n  listen = ,\n}", "policy.lua:2:" },
    ["an error while it runs"] = { "local t = nil\nlocal x = t.y\nreturn {}", "policy.lua:2:" },
    ["no table"] = { "return 5", "expected the file to return a table" },
    ["nothing"] = { "", "expected the file to return a table" },
    ["neither listen nor upstream"] = { "return {}", "listen" },
    ["a loop"] = { "while true do end", "time budget" },
    ["a module that is not there"] = { "require 'nowhere'", "module 'nowhere' not found" },
  } do
    it("refuses " .. name .. " with 78 and the place", function()
      local code, _, err = run { "check", file(case[1]) }
      assert.equal(78, code)
      assert.is_truthy(err:find(case[2], 1, true), err)
    end)
  end

  it("of a file that cannot be read exits 66", function()
    local code, _, err = run { "check", "/no/such/policy.lua" }
    assert.equal(66, code)
    assert.matches("/no/such/policy.lua: no such file", err:lower())
    assert.equal(66, (run { "run", "/no/such/policy.lua" }))
    for _, command in ipairs { "check", "run", "demo" } do
      code, _, err = run { command, "/tmp" }
      assert.equal(66, code)
      assert.matches("cannot read /tmp: illegal operation on a directory", err)
    end
  end)

  it("finds the shipped scripts beside the binary, wherever that was put", function()
    local dir = process.temp_dir()
    assert(uv.fs_copyfile(jeton.binary, dir .. "/jeton"))
    local policy = file('require "jeton.marker" return { listen = "127.0.0.1:0", upstream = "http://a.example" }')
    local function check() return process.run({ dir .. "/jeton", "check", policy }, { env = { JETON_SCRIPTS = "" } }) end
    local code, _, err = check()
    assert.equal(78, code)
    assert.matches("module 'jeton.marker' not found %(jeton.jwt and jeton.oauth2 come with jeton%): no file", err)
    assert(uv.fs_mkdir(dir .. "/scripts", 448))
    assert(uv.fs_mkdir(dir .. "/scripts/jeton", 448))
    process.write_file(dir .. "/scripts/jeton/marker.lua", "return {}")
    code, _, err = check()
    assert.equal(0, code, err)
  end)

  it("does not fill the screen with a token that was pasted in", function()
    local _, _, err = run { "check", file 'return { listen = "127.0.0.1:0", upstream = "http://a", tokens = { api = "pasted-s3cret" } }' }
    assert.is_nil(err:find("pasted-s3cret", 1, true), err)
  end)
end)

describe("jeton init", function()
  it("writes a policy that lacks nothing but its secret's file, and overwrites nothing", function()
    local dir, _ = process.temp_dir()
    local code, out, err = run({ "init" }, { cwd = dir })
    assert.equal(0, code, err)
    assert.matches("wrote policy.lua", out)
    local text = process.read_file(dir .. "/policy.lua")
    assert.is_true(#text > 200)
    code, _, err = run { "check", dir .. "/policy.lua" }
    assert.equal(78, code)
    assert.matches("policy.lua:%d+: jeton.secret.file: /run/secrets/my%-client: no such file or directory\n$", err)
    process.write_file(dir .. "/edited.lua", (text:gsub("/run/secrets/my%-client", process.write_file(dir .. "/secret", "s"))))
    code, out, err = run { "check", dir .. "/edited.lua" }
    assert.equal(0, code, out .. err)
    code, _, err = run({ "init" }, { cwd = dir })
    assert.equal(73, code)
    assert.matches("cannot create policy.lua: file already exists %(jeton init FILE takes another name%)", err)
    assert.equal(text, process.read_file(dir .. "/policy.lua"))
    assert.equal(0, (run { "init", dir .. "/other.lua" }))
    assert.equal(text, process.read_file(dir .. "/other.lua"))
    assert.equal(73, (run { "init", dir .. "/no/such/dir/policy.lua" }))
  end)

  it("--for writes the policy for a login, which lacks nothing but its secrets", function()
    local dir = process.temp_dir()
    local certificates = peers.certificates()
    local secret = process.write_file(dir .. "/secret", process.read_file(certificates .. "/rsa.key"))
    local _, listing = process.run { "ls", "scripts/starters" }
    for name in listing:gmatch "([%w-]+)%.lua" do
      local code, _, err = run { "init", "--for", name, dir .. "/" .. name .. ".lua" }
      assert.equal(0, code, name .. err)
      local text = process.read_file(dir .. "/" .. name .. ".lua"):gsub('"/run/secrets/[^"]+"', ("%q"):format(secret)):gsub('"/var/run/secrets/[^"]+/ca%.crt"', ("%q"):format(certificates .. "/ca.pem"))
      local checked, out, wrong = run { "check", process.write_file(dir .. "/edited.lua", text) }
      assert.equal(0, checked, name .. ": " .. out .. wrong)
    end
    local code, _, err = run { "init", "--for", "gitlab", dir .. "/x.lua" }
    assert.equal(64, code)
    assert.matches('^jeton: %-%-for: there is no policy for "gitlab" to begin with; there are .*azure.*oauth2', err)
    assert.equal(64, (run { "init", "--for", "../jeton/jwt", dir .. "/x.lua" }))
    assert.equal(64, (run { "init", "--for", "", dir .. "/x.lua" }))
    assert.is_nil(io.open(dir .. "/x.lua"))
    code, _, err = run({ "init", dir .. "/x.lua" }, { env = { JETON_SCRIPTS = dir } })
    assert.equal(66, code)
    assert.matches("the policies that init writes are not in .* %(JETON_SCRIPTS says where else%)", err)
  end)
end)

describe("jeton run", function()
  it("listens where --listen says instead, several times, IPv4, IPv6 and a Unix socket", function()
    local path = process.temp_dir() .. "/own.sock"
    local p = jeton.start { policy = 'return { listen = "127.0.0.1:1", on_request = function(req) req:respond(200, nil, "here\\n") end }', args = { "--listen", "127.0.0.1:0", "--listen=[::1]:0", "--listen", "unix:" .. path } }
    assert.equal("here\n", http.get(p.port).body)
    assert.equal("here\n", http.get("[::1]:" .. p:port_of(2)).body)
    assert.equal("here\n", http.get("unix:" .. path).body)
    assert.equal(3, #p:status().listeners)
    p:finish()
    assert.is_nil((uv.fs_stat(path)))
  end)

  it("runs as many workers as --workers says", function()
    local p = jeton.start { policy = PLAIN, workers = 3 }
    assert.equal(3, #p:status().workers)
    p:finish()
  end)

  it("refuses a broken policy with 78 before it listens", function()
    local code, _, err = run { "run", file "return { listen = 5 }", "--control", process.temp_dir() .. "/c.sock" }
    assert.equal(78, code)
    assert.matches("policy.lua:1: listen", err)
  end)

  it("exits 69 when its address is taken, and names it", function()
    local taken = peers.raw "c:close()"
    local dir = process.temp_dir()
    local code, _, err = run { "run", file(PLAIN), "--listen", "127.0.0.1:" .. taken.port, "--control", dir .. "/c.sock" }
    assert.equal(69, code)
    assert.matches("cannot listen on 127.0.0.1:" .. taken.port .. ": address already in use", err)
    assert.matches("jeton cannot start\n$", err)
    assert.is_nil((uv.fs_stat(dir .. "/c.sock")))
  end)

  it("tells the service manager when it serves, and when it ends", function()
    local path = process.temp_dir() .. "/notify"
    local manager = assert(unix.dgram())
    assert(manager:bind(path))
    manager:settimeout(0)
    local function told()
      return process.poll(function() return (manager:receive()) end, 5, "a word from jeton")
    end
    local p = jeton.start { policy = PLAIN, env = { NOTIFY_SOCKET = path } }
    assert.equal("READY=1", told())
    p:kill "sigterm"
    assert.equal("STOPPING=1", told())
    assert.same({ 0, 0 }, { p:wait(10) })
    manager:close()
    for _, nobody in ipairs { path .. ".gone", "@", "relative", "/" .. ("x"):rep(300) } do
      jeton.start({ policy = PLAIN, env = { NOTIFY_SOCKET = nobody } }):finish()
    end
  end)

  it("exits 73 when there is a file where its sockets should be, or no folder, and leaves the file alone", function()
    local dir = process.temp_dir()
    local path = process.write_file(dir .. "/notes", "mine")
    local code, _, err = run { "run", file(PLAIN), "--control", path }
    assert.equal(73, code)
    assert.is_truthy(err:find("cannot open the control socket " .. path .. ": file already exists; --control takes another path", 1, true), err)
    code, _, err = run { "run", file(PLAIN), "--control", dir .. "/none/c.sock" }
    assert.equal(73, code)
    assert.matches("no such file or directory; %-%-control", err)
    code, _, err = run { "run", file(PLAIN), "--listen", "unix:" .. path, "--control", dir .. "/c.sock" }
    assert.equal(73, code)
    assert.is_truthy(err:find("cannot listen on unix:" .. path .. ": file already exists", 1, true), err)
    assert.equal("mine", process.read_file(path))
  end)

  it("serves, drains and exits 0 when standard input, output and error were closed", function()
    for _, closed in ipairs { "<&-", ">&-", "2>&-", "<&- >&- 2>&-" } do
      local control = process.temp_dir() .. "/c.sock"
      local p = process.start({ "sh", "-c", 'exec "$0" "$@" ' .. closed, jeton.binary, "run", file(PLAIN), "--workers", "1", "--control", control }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
      local status
      process.poll(function()
        local there, res = pcall(http.request, "unix:" .. control, "GET", "/status")
        status = there and res and cjson.decode(res.body)
        return status and #status.listeners == 1
      end, 20, closed)
      for _ = 1, 20 do assert.equal("here\n", http.get(tonumber(status.listeners[1]:match ":(%d+)$")).body) end
      assert.equal(0, (run { "stop", "--control", control }), closed)
      assert.same({ 0, 0 }, { p:wait(10) }, closed)
    end
  end)

  it("exits 0 on SIGTERM and on SIGINT, and removes its sockets", function()
    for _, signal in ipairs { "sigterm", "sigint" } do
      local p = jeton.start(PLAIN)
      p:kill(signal)
      assert.same({ 0, 0 }, { p:wait(10) })
      assert.is_nil((uv.fs_stat(p.control_path)))
      p:wait_log "draining"
    end
  end)

  it("drains: what is under way ends, new connections are refused, and then it exits 0", function()
    local p = jeton.start 'return { listen = "127.0.0.1:0", on_request = function(req) jeton.sleep "500ms" req:respond(200, nil, "done") end }'
    local c = http.connect(p.port)
    c:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return p:status().workers[1].requests == 1 end)
    p:kill "sigterm"
    process.poll(function() return not pcall(http.connect, p.port) end, 5, "the listener to close")
    local res = c:read_response "GET"
    assert.equal("done", res.body)
    assert.equal("close", res.headers.connection)
    assert.equal(0, (p:wait(5)))
  end)

  it("gives up what does not end within timeouts.drain, and exits 0", function()
    local p, c = stopping 'timeouts = { drain = "300ms" },'
    assert.equal(0, (p:wait(5)))
    p:wait_log "the drain has reached its limit"
    c:close()
  end)

  it("ends at once on a second SIGTERM", function()
    local p, c = stopping()
    p:wait_log "draining"
    local t0 = socket.gettime()
    p:kill "sigterm"
    assert.equal(128 + 15, (p:wait(5)))
    assert.is_true(socket.gettime() - t0 < 2)
    c:close()
  end)
end)

describe("who reads standard output or standard error, and stops", function()
  for stream, line in pairs { [">"] = "", ["2>"] = 'jeton.log.info(("x"):rep(900))' } do
    it("holds up no request: " .. stream, function()
      local dir = process.temp_dir()
      assert.equal(0, (process.run { "mkfifo", dir .. "/pipe" }))
      process.start { "sh", "-c", 'exec sleep 600 <"$0"', dir .. "/pipe" }
      local policy = file('return { listen = "unix:' .. dir .. '/own.sock", on_request = function(req) ' .. line .. ' req:respond(200, nil, "here\\n") end }')
      local p = process.start({ "sh", "-c", 'pipe=$1; shift; exec "$0" "$@" ' .. stream .. '"$pipe"', jeton.binary, dir .. "/pipe", "run", policy, "--workers", "1", "--control", dir .. "/c.sock" },
        { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
      process.poll(function() return (pcall(http.connect, "unix:" .. dir .. "/own.sock")) end, 20)
      local c = http.connect("unix:" .. dir .. "/own.sock")
      for i = 1, 400 do -- a pipe takes 64 KiB, and the access log gathers as much
        c:send("GET /" .. ("x"):rep(500) .. " HTTP/1.1\r\nHost: a\r\n\r\n")
        local res = c:read_response "GET"
        assert.equal(200, res and res.status, "request " .. i)
      end
      c:close()
      assert.equal(0, (run { "stop", "--control", dir .. "/c.sock" }))
      assert.same({ 0, 0 }, { p:wait(10) })
    end)
  end
end)

describe("the control socket", function()
  local p
  before_each(function() p = jeton.start(PLAIN) end)
  after_each(function() p:finish() end)

  it("is for its owner alone", function() assert.equal(tonumber("600", 8), mode(p.control_path)) end)

  it("answers curl", function()
    local function curl(path, ...)
      local code, out, err = peers.curl("--unix-socket", p.control_path, "-w", "\n%{http_code} %{content_type}", "http://jeton" .. path, ...)
      assert.equal(0, code, err)
      local body, status, kind = out:match "^(.*)\n(%d+) ([^\n]*)$"
      return tonumber(status), body, kind
    end
    local status, body, kind = curl "/health"
    assert.same({ 200, "application/json" }, { status, kind })
    assert.same({ ready = true }, cjson.decode(body))
    status, body = curl "/status"
    assert.equal(200, status)
    assert.equal(p.pid, cjson.decode(body).pid)
    status, body = curl("/reload", "-X", "POST")
    assert.equal(200, status)
    assert.same({ ok = true, policy = 2, warnings = "" }, cjson.decode(body))
    p:reload_file "return {"
    status, body = curl("/reload", "-X", "POST")
    assert.equal(422, status)
    assert.is_false(cjson.decode(body).ok)
    assert.matches("policy.lua:1", cjson.decode(body).error)
    status, body, kind = curl "/status?format=text"
    assert.same({ 200, "text/plain; charset=utf-8" }, { status, kind })
    assert.matches("the last reload was refused", body)
    status, body = curl("/refresh/none", "-X", "POST")
    assert.equal(404, status)
    assert.is_false(cjson.decode(body).ok)
    assert.equal(405, (curl "/reload"))
    assert.equal(404, (curl "/elsewhere"))
    assert.equal(422, (curl("/reload", "-X", "POST", "--data-binary", ("x"):rep(1000))))
  end)

  it("belongs to one process: a second one there exits 69 and harms nothing", function()
    local code, _, err = run { "run", file(PLAIN), "--control", p.control_path }
    assert.equal(69, code)
    assert.matches("another jeton", err)
    assert.is_truthy(err:find(p.control_path, 1, true))
    assert.equal(p.pid, p:status().pid)
    assert.equal("here\n", http.get(p.port).body)
  end)

  it("survives nonsense and slow clients", function()
    assert.matches("^HTTP/1.1 400", (http.raw("unix:" .. p.control_path, "nonsense\r\n\r\n")))
    local slow = http.connect("unix:" .. p.control_path)
    slow:send "GET /sta"
    assert.equal(p.pid, p:status().pid)
    slow:close()
  end)
end)

describe("GET /metrics", function()
  --- { [series] = number }, of a text that keeps the rules of the format: each metric described once, in front of its series, and no series twice.
  local function parse(text)
    local series, types, current = {}, {}, nil
    for line in text:gmatch "([^\n]*)\n" do
      local name, kind = line:match "^# TYPE ([%w_]+) (%w+)$"
      if name then
        assert.is_nil(types[name], line)
        assert.is_true(kind == "gauge" or kind == "counter", line)
        assert.equal(kind == "counter", name:match "_total$" ~= nil, line)
        types[name], current = kind, name
      elseif not line:find "^# HELP jeton_[%w_]+ %u.*%.$" then
        local of, labels, value = line:match "^([%w_]+)(%b{}) ([%d.]+)$"
        if not of then of, value = line:match "^([%w_]+) ([%d.]+)$" end
        assert.equal(current, of, line)
        assert.is_nil(series[of .. (labels or "")], line)
        series[of .. (labels or "")] = tonumber(value)
      end
    end
    return series
  end

  it("tells in Prometheus's format what status tells, also through a listener, and names no key of a family", function()
    local w = peers.world()
    local dir = process.temp_dir()
    local p = jeton.start { policy = ([[
local store = jeton.shared "seen"
return { listen = "127.0.0.1:0", upstream = %q, upstreams = { jeton = "unix:%s" },
  tokens = {
    api = { fetch = function()
      local body = jeton.http.post(%q, { form = { grant_type = "client_credentials" } }):json()
      return { value = body.access_token, expires_in = body.expires_in }
    end },
    tenant = { family = true, fetch = function(ctx)
      if ctx.key == "bad" then return nil, "no" end
      return { value = "value-of-" .. ctx.key, expires_in = 60 }
    end, wait = "100ms", hosts = { "http://127.0.0.1" } },
  },
  on_request = function(req, tokens)
    if req.path == "/metrics" then req.upstream = "jeton" return end
    store:set("a", "b")
    if req.query then req.headers["x-tenant"] = tokens.tenant[req.query] end
    req.headers.authorization = "Bearer " .. tokens.api
  end }]]):format(w.upstream_url, dir .. "/c.sock", w.token_url), args = { "--control", dir .. "/c.sock" } }
    p.control_path = dir .. "/c.sock"
    assert.equal(200, http.get(p.port).status)
    assert.equal(503, http.get(p.port, "/?bad").status)
    local res = http.get(p.port, "/metrics")
    assert.equal(200, res.status)
    assert.equal("text/plain; version=0.0.4; charset=utf-8", res.headers["content-type"])
    local all = parse(res.body)
    for name, value in pairs {
      jeton_workers = 1, jeton_requests_total = 3, jeton_policy_number = 1, jeton_reloads_total = 0, jeton_stopping = 0, jeton_reload_refused = 0,
      ['jeton_responses_total{class="2xx"}'] = 1, ['jeton_responses_total{class="5xx"}'] = 1, ['jeton_token_valid{token="api"}'] = 1,
      ['jeton_token_generation{token="api"}'] = 1, ['jeton_token_fetches_total{token="api"}'] = 1, ['jeton_token_failures_total{token="api"}'] = 0,
      ['jeton_family_keys{token="tenant"}'] = 1, ['jeton_family_keys_failing{token="tenant"}'] = 1, ['jeton_shared_entries{store="seen"}'] = 1,
    } do assert.equal(value, all[name], name) end
    local life = all['jeton_token_expires_in_seconds{token="api"}']
    assert.is_true(life > 0 and life <= 3600)
    assert.is_nil(res.body:find("bad", 1, true))
    for name in pairs(p:status().workers[1]) do
      if name ~= "index" and name ~= "responses" then assert.is_truthy(all["jeton_" .. name] or all["jeton_" .. name .. "_total"], name) end
    end
    p:reload_file "return {"
    assert.equal(78, (run { "reload", "--control", dir .. "/c.sock" }))
    assert.equal(1, parse(http.get(p.port, "/metrics").body).jeton_reload_refused)
    p:finish()
    w:stop()
  end)
end)

describe("a control socket that was left behind", function()
  it("by a process that was killed is replaced", function()
    local p = jeton.start(PLAIN)
    p:kill "sigkill"
    p:wait()
    assert.is_truthy((uv.fs_stat(p.control_path)))
    local again = process.start({ jeton.binary, "run", p.policy, "--control", p.control_path, "--workers", "1" }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
    process.poll(function() return again:errors():find("ready", 1, true) end, 5, function() return again:errors() end)
    again:kill "sigterm"
    assert.equal(0, (again:wait()))
  end)
end)

describe("the commands of a running jeton", function()
  it("exit 69 and say so when nobody answers", function()
    local dir = process.temp_dir()
    for _, command in ipairs { "status", "reload", "stop" } do
      local code, out, err = run { command, "--control", dir .. "/none.sock" }
      assert.equal(69, code)
      assert.equal("", out)
      assert.matches("is jeton running%?", err)
      assert.is_truthy(err:find(dir .. "/none.sock", 1, true))
    end
    assert.equal(69, (run { "refresh", "api", "--control", dir .. "/none.sock" }))
  end)

  it("status prints lines for people and JSON for programs", function()
    local w = peers.world()
    local p = jeton.start(peers.policy(w))
    assert.equal(200, http.get(p.port).status)
    local code, out, err = run { "status", "--control", p.control_path }
    assert.equal(0, code, err)
    assert.equal("", err)
    for _, part in ipairs {
      "jeton      %d+%.%d+%.%d+, pid " .. p.pid, "policy     .*policy.lua, number 1; 0 reloads, 0 refused", "listening  http://127.0.0.1:" .. p.port, "upstream   default: " .. w.upstream_url,
      "workers    1; ", "1 requests", "api +valid +generation 1, expires in %d+ s, next fetch in %d+ s; 1 fetches, 0 failed, 0 rejected",
    } do assert.matches(part, out) end
    code, out = run { "status", "--json", "--control", p.control_path }
    assert.equal(0, code)
    local all = cjson.decode(out)
    assert.equal("api", all.tokens[1].name)
    assert.equal(1, all.workers[1].requests)
    assert.equal(1, all.workers[1].responses["2xx"])
    p:finish()
    w:stop()
  end)

  it("status shows twenty keys of a family, those that fail beside them, and how many more there are", function()
    local p = jeton.start [[return { listen = "127.0.0.1:0", tokens = { tenant = { family = true, hosts = { "a.example" }, wait = "10ms", fetch = function(ctx)
        if ctx.key == "bad" then return nil, "no such tenant" end
        return { value = "x", expires_in = 600 }
      end } },
      on_request = function(req, tokens) req:respond(200, nil, tostring(tokens.tenant[req.query]:refresh())) end }]]
    for i = 1, 50 do assert.equal(200, http.get(p.port, "/?key" .. i).status) end
    assert.equal(200, http.get(p.port, "/?bad").status)
    local _, out = run { "status", "--control", p.control_path }
    assert.equal(20, select(2, out:gsub("tenant%[key%d+%] +valid ", "")), out)
    assert.matches("tenant%[bad%] +failing ", out)
    assert.matches("  tenant: 30 more keys; %-%-json has them all\n$", out)
    assert.equal(51, #p:status().tokens)
    p:finish()
  end)

  it("refresh fetches now, tells what happened, and knows the names", function()
    local w = peers.world()
    local p = jeton.start(peers.policy(w))
    assert.equal(200, http.get(p.port).status)
    local _
    local code, out, err = run { "refresh", "api", "--control", p.control_path }
    assert.equal(0, code, err)
    assert.matches("^token api: generation 2, expires in %d+ s\n$", out)
    assert.equal(2, w:stats().fetches)
    w:order { mode = "500" }
    code, out, err = run { "refresh", "api", "--control", p.control_path }
    assert.equal(70, code)
    assert.equal("", out)
    assert.matches("token api: .*500", err)
    assert.equal(200, http.get(p.port).status) -- the token at hand still serves
    code, _, err = run { "refresh", "apo", "--control", p.control_path }
    assert.equal(64, code)
    assert.matches('there is no token "apo" %(did you mean "api"%?%)', err)
    p:finish()
    w:stop()
  end)

  it("reload exits 69, and not as if the policy were at fault, while the process is ending", function()
    local p, c = stopping()
    p:wait_log "draining"
    local code, _, err = run { "reload", "--control", p.control_path }
    assert.equal(69, code)
    assert.matches("the process is stopping", err)
    p:kill "sigterm"
    assert.equal(128 + 15, (p:wait(10)))
    c:close()
  end)

  it("stop drains, and returns when the process has gone", function()
    local p = jeton.start(PLAIN)
    local code, out, err = run { "stop", "--control", p.control_path }
    assert.equal(0, code, err)
    assert.matches("stopped\n$", out)
    assert.equal(0, (p:wait(5)))
  end)

  it("find the default control socket through XDG_RUNTIME_DIR", function()
    local dir = process.temp_dir()
    local env = { XDG_RUNTIME_DIR = dir, JETON_SCRIPTS = jeton.root .. "/scripts" }
    local p = process.start({ jeton.binary, "run", file(PLAIN), "--workers", "1" }, { env = env })
    process.poll(function() return p:errors():find("ready", 1, true) end, 5, function() return p:errors() end)
    assert.equal(tonumber("600", 8), mode(dir .. "/jeton.sock"))
    assert.equal(0, (run({ "status" }, { env = env })))
    assert.equal(0, (run({ "stop" }, { env = env })))
    assert.equal(0, (p:wait(5)))
  end)
end)

describe("jeton demo", function()
  it("needs nothing, prints a line to try, and that line works, before and after a refresh", function()
    local dir = process.temp_dir()
    local p = process.start({ jeton.binary, "demo", "--listen", "127.0.0.1:0", "--control", dir .. "/demo.sock" }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
    process.poll(function() return p:ended() or p:output():find "curl %-i %S+" end, 10, function() return p:errors() end)
    local url = p:output():match "curl %-i (%S+)"
    assert.is_truthy(url, p:errors())
    local command = p:output():match "\n +(%S+ status %-%-control %S+)\n"
    assert.matches("api +valid", (select(2, process.run({ "sh", "-c", command }))), p:output())
    local code, out, err = peers.curl("-i", url)
    assert.equal(0, code, err)
    assert.matches("^HTTP/1.1 200", out)
    assert.matches("[Xx]%-[Tt]oken: token<api generation 1, expires in %d+ s>", out)
    code, out, err = run { "refresh", "api", "--control", dir .. "/demo.sock" } -- ten seconds are long for a spec
    assert.equal(0, code, out .. err)
    assert.matches("generation 2", (select(2, peers.curl("-i", url))))
    p:kill "sigint"
    assert.equal(0, (p:wait(10)))
  end)

  it("runs a policy of the user's between its servers, with visitors, and the issuer is as slow as the policy asks", function()
    local dir = process.temp_dir()
    local path = process.write_file(dir .. "/policy.lua", [[
return {
  listen = "127.0.0.1:0", upstream = jeton.env.JETON_DEMO_UPSTREAM,
  tokens = { api = { wait = "5s", refresh_at = "500ms", fetch = function()
    local begun = jeton.now()
    local body = jeton.http.post(jeton.env.JETON_DEMO_ISSUER .. "/token?life=2s&delay=300ms", { form = { a = "b" } }):json()
    jeton.log.info(("life %g, in time %s"):format(body.expires_in, jeton.now() - begun >= 0.299))
    return { value = body.access_token, expires_in = body.expires_in }
  end } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
}]])
    local p = process.start({ jeton.binary, "demo", path, "--listen", "127.0.0.1:0", "--control", dir .. "/demo.sock" }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
    process.poll(function() return p:ended() or p:output():find "visitors:.-visitors: .-\n" end, 25, function() return p:errors() end)
    assert.matches("life 2, in time true", p:errors())
    local n, within, refused, failed = p:output():match "visitors: +(%d+) requests; .- all within ([%d.]+) ms; (%d+) refused by the upstream, (%d+) failed\n$"
    assert.same({ "0", "0" }, { refused, failed }, p:output() .. p:errors())
    assert.is_true(tonumber(n) > 100 and tonumber(within) > 0, p:output())
    assert.is_nil(p:output():find("GET /visit", 1, true)) -- 200 lines a second would leave nothing else to be seen
    p:kill "sigint"
    assert.equal(0, (p:wait(10)))
  end)

  it("says that a policy is not there", function()
    local code, _, err = run { "demo", "/nowhere.lua" }
    assert.equal(66, code)
    assert.matches("cannot read /nowhere.lua", err)
  end)
end)
