--- Microsoft Entra's tokens for Azure and for whatever else it guards: by a client's secret or certificate, by a workload's identity, or by the machine's own.
--
--   tokens = { api = azure.managed_identity { resource = "https://management.azure.com" } }
--   tokens = { api = azure.client_secret { tenant = "…", client_id = "…", client_secret = jeton.secret.file "…", scope = "https://graph.microsoft.com/.default" } }
--
-- Sources, Microsoft's pages "OAuth 2.0 client credentials flow on the Microsoft identity platform", "Microsoft identity platform application authentication
-- certificate credentials" and "How to use managed identities for Azure resources on an Azure VM to acquire an access token".

local assertion = require "jeton.oauth2.assertion"
local issuer = require "jeton.issuer"
local names = require "jeton.names"

local M = {}

local WHO = "Entra"
local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" -- RFC 7523 section 2.2
local ASSERTION_LIFE = 600 -- seconds

local CLIENT = {
  tenant = { issuer.text, needed = true, by_key = true },
  client_id = { issuer.text, needed = true, by_key = true },
  scope = { issuer.text, needed = true, by_key = true },
  authority = { issuer.url, base = true, default = "https://login.microsoftonline.com" },
}

local function with(own)
  local options = {}
  for key, option in pairs(CLIENT) do options[key] = option end
  for key, option in pairs(own) do options[key] = option end
  return options
end

--- Entra takes one scope here, a resource's name with /.default behind it.
local function check_scope(options)
  if not options.scope:find "/%.default$" then
    error(('scope: expected "%s/.default": what a client without a user gets is what it was granted, not a part of it'):format((options.scope:gsub("/$", ""))), 0)
  end
end

local function token_url(options) return ("%s/%s/oauth2/v2.0/token"):format(options.authority, jeton.url.escape(options.tenant)) end

---@async
local function ask(options, form)
  form.grant_type, form.client_id, form.scope = "client_credentials", options.client_id, options.scope
  local body, why, how = issuer.ask(options, WHO, { method = "POST", url = token_url(options), form = form })
  if not body then return nil, why, how end
  local token
  token, why = issuer.string_of(body, "access_token", WHO)
  if not token then return nil, why end
  return { value = token, expires_in = body.expires_in }
end

--- An application's client secret.
---@param options jeton.azure.client_secret
---@return jeton.token_options
M.client_secret = issuer.new {
  name = "azure.client_secret",
  options = with { client_secret = { issuer.credential, needed = true, by_key = true } },
  check = check_scope,
  fetch = function(options) return ask(options, { client_secret = options.client_secret }) end,
}

--- The certificate as a client's assertion of jeton.oauth2, which also names it in the header (x5t).
local function proof_of(options)
  local now = math.floor(jeton.now())
  local how = { key = options.key, cert = options.cert, lifetime = ASSERTION_LIFE, claims = { nbf = now } }
  return { auth = "private_key_jwt", client_id = options.client_id, token_url = token_url(options), assertion = how }
end

local function check_certificate(options)
  check_scope(options)
  local good, why = pcall(assertion.check_private_key, proof_of(options))
  if not good then error((why:gsub("assertion%.", ""):gsub("^assertion: ", "key: ")), 0) end
end

---@async
local function fetch_by_certificate(options)
  local proof, why = assertion.of_client(proof_of(options))
  if not proof then return nil, why end
  return ask(options, { client_assertion_type = ASSERTION_TYPE, client_assertion = proof })
end

--- An application's certificate, with the private key to it. `cert` is read for each fetch, so it may be renewed.
---@param options jeton.azure.certificate
---@return jeton.token_options
M.certificate = issuer.new {
  name = "azure.certificate",
  options = with { cert = { issuer.path, needed = true, by_key = true }, key = { issuer.secret, needed = true, by_key = true } },
  check = check_certificate,
  fetch = fetch_by_certificate,
}

--- A token of another issuer that the application trusts (federated credentials), in a file that is rotated: a cluster's service account for one. tenant, client_id
--- and token are by default those that Azure's webhook sets in a pod: AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE.
---@param options jeton.azure.workload_identity
---@return jeton.token_options
local workload_identity = issuer.new {
  name = "azure.workload_identity",
  options = with { token = { issuer.secret, needed = true, by_key = true } },
  check = check_scope,
  fetch = function(options) return ask(options, { client_assertion_type = ASSERTION_TYPE, client_assertion = options.token }) end,
}
function M.workload_identity(options)
  if type(options) ~= "table" then return workload_identity(options) end
  local made, env = {}, jeton.env
  for key, value in pairs(options) do made[key] = value end
  made.tenant = made.tenant or env.AZURE_TENANT_ID
  made.client_id = made.client_id or env.AZURE_CLIENT_ID
  made.authority = made.authority or env.AZURE_AUTHORITY_HOST
  if made.token == nil and env.AZURE_FEDERATED_TOKEN_FILE then made.token = jeton.secret.file(env.AZURE_FEDERATED_TOKEN_FILE) end
  return workload_identity(made)
end

---@async
local function fetch_by_machine(options)
  local body, why, how = issuer.ask(options, "the metadata server", {
    url = options.url .. "/metadata/identity/oauth2/token",
    headers = { metadata = "true" },
    query = { ["api-version"] = "2018-02-01", resource = options.resource, client_id = options.client_id, mi_res_id = options.identity },
  })
  if not body then return nil, why, how end
  local token
  token, why = issuer.string_of(body, "access_token", "the metadata server")
  if not token then return nil, why end
  return { value = token, expires_in = tonumber(body.expires_in) } -- digits in quotes
end

--- The machine's own identity (IMDS). client_id, or identity (its resource id): one that was assigned by a user.
---@param options jeton.azure.managed_identity
---@return jeton.token_options
M.managed_identity = issuer.new {
  name = "azure.managed_identity",
  options = {
    resource = { issuer.text, needed = true, by_key = true },
    client_id = { issuer.text, by_key = true },
    identity = { issuer.text, by_key = true },
    url = { issuer.url, base = true, default = "http://169.254.169.254" },
  },
  check = function(options)
    if options.client_id and options.identity then error("identity: client_id says already which identity it is, leave one of them out", 0) end
    if options.resource:find "/%.default$" then error("resource: expected the resource alone, without /.default", 0) end
  end,
  fetch = fetch_by_machine,
}

return names.strict("jeton.azure", M)
