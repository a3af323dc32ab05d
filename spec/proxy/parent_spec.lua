--- A parent proxy between jeton and servers: squid, and scripted ones that do what squid would not.
local squids = require "spec.support.squid"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local labs = require "spec.support.lab"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

--- Names that the parents know and jeton could not resolve.
local HOSTS = { ["plain.test"] = "127.0.0.1", ["a.example.com"] = "127.0.0.1" }
local certs, nginx, tls, squid, guarded

setup(function()
  certs = peers.certificates()
  local show = [[ location / { return 200 "$request_method $request_uri|$http_host|$http_authorization|$http_proxy_authorization|$http_via|$server_protocol"; } ]]
  nginx = peers.nginx(show)
  tls = peers.nginx(("ssl_certificate %s/exact.pem; ssl_certificate_key %s/exact.key; %s"):format(certs, certs, show), "ssl http2")
  squid = squids.start { hosts = HOSTS }
  guarded = squids.start { hosts = HOSTS, user = "jeton", password = "p:w d" }
end)

local GOOD = "jeton:p%3Aw%20d"
local TOKEN = 'tokens = { api = { fetch = function() return { value = "t0ken-of-the-spec", expires_in = 60 } end, hosts = { %s } } }'
local ON_REQUEST = [[on_request = function(req, tokens)
  if req.path:find "^/token" then req.headers.authorization = "Bearer " .. tokens.api end
end]]

--- A policy with this upstream (Lua text); requests for /token carry one.
local function policy(upstream, more)
  return ("return { listen = '127.0.0.1:0', upstream = %s, %s, %s, %s }"):format(upstream, TOKEN:format(("'http://plain.test:%d', 'a.example.com'"):format(nginx.port)), ON_REQUEST, more or "")
end
local function plain(proxy, more) return ("{ 'http://plain.test:%d', proxy = %s, %s }"):format(nginx.port, proxy, more or "") end
local function secure(proxy, more) return ("{ 'https://a.example.com:%d', proxy = %s, tls = { ca = '%s/ca.pem' }, %s }"):format(tls.port, proxy, certs, more or "") end
local function quoted(s) return ("%q"):format(s) end
local function start(upstream, more, options)
  options = options or {}
  options.policy = policy(upstream, more)
  return jeton.start(options)
end
local function ask(p, path) return http.get(p.port, path) end

--- The lines that the squid has written since; each is written when its request, or tunnel, has ended.
local function lines(s, from)
  local text = s:log():sub(from + 1):gsub("0 %- error:[^\n]*\n", "")
  return text
end
--- Its log holds this line, from there on.
local function wait_line(s, from, line)
  process.poll(function() return lines(s, from):find(line, 1, true) end, 5, function() return ("%q in squid's log:\n%s"):format(line, lines(s, from)) end)
end
--- An environment with these variables alone, whatever the machine's own says: an empty one is none.
local function environment(variables)
  local env = {}
  for _, name in ipairs { "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY" } do env[name] = variables[name] or "" end
  return env
end
--- It has made so many connections, and no more; its gauges follow within a moment.
local function dialed(p, n)
  pcall(process.poll, function() return p:dialed() >= n end)
  assert.equal(n, p:dialed())
end
local function no_secrets(text)
  for _, secret in ipairs { "p:w d", "p%3Aw", "amV0b24", "t0ken-of-the-spec" } do assert.is_nil(text:find(secret, 1, true), text) end
end

describe("an upstream through squid", function()
  it("over plain http is asked in absolute form, on kept connections", function()
    local from, p = #squid:log(), start(plain(quoted(squid:url())))
    for _ = 1, 3 do assert.equal(("GET /a?b=c|plain.test:%d|||1.1 squid.test (squid/5.7)|HTTP/1.1"):format(nginx.port):gsub("squid/[%d.]+", ""), (ask(p, "/a?b=c").body:gsub("squid/[%d.]+", ""))) end
    local res = http.request(p.port, "POST", "/", nil, ("x"):rep(100000))
    assert.equal(200, res.status)
    dialed(p, 1)
    p:finish()
    wait_line(squid, from, ("200 GET http://plain.test:%d/a? -"):format(nginx.port))
    assert.is_nil(lines(squid, from):find "CONNECT")
  end)

  it("gets a token in a tunnel, and never through its parent's hands", function()
    local from, p = #squid:log(), start(plain(quoted(squid:url())))
    for _ = 1, 2 do
      assert.equal(("GET /token|plain.test:%d|Bearer t0ken-of-the-spec|||HTTP/1.1"):format(nginx.port), ask(p, "/token").body)
      assert.matches("^GET /x|", ask(p, "/x").body) -- the two kinds of connection are not mixed up
    end
    dialed(p, 2)
    p:finish()
    wait_line(squid, from, ("200 CONNECT plain.test:%d -"):format(nginx.port))
    wait_line(squid, from, ("200 GET http://plain.test:%d/x -"):format(nginx.port))
    assert.is_nil(lines(squid, from):find("/token", 1, true))
  end)

  it("gets what on_send sets in a tunnel, and the next try without it in the open", function()
    local from = #squid:log()
    local p = jeton.start((policy(plain(quoted(squid:url()))):gsub("on_request = ", "on_send = ")))
    for _ = 1, 2 do
      assert.matches("|Bearer t0ken%-of%-the%-spec|||HTTP", (ask(p, "/token").body))
      assert.matches("squid", ask(p, "/x").body)
    end
    p:finish()
    wait_line(squid, from, ("200 CONNECT plain.test:%d -"):format(nginx.port))
    assert.is_nil(lines(squid, from):find("/token", 1, true))
  end)

  it("gets secrets of query, cookie and body in a tunnel", function()
    local from = #squid:log()
    local p = jeton.start((policy(plain(quoted(squid:url()))):gsub("on_request = .*", [[on_request = function(req, tokens)
      if req.path == "/q" then req:set_query("k", "" .. tokens.api) elseif req.path == "/c" then req:set_cookie("k", "" .. tokens.api) elseif req.path == "/f" then req:set_form { k = "" .. tokens.api } end
    end }]])))
    assert.matches("^GET /q%?k=t0ken%-of%-the%-spec|", ask(p, "/q").body)
    assert.matches("^GET /c|", ask(p, "/c").body)
    assert.matches("^POST /f|", http.request(p.port, "POST", "/f", nil, "").body)
    assert.matches("^GET /x|", ask(p, "/x").body)
    p:finish()
    wait_line(squid, from, ("200 GET http://plain.test:%d/x -"):format(nginx.port))
    for _, path in ipairs { "/q", "/c", "/f" } do assert.is_nil(lines(squid, from):find(path, 1, true)) end
  end)

  it("is asked in a tunnel where Host is not its own", function()
    local from, p = #squid:log(), start(plain(quoted(squid:url()), "preserve_host = true"))
    assert.matches("^GET /||?test||||HTTP", ask(p, "/").body)
    p:finish()
    wait_line(squid, from, "200 CONNECT")
  end)

  for name, case in pairs { ["HTTP/2, which ALPN finds inside"] = { "", "HTTP/2.0" }, ["HTTP/1.1"] = { "http2 = false", "HTTP/1.1" } } do
    it("over https is verified by its own name, and speaks " .. name, function()
      local from, p = #squid:log(), start(secure(quoted(squid:url()), case[1]))
      for _ = 1, 3 do assert.equal(("GET /token|a.example.com:%d|Bearer t0ken-of-the-spec|||%s"):format(tls.port, case[2]), ask(p, "/token").body) end
      dialed(p, 1)
      p:finish()
      wait_line(squid, from, ("200 CONNECT a.example.com:%d -"):format(tls.port))
      p = start(("{ 'https://plain.test:%d', proxy = %q, tls = { ca = '%s/ca.pem' } }"):format(tls.port, squid:url(), certs))
      assert.equal(502, ask(p, "/").status)
      p:wait_log "certificate"
      p:finish()
    end)
  end

  it("with user and password, of the URL or opaque, which show nowhere", function()
    local secret = process.write_file(process.temp_dir() .. "/password", "p:w d\n")
    local table_form = ("{ url = %q, user = 'jeton', password = jeton.secret.file %q }"):format(guarded:url(), secret)
    for _, proxy in ipairs { quoted(guarded:url(GOOD)), table_form } do
      local from = #guarded:log()
      local p = start(plain(proxy))
      assert.matches("^GET /x|plain.test:%d+||", ask(p, "/x").body)
      assert.matches("|Bearer t0ken%-of%-the%-spec||", ask(p, "/token").body)
      local status = p:control("GET", "/status").body .. select(2, jeton.run { "status", "--control", p.control_path })
      assert.truthy(status:find(('"proxy":"%s"'):format(guarded:url()), 1, true), status)
      assert.truthy(status:find("through " .. guarded:url(), 1, true), status)
      p:finish()
      no_secrets(status .. p:errors() .. p:output())
      wait_line(guarded, from, ("200 CONNECT plain.test:%d jeton"):format(nginx.port))
      wait_line(guarded, from, ("200 GET http://plain.test:%d/x jeton"):format(nginx.port))
    end
  end)

  it("says what squid refuses, and why, and not with which password", function()
    local refuses = "407, it does not take the user and password that it was given (PROXY)"
    for proxy, told in pairs { [guarded:url "jeton:wr0ng"] = refuses, [guarded:url()] = "407, it wants a user and a password, and was given none (PROXY)" } do
      local p = start(plain(quoted(proxy)))
      assert.equal(502, ask(p, "/token").status)
      assert.equal(502, ask(p, "/x").status)
      p:finish()
      local _, count = p:errors():gsub(("502: proxy %s: %s"):format(guarded:url(), told):gsub("%p", "%%%0"), "")
      assert.equal(2, count, p:errors())
      assert.is_nil(p:errors():find "wr0ng")
    end
    local strict = squids.start { hosts = HOSTS, rules = "http_access deny CONNECT\nhttp_access allow all" }
    local p = start(plain(quoted(strict:url())))
    assert.equal(200, ask(p, "/x").status)
    assert.equal(502, ask(p, "/token").status)
    p:wait_log(("proxy %s: 403, it makes no tunnel to plain.test:%d (squid's own settings allow those to port 443 alone: SSL_ports)"):format(strict:url(), nginx.port))
    p:finish()
    strict:stop()
    p = start(("{ 'https://a.example.com:%d', proxy = %q }"):format(peers.free_port(), squid:url()))
    assert.equal(502, ask(p, "/").status)
    p:wait_log(": 503 Service Unavailable for a tunnel to a.example.com:")
    p:finish()
  end)

  it("speaks HTTP/2 without TLS in a tunnel, though the server is the first to speak", function()
    local server = process.start { "node", "-e", [[const s = require("http2").createServer((q, r) => r.end(q.headers[":authority"] + " " + q.headers.authorization));
      s.listen(0, "127.0.0.1", () => console.log(s.address().port))]] }
    local port = process.poll(function() return server:output():match "^(%d+)\n" or server:ended() end, 20, "the server's port")
    local tokens = TOKEN:format(("'http://plain.test:%d'"):format(port))
    for _ = 1, 2 do
      local p = jeton.start(("return { listen = '127.0.0.1:0', upstream = { 'http://plain.test:%d', proxy = %q, http2 = true }, %s, %s }"):format(port, squid:url(), tokens, ON_REQUEST))
      for _ = 1, 3 do assert.equal(("plain.test:%d Bearer t0ken-of-the-spec"):format(port), ask(p, "/token").body) end
      dialed(p, 1)
      p:finish()
    end
    server:stop()
  end)

  it("serves by another of its URLs when one is down behind squid", function()
    local p = start(("{ 'http://a.example.com:%d', 'http://plain.test:%d', proxy = %q }"):format(peers.free_port(), nginx.port, squid:url()))
    for _ = 1, 4 do assert.matches("t0ken", ask(p, "/token").body) end
    for _ = 1, 4 do assert.equal(200, ask(p, "/x").status) end
    p:finish()
  end)

  it("carries WebSockets, in a tunnel", function()
    local server = process.start { "node", "spec/support/peers/ws-server.mjs" }
    local port = process.poll(function() return server:output():match "^(%d+)\n" or server:ended() end, 20, "the server's port")
    local from, p = #squid:log(), start(("{ 'http://plain.test:%d', proxy = %q }"):format(port, squid:url()))
    local client = process.start { "node", "spec/support/peers/ws-client.mjs", "echo", ("ws://127.0.0.1:%d/"):format(p.port), "50" }
    assert.equal(0, client:wait(30), client:errors())
    p:finish()
    server:stop()
    wait_line(squid, from, "200 CONNECT plain.test:" .. port)
  end)
end)

describe("forwarding through squid", function()
  it("asks it for listed hosts alone, whatever they lead to", function()
    local from = #squid:log()
    local p = jeton.start(([[return { listen = "127.0.0.1:0", forward = { hosts = { "plain.test:%d", "https://a.example.com:%d" }, proxy = %q, tls = { ca = "%s/ca.pem" } },
      tokens = { api = { fetch = function() return { value = "t0ken-of-the-spec", expires_in = 60 } end, hosts = { "a.example.com" } } },
      on_request = function(req, tokens) if req.scheme == "https" then req.headers.authorization = "Bearer " .. tokens.api end end }]]):format(nginx.port, tls.port, squid:url(), certs))
    local function get(target)
      local c = http.connect(p.port)
      c:send(("GET %s HTTP/1.1\r\nHost: other.example\r\nProxy-Authorization: Basic mine\r\nConnection: close\r\n\r\n"):format(target))
      local res = assert(c:read_response "GET")
      c:close()
      return res
    end
    assert.matches(("^GET /x|plain.test:%d||||?1.1 squid"):format(nginx.port), get(("http://plain.test:%d/x"):format(nginx.port)).body)
    assert.equal(("GET /y|a.example.com:%d|Bearer t0ken-of-the-spec|||HTTP/2.0"):format(tls.port), get(("https://a.example.com:%d/y"):format(tls.port)).body)
    assert.equal(403, get(("http://a.example.com:%d/"):format(nginx.port)).status)
    p:finish()
    wait_line(squid, from, ("200 GET http://plain.test:%d/x -"):format(nginx.port))
    wait_line(squid, from, ("200 CONNECT a.example.com:%d -"):format(tls.port))
    assert.is_nil(lines(squid, from):find("a.example.com:" .. nginx.port, 1, true))
  end)

  it("makes tunnels, also to servers that speak first", function()
    local greeter = peers.raw [[ c:write("220 hello\r\n") while true do local line = c:read "line" if not line then break end c:write("250 " .. line) end c:close() ]]
    local p = jeton.start(([[return { listen = "127.0.0.1:0", forward = { connect = { "plain.test:%d", "nowhere.test:%d" }, proxy = %q } }]]):format(greeter.port, greeter.port, guarded:url(GOOD)))
    for _ = 1, 5 do
      local c = http.connect(p.port)
      c:send(("CONNECT plain.test:%d HTTP/1.1\r\nHost: x\r\n\r\nHELO spec\r\n"):format(greeter.port))
      local all = ""
      while not all:find("250 HELO spec\r\n", 1, true) do all = all .. assert(c.sock:receive(1)) end
      assert.equal("HTTP/1.1 200 Connection established\r\n\r\n220 hello\r\n250 HELO spec\r\n", all)
      c:close()
    end
    local c = http.connect(p.port)
    c:send(("CONNECT nowhere.test:%d HTTP/1.1\r\nHost: x\r\n\r\n"):format(greeter.port))
    assert.equal(502, c:read_response("CONNECT").status)
    p:wait_log(("CONNECT nowhere.test:%d: proxy %s: 50"):format(greeter.port, guarded:url()))
    p:finish()
    no_secrets(p:errors())
  end)
end)

describe("a parent that", function()
  local function parent(script) return peers.raw(script) end
  local function outcome(script, path, more)
    local peer = parent(script)
    local p = start(("{ 'http://plain.test:%d', proxy = 'http://127.0.0.1:%d', timeouts = { connect = '500ms' }, %s }"):format(nginx.port, peer.port, more or ""))
    local res = ask(p, path or "/token")
    p:finish()
    no_secrets(p:errors())
    return res, p:errors(), peer
  end

  local REFUSES = {
    ["answers with garbage"] = { [[c:read "head" c:write "SSH-2.0-x\r\n\r\n"]], 502, "proxy http://127.0.0.1:%d+: " },
    ["answers by HTTP/1.0 with chunks"] = { [[c:read "head" c:write "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]], 502, "Transfer%-Encoding on HTTP/1.0" },
    ["has a body behind its 200"] = { [[c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]], 502, "bytes behind its answer to CONNECT" },
    ["has chunks behind its 200"] = { [[c:read "head" c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]], 502, "bytes behind its answer to CONNECT" },
    ["closes without an answer"] = { [[c:read "head" c:close()]], 502, "it closed without an answer to CONNECT" },
    ["closes within its answer"] = { [[c:read "head" c:write "HTTP/1.1 200 O" c:close()]], 502, "it closed within its answer to CONNECT" },
    ["resets"] = { [[c:read "head" c:reset()]], 502, "proxy http://127.0.0.1:%d+: connection reset" },
    ["never answers"] = { [[c:read "head"]], 504, "no connection through the parent proxy in time" },
    ["answers drop by drop"] = { [[c:read "head" for i = 1, 100 do c:write "HTTP/1.1 200 OK\r\nX: y\r\n" c:sleep(20) end]], 50, "" },
    ["has a head without end"] = { [[c:read "head" c:write("HTTP/1.1 200 OK\r\nX: " .. ("y"):rep(100000))]], 502, "proxy http://127.0.0.1:%d+: the head is longer" },
    ["says 407 to a tunnel"] = { [[c:read "head" c:write "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"]], 502, "407, it wants a user and a password, and was given none" },
    ["says 502 with a body"] = { [[c:read "head" c:write "HTTP/1.1 502 Oops\r\nContent-Length: 5\r\n\r\nhello"]], 502, "502 Bad Gateway for a tunnel to plain.test:%d+" },
    ["says 101"] = { [[c:read "head" c:write "HTTP/1.1 101 Switching\r\n\r\n"]], 502, "101 Switching Protocols for a tunnel" },
    ["says 100 without end"] = { [[c:read "head" for i = 1, 20 do c:write "HTTP/1.1 100 Continue\r\n\r\n" end]], 502, "interim answers without end" },
  }
  local SERVES = [[ while true do local head = c:read "head" if not head then break end c:write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine") end ]]
  local MAKES = {
    ["HTTP/1.0 200 Connection established"] = "HTTP/1.0 200 Connection established\\r\\n\\r\\n", ["a length that does not count"] = "HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\n",
    ["chunks that do not count"] = "HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n", ["a 103 before it"] = "HTTP/1.1 103 Early Hints\\r\\nLink: x\\r\\n\\r\\nHTTP/1.1 204 No Content\\r\\n\\r\\n",
  }

  --- One jeton with an upstream for each of these parents.
  local served, by_name, upstreams = nil, {}, {}
  local function add(name, script)
    by_name[name] = { peer = parent(script), key = "u" .. #upstreams }
    upstreams[#upstreams + 1] = ("u%d = { 'http://plain.test:%d', proxy = 'http://127.0.0.1:%d', timeouts = { connect = '700ms' } }"):format(#upstreams, nginx.port, by_name[name].peer.port)
  end
  setup(function()
    for name, case in pairs(REFUSES) do add(name, case[1]) end
    for name, answer in pairs(MAKES) do add(name, ('c:read "head" c:write "%s" %s'):format(answer, SERVES)) end
    served = jeton.start(([[return { listen = "127.0.0.1:0", upstreams = { %s }, %s, on_request = function(req, tokens)
      req.upstream = req.query
      req.headers.authorization = "Bearer " .. tokens.api
    end }]]):format(table.concat(upstreams, ", "), TOKEN:format(("'http://plain.test:%d'"):format(nginx.port))))
  end)
  teardown(function()
    served:finish()
    no_secrets(served:errors())
  end)

  for name, case in pairs(REFUSES) do
    it(name .. " costs the request, and is told in the log", function()
      local before = #served:errors()
      local res = ask(served, "/token?" .. by_name[name].key)
      assert.is_true(res.status == case[2] or case[2] == 50 and res.status >= 502, res.status)
      process.poll(function() return served:errors():sub(before + 1):find(case[3]) end, 5, function() return case[3] .. " in " .. served:errors():sub(before + 1) end)
      assert.is_nil(by_name[name].peer.received():find("t0ken", 1, true))
    end)
  end

  for name in pairs(MAKES) do
    it("answers with " .. name .. " makes a tunnel", function()
      assert.equal("fine", ask(served, "/token?" .. by_name[name].key).body)
      local head = ("CONNECT plain.test:%d HTTP/1.1\r\nHost: plain.test:%d\r\n\r\nGET /token?"):format(nginx.port, nginx.port)
      assert.equal(head, by_name[name].peer.received():sub(1, #head))
    end)
  end

  it("brings a server's first words of HTTP/2 behind its 200 is heard", function()
    local res, log = outcome([[c:read "head" c:write "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n"]], "/x", "http2 = true")
    assert.equal(502, res.status)
    assert.matches("the upstream answers by HTTP/1.1, and http2 = true allows HTTP/2 alone", log)
    local peer
    res, log, peer = outcome([[c:read "head" c:write "HTTP/1.1 200 OK\r\n\r\n\0\0\0\4\0\0\0\0\0" c:read(60) c:write "\0\0\8\7\0\0\0\0\0\0\0\0\0\0\0\0\2" c:close()]], "/x", "http2 = true")
    assert.equal(502, res.status)
    assert.is_nil(log:find "bytes behind")
    assert.truthy(peer.received():find("PRI * HTTP/2.0", 1, true))
  end)

  it("is down, has no such name, or hangs is a failure of its own", function()
    local hanging, done = peers.hanging_port()
    for proxy, told in pairs {
      ["http://127.0.0.1:" .. peers.free_port()] = { 502, "proxy http://127.0.0.1:%d+: connection refused" },
      ["http://nowhere.invalid:3128"] = { 502, "proxy http://nowhere.invalid:3128: no such host name" },
      ["http://127.0.0.1:" .. hanging] = { 504, "no connection to the parent proxy in time" },
    } do
      local p = start(plain(quoted(proxy), "timeouts = { connect = '1s' }"))
      assert.equal(told[1], ask(p, "/x").status)
      p:finish()
      assert.matches(told[2], p:errors())
    end
    done()
  end)

  it("answers a plain request itself is heard like the upstream, but for a 407", function()
    local res, log = outcome([[c:read "head" c:write "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nmine"]], "/x")
    assert.same({ 503, "mine", false }, { res.status, res.body, log:find "proxy" or false })
    res, log = outcome([[c:read "head" c:write "HTTP/1.1 407 No\r\nContent-Length: 4\r\n\r\nmine"]], "/x")
    assert.equal(502, res.status)
    assert.matches("proxy http://127.0.0.1:%d+: 407, it wants a user", log)
  end)

  it("was given another password file is told the new one", function()
    local path = process.write_file(process.temp_dir() .. "/password", "first")
    local peer = parent [[ c:read "head" c:write "HTTP/1.1 200 OK\r\n\r\n" c:read "head" c:write "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine" c:close() ]]
    local p = start(("{ 'http://plain.test:%d', proxy = { url = 'http://127.0.0.1:%d', user = 'u', password = jeton.secret.file %q } }"):format(nginx.port, peer.port, path))
    assert.equal("fine", ask(p, "/token").body)
    assert.truthy(peer.received():find("Proxy-Authorization: Basic " .. require "mime".b64 "u:first", 1, true))
    process.write_file(path, "second")
    local second = "Proxy-Authorization: Basic " .. require "mime".b64 "u:second"
    process.poll(function() return ask(p, "/token").body == "fine" and peer.received():find(second, 1, true) end, 10, "the new password")
    p:finish()
  end)
end)

describe("a reload", function()
  it("that changes the proxy has new connections, and leaves those under way", function()
    local slow = peers.raw [[ while c:read "head" do c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow" end ]]
    local function with(proxy) return (policy(("{ 'http://plain.test:%d', proxy = %s }"):format(slow.port, proxy)):gsub("plain.test:" .. nginx.port, "plain.test:" .. slow.port)) end
    local p = jeton.start(with(quoted(squid:url())))
    local from = #guarded:log()
    assert.equal("slow", ask(p, "/token").body)
    for _, proxy in ipairs { quoted(guarded:url(GOOD)), quoted(squid:url()), quoted(guarded:url "jeton:wrong") } do
      p:reload_file(with(proxy))
      assert.equal(200, p:control("POST", "/reload").status)
      assert.equal(proxy:find "wrong" and 502 or 200, ask(p, "/token").status)
    end
    dialed(p, 3) -- the first one's connection served again, and the wrong password's nobody
    p:finish()
    wait_line(guarded, from, ("200 CONNECT plain.test:%d jeton"):format(slow.port))
  end)
end)

describe("jeton.http", function()
  local lab
  setup(function()
    lab = labs.start("", { env = environment { HTTPS_PROXY = squid:url(), http_proxy = guarded:url(GOOD):gsub("^http://", ""), NO_PROXY = "direct.test, *.inside.test:80" } })
  end)
  teardown(function()
    lab:finish()
    no_secrets(lab:errors())
  end)
  local function get(url, options) return lab:run(("local res, message, code = jeton.http.get(%q, %s) if not res then return nil, message, code end return res.body"):format(url, options)) end

  it("goes through a proxy, in a tunnel with whatever is secret", function()
    local from = #guarded:log()
    local proxy = ("proxy = { url = %q, user = 'jeton', password = jeton.secret.value 'p:w d' }"):format(guarded:url())
    local url = ("http://plain.test:%d/"):format(nginx.port)
    assert.matches("^GET /x|plain.test:%d+|||1.1 squid", get(url .. "x", ("{ %s }"):format(proxy)))
    assert.equal(("GET /y|plain.test:%d|Bearer h||HTTP/1.1"):format(nginx.port):gsub("h||", "h|||"), get(url .. "y", ("{ %s, headers = { authorization = 'Bearer ' .. jeton.secret.value 'h' } }"):format(proxy)))
    assert.matches("^GET /z|a.example.com:%d+|||HTTP/2.0", get(("https://a.example.com:%d/z"):format(tls.port), ("{ %s, tls = { ca = '%s/ca.pem' } }"):format(proxy, certs)):gsub("||||", "|||"))
    assert.matches("^GET /q%?k=s|", get(url .. "q", ("{ %s, query = { k = jeton.secret.value 's' } }"):format(proxy)))
    assert.matches("^POST /f|", lab:run(("return assert(jeton.http.post(%q, { %s, form = { k = jeton.secret.value 's' } })).body"):format(url .. "f", proxy)))
    wait_line(guarded, from, ("200 GET http://plain.test:%d/x jeton"):format(nginx.port))
    local all = lines(guarded, from)
    for _, path in ipairs { "/y", "/q", "/f" } do assert.is_nil(all:find(path, 1, true), all) end
  end)

  it("takes the environment's, and none for what NO_PROXY names", function()
    local from = #guarded:log()
    assert.matches("1.1 squid", get(("http://plain.test:%d/env"):format(nginx.port), "{ proxy = 'environment' }"))
    wait_line(guarded, from, ("200 GET http://plain.test:%d/env jeton"):format(nginx.port))
    assert.matches("HTTP/2.0", get(("https://a.example.com:%d/env"):format(tls.port), ("{ proxy = 'environment', tls = { ca = '%s/ca.pem' } }"):format(certs)))
    assert.matches("|||HTTP/1.1$", (get(("http://127.0.0.1:%d/"):format(nginx.port), "{ proxy = 'environment' }")))
    for _, host in ipairs { "direct.test", "x.inside.test" } do
      assert.same({ nil, "EAI_NONAME" }, { lab:run(("local r, _, code = jeton.http.get('http://%s/', { proxy = 'environment' }) return r, code"):format(host)) })
    end
  end)

  it("says what is wrong with the proxy", function()
    local url = ("http://plain.test:%d/"):format(nginx.port)
    assert.same({ nil, ("GET http://plain.test:%d: proxy %s: 407, it does not take the user and password that it was given"):format(nginx.port, guarded:url()), "PROXY" }, { get(url, ("{ proxy = %q }"):format(guarded:url "jeton:no")) })
    assert.same({ nil, ("GET https://a.example.com:%d: proxy %s: 407, it wants a user and a password, and was given none"):format(tls.port, guarded:url()), "PROXY" }, { get(("https://a.example.com:%d/"):format(tls.port), ("{ proxy = %q }"):format(guarded:url())) })
    assert.same({ nil, "ECONNREFUSED" }, { lab:run(("local r, _, code = jeton.http.get(%q, { proxy = 'http://127.0.0.1:%d' }) return r, code"):format(url, peers.free_port())) })
  end)

  for option, told in pairs {
    ["'proxy:3128'"] = "jeton.http: proxy: expected http://HOST:PORT, with USER:PASSWORD@ before the host", ["'http://proxy'"] = "proxy: the proxy's port is missing: http://HOST:PORT",
    ["'https://proxy:3128'"] = "proxy: a parent proxy is reached by http://", ["'socks5://u:s3cret@proxy:1080'"] = "proxy: SOCKS is not spoken here", ["'http://proxy:3128/x'"] = "proxy: the URL of a proxy has no path",
    ["'http://u%4:s3cret@proxy:3128'"] = 'proxy: user or password have a "%" without two', ["true"] = 'proxy: expected "http://HOST:PORT", "environment", false, or a table', ["{ urk = 1 }"] = "jeton.http: proxy: unknown option 'urk' (did you mean 'url'?)",
    ["{ url = 'http://a:1', password = 's3cret' }"] = "proxy: a password without a user", ["{ url = 'http://a:1', user = 'a:b' }"] = "proxy: a user with a colon", ["{ url = 'http://u@a:1', user = 'u' }"] = "proxy: user and password stand in the URL already",
    ["{ url = 'http://a:1', user = 'u', password = 5 }"] = "proxy: password: expected a string or a secret, got number", ["{}"] = "proxy: url: expected a string, got nil",
  } do
    it("raises for proxy = " .. option, function()
      local message = lab:raises(("jeton.http.get('http://a/', { proxy = %s })"):format(option))
      assert.truthy(message:find(told, 1, true), message)
      assert.is_nil(message:find("s3cret", 1, true), message)
    end)
  end
  it("raises for a Unix socket", function()
    assert.matches("a Unix socket is not reached through one", lab:raises "jeton.http.get('unix:/run/x.sock', { proxy = 'http://a:1' })")
  end)
end)

describe("jeton.oauth2", function()
  it("fetches through a proxy", function()
    local world, from = peers.world(), #guarded:log()
    local p = jeton.start(peers.policy(world, ("proxy = %q"):format(guarded:url(GOOD))))
    assert.equal(200, http.get(p.port).status)
    p:finish()
    world:stop()
    wait_line(guarded, from, ("200 CONNECT 127.0.0.1:%d jeton"):format(world.issuer))
    no_secrets(p:errors())
  end)
  it("refuses one that is none when the policy is loaded", function()
    local path = process.write_file(process.temp_dir() .. "/policy.lua", [[local oauth2 = require "jeton.oauth2" return { listen = ":0", upstream = "http://a", tokens = { api = oauth2.client_credentials {
      token_url = "https://a/", client_id = "x", client_secret = "y", proxy = "socks://u:s3cret@a:1" } } }]])
    local code, out, err = jeton.run({ "check", path }, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
    assert.equal(78, code)
    assert.truthy((out .. err):find("oauth2.client_credentials: proxy: SOCKS is not spoken here", 1, true), out .. err)
    assert.is_nil((out .. err):find("s3cret", 1, true))
  end)
end)

describe("a policy's proxy", function()
  local function check(text, env)
    local path = process.write_file(process.temp_dir() .. "/policy.lua", text)
    env = environment(env or {})
    env.JETON_SCRIPTS = jeton.root .. "/scripts"
    local code, out, err = jeton.run({ "check", path }, { env = env })
    return code, out .. err
  end
  local function upstream(proxy) return ("return {\n  listen = ':0',\n  upstream = { 'http://a',\n    proxy = %s },\n}"):format(proxy) end

  it("is refused when it is none, each with its line and what to write", function()
    local wrong = {
      { "'proxy:3128'", "expected http://HOST:PORT, with USER:PASSWORD@ before the host if the proxy wants them" },
      { "'http://u:s3cret@proxy'", "the proxy's port is missing: http://HOST:PORT (others would take 1080, 80 or 3128)" },
      { "'https://proxy:3128'", "a parent proxy is reached by http:// (what goes through its tunnels keeps a TLS of its own)" },
      { "'socks5h://u:s3cret@proxy:1080'", "SOCKS is not spoken here: the proxy has to know HTTP's CONNECT, http://HOST:PORT" },
      { "true", 'expected "http://HOST:PORT", "environment", false, or a table such as' },
      { "{ user = 'u' }", "expected url in it" },
      { "{ url = 'http://a:1', password = 's3cret' }", "a password without a user" },
      { "{ url = 'http://a:1', user = 'a:b' }", "a user with a colon (RFC 7617 section 2)" },
      { "{ url = 'http://u:s3cret@a:1', user = 'u' }", "user and password stand in the URL already" },
      { "{ url = 'http://a:1', pasword = 's3cret' }", "", 'pasword: unknown key (did you mean "password"?)' },
    }
    local all = {}
    for i, case in ipairs(wrong) do all[i] = ("u%d = { 'http://a', proxy = %s },"):format(i, case[1]) end
    local code, said = check(("return {\n  listen = ':0', upstream = 'http://a', upstreams = {\n%s\n} }"):format(table.concat(all, "\n")))
    assert.equal(78, code, said)
    for i, case in ipairs(wrong) do
      local told = ("policy.lua:%d: upstreams.u%d.proxy%s"):format(i + 2, i, case[3] and "." .. case[3] or ": " .. case[2])
      assert.truthy(said:find(told, 1, true), told .. "\n" .. said)
    end
    assert.is_nil(said:find("s3cret", 1, true), said)
  end)
  it("has no password that a command prints", function()
    local code, said = check(upstream "{ url = 'http://a:1', user = 'u', password = jeton.secret.exec { 'true' } }")
    assert.equal(78, code, said)
    assert.truthy(said:find("policy.lua:4: upstream.proxy: the password cannot be read: ", 1, true), said)
    assert.truthy(said:find("(what a command prints cannot stand here: let it write a file, for jeton.secret.file)", 1, true), said)
  end)
  it("of the environment is refused where that is of no use, and not shown", function()
    local code, said = check(upstream "'environment'", { HTTPS_PROXY = "socks5://u:s3cret@x:1" })
    assert.equal(78, code)
    assert.truthy(said:find("upstream.proxy: the environment's HTTPS_PROXY is of no use: SOCKS is not spoken here", 1, true), said)
    assert.is_nil(said:find("s3cret", 1, true))
    assert.equal(0, (check(upstream "'environment'", { HTTPS_PROXY = "http://x:1", ALL_PROXY = "y:2", no_proxy = "*" })))
  end)
  it("has no use for a Unix socket, unless it is the environment's", function()
    local text = "return { listen = ':0', upstream = { 'unix:/run/x.sock', proxy = %s } }"
    local code, said = check(text:format "'http://a:1'")
    assert.equal(78, code)
    assert.matches("upstream.proxy: has no use here: a Unix socket is not reached through a proxy", said)
    assert.equal(0, (check(text:format "'environment'")))
  end)
  it("of the environment serves an upstream", function()
    local from = #squid:log()
    local p = start(plain "'environment'", nil, { env = environment { ALL_PROXY = squid:url() } })
    assert.equal(200, ask(p, "/x").status)
    assert.equal("environment", p:status().upstreams[1].proxy)
    p:finish()
    wait_line(squid, from, ("200 GET http://plain.test:%d/x -"):format(nginx.port))
  end)
end)
