--- req:retry: on_response has a request sent again. What may change in between, what stays, how often, and what says that it cannot be.
local jeton = require "spec.support.jeton"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"

local proxy, upstream

after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- Answers 429 with `body` to what says `x: no`, and 200 to the rest; its connections are numbered.
local function judging(body)
  return ([[
    local body = %s
    while true do
      local head = c:read "head"
      if not head then return c:close() end
      local length = tonumber(head:lower():match "content%%-length: (%%d+)") or 0
      local sent = length > 0 and c:read(length) or ""
      if head:lower():find("\r\nx: no", 1, true) then
        c:write("HTTP/1.1 429 Too Many Requests\r\nNonce: n1\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body)
      else
        local text = "fine " .. c.number .. " " .. sent
        c:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #text .. "\r\n\r\n" .. text)
      end
    end]]):format(body or "'busy'")
end

--- `response`: the body of on_response; options: top, send (of on_send; false: none), request, tokens, more as Lua text, fine (the upstream's script).
local function start(response, options)
  options = options or {}
  upstream = peers.raw(options.fine or judging())
  local send = options.send
  if send == nil then send = [[ req.headers.x = try.detail or "no" req.headers.try = try.number .. " " .. try.reason ]] end
  proxy = jeton.start(([[
%s
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", tokens = { %s },
  on_request = function(req, tokens) %s end,
  %s
  on_response = function(res, req, tokens) %s end,
  %s }]]):format(options.top or "", upstream.port, options.tokens or "", options.request or "", send and "on_send = function(req, tokens, try) " .. send .. " end," or "", response, options.more or ""))
  return proxy
end
local function heads(path)
  local found = {}
  for _, h in ipairs(wire.heads(upstream.received())) do
    if not path or h.line:match "^%u+ (%S+)" == path then found[#found + 1] = h end
  end
  return found
end
local RETRY = [[ if res.status == 429 then assert(req:retry(res.headers.nonce)) end ]]

describe("req:retry", function()
  it("sends the request again through on_send, with its detail; on_request does not run again", function()
    start(RETRY, { request = "req.headers.counted = (req.headers.counted or '') .. 'i'" })
    local res = http.request(proxy.port, "POST", "/a", nil, "body")
    assert.same({ 200, "fine 1 body" }, { res.status, res.body }) -- on the connection that the first reply left free
    local h = heads("/a")
    assert.same({ 2, "1 first", "2 retry", "n1", "i" }, { #h, h[1].fields.try, h[2].fields.try, h[2].fields.x, h[2].fields.counted })
  end)

  it("works without an on_send, with headers that on_response has changed", function()
    start([[ if res.status == 429 then req.headers.x = "yes" assert(req:retry()) end ]], { send = false, request = "req.headers.x = 'no'" })
    assert.equal("fine 1 ", http.get(proxy.port, "/a").body)
    assert.same({ "no", "yes" }, { heads("/a")[1].fields.x, heads("/a")[2].fields.x })
  end)

  it("may take another upstream", function()
    local other = peers.raw(wire.fine)
    start([[ if res.status == 429 then req.upstream = "other" assert(req:retry()) end ]],
      { send = "req.headers.x = 'no' req.headers.port = req.target.port", more = ("upstreams = { other = 'http://127.0.0.1:%d' },"):format(other.port) })
    assert.equal("fine", http.get(proxy.port, "/a").body)
    assert.truthy(other.received():lower():find(("port: %d\r\n"):format(other.port), 1, true))
    process.poll(function() return proxy:output():find(" other ", 1, true) end, 5, "the other one's name in the access log")
  end)

  it("keeps to limits.retries, 1 unless it is given: nil, message, LIMIT", function()
    start [[ local ok, message, code = req:retry "no" res.headers.said = tostring(ok) .. " " .. tostring(message) .. " " .. tostring(code) ]]
    local res = http.get(proxy.port, "/a")
    assert.same({ 429, "busy", "nil the request cannot be sent again: limits.retries is reached LIMIT" }, { res.status, res.body, res.headers.said })
    assert.equal(2, #heads "/a")
  end)
  for retries = 0, 3, 3 do
    it("may be made " .. retries .. " times", function()
      start([[ req:retry "no" ]], { more = ("limits = { retries = %d },"):format(retries) })
      assert.equal(429, http.get(proxy.port, "/a").status)
      assert.equal(retries + 1, #heads "/a")
    end)
  end

  it("is not possible for a body that outgrew the replay buffer: nil, message, LIMIT", function()
    start([[ local ok, message, code = req:retry() res.headers.said = tostring(ok) .. " " .. tostring(message) .. " " .. tostring(code) ]],
      { more = "limits = { replay_buffer = 16 }," })
    local res = http.request(proxy.port, "POST", "/a", nil, ("x"):rep(300000))
    assert.same({ 429, "nil the request cannot be sent again: its body has gone, and was over limits.replay_buffer LIMIT" }, { res.status, res.headers.said })
    assert.equal(1, #heads "/a")
  end)

  it("is possible behind res:body()", function()
    start [[ if res.status == 429 and res:body() == "busy" then assert(req:retry "yes") end ]]
    assert.equal("fine 1 ", http.get(proxy.port, "/a").body)
  end)

  it("ends the wait of a task that the hook left behind", function()
    start([[ if res.status == 429 then
        jeton.spawn(function() local _, _, code = res:body() jeton.log.info("left behind: " .. tostring(code)) end)
        assert(req:retry "yes")
      end ]])
    assert.equal("fine 1 ", http.get(proxy.port, "/a").body)
    proxy:wait_log "left behind: CLOSED"
  end)

  it("does not wait for a long reply", function()
    start(RETRY, { fine = judging "('x'):rep(1000000)" })
    assert.equal("fine 2 ", http.get(proxy.port, "/a").body)
  end)

  it("gives way to req:respond behind it, and takes its place behind one", function()
    start [[
      if req.path == "/respond" then assert(req:retry()) req:respond(418, nil, "made here") end
      if req.path == "/retry" and res.status == 429 then req:respond(418) assert(req:retry "yes") end ]]
    local res = http.get(proxy.port, "/respond")
    assert.same({ 418, "made here" }, { res.status, res.body })
    assert.equal(200, http.get(proxy.port, "/retry").status)
    assert.same({ 1, 2 }, { #heads "/respond", #heads "/retry" })
  end)

  it("that gave way lets go of its detail with the request", function()
    start([[ if res.status == 429 then
        kept[1] = {}
        assert(req:retry(kept[1]))
        req:respond(418)
      end ]], { top = "local kept = setmetatable({}, { __mode = 'v' })", request = [[ if req.path == "/kept" then
        for i = 1, 50 do local garbage = ("x"):rep(100000) .. i end
        req:respond(200, nil, tostring(kept[1]))
      end ]], send = false })
    assert.equal(418, http.request(proxy.port, "GET", "/a", { x = "no" }).status)
    process.poll(function() return http.get(proxy.port, "/kept").body == "nil" end, 5, "the detail to be collected")
  end)

  it("drops what was changed of the reply with it, which is sent where it cannot be", function()
    start [[ if res.status == 429 then res.headers.before = "x" req:retry(res.headers.nonce) res.status = 418 res.headers.behind = "y" res:set_body("slow down") end ]]
    local res = http.get(proxy.port, "/a")
    assert.same({ 200 }, { res.status, res.headers.before, res.headers.behind })
    assert.not_equal("slow down", res.body)
    proxy:finish()
    start([[ req:retry() res.status = 418 res:set_body("slow down") ]], { more = "limits = { retries = 0 }," })
    res = http.get(proxy.port, "/a")
    assert.same({ 418, "slow down" }, { res.status, res.body })
  end)

  it("is of no use to a hook that fails", function()
    start [[ assert(req:retry()) error "no" ]]
    assert.equal(500, http.get(proxy.port, "/a").status)
    assert.equal(1, #heads "/a")
  end)

  it("leaves its mark in the log, on_log and the counters", function()
    start(RETRY, { more = "on_log = function(entry) jeton.log.info('retries ' .. entry.retries) end," })
    assert.equal(200, http.get(proxy.port, "/a").status)
    proxy:wait_log "retries 1"
    process.poll(function() return proxy:output():find(" retried\n", 1, true) end, 5, "the mark in the access log")
    assert.equal(1, proxy:status().workers[1].retries)
  end)

  it("sends a token with another one, which may be refused and replayed once itself", function()
    start([[ if res.status == 429 then req.headers.authorization = "Bearer " .. tokens.b assert(req:retry "yes") end ]], {
      request = [[ req.headers.authorization = "Bearer " .. tokens.a ]],
      tokens = [[ a = { fetch = function() return { value = "a", expires_in = 60 } end },
        b = { fetch = function(ctx) return { value = "b-" .. ctx.reason, expires_in = 60 } end } ]],
      fine = [[
        while true do
          local head = c:read "head"
          if not head then return c:close() end
          local token = head:match "Bearer (%S+)"
          local status = token == "a" and "429 Slow Down" or token == "b-first" and "401 Unauthorized" or "200 OK"
          c:write("HTTP/1.1 " .. status .. "\r\nContent-Length: 0\r\n\r\n")
        end]] })
    assert.equal(200, http.get(proxy.port, "/a").status)
    local seen = {}
    for i, h in ipairs(heads "/a") do seen[i] = h.fields.authorization .. " " .. h.fields.try end
    assert.same({ "Bearer a 1 first", "Bearer b-first 2 retry", "Bearer b-rejected 3 rejected" }, seen)
  end)

  for what, case in pairs {
    ["on_request"] = { { request = "req:retry()" }, "req:retry works in on_response only" },
    ["on_send"] = { { send = "req:retry()" }, "req:retry works in on_response only" },
    ["on_error"] = { { more = "on_error = function(req) req:retry() end,", request = "error 'x'" }, "req:retry works in on_response only" },
  } do
    it("raises in " .. what, function()
      start("", case[1])
      assert.equal(500, http.get(proxy.port, "/a").status)
      proxy:wait_log(case[2])
    end)
  end

  for what, code in pairs { headers = "req.headers.x = 'y'", upstream = "req.upstream = 'default'" } do
    it("is what on_response has to call when it changes the request: " .. what, function()
      start(code)
      assert.equal(500, http.get(proxy.port, "/a").status)
      proxy:wait_log "on_response changed the request, which has been sent: call req:retry() behind that to send it again, or change res instead"
    end)
  end
  it("lets nothing else be changed", function()
    start [[ req.path = "/b" req:retry() ]]
    assert.equal(500, http.get(proxy.port, "/a").status)
    proxy:wait_log "req.path: a request can be changed in on_request, what one try sends of it in on_send, and headers and upstream in on_response before req:retry()"
  end)
end)

if protocols.client == "h1" and protocols.upstream == "h1" then
  describe("req:retry behind a 101", function()
    it("is not possible: nil, message, CLOSED", function()
      start([[ local ok, message, code = req:retry() res.headers.said = tostring(ok) .. " " .. code ]], { fine = [[
        c:read "head"
        c:write "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        c:read(1)
        c:close()]] })
      local c = http.connect(proxy.port)
      c:send "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
      assert.equal("nil CLOSED", c:read_response("GET").headers.said)
      c:close()
    end)
  end)
end
