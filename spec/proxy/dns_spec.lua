--- Names that resolve slowly, not at all or with a failure (spec/README.md, 36), asked of a name server of the spec's own. It lives in a network and a mount
--- namespace with its own resolv.conf, which the proxy joins; where the kernel does not grant these, the specs are pending.
local dns = require "spec.support.dns"
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local socket = require "socket"

local stub
setup(function() stub = dns.start() end)
teardown(function() if stub then stub:stop() end end)

--- A proxy in the stub's namespaces; `urls` are upstreams by name, chosen by the first part of the path.
local function start(urls, more)
  local list = {}
  for name, url in pairs(urls) do list[#list + 1] = ("%s = %q"):format(name, url) end
  return stub:jeton(([[upstreams = { %s }, %s
    on_request = function(req) req.upstream = req.path:match "^/(%%w+)" end]]):format(table.concat(list, ", "), more or ""))
end
local function timed_get(p, path)
  local took, res = wire.timed(function() return http.request(p.target, "GET", path, nil, nil, 15) end)
  return res.status, took, res.body
end

describe("a name", function()
  local spec = dns.it(function() return stub end)

  spec("that resolves slowly, yet in time, is waited for, once: then it is known", function()
    local p = start { slow = "http://slow400.test:8000" }
    local status, took, body = timed_get(p, "/slow")
    assert.same({ 200, "fine" }, { status, body })
    assert.is_true(took > 0.3, took)
    local fastest = math.huge
    for _ = 1, 5 do
      status, took = timed_get(p, "/slow")
      assert.equal(200, status)
      fastest = math.min(fastest, took)
    end
    assert.is_true(fastest < 0.3, fastest) -- looked up anew, each takes 0.4
    p:finish()
  end)
  spec("that nobody answers for is a 504 when the time to connect is over; others are served meanwhile, also by name", function()
    local p = start({ never = "http://never.test:8000", live = "http://live.test:8000", late = "http://late.test:8000" }, "timeouts = { connect = '2s' },")
    assert.equal(200, (timed_get(p, "/live")))
    local c = http.connect(p.target)
    local t0 = socket.gettime()
    c:send "GET /never HTTP/1.1\r\nHost: a\r\n\r\n"
    local status, took = timed_get(p, "/late") -- a name that is looked up while the other one hangs
    assert.equal(200, status)
    assert.is_true(took < 1.5, took)
    for _ = 1, 20 do assert.equal(200, (timed_get(p, "/live"))) end
    assert.is_true(socket.gettime() - t0 < 1.5)
    assert.equal(504, c:read_response("GET").status)
    took = socket.gettime() - t0
    assert.is_true(took > 1.9 and took < 5, took)
    c:close()
    p:finish()
  end)
  spec("that many lack at the same time holds up no other: ten hang, the eleventh is served", function()
    local urls = { live = "http://live.test:8000" }
    for i = 1, 10 do urls["never" .. i] = ("http://never%d.test:8000"):format(i) end
    local p = start(urls, "timeouts = { connect = '2s' },")
    local hanging = {}
    for i = 1, 10 do
      hanging[i] = http.connect(p.target)
      hanging[i]:send(("GET /never%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i))
    end
    local status, took = timed_get(p, "/live")
    assert.equal(200, status)
    assert.is_true(took < 1.5, took)
    for _, c in ipairs(hanging) do
      assert.equal(504, c:read_response("GET").status)
      c:close()
    end
    p:finish()
  end)
  spec("whose server fails is a 502 at once, and is asked again", function()
    local p = start { fail = "http://fail.test:8000" }
    for _ = 1, 2 do
      local status, took, body = timed_get(p, "/fail")
      assert.equal(502, status, p:errors())
      assert.is_true(took < 3, took)
      assert.is_nil(body:find("fail.test", 1, true))
    end
    p:finish()
  end)
end)
