--- The control socket where others may write: what a stranger has put there is asked nothing, and told as what it is. Needs root, to be two other users.
local uv = require "luv"
local jeton = require "spec.support.jeton"
local process = require "spec.support.process"

local ONE, OTHER = "61234", "61235"

local function as(uid) return { "setpriv", "--reuid", uid, "--regid", uid, "--clear-groups" } end

local function command(uid, ...)
  local argv = as(uid)
  argv[#argv + 1] = jeton.binary
  for _, a in ipairs { ... } do argv[#argv + 1] = a end
  return process.run(argv, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
end

describe("a control socket in a directory of everybody's", function()
  if uv.getuid() ~= 0 then return end

  local dir, path, stranger

  setup(function()
    dir = process.temp_dir()
    assert(uv.fs_chmod(dir, tonumber("777", 8)))
    path = dir .. "/jeton.sock"
    local policy = process.write_file(dir .. "/policy.lua", 'return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }')
    assert(uv.fs_chmod(policy, tonumber("644", 8)))
    local argv = as(ONE)
    for _, a in ipairs { jeton.binary, "run", policy, "--control", path, "--workers", "1" } do argv[#argv + 1] = a end
    stranger = process.start(argv, { env = { JETON_SCRIPTS = jeton.root .. "/scripts" } })
    process.poll(function() return stranger:ended() or stranger:errors():find("ready", 1, true) end, 15, function() return stranger:errors() end)
    assert.is_nil(stranger.code, stranger:errors())
    assert(uv.fs_chmod(path, tonumber("777", 8))) -- as a squatter would, who wants to be asked
  end)
  teardown(function() stranger:stop() end)

  it("is asked nothing by another user", function()
    for _, what in ipairs { "status", "reload", "stop" } do
      local code, out, err = command(OTHER, what, "--control", path)
      assert.equal(77, code, err)
      assert.equal("", out)
      assert.matches("is another user's %(uid " .. ONE .. "%), so it was asked nothing; %-%-control names", err)
    end
  end)

  it("is asked by its own user, and by root", function()
    local code, out, err = command(ONE, "status", "--control", path)
    assert.equal(0, code, err)
    assert.matches("policy", out)
    assert.equal(0, (jeton.run { "status", "--control", path }))
  end)

  it("that belongs to another user is told as that, not as another jeton", function()
    local code, _, err = command(OTHER, "run", dir .. "/policy.lua", "--control", path)
    assert.equal(69, code, err)
    assert.matches("belongs to another user %(uid " .. ONE .. "%)", err)
    assert.is_nil(err:find("another jeton answers", 1, true))
  end)
end)
