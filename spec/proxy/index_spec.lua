--- The index of cases in spec/README.md, and the table of what runs by HTTP/2 (spec/protocols.lua): they name tests that exist.
local process = require "spec.support.process"
local uv = require "luv"

local CASES = 64

--- The full names of the tests of a file such as "proxy/faults", wherever the functions that make them stand.
local function tests_of(file)
  local code, out, err = process.run({ "spec/support/busted", "--list", "spec/" .. file .. "_spec.lua" }, { timeout = 60 })
  assert(code == 0, err)
  local names = {}
  for name in out:gmatch "spec/[%w/_]+%.lua:%d+: ([^\n]*)" do names[#names + 1] = name end
  return names
end

describe("the table of what runs by HTTP/2", function()
  it("leaves out tests that exist, and says why", function()
    local missing = {}
    for _, spec in ipairs(require "spec.protocols".specs) do
      local names = tests_of(spec[1])
      for _, list in ipairs { "clients", "upstreams", "without" } do
        for part, reason in pairs(spec[list] or {}) do
          local found = false
          for _, name in ipairs(names) do found = found or name:find(part) ~= nil end
          if not found or type(reason) ~= "string" then missing[#missing + 1] = spec[1] .. ": " .. part end
        end
      end
    end
    assert.same({}, missing)
  end)
  it("has every spec of what passes through, or the reason why it runs by HTTP/1.1 alone", function()
    local protocols = require "spec.protocols"
    local named = {}
    for file in pairs(protocols.left_out) do named[file] = "left out" end
    for _, spec in ipairs(protocols.specs) do
      assert.is_true(named[spec[1]] ~= "left out", spec[1] .. " is left out, and runs")
      named[spec[1]] = "runs"
    end
    for _, folder in ipairs { "proxy", "security" } do
      local scan = assert(uv.fs_scandir("spec/" .. folder))
      for name in uv.fs_scandir_next, scan do
        local file = name:match "^(.*)_spec%.lua$"
        if file then
          assert.is_truthy(named[folder .. "/" .. file], folder .. "/" .. file .. " is not in spec/protocols.lua")
          named[folder .. "/" .. file] = nil
        end
      end
    end
    assert.same({}, named)
  end)
end)

local function exists(names, part)
  for _, name in ipairs(names) do
    if name:find(part, 1, true) then return true end
  end
  return false
end

describe("the index of cases", function()
  it("has a line for each, in order, and every test that it names exists", function()
    local names, missing, n = {}, {}, 0
    for number, rest in process.read_file "spec/README.md":gmatch "\n| (%d+) |([^\n]*)" do
      n = n + 1
      assert.equal(n, tonumber(number))
      local tests = 0
      for file, part in rest:match "|(.-)|$":gmatch "`(%w+/[%w_]+): (.-)`" do
        tests = tests + 1
        names[file] = names[file] or tests_of(file)
        if not exists(names[file], part) then missing[#missing + 1] = ("%d: %s: %s"):format(n, file, part) end
      end
      assert.is_true(tests > 0, "no test for case " .. n)
    end
    assert.same({}, missing)
    assert.equal(CASES, n)
  end)
end)
