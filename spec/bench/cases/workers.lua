--- One worker and two. Two have both cores, which they share with load and origin where there are no more: CPU per request is what compares.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"

local M = { name = "workers", title = "One worker and two" }

function M.run(bench)
  local origin, contestants = peers.origin(), {}
  for i, p in ipairs {
    peers.nginx(origin), peers.nginx(origin, { name = "nginx, 2 workers", workers = 2 }),
    peers.jeton(origin, "token"), peers.jeton(origin, "token", { name = "jeton, hook with a token, 2 workers", workers = 2 }),
  } do
    contestants[i] = { peer = p }
  end
  return { report.table("64 connections", report.usual, rounds.run(bench, contestants), "nginx") }
end

return M
