--- Servers whose TLS is allowed but unusual: what jeton makes of each, and what it says when it can make nothing of it.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local dir, proxy, servers

setup(function() dir = peers.certificates() end)
before_each(function() servers = {} end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
  for _, server in ipairs(servers) do server:stop() end
end)

local function has_1_3()
  local path = process.write_file(dir .. "/probe.lua", ([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:1", tls = { ca = %q, min_version = "1.3" } } }]]):format(dir .. "/ca.pem"))
  return (jeton.run { "check", path }) == 0
end

--- nginx with an RSA certificate and these directives; each reply is the version of TLS, and each connection serves one request.
local function start_nginx(directives)
  local nginx = peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; keepalive_timeout 0; %s
    location / { return 200 "$ssl_protocol"; }]]):format(dir, dir, directives), "ssl")
  servers[#servers + 1] = nginx.process
  return nginx
end
--- Node with an RSA certificate and these options.
local function start_node(options)
  local p = process.start { "node", "-e", ([[
    const fs = require("fs"), file = name => fs.readFileSync(%q + "/" + name);
    require("https").createServer({ cert: file("rsa.pem"), key: file("rsa.key"), %s }, (req, res) => {
      res.setHeader("connection", "close"); res.end(req.socket.getProtocol());
    }).listen(0, "127.0.0.1", function () { console.log("port " + this.address().port); });]]):format(dir, options) }
  servers[#servers + 1] = p
  return process.poll(function() return p:output():match "port (%d+)\n" end, 10, "node to listen")
end
local function start(port, keys, more)
  proxy = jeton.start { workers = 1, policy = ([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:%s", tls = { ca = %q, %s } }, %s }]]):format(
    port, dir .. "/ca.pem", keys or "", more or "") }
  return proxy
end

describe("a server of TLS 1.2 that signs by its own preference", function()
  local own = "ssl_protocols TLSv1.2; ssl_prefer_server_ciphers on; ssl_session_cache off; ssl_session_tickets off;"

  it("is reached, and dialled twice at the first time alone", function()
    start(start_nginx(own).port)
    for _ = 1, 4 do
      local res = http.get(proxy.port)
      assert.equal(200, res.status, proxy:errors())
      assert.equal("TLSv1.2", res.body)
    end
    assert.equal(has_1_3() and 5 or 4, proxy:dialed())
    assert.is_nil(proxy:errors():find("502", 1, true))
  end)

  it("is reached with a body that is sent once, whatever the method, and by sessions", function()
    start(start_nginx(own:gsub("ssl_session.*", "") .. "ssl_session_cache shared:s:1m;").port)
    for _ = 1, 3 do assert.equal(200, http.request(proxy.port, "POST", "/", nil, "not to be sent twice").status) end
  end)

  it("is reached with DHE, and by Node", function()
    assert.equal(0, (process.run { "openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out", dir .. "/dh.pem" }))
    start(start_nginx(own .. "ssl_ciphers DHE-RSA-AES128-GCM-SHA256; ssl_dhparam " .. dir .. "/dh.pem;").port)
    assert.equal(200, http.get(proxy.port).status, proxy:errors())
    proxy:finish()
    start(start_node [[maxVersion: "TLSv1.2", honorCipherOrder: true]])
    for _ = 1, 2 do assert.equal("TLSv1.2", http.get(proxy.port).body) end
  end)

  it("is reached by jeton.http", function()
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_request = function(req)
      local res, why = jeton.http.get("https://localhost:%d/", { tls = { ca = %q } })
      req:respond(200, nil, res and res.body or why)
    end }]]):format(start_nginx(own).port, dir .. "/ca.pem"))
    assert.equal("TLSv1.2", http.get(proxy.port).body)
  end)

  it("is not reached below min_version", function()
    if not has_1_3() then return end
    start(start_nginx(own).port, 'min_version = "1.3"')
    assert.equal(502, http.get(proxy.port).status)
    assert.equal(1, proxy:dialed())
    proxy:wait_log "no TLS version in common"
  end)

  it("is dialled without the cap again once it speaks 1.3 alone", function()
    if not has_1_3() then return end
    local first, second = start_nginx(own), start_nginx "ssl_protocols TLSv1.3;"
    local file = process.write_file(dir .. "/behind", first.port .. "")
    local balancer = process.start { "node", "-e", ([[
      const net = require("net"), fs = require("fs");
      net.createServer(socket => { socket.on("error", () => {});
        const to = net.connect(+fs.readFileSync(%q, "utf8"), "127.0.0.1", () => socket.pipe(to).pipe(socket));
        to.on("error", () => {});
      }).listen(0, "127.0.0.1", function () { console.log("port " + this.address().port); });]]):format(file) }
    servers[#servers + 1] = balancer
    start(process.poll(function() return balancer:output():match "port (%d+)\n" end, 10, "the balancer"))
    for _, behind in ipairs { first, second, first } do
      process.write_file(file, behind.port .. "")
      for _ = 1, 2 do assert.equal(behind == first and "TLSv1.2" or "TLSv1.3", http.get(proxy.port).body, proxy:errors()) end
    end
  end)

  it("has no other fault passed over: a bad certificate costs one dial", function()
    local nginx = peers.nginx(([[ssl_certificate %s/foreign.pem; ssl_certificate_key %s/foreign.key; %s location / { return 200 ""; }]]):format(dir, dir, own), "ssl")
    servers[#servers + 1] = nginx.process
    start(nginx.port)
    assert.equal(502, http.get(proxy.port).status)
    assert.equal(1, proxy:dialed())
  end)
end)

describe("max_version", function()
  it("is kept with upstreams, by listeners and by jeton.http", function()
    local nginx = start_nginx "ssl_protocols TLSv1.2 TLSv1.3;"
    proxy = jeton.start(([[return { listen = { { "127.0.0.1:0", tls = { certificates = { { cert = %q, key = %q } }, max_version = "1.2" } } },
      upstream = { "https://localhost:%d", tls = { ca = %q, max_version = "1.2" } },
      on_request = function(req)
        if req.path ~= "/http" then return end
        local res, why = jeton.http.get("https://localhost:%d/", { tls = { ca = %q, max_version = "1.2" } })
        req:respond(200, nil, res and res.body or why)
      end }]]):format(dir .. "/rsa.pem", dir .. "/rsa.key", nginx.port, dir .. "/ca.pem", nginx.port, dir .. "/ca.pem"))
    for _, path in ipairs { "/", "/http" } do
      local code, out, err = peers.curl("-v", "--cacert", dir .. "/ca.pem", ("https://localhost:%d%s"):format(proxy.port, path))
      assert.equal(0, code, err)
      assert.equal("TLSv1.2", out)
      assert.is_truthy(err:find("SSL connection using TLSv1.2", 1, true), err)
    end
  end)

  it("below min_version is refused, with its line", function()
    for _, case in ipairs {
      { [[listen = "127.0.0.1:0", upstream = { "https://localhost:1", tls = { ca = CA, min_version = "1.3", max_version = "1.2" } }]], "upstream.tls.max_version" },
      { [[listen = { { "127.0.0.1:0", tls = { certificates = { { cert = CERT, key = KEY } }, min_version = "1.3", max_version = "1.2" } } }, upstream = "http://127.0.0.1:1"]], "listen%[1%].tls.max_version" },
    } do
      local text = case[1]:gsub("CA", ("%q"):format(dir .. "/ca.pem")):gsub("CERT", ("%q"):format(dir .. "/rsa.pem")):gsub("KEY", ("%q"):format(dir .. "/rsa.key"))
      local code, _, err = jeton.run { "check", process.write_file(dir .. "/policy.lua", "return { " .. text .. " }") }
      assert.equal(78, code)
      assert.matches("policy.lua:1: " .. case[2] .. ': expected "1.3" beside min_version = "1.3", got "1.2"', err)
    end
    proxy = jeton.start [[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1", on_request = function(req)
      req:respond(200, nil, select(2, pcall(jeton.http.get, "https://localhost:1/", { tls = { min_version = "1.3", max_version = "1.2" } })))
    end }]]
    assert.matches('jeton.http: tls: max_version: expected "1.3" beside min_version = "1.3", got "1.2"', http.get(proxy.port).body)
  end)
end)

describe("a server that speaks no TLS", function()
  it("but HTTP is told by its answer", function()
    for answer, text in pairs {
      ["HTTP/1.1 400 Bad Request\\r\\n\\r\\n"] = "the server answered in plain HTTP: is its URL one that begins with http://?",
      ["SSH-2.0-x\\r\\n"] = "what the server sent is not TLS, but text",
    } do
      start(peers.raw(('c:write("%s") c:sleep(200) c:close()'):format(answer)).port)
      assert.equal(502, http.get(proxy.port).status)
      proxy:wait_log(text)
      proxy:finish()
      proxy = nil
    end
  end)
end)
