--- Counts the instructions of one exchange, by callgrind: a figure that does not depend on who else uses the machine, so CI can hold it.
---
---   lua5.4 spec/bench/instructions.lua             compares with spec/bench/instructions.txt; 1 when one is more than 3 % above
---   lua5.4 spec/bench/instructions.lua --update    writes the figures of this machine's release and compiler there
---   … [KIND…]                                      only these exchanges of spec/bench/lib/instructions.lua
package.path = "./?.lua;" .. package.path
local process = require "spec.support.process"
local instructions = require "spec.bench.lib.instructions"
local uv = require "luv"

local FILE = "spec/bench/instructions.txt"
local KINDS = { "plain", "token", "headers", "response", "send", "sign", "h2_h1", "h2_h2" }
local TOLERANCE = 1.03
local SHOWN = 12   -- functions of a difference
local KEPT = 0.005 -- functions with this share of a request are kept in the file

local function environment()
  local release = process.read_file "/etc/os-release"
  local code, version = process.run { "gcc", "-dumpfullversion" }
  assert(code == 0, "gcc is not there")
  return ("%s-%s gcc-%s"):format(release:match "\nID=(%w+)" or "linux", release:match 'VERSION_ID="?([%w.]+)' or "?", version:match "%S+")
end

--- The file's lines: RELEASE COMPILER KIND INSTRUCTIONS [FUNCTION]; without a function it is the total.
local function read(env)
  local kept, others = {}, {}
  for line in process.read_file(FILE):gmatch "[^\n]+" do
    local kind, count, name = line:match("^" .. env:gsub("%p", "%%%0") .. " (%S+) (%d+) ?(.*)$")
    if kind then
      kept[kind] = kept[kind] or { functions = {} }
      if name == "" then kept[kind].total = tonumber(count) else kept[kind].functions[name] = tonumber(count) end
    else
      others[#others + 1] = line
    end
  end
  return kept, others
end

local function sorted(functions, measure)
  local names = {}
  for name in pairs(functions) do names[#names + 1] = name end
  table.sort(names, function(a, b) return measure(a) > measure(b) end)
  return names
end

local function write(env, kept, others)
  local lines = { table.unpack(others) }
  for _, kind in ipairs(KINDS) do
    local entry = kept[kind]
    if entry then
      lines[#lines + 1] = ("%s %s %d"):format(env, kind, math.floor(entry.total + 0.5))
      for _, name in ipairs(sorted(entry.functions, function(n) return entry.functions[n] end)) do
        if entry.functions[name] >= entry.total * KEPT then
          lines[#lines + 1] = ("%s %s %d %s"):format(env, kind, math.floor(entry.functions[name] + 0.5), name)
        end
      end
    end
  end
  process.write_file(FILE, table.concat(lines, "\n") .. "\n")
end

--- Where the difference is: what grew and what shrank most. A function that is not in the file was below KEPT: it counts as that.
local function show_difference(old, new)
  local below = old.total * KEPT
  local function change(name)
    local before, after = old.functions[name], new.functions[name] or 0
    return before and after - before or math.max(0, after - below)
  end
  local all = {}
  for _, functions in ipairs { old.functions, new.functions } do
    for name in pairs(functions) do all[name] = true end
  end
  local names = sorted(all, function(name) return math.abs(change(name)) end)
  for i = 1, math.min(SHOWN, #names) do
    if change(names[i]) ~= 0 then print(("  %+8.0f  %s"):format(change(names[i]), names[i])) end
  end
end

--- False when it is too far above what is kept.
local function judge(env, kind, old, new)
  if not old or not old.total then
    print(("%-9s %6.0f instructions a request; none kept for %s: add them with --update"):format(kind, new.total, env))
    return true
  end
  print(("%-9s %6.0f instructions a request; kept: %d, %+.1f %%"):format(kind, new.total, old.total, (new.total / old.total - 1) * 100))
  if new.total <= old.total * TOLERANCE then return true end
  show_difference(old, new)
  return false
end

local function main(arguments)
  local update, kinds = false, {}
  for _, a in ipairs(arguments) do
    if a == "--update" then update = true else kinds[#kinds + 1] = a end
  end
  local env = environment()
  local kept, others = read(env)
  local good = true
  for _, kind in ipairs(#kinds > 0 and kinds or KINDS) do
    local new = {}
    new.total, new.functions = instructions.per_request(kind, os.getenv "JETON_BINARY" or uv.cwd() .. "/build/jeton")
    good = judge(env, kind, kept[kind], new) and good
    if update then kept[kind] = new end
  end
  if update then write(env, kept, others) end
  return good or update
end

local ok, result = xpcall(main, debug.traceback, { ... })
process.clean()
if not ok then io.stderr:write(result, "\n") end
os.exit(ok and result and 0 or 1)
