--- The machine: which cores measure what, what a process has used, and the facts that belong beside every figure.
local process = require "spec.support.process"
local uv = require "luv"

local M = {}

local TICK = 1 / 100 -- s; USER_HZ is 100 on every Linux that Debian runs on

local function line_of(path) return process.read_file(path):match "[^\n]*" end
local function output_of(argv)
  local ok, code, out, err = pcall(process.run, argv)
  return ok and code and (out .. err) or ""
end

--- The proxy has core 0 to itself, load and origin share core 1: with more cores the figures stay comparable, with one there are none.
M.cores = { proxy = "0", load = "1", both = "0,1", all = "0-" .. #uv.cpu_info() - 1 }
function M.check()
  if #uv.cpu_info() < 2 then error("two cores are needed: one for the proxy, one for load and origin", 0) end
end
function M.pinned(core, argv) return { "taskset", "-c", core, table.unpack(argv) } end

--- Connections that a proxy may hold open on one side: it needs as many descriptors again for the other.
function M.connections_allowed()
  local descriptors = tonumber(process.read_file("/proc/self/limits"):match "Max open files%s+(%d+)") or 1024
  return (descriptors - 400) // 2
end

--- The process and all its descendants.
local function tree(pid, out)
  out = out or {}
  out[#out + 1] = pid
  for task in uv.fs_scandir_next, uv.fs_scandir(("/proc/%d/task"):format(pid)) do
    for child in process.read_file(("/proc/%d/task/%s/children"):format(pid, task)):gmatch "%d+" do tree(math.tointeger(tonumber(child)), out) end
  end
  return out
end

--- Seconds of CPU, user and system, that the process and its children have used so far.
function M.cpu(pid)
  local ticks = 0
  for _, p in ipairs(tree(pid)) do
    local fields = {}
    for field in process.read_file(("/proc/%d/stat"):format(p)):gsub("^.*%) ", ""):gmatch "%S+" do fields[#fields + 1] = field end
    ticks = ticks + (tonumber(fields[12]) or 0) + (tonumber(fields[13]) or 0) -- utime, stime: fields 14 and 15 of proc(5)
  end
  return ticks * TICK
end

--- Resident bytes of the process and its children; what they share is counted once.
function M.resident(pid)
  local sum = 0
  for _, p in ipairs(tree(pid)) do
    sum = sum + 1024 * (tonumber(process.read_file(("/proc/%d/smaps_rollup"):format(p)):match "Pss:%s+(%d+)") or 0)
  end
  return sum
end

local function memory()
  return ("%.1f GiB"):format(tonumber(process.read_file("/proc/meminfo"):match "MemTotal:%s+(%d+)") / 2 ^ 20)
end
local function release() return process.read_file("/etc/os-release"):match 'PRETTY_NAME="(.-)"' end

--- Facts as { name, value }, in order.
function M.facts()
  local cpu = uv.cpu_info()
  local function version(name, argv, pattern)
    local found = output_of(argv):match(pattern)
    return { name, found or "not installed" }
  end
  return {
    { "processor", ("%s, %d cores%s"):format(cpu[1].model, #cpu, process.read_file("/proc/cpuinfo"):find("hypervisor", 1, true) and ", a virtual machine" or "") },
    { "memory", memory() },
    { "system", ("%s, Linux %s"):format(release(), line_of "/proc/sys/kernel/osrelease") },
    { "date", os.date("!%Y-%m-%d") },
    { "commit", output_of({ "git", "rev-parse", "--short", "HEAD" }):match "%x+" or "unknown" },
    version("compiler", { "gcc", "--version" }, "[^\n]+"),
    version("nginx", { "/usr/sbin/nginx", "-v" }, "nginx/(%S+)"),
    version("HAProxy", { "/usr/sbin/haproxy", "-v" }, "version (%S+)"),
    version("nghttpx, h2load", { "nghttpx", "--version" }, "nghttp2/(%S+)"),
    version("Go", { "go", "version" }, "go version (%S+)"),
    version("wrk", { "wrk", "-v" }, "wrk (%S+)"),
  }
end

return M
