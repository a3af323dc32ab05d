--- HTTP/2 on either side and on both, beside HAProxy and nghttpx: small requests by the number of connections, bodies both ways, memory of connections and streams.
--- As many requests are under way with HTTP/1.1 as with HTTP/2, a connection for each there. All contestants of a table take turns in the same rounds, so what stands in one compares.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"
local machine = require "spec.bench.lib.machine"
local load = require "spec.bench.lib.load"
local process = require "spec.support.process"
local uv = require "luv"

local M = { name = "http2", title = "HTTP/2" }

local STREAMS = 8                -- on each connection
local CONNECTIONS = { 8, 1, 64 } -- of HTTP/2
local BODY, BODY_CONNECTIONS, BODY_STREAMS = 1000000, 8, 2
local HELD = { connections = 100, streams = 100 }
local REFERENCE = "HAProxy"

--- Client's protocol, origin's protocol.
local WAYS = { { "h1", "h1" }, { "h2", "h1" }, { "h1", "h2" }, { "h2", "h2" } }

local CONSTRUCTORS = {
  peers.haproxy, peers.nghttpx, function(o) return peers.jeton(o, "plain") end, function(o) return peers.jeton(o, "token") end,
}

--- { h1 = { HAProxy = peer, … }, h2 = … } by the origin's protocol, and the names in order.
local function start_all(origins)
  local started, names = { h1 = {}, h2 = {} }, {}
  for i, start in ipairs(CONSTRUCTORS) do
    for protocol, origin in pairs(origins) do
      local p = start(origin)
      p.origin = origin
      for _, http2 in ipairs { false, true } do peers.check(p, p.name:find "token" ~= nil, http2) end
      started[protocol][p.name] = p
      names[i] = p.name
    end
  end
  return started, names
end

local function contestants_of(started, names, ways, options)
  local list = {}
  for _, way in ipairs(ways) do
    for _, name in ipairs(names) do
      local client, server = table.unpack(way)
      local connections = options.connections * (client == "h1" and options.streams or 1)
      list[#list + 1] = {
        name = ("%s → %s, %s"):format(client, server, name), peer = started[server][name], way = client .. server, peer_name = name, path = options.path,
        counted = options.counted,
        load = { protocol = client, connections = connections, streams = options.streams, upload = options.upload },
      }
    end
  end
  return list
end

local function send(contestant, seconds)
  local run = load.h2load(contestant.peer.url .. (contestant.path or "/"), setmetatable({ seconds = seconds }, { __index = contestant.load }))
  local wanted = contestant.load.protocol == "h2" and "h2c" or "http/1.1"
  if run.protocol ~= wanted then error(("%s spoke %s"):format(contestant.name, run.protocol), 0) end
  return run
end

local function warm_up(contestant) send(contestant, 1) end

local function measure_requests(contestant, seconds)
  local before = machine.cpu(contestant.peer.pid)
  local run = send(contestant, seconds)
  if run.requests == 0 then error(contestant.name .. " answered no request", 0) end
  return {
    cpu = (machine.cpu(contestant.peer.pid) - before) / run.requests, rate = run.rate, mean = run.mean, failed = run.failed,
    resident = machine.resident(contestant.peer.pid),
  }
end

--- The bytes are counted at the origin, unfinished bodies included.
local function measure_bodies(contestant, seconds)
  local origin, peer = contestant.peer.origin, contestant.peer
  local cpu, before = machine.cpu(peer.pid), origin:stats()[contestant.counted]
  local run = send(contestant, seconds)
  local gigabytes = (origin:stats()[contestant.counted] - before) / 1e9
  return { cpu = (machine.cpu(peer.pid) - cpu) / gigabytes, rate = gigabytes / run.seconds, failed = run.failed, resident = machine.resident(peer.pid) }
end

--- Rounds of these contestants; each result knows HAProxy's of the same protocols.
local function run(bench, contestants, measure)
  local results, reference = rounds.run(bench, contestants, measure, warm_up), {}
  for i, c in ipairs(contestants) do
    if c.peer_name == REFERENCE then reference[c.way] = results[i] end
  end
  for i, c in ipairs(contestants) do results[i].reference = reference[c.way] end
  return results
end

local function of_reference(r) return ("%.2f"):format(r.cpu / r.reference.cpu) end
local function mebibytes(bytes) return ("%.1f"):format(bytes / 2 ^ 20) end

local REQUESTS = {
  { "", function(r) return r.name end },
  { "CPU/request µs", function(r) return ("%.1f"):format(r.cpu * 1e6) end },
  { "of HAProxy", of_reference },
  { "requests/s", function(r) return ("%.0f"):format(r.rate) end },
  { "mean ms", function(r) return r.mean and ("%.2f"):format(r.mean * 1e3) or "" end },
  { "resident MiB", function(r) return mebibytes(r.resident) end },
  { "failed", function(r) return ("%d"):format(r.failed) end },
}
local BODIES = {
  { "", function(r) return r.name end },
  { "CPU s/GB", function(r) return ("%.3f"):format(r.cpu) end },
  { "of HAProxy", of_reference },
  { "GB/s", function(r) return ("%.2f"):format(r.rate) end },
  { "resident MiB", function(r) return mebibytes(r.resident) end },
  { "failed", function(r) return ("%d"):format(r.failed) end },
}
local HELD_COLUMNS = {
  { "", function(r) return r.name end },
  { "count", function(r) return ("%d"):format(r.count) end },
  { "bytes each", function(r) return ("%.0f"):format((r.after - r.before) / r.count) end },
  { "MiB before", function(r) return mebibytes(r.before) end },
  { "MiB with them", function(r) return mebibytes(r.after) end },
}

--- What so many connections cost, or so many streams on each, that lib/idle.lua holds open: { name, count, before, after }, bytes. The peer is a new one, since what
--- others have left in its heap would hide some.
local function held(bench, start, origin, connections, streams)
  local peer = start(origin)
  bench.progress(("%d connections of %d streams: %s"):format(connections, streams, peer.name))
  warm_up { name = peer.name, peer = peer, load = { protocol = "h2", connections = 8, streams = STREAMS } }
  local before = machine.resident(peer.pid)
  local client = process.start(machine.pinned(machine.cores.load, {
    "lua5.4", uv.cwd() .. "/spec/bench/lib/idle.lua", tostring(peer.port), tostring(connections), "h2", tostring(streams),
  }))
  process.poll(function()
    if client:ended() then error(peer.name .. ": " .. client:errors(), 0) end
    return client:output():find "ready"
  end, 60, function() return peer.name .. " to have what it holds" end)
  local after = machine.resident(peer.pid)
  client:stop()
  peer:stop()
  return { name = peer.name, count = connections * math.max(1, streams), before = before, after = after }
end

local function plural(n, what) return ("%d %s%s"):format(n, what, n == 1 and "" or "s") end

function M.run(bench)
  local origins = { h1 = peers.origin(), h2 = peers.h2_origin() }
  local started, names = start_all(origins)
  local tables = {}
  for _, connections in ipairs(CONNECTIONS) do
    local list = contestants_of(started, names, WAYS, { connections = connections, streams = STREAMS })
    local title = ("%s of %d streams, or %d of HTTP/1.1"):format(plural(connections, "connection"), STREAMS, connections * STREAMS)
    tables[#tables + 1] = report.table(title, REQUESTS, run(bench, list, measure_requests))
  end
  local upload = process.write_file(process.temp_dir() .. "/upload", ("x"):rep(BODY))
  for _, body in ipairs {
    { title = "1 MB sent by the client", counted = "received", upload = upload },
    { title = "1 MB sent by the origin", counted = "sent", path = "/bytes/" .. BODY },
  } do
    body.connections, body.streams = BODY_CONNECTIONS, BODY_STREAMS
    local list = contestants_of(started, names, WAYS, body)
    tables[#tables + 1] = report.table(("%s, %d at a time"):format(body.title, BODY_CONNECTIONS * BODY_STREAMS), BODIES, run(bench, list, measure_bodies))
  end
  for _, what in ipairs {
    { title = "idle connections, each has had one request", connections = math.min(10000, machine.connections_allowed()), streams = 0 },
    { title = ("uploads that wait, %d on each connection"):format(HELD.streams), connections = HELD.connections, streams = HELD.streams },
  } do
    local results = {}
    for i, start in ipairs(CONSTRUCTORS) do results[i] = held(bench, start, origins.h2, what.connections, what.streams) end
    tables[#tables + 1] = report.table(what.title, HELD_COLUMNS, results)
  end
  return tables
end

return M
