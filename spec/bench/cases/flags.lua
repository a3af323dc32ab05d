--- What the compiler's options cost or save, one at a time. Not among the cases that run by themselves, since it builds jeton for each.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"
local instructions = require "spec.bench.lib.instructions"
local process = require "spec.support.process"
local machine = require "spec.bench.lib.machine"
local uv = require "luv"

local M = { name = "flags", title = "Link-time optimisation and hardening" }

local SHIPPED = "as shipped"
-- What is replaced by what (plain text) in the options of the Makefile's release variant, for the compiler and for the linker.
local BUILDS = {
  { name = SHIPPED },
  { name = "without -flto", compiler = { "-flto=auto", "" }, linker = { "-flto=auto", "" } },
  { name = "-O3", compiler = { "-O2", "-O3" }, linker = { "-O2", "-O3" } },
  { name = "without -D_FORTIFY_SOURCE=2", compiler = { "-D_FORTIFY_SOURCE=2", "" } },
  { name = "without -fstack-protector-strong", compiler = { "-fstack-protector-strong", "" } },
  { name = "without -fPIE, -pie", compiler = { "-fPIE", "-fno-pie" }, linker = { "-pie", "-no-pie" } },
  { name = "without -z relro, -z now", linker = { "-Wl,-z,relro,-z,now", "-Wl,-z,norelro,-z,lazy" } },
}

local function options_of(variable)
  return process.read_file("Makefile"):match("\n" .. variable .. " := ([^\n]*)") or error("the Makefile has no " .. variable, 0)
end

local function replaced(text, change)
  if not change then return text end
  local from, to = text:find(change[1], 1, true)
  if not from then error("the release options have no " .. change[1], 0) end
  return text:sub(1, from - 1) .. change[2] .. text:sub(to + 1)
end

local function build(i, b)
  local dir = "build/flags-" .. i
  local code, out, err = process.run(machine.pinned(machine.cores.all, {
    "make", "-j2", "B=" .. dir, "OPT_release=" .. replaced(options_of "OPT_release", b.compiler), "LD_release=" .. replaced(options_of "LD_release", b.linker), dir .. "/jeton",
  }), { timeout = 1200 })
  if code ~= 0 then error("make: " .. out .. err, 0) end
  return uv.cwd() .. "/" .. dir .. "/jeton"
end

local COLUMNS = {
  { "", function(r) return r.name end },
  { "instructions, no hook", function(r) return ("%.0f"):format(r.plain) end },
  { "of shipped", function(r, shipped) return ("%.3f"):format(r.plain / shipped.plain) end },
  { "instructions, hook with a token", function(r) return ("%.0f"):format(r.token) end },
  { "of shipped", function(r, shipped) return ("%.3f"):format(r.token / shipped.token) end },
  { "CPU/request µs, hook with a token", function(r) return ("%.1f"):format(r.cpu * 1e6) end },
  { "of shipped", function(r, shipped) return ("%.2f"):format(r.cpu / shipped.cpu) end },
  { "KiB", function(r) return ("%.0f"):format(r.size / 1024) end },
}

function M.run(bench)
  local origin, contestants, counts = peers.origin(), {}, {}
  for i, b in ipairs(BUILDS) do
    bench.progress("building: " .. b.name)
    local binary = build(i, b)
    counts[i] = { plain = instructions.per_request("plain", binary), token = instructions.per_request("token", binary), size = M.size(binary) }
    contestants[i] = { name = b.name, peer = peers.jeton(origin, "token", { binary = binary }) }
  end
  local results = rounds.run(bench, contestants)
  for i, r in ipairs(results) do
    for key, value in pairs(counts[i]) do r[key] = value end
  end
  return { report.table("one option at a time", COLUMNS, results, SHIPPED) }
end

--- Bytes of what is loaded: debugging information aside.
function M.size(binary)
  local _, out = process.run { "size", binary }
  return tonumber(out:match "\n%s*%d+%s+%d+%s+%d+%s+(%d+)") or 0
end

return M
