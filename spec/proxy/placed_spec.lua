--- Secrets in other places than a header: the query, cookies and the body of a request, over a replay with the next token, and what of them shows to nobody else.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"
local uv = require "luv"

-- Echoes the request as text: its head, and its body. A request whose text holds "t0ken-1" is refused under /guarded.
local upstream = [[
  while true do
    local head = c:read "head"
    if not head then return end
    local n = tonumber(head:lower():match "\ncontent%-length: *(%d+)") or 0
    local all = head .. (n > 0 and c:read(n) or "")
    local refused = all:find("/guarded", 1, true) and all:find "t0ken%-1"
    local more = head:find("/moved", 1, true) and "Location: /next?page=2&api_key=t0ken-1#top\r\nLink: </a?api%5Fkey=t0ken-1&page=3>; rel=\"next\", </b?x>; rel=y\r\n" or ""
    if head:find("/back", 1, true) then
      more = "Location: /login?next=%2Fa%3Fapi_key%3Dt0ken-1%26page%3D2&x=1\r\nContent-Location: /login?next=/a?api_key=t0ken-1\r\n" ..
        "Refresh: 5;url=/in?u=%2Flogin%3Fnext%3D%252Fa%253Fapi_key%253Dt0ken-1\r\nLink: </login?next=/a%3fpage=2>; rel=x\r\n"
    end
    if head:find("/hints", 1, true) then c:write "HTTP/1.1 103 Early Hints\r\nLink: </a?api_key=t0ken-1&b=c>; rel=preload\r\n\r\n" end
    if refused then all = "" end
    c:write(("HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s"):format(refused and "401 Unauthorized" or "200 OK", #all, more, all))
  end]]
local echo, proxy

setup(function() echo = peers.raw(upstream) end)
teardown(function() echo.process:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

--- A policy whose on_request has this body. Each fetch of `api` brings the next of `values`, and a field `id`.
local function start(body, token, more)
  proxy = jeton.start(([[
local n, values = 0, { "t0ken-1", "second-t0ken" }
return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d", log = { access = true },
  tokens = { api = {
    fetch = function() n = n + 1 return { value = values[n] or "later", expires_in = 300, fields = { id = "id" .. n, odd = "a&b=c d;\"" } } end,
    %s
  } },
  on_request = function(req, tokens) %s end,
  %s }]]):format(echo.port, token or "", body, more or ""))
  return proxy
end

--- { line, headers = { name = value }, body } of an echo.
local function sent(res)
  assert.equal(200, res.status, res.body)
  local head, body = res.body:match "^(.-\r\n)\r\n(.*)$"
  local all = { line = head:match "^[^\r]*", headers = {}, body = body, cookies = 0 }
  for name, value in head:gmatch "\n([^:\r\n]+): *([^\r]*)" do
    if name:lower() == "cookie" then all.cookies = all.cookies + 1 end
    all.headers[name:lower()] = value
  end
  return all
end
local function target(res) return sent(res).line:match "^%u+ (%S+)" end

local function refused(body, text)
  start(body)
  assert.equal(500, http.get(proxy.port, "/x").status)
  proxy:wait_log(text)
end

describe("req:set_query", function()
  it("adds a parameter behind the client's, encoded", function()
    start [[ req:set_query("api_key", tokens.api) req:set_query("odd name/&", tokens.api:field "odd") ]]
    assert.equal("/a?api_key=t0ken-1&odd%20name%2F%26=a%26b%3Dc%20d%3B%22", target(http.get(proxy.port, "/a")))
    assert.equal("/a?x=1&y&api_key=t0ken-1&odd%20name%2F%26=a%26b%3Dc%20d%3B%22", target(http.get(proxy.port, "/a?x=1&y")))
    assert.equal("/a?api_key=t0ken-1&odd%20name%2F%26=a%26b%3Dc%20d%3B%22", target(http.get(proxy.port, "/a?")))
  end)

  it("replaces what the client sent under that name, however it wrote it, and each time", function()
    start [[ req:set_query("api_key", "x" .. tokens.api) req:set_query("api_key", tokens.api) ]]
    assert.equal("/?a=1&b=2&API_KEY=3&api_key=t0ken-1",
      target(http.get(proxy.port, "/?api_key=evil&a=1&api%5fkey=evil&b=2&%61pi_key&API_KEY=3")))
    assert.equal("/?api_key=t0ken-1", target(http.get(proxy.port, "/?api_key")))
  end)

  it("takes text, which shows, and nil, which takes away", function()
    start [[ req:set_query("page", 2) req:set_query("q", "a b&ü") req:set_query("on", true) req:set_query("gone", nil)
      req:set_query("was", tokens.api) req:set_query("was", nil) req.headers.query = req.query ]]
    local got = sent(http.get(proxy.port, "/?gone=1&page=1&x"))
    assert.matches("^GET /%?x&page=2&q=a%%20b%%26%%C3%%BC&on=true ", got.line)
    assert.equal("x&page=2&q=a%20b%26%C3%BC&on=true", got.headers.query)
    assert.equal("/?page=2&q=a%20b%26%C3%BC&on=true", target(http.get(proxy.port, "/?gone=1")))
  end)

  it("follows a query that is assigned afterwards", function()
    start [[ req:set_query("api_key", tokens.api) req.query = "api_key=mine&z" ]]
    assert.equal("/?z&api_key=t0ken-1", target(http.get(proxy.port, "/?x")))
  end)

  it("stays out of req.query, on_log, the access log and errors", function()
    start([[ req:set_query("api_key", tokens.api) req.headers["x-query"] = req.query or "none" req.headers["x-url"] = req.url ]], nil,
      [[on_log = function(entry) jeton.log.info("logged", { query = entry.query or "none" }) end]])
    local got = sent(http.get(proxy.port, "/a?api_key=own"))
    assert.equal("api_key=own", got.headers["x-query"])
    assert.is_nil(got.headers["x-url"]:find "t0ken")
    proxy:wait_log "api_key=own"
    assert.is_nil(proxy:errors():find "t0ken%-1")
  end)

  it("is sent anew with the next token, when the upstream refuses the first", function()
    start [[ req:set_query("api_key", tokens.api) req:set_query("id", tokens.api:field "id") ]]
    assert.equal("/guarded?api_key=second-t0ken&id=id2", target(http.get(proxy.port, "/guarded")))
  end)

  it("goes to the token's hosts only", function()
    start([[ req:set_query("api_key", tokens.api) ]], [[hosts = { "elsewhere.example.com" },]])
    assert.equal(500, http.get(proxy.port, "/").status)
    proxy:wait_log "may not receive this secret"
  end)

  it("is left out where the token is missing and says pass", function()
    start([[ req:set_query("api_key", tokens.none) req:set_query("id", tokens.api:field "id") ]], [[}, none = { missing = "pass",]])
    assert.equal("/?api_key=own&x&id=id1", target(http.get(proxy.port, "/?api_key=own&x")))
  end)

  it("is taken out of the URLs of the reply's head", function()
    start [[ req:set_query("api_key", tokens.api) ]]
    local res = http.get(proxy.port, "/moved")
    assert.equal("/next?page=2#top", res.headers.location)
    assert.equal('</a?page=3>; rel="next", </b?x>; rel=y', res.headers.link)
  end)

  it("is taken out of a URL that is a parameter of one, as the way back from a login is", function()
    start [[ req:set_query("api_key", tokens.api) ]]
    local h = http.get(proxy.port, "/back").headers
    assert.equal("/login?next=%2Fa%3Fpage%3D2&x=1", h.location)
    assert.equal("/login?next=/a", h["content-location"])
    assert.equal("5;url=/in?u=%2Flogin%3Fnext%3D%252Fa", h.refresh)
    assert.equal("</login?next=/a%3fpage=2>; rel=x", h.link) -- as it came
  end)

  it("is taken out of early hints, too", function()
    start [[ req:set_query("api_key", tokens.api) ]]
    local c = http.connect(proxy.port)
    c:send "GET /hints HTTP/1.1\r\nHost: a\r\n\r\n"
    local hints = c:read_response "GET"
    c:close()
    assert.same({ 103, "</a?b=c>; rel=preload" }, { hints.status, hints.headers.link })
  end)

  it("says what is wrong", function()
    refused([[ req:set_query("a", {}) ]], "req:set_query(name, value): a: expected a string, number, boolean or secret, or nil for none, got table")
    refused([[ req:set_query("", "x") ]], "name: an empty string")
    refused([[ req:set_query("a", tostring(tokens.api)) ]], "join it with ..")
    refused([[ req.query = tokens.api ]], "or call req:set_query(name, secret)")
    refused([[ for i = 1, 40 do req:set_query("a" .. i, tokens.api) end ]], "more than 64 parts")
  end)
end)

describe("req:set_cookie", function()
  it("stands beside the client's cookies, in the place of its namesakes", function()
    start [[ req:set_cookie("session", tokens.api) req:set_cookie("lang", "de") ]]
    local got = sent(http.get(proxy.port, "/", { Cookie = "a=1; session=evil; b=\"2\";session=evil2 ; lang=fr; c" }))
    assert.equal('a=1; b="2"; c; session=t0ken-1; lang=de', got.headers.cookie)
    assert.equal(1, got.cookies)
    assert.equal("session=t0ken-1; lang=de", sent(http.get(proxy.port, "/")).headers.cookie)
  end)

  it("replaces itself, starts over when the header is assigned, and goes with nil", function()
    start [[
      if req.path == "/twice" then req:set_cookie("s", "x" .. tokens.api) req:set_cookie("t", "1") req:set_cookie("s", tokens.api) end
      if req.path == "/assigned" then req:set_cookie("s", tokens.api) req.headers.cookie = "own=1" req:set_cookie("t", tokens.api:field "id") end
      if req.path == "/opaque" then req.headers.cookie = "u=" .. tokens.api req:set_cookie("t", tokens.api:field "id") end
      if req.path == "/none" then req:set_cookie("a", nil) req:set_cookie("s", tokens.api) req:set_cookie("s", nil) end ]]
    local cookie = { Cookie = "a=1; b=2" }
    assert.equal("a=1; b=2; t=1; s=t0ken-1", sent(http.get(proxy.port, "/twice", cookie)).headers.cookie)
    assert.equal("own=1; t=id1", sent(http.get(proxy.port, "/assigned", cookie)).headers.cookie)
    assert.equal("u=t0ken-1; t=id1", sent(http.get(proxy.port, "/opaque", cookie)).headers.cookie)
    assert.equal("b=2", sent(http.get(proxy.port, "/none", cookie)).headers.cookie)
    assert.is_nil(sent(http.get(proxy.port, "/none", { Cookie = "a=1" })).headers.cookie)
  end)

  it("is sent anew with the next token", function()
    start [[ req:set_cookie("s", tokens.api) ]]
    assert.equal("a=1; s=second-t0ken", sent(http.get(proxy.port, "/guarded", { Cookie = "a=1" })).headers.cookie)
  end)

  it("leaves the client's cookies where its token is missing and says pass", function()
    start([[ req:set_cookie("s", tokens.none) req:set_cookie("t", tokens.api) ]], [[}, none = { missing = "pass",]])
    assert.equal("a=1; t=t0ken-1", sent(http.get(proxy.port, "/", { Cookie = "a=1" })).headers.cookie)
  end)

  it("refuses what would be two cookies", function()
    refused([[ req:set_cookie("a;b", tokens.api) ]], "'a;b' is not a cookie's name")
    refused([[ req:set_cookie("a", "1; b=2") ]], "jeton.base64.encode_url")
    refused([[ req:set_cookie("a", tokens.api:field "odd") ]], "a secret's bytes may not stand there")
  end)
end)

describe("req:set_json", function()
  it("sends what a table says, with its secrets, their length and their type", function()
    start [[ req:set_json { key = tokens.api, list = { 1, "x", tokens.api:field "odd" }, deep = { more = { true } } } ]]
    local got = sent(http.request(proxy.port, "POST", "/", { ["Content-Type"] = "text/plain", ["Content-Encoding"] = "gzip" }, "the client's"))
    assert.same({ key = "t0ken-1", list = { 1, "x", 'a&b=c d;"' }, deep = { more = { true } } }, cjson.decode(got.body))
    assert.equal(tostring(#got.body), got.headers["content-length"])
    assert.equal("application/json", got.headers["content-type"])
    assert.is_nil(got.headers["content-encoding"])
  end)

  it("is sent anew with the next token, whose length is another", function()
    start [[ req:set_json { key = tokens.api } ]]
    for _ = 1, 2 do
      local got = sent(http.request(proxy.port, "POST", "/guarded", nil, ("x"):rep(100000)))
      assert.equal('{"key":"second-t0ken"}', got.body)
      assert.equal("22", got.headers["content-length"])
    end
  end)

  it("without a secret is text, also to req:body", function()
    start [[ req:set_json { a = 1 } req.headers.body = req:body() req:set_json { a = tokens.api } req.headers.kind = getmetatable(req:body()) req:set_json "z" ]]
    local got = sent(http.request(proxy.port, "POST", "/", nil, "x"))
    assert.same({ '{"a":1}', "secret", '"z"' }, { got.headers.body, got.headers.kind, got.body })
  end)

  it("waits for its token, and fails where that says pass", function()
    start([[ req:set_json { key = tokens.none } ]], [[}, none = { missing = "pass",]])
    assert.equal(503, http.request(proxy.port, "POST", "/", nil, "x").status)
    proxy:wait_log "leaves out"
  end)

  it("may be long, and goes whole to an upstream that takes it slowly", function()
    start [[ req:set_json { pad = ("x"):rep(700000), key = tokens.api } ]]
    local got = sent(http.request(proxy.port, "POST", "/", nil, "x"))
    assert.equal(700000 + #'{"pad":"","key":"t0ken-1"}', #got.body)
    assert.equal("t0ken-1", cjson.decode(got.body).key)
  end)

  it("says what is wrong", function()
    refused([[ req:set_json { a = print } ]], "req:set_json(value): JSON cannot hold a function")
    refused([[ req:set_json { a = ("x"):rep(1 << 20), b = tokens.api } ]], "1048576 bytes")
    refused([[ req:set_body { 1 } ]], "req:set_json and req:set_form take one")
    refused([[ req:respond(200, nil, tokens.api) ]], "its bytes would reach the client")
  end)
end)

describe("req:set_form", function()
  it("sends a form, with its secrets", function()
    start [[ req:set_form { key = tokens.api:field "odd" } ]]
    local got = sent(http.request(proxy.port, "POST", "/", nil, "x"))
    assert.equal("key=a%26b%3Dc+d%3B%22", got.body)
    assert.equal("application/x-www-form-urlencoded", got.headers["content-type"])
    assert.equal(tostring(#got.body), got.headers["content-length"])
  end)

  it("takes names and values alone", function()
    refused([[ req:set_form "a=1" ]], "expected a table of names and values")
    refused([[ req:set_form { a = { b = 1 } } ]], "there are no tables in tables")
  end)
end)

describe("req:set_body", function()
  it("may be a secret of any bytes", function()
    start [[ req:set_body("<\n" .. tokens.api .. ">") ]]
    assert.equal("<\nt0ken-1>", sent(http.request(proxy.port, "POST", "/", nil, "x")).body)
    assert.equal("<\nsecond-t0ken>", sent(http.request(proxy.port, "POST", "/guarded", nil, "x")).body)
  end)
end)

if protocols.upstream == "h1" then
  describe("a body with secrets that the upstream does not read", function()
    it("ends with its token, and what waited of it is not sent", function()
      local path, server = process.temp_dir() .. "/deaf.sock", uv.new_pipe()
      assert(server:bind(path))
      assert(server:listen(8, function() end)) -- connected by the kernel, and never accepted: the socket takes some 200 KB
      proxy = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "unix:%s", timeouts = { first_byte = 0, send = 0 },
        tokens = { api = { leeway = 0, fetch = function() return { value = "t0ken", expires_in = 2 } end } },
        on_request = function(req, tokens) req:set_body(("x"):rep(900000) .. tokens.api) end }]]):format(path))
      assert.equal(504, http.request(proxy.port, "POST", "/", nil, "x", process.stretched(20)).status)
      proxy:wait_log "the upstream did not take the request before a token in it ended"
      server:close()
    end)
  end)
end

describe("secrets beside a header", function()
  it("are of one generation with it", function()
    start [[ req.headers.authorization = "Bearer " .. tokens.api req:set_query("id", tokens.api:field "id") req:set_cookie("c", tokens.api:field "id")
      req:set_json { id = tokens.api:field "id" } ]]
    local got = sent(http.request(proxy.port, "POST", "/guarded?x", nil, "y"))
    assert.same({ "Bearer second-t0ken", "c=id2", '{"id":"id2"}' }, { got.headers.authorization, got.headers.cookie, got.body })
    assert.matches("^POST /guarded%?x&id=id2 ", got.line)
  end)

  it("go through a forward proxy to the target", function()
    proxy = jeton.start(([[return { listen = "127.0.0.1:0", forward = { hosts = { "127.0.0.1:%d" }, private = { "127.0.0.0/8" } },
      tokens = { api = { fetch = function() return { value = "t0ken", expires_in = 300 } end, hosts = { "http://127.0.0.1" } } },
      on_request = function(req, tokens) req:set_query("api_key", tokens.api) req:set_json { k = tokens.api } end }]]):format(echo.port))
    local got = sent(http.request(proxy.port, "POST", ("http://127.0.0.1:%d/a?b=1&api_key=own"):format(echo.port), nil, "x"))
    assert.matches("^POST /a%?b=1&api_key=t0ken ", got.line)
    assert.equal('{"k":"t0ken"}', got.body)
  end)
end)
