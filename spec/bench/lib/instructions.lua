--- Instructions of one exchange, by callgrind. Two runs, of FEW and of MANY requests on one connection: start and end cost the same in both, so the
--- difference is that of the requests. The worker's thread alone counts, without its own timers: what those and the other threads do, they do by the clock. Kernel
--- time is not in it, and Lua's collector stands still (lib/steady.c). What is left of chance only adds: each run is made TIMES times, and the smallest counts. Two
--- counts of the same program differ by 0.3 % at the most, on a busy machine as well.
local process = require "spec.support.process"
local http = require "spec.support.http"
local peers = require "spec.bench.lib.peers"
local build = require "spec.bench.lib.build"
local h2 = require "spec.bench.lib.h2"
local callgrind = require "spec.bench.lib.callgrind"
local uv = require "luv"

local M = {}
local FEW, MANY, TIMES = 300, 1500, 2
local BY_CLOCK = { "on_gauge*", "on_tick*" } -- the worker's own timers

--- What is counted, by name: a policy of lib/policies.lua, and who speaks HTTP/2.
M.exchanges = {
  plain = { policy = "plain" }, token = { policy = "token" }, headers = { policy = "headers" }, response = { policy = "response" }, send = { policy = "send" }, sign = { policy = "sign" },
  h2_h1 = { policy = "token", h2_client = true }, h2_h2 = { policy = "token", h2_client = true, h2_origin = true },
}

local REQUEST = table.concat({
  "GET /some/path?with=query HTTP/1.1", "Host: api.example.com", "User-Agent: bench/1.0", "Accept: application/json", "Accept-Language: en",
  "X-Tenant: acme", "X-Trace: 7f3a9c52d1e84b06", "", "",
}, "\r\n")

--- The same request as fields of HTTP/2.
local FIELDS = {
  { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/some/path?with=query" }, { ":authority", "api.example.com" }, { "user-agent", "bench/1.0" },
  { "accept", "application/json" }, { "accept-language", "en" }, { "x-tenant", "acme" }, { "x-trace", "7f3a9c52d1e84b06" },
}

local function h1_exchanges(c, n)
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
end

--- One stream at a time, so that what is read and written together does not depend on who runs when.
local function h2_exchanges(c, n)
  local function receive(size)
    local data, err = c.sock:receive(size)
    return data or error("the connection ended: " .. tostring(err), 0)
  end
  local block = h2.encoder()
  c:send(h2.preface())
  for stream = 1, 2 * n - 1, 2 do
    c:send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, block(FIELDS)))
    local frame
    repeat
      local head = receive(9)
      local size = (">I3"):unpack(head)
      frame = h2.frames(head .. (size > 0 and receive(size) or ""))[1]
      local answer = h2.answer(frame)
      if answer ~= "" then c:send(answer) end
      if frame.kind == h2.RST_STREAM then error("the stream was reset", 0) end
      if frame.kind == h2.HEADERS and not frame.payload:find "^[\x20-\x3f]*\x88" then error("expected status 200 as the first field", 0) end
    until frame.stream == stream and frame.flags & h2.END_STREAM ~= 0
  end
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
local function count_once(exchange, n, origin, binary)
  local out = process.temp_dir() .. "/callgrind.out"
  local p = peers.jeton(origin, exchange.policy, { binary = binary, prefix = callgrind.prefix(out, BY_CLOCK), env = { LD_PRELOAD = build.c("lib", "steady", { "-shared", "-fPIC" }) } })
  local c = http.connect(p.port, 60)
  if exchange.h2_client then h2_exchanges(c, n) else h1_exchanges(c, n) end
  c:close()
  p.jeton:finish(60)
  return worker_of(out)
end

local function count(...)
  local least, functions = math.huge, nil
  for _ = 1, TIMES do
    local counted = count_once(...)
    local total = total_of(counted, "")
    if total < least then least, functions = total, counted end
  end
  return functions
end

--- Instructions of one exchange: the total, and { function = instructions }. name: one of M.exchanges.
function M.per_request(name, binary)
  local exchange = M.exchanges[name] or error("there is no exchange " .. name, 0)
  local origin = exchange.h2_origin and peers.h2_origin() or peers.origin()
  local few, many = count(exchange, FEW, origin, binary), count(exchange, MANY, origin, binary)
  origin:stop()
  local total, functions = 0, {}
  for fn, instructions in pairs(many) do
    functions[fn] = (instructions - (few[fn] or 0)) / (MANY - FEW)
    total = total + functions[fn]
  end
  return total, functions
end

return M
