--- A login that its issuer renews with each refresh (oidc-provider): whatever ends, stops or replaces the program, the refresh token is neither lost nor spent
--- twice, since either locks everybody out until a person logs in again.
local cjson = require "cjson"
local socket = require "socket"
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
      begin_refresh(p, 2000)
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
    assert.is_true(uv.hrtime() - t0 < process.stretched(5e9))
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
    world { ttl = 8 }
    local option = with_path()
    local p = jeton.start(policy(option .. "jitter = 0, refresh_at = 0.25,", "timeouts = { drain = '4s' },"))
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

--- A stand-in for issuers that do what oidc-provider does not: `reply` is Lua text that sees `n`, the number of the request, and `form`, its body.
local function issuer(reply)
  return peers.raw(([[
    local n = 0
    while true do
      local head = c:read "head"
      if not head then return c:close() end
      local form = c:read(tonumber(head:lower():match "content%%-length: (%%d+)") or 0)
      _G.count = (_G.count or 0) + 1
      n = _G.count
      local status, body = (function() %s end)()
      c:write(("HTTP/1.1 %%d X\r\nContent-Type: application/json\r\nContent-Length: %%d\r\n\r\n%%s"):format(status, #body, body))
    end]]):format(reply))
end
local function stand_in(raw, options, more)
  return ([[
local oauth2 = require "jeton.oauth2"
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  tokens = { api = oauth2.refresh_token { token_url = "http://127.0.0.1:%d/token", client_id = "app", auth = "none", %s } },
  %s
}]]):format(raw.port, options, more or "")
end
local function asked(raw) return select(2, raw.received():gsub("POST /token", "")) end
local function token(p) return p:status().tokens[1] end

describe("path", function()
  it("is read and written by one process at a time", function()
    local option, path = with_path()
    local one = jeton.start(policy(option, "timeouts = { drain = '10s' },"))
    assert.equal(200, http.get(one.port).status, one:errors())
    begin_refresh(one, 1500)
    one:kill "sigterm"
    local two = jeton.start(policy(option, "timeouts = { drain = '10s' },")) -- as a service manager that starts the next one early
    world { delay = 0 }
    process.poll(function() return http.get(two.port).status == 200 end, 10, "the second to have a token; " .. two:errors())
    assert.equal(0, (one:wait(10)))
    local stats = world()
    assert.same({}, stats.errors)
    assert.equal(stats.refresh_tokens[#stats.refresh_tokens], saved(path))
    two:finish()
  end)

  it("counts before memory when somebody else has written to it", function()
    local option, path = with_path()
    local one, two = jeton.start(policy(option)), jeton.start(policy(option))
    for _ = 1, 3 do
      assert.equal(0, (refresh(one)), one:errors())
      assert.equal(0, (refresh(two)), two:errors())
    end
    local stats = world()
    assert.same({}, stats.errors)
    assert.equal(stats.refresh_tokens[#stats.refresh_tokens], saved(path))
    one:finish()
    two:finish()
  end)

  it("that cannot be written is told by check and at each load, with its line", function()
    local missing = dir .. "/no/such/refresh"
    local file = process.write_file(dir .. "/policy.lua", policy(("path = %q, refresh_token = 'x',"):format(missing)))
    local code, out, err = jeton.run { "check", file }
    assert.equal(0, code)
    local line = "warning: [^\n]*policy.lua:4: oauth2.refresh_token: path: write " .. missing:gsub("%p", "%%%0") .. ": no such file or directory: a new refresh token could not be saved"
    assert.matches(line, out .. err)
    assert.equal(1, select(2, (out .. err):gsub("could not be saved", "")))
    local p = jeton.start { file = file, workers = 2 }
    p:wait_log "policy.lua:4: oauth2.refresh_token: path: write"
    p:finish()
  end)

  it("that is a directory is told as well", function()
    local file = process.write_file(dir .. "/policy.lua", policy(("path = %q,"):format(dir)))
    local _, out, err = jeton.run { "check", file }
    assert.matches("illegal operation on a directory", out .. err)
  end)

  it("that cannot be written serves, shows in status and metrics, and is tried until it can", function()
    local path = dir .. "/later/refresh"
    local p = jeton.start(policy(("path = %q, refresh_token = jeton.secret.value %q,"):format(path, ports.refresh)))
    assert.equal(200, http.get(p.port).status, p:errors())
    p:wait_log "the new refresh token was not saved"
    assert.matches("later/refresh: no such file or directory", token(p).unsaved)
    assert.matches('jeton_token_unsaved{token="api"} 1', p:control("GET", "/metrics").body)
    assert.matches("NOT SAVED", select(2, jeton.run { "status", "--control", p.control_path }))
    assert(uv.fs_mkdir(dir .. "/later", 448))
    process.poll(function() return saved(path) == world().refresh_tokens[1] end, 10, "the refresh token to be saved")
    process.poll(function() return token(p).unsaved == "" end, 5, "the trouble to be over")
    assert.matches('jeton_token_unsaved{token="api"} 0', p:control("GET", "/metrics").body)
    assert.equal(0, (refresh(p)))
    assert.same({}, world().errors)
    p:finish()
  end)

  --- A program that serves, whose refresh token is in a directory that has gone to dir/moved since; where that was, and the path.
  local function moved_away()
    local sub = dir .. "/state"
    assert(uv.fs_mkdir(sub, 448))
    local path = process.write_file(sub .. "/refresh", ports.refresh)
    local p = jeton.start(policy(("path = %q,"):format(path)))
    assert.equal(200, http.get(p.port).status, p:errors())
    assert(uv.fs_rename(sub, dir .. "/moved"))
    return p, sub, path
  end

  it("whose directory goes later shows before the next rotation is lost", function()
    local p, sub, path = moved_away()
    assert.equal(0, (refresh(p)))
    assert.matches("no such file", token(p).unsaved)
    assert(uv.fs_rename(dir .. "/moved", sub))
    process.poll(function() return saved(path) == world().refresh_tokens[2] end, 10, "the refresh token to be saved")
    p:finish()
  end)

  --- A program with a refresh token that could not be saved, the directory that is away, and the path.
  local function unsaved()
    local p, sub, path = moved_away()
    for _ = 1, 2 do assert.equal(0, (refresh(p))) end
    assert.matches("no such file", token(p).unsaved)
    return p, sub, path
  end

  it("that could not be written is tried after a reload as before", function()
    local p, sub, path = unsaved()
    p:reload_file(process.read_file(p.policy) .. "\n-- changed")
    assert.equal(0, (jeton.run { "reload", "--control", p.control_path }))
    assert.matches("no such file", token(p).unsaved)
    assert(uv.fs_rename(dir .. "/moved", sub))
    process.poll(function() return saved(path) == world().refresh_tokens[3] end, 15, "the refresh token to be saved")
    process.poll(function() return token(p).unsaved == "" end, 5, "the trouble to be over")
    p:finish()
  end)

  it("that could not be written is tried once more at the end", function()
    local p, sub, path = unsaved()
    assert(uv.fs_rename(dir .. "/moved", sub))
    p:finish()
    assert.equal(world().refresh_tokens[3], saved(path))
    assert.not_matches("never saved", p:errors())
  end)

  it("keeps what somebody has put there while it could not be written", function()
    local p, sub, path = unsaved()
    process.write_file(dir .. "/moved/refresh", "of a new login")
    assert(uv.fs_rename(dir .. "/moved", sub))
    process.poll(function() return token(p).unsaved == "" end, 15, "an end of the tries")
    assert.equal("of a new login", saved(path))
    p:finish()
    assert.matches("another refresh token has come to", p:errors())
  end)

  it("keeps what somebody puts there while a refresh is under way, and presents it next", function()
    local option, path = with_path()
    local p = jeton.start(policy(option))
    assert.equal(200, http.get(p.port).status, p:errors())
    local r = begin_refresh(p, 700)
    process.write_file(path, "of-a-new-login")
    assert.equal(0, (r:wait(10)))
    assert.equal("of-a-new-login", saved(path))
    world { delay = 0 }
    assert.equal(0, (refresh(p))) -- the issuer knows no such login: the one in memory comes next
    assert.equal(1, #world().errors)
    p:finish()
  end)

  -- A name so long that nothing fits beside it, as nothing can be renamed over a file that is mounted by itself.
  it("that no file can be renamed over is written in place", function()
    local path = dir .. "/" .. ("r"):rep(250)
    process.write_file(path, ports.refresh .. (" "):rep(300))
    local inode = uv.fs_stat(path).ino
    local p = jeton.start(policy(("path = %q,"):format(path)))
    assert.equal(200, http.get(p.port).status, p:errors())
    assert.equal("", token(p).unsaved)
    assert.equal(world().refresh_tokens[1], process.read_file(path)) -- cut to its length
    assert.equal(inode, uv.fs_stat(path).ino)
    assert.equal(0, (refresh(p)))
    p:finish()
    p = jeton.start(policy(("path = %q,"):format(path)))
    assert.equal(200, http.get(p.port).status, p:errors())
    assert.same({}, world().errors)
    p:finish()
  end)
end)

describe("the end of the program", function()
  it("says when a refresh token could never be saved", function()
    local p = jeton.start(policy(("path = %q, refresh_token = jeton.secret.value %q,"):format(dir .. "/never/refresh", ports.refresh)))
    assert.equal(200, http.get(p.port).status, p:errors())
    p:finish()
    assert.matches("what token api needs for its next fetch was never saved", p:errors())
  end)
end)

describe("a refresh token", function()
  it("that the issuer has refused is not presented again, and a new one in the file is used at once", function()
    local option, path = with_path "a-dead-one"
    local p = jeton.start(policy(option .. "wait = '50ms', backoff = { min = '50ms', max = '100ms' },"))
    assert.equal(503, http.get(p.port).status)
    process.poll(function() return token(p).failures == 1 end, 10, "the refusal")
    assert.is_true(token(p).spent)
    assert.is_nil(token(p).next_attempt_in)
    socket.sleep(0.5)
    assert.equal(1, token(p).fetches)
    assert.equal(1, #world().errors)
    assert.matches("invalid_grant.*log in anew and put a new one into " .. path:gsub("%p", "%%%0"), token(p).last_error .. p:errors())
    process.write_file(path, ports.refresh)
    process.poll(function() return http.get(p.port).status == 200 end, 5, "the new one to be used")
    assert.equal(1, #world().errors)
    p:finish()
  end)

  it("that is spent in each file of a family is noticed in each, however many are watched", function()
    local p = jeton.start(policy(([[family = true, path = function(key) return %q .. "/" .. key end,]]):format(dir),
      'on_start = function() for i = 1, 70 do jeton.tokens.api["k" .. i]:refresh() end end,'))
    for i = 1, 70 do process.write_file(dir .. "/k" .. i, "a-dead-one") end
    assert(p)
    process.poll(function()
      local n = 0
      for _, t in ipairs(p:status().tokens) do n = n + (t.spent and 1 or 0) end
      return n == 70
    end, 15, "all of them to be refused")
    process.write_file(dir .. "/k70", ports.refresh)
    process.poll(function()
      local n = 0 -- it is fetched when a request wants it
      for _, t in ipairs(p:status().tokens) do
        if t.name == "api[k70]" and not t.permanent_for then n = n + 1 end
        if t.spent then n = n + 1 end
      end
      return n == 70
    end, 15, "the new login of the last one to be seen")
    p:finish()
  end)

  it("that comes to the file ends a long backoff", function()
    local option, path = with_path "a-dead-one"
    local p = jeton.start(policy(option .. "wait = '50ms', backoff = { min = '60s', max = '60s' },"))
    process.poll(function() return token(p).failures >= 1 end, 10, "the refusal")
    process.write_file(path, ports.refresh)
    process.poll(function() return http.get(p.port).status == 200 end, 5, "the new one to be used")
    process.write_file(path .. ".other", "of no interest")
    assert.equal(1, #world().errors)
    p:finish()
  end)

  for name, reply in pairs {
    ["403 without a word of OAuth"] = "return 403, 'no'",
    ["401 invalid_token"] = [[return 401, '{"error":"invalid_token"}']],
    ["400 in words of its own"] = [[return 400, '{"error":"login_required"}']],
  } do
    it("of the file is tried after any definite refusal of the one in memory: " .. name, function()
      local path = process.write_file(dir .. "/refresh", "R0")
      local raw = issuer(([[
        if form:find("refresh_token=R0", 1, true) then return 200, '{"access_token":"a","expires_in":3600,"refresh_token":"R1"}' end
        if form:find("refresh_token=NEW", 1, true) then return 200, '{"access_token":"b","expires_in":3600,"refresh_token":"R9"}' end
        %s]]):format(reply))
      local p = jeton.start(stand_in(raw, ("path = %q, wait = '50ms', backoff = { min = '60s', max = '60s' },"):format(path)))
      process.poll(function() return token(p).valid end, 5, "a token")
      assert.not_equal(0, (refresh(p)))
      process.write_file(path, "NEW\n")
      process.poll(function() return token(p).generation == 2 end, 5, "the new one to be used; " .. p:errors())
      process.poll(function() return process.read_file(path) == "R9" end, 5, "the one after it")
      p:finish()
    end)
  end

  it("is presented again after trouble of the issuer's own", function()
    local raw = issuer [[
      if n < 3 then return 503, '{"error":"temporarily_unavailable"}' end
      return 200, '{"access_token":"a","expires_in":3600}' ]]
    local p = jeton.start(stand_in(raw, "refresh_token = 'R0', backoff = { min = '50ms', max = '100ms' },"))
    process.poll(function() return token(p).valid end, 5, "a token")
    p:finish()
  end)

  for what, bad in pairs {
    ["no access token"] = [[{"expires_in":3600,"refresh_token":"R1"}]],
    ["a token of another type"] = [[{"access_token":"a","token_type":"mac","expires_in":3600,"refresh_token":"R1"}]],
    ["no lifetime"] = [[{"access_token":"a","refresh_token":"R1"}]],
    ["a lifetime that is none"] = [[{"access_token":"a","expires_in":-5,"refresh_token":"R1"}]],
  } do
    for _, kept in ipairs { "memory", "a file" } do
      it("that comes with " .. what .. " is not lost: in " .. kept, function()
        local raw = issuer(([[
          if n == 1 then return 200, %q end
          if form:find("refresh_token=R1", 1, true) then return 200, '{"access_token":"b","expires_in":3600,"refresh_token":"R2"}' end
          return 400, '{"error":"invalid_grant"}' ]]):format(bad))
        local path = process.write_file(dir .. "/refresh", "R0")
        local option = kept == "memory" and "refresh_token = 'R0'," or ("path = %q,"):format(path)
        local p = jeton.start(stand_in(raw, option .. " backoff = { min = '50ms', max = '100ms' },"))
        process.poll(function() return token(p).valid end, 5, "a token; " .. p:errors())
        assert.equal(2, asked(raw))
        if kept == "a file" then assert.equal("R2", process.read_file(path)) end
        p:finish()
      end)
    end
  end

  --- An issuer that gives nothing but a new refresh token until the file `well` is there, and takes no refresh token twice.
  local function moody()
    local well = dir .. "/well"
    return issuer(([[
      spent = spent or {}
      local used = form:match "refresh_token=(%%w+)"
      if spent[used] then return 400, '{"error":"invalid_grant"}' end
      spent[used] = true
      local f = io.open %q
      if not f then return 200, ('{"refresh_token":"R%%d"}'):format(n) end
      f:close()
      return 200, ('{"access_token":"b","expires_in":3600,"refresh_token":"R%%d"}'):format(n) ]]):format(well)), well
  end
  for what, first in pairs { ["no token yet"] = false, ["a token that serves"] = true } do
    it("that comes in vain outlives a reload without a path, beside " .. what, function()
      local raw, well = moody()
      if first then process.write_file(well, "") end
      local text = stand_in(raw, "refresh_token = 'R0', backoff = { min = '50ms', max = '60s' },")
      local p = jeton.start(text)
      if first then
        process.poll(function() return token(p).valid end, 5, "a token; " .. p:errors())
        os.remove(well)
        refresh(p)
      end
      process.poll(function() return token(p).failures > 0 end, 5, "a reply in vain; " .. p:errors())
      p:reload_file(text .. "\n-- another text")
      assert.equal(200, p:control("POST", "/reload").status, p:errors())
      process.write_file(well, "")
      assert.equal(0, (refresh(p)), p:errors())
      assert.is_true(token(p).valid)
      assert.is_nil(p:errors():find("invalid_grant", 1, true))
      p:finish()
    end)
  end

  it("without a path that is rotated is a warning", function()
    local p = jeton.start(policy(("refresh_token = jeton.secret.value %q,"):format(ports.refresh)))
    assert.equal(200, http.get(p.port).status, p:errors())
    p:wait_log "there is no `path` to save it at"
    p:finish()
  end)

  for field, life in pairs { refresh_expires_in = "2", refresh_token_expires_in = '"2"' } do
    it("that ends before its access token is renewed in time: " .. field, function()
      local raw = issuer(([[return 200, '{"access_token":"a' .. n .. '","expires_in":3600,"%s":%s,"refresh_token":"R' .. n .. '"}']]):format(field, life))
      local p = jeton.start(stand_in(raw, "refresh_token = 'R0', jitter = 0,"))
      process.poll(function() return token(p).valid end, 5, "a token")
      assert.is_true(token(p).next_attempt_in < 2)
      process.poll(function() return asked(raw) >= 2 end, 5, "the renewal")
      assert.is_true(token(p).expires_in > 3000)
      p:finish()
    end)
  end

  it("that never ends, as some issuers say with 0, changes nothing", function()
    local raw = issuer [[return 200, '{"access_token":"a","expires_in":3600,"refresh_expires_in":0,"refresh_token":"R1"}']]
    local p = jeton.start(stand_in(raw, "refresh_token = 'R0', jitter = 0,"))
    process.poll(function() return token(p).valid end, 5, "a token")
    assert.is_true(token(p).next_attempt_in > 2000)
    p:finish()
  end)
end)

describe("a family", function()
  local function check(options, grant)
    local file = process.write_file(dir .. "/policy.lua", ([[
local oauth2 = require "jeton.oauth2"
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", tokens = { tenant = oauth2.%s {
  family = true, token_url = "https://login.example.com/token", auth = "none", %s } } }]]):format(grant, options))
    local code, out, err = jeton.run { "check", file }
    return code, out .. err
  end

  for what, case in pairs {
    ["one path"] = { "refresh_token", "client_id = 'a', path = '/tmp/refresh'", "path: with family = true every key would get the same login" },
    ["one refresh token"] = { "refresh_token", "client_id = 'a', refresh_token = 'r'", "path: a family needs one for each key" },
    ["one first refresh token"] = { "refresh_token", "client_id = 'a', refresh_token = 'r', path = function(key) return '/tmp/' .. key end",
      "refresh_token: with family = true every key would get the same login" },
    ["a client id of the key, and one path"] = { "refresh_token", "client_id = function(key) return key end, path = '/tmp/refresh'", "path: with family = true" },
    ["client credentials without the key"] = { "client_credentials", "client_id = 'a', scope = 'b'", "every key would get the same token" },
    ["only a lifetime of the key"] = { "client_credentials", "client_id = 'a', lifetime = function() return 5 end", "every key would get the same token" },
  } do
    it("whose keys would all have one login is refused: " .. what, function()
      local code, said = check(case[2], case[1])
      assert.equal(78, code)
      assert.is_truthy(said:find("policy.lua:2: oauth2." .. case[1] .. ": ", 1, true), said)
      assert.is_truthy(said:find(case[3], 1, true), said)
    end)
  end

  it("whose function does not look at the key is a warning", function()
    local code, said = check("client_id = 'a', scope = function() return 'all' end", "client_credentials")
    assert.equal(0, code)
    assert.matches("warning: .*scope: the same for every key", said)
    code, said = check("client_id = 'a', scope = function(key) return key end", "client_credentials")
    assert.equal(0, code)
    assert.is_nil(said:find("warning", 1, true))
  end)

  it("alone has options that are functions", function()
    local file = process.write_file(dir .. "/policy.lua", ([[
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", tokens = { api = require "jeton.oauth2".client_credentials {
  token_url = "https://login.example.com/token", auth = "none", client_id = function(key) return key end } } }]]))
    local code, out, err = jeton.run { "check", file }
    assert.equal(78, code)
    assert.matches("client_id: a function of the key is for a token with family = true", out .. err)
  end)

  it("gets each key's token with that key's options, and keeps each key's login in its own file", function()
    local raw = issuer [[
      local who, at = form:match "client_id=(%w+)", form:match "refresh_token=([%w-]+)"
      if at:match "^%w+" ~= who then return 400, '{"error":"invalid_grant"}' end
      return 200, '{"access_token":"a","expires_in":3600,"refresh_token":"' .. at .. '-next"}' ]]
    local p = jeton.start(([==[
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  tokens = { tenant = require "jeton.oauth2".refresh_token {
    family = true, token_url = "http://127.0.0.1:%d/token", auth = "none",
    client_id = function(key) return key end, path = function(key) return %q .. key end,
    wait = "2s", backoff = { min = "60s", max = "60s" } } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.tenant[req.headers["x-tenant"]] end,
}]==]):format(raw.port, dir .. "/login-"))
    for _, who in ipairs { "acme", "other" } do process.write_file(dir .. "/login-" .. who, who .. "-login\n") end
    for _, who in ipairs { "acme", "other", "acme" } do assert.equal(502, http.get(p.port, "/", { ["X-Tenant"] = who }).status, p:errors()) end
    assert.equal("acme-login-next", process.read_file(dir .. "/login-acme"))
    assert.equal("other-login-next", process.read_file(dir .. "/login-other"))
    assert.equal(2, asked(raw))
    for _, who in ipairs { "../login-acme", "x/../../etc/passwd" } do
      assert.equal(503, http.get(p.port, "/", { ["X-Tenant"] = who }).status)
    end
    assert.matches("path: it has a '..'", p:errors())
    assert.equal(503, http.get(p.port, "/", { ["X-Tenant"] = "nobody" }).status)
    assert.matches("no refresh token: read .*login%-nobody: no such file", p:errors())
    assert.equal(2, asked(raw))
    p:finish()
  end)

  it("gets no login of another key, though the function gives both one file", function()
    local raw = issuer [[return 200, '{"access_token":"a","expires_in":3600,"refresh_token":"R1"}']]
    process.write_file(dir .. "/login", "R0")
    local p = jeton.start(([==[
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1",
  tokens = { tenant = require "jeton.oauth2".refresh_token {
    family = true, token_url = "http://127.0.0.1:%d/token", auth = "none", client_id = "app", wait = "1s", path = function(key) return %q end } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.tenant[req.headers["x-tenant"]] end,
}]==]):format(raw.port, dir .. "/login"))
    assert.equal(502, http.get(p.port, "/", { ["X-Tenant"] = "one" }).status)
    assert.equal(503, http.get(p.port, "/", { ["X-Tenant"] = "two" }).status)
    assert.matches("path: another key has the same one", p:errors())
    p:finish()
  end)
end)

describe("two tokens", function()
  it("of two clients with one path are refused, of one client they share the login", function()
    local function text(second)
      local function one(client) return ("oauth2.refresh_token { token_url = 'https://a.example.com/t', auth = 'none', client_id = %q, path = %q }"):format(client, dir .. "/login") end
      return ("local oauth2 = require 'jeton.oauth2'\nreturn { listen = '127.0.0.1:0', upstream = 'http://127.0.0.1:1', tokens = { a = %s, b = %s } }"):format(one "x", one(second))
    end
    local code, out, err = jeton.run { "check", process.write_file(dir .. "/policy.lua", text "y") }
    assert.equal(78, code)
    assert.matches("path: another token keeps the login of another client", out .. err)
    assert.equal(0, (jeton.run { "check", process.write_file(dir .. "/policy.lua", text "x") }))
  end)
end)

describe("a proof", function()
  local function reload(p, text)
    p:reload_file(text)
    return p:control("POST", "/reload?prove=1").status
  end
  --- The policy with a second token, whose fetch fails: so the reload is refused.
  local function spoiled(text)
    return (text:gsub("tokens = { api", "tokens = { bad = { fetch = function() jeton.sleep(0.3) return nil, 'on purpose' end }, api"))
  end
  local function never_spent_twice()
    local stats = world()
    assert.same({}, stats.errors)
    local seen = {}
    for _, body in ipairs(stats.bodies) do
      assert.is_nil(seen[body.refresh_token], "a refresh token was presented twice")
      seen[body.refresh_token] = true
    end
  end

  for _, kept in ipairs { "a path", "memory" } do
    local function options()
      if kept == "a path" then return (with_path()) end
      return ("refresh_token = jeton.secret.value %q,"):format(ports.refresh)
    end

    it("presents the newest refresh token, and what it brought serves: with " .. kept, function()
      local option = options()
      local p = jeton.start(policy(option))
      assert.equal(200, http.get(p.port).status, p:errors())
      for i = 1, 3 do
        assert.equal(0, (refresh(p)))
        assert.equal(200, reload(p, policy(option) .. "\n-- changed " .. i), p:errors())
        assert.equal(200, http.get(p.port).status)
      end
      assert.equal(7, granted())
      assert.equal(7, token(p).generation)
      assert.equal(0, (refresh(p)))
      never_spent_twice()
      p:finish()
    end)

    it("that is refused hands back what it brought: with " .. kept, function()
      local option = options()
      local p = jeton.start(policy(option))
      assert.equal(200, http.get(p.port).status, p:errors())
      for _ = 1, 3 do
        assert.equal(422, reload(p, spoiled(policy(option))), p:errors())
        assert.equal(200, http.get(p.port).status)
        assert.equal(0, (refresh(p)), p:errors())
      end
      assert.equal(7, granted())
      never_spent_twice()
      p:finish()
    end)

    it("of a token that becomes another one hands back what it brought, and uses it when it is taken: with " .. kept, function()
      local option = options()
      local p = jeton.start(policy(option))
      assert.equal(200, http.get(p.port).status, p:errors())
      local changed = policy(option .. "scope = 'openid offline_access', extra = { n = 1 },")
      assert.equal(422, reload(p, spoiled(changed)), p:errors())
      assert.equal(0, (refresh(p)), p:errors())
      local before = granted()
      assert.equal(200, reload(p, changed), p:errors())
      assert.equal(200, http.get(p.port).status)
      assert.equal(before + 1, granted())
      assert.equal(0, (refresh(p)), p:errors())
      never_spent_twice()
      p:finish()
    end)

    it("does not run beside a fetch of the same login: with " .. kept, function()
      local option = options()
      local p = jeton.start(policy(option))
      assert.equal(200, http.get(p.port).status, p:errors())
      local r = begin_refresh(p, 700)
      local proof = process.start { "curl", "-sS", "--unix-socket", p.control_path, "-X", "POST", "http://jeton/reload?prove=1" }
      p:reload_file(policy(option) .. "\n-- changed")
      world { delay = 0 }
      assert.equal(0, (proof:wait(10)))
      assert.equal(0, (r:wait(10)), r:errors())
      assert.equal(200, http.get(p.port).status)
      assert.equal(0, (refresh(p)), p:errors())
      never_spent_twice()
      p:finish()
    end)
  end

  it("that fails counts as no failure of the token that serves", function()
    local option = with_path()
    local p = jeton.start(policy(option))
    assert.equal(200, http.get(p.port).status, p:errors())
    assert.equal(422, reload(p, policy(option):gsub(":%d+/token", ":1/token", 1)), p:errors())
    assert.equal(0, token(p).failures)
    assert.equal("valid", token(p).state)
    assert.equal(200, http.get(p.port).status)
    p:finish()
  end)

  it("of a token that only the refused policy has is where the next one begins", function()
    local p = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }]]
    local option = ("refresh_token = jeton.secret.value %q,"):format(ports.refresh)
    assert.equal(422, reload(p, spoiled(policy(option))), p:errors())
    assert.equal(422, reload(p, spoiled(policy(option)) .. "\n-- again"), p:errors())
    assert.equal(200, reload(p, policy(option)), p:errors())
    assert.equal(200, http.get(p.port).status)
    assert.equal(3, granted())
    never_spent_twice()
    p:finish()
  end)

  it("of another client leaves the login of the one that serves alone", function()
    local p = jeton.start(policy(("refresh_token = jeton.secret.value %q,"):format(ports.refresh)))
    assert.equal(200, http.get(p.port).status, p:errors())
    local other = policy(("auth = 'none', refresh_token = jeton.secret.value %q,"):format(ports.refresh_public), nil, "public"):gsub("client_secret = jeton.secret.value %b'',?", ""):gsub('client_secret = jeton.secret.value %b"",?', "")
    assert.equal(422, reload(p, spoiled(other)), p:errors())
    assert.equal(0, (refresh(p)), p:errors())
    assert.equal(200, reload(p, other), p:errors())
    assert.equal(0, (refresh(p)), p:errors())
    assert.equal(200, http.get(p.port).status)
    p:finish()
    never_spent_twice()
  end)

  it("of a fetch by hand has the newest of its fields, which go back when the policy is refused", function()
    local function by_hand(more)
      return ([[
return {
  listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
  tokens = { api = { fetch = function(ctx)
    local mine = ctx.previous and ctx.previous:field "refresh" or jeton.secret.value %q
    local res = assert(jeton.http.post("http://127.0.0.1:%d/token", { auth = { "app", jeton.secret.value %q, form = true }, form = { grant_type = "refresh_token", refresh_token = mine } }))
    local body = assert(res:json())
    if res.status ~= 200 then return nil, body.error end
    return { value = body.access_token, expires_in = body.expires_in, fields = { refresh = body.refresh_token } }
  end } },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
  %s
}]]):format(ports.upstream, ports.refresh, ports.issuer, ports.secret, more or "")
    end
    local p = jeton.start(by_hand())
    assert.equal(200, http.get(p.port).status, p:errors())
    assert.equal(422, reload(p, spoiled(by_hand())), p:errors())
    assert.equal(0, (refresh(p)), p:errors())
    assert.equal(422, reload(p, spoiled(by_hand():gsub("local body", "local _ = 1 local body", 1))), p:errors()) -- another function
    assert.equal(0, (refresh(p)), p:errors())
    assert.equal(200, reload(p, by_hand():gsub("local body", "local _ = 2 local body", 1)), p:errors())
    assert.equal(0, (refresh(p)), p:errors())
    never_spent_twice()
    p:finish()
  end)
end)
