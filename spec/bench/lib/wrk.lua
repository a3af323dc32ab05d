-- wrk's side of spec/bench/lib/load.lua. A body is made once and sent by all connections: BENCH_POST is its size in bytes.
-- luacheck: globals wrk done
local post = tonumber(os.getenv "BENCH_POST") or 0
if post > 0 then
  wrk.method = "POST"
  wrk.body = ("x"):rep(post)
  wrk.headers["Content-Type"] = "application/octet-stream"
end

function done(summary, latency)
  io.write(("BENCH requests %d\nBENCH duration %d\n"):format(summary.requests, summary.duration))
  for name, count in pairs(summary.errors) do io.write(("BENCH %s %d\n"):format(name, count)) end
  for i = 1, #latency do
    local value, count = latency(i)
    if count > 0 then io.write(("LATENCY %d %d\n"):format(value, count)) end
  end
end
