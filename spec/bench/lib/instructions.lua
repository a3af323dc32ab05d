--- Instructions of one request, by callgrind. Two runs, of FEW and of MANY requests on one connection: start and end cost the same in both, so the
--- difference is that of the requests. They are so many because a cycle of Lua's garbage collector takes hundreds. The worker's thread alone
--- counts: what the others do, they do by the clock. Kernel time is not in it. Two counts of the same program differ by 0.3 % at the most.
local process = require "spec.support.process"
local http = require "spec.support.http"
local peers = require "spec.bench.lib.peers"
local build = require "spec.bench.lib.build"
local callgrind = require "spec.bench.lib.callgrind"
local uv = require "luv"

local M = {}
local FEW, MANY = 1000, 7000

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

local function total_of(functions, pattern)
  local sum = 0
  for name, instructions in pairs(functions) do
    if name:find(pattern) then sum = sum + instructions end
  end
  return sum
end

--- callgrind writes a file for each thread; the worker is the one that runs exchanges.
local function worker_of(out)
  local most, worker = 0, nil
  for thread = 1, math.huge do
    local path = ("%s-%02d"):format(out, thread)
    if not uv.fs_stat(path) then break end
    local functions = callgrind.functions(path)
    local exchanging = total_of(functions, "^exchange_run")
    if exchanging > most then most, worker = exchanging, functions end
  end
  return worker or error("callgrind saw no thread that runs exchanges", 0)
end

--- { function = instructions } of a whole run.
local function count(kind, n, origin, binary)
  local out = process.temp_dir() .. "/callgrind.out"
  local p = peers.jeton(origin, kind, { binary = binary, prefix = callgrind.prefix(out), env = { LD_PRELOAD = build.c("lib", "fixed_time", { "-shared", "-fPIC" }) } })
  exchanges(p.port, n)
  p.jeton:finish(60)
  return worker_of(out)
end

--- Instructions of one request: the total, and { function = instructions }.
function M.per_request(kind, binary)
  local origin = peers.origin()
  local few, many = count(kind, FEW, origin, binary), count(kind, MANY, origin, binary)
  origin:stop()
  local total, functions = 0, {}
  for name, instructions in pairs(many) do
    functions[name] = (instructions - (few[name] or 0)) / (MANY - FEW)
    total = total + functions[name]
  end
  return total, functions
end

return M
