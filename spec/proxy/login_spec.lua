--- A login that its issuer renews with each refresh (oidc-provider): whatever ends, stops or replaces the program, the refresh token is neither lost nor spent
--- twice, since either locks everybody out until a person logs in again.
local cjson = require "cjson"
local uv = require "luv"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local oidc, ports, dir
before_each(function()
  oidc, ports = peers.oidc()
  dir = process.temp_dir()
end)
after_each(function() oidc:stop() end)

local function world(orders)
  local res = http.request(math.tointeger(ports.upstream), orders and "POST" or "GET", "/world", nil, orders and cjson.encode(orders))
  return cjson.decode(res.body)
end

--- A policy whose token refreshes the login of `client`; `options` are further ones as Lua text.
local function policy(options, more, client)
  return ([[
local oauth2 = require "jeton.oauth2"
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
  tokens = { api = oauth2.refresh_token {
    token_url = "http://127.0.0.1:%d/token", client_id = %q, client_secret = jeton.secret.value %q, %s
  } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
  %s
}]]):format(ports.upstream, ports.issuer, client or "app", ports.secret, options, more or "")
end
local function with_path(text)
  local path = dir .. "/refresh"
  process.write_file(path, (text or ports.refresh) .. "\n")
  return ("path = %q,"):format(path), path
end
local function granted() return #world().granted end
local function saved(path) return (process.read_file(path):gsub("%s+$", "")) end
local function refresh(p) return jeton.run { "refresh", "api", "--control", p.control_path } end
--- Starts a refresh and comes back when the issuer has decided it, and not answered yet.
local function begin_refresh(p, delay)
  local before = granted()
  world { delay = delay }
  local r = process.start { jeton.binary, "refresh", "api", "--control", p.control_path }
  process.poll(function() return granted() > before end, 5, "the issuer to rotate")
  return r
end

describe("the end of the program", function()
  for how, stop in pairs {
    SIGTERM = function(p) p:kill "sigterm" end,
    SIGINT = function(p) p:kill "sigint" end,
    ["jeton stop"] = function(p) assert.equal(0, (jeton.run { "stop", "--control", p.control_path })) end,
  } do
    it("waits for a refresh under way, whose new refresh token is saved: " .. how, function()
      local option, path = with_path()
      local p = jeton.start(policy(option))
      assert.equal(200, http.get(p.port).status, p:errors())
      begin_refresh(p, 700)
      stop(p)
      assert.equal(0, (p:wait(10)))
      assert.matches("waiting for the fetch of token api", p:errors())
      local stats = world { delay = 0 }
      assert.equal(2, #stats.granted)
      assert.equal(stats.refresh_tokens[2], saved(path))
      p = jeton.start(policy(option))
      assert.equal(200, http.get(p.port).status, p:errors())
      assert.same({}, world().errors)
      p:finish()
    end)
  end

  it("waits no longer than timeouts.drain, and says what that cost", function()
    local option = with_path()
    local p = jeton.start(policy(option, "timeouts = { drain = '500ms' },"))
    assert.equal(200, http.get(p.port).status, p:errors())
    begin_refresh(p, 20000)
    local t0 = uv.hrtime()
    p:kill "sigterm"
    assert.equal(0, (p:wait(10)))
    assert.is_true(uv.hrtime() - t0 < 5e9)
    assert.matches("the fetch of token api was cut off after .* new refresh token", p:errors())
  end)

  it("waits no longer than the fetch's own limit", function()
    local option = with_path()
    local p = jeton.start(policy(option .. "timeout = '1s',"))
    assert.equal(200, http.get(p.port).status, p:errors())
    begin_refresh(p, 20000)
    p:kill "sigterm"
    assert.equal(0, (p:wait(10)))
  end)

  it("comes at once with a second signal, which says what it cost", function()
    local option = with_path()
    local p = jeton.start(policy(option))
    assert.equal(200, http.get(p.port).status, p:errors())
    begin_refresh(p, 20000)
    p:kill "sigterm"
    p:wait_log "waiting for the fetch of token api"
    p:kill "sigterm"
    assert.equal(143, (p:wait(5)))
    assert.matches("a second SIGTERM: ending at once", p:errors())
    assert.matches("the fetch of token api was cut off after .* new refresh token", p:errors())
  end)

  it("begins no refresh ahead of its time while it drains", function()
    world { ttl = 4 }
    local option = with_path()
    local p = jeton.start(policy(option .. "jitter = 0, refresh_at = 0.25,", "timeouts = { drain = '3s' },"))
    assert.equal(200, http.get(p.port).status, p:errors())
    local slow = http.connect(p.port)
    slow.sock:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"
    local before = granted()
    p:kill "sigterm"
    assert.equal(0, (p:wait(15)))
    assert.equal(before, granted())
  end)

  it("waits for a proof's fetch, though the reload is given up", function()
    local option, path = with_path()
    local p = jeton.start(policy(option))
    assert.equal(200, http.get(p.port).status, p:errors())
    world { delay = 700 }
    p:reload_file(process.read_file(p.policy) .. "\n-- changed")
    local r = process.start { jeton.binary, "reload", "--prove", "--control", p.control_path }
    process.poll(function() return granted() == 2 end, 5, "the issuer to rotate")
    p:kill "sigterm"
    assert.equal(0, (p:wait(10)))
    assert.equal(world().refresh_tokens[2], saved(path))
    r:wait(5)
  end)
end)
