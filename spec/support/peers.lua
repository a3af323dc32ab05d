--- Servers that nobody here wrote, started for a spec: an issuer with an upstream that checks its tokens, nginx, WebSocket; and the scripted TCP server.
local process = require "spec.support.process"
local http = require "spec.support.http"
local protocols = require "spec.support.protocols"
local cjson = require "cjson"
local socket = require "socket"
local uv = require "luv"

local M = {}
local here = uv.cwd() .. "/spec/support"

local function first_line(p)
  return process.poll(function()
    if p:ended() then error("a peer ended:\n" .. p:errors(), 0) end
    return p:output():match "^(.-)\n"
  end, 20, "a peer to print its ports")
end

---@class World: an oauth2-mock-server in front of which delays and failures can be ordered, and an upstream that believes only its tokens
local World = {}
World.__index = World

function World:order(orders)
  local res = assert(http.request(self.upstream, "POST", "/world", { ["Content-Type"] = "application/json" }, cjson.encode(orders)))
  assert(res.status == 200, res.body)
  return cjson.decode(res.body)
end
function World:stats() return cjson.decode(assert(http.get(self.upstream, "/world")).body) end
function World:stop() self.process:stop() end

--- See spec/support/peers/world.mjs for the orders.
function M.world(orders)
  local p = process.start { "node", here .. "/peers/world.mjs" }
  local ports = cjson.decode(first_line(p))
  local w = setmetatable({ process = p, issuer = math.tointeger(ports.issuer), upstream = math.tointeger(ports.upstream) }, World)
  w.token_url = ("http://127.0.0.1:%d/token"):format(w.issuer)
  w.upstream_url = ("http://127.0.0.1:%d"):format(w.upstream)
  if orders then w:order(orders) end
  return w
end

--- A policy over a world; `token` are extra keys of the token as Lua text, `more` extra keys of the policy.
function M.policy(w, token, more)
  return ([[
local oauth2 = require "jeton.oauth2"
return {
  listen = "127.0.0.1:0",
  upstream = %q,
  tokens = { api = oauth2.client_credentials {
    token_url = %q, client_id = "spec", client_secret = jeton.secret.value "s3cret-of-the-spec", %s
  } },
  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end,
  %s
}]]):format(w.upstream_url, w.token_url, token or "", more or "")
end

--- A scripted TCP server; `script` is the body of `function(c)` (spec/support/raw_upstream.lua). It serves HTTP/2, too, where the specs' upstreams do, or with h2 = true.
--- Returns { port, received() }.
function M.raw(script, h2)
  local log = process.temp_dir() .. "/received"
  local p = process.start({ "lua5.4", here .. "/raw_upstream.lua", log, "return function(c) " .. script .. " end" }, { env = { H2_UPSTREAM = (h2 or protocols.upstream == "h2") and "1" or nil } })
  return { port = tonumber(first_line(p)), process = p, received = function() return process.read_file(log) end }
end

--- A port that nobody listens on, right now.
function M.free_port()
  local probe = assert(socket.bind("127.0.0.1", 0))
  local _, port = probe:getsockname()
  probe:close()
  return math.tointeger(port)
end

--- A port whose queue is full, so that a connection to it hangs; call the second result when done.
function M.hanging_port()
  local server, fill = socket.tcp(), {}
  assert(server:bind("127.0.0.1", 0))
  assert(server:listen(0))
  local _, port = server:getsockname()
  for i = 1, 4 do
    fill[i] = socket.tcp()
    fill[i]:settimeout(0)
    fill[i]:connect("127.0.0.1", port)
  end
  return math.tointeger(port), function()
    for _, s in ipairs(fill) do s:close() end
    server:close()
  end
end

--- A directory with a throw-away authority and what it has signed (spec/support/ca.sh); it goes at the end of the spec.
function M.certificates()
  local dir = process.temp_dir()
  local code, _, err = process.run { "sh", here .. "/ca.sh", dir }
  assert(code == 0, err)
  return dir
end

--- oidc-provider (peers/oidc.mjs), over TLS with a directory of certificates: the process, and the ports and secrets that it tells.
function M.oidc(certificates)
  local p = process.start { "node", here .. "/peers/oidc.mjs", certificates }
  local told = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 30, "oidc-provider to start")
  return p, cjson.decode(told)
end

--- An imitation of AWS that checks signatures with AWS's own library and another one (peers/aws.mjs): { port, h2_port, process }.
function M.aws()
  local p = process.start { "node", here .. "/peers/aws.mjs" }
  local ports = cjson.decode(first_line(p))
  return { port = math.tointeger(ports.port), h2_port = math.tointeger(ports.h2_port), process = p }
end

--- dynalite and s3rver (peers/aws-servers.mjs): { dynamodb, s3, process }, the first two ports.
function M.aws_servers()
  local p = process.start { "node", here .. "/peers/aws-servers.mjs", process.temp_dir() }
  local ports = cjson.decode(first_line(p))
  return { dynamodb = math.tointeger(ports.dynamodb), s3 = math.tointeger(ports.s3), process = p }
end

--- A server of RFC 7616 that counts nonces (peers/digest.mjs): { port, process }.
function M.digest()
  local p = process.start { "node", here .. "/peers/digest.mjs" }
  return { port = math.tointeger(tonumber(first_line(p))), process = p }
end

--- The imitation of clouds (peers/clouds.mjs) for the credentials in a directory: app.pub, cert.pem and app.key. Returns { port, tls_port, process }.
function M.clouds(directory)
  local p = process.start { "node", here .. "/peers/clouds.mjs", directory .. "/app.pub", directory .. "/cert.pem", directory .. "/app.key" }
  local ports = cjson.decode(first_line(p))
  return { port = math.tointeger(ports.port), tls_port = math.tointeger(ports.tls_port), process = p }
end

--- oidc-provider with further grants and DPoP, before an upstream that checks proofs (peers/grants.mjs): the process, and the ports and secrets that it tells.
function M.grants(certificates)
  local p = process.start { "node", here .. "/peers/grants.mjs", certificates }
  local told = process.poll(function() return p:ended() and error(p:errors()) or p:output():match "^(.-)\n" end, 30, "oidc-provider to start")
  return p, cjson.decode(told)
end

--- nginx with the given server block's content; listen_options: "ssl". Returns { port }.
function M.nginx(server, listen_options)
  local dir = process.temp_dir()
  local port = M.free_port()
  if protocols.upstream == "h2" then listen_options = (listen_options or "") .. " http2" end
  process.write_file(dir .. "/nginx.conf", ([[
daemon off; master_process off; worker_processes 1; pid %s/pid; error_log %s/error.log info;
events { worker_connections 4096; }
http {
  access_log %s/access.log; client_body_temp_path %s/body; proxy_temp_path %s/proxy; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;
  keepalive_requests 1000000;
  server { listen 127.0.0.1:%d %s; %s }
}]]):format(dir, dir, dir, dir, dir, dir, dir, dir, port, listen_options or "", server))
  local p = process.start { "/usr/sbin/nginx", "-p", dir, "-e", dir .. "/error.log", "-c", dir .. "/nginx.conf" }
  process.poll(function()
    local c = socket.connect("127.0.0.1", port)
    if c then c:close() end
    return c or p:ended()
  end, 10, "nginx to listen")
  return { port = port, process = p, dir = dir, log = function() return process.read_file(dir .. "/access.log") end }
end

--- curl with these arguments: code, stdout, stderr. It speaks the specs' protocol, unless they say which.
function M.curl(...)
  local said = table.concat({ ... }, " ")
  local h2 = said:find "https:" and "--http2" or "--http2-prior-knowledge"
  local version = said:find "%-%-http" and "-sS" or protocols.client == "h2" and h2 or "--http1.1"
  return process.run { "curl", "-sS", version, "--max-time", "20", ... }
end

return M
