--- The order of the layers and the walls between files, read from every #include of core.
local process = require "spec.support.process"

local ORDER = { "base", "net", "token", "http", "lua", "policy", "proxy", "ops", "main" }

--- Files of one layer that include each other, directly or through others, and why they may.
local TOGETHER = {
  ["http/call http/call_ops http/h1_call http/h2_call http/h2_upstream"] =
    "what a protocol remembers stands in struct call, so that it costs no allocation, and call.c picks the protocol; the streams of a session are calls",
  ["http/h2 http/h2_session"] = "h2_internal.h is what the files of a session share with each other, on the structs of h2_session.h",
  ["lua/task lua/vm"] = "a VM and its tasks are one thing in two files: task.h is a part of vm.h, and both work on the struct of vm_internal.h",
  ["policy/hint policy/schema"] = "the schema shows a wrong value by hint.c, whose functions take the schema that is being read",
  ["proxy/conn proxy/h1_conn proxy/h2_conn proxy/listener"] =
    "struct conn embeds what HTTP/1 keeps, so that an idle one is one piece of memory, and conn.c picks the protocol; a connection that goes makes room, and listeners fill it",
  ["proxy/exchange proxy/failover proxy/forward proxy/l_exchange proxy/l_headers proxy/l_placed proxy/l_try proxy/placed proxy/relay proxy/request_body proxy/steps proxy/try proxy/tunnel"] =
    "an exchange is one thing in several files: its steps, its two bodies, where it goes and where else, what each try sends, and what scripts see of it",
}

local rank = {}
for i, layer in ipairs(ORDER) do rank[layer] = i end

local function layer_of(path) return path:match "^([%w_]+)/" or "main" end

--- "proxy/exchange" for proxy/exchange.c and proxy/exchange.h, "net/stream" for net/stream_internal.h as well: they are one concept.
local function unit_of(path) return (path:gsub("%.[ch]$", ""):gsub("_internal$", "")) end

--- Every file of core, by its path below it, with the files of core that it includes.
local function read_tree()
  local _, list = process.run { "find", "core", "-name", "*.[ch]" }
  local files = {}
  for path in list:gmatch "core/([^\n]+)" do
    local included = {}
    for name in process.read_file("core/" .. path):gmatch '#include "([^"]+)"' do included[#included + 1] = name end
    files[path] = included
  end
  return files
end

local files = read_tree()

--- The groups of units that reach each other: Tarjan's strongly connected components, those of one unit aside.
local function cycles_of(edges)
  local index, low, stacked, stack, groups, counter = {}, {}, {}, {}, {}, 0
  local function visit(unit)
    counter = counter + 1
    index[unit], low[unit], stacked[unit] = counter, counter, true
    stack[#stack + 1] = unit
    for other in pairs(edges[unit] or {}) do
      if not index[other] then
        visit(other)
        low[unit] = math.min(low[unit], low[other])
      elseif stacked[other] then
        low[unit] = math.min(low[unit], index[other])
      end
    end
    if low[unit] ~= index[unit] then return end
    local group = {}
    repeat
      local other = table.remove(stack)
      stacked[other] = nil
      group[#group + 1] = other
    until other == unit
    table.sort(group)
    if #group > 1 then groups[#groups + 1] = table.concat(group, " ") end
  end
  for unit in pairs(edges) do
    if not index[unit] then visit(unit) end
  end
  table.sort(groups)
  return groups
end

describe("the layers of core", function()
  it("include downward only", function()
    local upward, seen = {}, 0
    for path, included in pairs(files) do
      for _, name in ipairs(included) do
        seen = seen + 1
        assert(files[name], path .. " includes " .. name .. ", which is not there")
        if rank[layer_of(name)] > rank[layer_of(path)] then upward[#upward + 1] = path .. " -> " .. name end
      end
    end
    table.sort(upward)
    assert.same({}, upward)
    assert.is_true(seen > 500, "includes are found")
  end)

  it("have no cycles of files but those with a reason", function()
    local edges = {}
    for path, included in pairs(files) do
      local unit = unit_of(path)
      edges[unit] = edges[unit] or {}
      for _, name in ipairs(included) do
        if unit_of(name) ~= unit and layer_of(name) == layer_of(path) then edges[unit][unit_of(name)] = true end
      end
    end
    local known = {}
    for group in pairs(TOGETHER) do known[#known + 1] = group end
    table.sort(known)
    assert.same(known, cycles_of(edges))
  end)

  it("keep the protocol and the socket out of the exchange", function()
    local walled, found, seen = { ["http/parser.h"] = true, ["http/writer.h"] = true, ["net/stream.h"] = true }, {}, 0
    for path, included in pairs(files) do
      local name = path:match "^proxy/(.*)"
      if name and (name:find "^exchange" or name:find "^steps" or name:find "^relay%." or name:find "^request_body%.") then
        seen = seen + 1
        for _, header in ipairs(included) do
          if walled[header] then found[#found + 1] = path .. " -> " .. header end
        end
      end
    end
    assert.same({}, found)
    assert.is_true(seen >= 10, "the exchange has its files")
  end)

  it("keep the state of an exchange in few flags, and that of a connection in its own files", function()
    local body = assert(process.read_file "core/proxy/exchange.h":match "\nstruct exchange (%b{});")
    local _, flags = body:gsub("%f[%w]bool%f[%W]", "")
    assert.is_true(flags > 0 and flags <= 9, flags .. " flags")
    for path in pairs(files) do
      local text = process.read_file("core/" .. path)
      local sets = text:find "h1%.state = " or text:find "conn%->phase = "
      assert.is_true(not sets or path == "proxy/conn.c" or path:find "^proxy/h1_" ~= nil, path .. " sets a connection's state")
    end
  end)
end)
