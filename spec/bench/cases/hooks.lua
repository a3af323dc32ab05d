--- What scripts cost: jeton's hooks and its access log beside each other, with nginx as the measure.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"

local M = { name = "hooks", title = "Hooks and the access log" }

function M.run(bench)
  local origin = peers.origin()
  local started = { peers.nginx(origin), peers.nginx(origin, { name = "nginx, access log", log = true }) }
  for _, kind in ipairs { "plain", "logged_plain", "token", "forwarded", "headers", "response", "logged" } do
    started[#started + 1] = peers.jeton(origin, kind)
  end
  local contestants = {}
  for i, p in ipairs(started) do contestants[i] = { peer = p } end
  return { report.table("64 connections", report.usual, rounds.run(bench, contestants), "nginx") }
end

return M
