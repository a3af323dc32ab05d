--- Small GET, kept alive: every proxy, with 1, 64 and 512 connections.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"

local M = { name = "small", title = "A small GET, kept alive" }

local function start_all(origin)
  local started = {}
  for _, wanted in ipairs {
    { peers.relay }, { peers.nginx }, { peers.nginx_lua, true }, { peers.haproxy }, { peers.haproxy_lua, true }, { peers.go, true },
    { function(o) return peers.jeton(o, "plain") end }, { function(o) return peers.jeton(o, "token") end, true },
  } do
    local p = wanted[1](origin)
    peers.check(p, wanted[2] or false)
    started[#started + 1] = p
  end
  return started
end

function M.run(bench)
  local started, tables = start_all(peers.origin()), {}
  for _, connections in ipairs { 64, 1, 512 } do
    local contestants = {}
    for i, p in ipairs(started) do contestants[i] = { peer = p, load = { connections = connections } } end
    local results = rounds.run(bench, contestants)
    tables[#tables + 1] = report.table(("%d connection%s"):format(connections, connections > 1 and "s" or ""), report.usual, results, "nginx")
  end
  return tables
end

return M
