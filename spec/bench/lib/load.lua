--- Load by wrk and h2load, and what they report: spec/bench/lib/wrk.lua prints its figures so that nothing has to be read out of its text.
local process = require "spec.support.process"
local machine = require "spec.bench.lib.machine"
local uv = require "luv"

local M = {}
local script = uv.cwd() .. "/spec/bench/lib/wrk.lua"

--- What a client of some API sends: so many fields that a head is worth parsing.
local FIELDS = { "User-Agent: bench/1.0", "Accept: application/json", "Accept-Language: en", "X-Tenant: acme", "X-Trace: 7f3a9c52d1e84b06" }

--- One of a histogram's percentiles; `histogram` is a list of { microseconds, count }, in order.
function M.percentile(histogram, p)
  local total = 0
  for _, entry in ipairs(histogram) do total = total + entry[2] end
  local rank, seen = math.ceil(total * p / 100), 0
  for _, entry in ipairs(histogram) do
    seen = seen + entry[2]
    if seen >= rank then return entry[1] end
  end
  return 0
end

--- Several runs' histograms as one.
function M.merge(histograms)
  local counts, values = {}, {}
  for _, histogram in ipairs(histograms) do
    for _, entry in ipairs(histogram) do
      if not counts[entry[1]] then values[#values + 1] = entry[1] end
      counts[entry[1]] = (counts[entry[1]] or 0) + entry[2]
    end
  end
  table.sort(values)
  for i, value in ipairs(values) do values[i] = { value, counts[value] } end
  return values
end

local function parse(text)
  local run = { histogram = {} }
  for name, value in text:gmatch "BENCH (%w+) (%d+)" do run[name] = tonumber(value) end
  for value, count in text:gmatch "LATENCY (%d+) (%d+)" do
    run.histogram[#run.histogram + 1] = { tonumber(value), tonumber(count) }
  end
  if not run.requests then error("wrk reported nothing:\n" .. text, 0) end
  run.seconds = run.duration / 1e6
  run.rate = run.requests / run.seconds
  run.failed = run.status + run.connect + run.read + run.write + run.timeout
  return run
end

--- @param url string
--- @param options { seconds: number, connections?: integer, fields?: string[], post?: integer, refused?: boolean }  post: bytes of a body; refused: count answers of 401
--- @return table run: requests, rate, failed, refused, seconds, histogram
function M.wrk(url, options)
  local argv = { "wrk", "-t1", "-c" .. (options.connections or 64), "-d" .. math.ceil(options.seconds) .. "s", "--timeout", "20s", "-s", script }
  for _, list in ipairs { FIELDS, options.fields or {} } do
    for _, field in ipairs(list) do table.move({ "-H", field }, 1, 2, #argv + 1, argv) end
  end
  argv[#argv + 1] = url
  local code, out, err = process.run(machine.pinned(machine.cores.load, argv),
    { timeout = options.seconds + 60, env = { BENCH_POST = tostring(options.post or 0), BENCH_REFUSED = options.refused and "1" or "0" } })
  if code ~= 0 then error("wrk ended with " .. code .. ":\n" .. out .. err, 0) end
  return parse(out)
end

--- h2load's text has no percentiles. It counts a reply of HTTP/1.1 without a reason as failed, and its status as none: such a one is not counted as failed here.
function M.parse_h2load(text)
  local function seconds(pattern)
    local value, unit = text:match(pattern .. "([%d.]+)(%l+)")
    return value and value * ({ us = 1e-6, ms = 1e-3, s = 1 })[unit]
  end
  local took = seconds "finished in "
  local answered, errored, timeout = text:match "requests: .-(%d+) done, .- (%d+) errored, (%d+) timeout"
  local redirected, refused, broken = text:match "status codes: .- (%d+) 3xx, (%d+) 4xx, (%d+) 5xx"
  if not took or not answered then error("h2load reported nothing:\n" .. text, 0) end
  return {
    seconds = took, requests = tonumber(answered), rate = answered / took, mean = seconds "time for request:%s+%S+%s+%S+%s+",
    failed = math.tointeger(errored + timeout + redirected + refused + broken), protocol = text:match "Application protocol: (%S+)",
  }
end

--- @param url string
--- @param options { seconds: number, protocol: "h1"|"h2", connections: integer, streams?: integer, upload?: string }  streams: at a time on each connection, with h2; upload: a file to send
--- @return table run: requests, rate, failed, seconds, mean (s), protocol
function M.h2load(url, options)
  local argv = {
    "h2load", "-t1", "-c" .. options.connections, "-m" .. (options.protocol == "h2" and options.streams or 1), "-D" .. math.ceil(options.seconds),
    table.unpack(options.protocol == "h1" and { "--h1" } or {}),
  }
  if options.upload then table.move({ "-d", options.upload }, 1, 2, #argv + 1, argv) end
  for _, field in ipairs(FIELDS) do table.move({ "-H", field }, 1, 2, #argv + 1, argv) end
  argv[#argv + 1] = url
  local code, out, err = process.run(machine.pinned(machine.cores.load, argv), { timeout = options.seconds + 60 })
  if code ~= 0 then error("h2load ended with " .. code .. ":\n" .. out .. err, 0) end
  return M.parse_h2load(out)
end

return M
