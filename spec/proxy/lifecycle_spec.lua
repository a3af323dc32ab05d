--- A token's life as clients and the upstream see it: what the whole program promises.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local function start(w, token, more, options)
  options = options or {}
  options.policy = peers.policy(w, token, more)
  return jeton.start(options)
end

describe("a token", function()
  local w
  before_each(function() w = peers.world() end)
  after_each(function() w:stop() end)

  it("is fetched once at the start and put on every request", function()
    local p = start(w)
    for _ = 1, 5 do assert.equal(200, http.get(p.port).status) end
    local stats = w:stats()
    assert.equal(1, stats.fetches)
    assert.equal(0, stats.refused)
    p:finish()
  end)

  it("sends the client's own credentials nowhere", function()
    local p = start(w)
    local res = http.get(p.port, "/open", { ["aUthorization"] = "Bearer mine", ["X_Other"] = "kept" })
    local _, count = res.body:lower():gsub('"authorization"', "")
    assert.equal(1, count)
    assert.is_nil(res.body:find("Bearer mine", 1, true))
    p:finish()
  end)

  it("is injected although Connection names it", function()
    local p = start(w)
    assert.equal(200, http.get(p.port, "/", { Connection = "authorization" }).status)
    p:finish()
  end)

  it("is fetched once however many requests miss it together", function()
    w:order { delay = 300 }
    local p = start(w, 'wait = "5s",')
    for _, res in ipairs(http.together(p.port, 100, "GET", "/")) do assert.equal(200, res.status) end
    assert.equal(1, w:stats().fetches)
    p:finish()
  end)

  it("serves while its successor is fetched", function()
    w:order { ttl = 2 }
    local p = start(w)
    assert.equal(200, http.get(p.port).status)
    w:order { delay = 600 }
    local long, deadline = 0, os.time() + 6
    local socket = require "socket"
    local c = http.connect(p.port)
    while os.time() < deadline do
      local t0 = socket.gettime()
      assert.equal(200, c:request("GET", "/").status)
      if socket.gettime() - t0 > 0.4 then long = long + 1 end
      socket.sleep(0.01)
    end
    c:close()
    local fetches = w:stats().fetches
    assert.is_true(fetches >= 3, "fetches: " .. fetches)
    assert.is_true(long < fetches - 1, ("%d requests waited in %d fetches"):format(long, fetches)) -- a stall of this machine may make one
    assert.equal(0, w:stats().refused)
    p:finish()
  end)

  it("is refreshed once when the upstream revokes it under 100 requests", function()
    local p = start(w, 'wait = "5s",')
    assert.equal(200, http.get(p.port).status)
    w:order { revoke = true, delay = 200, reset = true }
    for _, res in ipairs(http.together(p.port, 100, "GET", "/")) do assert.equal(200, res.status) end
    assert.equal(1, w:stats().fetches)
    p:finish()
  end)

  it("replays a request with a small body after a refusal, and its body is whole", function()
    local p = start(w)
    assert.equal(200, http.get(p.port).status)
    w:order { revoke = true }
    local res = http.request(p.port, "POST", "/", nil, ("x"):rep(30000))
    assert.equal(200, res.status)
    assert.equal("ok 30000\n", res.body)
    p:finish()
  end)

  it("relays the refusal of a large body, and the refresh still starts", function()
    local p = start(w)
    assert.equal(200, http.get(p.port).status)
    w:order { revoke = true, reset = true }
    assert.equal(401, http.request(p.port, "POST", "/", nil, ("x"):rep(1024 * 1024)).status)
    process.poll(function() return w:stats().fetches == 1 end, 5, "a fetch")
    assert.equal(200, http.get(p.port).status)
    p:finish()
  end)

  it("does not cause a fetch a request when one path always answers 401", function()
    local p = start(w)
    assert.equal(200, http.get(p.port).status)
    w:order { reset = true }
    for _ = 1, 20 do assert.equal(401, http.get(p.port, "/always-401").status) end
    assert.is_true(w:stats().fetches <= 3, "fetches: " .. w:stats().fetches)
    assert.equal(200, http.get(p.port).status)
    p:finish()
  end)

  it("is not fetched again by a reload", function()
    local p = start(w)
    assert.equal(200, http.get(p.port).status)
    for i = 1, 10 do
      local res, body = p:control("POST", "/reload")
      assert.equal(200, res.status, res.body)
      assert.is_truthy(body)
      assert.equal(200, http.get(p.port).status, "after reload " .. i)
    end
    assert.equal(1, w:stats().fetches)
    p:finish()
  end)
end)

describe("an issuer", function()
  for _, mode in ipairs { "refuse", "500", "empty", "nolife", "zero", "negative", "html" } do
    it("that answers with " .. mode .. " gives 503 with Retry-After, then service returns by itself", function()
      local w = peers.world { mode = mode }
      local p = start(w, 'wait = "300ms", backoff = { min = "50ms", max = "500ms" },')
      local res = http.get(p.port)
      assert.equal(503, res.status)
      assert.is_truthy(tonumber(res.headers["retry-after"]))
      local stats = w:stats()
      assert.equal(0, stats.accepted + stats.refused)
      w:order { mode = "ok" }
      process.poll(function() return http.get(p.port).status == 200 end, 3, "service to return")
      p:finish()
      w:stop()
    end)
  end

  it("that hangs is given up after the fetch's own limit", function()
    local w = peers.world { mode = "hang" }
    local p = start(w, 'wait = "200ms", timeout = "500ms", backoff = { min = "50ms", max = "200ms" },')
    assert.equal(503, http.get(p.port).status)
    w:order { mode = "ok" }
    process.poll(function() return http.get(p.port).status == 200 end, 4, "service to return")
    p:finish()
    w:stop()
  end)

  it("that gives its lifetime as a string is understood", function()
    local w = peers.world { mode = "string", ttl = 60 }
    local p = start(w)
    assert.equal(200, http.get(p.port).status)
    local token = p:status().tokens[1]
    assert.is_true(token.expires_in > 50 and token.expires_in <= 60)
    p:finish()
    w:stop()
  end)

  it("is asked less and less often while it fails", function()
    local w = peers.world { mode = "500" }
    local p = start(w, 'wait = "10ms", backoff = { min = "100ms", max = "800ms" },')
    require "socket".sleep(3)
    local fetches = w:stats().fetches
    assert.is_true(fetches >= 3 and fetches <= 16, "fetches in 3 s: " .. fetches)
    p:finish()
    w:stop()
  end)

  it("keeps serving the valid token while refreshes fail, then answers 503, never an expired one", function()
    local w = peers.world { ttl = 3 }
    local p = start(w, 'wait = "100ms", backoff = { min = "100ms", max = "300ms" },')
    process.poll(function() return http.get(p.port).status == 200 end) -- the first fetch may take longer than the wait on a busy machine
    w:order { mode = "500" }
    local statuses = {}
    for _ = 1, 45 do
      statuses[#statuses + 1] = http.get(p.port).status
      require "socket".sleep(0.1)
    end
    local text = table.concat(statuses, " ")
    assert.matches("^200 200 200 ", text)
    assert.matches(" 503$", text)
    assert.is_nil(text:find("401", 1, true))
    assert.equal(0, w:stats().refused)
    p:finish()
    w:stop()
  end)
end)

describe("under load, with tokens of 2 s, a fetch of 300 ms and a reload every second", function()
  it("every answer is 200, no invalid token arrives, and two fetches never overlap", function()
    local seconds = tonumber(os.getenv "JETON_SOAK" or "20")
    local w = peers.world { ttl = 2, delay = 300 }
    local p = start(w, 'wait = "5s",', "log = { access = false },", { workers = 2 })
    local policy = process.read_file(p.policy)
    local wrk = process.start { "wrk", "-t1", "-c8", "-d" .. seconds .. "s", "--timeout", "10s", ("http://127.0.0.1:%d/"):format(p.port) }
    local rounds = 0
    while not wrk:ended() do
      rounds = rounds + 1
      if rounds % 7 == 0 then
        process.write_file(p.policy, "return { listen = 5 ")
        assert.equal(422, (p:control("POST", "/reload")).status)
        process.write_file(p.policy, policy)
      else
        local res = p:control("POST", "/reload")
        assert.equal(200, res.status, res.body)
      end
      local until_next = require "socket".gettime() + 1
      process.poll(function() return wrk:ended() or require "socket".gettime() >= until_next end, 5)
    end
    local out = wrk:output()
    local stats = w:stats()
    assert.is_nil(out:find("Non-2xx", 1, true), out)
    assert.is_nil(out:find("Socket errors", 1, true), out)
    assert.equal(0, stats.refused)
    assert.equal(1, stats.most_concurrent)
    assert.is_true(stats.accepted > seconds * 20, out)
    assert.is_true(stats.fetches >= seconds / 2 and stats.fetches <= seconds, "fetches: " .. stats.fetches)
    -- no token in anything that the program said
    local said = p:errors() .. p:output() .. p:control("GET", "/status").body
    for _, token in ipairs(stats.tokens) do assert.is_nil(said:find(token, 1, true)) end
    assert.is_nil(said:find("s3cret-of-the-spec", 1, true))
    p:finish(30)
    w:stop()
  end)
end)
