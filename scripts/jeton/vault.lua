--- HashiCorp Vault and OpenBao: logins, dynamic secrets whose leases are renewed, and what stands in the KV engine.
--
--   local login = vault.approle { url = "https://vault:8200", role_id = "…", secret_id = jeton.secret.file "…" }
--   tokens = { vault = login }                                                                           -- for Vault itself as upstream
--   tokens = { db = vault.dynamic { login = login, path = "database/creds/reports", value = "password", fields = { "username" } } }
--   tokens = { key = vault.kv { login = login, path = "reports/api", value = "key" } }
--
-- What is read hangs on the client token that it was read with: Vault revokes all leases of a token that ends. So each secret logs in for itself, and
-- its life is never longer than that of its client token, which is renewed with it. Both are kept beside the value, as fields, where a reload finds them.
-- Sources: Vault's HTTP API, "Tokens" (hierarchies, periodic and batch tokens), "Lease, renew, and revoke".

local issuer = require "jeton.issuer"
local names = require "jeton.names"

local M = {}

local WHO = "Vault"
local LIFETIME = 3600 -- seconds: of what has no lease, as a root token
local KV_LIFETIME = 300 -- seconds: KV tells no end, so that a change is noticed after these
local FEWER = 1.1 -- a renewal that gives less than this over what is left has met max_ttl

-- Vault's API ---------------------------------------------------------------------------------------------------------------------------------

--- request: method, path behind /v1/, token (nil: none), json. As issuer.ask.
---@async
local function ask(options, request)
  return issuer.ask(options, WHO, {
    method = request.method or "POST",
    url = ("%s/v1/%s"):format(options.url, request.path),
    headers = { ["x-vault-token"] = request.token, ["x-vault-namespace"] = options.namespace, ["x-vault-request"] = "true" },
    json = request.json,
  })
end

local function escaped(path) return jeton.url.escape((path:gsub("^/+", "")), "/") end

--- `auth` of a login or renewal: { token, life, renewable }; or nil, message.
local function read_auth(body, token)
  local auth = type(body.auth) == "table" and body.auth or {}
  if not token and (type(auth.client_token) ~= "string" or auth.client_token == "") then return nil, "Vault's reply has no auth.client_token" end
  local life = tonumber(auth.lease_duration) or 0
  if life <= 0 and not token then life = LIFETIME end -- of a login 0 means no end, of a renewal less than a second
  return { token = token or auth.client_token, life = life, renewable = auth.renewable == true }
end

--- Did Vault say no, and not just nothing? Then another way is tried.
local function refused(res) return res ~= nil and res.status >= 400 and res.status < 500 and res.status ~= 429 end

--- A renewed session; false when there is to be another login; or nil, message, how.
---@async
local function renew_self(options, token)
  local body, why, how, res = ask(options, { path = "auth/token/renew-self", token = token, json = { increment = options.increment } })
  if body then return read_auth(body, token) end
  if refused(res) then return false end
  return nil, why, how
end

-- logins --------------------------------------------------------------------------------------------------------------------------------------

--- By a login's token table: { options, log_in = function(options) → session, own = boolean }. For as long as the VM: a policy's file makes a few.
local logins = {}

local function is_login(value)
  return (type(value) ~= "table" or logins[value] == nil) and "a login such as vault.approle { … }" or nil
end

--- Is what is at hand to be renewed, rather than had anew? Not what was refused, nor what an operator or another policy wants to be another.
local function may_renew(ctx) return ctx.reason == "expiring" and ctx.previous ~= nil and ctx.previous.expires_in > 0 end

local function lasts(life, ctx) return life > ctx.previous.expires_in * FEWER end

local function result_of(session)
  return { value = session.token, expires_in = session.life, fields = { renewable = session.renewable and "yes" or nil } }
end

--- The fetch of a login that is a token itself.
---@async
local function fetch_login(log_in, options, ctx)
  if may_renew(ctx) and ctx.previous:field "renewable" then
    local session, why, how = renew_self(options, ctx.previous:field())
    if session == nil then return nil, why, how end
    if session and lasts(session.life, ctx) then return result_of(session) end
  end
  local session, why, how = log_in(options)
  if not session then return nil, why, how end
  return result_of(session)
end

--- Of a revocation: true, or nil, message. What Vault refuses to revoke is gone already; what else is not revoked ends by itself.
local function revoked(body, why, _, res)
  if body or refused(res) then return true end
  return nil, why
end

--- Ends a client token, and with it all leases that hang on it.
---@async
local function revoke_self(options, token) return revoked(ask(options, { path = "auth/token/revoke-self", token = token })) end

--- The options of each login, with its own beside them.
local function login_options(more)
  more.url = { issuer.url, base = true, needed = true }
  more.namespace = { issuer.text }
  more.increment = { issuer.whole_seconds }
  return more
end

--- A client token is for Vault alone.
local function own_hosts(options)
  local url = jeton.url.parse(options.url)
  local host = url.host:find(":", 1, true) and "[" .. url.host .. "]" or url.host
  return { ("%s%s:%d"):format(url.scheme == "http" and "http://" or "", host, url.port) }
end

--- A function for policies. log_in(options) → session, or nil, message, how. own: whether jeton made the client token, and may revoke it.
local function login(name, options, log_in, own)
  return issuer.new {
    name = "vault." .. name,
    options = login_options(options),
    check = function(mine)
      local _, bad = jeton.url.parse(mine.url)
      if bad then error("url: " .. bad, 0) end
    end,
    fetch = function(mine, ctx) return fetch_login(log_in, mine, ctx) end,
    release = own and function(mine, ctx) return revoke_self(mine, ctx.previous:field()) end or nil,
    token = function(token, mine)
      logins[token] = { options = mine, log_in = log_in, own = own }
      token.hosts = token.hosts or own_hosts(mine)
    end,
  }
end

--- A login at auth/MOUNT/login with what `credentials` makes of the options; that is nil, message where it cannot.
local function by_mount(credentials)
  return function(options)
    local json, why = credentials(options)
    if not json then return nil, why end
    local body, how
    body, why, how = ask(options, { path = ("auth/%s/login"):format(escaped(options.mount)), json = json })
    if not body then return nil, why, how end
    return read_auth(body)
  end
end

---@type fun(options: jeton.vault.approle): jeton.token_options
M.approle = login("approle", {
  role_id = { issuer.credential, needed = true, by_key = true },
  secret_id = { issuer.secret, by_key = true }, -- none for a role with bind_secret_id=false
  mount = { issuer.text, default = "approle" },
}, by_mount(function(options) return { role_id = options.role_id, secret_id = options.secret_id } end), true)

local function jwt_login(name, file)
  return login(name, {
    role = { issuer.text, needed = true, by_key = true },
    token = { issuer.secret, needed = not file, by_key = true },
    mount = { issuer.text, default = name },
  }, by_mount(function(options)
    if options.token then return { role = options.role, jwt = options.token } end
    local text, why = jeton.file.read(file, { max = "64k" }) -- as such: a secret's file would warn that everybody may read it, as it is mounted
    if not text then return nil, "token: " .. why end
    return { role = options.role, jwt = jeton.secret.value(text:match "^%s*(.-)%s*$") }
  end), true)
end

--- By the token of the pod's service account, which the cluster renews in its file.
---@type fun(options: jeton.vault.kubernetes): jeton.token_options
M.kubernetes = jwt_login("kubernetes", "/var/run/secrets/kubernetes.io/serviceaccount/token")

--- By a JWT of another issuer.
---@type fun(options: jeton.vault.jwt): jeton.token_options
M.jwt = jwt_login "jwt"

--- A client token that somebody else has made, as Vault's agent does. It is renewed if it can be, and never revoked.
---@type fun(options: jeton.vault.token): jeton.token_options
M.token = login("token", { token = { issuer.secret, needed = true, by_key = true } }, function(options)
  local body, why, how = ask(options, { method = "GET", path = "auth/token/lookup-self", token = options.token })
  if not body then return nil, why, how end
  local data = body.data
  if type(data) ~= "table" then return nil, "Vault's reply has no data" end
  local life = tonumber(data.ttl) or 0
  if life <= 0 and type(data.expire_time) ~= "string" then return { token = options.token, life = LIFETIME, renewable = false } end -- 0 in its last second, too
  if data.renewable ~= true then return { token = options.token, life = life, renewable = false } end
  local session
  session, why, how = renew_self(options, options.token)
  if session == nil then return nil, why, how end
  return session or { token = options.token, life = life, renewable = false }
end, false)

-- secrets -------------------------------------------------------------------------------------------------------------------------------------

--- The session of the value at hand, renewed; false when there is to be another login; or nil, message, how.
---@async
local function kept_session(options, ctx, wanted)
  local held = logins[options.login]
  local token = wanted and ctx.previous:field "client_token"
  if not token or not ctx.previous:field "renewable" then return false end
  return renew_self(held.options, token)
end

--- A session by another login; or nil, message, how.
---@async
local function new_session(options)
  local held = logins[options.login]
  return held.log_in(held.options)
end

local function renamed(fields)
  local map = {}
  for key, value in pairs(fields or {}) do
    if type(key) == "number" then key = value end
    map[key] = value
  end
  return map
end

local function string_of(data, key)
  local value = data[key]
  if type(value) == "number" then value = tostring(value) end
  if type(value) == "string" and value ~= "" then return value end
  return nil, ("Vault's secret has no '%s'"):format(key)
end

--- The value and the fields that a policy wants of a secret's data, and what hangs on them.
local function read_data(options, data, life, fields)
  if type(data) ~= "table" then return nil, "Vault's reply has no data" end
  local value, why = string_of(data, options.value)
  if not value then return nil, why end
  for name, key in pairs(renamed(options.fields)) do
    fields[name], why = string_of(data, key)
    if why then return nil, why end
  end
  return { value = value, expires_in = life, fields = fields }
end

local OWN_FIELDS = { client_token = true, lease_id = true, renewable = true }

local function check_fields(options)
  for name, key in pairs(renamed(options.fields)) do
    if type(name) ~= "string" or type(key) ~= "string" then error('fields: expected { "username" }, or { name = "key of the secret" }', 0) end
    if OWN_FIELDS[name] then error(("fields: %s is the module's own: give it another name, as in { my_%s = %q }"):format(name, name, key), 0) end
  end
end

local function check_secret(options)
  check_fields(options)
  if logins[options.login].options.family then error("login: is a family: give each key its secret by options of the secret that are functions", 0) end
end

--- How Vault is reached stands in the login.
local function secret_options(more)
  more.login = { is_login, needed = true }
  more.path = { issuer.text, needed = true, by_key = true }
  more.value = { issuer.text, needed = true, by_key = true }
  more.fields = { issuer.map, by_key = true }
  return more
end

-- dynamic secrets -----------------------------------------------------------------------------------------------------------------------------

--- The secret at hand, with its lease renewed; false when there is to be another one; or nil, message, how.
---@async
local function renew_lease(options, ctx, session)
  local at, lease_id = logins[options.login].options, ctx.previous:field "lease_id"
  if not lease_id then return false end
  local body, why, how, res = ask(at, {
    method = "PUT", path = "sys/leases/renew", token = session.token, json = { lease_id = lease_id, increment = options.increment },
  })
  if not body then
    if refused(res) then return false end
    return nil, why, how
  end
  local life = math.min(tonumber(body.lease_duration) or 0, session.life)
  if not lasts(life, ctx) then return false end
  local fields = { client_token = session.token, lease_id = lease_id, renewable = "yes" }
  for name in pairs(renamed(options.fields)) do fields[name] = ctx.previous:field(name) end
  return { value = ctx.previous:field(), expires_in = life, fields = fields }
end

---@async
local function fetch_dynamic(options, ctx)
  local session, why, how = kept_session(options, ctx, may_renew(ctx))
  if session then
    local result
    result, why, how = renew_lease(options, ctx, session)
    if result or result == nil then return result, why, how end
  elseif session == nil then
    return nil, why, how
  end
  session, why, how = new_session(options)
  if not session then return nil, why, how end
  local body
  body, why, how = ask(logins[options.login].options, {
    method = options.data and "POST" or "GET", path = escaped(options.path), token = session.token, json = options.data,
  })
  if not body then return nil, why, how end
  local lease = tonumber(body.lease_duration) or 0
  local lease_id = type(body.lease_id) == "string" and body.lease_id ~= "" and body.lease_id or nil
  return read_data(options, body.data, math.min(lease > 0 and lease or options.lifetime, session.life), {
    client_token = session.token, lease_id = lease_id, renewable = session.renewable and body.renewable == true and "yes" or nil,
  })
end

--- Whoever made the client token ends it, and its leases with it; else the lease alone.
---@async
local function release_dynamic(options, ctx)
  local held, client_token, lease_id = logins[options.login], ctx.previous:field "client_token", ctx.previous:field "lease_id"
  if not client_token then return true end
  if held.own then return revoke_self(held.options, client_token) end
  if not lease_id then return true end
  return revoked(ask(held.options, { method = "PUT", path = "sys/leases/revoke", token = client_token, json = { lease_id = lease_id } }))
end

--- A secret that Vault makes when it is asked for (database, rabbitmq, consul, aws and the like). Its lease is renewed until max_ttl; then there is another secret.
---@type fun(options: jeton.vault.dynamic): jeton.token_options
M.dynamic = issuer.new {
  name = "vault.dynamic",
  calls = false,
  options = secret_options {
    data = { issuer.map, by_key = true },
    increment = { issuer.whole_seconds },
    lifetime = { issuer.seconds, default = LIFETIME },
  },
  check = check_secret,
  fetch = fetch_dynamic,
  release = release_dynamic,
}

-- KV ------------------------------------------------------------------------------------------------------------------------------------------

local function kv_path(options)
  return ("%s/%s%s"):format(escaped(options.mount), options.engine == 2 and "data/" or "", escaped(options.path))
end

---@async
local function fetch_kv(options, ctx)
  -- whoever refuses the value says nothing of the client token; another policy may have another login
  local session, why, how = kept_session(options, ctx, ctx.previous ~= nil and ctx.previous.expires_in > 0 and ctx.reason ~= "changed")
  if session == nil then return nil, why, how end
  if not session or session.life < options.lifetime then
    session, why, how = new_session(options)
    if not session then return nil, why, how end
  end
  local held = logins[options.login]
  local body
  body, why, how = ask(held.options, { method = "GET", path = kv_path(options), token = session.token })
  -- one that cannot be renewed has served; many of them would stay in Vault otherwise
  if held.own and not session.renewable then revoke_self(held.options, session.token) end
  if not body then return nil, why, how end
  local data = body.data
  if options.engine == 2 then data = type(data) == "table" and data.data or nil end
  local renewable = session.renewable or nil
  return read_data(options, data, renewable and math.min(options.lifetime, session.life) or options.lifetime, {
    client_token = renewable and session.token, renewable = renewable and "yes",
  })
end

--- What stands in the KV engine. It tells no end: it is read again after `lifetime`, and behind a refusal.
---@type fun(options: jeton.vault.kv): jeton.token_options
M.kv = issuer.new {
  name = "vault.kv",
  calls = false,
  options = secret_options {
    mount = { issuer.text, default = "secret" },
    engine = { issuer.one_of { 1, 2 }, default = 2 },
    lifetime = { issuer.seconds, default = KV_LIFETIME },
  },
  check = check_secret,
  fetch = fetch_kv,
  release = function(options, ctx)
    local held, client_token = logins[options.login], ctx.previous:field "client_token"
    return not (held.own and client_token) or revoke_self(held.options, client_token)
  end,
}

return names.strict("jeton.vault", M)
