--- Child processes of the specs: started with their output in files, waited for with a deadline, ended by id, always.
local uv = require "luv"

local M = {}
local running = {}

--- By how much all deadlines are stretched: by the tasks that want a processor each, up to eightfold. On a quiet machine they are what the specs say.
local function patience() return math.max(1, math.min(8, uv.loadavg() / #uv.cpu_info())) end

--- A time that nothing may take longer than, stretched likewise.
function M.stretched(seconds) return seconds * patience() end

--- Calls `probe` until it returns a true value, which is returned; fails after `seconds` (5) with `what` in the message.
function M.poll(probe, seconds, what)
  seconds = (seconds or 5) * patience()
  local deadline = uv.hrtime() + seconds * 1e9
  while true do
    local value = probe()
    if value then return value end
    if uv.hrtime() > deadline then
      error(("not within %.3g s: %s"):format(seconds, type(what) == "function" and what() or what or "the condition"), 2)
    end
    uv.run "nowait"
    uv.sleep(5)
  end
end

function M.read_file(path)
  local f = io.open(path, "rb")
  if not f then return "" end
  local text = f:read "a"
  f:close()
  return text
end

function M.write_file(path, text)
  local f = assert(io.open(path, "wb"))
  f:write(text)
  f:close()
  return path
end

local function remove_tree(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    if kind == "directory" then remove_tree(path .. "/" .. name) else uv.fs_unlink(path .. "/" .. name) end
  end
  uv.fs_rmdir(path)
end

local dirs = {}
--- A directory that goes at the end of the spec.
function M.temp_dir()
  local dir = assert(uv.fs_mkdtemp "/tmp/jeton-spec-XXXXXX")
  dirs[#dirs + 1] = dir
  return dir
end

---@class Process
---@field pid integer
---@field code? integer exit code, once it has ended
---@field signal? integer
local Process = {}
Process.__index = Process

function Process:output() return M.read_file(self.stdout_path) end
function Process:errors() return M.read_file(self.stderr_path) end
function Process:ended() uv.run "nowait" return self.code ~= nil end
function Process:kill(signal) if not self:ended() then uv.kill(self.pid, signal or "sigterm") end end
--- Waits for its end; returns code, signal.
function Process:wait(seconds)
  M.poll(function() return self:ended() end, seconds or 10, function() return self.name .. " to end; stderr: " .. self:errors():sub(-2000) end)
  return self.code, self.signal
end
--- Ends it: asks, then forces. Returns code, signal.
function Process:stop(seconds)
  self:kill "sigterm"
  local ok = pcall(function() self:wait(seconds or 10) end)
  if not ok then
    self:kill "sigkill"
    self:wait(5)
  end
  return self.code, self.signal
end

--- @param argv string[] program and arguments
--- @param options? { env?: table<string,string>, cwd?: string, stdin?: string }
function M.start(argv, options)
  options = options or {}
  local dir = M.temp_dir()
  local p = setmetatable({ name = argv[1], stdout_path = dir .. "/stdout", stderr_path = dir .. "/stderr" }, Process)
  local out = assert(uv.fs_open(p.stdout_path, "w", 384))
  local err = assert(uv.fs_open(p.stderr_path, "w", 384))
  local input = options.stdin and assert(uv.fs_open(options.stdin, "r", 0)) or nil
  local env = {}
  for name, value in pairs(uv.os_environ()) do
    if not (options.env and options.env[name]) then env[#env + 1] = name .. "=" .. value end
  end
  for name, value in pairs(options.env or {}) do env[#env + 1] = name .. "=" .. value end
  local handle, pid = uv.spawn(argv[1], {
    args = { table.unpack(argv, 2) }, env = env, cwd = options.cwd, stdio = { input, out, err },
  }, function(code, signal)
    p.code, p.signal = code, signal
    running[p] = nil
    p.handle:close()
  end)
  uv.fs_close(out)
  uv.fs_close(err)
  if input then uv.fs_close(input) end
  if not handle then error(("cannot start %s: %s"):format(argv[1], pid), 2) end
  p.handle, p.pid = handle, pid
  running[p] = true
  return p
end

--- Runs to the end. Returns code, stdout, stderr.
function M.run(argv, options)
  local p = M.start(argv, options)
  local code = p:wait(options and options.timeout or 30)
  return code, p:output(), p:errors()
end

--- Ends everything that a spec left behind.
function M.clean()
  for p in pairs(running) do p:stop(5) end
  for _, dir in ipairs(dirs) do remove_tree(dir) end
  dirs = {}
end

return M
