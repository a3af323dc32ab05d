--- gRPC peers that nobody here wrote (spec/support/peers/grpc_peer.mjs, grpc_peer.py): servers, and clients that run a list of cases.
local process = require "spec.support.process"
local cjson = require "cjson"

local M = {}

M.programs = {
  js = { "node", "spec/support/peers/grpc_peer.mjs" },
  py = { "/usr/bin/python3", "spec/support/peers/grpc_peer.py" },
}

local function argv_of(which, ...)
  local argv = { table.unpack(M.programs[which]) }
  for _, a in ipairs { ... } do argv[#argv + 1] = a end
  return argv
end

--- A server of that kind, "js" or "py", on a plain port and, with a directory of certificates, one of TLS: { plain, tls, process }.
function M.server(which, certs)
  local p = process.start(certs and argv_of(which, "server", certs .. "/rsa.pem", certs .. "/rsa.key") or argv_of(which, "server"))
  local told = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 30, which .. "'s server to print its ports")
  local ports = cjson.decode(told)
  return { plain = math.tointeger(ports.plain), tls = ports.tls ~= cjson.null and math.tointeger(ports.tls) or nil, process = p }
end

--- Starts a client; `ca`: a file, or nil for prior knowledge. results(client) waits for it.
function M.client(which, port, ca, cases) return process.start(argv_of(which, "client", "localhost:" .. math.tointeger(port), ca or "-", table.unpack(cases))) end

--- What each case of a client brought, by its name; the last of several of one name.
function M.results(client, seconds)
  client:wait(seconds or 60)
  if client.code ~= 0 then error("a gRPC client failed:\n" .. client:output() .. client:errors(), 2) end
  local found = {}
  for line in client:output():gmatch "[^\n]+" do
    local result = cjson.decode(line)
    found[result.case] = result
  end
  return found
end

function M.run(which, port, ca, cases, seconds) return M.results(M.client(which, port, ca, cases), seconds) end

return M
