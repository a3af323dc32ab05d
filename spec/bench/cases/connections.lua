--- A new connection for every request: accepting, one exchange, closing.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"

local M = { name = "connections", title = "A new connection for each request" }

function M.run(bench)
  local origin, contestants = peers.origin(), {}
  for i, p in ipairs {
    peers.nginx(origin), peers.nginx_lua(origin), peers.haproxy(origin), peers.haproxy_lua(origin), peers.go(origin),
    peers.jeton(origin, "plain"), peers.jeton(origin, "token"),
  } do
    contestants[i] = { peer = p, load = { fields = { "Connection: close" } } }
  end
  return { report.table("64 connections at a time", report.usual, rounds.run(bench, contestants), "nginx") }
end

return M
