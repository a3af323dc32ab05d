--- Instructions of one request, by callgrind. Two runs, of N and of 2 N requests on one connection: start and end cost the same in both, so the
--- difference is that of N requests. All threads count, since what a request costs elsewhere is its cost as well. Kernel time is not in it.
local process = require "spec.support.process"
local http = require "spec.support.http"
local peers = require "spec.bench.lib.peers"
local callgrind = require "spec.bench.lib.callgrind"

local M = {}
local N = 2000

local REQUEST = table.concat({
  "GET /some/path?with=query HTTP/1.1", "Host: api.example.com", "User-Agent: bench/1.0", "Accept: application/json", "Accept-Language: en",
  "X-Tenant: acme", "X-Trace: 7f3a9c52d1e84b06", "", "",
}, "\r\n")

local function exchanges(port, n)
  local c = http.connect(port, 60)
  for _ = 1, n do
    c:send(REQUEST)
    local head, rest = "", nil
    repeat
      local data, err, partial = c.sock:receive "*l"
      if not data then error("the connection ended: " .. tostring(err) .. tostring(partial), 0) end
      local length = data:lower():match "^content%-length: (%d+)"
      rest = rest or tonumber(length)
      head = head .. data .. "\n"
    until data == ""
    if not head:find "^HTTP/1.1 200 " then error("expected 200, got " .. head, 0) end
    assert(c.sock:receive(rest))
  end
  c:close()
end

--- { function = instructions } of a whole run.
local function count(kind, n, origin, binary)
  local out = process.temp_dir() .. "/callgrind.out"
  local p = peers.jeton(origin, kind, { binary = binary, prefix = callgrind.prefix(out) })
  exchanges(p.port, n)
  p.jeton:finish(60)
  return callgrind.functions(out)
end

--- Instructions of one request: the total, and { function = instructions }.
function M.per_request(kind, binary)
  local origin = peers.origin()
  local one, two = count(kind, N, origin, binary), count(kind, 2 * N, origin, binary)
  origin:stop()
  local total, functions = 0, {}
  for name, instructions in pairs(two) do
    functions[name] = (instructions - (one[name] or 0)) / N
    total = total + functions[name]
  end
  return total, functions
end

return M
