--- An upstream of two URLs, one of which takes connections and does not serve (spec/README.md, 36b): it is passed over after a few failures, and what may be sent
--- twice goes to the other one.
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local GOOD = [[
  while true do
    local head = c:read "head"
    if not head then return end
    local n = tonumber(head:match "[Cc]ontent%-[Ll]ength: (%d+)") or 0
    local body = n > 0 and c:read(n) or "good"
    c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
  end]]

--- What a sick one does with each connection.
local SICK = {
  hangs = [[ c:read "head" c:sleep(60000) ]],
  ["closes without a reply"] = [[ c:read "head" c:close() ]],
  resets = [[ c:read "head" c:reset() ]],
  ["answers 503"] = [[ while c:read "head" do c:write "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nsick" end ]],
  ["answers 502 in chunks"] = [[ while c:read "head" do c:write "HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsick\r\n0\r\n\r\n" end ]],
  ["answers 504 and closes"] = [[ c:read "head" c:write "HTTP/1.1 504 Gateway Timeout\r\n\r\nsick" c:close() ]],
  ["answers with garbage"] = [[ c:read "head" c:write "SSH-2.0-OpenSSH_9.2\r\n\r\n" c:close() ]],
  ["breaks off its heads"] = [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Le" c:close() ]],
}

--- What notices it: the good one never takes as long, however busy this machine is.
local LIMIT = { hangs = "first_byte = '1s'" }

local good
setup(function() good = peers.raw(GOOD) end)
teardown(function() good.process:stop() end)

local function start(sick, other, more)
  return jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", "http://127.0.0.1:%d" }, timeouts = { %s } }]])
    :format(sick.port, (other or good).port, more or "first_byte = '10s'"))
end

local function count(text, what) return select(2, text:gsub(what, "")) end
local function heads(peer, method) return count(peer.received(), method .. " /") end

local function statuses(p, n, method, body)
  local list = {}
  for i = 1, n do list[i] = http.request(p.port, method, "/", nil, body).status end
  return list
end
local function of(list, status)
  local n = 0
  for _, s in ipairs(list) do n = n + (s == status and 1 or 0) end
  return n
end

describe("an upstream of two URLs", function()
  for what, script in pairs(SICK) do
    it("serves every GET while one " .. what .. ", and asks that one a few times only", function()
      local sick = peers.raw(script)
      local p = start(sick, good, LIMIT[what])
      assert.equal(20, of(statuses(p, 20, "GET"), 200), p:errors())
      assert.equal(3, heads(sick, "GET"))
      assert.equal(1, count(p:errors(), "3 failures in a row, it is passed over for a while"))
      assert.equal(3, p:status().workers[1].failovers)
      p:finish()
      sick.process:stop()
    end)
    it("fails a few POSTs only while one " .. what, function()
      local sick = peers.raw(script)
      local p = start(sick, good, LIMIT[what])
      assert.equal(17, of(statuses(p, 20, "POST", "text"), 200))
      assert.equal(3, heads(sick, "POST"))
      p:finish()
      sick.process:stop()
    end)
  end

  it("sends a PUT with its body to the other one, whole", function()
    local sick = peers.raw(SICK.resets)
    local p = start(sick)
    local body = ("x"):rep(60000)
    for _ = 1, 4 do
      local res = http.request(p.port, "PUT", "/", nil, body)
      assert.equal(200, res.status)
      assert.equal(body, res.body)
    end
    p:finish()
    sick.process:stop()
  end)
  it("moves a request once: with both sick the client gets the second one's answer", function()
    local a, b = peers.raw(SICK["answers 503"]), peers.raw((SICK["answers 503"]:gsub("sick", "both")))
    local p = start(a, b)
    local res = http.get(p.port)
    assert.same({ 503, "both" }, { res.status, res.body })
    assert.same({ 1, 1 }, { heads(a, "GET"), heads(b, "GET") })
    for _ = 1, 10 do assert.equal(503, http.get(p.port).status) end -- out or not, one has to be asked
    p:finish()
    a.process:stop()
    b.process:stop()
  end)
  it("passes a 500 and a 429 on as they are, and keeps asking", function()
    local sick = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n" end ]]
    local p = start(sick)
    assert.equal(5, of(statuses(p, 10, "GET"), 500))
    p:finish()
    sick.process:stop()
  end)
  it("leaves a reply that breaks off behind its head cut, and passes its server over after a few", function()
    local sick = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" c:close() ]]
    local p = start(sick)
    local cut = 0
    for _ = 1, 20 do
      local ok, res = pcall(http.get, p.port)
      if not ok or not res or res.body ~= "good" then cut = cut + 1 end
    end
    assert.equal(3, cut)
    p:finish()
    sick.process:stop()
  end)
  it("notices a server that is silent by the clients that give up, and by timeouts.exchange", function()
    local sick = peers.raw(SICK.hangs)
    local p = start(sick, good, "first_byte = '60s'")
    for _ = 1, 6 do pcall(http.request, p.port, "GET", "/", nil, nil, 1.5) end
    process.poll(function() return p:errors():find("3 failures in a row", 1, true) end, 10, "the silent one to be out")
    assert.equal(10, of(statuses(p, 10, "GET"), 200))
    p:finish()
    p = start(sick, good, "exchange = '1200ms'")
    assert.equal(3, of(statuses(p, 20, "GET"), 504))
    p:finish()
    sick.process:stop()
  end)
  it("asks a server that is out again after a while, and takes it back when it serves", function()
    local flag = process.temp_dir() .. "/well"
    local sick = peers.raw(([[
      while c:read "head" do
        local f = io.open %q
        if f then
          f:close()
          c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback"
        else
          c:write "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        end
      end]]):format(flag))
    local p = start(sick)
    assert.equal(10, of(statuses(p, 10, "GET"), 200))
    process.write_file(flag, "")
    process.poll(function() return http.get(p.port).body == "back" end, 20, "the server to be tried again")
    assert.truthy(p:errors():find("it serves again", 1, true))
    local back = 0
    for _ = 1, 10 do back = back + (http.get(p.port).body == "back" and 1 or 0) end
    assert.equal(5, back)
    p:finish()
    sick.process:stop()
  end)
  it("keeps what it knows over a reload", function()
    local sick = peers.raw(SICK["answers 503"])
    local p = start(sick)
    assert.equal(10, of(statuses(p, 10, "GET"), 200))
    assert.equal(200, (p:control("POST", "/reload")).status)
    assert.equal(10, of(statuses(p, 10, "GET"), 200))
    assert.equal(3, heads(sick, "GET"))
    p:finish()
    sick.process:stop()
  end)
end)
