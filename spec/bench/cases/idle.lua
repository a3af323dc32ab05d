--- Idle connections: what each of ten thousand costs in memory, after one request has been answered on it.
local peers = require "spec.bench.lib.peers"
local report = require "spec.bench.lib.report"
local load = require "spec.bench.lib.load"
local machine = require "spec.bench.lib.machine"
local process = require "spec.support.process"
local uv = require "luv"

local M = { name = "idle", title = "Idle connections" }

local COLUMNS = {
  { "", function(r) return r.name end },
  { "connections", function(r) return ("%d"):format(r.count) end },
  { "bytes each", function(r) return ("%.0f"):format((r.after - r.before) / r.count) end },
  { "MiB before", function(r) return ("%.1f"):format(r.before / 2 ^ 20) end },
  { "MiB with them", function(r) return ("%.1f"):format(r.after / 2 ^ 20) end },
}

local function measure(bench, peer, count)
  bench.progress("idle connections: " .. peer.name)
  load.wrk(peer.url .. "/", { seconds = 1 })
  local before = machine.resident(peer.pid)
  local client = process.start(machine.pinned(machine.cores.load, { "lua5.4", uv.cwd() .. "/spec/bench/lib/idle.lua", tostring(peer.port), tostring(count) }))
  process.poll(function()
    if client:ended() then error(peer.name .. ": " .. client:errors(), 0) end
    return client:output():find "ready"
  end, 60, function() return peer.name .. " to have its idle connections" end)
  local after = machine.resident(peer.pid)
  client:stop()
  return { name = peer.name, count = count, before = before, after = after }
end

function M.run(bench)
  local origin, results = peers.origin(), {}
  local count = math.min(10000, machine.connections_allowed())
  for i, p in ipairs { peers.nginx(origin), peers.haproxy(origin), peers.go(origin), peers.jeton(origin, "token") } do
    results[i] = measure(bench, p, count)
  end
  return { report.table("each has had one request", COLUMNS, results) }
end

return M
