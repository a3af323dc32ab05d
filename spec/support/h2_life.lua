--- Connections of HTTP/2 frame by frame, by python3-h2 (spec/support/peers/h2_life.py): scenarios of a client, an upstream, and a relay that loses packets.
local process = require "spec.support.process"
local cjson = require "cjson"
local assert = require "luassert"

local M = {}
local PROGRAM = { "/usr/bin/python3", "spec/support/peers/h2_life.py" }

local function start_program(...)
  local argv = { table.unpack(PROGRAM) }
  for _, a in ipairs { ... } do argv[#argv + 1] = tostring(a) end
  return process.start(argv)
end

--- Plays a scenario to its end: what it saw.
function M.play(...)
  local p = start_program(...)
  p:wait(60)
  if p.code ~= 0 then error(("%s failed:\n%s"):format((...), p:errors():sub(-3000)), 2) end
  return cjson.decode(p:output())
end

--- An upstream of HTTP/2: { port, process, seen(event) } (how often it saw that).
function M.server()
  local log = process.temp_dir() .. "/seen"
  local p = start_program("server", log)
  local port = process.poll(function() return p:ended() and error(p:errors()) or tonumber(p:output():match "^(%d+)\n") end, 20, "the upstream's port")
  local function seen(event)
    local found = {}
    for line in process.read_file(log):gmatch "[^\n]+" do
      local e = cjson.decode(line)
      if e.event == event then found[#found + 1] = e end
    end
    return found
  end
  return { port = math.tointeger(port), process = p, seen = seen }
end

function M.relay(port)
  local p = start_program("relay", port)
  return { process = p, port = math.tointeger(process.poll(function() return tonumber(p:output():match "^(%d+)\n") end, 20, "the relay's port")) }
end

function M.is_fine(said, body) assert.same({ 200, body or "fine", true, cjson.null }, { said.status, said.body, said.ended, said.reset }) end

return M
