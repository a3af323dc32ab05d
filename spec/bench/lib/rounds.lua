--- Rounds: every contestant in turn, then every one again, so that what disturbs the machine for a while disturbs all of them. The figure
--- that counts is the median of the rounds, each quantity for itself.
local load = require "spec.bench.lib.load"
local machine = require "spec.bench.lib.machine"

local M = {}

local function median(values)
  table.sort(values)
  local n = #values
  return n % 2 == 1 and values[(n + 1) // 2] or (values[n // 2] + values[n // 2 + 1]) / 2
end

--- One round: { cpu, rate, p50, p99, p999, resident, failed }; seconds of CPU a request, requests a second, seconds, bytes, requests.
function M.measure(contestant, seconds)
  local peer, options = contestant.peer, contestant.load or {}
  local url = peer.url .. (contestant.path or "/")
  local before = machine.cpu(peer.pid)
  local run = load.wrk(url, setmetatable({ seconds = seconds }, { __index = options }))
  local used = machine.cpu(peer.pid) - before
  if run.requests == 0 then error(peer.name .. " answered no request", 0) end
  return {
    cpu = used / run.requests, rate = run.rate, failed = run.failed, resident = machine.resident(peer.pid),
    p50 = load.percentile(run.histogram, 50) / 1e6, p99 = load.percentile(run.histogram, 99) / 1e6, p999 = load.percentile(run.histogram, 99.9) / 1e6,
  }
end

--- Connections to the origin are made, caches filled, code compiled: before the first round.
local function warm_up(contestant)
  load.wrk(contestant.peer.url .. (contestant.path or "/"), setmetatable({ seconds = 1 }, { __index = contestant.load }))
end

--- contestants: a list of { peer =, path? =, load? = options of load.wrk }. Returns a list of results in the same order, each the medians of
--- what `measure` gives (the sum of what failed). `prepare` stands in for the warming up.
function M.run(bench, contestants, measure, prepare)
  measure, prepare = measure or M.measure, prepare or warm_up
  local all = {}
  bench.progress "warming up"
  for _, contestant in ipairs(contestants) do prepare(contestant) end
  for round = 1, bench.rounds do
    for i, contestant in ipairs(contestants) do
      bench.progress(("round %d of %d: %s"):format(round, bench.rounds, contestant.name or contestant.peer.name))
      all[i] = all[i] or {}
      for quantity, value in pairs(measure(contestant, bench.seconds)) do
        all[i][quantity] = all[i][quantity] or {}
        table.insert(all[i][quantity], value)
      end
    end
  end
  local results = {}
  for i, quantities in ipairs(all) do
    results[i] = { name = contestants[i].name or contestants[i].peer.name }
    for quantity, values in pairs(quantities) do
      local sum = 0
      for _, v in ipairs(values) do sum = sum + v end
      results[i][quantity] = quantity == "failed" and sum or median(values)
    end
  end
  return results
end

return M
