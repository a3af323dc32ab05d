--- Secrets from files, variables and commands: what stands at their edges, who may read them, and that all threads have one version.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local process = require "spec.support.process"

local proxy
after_each(function()
  if proxy then proxy:finish() end
  proxy = nil
end)

local dir = process.temp_dir()
local files = 0
local function file(content, mode)
  files = files + 1
  local path = process.write_file(("%s/secret%d"):format(dir, files), content)
  process.run { "chmod", mode or "600", path }
  return path
end

--- A policy that answers with the bytes of `secret` (Lua text) as hex, as jeton.crypto sees them, when they are `expected`.
local function start(secret, expected, options)
  options = options or {}
  options.policy = ([[
    local secret = %s
    return { listen = "127.0.0.1:0", on_request = function(req)
      local wanted = %q
      local deadline = jeton.now() + 10
      while not jeton.crypto.hmac("sha256", secret, "x") and jeton.now() < deadline do jeton.sleep(0.05) end
      req:respond(200, nil, tostring(jeton.crypto.equal(secret, wanted)))
    end }]]):format(secret, expected)
  proxy = jeton.start(options)
  return http.get(proxy.port).body
end
local WARNING = "white space or a byte order mark at the edges of a secret is left out"

describe("a secret", function()
  local edges = {
    ["two line ends"] = { "s3cret\n\n", "s3cret" },
    ["blanks around it"] = { "  s3cret \t\n", "s3cret" },
    ["a byte order mark"] = { "\239\187\191s3cret\n", "s3cret" },
    ["a mark and blanks"] = { " \239\187\191 s3cret\r\n\r\n", "s3cret" },
    ["a line end in front"] = { "\ns3cret", "s3cret" },
    ["words inside"] = { "\tone  two\nthree\n\n", "one  two\nthree" },
  }
  for what, case in pairs(edges) do
    it("that is text loses what stands at its edges, with a warning: " .. what, function()
      local path = file(case[1])
      assert.equal("true", start(("jeton.secret.file %q"):format(path), case[2], { workers = 2 }))
      assert.truthy(proxy:errors():find(path .. ": " .. WARNING, 1, true), proxy:errors())
      assert.equal(1, select(2, proxy:errors():gsub(WARNING, "")))
      proxy:finish()
      assert.equal("true", start(("jeton.secret.file(%q, { raw = true })"):format(path), case[1]))
      assert.is_nil(proxy:errors():find(WARNING, 1, true))
      proxy:finish()
      local env = { SPEC_EDGES = case[1], PATH = os.getenv "PATH" }
      assert.equal("true", start('jeton.secret.env "SPEC_EDGES"', case[2], { env = env }))
      assert.matches("env SPEC_EDGES: " .. WARNING, proxy:errors())
      proxy:finish()
      assert.equal("true", start('jeton.secret.env("SPEC_EDGES", { raw = true })', case[1], { env = env }))
      proxy:finish()
      assert.equal("true", start(('jeton.secret.exec { "/bin/cat", %q }'):format(path), case[2]))
      proxy:wait_log("/bin/cat: " .. WARNING)
      proxy:finish()
      assert.equal("true", start(('jeton.secret.exec { "/bin/cat", %q, raw = true }'):format(path), case[1]))
    end)
  end

  it("loses one line end without a word", function()
    for content, expected in pairs { ["s3cret\n"] = "s3cret", ["s3cret\r\n"] = "s3cret", ["s3cret"] = "s3cret", ["sé\n"] = "sé" } do
      assert.equal("true", start(("jeton.secret.file %q"):format(file(content)), expected))
      assert.is_nil(proxy:errors():find("warn", 1, true), proxy:errors())
      proxy:finish()
      proxy = nil
    end
  end)

  it("that is no text stays as it is", function()
    local key = "\1\2 \255key\0\n"
    assert.equal("true", start(("jeton.secret.file %q"):format(file(key)), key))
    assert.is_nil(proxy:errors():find(WARNING, 1, true))
  end)

  it("in UTF-16 stays as it is, with a warning", function()
    for _, text in ipairs { "\xff\xfes\0e\0c\0\n\0", "\xfe\xff\0s\0e\0c\0\n" } do
      local path = file(text)
      for options, told in pairs { [""] = true, [", { raw = true }"] = false } do
        local policy = process.write_file(dir .. "/policy.lua", ("local s = jeton.secret.file(%q%s) return { listen = '127.0.0.1:0', upstream = 'http://127.0.0.1:1' }"):format(path, options))
        local code, out, err = jeton.run { "check", policy }
        assert.equal(0, code, err)
        assert.equal(told, (out .. err):find(path .. ": a secret in UTF-16", 1, true) ~= nil, out .. err)
      end
    end
  end)

  it("that is too long is told with the bound", function()
    local path = process.write_file(dir .. "/policy.lua", ("local s = jeton.secret.file %q return { listen = '127.0.0.1:0' }"):format(file(("x"):rep(70000))))
    local code, _, err = jeton.run { "check", path }
    assert.equal(78, code)
    assert.matches("the file is larger than 64 KiB", err)
  end)

  it("that is nothing but white space is none", function()
    local path = process.write_file(dir .. "/policy.lua", ("local s = jeton.secret.file %q return { listen = '127.0.0.1:0' }"):format(file " \n\t\n"))
    local code, _, err = jeton.run { "check", path }
    assert.equal(78, code)
    assert.matches("the file is empty", err)
  end)

  it("has options that are checked", function()
    local path = process.write_file(dir .. "/policy.lua", ("local s = jeton.secret.file(%q, { row = true }) return { listen = '127.0.0.1:0' }"):format(file "x"))
    local code, _, err = jeton.run { "check", path }
    assert.equal(78, code)
    assert.matches("unknown option 'row'", err)
  end)

  it("in a file that everybody may read gives a warning, at each load and in check", function()
    local path = file("s3cret\n", "644")
    local policy = process.write_file(dir .. "/policy.lua", ("local s = jeton.secret.file %q return { listen = '127.0.0.1:0', on_request = function() end, upstream = 'http://127.0.0.1:1' }"):format(path))
    local code, out, err = jeton.run { "check", policy }
    assert.equal(0, code)
    assert.truthy((out .. err):find(path .. ": a secret that everybody may read (chmod o= mends it)", 1, true), out .. err)
    process.run { "chmod", "600", path }
    code, out, err = jeton.run { "check", policy }
    assert.equal(0, code)
    assert.is_nil((out .. err):find("may read", 1, true))
  end)

  it("that is a certificate or a public key may be read by everybody, and one beside a private key may not", function()
    for kind, warns in pairs { CERTIFICATE = false, ["PUBLIC KEY"] = false, ["PRIVATE KEY"] = true, ["CERTIFICATE-----\n-----BEGIN PRIVATE KEY"] = true } do
      local path = file(("-----BEGIN %s-----\nAAAA\n-----END %s-----\n"):format(kind, kind), "644")
      local policy = process.write_file(dir .. "/policy.lua", ("local s = jeton.secret.file %q return { listen = '127.0.0.1:0', on_request = function() end, upstream = 'http://127.0.0.1:1' }"):format(path))
      local _, out, err = jeton.run { "check", policy }
      assert.equal(warns, (out .. err):find("may read", 1, true) ~= nil, kind)
    end
  end)
end)

describe("a secret's file", function()
  --- Which of the versions the workers have, asked on connections of their own until many have answered.
  local function versions()
    local seen = {}
    for _, res in ipairs(http.together(proxy.port, 40, "GET", "/")) do seen[res.body] = true end
    local list = {}
    for version in pairs(seen) do list[#list + 1] = version end
    table.sort(list)
    return table.concat(list, " ")
  end

  it("that is replaced, and emptied at once, is served in one version by all workers", function()
    local path = file "one\n"
    proxy = jeton.start { workers = 4, policy = ([[
      local secret = jeton.secret.file %q
      return { listen = "127.0.0.1:0", on_request = function(req)
        for _, version in ipairs { "one", "two", "three" } do
          if jeton.crypto.equal(secret, version) then req:respond(200, nil, version) end
        end
      end }]]):format(path) }
    assert.equal("one", versions())
    for _ = 1, 3 do
      process.write_file(path, "two\n")
      process.poll(function() return http.get(proxy.port).body == "two" end, 5, "a worker with the new version")
      process.write_file(path, "")
      assert.equal("two", versions())
      process.write_file(path, "one\n")
      process.poll(function() return http.get(proxy.port).body == "one" end, 5, "a worker with the old version")
      process.write_file(path, "")
      assert.equal("one", versions())
    end
    process.write_file(path, "three\n")
    process.poll(function() return versions() == "three" end, 5, "the third version")
    local function warnings() return select(2, proxy:errors():gsub("cannot be read again", "")) end
    local before = warnings() -- any of the above that was looked at while it was empty
    process.write_file(path, "")
    process.poll(function()
      assert.equal("three", versions())
      return warnings() > before
    end, 5, "the warning")
    for _ = 1, 3 do assert.equal("three", versions()) end
    assert.equal(before + 1, warnings())
  end)
end)

describe("jeton.secret.json", function()
  local KEY = "-----BEGIN PRIVATE KEY-----\nAB/C\n"
  local text = ('{ "type": "service_account", "private_key": %s, "client_email": "x@y", "n": 1, "data": { "k": "aGkA/w==" } }'):format(
    require "cjson".encode(KEY))

  it("is a field of a file, decoded if that is said, and of the file's new content", function()
    local path = file(text)
    assert.equal("true", start(("jeton.secret.json(%q, 'private_key')"):format(path), KEY))
    process.write_file(path, '{"private_key":"next"}')
    process.poll(function() return http.get(proxy.port).body == "false" end, 5, "the new content")
    proxy:finish()
    local nested = file(text)
    assert.equal("true", start(("jeton.secret.json(%q, { 'data', 'k' }, { decode = 'base64' })"):format(nested), "hi\0\255"))
    process.write_file(nested, '{"data":') -- half of it: the last content goes on serving
    process.poll(function() -- it is looked at when it is used
      assert.equal("true", http.get(proxy.port).body)
      return proxy:errors():find("its last content goes on serving: the file is not JSON", 1, true)
    end, 5, "the warning")
  end)

  for what, case in pairs {
    ["is not there"] = { "jeton.secret.json('/nowhere/x.json', 'k')", "jeton.secret.json: /nowhere/x.json: k: no such file" },
    ["is no JSON"] = { ("jeton.secret.json(%q, 'k')"):format(file "k = v"), "k: the file is not JSON" },
    ["has no such field"] = { ("jeton.secret.json(%q, { 'data', 'x' })"):format(file(text)), "data.x: it has no such field" },
    ["has a number there"] = { ("jeton.secret.json(%q, 'n')"):format(file(text)), "n: that field is not a string" },
    ["has no base64 there"] = { ("jeton.secret.json(%q, 'type', { decode = 'base64' })"):format(file(text)), "that field does not hold base64" },
    ["is asked for nothing"] = { ("jeton.secret.json(%q)"):format(file(text)), "field: expected a name, or a list of names from the outside in, got nil" },
    ["is to be decoded otherwise"] = { ("jeton.secret.json(%q, 'n', { decode = 'hex' })"):format(file(text)), 'decode: expected "base64" or "base64url", got "hex"' },
    ["is base64 in a file that is not"] = { ("jeton.secret.file(%q, { decode = 'base64' })"):format(file "a+b"), "does not hold base64" },
    ["is raw and decoded"] = { ("jeton.secret.file(%q, { decode = 'base64', raw = true })"):format(file "aaaa"), "one of them" },
  } do
    it("says of a file that " .. what .. " what is wrong, and not what it holds", function()
      local code, _, err = jeton.run { "check", process.write_file(dir .. "/policy.lua", ("local s = %s\nreturn { listen = '127.0.0.1:0', on_request = function() return s end }"):format(case[1])) }
      assert.equal(78, code)
      assert.is_truthy(err:find(case[2], 1, true), err)
      assert.is_nil(err:find("BEGIN", 1, true), err)
    end)
  end
end)

describe("jeton.secret.file with decode", function()
  it("is the bytes that the file holds in base64, in lines or not", function()
    assert.equal("true", start(("jeton.secret.file(%q, { decode = 'base64' })"):format(file "  aGkA\n/w==\r\n\n"), "hi\0\255"))
    proxy:finish()
    assert.equal("true", start(("jeton.secret.file(%q, { decode = 'base64url' })"):format(file "-_8\n"), "\251\255"))
  end)
end)
