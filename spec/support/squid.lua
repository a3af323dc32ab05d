--- squid (Debian) as a parent proxy: what asks it, what it allows, and what it logs.
local process = require "spec.support.process"
local peers = require "spec.support.peers"
local socket = require "socket"
local uv = require "luv"

local M = {}

---@class Squid
---@field port integer
---@field process Process
local Squid = {}
Squid.__index = Squid

--- Its log, a line a request or tunnel, written when that ends: "STATUS METHOD TARGET USER".
function Squid:log() return process.read_file(self.dir .. "/access.log") end
function Squid:url(userinfo) return ("http://%s127.0.0.1:%d"):format(userinfo and userinfo .. "@" or "", self.port) end
function Squid:stop() return self.process:stop() end

--- options: user and password (none: nobody is asked), hosts = { [name] = address }, rules (instead of "http_access allow …"), port.
function M.start(options)
  options = options or {}
  local dir, port = process.temp_dir(), options.port or peers.free_port()
  assert(uv.fs_chmod(dir, 511)) -- root's squid becomes another user
  local hosts = {}
  for name, address in pairs(options.hosts or {}) do hosts[#hosts + 1] = address .. " " .. name end
  process.write_file(dir .. "/hosts", table.concat(hosts, "\n") .. "\n")
  local auth = ""
  if options.user then
    local _, hash = process.run { "openssl", "passwd", "-apr1", options.password }
    process.write_file(dir .. "/users", ("%s:%s"):format(options.user, hash))
    auth = ("auth_param basic program /usr/lib/squid/basic_ncsa_auth %s/users\nauth_param basic realm spec\nacl known proxy_auth REQUIRED\n"):format(dir)
  end
  process.write_file(dir .. "/squid.conf", ([[
http_port 127.0.0.1:%d
pid_filename none
visible_hostname squid.test
logformat spec %%>Hs %%rm %%ru %%un
access_log stdio:%s/access.log logformat=spec
cache_log %s/cache.log
cache deny all
cache_mem 8 MB
coredump_dir %s
hosts_file %s/hosts
netdb_filename none
shutdown_lifetime 0 seconds
dns_timeout 1 seconds
connect_timeout 2 seconds
%s%s
http_access deny all
]]):format(port, dir, dir, dir, dir, auth, options.rules or (options.user and "http_access allow known" or "http_access allow all")))
  local p = process.start { "/usr/sbin/squid", "-N", "-n", "spec" .. port, "-f", dir .. "/squid.conf" }
  process.poll(function()
    local c = socket.connect("127.0.0.1", port)
    if c then c:close() end
    return c or p:ended() and error("squid ended:\n" .. p:errors() .. process.read_file(dir .. "/cache.log"), 0)
  end, 20, function() return "squid to listen:\n" .. process.read_file(dir .. "/cache.log") end)
  return setmetatable({ port = port, process = p, dir = dir }, Squid)
end

return M
