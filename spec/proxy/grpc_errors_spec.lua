--- What a gRPC call gets where jeton answers itself: a status of gRPC's in the trailers-only form, whatever the protocol. Here over HTTP/1.1, which shows every field;
--- spec/proxy/grpc_spec.lua has real clients.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local proxy
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local function start(policy, ...) proxy = jeton.start(select("#", ...) > 0 and policy:format(...) or policy) end
--- `headers` may replace the Content-Type; a body, or "" as a message of gRPC's.
local function call(path, headers, body, seconds)
  local all = { ["Content-Type"] = "application/grpc", TE = "trailers" }
  for name, value in pairs(headers or {}) do all[name] = value or nil end
  return assert(http.request(proxy.port, "POST", path, all, body or "\0\0\0\0\0", seconds))
end

--- The reply is of the trailers-only form, with this status; its message, decoded.
local function grpc(res, status)
  assert.equal(200, res.status)
  assert.equal("application/grpc", res.headers["content-type"])
  assert.equal(tostring(status), res.headers["grpc-status"])
  assert.equal("", res.body)
  assert.equal("0", res.headers["content-length"])
  local message = res.headers["grpc-message"]:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  assert.matches(" %(request %x+%)$", message)
  if status ~= 14 then assert.is_nil(res.headers["grpc-retry-pushback-ms"]) end
  return message
end

describe("a gRPC call that fails here", function()
  it("for want of a token is unavailable (14), with a hint when to come again", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      tokens = { api = { fetch = function() return nil, "no luck", { retry_after = 7 } end, wait = "10ms" } },
      on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end }]]
    proxy:wait_log "no luck"
    local res = call "/s/m"
    local message = grpc(res, 14)
    assert.matches("^there is no valid token", message)
    assert.is_nil(message:find("no luck", 1, true))
    local wait = tonumber(res.headers["retry-after"])
    assert.is_true(wait >= 1, tostring(wait))
    assert.equal(tostring(wait * 1000), res.headers["grpc-retry-pushback-ms"])
  end)

  it("because its upstream is not there is unavailable (14), without a hint", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }]]
    local res = call "/s/m"
    grpc(res, 14)
    assert.is_nil(res.headers["grpc-retry-pushback-ms"])
    assert.is_nil(res.headers["retry-after"])
  end)

  it("because its upstream is silent has passed its deadline (4), and so has one that took too long as a whole", function()
    local port, done = peers.hanging_port()
    local mute = peers.raw 'c:read "head"; c:sleep(5000)'
    start([[return { listen = "127.0.0.1:0", upstreams = {
        far = { "http://127.0.0.1:%d", timeouts = { connect = "200ms" } },
        mute = { "http://127.0.0.1:%d", timeouts = { first_byte = "200ms" } } },
      on_request = function(req) req.upstream = req.path:match "^/(%%w+)/" end }]], port, mute.port)
    grpc(call "/far/m", 4)
    grpc(call "/mute/m", 4)
    done()
    proxy:finish()
    start([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", timeouts = { exchange = "200ms" } }]], mute.port)
    grpc(call "/s/m", 4)
  end)

  it("because its upstream's reply is none is an internal error (13), which nobody sends again", function()
    local garbage = peers.raw 'c:read "head"; c:write "220 hello\\r\\n\\r\\n"'
    local asks = peers.raw 'c:read "head"; c:write "HTTP/1.1 407 No\\r\\nContent-Length: 0\\r\\n\\r\\n"'
    start([[return { listen = "127.0.0.1:0", upstreams = { garbage = "http://127.0.0.1:%d", asks = "http://127.0.0.1:%d" },
      on_request = function(req) req.upstream = req.path:match "^/(%%w+)/" end }]], garbage.port, asks.port)
    grpc(call "/garbage/m", 13)
    grpc(call "/asks/m", 13)
  end)

  it("by a script is an internal error (13)", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", limits = { script_time = "20ms" },
      on_request = function(req)
        if req.path == "/s/raise" then error "on purpose" end
        if req.path == "/s/loop" then while true do end end
        if req.path == "/s/return" then return 403 end
      end }]]
    for _, path in ipairs { "/s/raise", "/s/loop", "/s/return" } do
      assert.matches("^Internal Server Error", grpc(call(path), 13))
    end
  end)

  it("because the policy refuses it has no permission (7)", function()
    local upstream = peers.raw 'c:read "head"; c:write "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"'
    start([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", forward = { hosts = { "api.example.com", "localhost:1" } },
      tokens = { api = { fetch = function() return { value = "v", expires_in = 60 } end, hosts = { "api.example.com" } } },
      on_request = function(req, tokens) if req.path == "/s/token" then req.headers.authorization = "Bearer " .. tokens.api end end }]], upstream.port)
    grpc(call "/s/token", 7)
    assert.matches("^the policy does not forward to this host", grpc(call "http://other.example.com/s/m", 7))
    assert.matches("^the host leads to no address", grpc(call "http://localhost:1/s/m", 7))
    assert.equal("", upstream.received())
  end)

  it("because no upstream is for it is not implemented (12)", function()
    start [[return { listen = "127.0.0.1:0", on_request = function() end }]]
    grpc(call "/s/m", 12)
  end)

  it("because its path leaves the upstream's, or a forward proxy's is no URL, is an internal error (13), as gRPC takes a 400", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1/base" }]]
    assert.matches("^the path leaves", grpc(call "/a/../../b", 13))
    proxy:finish()
    start [[return { listen = "127.0.0.1:0", forward = { hosts = { "a.example.com" } } }]]
    grpc(call "/s/m", 13)
  end)

  it("by its size has exhausted a resource (8), whether its length is known or not", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", limits = { body = 1000 }, on_request = function(req) if req.path == "/s/wait" then req:body() end end }]]
    grpc(call("/s/m", nil, ("x"):rep(2000)), 8)
    local c = http.connect(proxy.port)
    c:send "POST /s/wait HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
    c:send("7d0\r\n" .. ("x"):rep(2000) .. "\r\n")
    grpc(c:read_response "POST", 8)
    c:close()
  end)

  it("by its slowness has passed its deadline (4)", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", timeouts = { body = "200ms" }, on_request = function(req) req:body() end }]]
    local c = http.connect(proxy.port)
    c:send "POST /s/m HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 10\r\n\r\nx"
    grpc(c:read_response "POST", 4)
    c:close()
  end)

  it("is told by its Content-Type and its method", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }]]
    for _, type in ipairs { "application/grpc+proto", "application/grpc+json; a=b", "application/grpc;charset=utf-8", "application/grpc ; a=b", "Application/gRPC" } do
      grpc(call("/s/m", { ["Content-Type"] = type }), 14)
    end
    for _, type in ipairs { "application/grpc-web", "application/grpc-web+proto", "application/grpcs", "application/grp", "application/json", "text/plain; application/grpc", false } do
      assert.equal(502, call("/s/m", { ["Content-Type"] = type }).status)
    end
    assert.equal(502, http.get(proxy.port, "/s/m", { ["Content-Type"] = "application/grpc" }).status)
    assert.equal(405, http.request(proxy.port, "CONNECT", "a.example.com:443", { Host = "a.example.com:443", ["Content-Type"] = "application/grpc" }).status)
  end)

  it("leaves its connection open", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }]]
    local c = http.connect(proxy.port)
    for _ = 1, 3 do grpc(c:request("POST", "/s/m", { ["Content-Type"] = "application/grpc" }, "\0\0\0\0\0"), 14) end
    c:close()
  end)

  it("is logged and counted with the status of the failure, beside what the client got", function()
    start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      tokens = { api = { fetch = function() return nil, "no luck" end, wait = "10ms" } },
      on_request = function(req, tokens) if req.path == "/s/token" then req.headers.authorization = tokens.api end end,
      on_log = function(e) jeton.log.info(("entry %s %s %s %s"):format(e.path, e.status, e.grpc_status, e.error)) end }]]
    grpc(call "/s/token", 14)
    grpc(call "/s/refused", 14)
    call("/plain", { ["Content-Type"] = "text/plain" })
    proxy:wait_log "entry /s/token 503 14 no valid token api"
    proxy:wait_log "entry /s/refused 502 14 "
    proxy:wait_log "entry /plain 502 nil "
    process.poll(function() return proxy:output():match '"POST /s/token HTTP/1.1" 503 %d+ %S+ms %- %x+ grpc=14\n' end, 5, "the access log's line")
    process.poll(function() return proxy:output():match '"POST /s/refused HTTP/1.1" 502 %d+ %S+ms default %x+ grpc=14\n' end, 5, "the access log's line")
    process.poll(function() return proxy:output():match '"POST /plain HTTP/1.1" 502 %d+ %S+ms default %x+\n' end, 5, "the access log's line")
    local responses = proxy:status().workers[1].responses
    assert.same({ 0, 3 }, { responses["2xx"], responses["5xx"] })
  end)
end)

describe("a reply to a gRPC call that jeton does not make", function()
  it("goes out as it is: a hook's, and an upstream's", function()
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:read(5)
        c:write "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\n<p>no</"
      end]]
    start([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      on_request = function(req)
        if req.path == "/own" then req:respond(403, nil, "not you") end
        if req.path == "/grpc" then req:respond(200, { ["content-type"] = "application/grpc", ["grpc-status"] = 16, ["grpc-message"] = "log in" }) end
        if req.path == "/raise" then error "on purpose" end
      end,
      on_error = function(req, err) req:respond(err.status, { ["x-code"] = err.code }, "shaped") end }]], upstream.port)
    local res = call "/own"
    assert.same({ 403, "not you" }, { res.status, res.body })
    assert.is_nil(res.headers["grpc-status"])
    res = call "/grpc"
    assert.same({ 200, "16", "log in", "" }, { res.status, res.headers["grpc-status"], res.headers["grpc-message"], res.body })
    res = call "/raise"
    assert.same({ 500, "SCRIPT", "shaped" }, { res.status, res.headers["x-code"], res.body })
    assert.is_nil(res.headers["grpc-status"])
    res = call "/upstream"
    assert.same({ 502, "<p>no</" }, { res.status, res.body })
    assert.is_nil(res.headers["grpc-status"])
  end)

  it("is cut when it breaks off: no status is made up behind a part of it", function()
    local upstream = peers.raw [[c:read "head"; c:write "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"; c:sleep(200); c:close()]]
    start([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d" }]], upstream.port)
    local c = http.connect(proxy.port)
    c:send "POST /s/m HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0"
    local all, why = c:read_all(5)
    assert.equal("closed", why)
    assert.matches("\r\n5\r\nhello\r\n$", all)
    assert.is_nil(all:find("grpc-status", 1, true))
    c:close()
  end)
end)

describe("a token that a gRPC server refuses by a status of its own", function()
  --- Takes the second token alone; refuses in the trailers-only form, or behind a head.
  local function server(status, behind)
    return peers.raw(([[
      local status, behind = %d, %s
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        c:read(5)
        if head:find "Bearer t2\r" then
          c:write "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ngrpc-status: 0\r\n\r\n"
        elseif behind then
          c:write("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ngrpc-status: " .. status .. "\r\n\r\n")
        else
          c:write("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: " .. status .. "\r\nContent-Length: 0\r\n\r\n")
        end
      end]]):format(status, tostring(behind)))
  end
  local function run(upstream, token)
    start([[local n = 0
      return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
        tokens = { api = { fetch = function() n = n + 1 return { value = "t" .. n, expires_in = 60 } end, %s } },
        on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end }]], upstream.port, token or "")
  end
  local function fetches() return proxy:status().tokens[1].fetches end

  it("is refreshed, and the call made again, when it is 16 (UNAUTHENTICATED) in the place of a 401", function()
    run(server(16, false))
    local res = call "/s/m"
    assert.same({ 200, "0" }, { res.status, res.trailers["grpc-status"] })
    assert.equal(2, fetches())
  end)

  it("and so when it is 7 (PERMISSION_DENIED), where reject_on has 403", function()
    run(server(7, false), "reject_on = { 403 }")
    assert.equal("0", call("/s/m").trailers["grpc-status"])
    assert.equal(2, fetches())
  end)

  it("stays for any other status, for one behind a head that has gone out, and for what is no call", function()
    run(server(7, false))
    assert.equal("7", call("/s/m").headers["grpc-status"])
    assert.equal(1, fetches())
    proxy:finish()
    run(server(16, true))
    assert.equal("16", call("/s/m").trailers["grpc-status"])
    assert.equal(1, fetches())
    proxy:finish()
    run(server(16, false))
    assert.equal("16", call("/s/m", { ["Content-Type"] = "text/plain" }).headers["grpc-status"])
    assert.equal(1, fetches())
  end)
end)
