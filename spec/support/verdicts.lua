--- Cases that a runner in Python plays (spec/security/h2), each an `it` of a spec. `RUNNER list` prints their names; RUNNER with anything else plays them and prints a line for each:
--- "ok" or another verdict, the name, why, and what more the runner has to say, between tabs.
local process = require "spec.support.process"

local M = {}
local PYTHON, DIR = "/usr/bin/python3", "spec/security/h2/"

--- The names, more than `least`: asked when a spec file is read.
function M.names(runner, least)
  local names, pipe = {}, assert(io.popen(("%s %s%s list"):format(PYTHON, DIR, runner)))
  for line in pipe:lines() do names[#names + 1] = line end
  pipe:close()
  assert(#names > least, runner .. " lists no cases")
  return names
end

--- Plays them, with these arguments and within so many seconds: name -> { verdict, why, … }.
function M.play(runner, arguments, seconds)
  local argv = { PYTHON, DIR .. runner }
  for _, a in ipairs(arguments) do argv[#argv + 1] = tostring(a) end
  local code, out, err = process.run(argv, { timeout = seconds })
  assert(code == 0, err)
  local played = {}
  for verdict, name, more in out:gmatch "(%a+)\t([^\t\n]*)\t([^\n]*)" do
    local v = { verdict }
    for field in (more .. "\t"):gmatch "([^\t]*)\t" do v[#v + 1] = field end
    played[name] = v
  end
  return played
end

--- Fails with name and why, unless it went well. Returns what more was said.
function M.check(played, name)
  local v = assert(played[name], "it was not played: " .. name)
  assert(v[1] == "ok", name .. ": " .. tostring(v[2]))
  return table.unpack(v, 3)
end

return M
