--- The order of the layers and the walls between files, read from every #include of core.
local process = require "spec.support.process"

local ORDER = { "base", "net", "token", "http", "lua", "policy", "proxy", "ops", "main" }

local rank = {}
for i, layer in ipairs(ORDER) do rank[layer] = i end

local function layer_of(path) return path:match "^([%w_]+)/" or "main" end

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
end)
