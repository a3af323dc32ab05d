--- A body of 1 GB whose reader takes 64 KB/s: memory stays within 1 MiB of what it was, the sender is stopped, and who gives up leaves nothing behind; in all combinations of
--- protocols, both directions. All cases run beside each other, a proxy each, since most of the time is waiting.
local wire = require "spec.support.wire"
local flood = require "spec.support.flood"
local process = require "spec.support.process"
local socket = require "socket"

local MIB = 1024 * 1024
local SIZE = 1024 * MIB
local BITE, PAUSE = 6554, 0.1 -- 64 KB/s
local BEFORE_IT_STALLS = 12 * MIB -- what a reader takes at full speed, for windows to grow
local WARM_UP = 512 * 1024
local IN_SOCKETS = 32 * MIB -- what the kernel may hold between a sender and its reader

local cases, ends = {}, {}
for _, client in ipairs { "h1", "h2" } do
  for _, upstream in ipairs { "h1", "h2" } do
    for _, direction in ipairs { "download", "upload" } do
      cases[#cases + 1] = { name = ("%s, %s to %s"):format(direction, client, upstream), client = client, upstream = upstream, direction = direction }
    end
  end
end
local function each(f) for _, case in ipairs(cases) do f(case) end end
local function all(f)
  return function()
    for _, case in ipairs(cases) do
      if not f(case) then return false end
    end
    return true
  end
end

local function start(case)
  case.server = flood.server(case.upstream)
  case.proxy = wire.release_proxy(case.server.port, ("upstream = { 'http://127.0.0.1:%d', http2 = %s }, limits = { body = 0 },"):format(case.server.port, tostring(case.upstream == "h2")))
end
-- When all proxies run: one that starts later would inherit the socket.
local function connect(case)
  case.peer = flood.client(case.client, case.proxy.port)
  local down = case.direction == "download"
  case.reader, case.sender = down and case.peer or case.server, down and case.server or case.peer
  table.insert(ends, case.server)
  table.insert(ends, case.peer)
end
local function small_requests()
  for i = 1, 10 do
    each(function(case) case.peer:ask("GET", "/small") end)
    assert(flood.turn(ends, process.stretched(5), all(function(case) return #case.peer.statuses == i end)), "small requests")
  end
  -- The thread's buffer for reads (128 KiB) is one for all connections: it is there before.
  each(function(case) case.peer:ask("GET", "/flood?" .. WARM_UP) end)
  assert(flood.turn(ends, process.stretched(5), all(function(case)
    case.peer:take(WARM_UP)
    return case.peer.got >= WARM_UP
  end)), "a body")
  socket.sleep(0.6) -- what is done behind them
  each(function(case) case.before = wire.rss(case.proxy) end)
end
local function note_memory(case) case.most = math.max(case.most or 0, wire.rss(case.proxy) - case.before) end
--- All readers take a bite, and then a pause. What was the most memory meanwhile, and how far each side came since the last time.
local function read_slowly(bites)
  local notes = {}
  each(function(case) notes[case] = { got = case.reader.got } end)
  for _ = 1, bites do
    each(function(case) case.reader:take(BITE) end)
    flood.turn(ends, PAUSE)
    each(note_memory)
  end
  each(function(case)
    local note = notes[case]
    note.took, note.held, note.most = case.reader.got - note.got, case.sender.sent - case.reader.got, case.most
    case.most = 0
  end)
  return notes
end

describe("a body of 1 GB", function()
  local at_first, later
  setup(function()
    each(start)
    each(connect)
    small_requests()
    each(function(case)
      if case.direction == "download" then case.peer:ask("GET", "/flood?" .. SIZE) else case.peer:ask("POST", "/flood", SIZE) end
    end)
    at_first = read_slowly(30)
    local fast = all(function(case)
      note_memory(case)
      if case.reader.got < BEFORE_IT_STALLS then case.reader:take(256 * 1024) end
      return case.reader.got >= BEFORE_IT_STALLS
    end)
    flood.turn(ends, process.stretched(10), fast)
    later = read_slowly(15)
    each(function(case) case.peer:leave() end)
  end)
  teardown(function()
    for _, e in ipairs(ends) do e:close() end
  end)

  for _, case in ipairs(cases) do
    it("whose reader takes 64 KB/s costs less than 1 MiB: " .. case.name, function()
      local note = at_first[case]
      assert.is_true(note.took >= 25 * BITE, ("the reader got %d bytes"):format(note.took))
      assert.is_true(note.held < IN_SOCKETS, ("%d bytes are with nobody: the sender was not stopped"):format(note.held))
      assert.is_true(note.most < 1024, ("%d KiB more"):format(note.most))
    end)
    -- Its windows have grown, and what they let through before it slowed down is there.
    it("whose reader kept up, and then takes 64 KB/s, costs little more: " .. case.name, function()
      local note = later[case]
      assert.is_true(case.reader.got >= BEFORE_IT_STALLS, ("the reader got %d bytes"):format(case.reader.got))
      assert.is_true(note.took >= 12 * BITE, ("the reader got %d bytes"):format(note.took))
      assert.is_true(note.held < IN_SOCKETS, ("%d bytes are with nobody: the sender was not stopped"):format(note.held))
      assert.is_true(note.most < 1536, ("%d KiB more"):format(note.most))
    end)
    it("that is given up leaves nothing behind: " .. case.name, function()
      local w
      local function over()
        flood.turn({ case.server, case.peer }, 0.05)
        case.server:take(MIB) -- what an upstream of HTTP/1.1 has not read stands before the end
        w = case.proxy:status().workers[1]
        return case.server.broken and w.client_aborts == 1 and w.upstream_leased == 0 and w.streams == 0 and (case.client == "h2" or w.connections == 0)
      end
      process.poll(over, 5, function() return ("the end: %d aborts, %d leased, %d connections"):format(w.client_aborts, w.upstream_leased, w.connections) end)
      assert.is_true(wire.rss(case.proxy) - case.before < 1536)
      if case.client == "h2" then -- the connection, and that of the upstream, go on
        local n = #case.peer.statuses
        case.peer:ask("GET", "/small")
        assert.is_true(flood.turn({ case.peer, case.server }, process.stretched(5), function() return #case.peer.statuses > n end))
        assert.equal(204, case.peer.statuses[n + 1])
      end
      case.peer:close()
      case.proxy:finish()
    end)
  end
end)
