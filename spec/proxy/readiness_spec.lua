--- What an operator sees of a token that is not there: /live, /ready, run --prove; a fetch that hangs; refusals. A fetch waits while the spec's file `hold` is there.
local unix = require "socket.unix"
local uv = require "luv"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local dir, proxy

before_each(function() dir = process.temp_dir() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- A token's table whose fetch waits for the file to go, and numbers its values.
local function held(name, more)
  return ([[ { fetch = function(ctx) while jeton.file.stat(%q) do jeton.sleep(0.02) end n = n + 1 return { value = "v" .. n, expires_in = 600, %s } ]])
    :format(dir .. "/" .. name, more or "")
end
local function policy(tokens, prove)
  return ([[
local n = 0
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", timeouts = { prove = %q },
  tokens = { %s },
  on_request = function(req, tokens) if tokens.api then req.headers.x = "" .. tokens.api end end }]]):format(prove or "1s", tokens)
end
local function hold(name) process.write_file(dir .. "/" .. name, "") end
local function let_go(name) assert(os.remove(dir .. "/" .. name)) end
local function ready()
  local res, body = proxy:control("GET", "/ready")
  assert.equal(res.status == 200, body.ready)
  local health = proxy:control("GET", "/health")
  assert.equal(res.status, health.status)
  return res.status, body
end
local function becomes(status) process.poll(function() return proxy:control("GET", "/ready").status == status end, 5, function() return proxy:errors() end) end
local function line(text)
  for l in proxy:errors():gmatch "[^\n]+" do
    if l:find(text, 1, true) then return l end
  end
end
local function count(text) return select(2, proxy:errors():gsub(text:gsub("%p", "%%%0"), "")) end

describe("readiness", function()
  it("waits for every token's value, and names those that are missing", function()
    hold "a"
    proxy = jeton.start(policy("api = " .. held "a" .. "end }, other = " .. held "none" .. "end }"))
    assert.equal(503, (ready()))
    process.poll(function() return #select(2, ready()).missing == 1 end)
    local status, body = ready()
    assert.equal(503, status)
    assert.equal("api", body.missing[1].name)
    assert.equal("fetching", body.missing[1].state)
    assert.matches("^fetching for %d+ s %(first%)$", body.missing[1].why)
    assert.is_truthy(proxy:errors():find("not ready yet: a token has no valid value", 1, true))
    local live, told = proxy:control("GET", "/live")
    assert.same({ 200, true }, { live.status, told.live })
    local _, out = jeton.run { "status", "--control", proxy.control_path }
    assert.matches("not ready", out)
    assert.matches("api +fetching +generation 0, fetching for %d+ s %(first%)", out)
    assert.matches("jeton_ready 0", proxy:control("GET", "/metrics").body)
    let_go "a"
    becomes(200)
    process.poll(function() return line "info  ready" end)
    assert.matches("jeton_ready 1", proxy:control("GET", "/metrics").body)
  end)

  it("is there at once without tokens, and without those that do not count", function()
    hold "a"
    proxy = jeton.start(policy("pass = " .. held "a" .. 'end, missing = "pass" }, calm = ' .. held "a" .. "end, ready = false }, tenant = " .. held "a" .. "end, family = true }"))
    assert.equal(200, (ready()))
    process.poll(function() return line "info  ready" end)
    let_go "a"
  end)

  it("ends with the last value's life, comes back, and ends with the process", function()
    proxy = jeton.start(([[local n = 0
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  tokens = { api = { leeway = 0, backoff = { min = "20ms", max = "50ms" }, fetch = function()
    if jeton.file.stat(%q) then return nil, "the issuer is away" end
    return { value = "v", expires_in = 0.5 }
  end } } }]]):format(dir .. "/away"))
    becomes(200)
    hold "away"
    becomes(503)
    process.poll(function() return select(2, ready()).missing[1].why:find("the issuer is away", 1, true) end, 5, "the reason")
    process.poll(function() return line "info  ready" end)
    let_go "away"
    becomes(200)
    assert.equal(1, count "info  ready") -- once
  end)

  it("is told to the service manager when it is there, not before", function()
    local path = dir .. "/notify"
    local manager = assert(unix.dgram())
    assert(manager:bind(path))
    manager:settimeout(0)
    hold "a"
    proxy = jeton.start { policy = policy("api = " .. held "a" .. "end }"), env = { NOTIFY_SOCKET = path } }
    assert.equal(503, (ready()))
    assert.is_nil((manager:receive()))
    let_go "a"
    assert.equal("READY=1", process.poll(function() return (manager:receive()) end, 5, "a word from jeton"))
    becomes(200)
    manager:close()
  end)
end)

describe("run --prove", function()
  it("ends with 69 when a token has no value in time, and says which and why", function()
    local p = jeton.start { policy = policy [[api = { fetch = function() return nil, "wrong password" end }]], args = { "--prove" }, wait = false }
    local code = p:wait(20)
    assert.equal(69, code)
    assert.is_truthy(p:errors():find("not every token has a value within timeouts.prove: jeton cannot start", 1, true), p:errors())
    assert.matches("token api: .*wrong password", p:errors())
  end)

  it("goes on when they come in time, and an outage later does not end it", function()
    hold "a"
    proxy = jeton.start { policy = policy("api = " .. held "a" .. "end }", "4s"), args = { "--prove" } }
    let_go "a"
    becomes(200)
    process.poll(function() return line "info  ready" end)
    hold "a"
    uv.sleep(4300)
    assert.equal(200, (ready()))
  end)
end)

describe("a fetch that hangs", function()
  it("shows for how long and why in status, in a line, and in the 503", function()
    hold "a"
    proxy = jeton.start(policy("api = " .. held "a" .. 'end, wait = "50ms" }'))
    process.poll(function() return line "s and has not ended (first, attempt 1); there is no valid token" end)
    local t = proxy:status().tokens[1]
    assert.is_true(t.fetching_for > 1.5)
    assert.equal("first", t.fetch_reason)
    local res = http.get(proxy.port)
    assert.equal(503, res.status)
    assert.matches("its fetch has not ended yet", res.body)
    process.poll(function() return line "no valid token api: its fetch has taken " end)
    assert.equal(1, count "has not ended (first")
    let_go "a"
    process.poll(function() return line "generation 1, expires in " end)
    assert.matches("%(first, attempt 1, %d+ ms%)", line "generation 1, expires in ")
  end)

  it("is given up for jeton refresh", function()
    hold "a"
    proxy = jeton.start(policy("api = " .. held "a" .. "end }"))
    process.poll(function() return line "has not ended (first" end)
    local p = process.start { jeton.binary, "refresh", "api", "--control", proxy.control_path }
    process.poll(function() return line "is given up for a refresh by hand" end)
    let_go "a"
    assert.equal(0, p:wait(10), p:errors())
    local t = proxy:status().tokens[1]
    assert.same({ 1, 2, 1, 0 }, { t.generation, t.fetches, t.failures, t.consecutive_failures })
    process.poll(function() return (line "generation 1, expires in " or ""):match "%(manual, attempt 1, %d+ ms%)" end)
  end)

  for what, token in pairs {
    ["says that it rotates"] = function() return held "a" .. "end, rotates = true }" end,
    ["follows one that brought fields"] = function() return held("a", [[fields = { refresh_token = "r" }]]) .. "end }" end,
  } do
    it("goes on, and its late reply is taken, when it " .. what, function()
      local first = what:find "fields"
      if not first then hold "a" end
      proxy = jeton.start(policy("api = " .. token()))
      if first then
        becomes(200)
        hold "a"
        process.start { jeton.binary, "refresh", "api", "--control", proxy.control_path }
      end
      process.poll(function() return line " s and has not ended (" end)
      local p = process.start { jeton.binary, "refresh", "api", "--control", proxy.control_path }
      process.poll(function() return line "it goes on, and the refresh waits for it" end)
      let_go "a"
      assert.equal(0, p:wait(10), p:errors())
      assert.equal(first and 2 or 1, proxy:status().tokens[1].fetches)
      assert.equal(0, proxy:status().tokens[1].failures)
    end)
  end

  it("with oauth2.refresh_token goes on: its reply saves the new refresh token", function()
    local raw = peers.raw(([[ while true do
      local head = c:read "head"
      if not head then return c:close() end
      c:read(tonumber(head:lower():match "content%%-length: (%%d+)"))
      while io.open(%q) do c:sleep(20) end
      local body = '{"access_token":"a","expires_in":600,"refresh_token":"R2"}'
      c:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body)
    end ]]):format(dir .. "/a"))
    hold "a"
    process.write_file(dir .. "/login", "R1")
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
      tokens = { api = require "jeton.oauth2".refresh_token { token_url = "http://127.0.0.1:%d/t", client_id = "c", auth = "none", path = %q } } }]])
      :format(raw.port, dir .. "/login"))
    process.poll(function() return line "has not ended (first" end)
    local p = process.start { jeton.binary, "refresh", "api", "--control", proxy.control_path }
    process.poll(function() return line "it goes on, and the refresh waits for it" end)
    let_go "a"
    assert.equal(0, p:wait(10), p:errors())
    assert.equal("R2", (process.read_file(dir .. "/login"):gsub("%s+$", "")))
    assert.equal(1, select(2, raw.received():gsub("refresh_token=", "")))
  end)
end)

describe("a refused token", function()
  it("leaves a line, and the fetch that follows says so", function()
    local w = peers.world()
    proxy = jeton.start(peers.policy(w))
    assert.equal(200, http.get(proxy.port).status)
    w:order { revoke = true }
    assert.equal(200, http.get(proxy.port).status)
    process.poll(function() return proxy:errors():match "an upstream refused generation 1, %d+ s after it was fetched; it is fetched anew" end)
    process.poll(function() return (line "generation 2, expires in " or ""):match "%(rejected, attempt 1, %d+ ms%)" end) -- the waiting request goes first
    for _ = 1, 3 do assert.equal(200, http.get(proxy.port).status) end
    assert.equal(1, count "an upstream refused generation")
    w:stop()
  end)
end)
