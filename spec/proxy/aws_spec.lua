--- jeton.aws. Signatures are judged by aws4 and @smithy/signature-v4, in a server that makes them anew from what it received (peers/aws.mjs), by the vectors that AWS
--- has published, and by dynalite and s3rver. Of AWS's credential services that server is an imitation.
local cjson = require "cjson"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local protocols = require "spec.support.protocols"

local ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
local aws, url, dir, proxy

local STATIC = ([[aws.static { access_key_id = %q, secret_access_key = jeton.secret.value %q }]]):format(ID, SECRET)

local function order(orders)
  local res = assert(http.request(aws.port, "POST", "/world", nil, cjson.encode(orders)))
  assert.equal(200, res.status, res.body)
end

--- options: token (Lua text), sign (options of aws.sign as Lua text), more, env, upstream, top, send (the whole on_send).
local function start(options)
  local sign = options.sign or [[{ service = "dynamodb", region = "eu-west-1" }]]
  local at = options.upstream or (protocols.upstream == "h2" and ("http://127.0.0.1:%d"):format(aws.h2_port)) or url
  proxy = jeton.start({ env = options.env, policy = (([[
local aws = require "jeton.aws"
%s
return {
  listen = "127.0.0.1:0", upstream = { %q, http2 = %s },
  tokens = { aws = %s },
  on_send = function(req, tokens, try) %s end,
  %s
}]]):format(options.top or "", at, tostring(protocols.upstream == "h2" and not options.upstream),
    options.token or STATIC, options.send or ("aws.sign(req, tokens.aws, %s)"):format(sign), options.more or ""):gsub("URL", url):gsub("DIR", dir)) })
  return proxy
end

--- What the service saw, of a request that it believes.
local function believed(res, what)
  assert.equal(200, res.status, (what or "") .. " " .. tostring(res.body))
  local seen = cjson.decode(res.body)
  assert.is_true(seen.smithy, (what or "") .. " " .. res.body)
  return seen
end

setup(function()
  dir = process.temp_dir()
  aws = peers.aws()
  url = "http://127.0.0.1:" .. aws.port
  process.write_file(dir .. "/web-identity", "web-identity-token")
  process.write_file(dir .. "/container", "container-token")
  assert(os.execute(("chmod 600 %s/*"):format(dir)))
end)
teardown(function() aws.process:stop() end)
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
  order { ttl = 3600, fail = cjson.null }
end)

describe("aws.sign", function()
  it("signs what two other implementations sign of the same request", function()
    start {}
    local seen = believed(http.get(proxy.port, "/a?b=c"))
    assert.same({ "host", "x-amz-date" }, seen.names)
    seen = believed(http.request(proxy.port, "POST", "/", { ["content-type"] = "application/x-amz-json-1.0", ["X-Amz-Target"] = "DynamoDB_20120810.ListTables" }, "{}"))
    assert.same({ "content-type", "host", "x-amz-date", "x-amz-target" }, seen.names)
  end)

  it("takes away what the client signed itself, in the head and in the query", function()
    start { token = "aws.imds { url = 'URL' }" }
    local seen = believed(http.request(proxy.port, "GET", "/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=abc&b=c&X-Amz-Credential=x%2Fy", {
      authorization = "AWS4-HMAC-SHA256 Credential=mine/20200101/x/y/aws4_request, SignedHeaders=host, Signature=00", ["x-amz-date"] = "20200101T000000Z",
      ["x-amz-security-token"] = "mine" }))
    assert.equal("/a?b=c", seen.url)
    assert.not_equal("mine", seen.headers["x-amz-security-token"])
  end)

  it("does the same for random requests", function()
    start { token = "aws.imds { url = 'URL' }", send = [[
      local service, form = req.headers["x-service"], req.headers["x-form"]
      aws.sign(req, tokens.aws, { service = service, region = "us-east-1", query = form == "query" or nil }) ]] }
    math.randomseed(13)
    local function any(from, most)
      local made = {}
      for i = 1, math.random(0, most) do made[i] = from[math.random(#from)] end
      return table.concat(made)
    end
    local SEGMENT = { "a", "Z", "0", "-", ".", "_", "~", "%20", "%2B", "%25", "%C3%A9", "%2a", "%3D", "%28" }
    local LOOSE = { "a", "Z", "+", ":", "@", "(", ")", "!", "*", ",", ";", "=", "$", "'", "." }
    local VALUE = { "a", "Z", "0", "%20", "+", "%2F", "%E2%82%AC", "*", "'", "(", ":", "/", "?", "~", "%7E", "." }
    local HEADER = { "a", "B", " ", "  ", ",", "=", '"', "/" }
    local c = http.connect(proxy.port)
    for i = 1, 300 do
      local service = ({ "dynamodb", "s3", "execute-api" })[math.random(3)]
      local form = math.random(3) == 1 and "query" or "head"
      local path, query = {}, {}
      for n = 1, math.random(4) do
        path[n] = any(SEGMENT, 5):gsub("^%.+", "d") .. (service == "s3" and "" or any(LOOSE, 3):gsub("%.", "d"))
        if path[n] == "" and service == "s3" then path[n] = "x" end
        if service == "s3" then path[n] = path[n]:gsub("%%2a", "%%2A") end
      end
      for n = 1, math.random(0, 4) do query[n] = ("%s%d=%s"):format(any({ "k", "B", "%2D", "_" }, 3), n, any(VALUE, 6)) end
      if service ~= "s3" and math.random(3) == 1 then query[#query + 1], query[#query + 2] = "same=2", "same=1" end
      local target = "/" .. table.concat(path, "/") .. (#query > 0 and "?" .. table.concat(query, "&") or "")
      local method = ({ "GET", "POST", "PUT", "DELETE" })[math.random(4)]
      local headers = { ["x-service"] = service, ["x-form"] = form, ["x-other"] = any(HEADER, 5) }
      if math.random(2) == 1 then headers["content-type"] = "a/b; c=" .. any({ "x", "y" }, 3) end
      if math.random(2) == 1 then headers["x-amz-meta-" .. any({ "a", "b", "C" }, 3) .. "x"] = "v" .. any(HEADER, 6) .. "w" end
      local body = (method == "POST" or method == "PUT") and any({ "a", "\0", "\255", "\r\n", "{}" }, 40) or nil
      local res = c:request(method, target, headers, body)
      believed(res, ("%d %s %s %s %s"):format(i, service, form, method, target))
    end
    c:close()
  end)

  it("reads paths as S3 does: decoded once, and encoded as AWS encodes", function()
    start { sign = [[{ service = "s3", region = "us-east-1" }]] }
    for _, path in ipairs { "/b/a(1)*!'.txt", "/b/a+b", "/b//x", "/b/%7Ex", "/b/a%2Fb", "/b/a:b@c,d" } do
      local res = http.get(proxy.port, path)
      assert.equal(200, res.status, path .. " " .. res.body)
      assert.equal(path, cjson.decode(res.body).url)
    end
  end)

  it("signs further fields that are named", function()
    start { sign = [[{ service = "iam", region = "us-east-1", headers = { "User-Agent", "x-mine" } }]] }
    local seen = believed(http.request(proxy.port, "GET", "/", { ["user-agent"] = "spec", ["X-Mine"] = "  a   b " }))
    assert.same({ "host", "user-agent", "x-amz-date", "x-mine" }, seen.names)
  end)

  it("puts the signature into the query, with the session token", function()
    start { token = "aws.imds { url = 'URL' }", sign = [[{ service = "execute-api", region = "us-east-1", query = true, expires = 60 }]],
      more = [[on_log = function(entry) jeton.log.info("entry " .. tostring(entry.query)) end]] }
    local seen = believed(http.request(proxy.port, "POST", "/a?z=1&A=2", { authorization = "Basic eA==" }, "body"))
    assert.is_nil(seen.headers.authorization)
    assert.truthy(seen.url:find("X-Amz-Security-Token=session%2F", 1, true))
    assert.truthy(seen.url:find("X-Amz-Expires=60", 1, true))
    proxy:wait_log "entry z=1&A=2"
    assert.is_nil((proxy:errors() .. proxy:output()):find "X%-Amz%-Sig")
  end)

  it("leaves the payload out where that is said, and takes the client's hash where that is said", function()
    start { sign = [[{ service = "s3", region = "us-east-1", payload = "unsigned" }]], more = "limits = { script_body = 4 }," }
    assert.equal("UNSIGNED-PAYLOAD", believed(http.request(proxy.port, "PUT", "/b/k", nil, ("x"):rep(100000))).headers["x-amz-content-sha256"])
    proxy:finish()
    start { sign = [[{ service = "s3", region = "us-east-1", payload = "client" }]], more = "limits = { script_body = 4 }," }
    local hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    assert.equal(hash, believed(http.request(proxy.port, "PUT", "/b/k", { ["x-amz-content-sha256"] = hash }, ("x"):rep(100000))).headers["x-amz-content-sha256"])
  end)

  it("says what to write where the body is too large to be hashed", function()
    start { more = "limits = { script_body = 4 }," }
    assert.equal(500, http.request(proxy.port, "POST", "/", nil, "12345").status)
    proxy:wait_log 'policy.lua:6: aws.sign: the body is larger than limits.script_body, so it cannot be hashed: say payload = "unsigned"'
  end)

  it("refuses a body that is signed in chunks, and passes one in chunks without signatures", function()
    start { sign = [[{ service = "s3", region = "us-east-1" }]] }
    for _, headers in ipairs { { ["x-amz-content-sha256"] = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" }, { ["x-amz-content-sha256"] = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" },
      { ["content-encoding"] = "aws-chunked" } } do
      local res = http.request(proxy.port, "PUT", "/b/k", headers, "5;chunk-signature=00\r\nhello\r\n0;chunk-signature=00\r\n\r\n")
      assert.equal(400, res.status)
      assert.matches("signed in chunks %(aws%-chunked%) with the client's own key.*when_required", res.body)
    end
    local unsigned = { ["x-amz-content-sha256"] = "STREAMING-UNSIGNED-PAYLOAD-TRAILER", ["content-encoding"] = "aws-chunked", ["x-amz-trailer"] = "x-amz-checksum-crc32" }
    local seen = believed(http.request(proxy.port, "PUT", "/b/k", unsigned, "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"))
    assert.equal("STREAMING-UNSIGNED-PAYLOAD-TRAILER", seen.headers["x-amz-content-sha256"])
  end)

  for what, case in pairs {
    ["SigV4a by its algorithm"] = { [[{ service = "s3", region = "us-east-1", algorithm = "sigv4a" }]], "aws.sign: algorithm: SigV4a (AWS4-ECDSA-P256-SHA256) is not made here" },
    ["SigV4a by its regions"] = { [[{ service = "s3", region = "*" }]], "aws.sign: region: SigV4a (AWS4-ECDSA-P256-SHA256), the signature for several regions, is not made here: name one region" },
    ["no service"] = { [[{ region = "us-east-1" }]], 'aws.sign: service: is needed, the name that AWS signs with, such as "s3"' },
    ["no region"] = { [[{ service = "s3" }]], 'aws.sign: region: is needed, the name that AWS signs with, such as "eu-west-1"' },
    ["an unknown option"] = { [[{ service = "s3", region = "us-east-1", playload = "hash" }]], "aws.sign: unknown option 'playload': did you mean 'payload'?" },
    ["an unknown payload"] = { [[{ service = "s3", region = "us-east-1", payload = "none" }]], 'aws.sign: payload: expected "hash", "unsigned" or "client"' },
    ["expires without query"] = { [[{ service = "s3", region = "us-east-1", expires = 60 }]], "aws.sign: expires: is for a signature in the query: say query = true beside it" },
    ["no options"] = { "nil", "aws.sign: expected a table of options such as" },
  } do
    it("refuses " .. what, function()
      start { sign = case[1] }
      assert.equal(500, http.get(proxy.port, "/").status)
      proxy:wait_log("policy.lua:6: " .. case[2])
    end)
  end

  it("refuses what is no token, a token without its fields, and a query with a secret", function()
    start { top = "local key = jeton.secret.value 'x'", send = [[
      if req.path == "/key" then aws.sign(req, key, { service = "s3", region = "us-east-1" }) end
      if req.path == "/query" then req:set_query("a", tokens.aws) end
      aws.sign(req, tokens.aws, { service = "s3", region = "us-east-1" }) ]], token = "{ fetch = function() return { value = 'x', expires_in = 60 } end }" }
    for path, text in pairs { ["/key"] = "expected a token such as tokens.aws, got userdata", ["/query"] = "the query holds a secret", ["/"] = "token aws has no field access_key_id" } do
      assert.equal(500, http.get(proxy.port, path).status)
      proxy:wait_log(text)
    end
  end)
end)

describe("the published vectors", function()
  it("come out as they are published", function()
    local code, out, err = process.run({ "node", "--input-type=module", "-e", [[
      import { requests } from './spec/support/peers/node_modules/@smithy/signature-v4/dist-es/suite.fixture.js';
      console.log(JSON.stringify(requests));]] })
    assert.equal(0, code, err .. (proxy and proxy:errors() or ""))
    local upstream = peers.raw [[
      while true do
        local head = c:read "head"
        if not head then return c:close() end
        local length = tonumber(head:lower():match "content%-length: (%d+)") or 0
        if length > 0 then c:read(length) end
        local auth = head:match "[Aa]uthorization: ([^\r]+)" or "none"
        c:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #auth .. "\r\n\r\n" .. auth)
      end ]]
    start { upstream = "http://127.0.0.1:" .. upstream.port, send = [[
      req.headers.host = "example.amazonaws.com"
      local more = {}
      for name in req.headers["x-sign"]:gmatch "[^;]+" do more[#more + 1] = name end
      aws.sign(req, tokens.aws, { service = "service", region = "us-east-1", headers = more, time = 1440938160 }) ]] }
    local checked = 0
    for _, vector in ipairs(cjson.decode(out)) do
      local r, query = vector.request, {}
      for name, value in pairs(r.query) do
        for _, v in ipairs(type(value) == "table" and value or { value }) do query[#query + 1] = name .. "=" .. v end
      end
      local target = r.path .. (#query > 0 and "?" .. table.concat(query, "&") or "")
      if not (target:find "[^%w%%/._~?&=-]" or r.headers["x-amz-security-token"]) then -- the others are written as no request can be
        local names = {}
        for name in pairs(r.headers) do names[#names + 1] = name end
        r.headers.host, r.headers["x-sign"], r.headers["x-amz-date"] = nil, table.concat(names, ";"), nil
        local res = assert(http.request(proxy.port, r.method, target, r.headers, r.body), vector.name)
        assert.equal(vector.authorization, res.body, vector.name)
        checked = checked + 1
      end
    end
    assert.is_true(checked >= 15, checked)
  end)
end)

describe("dynalite and s3rver", function()
  it("believe botocore, whose own credentials are good for nothing, behind jeton", function()
    local servers = peers.aws_servers()
    start { token = [[aws.static { access_key_id = "S3RVER", secret_access_key = jeton.secret.value "S3RVER" }]], upstream = "http://127.0.0.1:" .. servers.s3,
      more = ([[upstreams = { dynamodb = "http://127.0.0.1:%d" }, limits = { script_body = "64k" },
        on_request = function(req) if req.headers["x-amz-target"] then req.upstream = "dynamodb" end end]]):format(servers.dynamodb),
      send = [[local dynamodb = req.headers["x-amz-target"]
        aws.sign(req, tokens.aws, { service = dynamodb and "dynamodb" or "s3", region = "us-east-1", payload = dynamodb and "hash" or "client" })]] }
    local code, out, err = process.run({ "python3", "spec/support/peers/aws_client.py", "http://127.0.0.1:" .. proxy.port }, { timeout = 60 })
    assert.equal(0, code, err .. (proxy and proxy:errors() or ""))
    assert.same({ item = "1", big = 5242880, keys = { "a=b&c", "plain", "with space+plus/é(1)*~.txt" } }, cjson.decode(out))
    servers.process:stop()
  end)
end)

describe("the example", function()
  it("aws-s3 signs with the instance's role", function()
    proxy = jeton.start { file = jeton.root .. "/examples/aws-s3.lua", env = { LISTEN = "127.0.0.1:0", UPSTREAM = url, AWS_EC2_METADATA_SERVICE_ENDPOINT = url } }
    local seen = believed(http.request(proxy.port, "PUT", "/bucket/key", nil, "body"))
    assert.equal("UNSIGNED-PAYLOAD", seen.headers["x-amz-content-sha256"])
    believed(http.get(proxy.port, "/bucket/key?list-type=2"))
  end)
end)
