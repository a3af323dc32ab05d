--- gRPC through the proxy, by clients and servers of @grpc/grpc-js and Debian's python3-grpcio: all kinds of calls, plain and over TLS.
--- What a call gets where jeton answers itself is in spec/proxy/grpc_errors_spec.lua, for every failure.
local jeton = require "spec.support.jeton"
local grpc = require "spec.support.grpc"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local socket = require "socket"

local KINDS = { "js", "py" }
local certs, servers

setup(function()
  certs = peers.certificates()
  servers = {}
  for _, kind in ipairs(KINDS) do servers[kind] = grpc.server(kind, certs) end
end)

--- The way to one server, as an upstream of a policy.
local function plain(port) return ('{ "http://127.0.0.1:%d", http2 = true }'):format(port) end
local function secure(port) return ('{ "https://localhost:%d", http2 = true, tls = { ca = %q } }'):format(port, certs .. "/ca.pem") end

--- A proxy by prior knowledge and, on its second address, over TLS. `upstreams`: { name = Lua text }, chosen by the metadata x-to; `hook` runs in on_request behind
--- that, `more` are further keys.
local function start(upstreams, hook, more)
  local list = {}
  for name, text in pairs(upstreams) do list[#list + 1] = ("[%q] = %s"):format(name, text) end
  return jeton.start(([[
    return {
      listen = { "127.0.0.1:0", { "[::]:0", tls = { certificates = { { cert = %q, key = %q } } } } },
      upstreams = { %s },
      log = { access = false },
      on_request = function(req, tokens)
        local to = req.headers["x-to"]
        %s
        req.upstream = to
      end,
      %s
    }]]):format(certs .. "/rsa.pem", certs .. "/rsa.key", table.concat(list, ", "), hook or "", more or ""))
end

local function all_to(upstream, cases)
  local list = {}
  for i, case in ipairs(cases) do list[i] = case .. "@" .. upstream end
  return list
end

local SAID = { say = "hello, caf%C3%A9", raw = "0001feff" }

--- Starts cases; what it gives waits for them, and gives a function that takes a result by its case's name.
local function begin(kind, port, ca, upstream, cases)
  local client = grpc.client(kind, port, ca, all_to(upstream, cases))
  return function()
    local results = grpc.results(client, 90)
    return function(name) return assert(results[name .. "@" .. upstream], name) end
  end
end

local function cases_for(server)
  local cases = { "unary", "up", "up-fail", "down", "both", "both-fail", "fail", "late", "left", "deadline", "cancel", "cancel-down" }
  if server == "js" then table.move({ "reset", "reset-internal" }, 1, 2, #cases + 1, cases) end
  return cases
end

--- All kinds of calls and ends.
local function check(server, of)
  local function outcome(name)
    local r = of(name)
    return { r.code, r.messages }
  end
  -- messages both ways, metadata before and behind them, binary ones as well
  assert.same({ 0, { "hello" } }, outcome "unary")
  assert.same(SAID, of("unary").head)
  assert.same(SAID, of("unary").tail)
  assert.same({ 0, { "3 11" } }, outcome "up")
  assert.same({ 0, { "ddddd", "ddddd", "ddddd" } }, outcome "down")
  assert.same({ 0, { "a", "b", "c", "d", "e" } }, outcome "both")
  -- an error alone, behind metadata, behind messages, before the client has said all
  assert.same({ 5, {} }, outcome "fail")
  assert.equal("nothing: 100% café", of("fail").details)
  assert.is_nil(of("fail").head)
  assert.same(SAID, of("fail").tail)
  assert.same({ 7, {} }, outcome "late")
  assert.same(SAID, of("late").head)
  assert.same({ 10, { "a" } }, outcome "both-fail")
  assert.same({ 9, {} }, outcome "up-fail")
  assert.equal("no more", of("up-fail").details)
  -- the server knows the deadline, and a call ends with it
  local left = tonumber(of("left").messages[1])
  assert.is_true(left > 10000 and left <= 20100, left)
  assert.same({ 4, {} }, outcome "deadline")
  -- cancelled by the client, and by the server
  assert.same({ 1, { "a" } }, outcome "cancel")
  assert.same({ 1, { 1000, 1000, 1000 } }, outcome "cancel-down")
  if server == "js" then
    assert.same({ 1, { "a" } }, outcome "reset")
    assert.same({ 13, { "a" } }, outcome "reset-internal")
  end
end

local function stats(kind) return grpc.run("js", servers[kind].plain, nil, { "stats" }).stats end

describe("gRPC through the proxy:", function()
  local proxy
  setup(function()
    proxy = start { js = plain(servers.js.plain), py = plain(servers.py.plain), ["js-tls"] = secure(servers.js.tls), ["py-tls"] = secure(servers.py.tls) }
  end)
  teardown(function() proxy:finish() end)

  for _, client in ipairs(KINDS) do
    for _, server in ipairs(KINDS) do
      it(("all kinds of calls from %s to %s, by prior knowledge and by TLS, and both ends of each"):format(client, server), function()
        local before = stats(server)
        local known = begin(client, proxy.port, nil, server, cases_for(server))
        local tls = begin(client, proxy:port_of(2), certs .. "/ca.pem", server .. "-tls", cases_for(server))
        check(server, known())
        check(server, tls())
        local after
        process.poll(function()
          after = stats(server)
          return after.open == 0 and after.cancelled - before.cancelled >= 4 -- each by deadline and cancel-down
        end, 5, function() return ("calls to end at the server: %d open, %d cancelled"):format(after.open, after.cancelled - before.cancelled) end)
      end)
    end
  end

  it("messages of megabytes, both ways", function()
    local cases = { "big", "fill", "big-up", "big-down" }
    local one, other = begin("js", proxy.port, nil, "py", cases), begin("py", proxy.port, nil, "js-tls", cases)
    for _, results in ipairs { one, other } do
      local of = results()
      for name, messages in pairs { big = { 3 << 20 }, fill = { 3 << 20 }, ["big-up"] = { "20 4000000" } } do
        assert.same({ 0, messages }, { of(name).code, of(name).messages })
      end
      local down = of "big-down"
      assert.same({ 0, 20, 200000 }, { down.code, #down.messages, down.messages[20] })
    end
  end)
end)

describe("a gRPC client whose call jeton answers itself", function()
  it("gets the status, the message, and when to come again", function()
    local mute = peers.raw 'c:read "head"; c:sleep(60000)'
    local proxy = start({ js = plain(servers.js.plain), refused = plain(1), mute = ('{ "http://127.0.0.1:%d", timeouts = { first_byte = "300ms" } }'):format(mute.port) },
      [[if to == "none" or to == "elsewhere" then
          req.headers.authorization = "Bearer " .. tokens[to]
          to = "js"
        end
        if to == "raise" then error "on purpose" end
        if to == "nowhere" then return end
        if to == "respond" then return req:respond(200, { ["content-type"] = "application/grpc", ["grpc-status"] = 16, ["grpc-message"] = "log in: 100%25" }) end
        if to == "forbid" then return req:respond(403, nil, "not you") end]],
      [[limits = { body = "1m" },
        tokens = {
          none = { fetch = function() return nil, "no luck" end, wait = "50ms", ready = false },
          elsewhere = { fetch = function() return { value = "v", expires_in = 60 } end, hosts = { "api.example.com" } },
        }]])
    for _, kind in ipairs(KINDS) do
      local results = grpc.run(kind, proxy.port, nil, { "unary@none", "both@none", "unary@refused", "both@refused", "unary@mute", "unary@elsewhere", "unary@raise", "both@raise", "unary@nowhere",
        "big@js", "unary@respond", "unary@forbid", "unary@js" }, 60)
      local function of(name)
        local r = assert(results[name], name)
        return r.code, r.details, r.pushback
      end
      for _, name in ipairs { "unary@none", "both@none" } do
        local code, details, pushback = of(name)
        assert.equal(14, code)
        assert.matches("^there is no valid token.* %(request %x+%)$", details)
        assert.is_true(tonumber(pushback) >= 1000)
      end
      for name, want in pairs { ["unary@refused"] = 14, ["both@refused"] = 14, ["unary@mute"] = 4, ["unary@elsewhere"] = 7, ["unary@raise"] = 13, ["both@raise"] = 13, ["unary@nowhere"] = 12, ["big@js"] = 8 } do
        local code, details, pushback = of(name)
        assert.equal(want, code, name .. ": " .. details)
        assert.matches(" %(request %x+%)$", details)
        assert.is_nil(pushback)
      end
      local code, details = of "unary@respond"
      assert.same({ 16, "log in: 100%" }, { code, details })
      assert.equal(7, (of "unary@forbid")) -- the client's own reading of a 403
      assert.equal(0, (of "unary@js"))
    end
    proxy:finish()
  end)
end)

describe("a gRPC client with a retry policy", function()
  it("comes again when the token is there, and not before jeton said", function()
    for _, kind in ipairs(KINDS) do
      local proxy = start({ js = plain(servers.js.plain) }, [[
          jeton.channel("asked", 4):try_send(true)
          req.headers.authorization = "Bearer " .. tokens.api
          to = "js"]],
        [[tokens = { api = { wait = "10ms", ready = false, fetch = function()
          jeton.channel("asked", 4):recv() -- the first try has come, and goes without
          jeton.sleep "100ms"
          return { value = ("t%d"):format((jeton.now() + 60) * 1000 // 1 | 0), expires_in = 60 }
        end } },]])
      local r = grpc.run(kind, proxy.port, nil, { "retry" }).retry
      assert.same({ 0, { "hello" } }, { r.code, r.messages }, r.details)
      assert.is_true(r.ms >= 990, r.ms .. " ms")
      assert.equal(2, proxy:status().workers[1].requests)
      proxy:finish()
    end
  end)
end)

describe("a token that a gRPC server refuses", function()
  for _, kind in ipairs(KINDS) do
    it("is fetched anew, and the call made again: " .. kind, function()
      local server = grpc.server(kind)
      local proxy = start({ there = plain(server.plain) }, [[req.headers.authorization = "Bearer " .. tokens.api]],
        [[tokens = { api = { fetch = function() return { value = ("t%d"):format((jeton.now() + 60) * 1000 // 1 | 0), expires_in = 60 } end } },]])
      local r = grpc.run("js", proxy.port, nil, { "second@there" })["second@there"]
      assert.same({ 0, { "welcome" } }, { r.code, r.messages })
      assert.equal(2, proxy:status().tokens[1].fetches)
      proxy:finish()
      server.process:stop()
    end)
  end
end)

describe("two clients with 100 streams each at any time, a token of 2 s and a reload every second:", function()
  it("nothing is lost, and no expired token arrives", function()
    local seconds = tonumber(os.getenv "JETON_SOAK" or "5")
    local ends = { py = grpc.server "py", js = grpc.server("js", certs) }
    local proxy = start({ py = plain(ends.py.plain), js = secure(ends.js.tls) }, [[req.headers.authorization = "Bearer " .. tokens.api]], [[
      tokens = { api = { wait = "5s", fetch = function()
        local ends = jeton.now() + 2
        jeton.sleep "200ms"
        return { value = ("t%d"):format(ends * 1000 // 1 | 0), expires_in = 2 }
      end } },]])
    local policy = process.read_file(proxy.policy)
    -- and on each connection one stream that outlives its token: a message four times a second
    local soak, long = ("soak:%d:100"):format(seconds), ("pace:%d"):format(seconds)
    local clients = {
      { begin("py", proxy.port, nil, "js", { soak }), begin("py", proxy.port, nil, "js", { long }) },
      { begin("js", proxy:port_of(2), certs .. "/ca.pem", "py", { soak }), begin("js", proxy:port_of(2), certs .. "/ca.pem", "py", { long }) },
    }
    local over, rounds = socket.gettime() + seconds, 0
    while socket.gettime() < over do
      rounds = rounds + 1
      if rounds % 7 == 0 then
        process.write_file(proxy.policy, "return { listen = 5 ")
        assert.equal(422, (proxy:control("POST", "/reload")).status)
        process.write_file(proxy.policy, policy)
      else
        local res = proxy:control("POST", "/reload")
        assert.equal(200, res.status, res.body)
      end
      socket.sleep(1)
    end
    for _, client in ipairs(clients) do
      local r, l = client[1]()(soak), client[2]()(long)
      assert.same({}, r.failed)
      assert.is_true(r.streams >= 100 and r.messages >= 500, r.streams .. " streams, " .. r.messages .. " messages")
      assert.same({ 0, seconds * 4 }, { l.code, #l.messages })
    end
    for _, server in pairs(ends) do
      local saw = grpc.run("js", server.plain, nil, { "stats" }).stats
      assert.same({ 0, 0, 0 }, { saw.expired, saw.missing, saw.open }, "the latest came " .. saw.latest .. " ms after its token's end")
      assert.is_true(saw.tokens >= seconds // 2, saw.tokens .. " tokens")
      server.process:stop()
    end
    proxy:finish(30)
  end)
end)
