--- Where a token or a client secret must never show: everything that the program says, at its most talkative.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

describe("secrets", function()
  it("show in no log, error reply, status or command line at level debug", function()
    local w = peers.world()
    local p = jeton.start { policy = peers.policy(w, 'wait = "100ms",', [[
      log = { level = "debug", access = true },
      on_response = function(res, req, tokens)
        jeton.log.debug("seen " .. tostring(req.headers.authorization) .. " " .. tostring(tokens.api))
        if req.path == "/raise" then error(req.headers.authorization) end
        if req.path == "/print" then print(req.headers.authorization, tokens.api) end
      end,
    ]]) }
    local said = {}
    local function keep(res) said[#said + 1] = res.raw_head .. res.body end
    keep(http.get(p.port))
    keep(http.get(p.port, "/raise"))
    keep(http.get(p.port, "/print"))
    w:order { revoke = true, mode = "500" }
    keep(http.get(p.port))
    said[#said + 1] = (p:control("GET", "/status")).body
    said[#said + 1] = (p:control("GET", "/metrics")).body
    local _, out, err = jeton.run { "status", "--control", p.control_path }
    said[#said + 1] = out .. err
    said[#said + 1] = process.read_file("/proc/" .. p.pid .. "/cmdline")
    w:order { mode = "ok" }
    process.poll(function() return http.get(p.port).status == 200 end, 10, "service to return")
    p:finish()
    said[#said + 1] = p:errors() .. p:output()
    local all = table.concat(said, "\n")
    assert.matches("secret<", all) -- the handle's description was logged
    local stats = w:stats()
    assert.is_true(#stats.tokens >= 2)
    for _, token in ipairs(stats.tokens) do
      for at = 1, #token - 12, 12 do assert.is_nil(all:find(token:sub(at, at + 11), 1, true)) end
    end
    assert.is_nil(all:find("s3cret-of-the-spec", 1, true))
    w:stop()
  end)

  it("are in no core dump and no readable /proc/PID/environ of another user: the process is not dumpable", function()
    local w = peers.world()
    local p = jeton.start(peers.policy(w))
    local limits = process.read_file("/proc/" .. p.pid .. "/limits")
    assert.matches("Max core file size%s+0", limits)
    p:finish()
    w:stop()
  end)
end)
