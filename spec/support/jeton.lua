--- The program under test, as a user runs it.
local process = require "spec.support.process"
local http = require "spec.support.http"
local protocols = require "spec.support.protocols"
local cjson = require "cjson"

local M = {}
local uv = require "luv"
M.root = assert(uv.cwd())
M.binary = os.getenv "JETON_BINARY" or M.root .. "/build/asan/jeton"
-- Sanitized binaries are several times slower: limits in specs are stretched by this.
M.slow = tonumber(os.getenv "JETON_SLOW" or "1")

---@class Jeton: Process
local Jeton = {}

function Jeton:reload_file(text) process.write_file(self.policy, protocols.policy(text)) end
function Jeton:control(method, path)
  local res = assert(http.request("unix:" .. self.control_path, method, path, nil, method == "POST" and "" or nil, 15))
  local ok, body = pcall(cjson.decode, res.body)
  return res, ok and body or nil
end
function Jeton:status()
  local res, body = self:control("GET", "/status")
  assert(res.status == 200 and body, res.body)
  return body
end
--- How many upstream connections it has made; its gauges are up to date every quarter of a second.
function Jeton:dialed()
  local count
  process.poll(function()
    count = 0
    for _, w in ipairs(self:status().workers) do count = count + w.upstream_dialed end
    return count > 0
  end, 5, "an upstream connection")
  return math.tointeger(count)
end
--- Ends it and checks that it ended well: sanitizers and leaks make the exit code something else than 0.
function Jeton:finish(seconds)
  self:kill "sigterm"
  local code, signal = self:wait(seconds or 15)
  if code ~= 0 then error(("jeton ended with code %s signal %s:\n%s"):format(code, signal, self:errors():sub(-6000)), 2) end
end
--- Waits for text (a plain substring) in its log.
function Jeton:wait_log(text, seconds)
  process.poll(function() return self:errors():find(text, 1, true) end, seconds or 5, function() return ("%q in the log:\n%s"):format(text, self:errors()) end)
end
--- The port of its n-th address.
function Jeton:port_of(n)
  local i = 0
  for address in self:errors():gmatch "listening on (%S+)" do
    i = i + 1
    local port = tonumber(address:match ":(%d+)$")
    if port then protocols.ports[port] = true end
    if i == (n or 1) then return port, address end
  end
end

--- Starts `jeton run`. options: policy (text; wants listen "127.0.0.1:0"), file (path instead), args, env, workers (1), wait (false: does not wait for ready),
--- binary (another than M.binary), prefix (a list: the command that runs it, such as taskset).
function M.start(options)
  if type(options) == "string" then options = { policy = options } end
  local dir = process.temp_dir()
  local path = options.file or process.write_file(dir .. "/policy.lua", protocols.policy(options.policy))
  local argv = { table.unpack(options.prefix or {}) }
  for _, a in ipairs { options.binary or M.binary, "run", path, "--control", dir .. "/control.sock", "--workers", tostring(options.workers or 1) } do argv[#argv + 1] = a end
  for _, a in ipairs(options.args or {}) do argv[#argv + 1] = a end
  local env = { JETON_SCRIPTS = M.root .. "/scripts" }
  for k, v in pairs(options.env or {}) do env[k] = v end
  local p = process.start(argv, { env = env })
  local base = getmetatable(p)
  setmetatable(p, { __index = function(_, k) return Jeton[k] or base[k] end })
  p.policy, p.dir, p.control_path = path, dir, dir .. "/control.sock"
  if options.wait ~= false then
    process.poll(function() return p:ended() or p:errors():find("ready", 1, true) end, 15, function() return "jeton ready; log:\n" .. p:errors() end)
    if p.code then error("jeton ended with code " .. p.code .. ":\n" .. p:errors(), 2) end
    p.port = p:port_of(1)
  end
  return p
end

--- Runs any command of the program to its end: code, stdout, stderr.
function M.run(args, options)
  return process.run({ M.binary, table.unpack(args) }, options)
end

--- What each of some expressions raises in a policy's file, told by one `jeton check`: a function text → the message behind "policy.lua:LINE: ", where LINE is the
--- expression's own; it fails for one that raises nothing, or at another line. cases: a table whose keys are the texts, of one line each, behind `head`;
--- put(text): what stands in the policy for a text, once a spec knows its directories and ports.
function M.refusals(head, cases, put)
  local told
  local function ask()
    local lines, texts = { put(head):gsub("\n", " ") .. " local function try(i, f) print(i, select(2, pcall(f))) end" }, {}
    for text in pairs(cases) do
      texts[#texts + 1] = text
      lines[#texts + 1] = ("try(%d, function() local _ = %s end)"):format(#texts, put(text))
    end
    lines[#lines + 1] = 'return { listen = "127.0.0.1:0", upstream = "http://127.0.0.1:1" }'
    local code, out, err = M.run { "check", process.write_file(process.temp_dir() .. "/policy.lua", table.concat(lines, "\n")) }
    assert(code == 0, out .. err)
    told = {}
    for i, text in ipairs(texts) do told[text] = (out .. err):match(("policy.lua:1: %d\\x09policy.lua:%d: ([^\n]*)"):format(i, i + 1)) or false end
  end
  return function(text)
    if not told then ask() end
    return told[text] or error("raises nothing there: " .. text, 2)
  end
end

return M
