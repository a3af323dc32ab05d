--- What a script gets wrong is answered at its line with what to write instead. For each object and function the mistakes that people make: a name that
--- is nearly right, a dot for a colon, arguments that are swapped, of another type, in another unit, or in the wrong table.
local http = require "spec.support.http"
local jeton = require "spec.support.jeton"
local lab_support = require "spec.support.lab"
local peers = require "spec.support.peers"

local lab
setup(function()
  lab = lab_support.start [[
    tokens = {
      api = { fetch = function() return { value = "hush", expires_in = 3600 } end },
      pushed = {},
      tenant = { family = true, fetch = function() return { value = "hush", expires_in = 3600 } end },
    },]]
end)
teardown(function() lab:finish() end)

--- In order: each is what is written, and what the message has to say.
local mistakes = {
  jeton = {
    { "jeton.htp.get 'http://a/'", "jeton has no 'htp' (did you mean 'http'?)" },
    { "if jeton.fetch then return end", "jeton has no 'fetch' (docs/library.md lists" },
    { "return jeton.file.open 'x'", "jeton.file has no 'open' (docs/library.md lists" },
    { "jeton.http.timeout = 5", "jeton.http.timeout cannot be set" },
    { "jeton.cache = {}", "jeton.cache cannot be set" },
    { "jeton:sleep(1)", "write jeton.sleep(…), with a dot" },
    { "jeton.http('http://a/')", "jeton.http is a table of functions" },
  },
  ["jeton.http"] = {
    { "jeton.http:get 'http://a/'", "write jeton.http.get(…), with a dot" },
    { "jeton.http.get('http://a/', 5)", "expected options as a table, such as { body = text, timeout = 5 }, got a number" },
    { "jeton.http.post('http://a/', 'body')", "expected options as a table, such as { body = text, timeout = 5 }, got a string" },
    { "jeton.http.get { url = 'http://a/' }", "jeton.http.request { url = … }" },
    { "jeton.http.request('GET', 'http://a/')", "expected one table: jeton.http.request {" },
    { "jeton.http.request { method = 'GET', uri = 'http://a/' }", "did you mean 'url'?" },
    { "jeton.http.get()", "url: expected a string, got nil" },
    { "jeton.http.get 'http://a/b c'", "write %20" },
    { "jeton.http.get 'http://a/caf\xc3\xa9'", "write %C3" },
    { "jeton.http.get('http://a/', { timeout = -1 })", "timeout: expected a duration (seconds, or \"250ms\", \"2s\", \"5m\"), got -1" },
    { "jeton.http.get('http://a/', { headers = { 'x: y' } })", "headers: expected { [\"name\"] = value, … }, got a number in place of a name" },
    { "jeton.http.get('http://a/', { headers = { x = true } })", "headers: x: expected a string, a number or a secret, got boolean" },
    { "jeton.http.post('http://a/', { body = {} })", "(a table goes into json = or form =), got table" },
    { "jeton.http.post('http://a/', { form = 'a=b' })", "(a form that is text already is a body)" },
    { "jeton.http.post('http://a/', { form = { 'a' } })", "form: expected { name = value, … }, got a number in place of a name" },
    { "jeton.http.post('http://a/', { form = { a = { b = 1 } } })", "a: expected a value or a list of values, got a table with names" },
    { "jeton.http.get('http://a/', { auth = 'u:p' })", "auth: expected a list of two, { user, password }, got string" },
    { "jeton.http.get('http://a/', { auth = { user = 'u', password = 'p' } })", "auth: expected a list of two, { user, password }" },
  },
  ["jeton.exec and jeton.secret.exec"] = {
    { "jeton.exec 'ls'", "jeton.exec { \"program\", \"argument\", timeout = 5 }" },
    { "jeton.exec({ 'ls' }, { timeout = 1 })", "expected one table with the command and its options" },
    { "jeton.exec { 'ls', timeout = 0 }", "timeout: expected more than 0" },
    { "jeton.exec { 'ls', env = { 'A=1' } }", "env: expected { NAME = value, … }, got a number in place of a name" },
    { "jeton.exec { 'ls', env = { A = 1 } }", "env: A: expected a string or a secret, got number" },
    { "jeton.exec { 'ls', limits = { out = 1 } }", "unknown option 'out': there are stdout and stderr" },
    { "jeton.secret.exec 'ls'", "jeton.secret.exec { \"program\", \"argument\", ttl = \"10m\" }" },
    { "jeton.secret 'x'", "jeton.secret is a table of functions" },
  },
  ["jeton.file"] = {
    { "jeton.file.read('x', 'r')", "expected options as a table, such as { max = \"64k\" }, got a string" },
    { "jeton.file.write('x', 'y', 384)", "such as { mode = \"0600\" }, got a number" },
    { "jeton.file.write('x', 'y', { mode = 384 })", "expected octal digits in a string, such as \"0600\", got a number" },
    { "jeton.file.watch '/tmp'", "jeton.file.watch: fn: expected a function, got no value" },
  },
  ["the rest of the library"] = {
    { "jeton.sleep()", "duration: expected a duration" },
    { "jeton.spawn(1)", "jeton.spawn: fn: expected a function" },
    { "jeton.every(1)", "jeton.every: fn: expected a function, got no value" },
    { "jeton.spawn(function() end).result()", "a job has no 'result': it has done and :cancel()" },
    { "jeton.spawn(function() end).cancel()", "'cancel' is a method of a job, and was given nothing: call it with a colon, as in x:cancel(…)" },
    { "jeton.log('a', 'b')", "fields: expected a table such as { status = 200 }, got a string" },
    { "jeton.log.info()", "jeton.log: expected a message" },
    { "jeton.env()", "expected the name of a variable, got nothing" },
    { "jeton.channel('misuse', 'many')", "capacity: expected 0 (a rendezvous) to 65536 messages" },
    { "jeton.channel('misuse').send(1)", "'send' is a method of a channel, and was given a number" },
    { "jeton.select()", "expected a table of cases, jeton.select {" },
    { "jeton.json.array(_G)", "this table has a protected metatable" },
  },
  ["a request"] = {
    { "local req = ... return req.header", "a request has no field 'header' (did you mean 'headers'?); for" },
    { "local req = ... return req.status", "a request has no field 'status'; responses and errors have one (hooks are on_request(req, tokens)," },
    { "local req = ... req.status = 403", "req:respond(status, headers, body) answers the client" },
    { "local req = ... return req.session", "; for a table of your own use req.ctx" },
    { "local req = ... return req.body()", "'body' is a method of a request, and was given nothing: call it with a colon, as in x:body(…)" },
    { "local req = ... req.body = 'x'", "req:set_body(text), set_json and set_form set the body" },
    { "local req = ... req.path = nil", "req.path: expected a string, got nil" },
    { "local req, tokens = ... req.path = '/' .. tokens.api", "req.path: a secret: URLs show in logs" },
    { "local req = ... req.headers[1] = 'x: y'", "expected a header's name, got a number" },
    { "local req = ... return req.headers[1]", "expected a header's name, got a number" },
    { "local req = ... req.headers.x = true", "header 'x': expected a string or a number, or nil for none, got a boolean" },
    { "local req = ... return req.headers.all 'x'", "'all' is a method of headers, and was given a string" },
    { "local req = ... req:set_body {}", "req:set_body: body: expected a string or a secret, got a table (req:set_json and req:set_form take one)" },
    { "local req = ... req:respond 'OK'", "expected a status from 200 to 599, got a string" },
    { "local req = ... req:respond(99)", "expected a status from 200 to 599, got 99" },
    { "local req = ... req:respond { status = 200 }", "req:respond(status, headers, body): expected a status from 200 to 599, got a table" },
    { "local req = ... req:respond(200, 'text')", "a body stands third: req:respond(200, nil, body)" },
    { "local req = ... req:respond(200, nil, {})", "body: expected a string, got a table" },
    { "local req = ... req:respond(200, { 'x: y' })", "headers: expected { [\"name\"] = value, … }, got a number in place of a name" },
    { "local req = ... req:respond(200, { x = true })", "header 'x': expected a string or a number" },
  },
  ["a token"] = {
    { "local _, tokens = ... tokens.api = 'text'", "tokens cannot be assigned" },
    { "jeton.tokens.api = 'text'", "tokens cannot be assigned" },
    { "local _, tokens = ... tokens.api.value = 'text'", "it gets its value by tokens.api:set(value, { expires_in = seconds })" },
    { "local _, tokens = ... return tokens.apo", "no token named 'apo' (did you mean 'api'?)" },
    { "local _, tokens = ... return tokens.api.token", "its bytes cannot be read by a script" },
    { "local _, tokens = ... return tokens.api.refresh()", "'refresh' is a method of a token, and was given nothing" },
    { "local _, tokens = ... tokens.pushed:set('v', 300)", "expected a table, { expires_in = seconds }" },
    { "local _, tokens = ... tokens.pushed:set('v', { expires = 300 })", "unknown option 'expires': there are expires_in, expires_at and fields" },
    { "local _, tokens = ... return tokens.tenant[5]", "a family's key is a string or a secret, got a number: write tokens.tenant[tostring(key)]" },
    { "local _, tokens = ... return tokens.tenant:refresh()", "is not a function (of a family: tokens.NAME[key]:refresh())" },
    { "local _, tokens = ... return table.concat { 'Bearer ', tokens.api }", "join them with .., which keeps them opaque" },
    { "local req, tokens = ... req.headers.authorization = ('Bearer %s'):format(tokens.api)", "join it with .. instead, as in \"Bearer \" .. tokens.NAME" },
    { "local req, tokens = ... req.headers.authorization = tostring('Bearer ' .. tokens.api)", "holds the description of a token or secret" },
    { "local _, tokens = ... jeton.http.get('http://a/', { headers = { x = tostring(tokens.api) } })", "holds the description of a token or secret" },
  },
}

for object, cases in pairs(mistakes) do
  describe(object, function()
    for _, case in ipairs(cases) do
      it("says what to write instead of " .. case[1], function()
        local message = lab:raises("local _ = 0\n" .. case[1])
        assert.is_truthy(message:find(case[2], 1, true), message)
        assert.matches("^lab:2: ", message)
        assert.is_nil(message:find("hush", 1, true))
      end)
    end
  end)
end

describe("a token", function()
  it("that a script tried to assign is still what it was, for this request and for the next", function()
    lab:raises "local _, tokens = ... tokens.api = 'text'"
    assert.equal("userdata", lab:run "local _, tokens = ... return type(jeton.tokens.api)")
  end)

  it("is found by pairs, with all others", function()
    assert.same({ "api", "pushed", "tenant" }, lab:run [[
      local _, tokens = ...
      local names = {}
      for name in pairs(tokens) do names[#names + 1] = name end
      table.sort(names)
      return names]])
  end)

  it("without a fetch says that a refresh has nobody to ask", function()
    local ok, message, code = lab:run "local _, tokens = ... return tokens.pushed:refresh()"
    assert.is_nil(ok)
    assert.matches("it has no fetch", message)
    assert.equal("ENOTSUP", code)
  end)
end)

describe("a header's value", function()
  it("may hold angle brackets", function()
    assert.equal("<http://a/>; rel=next", lab:run "local req = ... req.headers.link = '<http://a/>; rel=next' return req.headers.link")
  end)
end)

describe("metatables", function()
  it("that all values of a VM share are out of reach", function()
    local raw = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" ]]
    assert.same({ "boolean", "boolean", "string", "string", "boolean", "string" }, lab:run(([[
      local req, tokens = ...
      local res = assert(jeton.http.get "http://127.0.0.1:%d/")
      local kinds = {}
      for i, value in ipairs { jeton, jeton.json.array {}, res, res.headers, req, tokens.api } do kinds[i] = type(getmetatable(value)) end
      return kinds]]):format(raw.port)))
  end)
end)

describe("a response", function()
  local nginx
  setup(function() nginx = peers.nginx [[ location / { return 200 "fine\n"; } ]] end)
  teardown(function() nginx.process:stop() end)

  for wrong, said in pairs {
    ['res.status = "OK"'] = "res.status: expected a status from 200 to 599, got a string",
    ['res.body = "x"'] = "res:set_body(text) sets the body",
    ["res:set_body {}"] = "res:set_body: body: expected a string, got a table",
    ["return res.stauts"] = "it has status, version, headers, :body() and :set_body(text); req:respond answers in its place",
    ["res:respond(200)"] = "a response has no field 'respond': it has status, version, headers, :body() and :set_body(text); req:respond answers in its place",
    ["return res.path"] = "a response has no field 'path'; a request has one (hooks are on_request(req, tokens), on_send(req, tokens, try), on_response(res, req, tokens)",
    ["res.body()"] = "'body' is a method of a response",
  } do
    it("says what to write instead of " .. wrong, function()
      local p = jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
        on_response = function(res)
          %s
        end }]]):format(nginx.port, wrong))
      assert.equal(500, http.get(p.port, "/").status)
      p:wait_log("policy.lua:3: ")
      p:wait_log(said)
      p:finish()
    end)
  end

  it("of jeton.http raises for what it has not", function()
    local raw = peers.raw [[ c:read "head" c:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" ]]
    local message = lab:raises(("local res = assert(jeton.http.get 'http://127.0.0.1:%d/')\nreturn res.stauts"):format(raw.port))
    assert.equal("lab:2: a response has no 'stauts': it has status, headers, body and :json()", message)
  end)
end)

describe("what a hook returns", function()
  local nginx
  setup(function() nginx = peers.nginx [[ location / { return 200 "fine\n"; } ]] end)
  teardown(function() nginx.process:stop() end)

  local function start(hook, code)
    return jeton.start(([[return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:%d",
      %s = function(req)
        %s
      end }]]):format(nginx.port, hook, code))
  end

  for code, kind in pairs { ["return 403"] = "a number", ["return false"] = "false", ["return { status = 403 }"] = "a table", ["return 'denied'"] = "a string" } do
    it("is no answer, and lets nothing through: " .. code .. " in on_request", function()
      local p = start("on_request", code)
      assert.equal(500, http.get(p.port, "/denied").status)
      p:wait_log("policy.lua:2: on_request returned " .. kind .. ", which has no effect: to answer the client call req:respond")
      p:finish()
      assert.is_nil(nginx.log():find("/denied", 1, true))
    end)
  end

  for code, status in pairs { ["return req:respond(403)"] = 403, ["req:respond(403) return 500"] = 403, ["return true"] = 200, ["return nil, 'a message'"] = 200, ["return req"] = 200 } do
    it("may be " .. code, function()
      local p = start("on_request", code)
      assert.equal(status, http.get(p.port, "/").status)
      p:finish()
    end)
  end

  it("is told in on_response and on_error as well", function()
    local p = start("on_response", "return 404")
    assert.equal(500, http.get(p.port, "/").status)
    p:wait_log "policy.lua:2: on_response returned a number, which has no effect"
    p:finish()
    p = start("on_request", "error 'x' end, on_error = function() return { status = 404 }")
    assert.equal(500, http.get(p.port, "/").status)
    p:wait_log "policy.lua:3: on_error returned a table, which has no effect"
    p:finish()
  end)
end)
