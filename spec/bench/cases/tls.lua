--- TLS beside nginx, with the same certificate (ECDSA P-256) and TLS 1.2, which both have on every Debian that is supported: full handshakes,
--- resumed ones, kept-alive requests, and bodies.
local peers = require "spec.bench.lib.peers"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"
local machine = require "spec.bench.lib.machine"
local bodies = require "spec.bench.cases.bodies"
local process = require "spec.support.process"
local uv = require "luv"

local M = { name = "tls", title = "TLS" }

local function certificate()
  local dir = process.temp_dir()
  local code, _, err = process.run {
    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost",
    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", dir .. "/key.pem", "-out", dir .. "/cert.pem",
  }
  if code ~= 0 then error("openssl: " .. err, 0) end
  return dir
end

--- What was agreed on with OpenSSL's client, as "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384".
local function agreed(peer)
  local _, out = process.run({ "openssl", "s_client", "-connect", "127.0.0.1:" .. peer.port, "-tls1_2" }, { stdin = "/dev/null" })
  return (out:match "New, (TLS[^\n]*), Cipher is" or "?") .. " " .. (out:match "Cipher is (%S+)" or "?")
end

--- One round of handshakes by openssl s_time, one after another. It prints a mark for each: "r" a resumed one, "*" a full one.
local function handshakes(kind)
  local option, mark = table.unpack(kind == "resumed" and { "-reuse", "r" } or { "-new", "%*" })
  return function(contestant, seconds)
    local peer = contestant.peer
    local cpu, begin = machine.cpu(peer.pid), uv.hrtime()
    local code, out, err = process.run(machine.pinned(machine.cores.load, {
      "openssl", "s_time", "-connect", "127.0.0.1:" .. peer.port, "-tls1_2", option, "-time", tostring(math.ceil(seconds)),
    }), { timeout = seconds + 60 })
    local used, took = machine.cpu(peer.pid) - cpu, (uv.hrtime() - begin) / 1e9
    local count = select(2, (out:match "\n([%*rt]+)\n" or ""):gsub(mark, ""))
    if code ~= 0 or count < 10 then error(("%s: %d %s handshakes; %s%s"):format(peer.name, count, kind, out, err), 0) end
    return { cpu = used / count, rate = count / took }
  end
end

local COLUMNS = {
  { "", function(r) return r.name end },
  { "CPU/handshake µs", function(r) return ("%.0f"):format(r.cpu * 1e6) end },
  { "of nginx", function(r, reference) return ("%.2f"):format(r.cpu / reference.cpu) end },
  { "a second, one client", function(r) return ("%.0f"):format(r.rate) end },
}

function M.run(bench)
  local origin, dir = peers.origin(), certificate()
  local started = {
    peers.nginx(origin, { tls = dir, protocols = "TLSv1.2" }),
    peers.jeton(origin, "token", { tls = dir }),
  }
  local contestants, lines, tables = {}, {}, {}
  for i, p in ipairs(started) do
    contestants[i] = { peer = p }
    lines[i] = ("%s: %s."):format(p.name, agreed(p))
  end
  for _, kind in ipairs { "full", "resumed" } do
    tables[#tables + 1] = report.table(kind .. " handshakes", COLUMNS, rounds.run(bench, contestants, handshakes(kind)), "nginx")
  end
  tables[1].text = "Agreed on: " .. table.concat(lines, " ")
  tables[#tables + 1] = report.table("a small GET, kept alive, 64 connections", report.usual, rounds.run(bench, contestants), "nginx")
  for _, t in ipairs(bodies.measure(bench, origin, started, { { "100 MB", 100000000, 4 } })) do tables[#tables + 1] = t end
  return tables
end

return M
