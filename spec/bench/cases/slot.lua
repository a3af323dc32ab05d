--- The slot: reads of one token by several threads, beside other ways of sharing it. No proxy runs.
local build = require "spec.bench.lib.build"
local machine = require "spec.bench.lib.machine"
local process = require "spec.support.process"
local uv = require "luv"

local M = { name = "slot", title = "Reading a token that threads share" }

local THREADS = { 1, 2, 4, 8 }

local function ways()
  local c, go = uv.cwd() .. "/build/release/spec/slot_bench", build.go("slot", "actors")
  return {
    { "slot (C)", c, "slot" }, { "mutex (C)", c, "mutex" }, { "read-write lock (C)", c, "rwlock" }, { "actor, messages (C)", c, "actor" },
    { "RWMutex (Go)", go, "rwmutex" }, { "actor, channel (Go)", go, "channel" },
  }
end

--- Reads a second.
local function reads(bench, way, threads, quiet)
  bench.progress(("%s, %d threads"):format(way[1], threads))
  local argv = machine.pinned(machine.cores.all, { way[2], way[3], tostring(threads), tostring(bench.seconds / 4) })
  if quiet then argv[#argv + 1] = "quiet" end
  local code, out, err = process.run(argv, { timeout = 60 })
  local count, seconds = out:match "reads (%d+) seconds (%S+)"
  if code ~= 0 or not count then error(("%s ended with %d: %s%s"):format(way[1], code, out, err), 0) end
  return tonumber(count) / tonumber(seconds)
end

local function median_of(bench, way, threads, quiet)
  local values = {}
  for i = 1, bench.rounds do values[i] = reads(bench, way, threads, quiet) end
  table.sort(values)
  return values[(#values + 1) // 2]
end

function M.run(bench)
  local t = {
    title = "million reads a second, a writer every millisecond",
    text = "The last column: nanoseconds a read by one thread, without a writer.",
    columns = { "", "1 thread", "2", "4", "8", "ns a read" }, rows = {},
  }
  for i, way in ipairs(ways()) do
    local row = { way[1] }
    for j, threads in ipairs(THREADS) do row[j + 1] = ("%.1f"):format(median_of(bench, way, threads) / 1e6) end
    row[#row + 1] = ("%.1f"):format(1e9 / median_of(bench, way, 1, true))
    t.rows[i] = row
  end
  return { t }
end

return M
