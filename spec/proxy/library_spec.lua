--- The jeton library as scripts find it, in the real program.
local cjson = require "cjson"
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local labs = require "spec.support.lab"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local lab, echo, dir

setup(function()
  dir = process.temp_dir()
  echo = peers.world()
  process.write_file(dir .. "/secret", "first-secret\n")
  lab = labs.start("", { env = { SPEC_VALUE = "from the environment", SPEC_SECRET = "env-s3cret" } })
end)
teardown(function()
  lab:finish()
  echo:stop()
end)

--- What the echo saw, as seen by a script whose `res` it is: { method, url, body, headers = { lower-case name = value } }.
local function seen(body)
  local all = cjson.decode(body)
  local headers = {}
  for i = 1, #all.headers, 2 do headers[all.headers[i]:lower()] = all.headers[i + 1] end
  all.headers = headers
  return all
end

--- The echo's view of jeton.http.METHOD(echo, OPTIONS).
local function call(method, options)
  local body, message = lab:run(("local res, message = jeton.http.%s(%q, %s) return res and res.body, message"):format(method, echo.upstream_url .. "/open", options or "nil"))
  assert.is_truthy(body, message)
  return seen(body)
end

describe("jeton.http", function()
  it("speaks every method", function()
    for _, method in ipairs { "get", "post", "put", "patch", "delete" } do assert.equal(method:upper(), call(method).method) end
    assert.same({ 200, "" }, { lab:run(("local r = assert(jeton.http.head(%q)) return r.status, r.body"):format(echo.upstream_url .. "/open")) })
    local body = lab:run(("return assert(jeton.http.request { url = %q, method = 'options' }).body"):format(echo.upstream_url .. "/open/x?y=1"))
    assert.equal("OPTIONS", seen(body).method)
    assert.equal("/open/x?y=1", seen(body).url)
  end)

  it("writes forms, JSON, plain bodies and headers", function()
    local got = call("post", "{ form = { ['a b'] = 'c&d=é', n = 5, yes = true, list = { 'x', 'y' } } }")
    assert.equal("application/x-www-form-urlencoded", got.headers["content-type"])
    local pairs_of = {}
    for pair in got.body:gmatch "[^&]+" do pairs_of[#pairs_of + 1] = pair end
    table.sort(pairs_of)
    assert.same({ "a+b=c%26d%3D%C3%A9", "list=x", "list=y", "n=5", "yes=true" }, pairs_of)
    got = call("put", "{ json = { a = { 1, 2 }, b = jeton.json.null, c = jeton.json.array {} } }")
    assert.equal("application/json", got.headers["content-type"])
    assert.same({ a = { 1, 2 }, b = cjson.null, c = {} }, cjson.decode(got.body))
    got = call("patch", "{ body = 'a\\0b', headers = { ['Content-Type'] = 'application/x', ['X-N'] = 5, accept = { 'a/b', 'c/d' }, host = 'other.example' } }")
    assert.equal("a\0b", got.body)
    assert.equal("application/x", got.headers["content-type"])
    assert.equal("5", got.headers["x-n"])
    assert.equal("other.example", got.headers.host)
    assert.matches("^jeton/", got.headers["user-agent"])
    assert.equal("3", got.headers["content-length"])
  end)

  it("writes a query behind the URL's own, in one order", function()
    local function url(path, query)
      return seen(lab:run(("return assert(jeton.http.get(%q, { query = %s })).body"):format(echo.upstream_url .. path, query))).url
    end
    assert.equal("/open?a=1&b=x%20y%2Bz%26&list=1&list=2&yes=true", url("/open", "{ yes = true, list = { 1, 2 }, b = 'x y+z&', a = 1 }"))
    assert.equal("/open?z=0&a=1", url("/open?z=0", "{ a = 1 }"))
    assert.equal("/open?z=0", url("/open?z=0", "{}"))
    assert.equal("/open", url("/open", "{}"))
    assert.equal("/open?a=", url("/open", "{ a = '' }"))
    assert.equal("/open?a=1", url("/open?", "{ a = 1 }"))
  end)

  it("takes secrets in a query, and shows them nowhere", function()
    local function ask(url, options) return lab:run(("local res, message, code = jeton.http.get(%q, %s) return res and res.body, message, code"):format(url, options)) end
    local key = "query = { key = jeton.secret.value 'q s3cret&', a = 1 }"
    assert.equal("/open?z=0&a=1&key=q%20s3cret%26", seen(ask(echo.upstream_url .. "/open?z=0", "{ " .. key .. " }")).url)
    assert.same({ nil, ("GET http://127.0.0.1:%d: connection refused"):format(1), "ECONNREFUSED" }, { ask("http://127.0.0.1:1/", "{ " .. key .. " }") })
    local other = peers.raw [[ c:read "head" c:write "HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n" ]]
    local _, _, code = ask(("http://127.0.0.1:%d/"):format(other.port), "{ redirects = 1, " .. key .. " }")
    assert.equal("TOKEN_AUDIENCE", code)
    local own = peers.raw [[ local head = c:read "head" c:write "HTTP/1.1 302 Found\r\nLocation: /next?b=2\r\nContent-Length: 0\r\n\r\n" c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" ]]
    ask(("http://127.0.0.1:%d/"):format(own.port), "{ redirects = 1, " .. key .. " }")
    assert.matches("GET /next%?b=2 HTTP", own.received())
    assert.is_nil(lab:errors():find("s3cret", 1, true))
  end)

  it("takes secrets in headers, forms, JSON, bodies and basic authentication", function()
    local got = call("post", "{ headers = { authorization = 'Bearer ' .. jeton.secret.value 'h-s3cret' }, form = { password = jeton.secret.value 'p s&' } }")
    assert.equal("Bearer h-s3cret", got.headers.authorization)
    assert.equal("password=p+s%26", got.body)
    got = call("post", "{ json = { password = jeton.secret.value 'quote\"\\n' } }")
    assert.same({ password = 'quote"\n' }, cjson.decode(got.body))
    got = call("post", "{ body = '<' .. jeton.secret.value 'b' .. '>', auth = { 'user', jeton.secret.value 'pass' } }")
    assert.equal("<b>", got.body)
    assert.equal("Basic dXNlcjpwYXNz", got.headers.authorization)
    got = call("get", "{ auth = { 'a:b', 'c d', form = true } }")
    assert.equal("Basic " .. require "mime".b64 "a%3Ab:c+d", got.headers.authorization)
  end)

  it("gives status, headers and decoded JSON", function()
    local raw = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 201 Made\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 8\r\n\r\n{\"n\": 1}" end ]]
    local url = ("http://127.0.0.1:%d/"):format(raw.port)
    local status, one, all, json, order = lab:run(([[
      local r = assert(jeton.http.get(%q))
      local order = {}
      for name, value in pairs(r.headers) do order[#order + 1] = name .. "=" .. value end
      return r.status, r.headers["X-A"], r.headers:all "X-a", r:json(), order]]):format(url))
    assert.equal(201, status)
    assert.equal("1", one)
    assert.same({ "1", "2" }, all)
    assert.same({ n = 1 }, json)
    assert.same({ "x-a=1", "x-a=2", "content-length=8" }, order)
  end)

  it("says why JSON cannot be read", function()
    local nginx = peers.nginx [[ location / { return 200 "<html>"; } ]]
    local value, message, code = lab:run(("return assert(jeton.http.get 'http://127.0.0.1:%d/'):json()"):format(nginx.port))
    assert.is_nil(value)
    assert.is_string(message)
    assert.is_string(code)
  end)

  it("gives nil, a message and a code when nobody answers, when it takes too long, when it is too much, when it is not HTTP", function()
    local free = peers.raw "c:close()"
    free.process:stop()
    local value, message, code = lab:run(("return jeton.http.get 'http://127.0.0.1:%d/'"):format(free.port))
    assert.is_nil(value)
    assert.matches("connection refused", message)
    assert.equal("ECONNREFUSED", code)
    local silent = peers.raw [[ c:read "head" c:sleep(60000) ]]
    local t0 = socket.gettime()
    value, message, code = lab:run(("return jeton.http.get('http://127.0.0.1:%d/', { timeout = '200ms' })"):format(silent.port))
    assert.is_nil(value)
    assert.is_string(message)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(socket.gettime() - t0 < 3)
    local large = peers.raw [[ c:read "head" c:write("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" .. ("x"):rep(2000)) c:sleep(60000) ]]
    value, message, code = lab:run(("return jeton.http.get('http://127.0.0.1:%d/', { limits = { body = 1000 } })"):format(large.port))
    assert.is_nil(value)
    assert.is_string(message)
    assert.equal("LIMIT", code)
    for _, framing in ipairs { "Content-Length: 2000", "Transfer-Encoding: chunked" } do
      local cut = peers.raw(([[ c:read "head" c:write("HTTP/1.1 200 OK\r\n%s\r\n\r\n5\r\nhello") c:close() ]]):format(framing))
      value, message, code = lab:run(("return jeton.http.get('http://127.0.0.1:%d/')"):format(cut.port))
      assert.is_string(message)
      assert.is_nil(value)
      assert.equal("TRUNCATED", code)
    end
    local ssh = peers.raw [[ c:write "SSH-2.0-x\r\n" c:sleep(60000) ]]
    value, message, code = lab:run(("return jeton.http.get('http://127.0.0.1:%d/')"):format(ssh.port))
    assert.is_nil(value)
    assert.is_string(message)
    assert.equal("PROTOCOL", code)
    value, message, code = lab:run "return jeton.http.get('https://127.0.0.1:1/')"
    assert.is_nil(value)
    assert.matches("connection refused", message)
    assert.equal("ECONNREFUSED", code)
    value, message, code = lab:run "return jeton.http.get('http://no-such-host.invalid/')"
    assert.is_nil(value)
    assert.is_string(message)
    assert.matches("^EAI_", code)
  end)

  it("follows redirects only when asked, never with credentials to another origin, and turns a POST into a GET by 303", function()
    local other = peers.nginx [[ location / { return 200 "other $http_authorization$http_x_key"; } ]]
    local nginx = peers.nginx(([[
      location /there { return 302 /here; }
      location /relative { return 307 here?x=1; }
      location /see { return 303 /here; }
      location /again { return 308 /here; }
      location /other { return 302 http://127.0.0.1:%d/landed; }
      location /loop { return 302 /loop; }
      location /here { return 200 "$request_method $request_uri $http_authorization $content_length"; }]]):format(other.port))
    local url = ("http://127.0.0.1:%d"):format(nginx.port)
    local function get(method, path, options)
      return lab:run(("local r, m, c = jeton.http.%s('%s%s', %s) return r and r.status, r and r.body, m, c"):format(method, url, path, options))
    end
    assert.equal(302, (get("get", "/there", "nil")))
    assert.equal("GET /here Bearer mine ", select(2, get("get", "/there", "{ redirects = 1, headers = { authorization = 'Bearer mine' } }")))
    assert.equal("GET /here?x=1  ", select(2, get("get", "/relative", "{ redirects = 3 }")))
    assert.equal("GET /here  ", select(2, get("post", "/see", "{ redirects = 1, body = 'abc' }")))
    assert.equal("POST /here  3", select(2, get("post", "/again", "{ redirects = 1, body = 'abc' }")))
    assert.equal("other ", select(2, get("get", "/other", "{ redirects = 1 }")))
    for _, options in ipairs {
      "{ redirects = 1, headers = { authorization = 'Bearer mine' } }", "{ redirects = 1, headers = { cookie = 'mine' } }",
      "{ redirects = 1, headers = { ['x-key'] = jeton.secret.value 'mine' } }", "{ redirects = 1, auth = { 'a', 'b' } }",
    } do
      local status, _, message, code = get("get", "/other", options)
      assert.is_nil(status)
      assert.equal("TOKEN_AUDIENCE", code)
      assert.is_nil(message:find("mine", 1, true))
    end
    local status = get("get", "/loop", "{ redirects = 3 }")
    assert.is_true(status == nil or status == 302)
    assert.is_nil(other.log():find("mine", 1, true))
  end)

  it("reuses its connections", function()
    local raw = peers.raw [[ while c:read "head" do c:write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" .. c.number) end ]]
    local bodies = {}
    for i = 1, 5 do bodies[i] = lab:run(("return jeton.http.get('http://127.0.0.1:%d/').body"):format(raw.port)) end
    assert.equal("11111", table.concat(bodies))
  end)

  for name, case in pairs {
    ["a secret in the URL"] = { "jeton.http.get(jeton.secret.value 'http://s3cret/')", "put it into a header or the body" },
    ["a query that is text"] = { "jeton.http.get('http://a/', { query = 'a=b' })", "query: expected a table of names and values (a query that is text already stands in the URL), got string" },
    ["a query that is a list"] = { "jeton.http.get('http://a/', { query = { 'a' } })", "query: expected { name = value, … }, got a number in place of a name" },
    ["a table in a query"] = { "jeton.http.get('http://a/', { query = { a = { b = 'c' } } })", "query: a: expected a value or a list of values" },
    ["an unknown option"] = { "jeton.http.get('http://a/', { tiemout = 5 })", "timeout" },
    ["two bodies"] = { "jeton.http.post('http://a/', { body = 'x', json = {} })", "one of body, form and json" },
    ["a framing header"] = { "jeton.http.post('http://a/', { headers = { ['content-length'] = '5' } })", "written by jeton itself" },
    ["a line end in a header"] = { "jeton.http.get('http://a/', { headers = { x = 'a\\r\\nb' } })", "CR" },
    ["no URL"] = { "jeton.http.get('api.example.com')", "url" },
    ["a nonsense timeout"] = { "jeton.http.get('http://a/', { timeout = 'soon' })", "timeout" },
  } do
    it("raises for misuse: " .. name, function()
      local message = lab:raises(case[1])
      assert.is_truthy(message:find(case[2], 1, true), message)
      assert.matches("^lab:1: ", message)
      assert.is_nil(message:find("s3cret", 1, true))
    end)
  end

  it("does not put a line end of a secret into a header", function()
    local value, message, code = lab:run(("return jeton.http.get(%q, { headers = { x = jeton.secret.value 'a\\r\\nb: c' } })"):format(echo.upstream_url .. "/open"))
    assert.is_nil(value)
    assert.is_string(message)
    assert.equal("SECRET_BYTES", code)
  end)
end)

describe("jeton.sleep", function()
  it("takes its time, and lets others run", function()
    local t0 = socket.gettime()
    local first = lab:run "local t0 = jeton.now() jeton.sleep '150ms' jeton.sleep(0.1) return jeton.now() - t0"
    assert.is_true(first >= 0.24 and first < 3, first)
    assert.is_true(socket.gettime() - t0 < 4)
    assert.matches("duration", lab:raises "jeton.sleep 'later'")
    assert.is_string(lab:raises "jeton.sleep(-1)")
  end)
end)

describe("jeton.spawn and jeton.every", function()
  it("run beside the caller, with arguments, and end by cancel", function()
    local order = lab:run [[
      local order = {}
      local h = jeton.spawn(function(a, b) order[#order + 1] = "spawned " .. a .. b jeton.sleep "30ms" order[#order + 1] = "woke" end, "x", "y")
      order[#order + 1] = "caller " .. tostring(h.done)
      local never = jeton.spawn(function() local c <close> = setmetatable({}, { __close = function() order[#order + 1] = "closed" end }) jeton.sleep "1h" end)
      never:cancel()
      while not h.done do jeton.sleep "5ms" end
      order[#order + 1] = tostring(never.done)
      return order]]
    assert.same({ "spawned xy", "caller false", "closed", "woke", "true" }, order)
  end)

  it("log an error with its place, and the caller goes on", function()
    assert.equal("on", lab:run "jeton.spawn(function() error 'spawn failed' end) return 'on'")
    lab:wait_log "lab:1: spawn failed"
  end)

  it("repeat without overlapping, until cancelled", function()
    local runs, most, after = lab:run [[
      local runs, now, most = 0, 0, 0
      local h = jeton.every("20ms", function() runs = runs + 1 now = now + 1 most = math.max(most, now) jeton.sleep "30ms" now = now - 1 end)
      while runs < 3 do jeton.sleep "5ms" end
      h:cancel()
      local at = runs
      jeton.sleep "120ms"
      return at, most, runs - at]]
    assert.equal(3, runs)
    assert.equal(1, most)
    assert.equal(0, after)
  end)

  it("go on after an error in one run", function()
    assert.equal(3, lab:run [[
      local runs = 0
      local h = jeton.every("10ms", function() runs = runs + 1 error "each time" end)
      while runs < 3 do jeton.sleep "5ms" end
      h:cancel()
      return runs]])
  end)
end)

describe("jeton.exec", function()
  it("runs a program with its arguments as they are: no shell", function()
    local status, out, err, signal = lab:run [[ local r = assert(jeton.exec { "printf", "%s|", "a b", "$HOME", "*", "; true" }) return r.status, r.stdout, r.stderr, r.signal ]]
    assert.same({ 0, "a b|$HOME|*|; true|", "" }, { status, out, err })
    assert.is_nil(signal)
  end)

  it("feeds standard input, also a secret, and gives both outputs and the status", function()
    local out = lab:run [[ return assert(jeton.exec { "sh", "-c", "cat; echo oops >&2; exit 3", stdin = "in " .. jeton.secret.value "put" }) ]]
    assert.same({ status = 3, stdout = "in put", stderr = "oops\n" }, out)
    local large = ("x"):rep(300000)
    assert.equal(#large, lab:run(("return #assert(jeton.exec { 'cat', stdin = ('x'):rep(%d) }).stdout"):format(#large)))
    assert.equal("", lab:run "return assert(jeton.exec { 'cat' }).stdout")
  end)

  it("sets the environment and the directory", function()
    local out = lab:run(([[ return assert(jeton.exec { "sh", "-c", "echo $A $B ${SPEC_VALUE-unset}; pwd", env = { A = "1", B = jeton.secret.value "two", SPEC_VALUE = false }, cwd = %q }).stdout ]]):format(dir))
    assert.equal("1 two unset\n" .. dir .. "\n", out)
  end)

  it("ends the whole group at the timeout", function()
    local file = dir .. "/pid"
    local t0 = socket.gettime()
    local value, message, code = lab:run(([[ return jeton.exec { "sh", "-c", "sleep 600 & echo $! > %s; wait", timeout = "300ms" } ]]):format(file))
    assert.is_nil(value)
    assert.matches("300 ms", message)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(socket.gettime() - t0 < 5)
    local pid = process.read_file(file):match "%d+"
    process.poll(function()
      local state = process.read_file("/proc/" .. pid .. "/stat"):match "%) (%u)"
      return state == nil or state == "Z"
    end, 5, "the grandchild to end")
  end)

  it("kills what does not listen to SIGTERM", function()
    local _, _, code = lab:run [[ return jeton.exec { "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", timeout = "100ms" } ]]
    assert.equal("ETIMEDOUT", code)
  end)

  it("bounds its output, tells signals, and says when there is no such program", function()
    local _, message, code = lab:run [[ return jeton.exec { "yes", limits = { stdout = "64k" } } ]]
    assert.equal("LIMIT", code)
    assert.matches("limits.stdout", message)
    assert.equal(9, lab:run [[ return assert(jeton.exec { "sh", "-c", "kill -9 $$" }).signal ]])
    local value
    value, message, code = lab:run [[ return jeton.exec { "/no/such/program" } ]]
    assert.is_nil(value)
    assert.matches("/no/such/program", message)
    assert.equal("ENOENT", code)
  end)

  it("refuses a secret as an argument, and a string for a command line", function()
    assert.matches("/proc", lab:raises [[ jeton.exec { "echo", jeton.secret.value "s3cret" } ]])
    assert.is_string(lab:raises [[ jeton.exec "echo hello" ]])
    assert.is_string(lab:raises [[ jeton.exec {} ]])
    assert.matches("shell", lab:raises [[ jeton.exec { "true", shell = true } ]])
  end)
end)

describe("jeton.file", function()
  it("writes atomically with a mode, and reads", function()
    local path = dir .. "/written"
    assert.is_true(lab:run(("return assert(jeton.file.write(%q, 'one'))"):format(path)))
    assert.is_true(lab:run(("return assert(jeton.file.write(%q, 'two ' .. jeton.secret.value 'secret', { mode = '0600' }))"):format(path)))
    assert.equal("two secret", process.read_file(path))
    assert.equal("two secret", lab:run(("return assert(jeton.file.read(%q))"):format(path)))
    local stat = lab:run(("return assert(jeton.file.stat(%q))"):format(path))
    assert.equal(10, stat.size)
    assert.equal("file", stat.type)
    assert.equal("0600", stat.mode)
    assert.is_true(math.abs(stat.mtime - os.time()) < 60)
    for name in require "luv".fs_scandir_next, require "luv".fs_scandir(dir) do assert.is_nil(name:find("written.", 1, true), name) end
  end)

  it("is never seen half written", function()
    local path = dir .. "/atomic"
    lab:run(([[ assert(jeton.file.write(%q, ("a"):rep(200000)))
      for i = 1, 30 do
        jeton.spawn(function() assert(jeton.file.write(%q, (i %% 2 == 0 and "a" or "b"):rep(200000))) end)
      end
      for _ = 1, 40 do
        local text = assert(jeton.file.read(%q))
        assert(#text == 200000 and (text:sub(1, 1):rep(200000) == text), "half written")
      end ]]):format(path, path, path))
  end)

  it("fails with nil, a message and a code", function()
    for code, call_ in pairs {
      ENOENT = "read '/no/such/file'", LIMIT = ("read(%q, { max = 2 })"):format(dir .. "/secret"), EISDIR = ("read(%q)"):format(dir),
      ENOTDIR = ("write(%q, 'x')"):format(dir .. "/secret/below"),
    } do
      local value, message, got = lab:run("return jeton.file." .. call_)
      assert.is_nil(value)
      assert.matches(dir, message == nil and "" or message:gsub("/no/such/file", dir), 1, true)
      assert.equal(code, got)
    end
    assert.is_nil((lab:run "return jeton.file.stat '/no/such/file'"))
    assert.is_false((lab:run "return jeton.file.exists '/no/such/file'"))
    assert.is_true((lab:run(("return jeton.file.exists(%q)"):format(dir))))
  end)

  it("removes", function()
    process.write_file(dir .. "/gone", "x")
    assert.is_true(lab:run(("return assert(jeton.file.remove(%q))"):format(dir .. "/gone")))
    assert.is_nil(io.open(dir .. "/gone"))
    assert.equal("ENOENT", select(3, lab:run(("return jeton.file.remove(%q)"):format(dir .. "/gone"))))
  end)

  it("watches a file through writes, replacement and return, until cancelled", function()
    local path = process.write_file(dir .. "/watched", "1")
    local p = jeton.start(([[return { listen = "127.0.0.1:0", on_request = function(req) req:respond(200) end, tasks = { watch = function()
      local handle
      handle = assert(jeton.file.watch(%q, function(path)
        local text = assert(jeton.file.read(path))
        jeton.log.info("now " .. text)
        if text == "last" then handle:cancel() jeton.log.info "cancelled" end
      end))
      jeton.log.info "watching"
      jeton.sleep "1h"
    end } }]]):format(path))
    p:wait_log "watching"
    process.write_file(path, "written")
    p:wait_log "now written"
    os.rename(process.write_file(path .. ".new", "renamed over"), path)
    p:wait_log "now renamed over"
    os.remove(path)
    socket.sleep(0.2)
    process.write_file(path, "returned")
    p:wait_log "now returned"
    process.write_file(path, "last")
    p:wait_log "cancelled"
    p:finish()
  end)
end)

describe("jeton.env", function()
  it("gives variables, and is read only", function()
    assert.same({ "from the environment", "from the environment" }, { lab:run "return jeton.env.SPEC_VALUE, jeton.env 'SPEC_VALUE'" })
    assert.is_nil((lab:run "return jeton.env.NO_SUCH_VARIABLE_HERE"))
    assert.is_string(lab:raises "jeton.env.SPEC_VALUE = 'x'")
  end)
end)

describe("jeton.secret", function()
  local function sent(code)
    return seen(lab:run(("return assert(jeton.http.get(%q, { headers = { x = %s } })).body"):format(echo.upstream_url .. "/open", code))).headers.x
  end

  it("shows where it comes from, never its bytes", function()
    local text = lab:run(([[
      local a, b, c = jeton.secret.file %q, jeton.secret.env "SPEC_SECRET", jeton.secret.value "v-s3cret"
      jeton.log.info(a, { b = b, c = "x" .. c })
      print(a, b, c)
      return table.concat({ tostring(a), tostring(b), tostring(c), tostring(a .. "-" .. b), tostring(jeton.base64.encode(c)) }, " ")]]):format(dir .. "/secret"))
    assert.matches("secret<", text)
    for _, bytes in ipairs { "first%-secret", "env%-s3cret", "v%-s3cret", "di1zM2NyZXQ" } do
      assert.is_nil(text:find(bytes))
      assert.is_nil(lab:errors():find(bytes))
    end
  end)

  it("joins with text, numbers and secrets, and is one line without its line end", function()
    assert.equal("<first-secret5env-s3cret>", sent(("'<' .. jeton.secret.file %q .. 5 .. jeton.secret.env 'SPEC_SECRET' .. '>'"):format(dir .. "/secret")))
    assert.equal(require "mime".b64 "env-s3cret", sent "jeton.base64.encode(jeton.secret.env 'SPEC_SECRET')")
  end)

  it("cannot be read, measured or compared by size", function()
    local s = "local s = jeton.secret.value 's3cret' "
    for _, code in ipairs { "return #s", "return s:sub(1, 1)", "return s < 'x'", "return s.value", "return ('x'):rep(3, s)", "return table.concat { s }",
      "s.x = 1", "return string.format('%d', s)" } do
      local message = lab:raises(s .. code)
      assert.is_nil(message:find("s3cret", 1, true), message)
    end
    assert.is_false((lab:run(s .. "return s == 's3cret'")))
    assert.is_nil((lab:run(s .. "return ('%s'):format(s):find('s3cret', 1, true)")))
    assert.is_true((lab:run(s .. "return jeton.crypto.equal(s, 's3cret') and not jeton.crypto.equal(s, 's3creT')")))
  end)

  it("of a file is read again when the file has changed, and survives its absence", function()
    local path = process.write_file(dir .. "/rotating", "one\n")
    local p = jeton.start(([[local s = jeton.secret.file %q
      return { listen = "127.0.0.1:0", upstream = "%s/open", on_request = function(req) req.headers.x = s end }]]):format(path, echo.upstream_url))
    local function now() return seen(http.get(p.port).body).headers.x end
    assert.equal("one", now())
    process.write_file(path, "second\n")
    process.poll(function() return now() == "second" end, 5, "the new content")
    os.remove(path)
    socket.sleep(1.1)
    assert.equal("second", now())
    p:wait_log "cannot be read again"
    process.write_file(path, "third")
    process.poll(function() return now() == "third" end, 5, "the content after the return")
    p:finish()
  end)

  it("of a command is what it prints", function()
    local p = jeton.start(([[local s = jeton.secret.exec { "sh", "-c", "echo made-by-$0", "sh", ttl = "1h" }
      return { listen = "127.0.0.1:0", upstream = "%s/open", on_request = function(req) req.headers.x = s end }]]):format(echo.upstream_url))
    process.poll(function()
      local res = http.get(p.port)
      return res.status == 200 and seen(res.body).headers.x == "made-by-sh"
    end)
    p:finish()
  end)

  it("that is not there is an error of the policy, with the line", function()
    for _, call_ in ipairs { "jeton.secret.file '/no/such/secret'", "jeton.secret.env 'NO_SUCH_VARIABLE_HERE'" } do
      local path = process.write_file(dir .. "/bad.lua", "local s = " .. call_ .. "\nreturn { listen = '127.0.0.1:0', on_request = function(req) req.headers.x = s end }")
      local code, _, err = jeton.run { "check", path }
      assert.equal(78, code)
      assert.matches("bad.lua:1: ", err)
      assert.matches("NO_SUCH_VARIABLE_HERE", err .. (call_:find "env" and "" or "NO_SUCH_VARIABLE_HERE"))
    end
  end)
end)

describe("jeton.json", function()
  it("round-trips what JSON can hold", function()
    assert.same({ '{"a":[1,2.5,"é\\n",true,null]}', "integer", true },
      { lab:run [[ local t = jeton.json.decode '{"a":[1,2.5,"\\u00e9\\n",true,null]}' return jeton.json.encode(t), math.type(t.a[1]), t.a[5] == jeton.json.null ]] })
    assert.same({ "{}", "[]" }, { lab:run "return jeton.json.encode {}, jeton.json.encode(jeton.json.array {})" })
  end)

  it("gives nil and a message for what is not JSON, or cannot be", function()
    for _, text in ipairs { '"{"', '"[1,]"', '""', '"nul"', '"{} x"', '(("["):rep(200) .. ("]"):rep(200))', '"\\"\\\\ud800\\""' } do
      local value, message = lab:run("return jeton.json.decode(" .. text .. ")")
      assert.is_nil(value, text)
      assert.is_string(message)
    end
    for _, value in ipairs { "0/0", "{ [true] = 1 }", "function() end", "setmetatable({}, nil).x or { print }" } do
      local got, message = lab:run("return jeton.json.encode(" .. value .. ")")
      assert.is_nil(got, value)
      assert.is_string(message)
    end
    assert.is_nil((lab:run "local t = {} t.t = t return jeton.json.encode(t)"))
  end)
end)

describe("jeton.time.parse", function()
  it("reads dates of ISO 8601 and of HTTP", function()
    assert.same({ 1769846400, "integer", 1769846400.5 }, { lab:run "local t = jeton.time.parse local a = t '2026-01-31T09:00:00+01:00' return a, math.type(a), t 'Sat, 31 Jan 2026 08:00:00 GMT' + t '1970-01-01T00:00:00.5Z'" })
  end)
  it("says what is wrong", function()
    local value, message, code = lab:run "return jeton.time.parse '2026-01-31T08:00:00'"
    assert.is_nil(value)
    assert.equal('a date without a zone is no moment: with "Z" behind it, it is UTC', message)
    assert.equal("EINVAL", code)
    assert.matches("jeton.time.parse: text: expected a string, got number", lab:raises "jeton.time.parse(5)")
  end)
end)

describe("jeton.url", function()
  it("escapes and unescapes", function()
    assert.same({ "a%20b%2Fc~%C3%A9", "/a%20b/c%25", "a b/c+", "a b c" }, {
      lab:run [[return jeton.url.escape "a b/c~é", jeton.url.escape("/a b/c%", "/"), jeton.url.unescape "a%20b%2fc+", jeton.url.unescape("a+b%20c", { form = true })]] })
    assert.same({ nil, 'a "%" without two hexadecimal digits behind it (one that is meant is written %25)', "EINVAL" }, { lab:run "return jeton.url.unescape 'a%4'" })
    assert.matches("keep: expected some of", lab:raises "jeton.url.escape('x', '%')")
    assert.matches("jeton.url.escape: text: expected a string, got no value", lab:raises "jeton.url.escape()")
  end)

  it("writes a query in one order, and reads what others write", function()
    assert.equal("A=5&a=x%20y&b=&c=1&c=2.5&c=true", lab:run "return jeton.url.query { b = '', A = 5, c = { 1, 2.5, true }, a = 'x y' }")
    assert.equal("", lab:run "return jeton.url.query {}")
    assert.same({ "1", "x y", "", nil, "a=1 a=2 b=x y c= d=", 5 }, {
      lab:run [[local q, list = jeton.url.query "a=1&a=2&&b=x+y&c&d="
        local all = {}
        for i, pair in ipairs(list) do all[i] = pair[1] .. "=" .. pair[2] end
        return q.a, q.b, q.c, q.e, table.concat(all, " "), #list]] })
    assert.same({ nil, "EINVAL" }, { lab:run "local q, _, code = jeton.url.query 'a=%' return q, code" })
    assert.matches("query: expected a table to write, or a text to read, got boolean", lab:raises "jeton.url.query(true)")
    assert.matches("jeton.url.query: a secret: URLs show in logs and messages; req:set_query", lab:raises "jeton.url.query { k = jeton.secret.value 'x' }")
    assert.matches("expected { name = value, … }, got a number", lab:raises "jeton.url.query { 'x' }")
  end)

  it("parses absolute URLs", function()
    local all = [[local u, message = jeton.url.parse(%q)
      if not u then return message end
      return u.scheme, u.host, tostring(u.port), u.userinfo or "-", u.path, u.query or "-", u.fragment or "-"]]
    for url, expected in pairs {
      ["HTTPS://API.example.com:8443/A/b?x=1#f"] = "https api.example.com 8443 - /A/b x=1 f",
      ["http://[2001:DB8::1]/"] = "http 2001:db8::1 80 - / - -",
      ["wss://u:p@h"] = "wss h 443 u:p  - -",
      ["redis://h:6379/0?"] = "redis h 6379 - /0  -",
    } do
      assert.equal(expected, table.concat({ lab:run(all:format(url)) }, " "))
    end
    assert.is_nil(lab:run "return jeton.url.parse('redis://h').port")
    for url, wrong in pairs {
      ["/path"] = "expected an absolute URL", ["mailto:a@b"] = "expected an absolute URL", ["http://"] = "no host", ["http://a b/"] = "percent-encoded",
      ["http://a:0/"] = "no valid host and port", ["http://a@b@c/"] = 'two "@"', ["http://a\\b/"] = "no valid host", ["http://é/"] = "percent-encoded",
    } do
      assert.is_truthy(lab:run(all:format(url)):find(wrong, 1, true), url)
    end
  end)

  it("joins links to where they stand", function()
    assert.same({ "https://a/b/d?x", "https://c/", "https://a/b/c?y" }, { lab:run "local j = jeton.url.join return j('https://a/b/c', 'd?x'), j('https://a/b', '//c/x/..'), j('https://a/b/c?x', '?y')" })
    assert.matches("expected an absolute URL", (select(2, lab:run "return jeton.url.join('/a', 'b')")))
    assert.equal("EINVAL", (select(3, lab:run "return jeton.url.join('http://a/', 'b c')")))
  end)
end)

describe("jeton.base64", function()
  it("follows RFC 4648's vectors, both alphabets, and refuses what is not canonical", function()
    for text, encoded in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy" } do
      assert.same({ encoded, text }, { lab:run(("return jeton.base64.encode %q, jeton.base64.decode %q"):format(text, encoded)) })
    end
    assert.same({ "-_8", "+/8=", true }, { lab:run [[ return jeton.base64.encode_url "\xfb\xff", jeton.base64.encode "\xfb\xff", jeton.base64.decode_url "-_8" == "\xfb\xff" ]] })
    for _, text in ipairs { "Z", "Zh==", "Zh", "Zg=", "Z g=", "Zg==\n", "-_8=" } do
      local value, message, code = lab:run(("return jeton.base64.decode %q"):format(text))
      assert.is_nil(value, text)
      assert.is_string(message)
      assert.equal("EINVAL", code)
    end
  end)
end)

describe("jeton.crypto", function()
  it("hashes (FIPS 180 vectors of abc)", function()
    local hex = "jeton.crypto.hex(jeton.crypto.hash(%q, 'abc'))"
    assert.equal("900150983cd24fb0d6963f7d28e17f72", lab:run("return " .. hex:format "md5"))
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", lab:run("return " .. hex:format "sha1"))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", lab:run("return " .. hex:format "sha256"))
    assert.equal("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
      lab:run("return " .. hex:format "sha512"))
    assert.is_string(lab:raises "jeton.crypto.hash('sha3', 'abc')")
  end)

  it("makes HMACs (RFC 4231 case 2), with a secret as key too", function()
    local want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert.equal(want, lab:run "return jeton.crypto.hex(jeton.crypto.hmac('sha256', 'Jefe', 'what do ya want for nothing?'))")
    assert.is_true((lab:run(("return jeton.crypto.equal(%q, jeton.crypto.hex(jeton.crypto.hmac('sha256', jeton.secret.value 'Jefe', 'what do ya want for nothing?')))"):format(want))))
  end)

  it("signs what openssl verifies, and verifies what openssl signed", function()
    local function openssl(...)
      local code, out, err = process.run { "openssl", ... }
      assert.equal(0, code, err)
      return out
    end
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", dir .. "/rsa.key")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", dir .. "/ec.key")
    for _, kind in ipairs { "rsa", "ec" } do openssl("pkey", "-in", dir .. "/" .. kind .. ".key", "-pubout", "-out", dir .. "/" .. kind .. ".pub") end
    lab:run(([[ assert(jeton.file.write(%q, assert(jeton.crypto.sign("RS256", jeton.secret.file %q, "data")))) ]]):format(dir .. "/sig", dir .. "/rsa.key"))
    process.write_file(dir .. "/data", "data")
    assert.matches("Verified OK", openssl("dgst", "-sha256", "-verify", dir .. "/rsa.pub", "-signature", dir .. "/sig", dir .. "/data"))
    openssl("dgst", "-sha256", "-sign", dir .. "/rsa.key", "-out", dir .. "/sig", dir .. "/data")
    local verify = [[ local key, sig = assert(jeton.file.read %q), assert(jeton.file.read %q) return jeton.crypto.verify("RS256", key, "data", sig), jeton.crypto.verify("RS256", key, "Data", sig) ]]
    assert.same({ true, false }, { lab:run(verify:format(dir .. "/rsa.pub", dir .. "/sig")) })
    local es = [[ local key, pub = jeton.secret.file %q, assert(jeton.file.read %q) local sig = assert(jeton.crypto.sign("ES256", key, "data"))
      return #sig, jeton.crypto.verify("ES256", pub, "data", sig), jeton.crypto.verify("ES256", pub, "data!", sig) ]]
    assert.same({ 64, true, false }, { lab:run(es:format(dir .. "/ec.key", dir .. "/ec.pub")) })
    local value, message = lab:run "return jeton.crypto.sign('RS256', 'no key at all', 'data')"
    assert.is_nil(value)
    assert.is_string(message)
  end)

  it("gives random bytes, and compares", function()
    assert.same({ 32, false }, { lab:run "local a, b = jeton.crypto.random(32), jeton.crypto.random(32) return #a, a == b" })
    assert.same({ true, false, false }, { lab:run "return jeton.crypto.equal('a', 'a'), jeton.crypto.equal('a', 'b'), jeton.crypto.equal('a', 'ab')" })
    assert.is_string(lab:raises "jeton.crypto.random(-1)")
  end)
end)

describe("jeton.log and jeton.now", function()
  it("write a line with level, place and fields, on one line whatever is in them", function()
    lab:run [[ jeton.log.debug("quiet", { n = 1 }) jeton.log("plain") jeton.log.warn("two\nlines", { ["key"] = "a b" }) jeton.log.error(jeton.secret.value "s3cret") ]]
    lab:wait_log "secret<"
    local log = lab:errors()
    assert.matches("debug lab:1[: ]+quiet n=1\n", log)
    assert.matches("info  lab:1[: ]+plain\n", log)
    assert.matches("warn  lab:1[: ]+two[^\n]+lines key=[^\n]*a b", log)
    assert.matches("error lab:1[: ]+secret<", log)
  end)

  it("tell the time and the version", function()
    local now, version = lab:run "return jeton.now(), jeton.version"
    assert.is_true(math.abs(now - socket.gettime()) < 5)
    assert.matches("^%d+%.%d+%.%d+", version)
  end)
end)

describe("a task", function()
  it("runs on the keeper, is started again with pauses when it fails, and not when it returns", function()
    local p = jeton.start [[
      local failing, ended = 0, 0
      return { listen = "127.0.0.1:0", on_request = function(req) req:respond(200) end, tasks = {
        failing = function() failing = failing + 1 jeton.log.info("attempt " .. failing) if failing < 3 then error("fails " .. failing) end jeton.sleep "1h" end,
        ended = function() ended = ended + 1 jeton.log.info("ended " .. ended) end,
        looping = function() while true do end end,
      } }]]
    p:wait_log("attempt 3", 15)
    p:wait_log "fails 2"
    p:wait_log "time budget"
    assert.is_nil(p:errors():find("attempt 4", 1, true))
    assert.is_nil(p:errors():find("ended 2", 1, true))
    assert.equal(200, http.get(p.port).status)
    p:finish()
  end)

  it("ends with a reload, and that of the new policy starts", function()
    local text = [[return { listen = "127.0.0.1:0", on_request = function(req) req:respond(200) end, tasks = { beat = function()
      local over <close> = setmetatable({}, { __close = function() jeton.log.info "NAME closed" end })
      while true do jeton.log.info "NAME beats" jeton.sleep "20ms" end
    end } }]]
    local p = jeton.start((text:gsub("NAME", "old")))
    p:wait_log "old beats"
    p:reload_file((text:gsub("NAME", "new")))
    assert.equal(200, p:control("POST", "/reload").status)
    p:wait_log "new beats"
    p:wait_log "old closed"
    local at = #p:errors()
    socket.sleep(0.15)
    assert.is_nil(p:errors():find("old beats", at + 1, true))
    p:finish()
  end)
end)

describe("the keeper", function()
  it("gives back what its scripts have left behind while it rests", function()
    local p = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      on_start = function()
        local left = setmetatable({ {} }, { __mode = "v" })
        jeton.sleep(6) -- a sleep makes no garbage that would get this collected
        jeton.log.info(left[1] == nil and "it was collected" or "it is still there")
      end }]]
    process.poll(function() return p:errors():find("it was collected", 1, true) or p:errors():find("it is still there", 1, true) end, 15, "on_start to end")
    assert.is_truthy(p:errors():find("it was collected", 1, true))
    p:finish()
  end)
end)
