--- Cost discipline: what a request on a kept-alive connection asks of the system. The release binary, with every such call counted.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local NAMES = { "reads", "writes", "epoll_ctls", "epoll_waits", "allocations", "timers", "locks", "clocks", "splices", "nodelays" } -- as in spec/support/counters.c
local N = 1000
-- Several times a second a worker looks at its gauges and its wheel, and other threads live as well. Not by the request: what a request does
-- counts 1 at least.
local HOUSEKEEPING = 0.5

describe("a request on a kept-alive connection", function()
  local library, upstream

  setup(function()
    library = process.temp_dir() .. "/counters.so"
    local code, _, err = process.run { "gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, jeton.root .. "/spec/support/counters.c", "-ldl" }
    assert.equal(0, code, err)
    upstream = peers.nginx("keepalive_timeout 600; location / { return 200 'ok'; }")
  end)

  -- libuv 1.45 and later may hand what it asks of epoll to a ring, where no call is to be counted.
  local function environment(file) return { LD_PRELOAD = library, COUNTERS = file, UV_USE_IO_URING = "0" } end

  local function counts(file)
    local values = table.pack(string.unpack(("=" .. ("I8"):rep(#NAMES)), process.read_file(file)))
    local out = {}
    for i, name in ipairs(NAMES) do out[name] = values[i] end
    return out
  end

  --- What one request costs: { reads =, … }, averages of N requests after N others.
  local function cost(more)
    local file = process.write_file(process.temp_dir() .. "/counters", ("\0"):rep(8 * #NAMES))
    local p = jeton.start {
      policy = ('return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", log = { access = false }, %s }'):format(upstream.port, more),
      binary = jeton.root .. "/build/jeton", env = environment(file),
    }
    local c = http.connect(p.port)
    local function exchanges()
      for _ = 1, N do assert.equal(200, c:request("GET", "/path?query", { Accept = "text/plain", ["User-Agent"] = "spec" }).status) end
    end
    exchanges()
    local before = counts(file)
    exchanges()
    local after, each = counts(file), {}
    for name, value in pairs(after) do each[name] = (value - before[name]) / N end
    c:close()
    p:finish()
    return each
  end

  local function about(expected, actual, what)
    assert.is_true(math.abs(actual - expected) <= HOUSEKEEPING, ("%s: expected about %d a request, counted %g"):format(what, expected, actual))
  end

  --- own_clocks: looks at a clock beside the loop's own, which are two each time it waits.
  local function is_frugal(each, own_clocks)
    about(2, each.reads, "reads")
    about(2, each.writes, "writes")
    about(0, each.epoll_ctls, "calls of epoll_ctl")
    about(0, each.timers, "timer calls")
    about(0, each.locks, "locks")
    about(0, each.allocations, "allocations")
    local clocks = each.clocks - 2 * each.epoll_waits
    assert.is_true(clocks <= own_clocks + HOUSEKEEPING, ("looks at a clock: expected %d a request, counted %g"):format(own_clocks, clocks))
  end

  it("is two reads and two writes, without allocation, lock, timer or epoll_ctl", function()
    is_frugal(cost "", 1)
  end)

  it("costs no more with a hook that sets a token", function()
    is_frugal(cost [[
      tokens = { api = { fetch = function() return { value = "value-of-the-token", expires_in = 3600 } end } },
      on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end, ]], 3) -- and: the hook's budget begins, the token's expiry
  end)

  it("costs no more with a hook on the response", function()
    is_frugal(cost [[on_response = function(res) res.headers["x-served-by"] = "spec" end, ]], 2)
  end)

  it("does not take a large body into the process, either way", function()
    local MIB = 1024 * 1024
    local dir = process.temp_dir()
    assert(os.execute(("truncate -s %d %s/big"):format(64 * MIB, dir)))
    local origin = peers.nginx(("root %s; client_max_body_size 0; client_body_buffer_size 1m; dav_methods PUT;"):format(dir))
    local file = process.write_file(process.temp_dir() .. "/counters", ("\0"):rep(8 * #NAMES))
    local p = jeton.start {
      policy = ('return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", limits = { body = 0 } }'):format(origin.port),
      binary = jeton.root .. "/build/jeton", env = environment(file),
    }
    local url = ("http://127.0.0.1:%d/"):format(p.port)
    for _, arguments in ipairs { { url .. "big", "-o", "/dev/null", "-f" }, { url .. "copy", "-T", dir .. "/big", "-f" } } do
      local before = counts(file)
      local code, _, err = peers.curl(table.unpack(arguments))
      assert.equal(0, code, err)
      local after = counts(file)
      -- in and out again for each read of 128 KiB at the most; a peer that is slow for a moment has the rest of one copied
      assert.is_true(after.splices - before.splices > 512, after.splices - before.splices .. " splices")
    end
    assert.equal(0, (process.run { "cmp", dir .. "/big", dir .. "/copy" }))
    p:finish()
  end)

  it("is counted at all: a new connection each time needs epoll_ctl", function()
    local file = process.write_file(process.temp_dir() .. "/counters", ("\0"):rep(8 * #NAMES))
    local p = jeton.start {
      policy = ([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", log = { access = false },
        limits = { connections_per_address = 64 } }]]):format(upstream.port), -- a table that workers share: behind a lock
      binary = jeton.root .. "/build/jeton", env = environment(file),
    }
    local before = counts(file)
    for _ = 1, 20 do assert.equal(200, http.get(p.port).status) end
    for _, name in ipairs { "reads", "writes", "epoll_ctls", "epoll_waits", "allocations", "locks" } do
      process.poll(function() return counts(file)[name] - before[name] >= 20 end, 5, name .. " counted") -- also those of the last one's end
    end
    p:finish()
  end)

  it("waits for no ACK of what went before it on its connection, over TLS neither", function()
    local dir, file = peers.certificates(), process.write_file(process.temp_dir() .. "/counters", ("\0"):rep(8 * #NAMES))
    local server = peers.nginx(("ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; location / { return 200 'ok'; }"):format(dir, dir), "ssl")
    local p = jeton.start {
      policy = ([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:%d", tls = { ca = "%s/ca.pem" } }, upstreams = { plain = "http://127.0.0.1:%d" },
        on_request = function(req) if req.path == "/plain" then req.upstream = "plain" end end }]]):format(server.port, dir, upstream.port),
      binary = jeton.root .. "/build/jeton", env = environment(file),
    }
    for _, path in ipairs { "/tls", "/plain" } do
      local before = counts(file).nodelays
      assert.equal(200, http.get(p.port, path).status)
      assert.equal(2, counts(file).nodelays - before, path) -- the client's connection, and the upstream's
    end
    p:finish()
  end)

  it("over TLS is one write a flight of the handshake, and one for four records of a body", function()
    local dir, file = peers.certificates(), process.write_file(process.temp_dir() .. "/counters", ("\0"):rep(8 * #NAMES))
    local p = jeton.start {
      policy = ([[return { listen = { { "127.0.0.1:0", tls = { certificates = { { cert = %q, key = %q } } } } }, upstream = "http://127.0.0.1:1", log = { access = false },
        on_request = function(req) req:respond(200, nil, ("x"):rep(req.path == "/large" and 2 * 1024 * 1024 or 1)) end }]]):format(dir .. "/ecdsa.pem", dir .. "/ecdsa.key"),
      binary = jeton.root .. "/build/jeton", env = environment(file),
    }
    local function writes(path)
      local before = counts(file).writes
      local code, out, err = peers.curl("--cacert", dir .. "/ca.pem", ("https://localhost:%d%s"):format(p.port, path))
      assert.equal(0, code, err)
      return counts(file).writes - before, #out
    end
    local small = writes "/small"
    assert.is_true(small >= 3 and small <= 5, ("two flights, a reply, an end: counted %d"):format(small))
    local large, n = writes "/large"
    assert.equal(2 * 1024 * 1024, n)
    assert.is_true(large - small <= 64, ("128 records: counted %d"):format(large - small))
    p:finish()
  end)
end)
