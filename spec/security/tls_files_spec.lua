--- Certificates while the process runs: renewed under load, broken, checked beforehand; sessions that go on over workers and reloads.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local dir, nginx, proxy

local function shell(text)
  local code, out, err = process.run { "sh", "-c", "cd " .. dir .. " && " .. text }
  assert(code == 0, text .. ": " .. err)
  return out
end
--- As a tool that renews certificates does it: each file by a rename, the certificate first.
local function put(name, as)
  for _, ending in ipairs { "pem", "key" } do shell(("cp %s.%s new && mv new %s.%s"):format(name, ending, as or "live", ending)) end
end
local function policy(keys, more)
  return ([[return { listen = { { "127.0.0.1:0", tls = { %s } } }, upstream = "http://127.0.0.1:%d", %s }]]):format(
    keys or ("certificates = { { cert = %q, key = %q } }"):format(dir .. "/live.pem", dir .. "/live.key"), nginx.port, more or "")
end
local function start(keys, more, workers)
  proxy = jeton.start { policy = policy(keys, more), workers = workers or 1 }
  return proxy
end
local function curl(...) return peers.curl("--cacert", dir .. "/ca.pem", ...) end
local function url() return ("https://localhost:%d/"):format(proxy.port) end
--- What openssl s_client says with these options; it sends one request.
local function s_client(options)
  return shell(("printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' | timeout 20 openssl s_client -connect 127.0.0.1:%d -servername localhost -CAfile ca.pem -ign_eof %s 2>&1 || true")
    :format(proxy.port, options))
end
local function serial(name) return shell("openssl x509 -noout -serial -in " .. name .. ".pem"):match "serial=(%x+)" end
local function served() return s_client("| openssl x509 -noout -serial"):match "serial=(%x+)" end

setup(function()
  dir = peers.certificates()
  nginx = peers.nginx [[location / { return 200 "fine\n"; }]]
end)
before_each(function() put "ecdsa" end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)
teardown(function() nginx.process:stop() end)

describe("a certificate that is renewed while the process runs", function()
  it("serves new connections without a reload; the log and status say so", function()
    start()
    assert.equal(serial "ecdsa", served())
    put "rsa"
    proxy:wait_log "the certificates were read again"
    assert.equal(serial "rsa", served())
    assert.is_true(proxy:status().tls.renewed >= 1)
    assert.equal(1, proxy:status().policy.number)
  end)

  it("under load fails no request, neither on kept connections nor on new ones", function()
    start(nil, nil, 2)
    local clients = {}
    for i = 1, 3 do
      clients[i] = process.start { "sh", "-c", ("for i in $(seq 40); do curl -sS --max-time 20 --cacert %s/ca.pem %s || echo FAILED; done"):format(dir, url()) }
    end
    local urls = {}
    for i = 1, 400 do urls[i] = url() end
    clients[4] = process.start { "curl", "-sS", "--max-time", "60", "--cacert", dir .. "/ca.pem", table.unpack(urls) }
    local n, swaps = 0, { "rsa", "ecdsa" }
    process.poll(function()
      n = n + 1
      put(swaps[n % 2 + 1])
      for _, c in ipairs(clients) do if not c:ended() then return false end end
      return true
    end, 90, "the clients to end")
    for i, c in ipairs(clients) do
      local _, answers = c:output():gsub("fine\n", "")
      assert.equal(i == 4 and 400 or 40, answers, c:output():sub(1, 200) .. c:errors())
      assert.equal("", c:errors())
    end
    put "ecdsa"
    process.poll(function() return served() == serial "ecdsa" end, 5, "the last certificate")
  end)

  it("and is broken leaves the old one; the log and status name the file, until it is mended", function()
    start()
    shell "echo nonsense > live.pem"
    proxy:wait_log "the certificates read before go on"
    assert.matches("live.pem: holds no certificate", proxy:status().tls.last_error)
    assert.matches("live.pem: holds no certificate", select(2, jeton.run { "status", "--control", proxy.control_path }))
    assert.equal(serial "ecdsa", served())
    put "rsa"
    process.poll(function() return served() == serial "rsa" end, 5, "the mended certificate")
    assert.equal("", proxy:status().tls.last_error)
  end)

  it("and is broken stays in status while another is renewed, and goes with the policy that names it", function()
    put("ecdsa", "other")
    start(("certificates = { { cert = %q, key = %q } }"):format(dir .. "/live.pem", dir .. "/live.key"),
      ("upstreams = { other = { 'https://localhost:1', tls = { ca = %q, cert = %q, key = %q } } }"):format(dir .. "/ca.pem", dir .. "/other.pem", dir .. "/other.key"))
    shell "echo nonsense > live.pem"
    proxy:wait_log "the certificates read before go on"
    local renewed = proxy:status().tls.renewed
    put("client", "other")
    process.poll(function() return proxy:status().tls.renewed > renewed end, 10, "the other one to be renewed")
    assert.matches("live.pem: holds no certificate", proxy:status().tls.last_error)
    process.write_file(proxy.policy, policy(("certificates = { { cert = %q, key = %q } }"):format(dir .. "/rsa.pem", dir .. "/rsa.key")))
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    process.poll(function() return proxy:status().tls.last_error == "" end, 10, function() return proxy:status().tls.last_error end)
  end)

  it("is found behind a link that is turned, as Kubernetes does it", function()
    shell "rm -rf v1 v2 data mounted; mkdir v1 v2 mounted; cp ecdsa.pem v1/tls.pem; cp ecdsa.key v1/tls.key; cp rsa.pem v2/tls.pem; cp rsa.key v2/tls.key"
    shell "ln -s ../v1 mounted/data && ln -s data/tls.pem mounted/tls.pem && ln -s data/tls.key mounted/tls.key"
    start(("certificates = { { cert = %q, key = %q } }"):format(dir .. "/mounted/tls.pem", dir .. "/mounted/tls.key"))
    assert.equal(serial "ecdsa", served())
    shell "ln -s ../v2 mounted/new && mv -T mounted/new mounted/data"
    process.poll(function() return served() == serial "rsa" end, 5, "the other certificate")
  end)
end)

describe("a certificate that ends soon", function()
  it("stands in status with its end, and as a sentence until it is renewed", function()
    shell "openssl req -x509 -key ecdsa.key -subj /CN=localhost -addext subjectAltName=DNS:localhost -days 12 -out live.pem 2>/dev/null"
    start()
    local tls = proxy:status().tls
    assert.equal(1, #tls.certificates)
    assert.equal(dir .. "/live.pem", tls.certificates[1].file)
    local ends = tonumber((shell("date -u +%s -d \"$(openssl x509 -in live.pem -noout -enddate | cut -d= -f2)\"")))
    assert.equal(ends, math.tointeger(tls.certificates[1].expires))
    assert.equal(1, #tls.ending)
    assert.matches("live.pem: the certificate expires in 11 days, on ", tls.ending[1])
    assert.matches("tls        .-live.pem: the certificate expires in 11 days", select(2, jeton.run { "status", "--control", proxy.control_path }))
    put "rsa"
    process.poll(function() return #proxy:status().tls.ending == 0 end, 5, "nothing that ends soon")
    assert.equal(1, #proxy:status().tls.certificates)
  end)
end)

describe("the authorities of an upstream, changed while the process runs", function()
  it("count for new requests, though a connection is kept", function()
    shell "cp ca.pem live-ca.pem"
    local tls = peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; location / { return 200 "tls"; }]]):format(dir, dir), "ssl")
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:%d", tls = { ca = %q } } }]]):format(tls.port, dir .. "/live-ca.pem"))
    assert.equal(200, http.get(proxy.port).status)
    shell "cp other-ca.pem new && mv new live-ca.pem"
    process.poll(function() return http.get(proxy.port).status == 502 end, 5, "a 502")
    proxy:wait_log "unknown certificate authority"
    shell "cp ca.pem new && mv new live-ca.pem"
    process.poll(function() return http.get(proxy.port).status == 200 end, 5, "a 200")
    tls.process:stop()
  end)

  it("count for jeton.http, too", function()
    shell "cp other-ca.pem live-ca.pem"
    local tls = peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; location / { return 200 "tls"; }]]):format(dir, dir), "ssl")
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", on_request = function(req)
      local res, why = jeton.http.get("https://localhost:%d/", { tls = { ca = %q } })
      req:respond(200, nil, res and res.body or why)
    end }]]):format(nginx.port, tls.port, dir .. "/live-ca.pem"))
    assert.matches("unknown certificate authority", http.get(proxy.port).body)
    shell "cp ca.pem new && mv new live-ca.pem"
    process.poll(function() return http.get(proxy.port).body == "tls" end, 5, "the answer")
    tls.process:stop()
  end)
end)

local function has_1_3()
  local path = process.write_file(dir .. "/probe.lua", policy(("certificates = { { cert = %q, key = %q } }, min_version = '1.3'"):format(dir .. "/rsa.pem", dir .. "/rsa.key")))
  local code, _, err = jeton.run { "check", path }
  if code ~= 0 then assert.matches("TLS 1.3 needs mbedTLS 3.6; this program was built with 2%.", err) end
  return code == 0
end

describe("a session", function()
  --- All of `n` connections with the saved session resume it, whichever worker they reach.
  local function resumes(version, n)
    for _ = 1, n do
      local out = s_client("-" .. version .. " -sess_in session")
      assert.matches("Reused, TLSv", out)
      assert.matches("HTTP/1.1 200 OK", out)
    end
  end

  for _, case in ipairs { { "tls1_2", "with a ticket" }, { "tls1_2 -no_ticket", "without tickets" } } do
    it(case[2] .. " is resumed by every worker, after a reload and after a renewal", function()
      start(nil, nil, 3)
      assert.matches("New, TLSv", s_client("-" .. case[1] .. " -sess_out session"))
      resumes(case[1], 6)
      assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
      resumes(case[1], 6)
      shell("openssl req -x509 -CA ca.pem -CAkey ca.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout again.key " ..
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 -days 40 -out again.pem 2>/dev/null")
      put "again"
      proxy:wait_log "the certificates were read again"
      resumes(case[1], 6)
    end)
  end

  it("with an upstream is kept over connections, workers and reloads", function()
    local tls = peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; ssl_session_cache shared:s:1m; keepalive_timeout 0;
      location / { return 200 "$ssl_session_reused"; }]]):format(dir, dir), "ssl")
    proxy = jeton.start { workers = 2, policy = ([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:%d", tls = { ca = %q } } }]]):format(tls.port, dir .. "/ca.pem") }
    assert.equal(".", http.get(proxy.port).body)
    for _ = 1, 6 do assert.equal("r", http.get(proxy.port).body) end
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    for _ = 1, 6 do assert.equal("r", http.get(proxy.port).body) end
    tls.process:stop()
  end)
end)

describe("the sessions of replicas", function()
  it("are kept for each of them, though they have one name", function()
    local replicas, urls = {}, {}
    for i = 1, 3 do
      replicas[i] = peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; ssl_session_cache shared:s:1m; keepalive_timeout 0;
        location / { return 200 "$ssl_session_reused"; }]]):format(dir, dir), "ssl")
      urls[i] = ("%q"):format(("https://localhost:%d"):format(replicas[i].port))
    end
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { %s, tls = { ca = %q, server_name = "localhost" } } }]]):format(table.concat(urls, ", "), dir .. "/ca.pem"))
    local seen = {}
    for i = 1, 9 do seen[i] = http.get(proxy.port).body end
    assert.equal("...rrrrrr", table.concat(seen))
    for _, replica in ipairs(replicas) do replica.process:stop() end
  end)
end)

describe("a saved session that a server cannot take", function()
  --- nginx with these versions of TLS.
  local function start_nginx(versions)
    return peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; ssl_protocols %s; keepalive_timeout 0; ssl_session_cache shared:s:1m;
      location / { return 200 "$ssl_protocol $ssl_session_reused"; }]]):format(dir, dir, versions), "ssl")
  end
  --- In front of the port that is in the file: hangs up on who offers a session of TLS 1.2 (such a hello has an id of 32 bytes; else it has none).
  local function start_balancer(file)
    local p = process.start { "node", "-e", ([[
      const net = require("net"), fs = require("fs");
      net.createServer(socket => { socket.on("error", () => {}); socket.once("data", hello => {
        const [port, strict] = fs.readFileSync(%q, "utf8").trim().split(" ");
        if (strict && hello[43] !== 0) return socket.destroy();
        const to = net.connect(+port, "127.0.0.1", () => { to.write(hello); socket.pipe(to).pipe(socket); });
        to.on("error", () => {});
      }); }).listen(0, "127.0.0.1", function () { console.log("port " + this.address().port); });]]):format(file) }
    return p, process.poll(function() return p:output():match "port (%d+)\n" end, 10, "the balancer")
  end

  it("costs a full handshake, not the request", function()
    local new, old = start_nginx("TLSv1.3"), start_nginx("TLSv1.2")
    local first, second = old.port .. "", old.port .. " strict"
    if has_1_3() then first, second = new.port .. "", old.port .. "" end -- which offers TLS 1.3 alone, then
    local file = process.write_file(dir .. "/behind", first)
    local balancer, port = start_balancer(file)
    proxy = jeton.start(('return { listen = "127.0.0.1:0", upstream = { "https://localhost:%s", tls = { ca = %q } } }'):format(port, dir .. "/ca.pem"))
    assert.matches("%.$", http.get(proxy.port).body)
    assert.matches("r$", http.get(proxy.port).body)
    for _, behind in ipairs { second, first, second } do
      process.write_file(file, behind)
      local res = http.request(proxy.port, "POST", "/", nil, "not to be sent twice", 10) -- whatever the method: nothing of it has been sent
      assert.equal(200, res.status, proxy:errors())
    end
    balancer:stop()
    new.process:stop()
    old.process:stop()
  end)
end)

describe("TLS 1.3", function()
  it("is spoken with openssl, curl and nginx where the library has it; else 1.2 is, and min_version says what is missing", function()
    local version = has_1_3() and "1.3" or "1.2"
    start()
    assert.matches("New, TLSv" .. version:gsub("%.", "%%."), s_client "")
    local code, _, err = curl("-v", "--tlsv" .. version, url())
    assert.equal(0, code, err)
    assert.is_truthy(err:find("SSL connection using TLSv" .. version, 1, true), err)
    local tls = peers.nginx(([[ssl_certificate %s/rsa.pem; ssl_certificate_key %s/rsa.key; ssl_protocols TLSv1.2 TLSv1.3; location / { return 200 "$ssl_protocol"; }]]):format(dir, dir), "ssl")
    local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = { "https://localhost:%d", tls = { ca = %q } } }]]):format(tls.port, dir .. "/ca.pem"))
    assert.equal("TLSv" .. version, http.get(p.port).body)
    p:finish()
    tls.process:stop()
  end)

  it("resumes by its tickets over workers and reloads, and is all that min_version = '1.3' takes, where the library has it", function()
    if not has_1_3() then return end
    start(("certificates = { { cert = %q, key = %q } }, min_version = '1.3'"):format(dir .. "/live.pem", dir .. "/live.key"), nil, 3)
    assert.matches("New, TLSv1.3", s_client "-sess_out session")
    for _ = 1, 4 do assert.matches("Reused, TLSv1.3", s_client "-sess_in session") end
    assert.equal(0, (jeton.run { "reload", "--control", proxy.control_path }))
    for _ = 1, 4 do assert.matches("Reused, TLSv1.3", s_client "-sess_in session") end
    assert.is_not.equal(0, (curl("--tls-max", "1.2", url())))
  end)
end)

describe("jeton check", function()
  local function check(keys)
    return jeton.run { "check", process.write_file(dir .. "/policy.lua", policy(keys)) }
  end
  local function pair(cert, key) return ("certificates = { { cert = %q, key = %q } }"):format(dir .. "/" .. cert, dir .. "/" .. key) end

  it("opens every file and refuses what cannot be used", function()
    shell "openssl pkcs12 -export -in ecdsa.pem -inkey ecdsa.key -passout pass:x -out two.p12; openssl crl2pkcs7 -nocrl -certfile ecdsa.pem -out two.p7b"
    shell "openssl crl2pkcs7 -nocrl -certfile ecdsa.pem -outform DER -out der.p7b; openssl x509 -in ecdsa.pem -trustout -out trusted.pem; cat trusted.pem ecdsa.pem > half.pem"
    shell "openssl req -new -key ecdsa.key -subj /CN=x -out request.pem; { printf '\\377\\376'; iconv -f ASCII -t UTF-16LE ecdsa.pem; } > wide.pem"
    for _, case in ipairs {
      { pair("rsa.pem", "ecdsa.key"), "listen%[1%]%.tls: .*ecdsa.key: not the key of the certificate in .*rsa.pem" },
      { pair("none.pem", "ecdsa.key"), "none.pem: no such file" },
      { pair("ecdsa.pem", "encrypted.key"), "encrypted.key: the key is encrypted; jeton needs it in the clear" },
      { pair("ecdsa.key", "ecdsa.key"), "ecdsa.key: holds no certificate in PEM" },
      { pair("ecdsa.pem", "ecdsa.key") .. (", client_ca = %q"):format(dir .. "/ca.key"), "ca.key: holds no certificate in PEM, but a key" },
      { pair("two.p12", "ecdsa.key"), "two.p12: is PKCS #12: `openssl pkcs12 %-in FILE %-nodes %-out FILE.pem`" },
      { pair("ecdsa.pem", "two.p12"), "two.p12: is PKCS #12: `openssl pkcs12 " },
      { pair("two.p7b", "ecdsa.key"), "two.p7b: is PKCS #7: `openssl pkcs7 %-print_certs %-in FILE " },
      { pair("der.p7b", "ecdsa.key"), "der.p7b: is PKCS #7: `openssl pkcs7 %-inform DER " },
      { pair("trusted.pem", "ecdsa.key"), "trusted.pem: holds a TRUSTED CERTIFICATE of OpenSSL: `openssl x509 %-in FILE " },
      { pair("half.pem", "ecdsa.key"), "half.pem: holds a TRUSTED CERTIFICATE" }, -- beside a plain one
      { pair("request.pem", "ecdsa.key"), "request.pem: holds a request for a certificate" },
      { pair("wide.pem", "ecdsa.key"), "wide.pem: is in UTF%-16" },
      { pair("ecdsa.pem", "ecdsa.key") .. (", client_ca = %q"):format(dir .. "/two.p12"), "two.p12: is PKCS #12" },
    } do
      local code, _, err = check(case[1])
      assert.equal(78, code, err)
      assert.matches("policy.lua:1: ", err)
      assert.matches(case[2], err)
    end
  end)

  it("tells of every file at once, not only of the first", function()
    local two = ("certificates = { { cert = %q, key = %q }, { cert = %q, key = %q } }"):format(
      dir .. "/rsa.pem", dir .. "/ecdsa.key", dir .. "/none.pem", dir .. "/encrypted.key")
    local code, _, err = jeton.run { "check", process.write_file(dir .. "/policy.lua", policy(two .. (", client_ca = %q"):format(dir .. "/ca.key"),
      ("upstreams = { a = { 'https://localhost:1', tls = { ca = %q, cert = %q, key = %q } } }"):format(dir .. "/gone.pem", dir .. "/client.pem", dir .. "/rsa.key"))) }
    assert.equal(78, code)
    for _, text in ipairs { "ecdsa.key: not the key of the certificate in .*rsa.pem", "none.pem: no such file", "encrypted.key: the key is encrypted",
      "ca.key: holds no certificate in PEM", "upstreams%.a%.tls: .*gone.pem: no such file", "rsa.key: not the key of the certificate in .*client.pem" } do
      assert.matches(text, err)
    end
    assert.equal(6, (select(2, err:gsub("\n", ""))), err)
  end)

  it("warns of what ends soon, is careless, or will not be believed", function()
    shell "openssl req -x509 -key ecdsa.key -subj /CN=soon -days 12 -out soon.pem 2>/dev/null; cp ecdsa.key open.key; chmod 644 open.key; cat ecdsa.pem intermediate.pem > jumbled.pem"
    for _, case in ipairs {
      { pair("soon.pem", "ecdsa.key"), "soon.pem: the certificate expires in 11 days, on %d+%-%d+%-%d+" },
      { pair("expired.pem", "expired.key"), "expired.pem: the certificate expired on 2020%-01%-02" },
      { pair("future.pem", "future.key"), "future.pem: the certificate is not valid before 2099%-01%-01" },
      { pair("ecdsa.pem", "open.key"), "open.key: a private key that everybody may read %(chmod o= mends it%)" },
      { pair("lone.pem", "lone.key"), "lone.pem: the chain ends below CN=jeton test intermediate.*is an intermediate certificate missing" },
      { pair("jumbled.pem", "ecdsa.key"), "jumbled.pem: the chain is out of order" },
    } do
      local code, out, err = check(case[1])
      assert.equal(0, code, err)
      assert.matches("good", out)
      assert.matches("warning: policy.lua:1: listen%[1%]%.tls: ", err)
      assert.matches(case[2], err)
    end
    shell "cat chained.pem ca.pem > whole.pem"
    assert.equal("", (select(3, check(pair("whole.pem", "chained.key")))))
  end)
end)

describe("the guide", function()
  --- The n-th block of that language behind a heading.
  local function block(heading, language)
    local text = process.read_file "docs/guide.md"
    local from = assert(select(2, text:find("### " .. heading .. "\n", 1, true)), heading)
    return assert(text:match("```" .. language .. "\n(.-)```", from))
  end

  it("shows a private authority and mutual TLS that work as they are written", function()
    local keep = dir
    dir = process.temp_dir()
    shell(block("A private authority", "sh"))
    local text = block("Mutual TLS", "lua"):gsub("127.0.0.1:8443", "127.0.0.1:0"):gsub("https://api.example.com", ("http://127.0.0.1:%d"):format(nginx.port))
    proxy = jeton.start { file = process.write_file(dir .. "/policy.lua", text) }
    local command = block("Mutual TLS", "sh"):gsub("127.0.0.1:8443", "127.0.0.1:" .. proxy.port):gsub("\n", "")
    assert.equal("fine\n", shell(command:gsub("^curl", "curl -sS")))
    assert.equal("403", shell((command:gsub("^curl", "curl -sS -o /dev/null -w '%%{http_code}'"):gsub("/reports/2026", "/invoices/1"))))
    assert.is_not.equal(0, (process.run { "curl", "-sS", "--cacert", dir .. "/ca.pem", ("https://127.0.0.1:%d/reports/2026"):format(proxy.port) }))
    dir = keep
  end)
end)
