-- wrk's side of spec/bench/lib/load.lua. A body is made once and sent by all connections: BENCH_POST is its size in bytes.
-- luacheck: globals wrk setup response done refused
local post = tonumber(os.getenv "BENCH_POST") or 0
if post > 0 then
  wrk.method = "POST"
  wrk.body = ("x"):rep(post)
  wrk.headers["Content-Type"] = "application/octet-stream"
end

local threads = {}
function setup(thread) threads[#threads + 1] = thread end

-- Each thread has globals of its own; looking at every status costs, so only who asks for it has it.
refused = 0
if os.getenv "BENCH_REFUSED" == "1" then
  function response(status)
    if status == 401 then refused = refused + 1 end
  end
end

function done(summary, latency)
  local sum = 0
  for _, thread in ipairs(threads) do sum = sum + thread:get "refused" end
  io.write(("BENCH requests %d\nBENCH duration %d\nBENCH refused %d\n"):format(summary.requests, summary.duration, sum))
  for name, count in pairs(summary.errors) do io.write(("BENCH %s %d\n"):format(name, count)) end
  for i = 1, #latency do
    local value, count = latency(i)
    if count > 0 then io.write(("LATENCY %d %d\n"):format(value, count)) end
  end
end
