--- The path in an upstream's URL: no request leaves it, and rewrite_location takes it out of what the upstream says of itself.
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local peers = require "spec.support.peers"

local function get(path) return "GET " .. path .. " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" end
local function based(upstream, more) return ("upstream = { 'http://127.0.0.1:%d/base', %s },"):format(upstream.port, more or "") end

describe("the base path of an upstream", function()
  local upstream, proxy
  setup(function()
    upstream = peers.raw(wire.fine)
    proxy = wire.proxy(upstream, based(upstream) .. [[
      tokens = { api = { fetch = function() return { value = "tok3n", expires_in = 600 } end } },
      on_request = function(req, tokens)
        req.headers.authorization = "Bearer " .. tokens.api
        local to = req.headers["x-path"]
        if to then req.path = to end
      end,]])
  end)
  teardown(function()
    proxy:finish()
    upstream.process:stop()
  end)
  local function seen(from)
    local lines = {}
    for _, h in ipairs(wire.heads(upstream.received():sub(from + 1))) do lines[#lines + 1] = h.line end
    return lines
  end

  for _, path in ipairs {
    "/../x", "/../../x", "/a/../../x", "/..", "/%2e%2e/x", "/.%2E/x", "/..%2fx", "/%2e%2e%2fx", "/..%5cx", [[/..\x]], "/%252e%252e/x", "/..;/x", "/a%2fb/../../x", "//../x",
    "http://a/../x", "/..?q=1",
  } do
    it("is not left by " .. path, function()
      local before = #upstream.received()
      local reply = wire.exchange(proxy.port, get(path))
      assert.matches("^HTTP/1.1 400 ", reply)
      assert.matches("leaves the upstream's base path", reply)
      assert.equal(before, #upstream.received())
    end)
  end
  it("is not left by what a script makes of a client's words, and the connection lives on", function()
    local before = #upstream.received()
    local c = http.connect(proxy.port)
    assert.equal(400, c:request("GET", "/fine", { ["X-Path"] = "/files/../../x" }).status)
    assert.equal(before, #upstream.received())
    assert.equal(200, c:request("GET", "/fine").status)
    c:close()
  end)
  it("keeps what stays below it as it came", function()
    local before = #upstream.received()
    local paths = { "/a/../b", "/a/%2e%2e/b", "/a%2f..%2fb", "/...", "/..a", "/a%2fb", "/a?x=/../../y", "/100%25" }
    for _, path in ipairs(paths) do assert.matches("^HTTP/1.1 200 ", (wire.exchange(proxy.port, get(path)))) end
    for i, path in ipairs(paths) do paths[i] = "GET /base" .. path .. " HTTP/1.1" end
    assert.same(paths, seen(before))
  end)
  it("that is not there is nothing to leave", function()
    local p = wire.proxy(upstream)
    local before = #upstream.received()
    assert.matches("^HTTP/1.1 200 ", (wire.exchange(p.port, get "/../x")))
    assert.same({ "GET /../x HTTP/1.1" }, seen(before))
    p:finish()
  end)
end)

describe("a Location", function()
  --- Answers with the Location that the query asks for, where PORT is its own port and ~ a #.
  local upstream
  setup(function()
    upstream = peers.raw [[
      local port = c.tcp:getsockname().port
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        local to = head:match "%?(%S*)":gsub("PORT", tostring(port)):gsub("~", "#")
        c:write("HTTP/1.1 302 Found\r\nLocation: " .. to .. "\r\nContent-Length: 0\r\n\r\n")
      end]]
  end)
  teardown(function() upstream.process:stop() end)
  local function location(p, to) return http.get(p.port, "/?" .. to).headers.location end

  it("that names the upstream is said as the client knows it, with rewrite_location", function()
    local p = wire.proxy(upstream, based(upstream, "rewrite_location = true"))
    for to, said in pairs {
      ["http://127.0.0.1:PORT/base/x?y=z~f"] = "/x?y=z#f",
      ["//127.0.0.1:PORT/base/x"] = "/x",
      ["/base/x"] = "/x",
      ["/base"] = "/",
      ["/base//evil.example/"] = "/.//evil.example/",
      ["/based"] = "/based",
      ["/base/../x"] = "/base/../x",
      ["/other"] = "/other",
      ["x"] = "x",
      ["https://login.example/base/x"] = "https://login.example/base/x",
    } do assert.equal(said, location(p, to)) end
    p:finish()
  end)
  it("is seen by on_response as it will be said, and may be changed there", function()
    local p = wire.proxy(upstream, based(upstream, "rewrite_location = true") .. "on_response = function(res) res.headers.location = res.headers.location .. '?seen' end,")
    assert.equal("/x?seen", location(p, "/base/x"))
    p:finish()
  end)
  it("may name the upstream by the Host that it was sent", function()
    local p = wire.proxy(upstream, based(upstream, "rewrite_location = true, preserve_host = true"))
    assert.equal("/x", http.get(p.port, "/?http://front.example/base/x", { Host = "front.example" }).headers.location)
    p:finish()
  end)
  it("is relayed as it came without rewrite_location", function()
    local p = wire.proxy(upstream, based(upstream))
    assert.equal(("http://127.0.0.1:%d/base/x"):format(upstream.port), location(p, "http://127.0.0.1:PORT/base/x"))
    p:finish()
  end)
end)
