--- Bodies of 10 KB, 1 MB and 100 MB, up and down: what a proxy spends on a gigabyte.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"
local machine = require "spec.bench.lib.machine"
local load = require "spec.bench.lib.load"

local M = { name = "bodies", title = "Bodies" }

local SIZES = { { "10 KB", 10000, 64 }, { "1 MB", 1000000, 16 }, { "100 MB", 100000000, 4 } } -- name, bytes, connections

--- One round: { cpu } seconds a gigabyte, { rate } gigabytes a second. The bytes are counted at the origin, unfinished bodies included.
local function measure(origin)
  return function(contestant, seconds)
    local cpu, before = machine.cpu(contestant.peer.pid), origin:stats()
    local run = load.wrk(contestant.peer.url .. contestant.path, setmetatable({ seconds = seconds }, { __index = contestant.load }))
    local after = origin:stats()
    local gigabytes = (after[contestant.counted] - before[contestant.counted]) / 1e9
    if gigabytes == 0 then error(contestant.peer.name .. " passed on no body", 0) end
    return {
      cpu = (machine.cpu(contestant.peer.pid) - cpu) / gigabytes, rate = gigabytes / run.seconds, failed = run.failed,
      resident = machine.resident(contestant.peer.pid),
    }
  end
end

local COLUMNS = {
  { "", function(r) return r.name end },
  { "CPU s/GB", function(r) return ("%.3f"):format(r.cpu) end },
  { "of nginx", function(r, reference) return ("%.2f"):format(r.cpu / reference.cpu) end },
  { "GB/s", function(r) return ("%.2f"):format(r.rate) end },
  { "resident MiB", function(r) return ("%.1f"):format(r.resident / 2 ^ 20) end },
  { "failed", function(r) return ("%d"):format(r.failed) end },
}

--- Tables of both directions for these sizes; also used with TLS.
function M.measure(bench, origin, started, sizes)
  local tables = {}
  for _, size in ipairs(sizes) do
    local name, bytes, connections = table.unpack(size)
    for _, way in ipairs {
      { "sent by the client", { path = "/", counted = "received", load = { post = bytes, connections = connections } } },
      { "sent by the origin", { path = "/bytes/" .. bytes, counted = "sent", load = { connections = connections } } },
    } do
      local contestants = {}
      for i, p in ipairs(started) do contestants[i] = setmetatable({ peer = p }, { __index = way[2] }) end
      local title = ("%s %s, %d connections"):format(name, way[1], connections)
      tables[#tables + 1] = report.table(title, COLUMNS, rounds.run(bench, contestants, measure(origin)), started[1].reference or "nginx")
    end
  end
  return tables
end

function M.run(bench)
  local origin = peers.origin()
  return M.measure(bench, origin, { peers.nginx(origin), peers.relay(origin), peers.haproxy(origin), peers.go(origin), peers.jeton(origin, "token") }, SIZES)
end

return M
