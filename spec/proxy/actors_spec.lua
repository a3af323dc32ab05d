--- The lesson of the essay Actors in Sync, in a model and in the program: what examples/actors-in-sync shows is so.
local socket = require "socket"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

--- The generator behind jeton.select (docs/library.md): each call gives the next output.
local function generator(seed)
  local state = seed
  return function()
    state = state + 0x9e3779b97f4a7c15
    local z = state
    z = (z ~ z >> 30) * 0xbf58476d1ce4e5b9
    z = (z ~ z >> 27) * 0x94d049bb133111eb
    return z ~ z >> 31
  end
end

--- The interim's select with both cases ready, again and again: how often the old token goes out before the interim hears the stop.
local function run_of(seed, most)
  local draw, n = generator(seed), 0
  while n < most and draw() & 1 == 0 do n = n + 1 end
  return n
end

--- The first seed, from 1 on, with which the old token goes out exactly n times.
local function seed_with_run(n)
  local seed = 1
  while run_of(seed, n + 1) ~= n do seed = seed + 1 end
  return seed
end

local UNLUCKY = seed_with_run(10)
local LUCKY = seed_with_run(0)

describe("a model of the second store", function()
  --- Requests wait at all times; a hand-out takes `step`. The new token is there `margin` before the old one ends. Times in microseconds.
  --- How many requests get the old token after its end.
  local function expired_hand_outs(seed, margin, step)
    local draw, now, late = generator(seed), 0, 0
    while draw() & 1 == 0 do
      if now >= margin then late = late + 1 end
      now = now + step
    end
    return late
  end

  it("hands out the old token after its end, with a seed that a search finds", function()
    assert.is_true(expired_hand_outs(UNLUCKY, 180, 20) > 0)
    assert.equal(0, expired_hand_outs(LUCKY, 180, 20))
  end)

  it("does so the less often the more time there is, and never surely not", function()
    local function share(margin)
      local late = 0
      for seed = 1, 100000 do
        if expired_hand_outs(seed * 0x9e3779b97f4a7c15, margin, 20) > 0 then late = late + 1 end
      end
      return late / 100000
    end
    for _, coins in ipairs { 1, 3, 6 } do -- so many tosses fit before the end, and one more has to go wrong
      local expected = 0.5 ^ (coins + 1)
      assert.is_true(math.abs(share(coins * 20) - expected) < 0.2 * expected)
    end
  end)
end)

describe("a model of the third store", function()
  -- A schedule is an order of steps of three: time, which passes; the keeper, who begins a fetch, publishes a token or fails; and requests, which take
  -- the token there is and write it some steps later. Each step is one that the lock, or being one instruction, keeps whole.
  local function schedule(draw, checks)
    local now, ends, fetching, held, sent_expired, sent = 0, 10, false, nil, 0, 0
    for _ = 1, 16 do
      local r = draw()
      local kind = r & 7
      if kind <= 1 then
        now = now + (r >> 8 & 7)
      elseif kind == 2 then
        fetching = true
      elseif kind == 3 and fetching then
        if r >> 8 & 3 > 0 then ends = now + 1 + (r >> 16 & 15) end -- or it has failed
        fetching = false
      elseif kind <= 5 then
        held = ends -- the request takes a reference to what is published
      elseif held then
        if not checks or now < held then
          sent = sent + 1
          if now >= held then sent_expired = sent_expired + 1 end
        end
        held = nil
      end
    end
    return sent_expired, sent
  end

  local function simulate(n, checks)
    local draw, expired, sent = generator(20231123), 0, 0
    for _ = 1, n do
      local e, s = schedule(draw, checks)
      expired, sent = expired + e, sent + s
    end
    return expired, sent
  end

  it("never sends an expired token, over a million schedules", function()
    local expired, sent = simulate(1000000, true)
    assert.equal(0, expired)
    assert.is_true(sent > 500000)
  end)

  it("would, if it looked at the end when the token is taken only: so the model can fail", function()
    assert.is_true((simulate(20000, false)) > 1000)
  end)
end)

--- The policy as it stands in examples/, with a handle to hold the keeper still: no task and no fetch of it goes on meanwhile, as on a machine that is
--- too busy. The spec says when by /hold and /release.
local WRAPPER = [[
local policy = require "%s"
local flags, refresh = jeton.shared "spec", jeton.channel "refresh"
policy.listen = "127.0.0.1:0"
policy.limits = { script_time = "60s" }
policy.log = { access = %s }
policy.tasks = policy.tasks or {}
policy.tasks.holder = function()
  while true do
    if flags:get "hold" then
      flags:set("held", true)
      while flags:get "hold" do end
      flags:delete "held"
    end
    jeton.sleep "2ms"
  end
end
local serve = policy.on_request
policy.on_request = function(req, tokens)
  if req.path == "/hold" then flags:set("hold", true)
  elseif req.path == "/release" then flags:delete "hold"
  elseif req.path == "/refresh" then refresh:send(true)
  elseif req.path ~= "/held" then return serve(req, tokens) end
  req:respond(200, nil, tostring(flags:get "held"))
end
return policy
]]

local function start(name, world, env, access)
  local dir = process.temp_dir()
  for _, module in ipairs { name, "issuer" } do
    process.write_file(dir .. "/" .. module .. ".lua", process.read_file(("%s/examples/actors-in-sync/%s.lua"):format(jeton.root, module)))
  end
  local file = process.write_file(dir .. "/policy.lua", WRAPPER:format(name, access and "true" or "false"))
  env.TOKEN_URL, env.UPSTREAM = world.token_url, world.upstream_url
  return jeton.start { file = file, env = env }
end

local function ask(p, path)
  local res = http.get(p.port, path)
  assert.equal(200, res.status)
  return res.body
end

--- `begin` starts the refresh. The keeper is held from then on until the old token has ended, while the issuer's answer with the new one lies there and
--- requests come: 30 before the end, and 10 after it. How many of them the upstream refused, and how many it served.
local function through_the_end(p, world, begin)
  assert.equal(200, http.get(p.port).status)
  local old = world:stats().tokens[1]
  world:order { delay = 2500, ttl = 60 }
  begin()
  process.poll(function() return world:stats().fetches == 2 end, 10, "the refresh")
  ask(p, "/hold")
  process.poll(function() return ask(p, "/held") == "true" end, 10, "the keeper held still")
  assert.equal(1, #world:stats().tokens, "the machine was too slow for this spec: the answer came before the hold")
  process.poll(function() return #world:stats().tokens == 2 end, 10, "the new token")
  socket.sleep(0.05) -- for its way
  local connections = {}
  local function send(n)
    local before = p:status().workers[1].requests
    for _ = 1, n do
      local c = http.connect(p.port, 30)
      c:send "GET /visit HTTP/1.1\r\nHost: spec\r\n\r\n"
      connections[#connections + 1] = c
    end
    process.poll(function() return p:status().workers[1].requests >= before + n end, 10, "the requests")
  end
  send(30)
  process.poll(function()
    return http.request(world.upstream, "GET", "/", { Authorization = "Bearer " .. old }).status == 401
  end, 20, "the end of the old token")
  send(10)
  ask(p, "/release")
  local statuses = { [200] = 0, [401] = 0 }
  for _, c in ipairs(connections) do
    local status = assert(c:read_response("GET", 20)).status
    statuses[status] = (statuses[status] or 0) + 1
    c:close()
  end
  return statuses[401], statuses[200]
end

describe("the second store", function()
  local function with_seed(seed)
    local world = peers.world { ttl = 8 }
    local p = start("2-interim", world, { PERIOD = "1h", SEED = tostring(seed) })
    local refused, served = through_the_end(p, world, function() ask(p, "/refresh") end)
    p:finish()
    world:stop()
    return refused, served
  end

  it("hands the expired token to as many requests as the model says, with the new one at hand, and the upstream refuses them", function()
    assert.same({ 10, 30 }, { with_seed(UNLUCKY) })
  end)

  it("hands it to none when the first coin falls the other way", function()
    assert.same({ 0, 40 }, { with_seed(LUCKY) })
  end)
end)

describe("the third store", function()
  it("hands out no expired token when the keeper is held still over the token's end", function()
    local world = peers.world { ttl = 8 }
    local p = start("3-mutex", world, { REFRESH_AT = "5s" })
    local refused, served = through_the_end(p, world, function() end)
    assert.same({ 0, 40 }, { refused, served })
    p:finish()
    world:stop()
  end)
end)

describe("under load, with an issuer that takes 500 ms", function()
  --- Runs the policy under wrk over some refreshes: how many requests took longer than 400 ms, how many refreshes there were, how many were refused.
  local function under_load(name)
    -- Far from the end of the old token, so that a stall of this machine does not make it end.
    local world = peers.world { ttl = 6, delay = 500 }
    local p = start(name, world, { PERIOD = "1500ms", REFRESH_AT = "4500ms" }, true)
    assert.equal(200, http.get(p.port).status) -- after the first fetch, for which there is no old token
    process.poll(function() return p:output():find "\n" end, 5, "its line in the access log")
    local known, fetches = #p:output(), world:stats().fetches
    local wrk = process.start { "wrk", "-t1", "-c8", "-d6s", "--timeout", "10s", ("http://127.0.0.1:%d/"):format(p.port) }
    assert.equal(0, (wrk:wait(30)))
    local refreshes = world:stats().fetches - fetches
    p:finish()
    local long, all = 0, 0
    for ms in p:output():sub(known + 1):gmatch ' 200 %d+ ([%d.]+)ms' do
      all = all + 1
      if tonumber(ms) > 400 then long = long + 1 end
    end
    local stats = world:stats()
    world:stop()
    assert.is_true(all > 100 and refreshes >= 3, ("%d requests, %d refreshes"):format(all, refreshes))
    return long, refreshes, stats.refused
  end

  it("the first store lets every client wait in each refresh", function()
    local long, refreshes = under_load "1-channels"
    assert.is_true(long >= 8 * (refreshes - 1), ("%d of 8 clients waited in %d refreshes"):format(long, refreshes))
  end)

  for _, name in ipairs { "2-interim", "3-mutex" } do
    it("the store " .. name .. " lets nobody wait", function()
      local long, refreshes, refused = under_load(name)
      -- Each refresh of the first store makes 8 of them; a stall of this machine may make some, but not in each refresh.
      assert.is_true(long < 4 * refreshes, ("%d requests took more than 400 ms in %d refreshes"):format(long, refreshes))
      assert.equal(0, refused)
    end)
  end
end)

describe("the notebook and the pictures", function()
  it("record.lua notes a run of a store in the demo, and draw.lua makes a picture of it", function()
    local dir = process.temp_dir()
    local here = jeton.root .. "/examples/actors-in-sync/"
    local p = process.start({ jeton.binary, "demo", here .. "record.lua", "--listen", "127.0.0.1:0", "--control", dir .. "/demo.sock" },
      { env = { STORE = "1-channels", JETON_SCRIPTS = jeton.root .. "/scripts" } })
    process.poll(function() return p:ended() or select(2, p:errors():gsub(" fetch ", "")) >= 4 end, 30, function() return p:errors():sub(-2000) end)
    p:kill "sigint"
    assert.equal(0, (p:wait(20)), p:errors():sub(-2000))
    local code, picture, err = process.run { "lua5.4", here .. "draw.lua", "1-channels", p.stderr_path }
    assert.equal(0, code, err)
    assert.matches("^<svg .-</svg>\n$", picture)
    assert.matches("offers token 2", picture)
    local longest = tonumber(picture:match "the longest took (%d+) ms")
    assert.is_true(longest > 400, longest)
  end)
end)

describe("a machine that is too busy over the old token's end", function()
  --- What the visitors of the demo say of the five seconds in which that happens: how many were refused, and the longest time in ms.
  local function busy(store)
    local dir = process.temp_dir()
    local p = process.start({ jeton.binary, "demo", jeton.root .. "/examples/actors-in-sync/busy.lua", "--listen", "127.0.0.1:0", "--control", dir .. "/demo.sock" },
      { env = { STORE = store, JETON_SCRIPTS = jeton.root .. "/scripts" } })
    local refused, longest = 0, 0
    process.poll(function() return p:ended() or select(2, p:output():gsub("visitors:", "")) >= 2 end, 40, function() return p:errors():sub(-2000) end)
    p:kill "sigint"
    assert.equal(0, (p:wait(20)), p:errors():sub(-2000))
    for all, n, failed in p:output():gmatch "all within ([%d.]+) ms; (%d+) refused by the upstream, (%d+) failed" do
      longest, refused = math.max(longest, tonumber(all)), refused + tonumber(n)
      assert.equal("0", failed)
    end
    return refused, longest
  end

  it("makes the second store hand out a token that has ended", function()
    local refused = 0
    for _ = 1, 3 do -- the thread is kept for a tenth of a second beyond that end, so an answer that was late on this machine leaves nothing of it
      refused = busy "2-interim"
      if refused > 10 then break end
    end
    assert.is_true(refused > 10, refused)
  end)

  it("makes requests of the third store wait, and none is refused", function()
    local refused, longest = busy "3-mutex"
    assert.equal(0, refused)
    assert.is_true(longest > 100)
  end)
end)
