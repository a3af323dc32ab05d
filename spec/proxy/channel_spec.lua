--- Channels in the real program: between requests and tasks, over reloads, and when somebody leaves.
local cjson = require "cjson"
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local proxy
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- A policy with `top` at its top, `hook` as the body of on_request(req, tokens), `tasks` and further keys.
local function policy(top, hook, tasks, more)
  return ([[
%s
return {
  listen = "127.0.0.1:0",
  log = { access = false },
  on_request = function(req, tokens) %s end,
  tasks = { %s },
  %s
}]]):format(top, hook, tasks or "", more or "")
end
local function start(workers, ...) proxy = jeton.start { policy = policy(...), workers = workers } end
local function get(path) return assert(http.get(proxy.port, path)) end
local function reload(...)
  proxy:reload_file(policy(...))
  return jeton.run { "reload", "--control", proxy.control_path }
end
local function reloads(...)
  local code, _, err = reload(...)
  assert.equal(0, code, err)
end

--- Many clients at once: `each(connection number, send)`; the replies' bodies by connection.
local function at_once(n, requests)
  local conns, bodies = {}, {}
  for i = 1, n do
    conns[i] = assert(socket.connect("127.0.0.1", proxy.port))
    conns[i]:settimeout(30)
  end
  for r = 1, requests do
    for i = 1, n do assert(conns[i]:send(("GET /%d/%d HTTP/1.1\r\nhost: x\r\n\r\n"):format(i, r))) end
    for i = 1, n do
      local status, length = conns[i]:receive "*l", 0
      assert(status and status:find " 200 ", status)
      for line in function() return conns[i]:receive "*l" end do
        if line == "" then break end
        length = tonumber(line:lower():match "^content%-length: (%d+)") or length
      end
      bodies[#bodies + 1] = conns[i]:receive(length)
    end
  end
  for i = 1, n do conns[i]:close() end
  return bodies
end

describe("a channel", function()
  it("lets requests in every worker ask a task on the keeper", function()
    start(3, [[
local questions = jeton.channel "questions"]], [[
      local reply = jeton.channel("reply-" .. req.id, 1)
      questions:send { reply = reply.name, n = 20 }
      local answer = reply:recv(10)
      reply:close()
      req:respond(200, nil, ("%d %s %s"):format(answer, math.type(answer), tostring(reply.closed)))]], [[
    answerer = function()
      while true do
        local q = questions:recv()
        jeton.channel(q.reply, 1):send(q.n + 22)
      end
    end]])
    for _ = 1, 5 do assert.equal("42 integer true", get("/").body) end
    local bodies = at_once(20, 10)
    assert.equal(200, #bodies)
    for _, body in ipairs(bodies) do assert.equal("42 integer true", body) end
  end)

  it("gives each message to one request, whatever their worker", function()
    start(3, [[local numbers = jeton.channel "numbers"]], [[req:respond(200, nil, tostring((numbers:recv(20))))]], [[
    counter = function() for i = 1, math.maxinteger do numbers:send(i) end end]])
    local seen = {}
    for _, body in ipairs(at_once(24, 20)) do
      assert.is_nil(seen[body], body)
      seen[body] = true
    end
    for i = 1, 480 do assert.is_true(seen[tostring(i)], i) end
  end)

  it("carries a token as a secret: to another worker, where it is the token of that moment", function()
    local world = peers.world()
    start(2, ([[local ch = jeton.channel("secrets", 1) local n, upstream = 0, %q]]):format(world.upstream_url), [[
      if req.path == "/put" then return req:respond(ch:send { auth = "Bearer " .. tokens.api } and 204) end
      local secret = ch:recv(20).auth
      ch:send { auth = secret }
      req.headers.authorization = secret]], nil, [[upstream = upstream .. "/open",
      tokens = { api = { fetch = function() n = n + 1 return { value = "value-" .. n, expires_in = 600 } end } }]])
    assert.equal(204, get("/put").status)
    local function seen()
      local list = cjson.decode(get("/").body).headers
      for i = 1, #list, 2 do
        if list[i]:lower() == "authorization" then return list[i + 1] end
      end
    end
    for _ = 1, 10 do assert.equal("Bearer value-1", seen()) end
    assert.equal(0, (jeton.run { "refresh", "api", "--control", proxy.control_path }))
    for _ = 1, 10 do assert.equal("Bearer value-2", seen()) end
    world:stop()
  end)

  it("stays when the process stops, with who waits and what it holds", function()
    start(2, [[local empty, full = jeton.channel "empty", jeton.channel("full", 4)]], [[
      if req.path == "/put" then return req:respond(full:send { jeton.secret.value "s", "text" } and 204) end
      local what = req.path == "/send" and empty:send "x" or req.path == "/recv" and empty:recv()]],
      [[ waiter = function() jeton.select { empty:on_recv() } end ]], [[timeouts = { drain = "300ms" }]])
    assert.equal(204, get("/put").status)
    local waiting = {}
    for i = 1, 6 do
      waiting[i] = http.connect(proxy.port)
      waiting[i]:send "GET /recv HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    socket.sleep(0.1)
    proxy:finish()
    proxy = nil
    for _, c in ipairs(waiting) do c:close() end
  end)
end)

describe("clients that leave", function()
  it("take no message with them", function()
    start(2, [[local ch, got = jeton.channel("c", 8), jeton.shared "got"]], [[
      if req.path == "/put" then
        for i = 1, 100 do ch:send(i) end
        return req:respond(204)
      elseif req.path == "/count" then
        local once, more = 0, #ch
        for i = 1, 100 do
          local n = got:get(tostring(i)) or 0
          if n == 1 then once = once + 1 elseif n > 1 then more = more + 1000 end
        end
        return req:respond(200, nil, ("%d %d"):format(once, more))
      end
      got:incr "waiting"
      local value = ch:recv()
      got:incr(tostring(value))
      jeton.sleep "1ms"
      req:respond(200, nil, tostring(value))]])
    local function ask()
      local c = http.connect(proxy.port)
      c:send "GET /get HTTP/1.1\r\nHost: a\r\n\r\n"
      return c
    end
    local function leave(c)
      c.sock:setoption("linger", { on = true, timeout = 0 }) -- a reset: a mere end could be a client that still reads
      c:close()
    end
    local waiting, stay = {}, {}
    for i = 1, 60 do waiting[i] = ask() end
    local put = http.connect(proxy.port)
    put:send "GET /put HTTP/1.1\r\nHost: a\r\n\r\n"
    for i = 1, 60 do
      if i % 2 == 0 then leave(waiting[i]) else stay[#stay + 1] = waiting[i] end
    end
    process.poll(function()
      local once, more = get("/count").body:match "(%d+) (%d+)"
      assert(tonumber(more) < 1000, "received twice")
      if tonumber(once) == 100 then return true end
      stay[#stay + 1] = ask()
    end, 20, "each message once")
    assert.equal(204, put:read_response("GET").status)
    put:close()
    assert.equal("100 0", get("/count").body)
    for _, c in ipairs(stay) do leave(c) end
  end)
end)

describe("channels over a reload", function()
  local TOP = [[local kept, gone = jeton.channel("kept", 4), jeton.channel("gone", 4)]]
  local HOOK = [[
    local ch = jeton.channel(req.path:match "^/%a+/(%a+)")
    if req.path:find "^/put" then req:respond(200, nil, tostring(ch:try_send(req.query) or "full"))
    else req:respond(200, nil, tostring((ch:recv(10)))) end]]

  it("stay with their messages while a policy names them, and go when none does", function()
    start(2, TOP, HOOK)
    for i = 1, 3 do
      assert.equal("true", get("/put/kept?" .. i).body)
      assert.equal("true", get("/put/gone?" .. i).body)
    end
    reloads([[jeton.channel("kept", 4)]], HOOK)
    assert.equal("1", get("/get/kept").body)
    reloads(TOP, HOOK)
    assert.equal("2", get("/get/kept").body)
    assert.equal("true", get("/put/gone?new").body)
    assert.equal("new", get("/get/gone").body)
    assert.equal("3", get("/get/kept").body)
  end)

  it("keep their capacity: another one is refused with both", function()
    start(2, TOP, HOOK)
    assert.equal("true", get("/put/kept?1").body)
    local code, _, err = reload([[jeton.channel("kept", 9)]], HOOK)
    assert.equal(78, code)
    assert.matches("policy.lua:1: jeton.channel: 'kept' has capacity 4, named with 9 here", err, 1, true)
    assert.equal("1", get("/get/kept").body)
  end)

  it("are untouched by a candidate that is refused", function()
    start(2, TOP, HOOK)
    local taken = socket.bind("127.0.0.1", 0)
    local _, port = taken:getsockname()
    local code = reload([[jeton.channel("fresh", 3)]], HOOK, nil, ([[upstream = "http://127.0.0.1:1", listen = "127.0.0.1:%d"]]):format(port))
    assert.is_true(code ~= 0)
    taken:close()
    reloads([[jeton.channel("fresh", 5) jeton.channel("kept", 4)]], HOOK)
    assert.equal("true", get("/put/fresh?1").body)
    assert.equal("1", get("/get/fresh").body)
  end)

  it("let a request of the old policy hear from the new one", function()
    start(1, TOP, HOOK)
    local old = http.connect(proxy.port)
    old:send "GET /get/kept HTTP/1.1\r\nHost: a\r\n\r\n"
    process.poll(function() return proxy:status().workers[1].requests >= 1 end)
    reloads([[jeton.channel("kept", 4) -- new]], HOOK)
    assert.equal("true", get("/put/kept?later").body)
    assert.equal("later", old:read_response("GET").body)
    old:close()
  end)

  it("give each job to one task, in order, while policies come and go", function()
    local top = [[local jobs, done = jeton.channel("jobs", 16), jeton.channel("done", 4096)]]
    local hook = [[
      if req.path == "/jobs" then
        for i = 1, 2000 do jobs:send(i) if i % 20 == 0 then jeton.sleep "2ms" end end
        return req:respond(204)
      end
      if req.path == "/length" then return req:respond(200, nil, tostring(#done)) end
      local n, last = 0, 0
      for job in done.try_recv, done do
        n, last = n + 1, job > last and job or math.huge
      end
      req:respond(200, nil, ("%d %s"):format(n, last))]]
    local task = [[ worker = function() while true do done:send((jobs:recv())) end end ]]
    start(1, top, hook, task)
    local c = http.connect(proxy.port)
    c:send "GET /jobs HTTP/1.1\r\nHost: a\r\n\r\n"
    for i = 1, 8 do reloads(top .. " -- " .. i, hook, task) end
    assert.equal(204, c:read_response("GET").status)
    c:close()
    process.poll(function() return get("/length").body == "2000" end, 10, function() return "2000 jobs done, not " .. get("/length").body end)
    assert.equal("2000 2000", get("/").body)
  end)

  it("lose no answer under load", function()
    local top = [[local ask, tick = jeton.channel("ask", 16), jeton.channel "tick"]]
    local hook = [[
      local reply = jeton.channel("reply-" .. req.id, 1)
      jeton.select { ask:on_send(reply.name) }
      local answer = jeton.select { reply:on_recv(), timeout = "10s" }
      reply:close()
      req:respond(answer == "answer" and 200 or 504)]]
    local tasks = [[
      ticker = function() while true do tick:send(1, "5ms") jeton.sleep "1ms" end end,
      answerer = function()
        while true do
          jeton.select {
            ask:on_recv(function(name)
              local reply = jeton.channel(name, 1)
              if not reply.closed then pcall(reply.try_send, reply, "answer") end
            end),
            tick:on_recv(),
          }
        end
      end]]
    start(2, top, hook, tasks)
    local wrk = process.start { "wrk", "-t1", "-c16", "-d120s", "--timeout", "8s", ("http://127.0.0.1:%d/"):format(proxy.port) }
    local before = socket.gettime()
    for n = 1, 12 do
      reloads(top .. " -- " .. n, hook, tasks)
      socket.sleep(0.1)
      if n >= 4 and socket.gettime() - before > 3 then break end
    end
    assert.is_false(wrk:ended(), wrk:output())
    wrk:kill "sigint"
    assert.equal(0, (wrk:wait(30)))
    assert.is_truthy(wrk:output():find("requests in", 1, true), wrk:output())
    assert.is_nil(wrk:output():find("Non-2xx", 1, true), wrk:output())
    assert.is_nil(wrk:output():find("Socket errors", 1, true), wrk:output())
    assert.is_nil(proxy:errors():find("error", 1, true), proxy:errors():sub(-2000))
  end)
end)

describe("jeton check", function()
  local function check(top)
    local dir = process.temp_dir()
    return jeton.run { "check", process.write_file(dir .. "/policy.lua", policy(top, "req:respond(204)")) }
  end

  it("accepts channels that are named, and refuses those that are used or do not fit", function()
    assert.equal(0, (check [[local a, b = jeton.channel "a", jeton.channel("b", 5) jeton.select.seed(3)]]))
    for text, message in pairs {
      [ [[jeton.channel("a", 1) jeton.channel("a", 2)]] ] = "'a' has capacity 1, named with 2 here",
      [ [[jeton.channel("a", 1):send(1)]] ] = "cannot wait here: the policy's file is loading",
      [ [[jeton.channel("a", 1):try_send(1)]] ] = "the policy's file only declares",
      [ [[jeton.channel("a", 1):close()]] ] = "the policy's file only declares",
      [ [[jeton.channel("a b", 1)]] ] = "1 to 64 letters",
      [ [[jeton.select { jeton.channel "a":on_recv(), default = print }]] ] = "cannot wait here",
    } do
      local code, _, err = check(text)
      assert.equal(78, code, text)
      assert.is_truthy(err:find(message, 1, true), err)
      assert.matches("^policy.lua:1: ", err)
    end
  end)
end)
