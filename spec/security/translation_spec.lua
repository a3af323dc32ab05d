--- HTTP/2 on one side and HTTP/1.1 on the other: requests and replies by the hundred (spec/security/h2/requests.py, replies.py), with what must come of each. What the server
--- behind the proxy read is judged by a strict reader that is neither the proxy's nor the server's (spec/support/strict.lua).
local jeton = require "spec.support.jeton"
local peers = require "spec.support.peers"
local strict = require "spec.support.strict"
local verdicts = require "spec.support.verdicts"

local names = verdicts.names("translation.py", 300)

local function bytes(hex) return (hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)) end

--- How many whole requests came, by the strict reader; its objection, if it has one.
local function read(connections)
  local whole = 0
  for hex in connections:gmatch "[^,]+" do
    local all = strict.requests(bytes(hex))
    whole = whole + #all
    if all.fault then return whole, all.fault end
  end
  return whole
end

describe("HTTP/2 to HTTP/1.1", function()
  local proxy, played
  setup(function()
    local port = peers.free_port()
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "http://127.0.0.1:%d", preserve_host = true }, log = { access = false } }]]):format(port))
    played = verdicts.play("translation.py", { proxy.port, port }, 120)
  end)
  for _, name in ipairs(names) do
    it(name, function()
      local count, connections = verdicts.check(played, name)
      local whole, fault = read(connections)
      assert(not fault, fault)
      local least, most = count:match "^(%d+)%-?(%d*)$"
      assert(whole >= tonumber(least) and whole <= (tonumber(most) or tonumber(least)), ("%d whole requests, not %s"):format(whole, count))
    end)
  end
  it("ends well", function() proxy:finish() end)
end)
