--- The benchmark: lua5.4 spec/bench/bench.lua [CASE…], from the root of the tree; see docs/performance.md.
--- Environment: ROUNDS (3), ROUND_SECONDS (2), REFRESH_SECONDS (300); QUICK=1: 1, 1 and 10; WRITE=1: the tables go into docs/performance.md.
package.path = "./?.lua;" .. package.path
local process = require "spec.support.process"
local machine = require "spec.bench.lib.machine"
local report = require "spec.bench.lib.report"
local uv = require "luv"

local PAGE = "docs/performance.md"
-- In the order in which they run and stand on the page.
local CASES = { "small", "hooks", "bodies", "connections", "idle", "workers", "tls", "http2", "refresh", "slot", "actors" }

local quick = os.getenv "QUICK" == "1"
local function number(name, full, short) return tonumber(os.getenv(name) or "") or (quick and short or full) end

local bench = {
  rounds = number("ROUNDS", 3, 1),
  seconds = number("ROUND_SECONDS", 2, 1),
  refresh_seconds = number("REFRESH_SECONDS", 300, 10),
  progress = function(text) if uv.guess_handle(2) == "tty" then io.stderr:write("\r\27[K", text) end end,
}

--- Whatever way this program ends, nothing that it started stays.
local function clean_up_on_signals()
  for _, name in ipairs { "sigint", "sigterm", "sighup" } do
    local handle = uv.new_signal()
    handle:start(name, function()
      process.clean()
      os.exit(130)
    end)
    handle:unref()
  end
end

local function show(case, tables)
  local texts = {}
  for i, t in ipairs(tables) do texts[i] = report.markdown(t) end
  local text = table.concat(texts, "\n")
  bench.progress ""
  io.write("\n## ", case.title, "\n\n", text)
  io.flush()
  if os.getenv "WRITE" == "1" then report.replace(PAGE, case.name, text) end
end

local function run_case(name)
  local case = require("spec.bench.cases." .. name)
  local ok, result = xpcall(case.run, debug.traceback, bench)
  if ok then ok, result = xpcall(show, debug.traceback, case, result) end
  process.clean()
  if not ok then io.stderr:write(("case %s failed: %s\n"):format(name, result)) end
  return ok
end

local function show_facts()
  local lines = {}
  for i, fact in ipairs(machine.facts()) do lines[i] = ("| %s | %s |"):format(fact[1], fact[2]) end
  lines[#lines + 1] = ("| rounds | medians of %d, %g s each |"):format(bench.rounds, bench.seconds)
  local text = "| | |\n| --- | --- |\n" .. table.concat(lines, "\n") .. "\n"
  io.write(text)
  io.flush()
  if os.getenv "WRITE" == "1" then report.replace(PAGE, "machine", text) end
end

local function main(names)
  machine.check()
  clean_up_on_signals()
  show_facts()
  local failed = {}
  for _, name in ipairs(#names > 0 and names or CASES) do
    if not run_case(name) then failed[#failed + 1] = name end
  end
  if #failed > 0 then
    io.stderr:write("failed: ", table.concat(failed, ", "), "\n")
    os.exit(1)
  end
end

main { ... }
