--- The proxies that are compared, and the origin behind them. Each constructor starts one, pinned, and returns { name, pid, url, stop }.
--- All of them: kept-alive connections both ways, no access log unless asked for, no limits that a measurement would meet.
local process = require "spec.support.process"
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local peers = require "spec.support.peers"
local socket = require "socket"
local machine = require "spec.bench.lib.machine"
local build = require "spec.bench.lib.build"
local policies = require "spec.bench.lib.policies"
local uv = require "luv"

local M = {}

local function listening(p, port)
  process.poll(function()
    if p:ended() then error(p.name .. " ended:\n" .. p:output() .. p:errors(), 0) end
    local c = socket.connect("127.0.0.1", port)
    if c then c:close() end
    return c
  end, 10, function() return p.name .. " to listen; " .. p:errors() end)
end

---@class Peer
---@field name string
---@field pid integer
---@field port integer
---@field url string
local Peer = {}
Peer.__index = Peer

function Peer:stop() self.process:stop(5) end

local function peer(name, p, port, secure)
  return setmetatable({ name = name, process = p, pid = p.pid, port = port, url = ("%s://127.0.0.1:%d"):format(secure and "https" or "http", port) }, Peer)
end

--- A program of ours that prints "port N".
local function printing(name, core, argv)
  local p = process.start(machine.pinned(core, argv))
  local port = process.poll(function()
    if p:ended() then error(name .. " ended:\n" .. p:errors(), 0) end
    return p:output():match "port (%d+)"
  end, 10, name .. " to print its port")
  return peer(name, p, math.tointeger(tonumber(port)))
end

function M.origin()
  local origin = printing("origin", machine.cores.load, { build.c("peers", "origin") })
  --- requests, received and sent so far: bytes of bodies, unfinished ones included.
  function origin.stats(self)
    local counts = {}
    for name, value in assert(http.get(self.port, "/stats")).body:gmatch "(%w+)=(%d+)" do counts[name] = tonumber(value) end
    return counts
  end
  return origin
end

--- The same answers over HTTP/2 with prior knowledge.
function M.h2_origin()
  local origin = printing("origin, HTTP/2", machine.cores.load, { build.c("peers", "h2_origin", { "-lnghttp2" }) })
  origin.http2 = true
  function origin.stats(self)
    local counts = {}
    local code, out = process.run { "curl", "-sS", "--max-time", "10", "--http2-prior-knowledge", self.url .. "/stats" }
    if code ~= 0 then error("no figures of the origin: " .. out, 0) end
    for name, value in out:gmatch "(%w+)=(%d+)" do counts[name] = tonumber(value) end
    return counts
  end
  return origin
end

function M.relay(origin) return printing("relay", machine.cores.proxy, { build.c("peers", "relay"), tostring(origin.port) }) end
function M.go(origin) return printing("Go, token behind RWMutex", machine.cores.proxy, { build.go("peers", "proxy"), tostring(origin.port) }) end

local NGINX = [[
daemon off; worker_processes %d; pid %s/pid; error_log %s/error.log warn; %s
events { worker_connections 12000; }
http {
  access_log %s; client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;
  keepalive_requests 1000000000; keepalive_timeout 600; tcp_nodelay on; client_max_body_size 0;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; proxy_max_temp_file_size 0;
  client_body_buffer_size 64k; proxy_buffer_size 16k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
  upstream origin { server 127.0.0.1:%d; keepalive 1024; keepalive_requests 1000000000; }
  %s
  server { listen 127.0.0.1:%d%s backlog=4096; %s location / { proxy_pass http://origin; %s } }
}]]

--- options: name, workers, log (true: an access log), tls (a directory with cert.pem and key.pem), modules, http and location (nginx's own text).
function M.nginx(origin, options)
  options = options or {}
  local dir, port = process.temp_dir(), peers.free_port()
  local tls = options.tls and ("ssl_certificate %s/cert.pem; ssl_certificate_key %s/key.pem; ssl_protocols %s; ssl_session_cache shared:bench:16m;")
    :format(options.tls, options.tls, options.protocols) or ""
  process.write_file(dir .. "/nginx.conf", NGINX:format(
    options.workers or 1, dir, dir, (options.modules or "") .. (uv.getuid() == 0 and " user root;" or ""),
    options.log and dir .. "/access.log" or "off", dir, dir, dir, dir, dir,
    origin.port, options.http or "", port, options.tls and " ssl" or "", tls, options.location or ""))
  local core = (options.workers or 1) > 1 and machine.cores.both or machine.cores.proxy
  local p = process.start(machine.pinned(core, { "/usr/sbin/nginx", "-p", dir, "-e", dir .. "/error.log", "-c", dir .. "/nginx.conf" }))
  listening(p, port)
  return peer(options.name or "nginx", p, port, options.tls)
end

--- The token in a shared dictionary, which expires it; replaced every second by a timer of the first worker.
function M.nginx_lua(origin)
  return M.nginx(origin, {
    name = "nginx with Lua, token",
    modules = "load_module /usr/lib/nginx/modules/ndk_http_module.so; load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;",
    http = [[
lua_package_path "/usr/share/lua/5.1/?.lua;;"; lua_shared_dict tokens 1m;
init_worker_by_lua_block {
  if ngx.worker.id() ~= 0 then return end
  local n = 0
  local function refresh()
    n = n + 1
    ngx.shared.tokens:set("api", ("token-%032d"):format(n), 10)
  end
  refresh()
  ngx.timer.every(1, refresh)
}]],
    location = [[
access_by_lua_block {
  local token = ngx.shared.tokens:get("api")
  if not token then return ngx.exit(503) end
  ngx.req.set_header("Authorization", "Bearer " .. token)
}]],
  })
end

local HAPROXY = [[
global
  nbthread 1
  maxconn %d
  %s
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 60s
  timeout http-keep-alive 600s
  http-reuse always
frontend clients
  bind 127.0.0.1:%d
  %s
  default_backend origin
backend origin
  server origin 127.0.0.1:%d pool-max-conn 1024%s
]]

local function haproxy(origin, name, global, frontend)
  local dir, port = process.temp_dir(), peers.free_port()
  process.write_file(dir .. "/haproxy.cfg", HAPROXY:format(math.min(12000, machine.connections_allowed()), global or "", port, frontend or "", origin.port,
    origin.http2 and " proto h2" or ""))
  local p = process.start(machine.pinned(machine.cores.proxy, { "/usr/sbin/haproxy", "-db", "-f", dir .. "/haproxy.cfg" }))
  listening(p, port)
  return peer(name, p, port)
end

function M.haproxy(origin) return haproxy(origin, "HAProxy") end

--- The token in a variable of the script, replaced every second by a task.
function M.haproxy_lua(origin)
  local script = process.write_file(process.temp_dir() .. "/token.lua", [[
local token = "token-0"
core.register_task(function()
  local n = 0
  while true do
    n = n + 1
    token = ("token-%032d"):format(n)
    core.msleep(1000)
  end
end)
core.register_action("token", { "http-req" }, function(txn) txn.http:req_set_header("authorization", "Bearer " .. token) end)
]])
  return haproxy(origin, "HAProxy with Lua, token", "lua-load " .. script, "http-request lua.token")
end

function M.nghttpx(origin)
  local port = peers.free_port()
  local p = process.start(machine.pinned(machine.cores.proxy, {
    "nghttpx", "--conf=/dev/null", "--workers=1", "--accesslog-file=/dev/null", "--log-level=ERROR", ("--frontend=127.0.0.1,%d;no-tls"):format(port),
    ("--backend=127.0.0.1,%d%s"):format(origin.port, origin.http2 and ";;proto=h2" or ""), "--backlog=4096",
    "--no-via", "--no-server-rewrite", "--no-location-rewrite", "--frontend-http2-read-timeout=600s", "--frontend-read-timeout=600s",
    "--frontend-keep-alive-timeout=600s", "--stream-read-timeout=600s",
  }))
  listening(p, port)
  return peer("nghttpx", p, port)
end

--- kind: a name of spec/bench/lib/policies.lua. options: workers, tls, binary, name, prefix (a command to run it with), env.
function M.jeton(origin, kind, options)
  options = options or {}
  local policy = policies[kind]
  local core = (options.workers or 1) > 1 and machine.cores.both or machine.cores.proxy
  local binary = options.binary or uv.cwd() .. "/build/jeton"
  local p = jeton.start {
    policy = policies.text(origin, policy, options), workers = options.workers, prefix = machine.pinned(core, options.prefix or {}),
    binary = binary, env = options.env,
  }
  local out = peer(options.name or "jeton, " .. policy.name, p, p.port, options.tls)
  out.jeton, out.binary = p, binary
  return out
end

--- Fails unless the peer forwards, and sends a token exactly if it is one that should. http2: asked with prior knowledge.
function M.check(p, wants_token, http2)
  local code, out = process.run { "curl", "-sSk", "--max-time", "10", http2 and "--http2-prior-knowledge" or "--http1.1", "-H", "X-Tenant: acme", p.url .. "/echo" }
  local head = out:lower()
  local token = head:match "authorization: bearer (%S+)"
  if code ~= 0 or not head:find("x-tenant: acme", 1, true) then
    error(("%s does not forward: curl %d, %s"):format(p.name, code, out), 0)
  end
  if (token ~= nil) ~= wants_token then error(("%s: expected %s token, the origin got: %s"):format(p.name, wants_token and "a" or "no", out), 0) end
end

return M
