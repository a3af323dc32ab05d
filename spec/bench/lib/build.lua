--- Builds the suite's own programs, when their source is newer: build/bench/NAME.
local process = require "spec.support.process"
local uv = require "luv"

local M = {}
local root = uv.cwd()
M.dir = root .. "/build/bench"

local CC = { "gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Werror" }

local function newer(a, b)
  local sa, sb = uv.fs_stat(a), uv.fs_stat(b)
  return sa and (not sb or sa.mtime.sec > sb.mtime.sec)
end

local function compile(source, target, argv, options)
  if not newer(source, target) then return target end
  uv.fs_mkdir(root .. "/build", 493)
  uv.fs_mkdir(M.dir, 493)
  options = options or {}
  options.timeout = 300
  local code, out, err = process.run(argv, options)
  if code ~= 0 then error("cannot build " .. source .. ":\n" .. out .. err, 0) end
  return target
end

--- spec/bench/DIR/NAME.c; `more` are further arguments.
function M.c(dir, name, more)
  local source, target = ("%s/spec/bench/%s/%s.c"):format(root, dir, name), M.dir .. "/" .. name
  local argv = { table.unpack(CC) }
  table.move({ source, "-o", target, table.unpack(more or {}) }, 1, 3 + #(more or {}), #argv + 1, argv)
  return compile(source, target, argv)
end

--- spec/bench/DIR/NAME.go, with nothing but the standard library.
function M.go(dir, name)
  local source, target = ("%s/spec/bench/%s/%s.go"):format(root, dir, name), M.dir .. "/" .. name .. "-go"
  return compile(source, target, { "go", "build", "-o", target, source },
    { env = { GOFLAGS = "-mod=mod", GO111MODULE = "off", GOCACHE = M.dir .. "/go-cache", GOTOOLCHAIN = "local" } })
end

return M
