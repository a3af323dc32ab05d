--- Small GET, kept alive: every proxy, with 1, 64 and 512 connections.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"

local M = { name = "small", title = "A small GET, kept alive" }

-- What jeton, with a hook and a token, is to cost at the most, as a share of the others' CPU at 64 connections.
local AIMS = { { "nginx", 0.90 }, { "nginx with Lua, token", 0.82 }, { "HAProxy with Lua, token", 0.55 }, { "Go, token behind RWMutex", 0.20 }, { "relay", 1.15 } }

local function compared(results)
  local by_name = {}
  for _, r in ipairs(results) do by_name[r.name] = r end
  local t = { title = "jeton's CPU with a hook and a token, as a share of", columns = { "", "measured", "aimed at" }, rows = {} }
  for i, aim in ipairs(AIMS) do
    t.rows[i] = { aim[1], ("%.2f"):format(by_name["jeton, hook with a token"].cpu / by_name[aim[1]].cpu), ("%.2f"):format(aim[2]) }
  end
  return t
end

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
    if connections == 64 then tables[#tables + 1] = compared(results) end
  end
  return tables
end

return M
