--- The three stores of examples/actors-in-sync under load, each in the demo: its issuer takes half a second for a token of three seconds, and its
--- upstream refuses a request whose token is over. Issuer and upstream are in jeton's process here, so CPU is not told.
local load = require "spec.bench.lib.load"
local machine = require "spec.bench.lib.machine"
local report = require "spec.bench.lib.report"
local process = require "spec.support.process"
local uv = require "luv"

local M = { name = "actors", title = "The three stores of Actors in Sync" }

local STORES = { "1-channels", "2-interim", "3-mutex" }

local COLUMNS = {
  { "", function(r) return r.name end },
  { "requests/s", function(r) return ("%.0f"):format(r.run.rate) end },
  { "p50 ms", function(r) return ("%.2f"):format(load.percentile(r.run.histogram, 50) / 1e3) end },
  { "p99 ms", function(r) return ("%.2f"):format(load.percentile(r.run.histogram, 99) / 1e3) end },
  { "p99.9 ms", function(r) return ("%.2f"):format(load.percentile(r.run.histogram, 99.9) / 1e3) end },
  { "refused by the upstream", function(r) return ("%d"):format(r.run.refused) end },
}

local function start(store)
  local root = uv.cwd()
  local p = process.start(
    machine.pinned(machine.cores.proxy, { root .. "/build/jeton", "demo", ("%s/examples/actors-in-sync/%s.lua"):format(root, store), "--listen", "127.0.0.1:0" }),
    { env = { JETON_SCRIPTS = root .. "/scripts" } })
  return process.poll(function()
    if p:ended() then error(store .. " ended:\n" .. p:errors(), 0) end
    return p:errors():find("ready", 1, true) and p:errors():match "listening on (http://%S+)"
  end, 15, function() return store .. " to listen: " .. p:errors() end), p
end

--- Long enough for several refreshes, one every two seconds.
function M.run(bench)
  local results = {}
  for i, store in ipairs(STORES) do
    bench.progress(store)
    local url, p = start(store)
    load.wrk(url .. "/", { seconds = 1 }) -- the first token is there, and the first requests that waited for it have gone
    results[i] = { name = store, run = load.wrk(url .. "/", { seconds = math.max(6, 5 * bench.seconds), refused = true }) }
    p:stop()
  end
  return { report.table("64 connections, a refresh every two seconds", COLUMNS, results) }
end

return M
