--- HTTP/2 by section of RFC 9113 and RFC 7541: raw frames against a plain and a TLS listener (spec/security/h2/cases.py and more.py), judged by strict rules.
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local verdicts = require "spec.support.verdicts"


local names = verdicts.names("conformance.py", 200)

--- An upstream that reads a request's body to its end and answers then, so that no reply comes early: a short one, for /big one of 300,000 bytes.
local UPSTREAM = [[
  while true do
    local head = c:read "head"
    if not head then return c:close() end
    local n = tonumber(head:match "\r\nContent%-Length: (%d+)" or head:match "\r\ncontent%-length: (%d+)" or 0)
    if n > 0 and not c:read(n) then return c:close() end
    if head:lower():find("\r\ntransfer-encoding: chunked", 1, true) then
      while true do
        local line = c:read "line"
        if not line then return c:close() end
        local size = tonumber(line:match "^%x+", 16)
        if size == 0 then break end
        if not c:read(size + 2) then return c:close() end
      end
      repeat
        local line = c:read "line"
        if not line then return c:close() end
      until line == "\r\n"
    end
    local body = head:find("^%S+ /big ") and ("b"):rep(300000) or "hello, this is a body"
    c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(#body) .. (head:find "^HEAD " and "" or body))
  end]]

describe("HTTP/2", function()
  local upstream, proxy
  setup(function()
    local dir = process.temp_dir()
    assert(process.run { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-days", "2",
      "-keyout", dir .. "/listener.key", "-out", dir .. "/listener.pem" } == 0)
    upstream = peers.raw(UPSTREAM)
    proxy = jeton.start(([[return { upstream = "http://127.0.0.1:%d", log = { access = false },
      listen = { "127.0.0.1:0", { "127.0.0.2:0", tls = { certificates = { { cert = "%s/listener.pem", key = "%s/listener.key" } } } } } }]]):format(upstream.port, dir, dir))
  end)

  for i, listener in ipairs { "plain", "tls" } do
    describe(listener == "plain" and "by prior knowledge" or "over TLS", function()
      local played
      setup(function() played = verdicts.play("conformance.py", { "run", "127.0.0." .. i, proxy:port_of(i), listener }, 60) end)
      for _, name in ipairs(names) do
        it("section " .. name, function() verdicts.check(played, name) end)
      end
    end)
  end

  it("ends well", function() proxy:finish() end)
end)

--- The reply goes before most of what is wrong comes. What a client does wrong is told all the same, by the rules that hold for any server.
describe("HTTP/2 that is answered before the request's end", function()
  it("tells a slow client its errors, too", function()
    local proxy = jeton.start [[return { listen = "127.0.0.1:0", log = { access = false }, upstream = "http://127.0.0.1:1",
      on_request = function(req) req:respond(200, {}, "hello, this is a body") end }]]
    local played, count = verdicts.play("conformance.py", { "run", "127.0.0.1", proxy.port, "plain", "loose", 20 }, 60), 0
    for name in pairs(played) do
      verdicts.check(played, name)
      count = count + 1
    end
    assert.equal(147, count)
    proxy:finish()
  end)
end)
