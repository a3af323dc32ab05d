--- Draws where the time of a request goes: docs/flame.svg, and the shares as a table (into docs/performance.md with WRITE=1).
---
---   lua5.4 spec/bench/flame.lua [KIND] [SECONDS]    KIND: a policy of spec/bench/lib/policies.lua, "token" unless given
package.path = "./?.lua;" .. package.path
local process = require "spec.support.process"
local peers = require "spec.bench.lib.peers"
local load = require "spec.bench.lib.load"
local flame = require "spec.bench.lib.flame"
local report = require "spec.bench.lib.report"

local PICTURE, PAGE = "docs/flame.svg", "docs/performance.md"
local FREQUENCY = "497" -- Hz; not in step with anything that happens a hundred times a second

--- Samples of jeton under load. Stacks are unwound by debugging information: Debian's libraries keep no frame pointers.
local function record(kind, seconds)
  local dir = process.temp_dir()
  local p = peers.jeton(peers.origin(), kind)
  load.wrk(p.url .. "/", { seconds = 1 })
  local perf = process.start { "perf", "record", "-q", "-F", FREQUENCY, "--call-graph", "dwarf,16384", "-p", tostring(p.pid), "-o", dir .. "/data", "--", "sleep", tostring(seconds) }
  load.wrk(p.url .. "/", { seconds = seconds + 1 })
  if perf:wait(60) ~= 0 then error("perf record: " .. perf:errors(), 0) end
  local script = process.start { "perf", "script", "-i", dir .. "/data" }
  if script:wait(300) ~= 0 then error("perf script: " .. script:errors(), 0) end
  return flame.samples(io.lines(script.stdout_path)), p.name
end

local function main(kind, seconds)
  local samples, name = record(kind or "token", tonumber(seconds) or 10)
  process.write_file(PICTURE, flame.svg(samples, name .. ": one worker, 64 connections, a small GET"))
  local shares, columns, row = flame.shares(samples), { "" }, { "share of the time" }
  for i, part in ipairs(flame.parts) do
    columns[i + 1], row[i + 1] = part[1], ("%.1f %%"):format(shares[part[1]] * 100)
  end
  local text = report.markdown { title = name, columns = columns, rows = { row } }
  print(("%s: %d samples\n\n%s"):format(PICTURE, #samples, text))
  if os.getenv "WRITE" == "1" then report.replace(PAGE, "flame", text) end
end

local ok, message = xpcall(main, debug.traceback, ...)
process.clean()
if not ok then
  io.stderr:write(message, "\n")
  os.exit(1)
end
