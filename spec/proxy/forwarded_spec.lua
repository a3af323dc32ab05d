--- What an upstream is told of the client, by default and as `forwarded` and `via` say; beside the unit tests of the names (spec/unit/forwarded_test.c).
local wire = require "spec.support.wire"
local http = require "spec.support.http"
local protocols = require "spec.support.protocols"
local peers = require "spec.support.peers"

--- What a client, or a proxy before it, may say of itself.
local said = {
  ["X-Forwarded-For"] = "192.0.2.1", ["X-Forwarded-Proto"] = "https", ["X-Forwarded-Host"] = "front.example", Forwarded = "for=192.0.2.1;proto=https", ["X-Real-IP"] = "192.0.2.1",
  ["X-Forwarded-Port"] = "8443", ["X-Forwarded-Prefix"] = "/p", ["X-Forwarded-Server"] = "front", ["X-Forwarded-User"] = "root", ["True-Client-IP"] = "192.0.2.1", ["X_Real_IP"] = "192.0.2.1",
}

describe("an upstream", function()
  local upstream
  setup(function() upstream = peers.raw(wire.fine) end)
  teardown(function() upstream.process:stop() end)

  --- The fields that speak of a client in what arrives when the client says all of that; via_client: its own Via.
  local function arrives(keys, via_client)
    local p = wire.proxy(upstream, keys)
    local fields = { Host = "a.example", Via = via_client }
    for name, value in pairs(said) do fields[name] = value end
    assert.equal(200, http.get(p.port, "/", fields).status)
    p:finish()
    local heads = wire.heads(upstream.received())
    local got = {}
    for name, value in pairs(heads[#heads].fields) do
      if name:find "forwarded" or name:find "real" or name:find "client" or name == "via" then got[name] = value end
    end
    return got
  end

  it("is told nothing of the client by default, and believes nothing that the client says of itself", function() assert.same({}, arrives "") end)
  it("is told nothing with drop, and a Via of the client's passes", function() assert.same({ via = "1.1 front" }, arrives("forwarded = 'drop',", "1.1 front")) end)
  it("is told what jeton saw with set, and nothing else", function()
    assert.same({
      ["x-forwarded-for"] = "127.0.0.1", ["x-forwarded-proto"] = "http", ["x-forwarded-host"] = "a.example", forwarded = "for=127.0.0.1;host=a.example;proto=http", via = protocols.version .. " jeton",
    }, arrives "forwarded = 'set', via = true,")
  end)
  it("is told what the proxy before jeton says with append, and by whom that was asked", function()
    assert.same({
      ["x-forwarded-for"] = "192.0.2.1, 127.0.0.1", ["x-forwarded-proto"] = "https", ["x-forwarded-host"] = "front.example",
      forwarded = "for=192.0.2.1;proto=https, for=127.0.0.1;host=a.example;proto=http", ["x-real-ip"] = "192.0.2.1", ["x-forwarded-port"] = "8443", ["x-forwarded-prefix"] = "/p",
      ["x-forwarded-server"] = "front", ["x-forwarded-user"] = "root", ["true-client-ip"] = "192.0.2.1",
    }, arrives "forwarded = 'append',")
  end)
  it("gets the fields as they came with off, or false", function()
    for _, keys in ipairs { "forwarded = 'off',", "forwarded = false," } do
      local got = arrives(keys)
      for name, value in pairs(said) do assert.equal(value, got[name:lower()]) end
    end
  end)
  it("is not taken for a front end's: no redirect to the URL that was asked, and compressed replies", function()
    local nginx = peers.nginx [[
      gzip on; gzip_types text/plain; gzip_min_length 1;
      location / { default_type text/plain; if ($http_x_forwarded_proto = http) { return 301 https://api.example$request_uri; } return 200 "a long text that is worth it, a long text that is worth it\n"; }
    ]]
    local p = wire.proxy(nginx)
    local res = http.get(p.port, "/", { ["Accept-Encoding"] = "gzip" })
    assert.same({ 200, "gzip" }, { res.status, res.headers["content-encoding"] })
    p:finish()
    nginx.process:stop()
  end)
end)
