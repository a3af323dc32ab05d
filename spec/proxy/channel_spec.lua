--- Channels in the real program: between requests and tasks, over reloads, and when somebody leaves.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"

local proxy
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- A policy with `top` at its top, `hook` as the body of on_request(req) and `tasks`.
local function policy(top, hook, tasks, more)
  return ([[
%s
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  log = { level = "debug", access = false },
  on_request = function(req) %s end,
  tasks = { %s },
  %s
}]]):format(top, hook, tasks or "", more or "")
end
local function start(workers, ...) proxy = jeton.start { policy = policy(...), workers = workers } end
local function get(path) return assert(http.get(proxy.port, path)) end

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
end)
