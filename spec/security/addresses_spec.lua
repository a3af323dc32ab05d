--- Where the names of a forward proxy may lead, by a name server that gives any address: private ones, public ones, both, in A and in AAAA. "Public" are addresses
--- of the documentation's ranges that the namespace of the spec has.
local dns = require "spec.support.dns"
local http = require "spec.support.http"

local PUBLIC, OTHER, PUBLIC6 = "203.0.113.5", "203.0.113.6", "2001:db8::5"
local a = { public = "-4cb007105", other = "-4cb007106", loopback = "-47f000001", lan = "-40a000007", metadata = "-4a9fea9fe", zero = "-400000000" }
local aaaa = {
  public = "-620010db8000000000000000000000005", loopback = "-600000000000000000000000000000001", mapped = "-600000000000000000000ffff7f000001",
  ula = "-6fd000000000000000000000000000001", six_to_four = "-620027f00000100000000000000000001", any = "-600000000000000000000000000000000",
}

describe("a name that a forward proxy may reach", function()
  local stub, proxy
  setup(function()
    stub = dns.start { PUBLIC .. "/32", OTHER .. "/32", "10.0.0.7/32", PUBLIC6 .. "/128", "fd00::1/128" }
    if stub then proxy = stub:jeton [[forward = { hosts = { "http://*.a.test:8000" }, connect = { "*.a.test:8000" } }]] end
  end)
  teardown(function() if stub then stub:stop() end end)

  --- Status and body of a request, and of one through a tunnel.
  local function ask(list)
    local url = ("http://at%s.a.test:8000/"):format(list)
    local c = http.connect(proxy.target)
    c:send(("GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):format(url))
    local direct = c:read_response "GET"
    c:close()
    c = http.connect(proxy.target)
    c:send(("CONNECT at%s.a.test:8000 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"):format(list))
    local head = c:read_response "HEAD"
    local tunnel = head.status == 200 and c:read_response("GET").body or nil
    c:close()
    assert.equal(direct.status, head.status)
    return direct.status, direct.body, tunnel
  end
  local spec = dns.it(function() return stub end)

  spec("is reached at its public addresses, IPv4 and IPv6", function()
    assert.same({ 200, PUBLIC, PUBLIC }, { ask(a.public) })
    assert.same({ 200, PUBLIC6, PUBLIC6 }, { ask(aaaa.public) })
  end)
  for kind, list in pairs { A = a, AAAA = aaaa } do
    for name, address in pairs(list) do
      if name ~= "public" and name ~= "other" then
        spec(("is not reached at a private one: %s (%s)"):format(name, kind), function()
          local status, body = ask(address)
          assert.equal(403, status)
          assert.matches("^403 Forbidden: the host leads to no address that the policy forwards to\n", body)
        end)
        spec(("is reached at its public address alone, beside %s (%s)"):format(name, kind), function()
          for _ = 1, 4 do
            assert.same({ 200, PUBLIC, PUBLIC }, { ask(address .. a.public) })
            assert.same({ 200, PUBLIC, PUBLIC }, { ask(a.public .. address) })
          end
        end)
      end
    end
  end
  spec("is reached at one public address after another, and never at the private one between them", function()
    local seen = {}
    for _ = 1, 12 do
      local _, direct, tunnel = ask(a.public .. a.loopback .. a.other .. a.lan) -- a label holds 63 bytes
      seen[direct], seen[tunnel] = true, true
    end
    assert.same({ [PUBLIC] = true, [OTHER] = true }, seen)
  end)
  spec("leaves the proxy well", function() proxy:finish() end)
end)
