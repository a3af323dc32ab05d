--- The parts of the benchmark that compute: a wrong percentile would look like any other figure.
local process = require "spec.support.process"
local load = require "spec.bench.lib.load"
local rounds = require "spec.bench.lib.rounds"
local report = require "spec.bench.lib.report"
local callgrind = require "spec.bench.lib.callgrind"
local flame = require "spec.bench.lib.flame"
local machine = require "spec.bench.lib.machine"
local h2 = require "spec.bench.lib.h2"
local uv = require "luv"

describe("a histogram", function()
  local histogram = { { 10, 50 }, { 20, 49 }, { 1000, 1 } }

  it("gives the value that so many percent do not exceed", function()
    assert.equal(10, load.percentile(histogram, 50))
    assert.equal(20, load.percentile(histogram, 51))
    assert.equal(20, load.percentile(histogram, 99))
    assert.equal(1000, load.percentile(histogram, 99.9))
    assert.equal(0, load.percentile({}, 99))
  end)

  it("is merged with another by value", function()
    assert.same({ { 5, 1 }, { 10, 60 }, { 20, 49 }, { 1000, 1 } }, load.merge { histogram, { { 5, 1 }, { 10, 10 } } })
  end)
end)

describe("rounds", function()
  it("take turns and give the medians, but the sum of what failed", function()
    local order, values = {}, { a = { 3, 1, 2 }, b = { 30, 10, 20 } }
    local results = rounds.run({ rounds = 3, seconds = 1, progress = function() end }, { { name = "a" }, { name = "b" } }, function(contestant)
      order[#order + 1] = contestant.name
      return { cpu = table.remove(values[contestant.name], 1), failed = 1 }
    end, function() end)
    assert.equal("ababab", table.concat(order))
    assert.same({ { name = "a", cpu = 2, failed = 3 }, { name = "b", cpu = 20, failed = 3 } }, results)
  end)
end)

describe("a table", function()
  local columns = { { "", function(r) return r.name end }, { "of nginx", function(r, nginx) return ("%.2f"):format(r.cpu / nginx.cpu) end } }

  it("compares with the reference", function()
    local t = report.table("t", columns, { { name = "nginx", cpu = 2 }, { name = "µ", cpu = 1 } }, "nginx")
    assert.equal("### t\n\n|       | of nginx |\n| ----- | -------: |\n| nginx |     1.00 |\n| µ     |     0.50 |\n", report.markdown(t))
  end)

  it("goes between its marks and leaves the rest of the page", function()
    local page = process.write_file(process.temp_dir() .. "/page.md", "a\n<!-- bench x -->\nold\n<!-- end -->\nb\n<!-- bench y -->\n<!-- end -->\n")
    report.replace(page, "x", "new % text")
    report.replace(page, "x", "newer % text")
    assert.equal("a\n<!-- bench x -->\n\nnewer % text\n<!-- end -->\nb\n<!-- bench y -->\n<!-- end -->\n", process.read_file(page))
    assert.has_error(function() report.replace(page, "z", "lost") end)
  end)
end)

describe("what tools write", function()
  local function lines(text) return text:gmatch "([^\n]*)\n" end

  it("callgrind: instructions of each function in itself, without those of what it calls", function()
    local path = process.write_file(process.temp_dir() .. "/out", table.concat({
      "events: Ir", "ob=(1) /usr/bin/jeton", "fl=(1) a.c", "fn=(1) one.lto_priv.3", "16 400", "cob=(2) /lib/libuv.so.1", "cfn=(2) 0x0000000000022a60",
      "calls=3 50", "16 9000", "+2 20", "ob=(2)", "fn=(2)", "0 7", "fn=(3) two", "* 5", "cfn=(1)", "calls=1 16", "-4 400", "+1 1", "",
    }, "\n"))
    assert.same({ one = 420, ["in libuv.so.1"] = 7, two = 6 }, callgrind.functions(path))
  end)

  it("h2load: what was answered, and that a reply of HTTP/1.1 without a reason was", function()
    local run = load.parse_h2load(table.concat({
      "Application protocol: http/1.1", "finished in 999.50ms, 2.00 req/s, 4.30MB/s",
      "requests: 1999 total, 2063 started, 1999 done, 0 succeeded, 1990 failed, 3 errored, 1 timeout", "status codes: 0 2xx, 0 3xx, 2 4xx, 4 5xx",
      "time for request:      619us      9.66ms      1.36ms       736us    87.77%", "",
    }, "\n"))
    assert.same({ seconds = 0.9995, requests = 1999, rate = 2000, mean = 0.00136, failed = 10, protocol = "http/1.1" }, run)
  end)

  it("perf: stacks from the outermost frame in, and where the time is spent", function()
    local samples = flame.samples(lines [[
jeton 1 1.5:    2004008 cpu-clock:ppp:
	ffffffff82203249 tcp_sendmsg+0x19 ([kernel.kallsyms])
	           fde9d __GI___writev+0x4d (/usr/lib/x86_64-linux-gnu/libc.so.6)
	           1860c tell+0x15c (inlined)
	           1860c feed+0x15c (/opt/jeton)
	ffffffffffffffff [unknown] ([unknown])

jeton 1 1.6:    2004008 cpu-clock:ppp:
	           1860c llhttp__run+0x1 (/opt/jeton)

]])
    local names = {}
    for i, frame in ipairs(samples[1]) do names[i] = frame.name end
    assert.same({ "feed", "tell", "__GI___writev", "tcp_sendmsg" }, names)
    local shares = flame.shares(samples)
    assert.equal(0.5, shares.kernel)
    assert.equal(0.5, shares.llhttp)
    assert.is_truthy(flame.svg(samples, "a <title>"):find("<title>tcp_sendmsg: 50.0 %</title>", 1, true))
  end)

  it("proc: the CPU that a process and its children have used", function()
    local p = process.start { "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; sleep 60'; :" }
    process.poll(function() return p:output():find "done" end, 60, "the loops")
    local whole = machine.cpu(p.pid)
    local own = tonumber(process.read_file("/proc/" .. p.pid .. "/stat"):match "%) %S (.*)":match("^" .. ("%S+ "):rep(10) .. "(%d+)")) / 100
    assert.is_true(own > 0 and whole > own, ("%g of which %g"):format(whole, own))
    for child in process.read_file(("/proc/%d/task/%d/children"):format(p.pid, p.pid)):gmatch "%d+" do
      for sleeper in process.read_file(("/proc/%s/task/%s/children"):format(child, child)):gmatch "%d+" do uv.kill(math.tointeger(tonumber(sleeper)), "sigkill") end
    end
    p:stop()
  end)
end)

describe("frames of HTTP/2", function()
  it("are told apart in pieces that do not end with a frame", function()
    local ping = h2.frame(h2.PING, 0, 0, "12345678")
    local frames, rest = h2.frames(ping .. h2.frame(h2.HEADERS, h2.END_STREAM, 3, "") .. ping:sub(1, 12))
    assert.same({ { kind = h2.PING, flags = 0, stream = 0, payload = "12345678" }, { kind = h2.HEADERS, flags = h2.END_STREAM, stream = 3, payload = "" } }, frames)
    assert.equal(ping:sub(1, 12), rest)
    assert.equal(h2.frame(h2.PING, h2.ACK, 0, "12345678"), h2.answer(frames[1]))
  end)

  it("have fields as text once, and as numbers from then on", function()
    local block = h2.encoder()
    assert.equal("\x40\1a\1b\x40\1c\x7f\1" .. ("d"):rep(128), block { { "a", "b" }, { "c", ("d"):rep(128) } })
    assert.equal("\xbf\xbe\x40\1a\1c", block { { "a", "b" }, { "c", ("d"):rep(128) }, { "a", "c" } })
    assert.equal("\xbe\xc0", block { { "a", "c" }, { "a", "b" } })
  end)
end)
