--- Google Cloud's credentials: access tokens, and ID tokens for services that ask who calls (Cloud Run, IAP).
--
--   tokens = { api = gcp.metadata() }                                     -- on Google's machines
--   tokens = { api = gcp.key_file { path = "account.json" } }             -- the file that Google hands out
--   tokens = { api = gcp.workload_identity { … } }                        -- a token of another cloud or cluster instead of a key
--   tokens = { api = gcp.impersonate { from = gcp.metadata(), service_account = "reports@project.iam.gserviceaccount.com" } }
--
-- `scope` (default: cloud-platform) makes an access token, `audience` an ID token. Sources: AIP-4110 to 4118, and Google's pages "Using OAuth 2.0 for server
-- to server applications" and "Workload identity federation".

local issuer = require "jeton.issuer"
local jwt = require "jeton.jwt"
local names = require "jeton.names"

local M = {}

local WHO = "Google"
local SCOPE = "https://www.googleapis.com/auth/cloud-platform"
local JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
local TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
local ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
local ASSERTION_LIFE = 3600 -- seconds: the most that Google takes

local function scope_of(options) return issuer.joined(options.scope or SCOPE) end

local function scopes_of(options)
  local list = {}
  for scope in scope_of(options):gmatch "%S+" do list[#list + 1] = scope end
  return list
end

--- What a token is asked for has one of two names.
local function check_purpose(options)
  if options.scope ~= nil and options.audience ~= nil then error("audience: makes an ID token, which has no scope: leave one of the two out", 0) end
end

--- The result of a fetch of an ID token, which tells its end itself.
local function id_token(token)
  local claims = type(token) == "string" and jwt.claims(token)
  if not claims or not claims.exp then return nil, "Google's reply is no ID token" end
  return { value = token, expires_at = claims.exp }
end

local function access_token(body, token_key, end_key)
  local token, why = issuer.string_of(body, token_key, WHO)
  if not token then return nil, why end
  if end_key then return { value = token, expires_at = body[end_key] } end
  return { value = token, expires_in = body.expires_in }
end

-- a key file ----------------------------------------------------------------------------------------------------------------------------------

--- What stands in the key file stays opaque, the account's name as well: it is read for each signature, since keys are rotated by writing another file.
local function assertion_of(options, url)
  local now = math.floor(jeton.now())
  return jwt.sign({
    iss = jeton.secret.json(options.path, "client_email"),
    sub = options.subject,
    aud = url,
    scope = not options.audience and scope_of(options) or nil,
    target_audience = options.audience,
    iat = now,
    exp = now + ASSERTION_LIFE,
  }, { alg = "RS256", key = jeton.secret.json(options.path, "private_key") })
end

---@async
local function fetch_by_key(options)
  local assertion, unsigned = assertion_of(options, options.token_url)
  if not assertion then return nil, unsigned end
  local body, refused, how = issuer.ask(options, WHO, { method = "POST", url = options.token_url, form = { grant_type = JWT_BEARER, assertion = assertion } })
  if not body then return nil, refused, how end
  if options.audience then return id_token(body.id_token) end
  return access_token(body, "access_token")
end

--- Signs once, so that a file which is no key file is told when the policy is loaded.
local function check_key(options)
  check_purpose(options)
  local good, assertion, why = pcall(assertion_of, options, options.token_url)
  if not good then error("path: " .. assertion:gsub("^.-: ?jeton%.secret%.json: ", ""), 0) end
  if not assertion then error("path: " .. why, 0) end
end

--- The JSON file of a service account's key. `subject`: a user of the domain on whose behalf it acts (domain-wide delegation).
---@param options jeton.gcp.key_file
---@return jeton.token_options
M.key_file = issuer.new {
  name = "gcp.key_file",
  options = {
    path = { issuer.path, needed = true, by_key = true },
    scope = { issuer.texts, by_key = true },
    audience = { issuer.text, by_key = true },
    subject = { issuer.text, by_key = true },
    token_url = { issuer.url, default = "https://oauth2.googleapis.com/token" },
  },
  check = check_key,
  fetch = fetch_by_key,
}

-- the metadata server -------------------------------------------------------------------------------------------------------------------------

---@async
local function fetch_by_metadata(options)
  local url = ("%s/computeMetadata/v1/instance/service-accounts/%s/"):format(options.url, options.account)
  local headers = { ["metadata-flavor"] = "Google" } -- without it the server refuses: no page in a browser can ask it
  if options.audience then
    local query = { audience = options.audience, format = "full" }
    local res, why, how = issuer.call(options, "the metadata server", { url = url .. "identity", headers = headers, query = query })
    if not res then return nil, why, how end
    return id_token(res.body:match "^%s*(.-)%s*$")
  end
  local query = options.scope and { scopes = table.concat(scopes_of(options), ",") } or nil
  local body, why, how = issuer.ask(options, "the metadata server", { url = url .. "token", headers = headers, query = query })
  if not body then return nil, why, how end
  return access_token(body, "access_token")
end

--- The account of the machine, container or function that this runs on. `account`: another one that it has.
---@param options? jeton.gcp.metadata
---@return jeton.token_options
local metadata = issuer.new {
  name = "gcp.metadata",
  options = {
    account = { issuer.text, default = "default" },
    scope = { issuer.texts, by_key = true },
    audience = { issuer.text, by_key = true },
    url = { issuer.url, base = true, default = "http://metadata.google.internal" },
  },
  check = check_purpose,
  fetch = fetch_by_metadata,
}
function M.metadata(options) return metadata(options or {}) end

-- workload identity federation ----------------------------------------------------------------------------------------------------------------

---@async
local function generate(options, access, url)
  local id = options.audience and options.service_account
  local body, why, how = issuer.ask(options, WHO, {
    method = "POST",
    url = ("%s/v1/projects/-/serviceAccounts/%s:%s"):format(url, jeton.url.escape(options.service_account), id and "generateIdToken" or "generateAccessToken"),
    headers = { authorization = "Bearer " .. access },
    json = id and { audience = options.audience, includeEmail = true, delegates = options.delegates }
      or { scope = scopes_of(options), lifetime = options.lifetime and ("%ds"):format(options.lifetime) or nil, delegates = options.delegates },
  })
  if not body then return nil, why, how end
  if id then return id_token(body.token) end
  return access_token(body, "accessToken", "expireTime")
end

---@async
local function fetch_by_federation(options)
  local body, why, how = issuer.ask(options, WHO, {
    method = "POST",
    url = options.sts_url .. "/v1/token",
    form = {
      grant_type = TOKEN_EXCHANGE,
      audience = options.provider,
      scope = options.service_account and SCOPE or scope_of(options),
      requested_token_type = ACCESS_TOKEN,
      subject_token = options.token,
      subject_token_type = options.token_type,
    },
  })
  if not body then return nil, why, how end
  local exchanged
  exchanged, why = access_token(body, "access_token")
  if not exchanged then return nil, why end
  if not options.service_account then return exchanged end
  return generate(options, exchanged.value, options.iam_url)
end

--- Workload identity federation: a token of another issuer (a cluster's, Azure's, a CI's) in a file that it rotates is exchanged (RFC 8693), and with
--- `service_account` that account is impersonated. provider: "//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER".
---@param options jeton.gcp.workload_identity
---@return jeton.token_options
M.workload_identity = issuer.new {
  name = "gcp.workload_identity",
  options = {
    provider = { issuer.text, needed = true },
    token = { issuer.secret, needed = true },
    token_type = { issuer.text, default = "urn:ietf:params:oauth:token-type:jwt" },
    service_account = { issuer.text, by_key = true },
    scope = { issuer.texts, by_key = true },
    audience = { issuer.text, by_key = true },
    lifetime = { issuer.whole_seconds },
    delegates = { issuer.list },
    sts_url = { issuer.url, base = true, default = "https://sts.googleapis.com" },
    iam_url = { issuer.url, base = true, default = "https://iamcredentials.googleapis.com" },
  },
  check = function(options)
    check_purpose(options)
    if options.audience and not options.service_account then error("service_account: is needed for an ID token, which is made for an account", 0) end
  end,
  fetch = fetch_by_federation,
}

-- impersonation -------------------------------------------------------------------------------------------------------------------------------

local function token_options(value)
  return (type(value) ~= "table" or type(value.fetch) ~= "function") and "a token that may impersonate, such as gcp.metadata()" or nil
end

--- A service account's token by means of another one: `from` is what gcp.metadata, gcp.key_file or gcp.workload_identity gives.
---@param options jeton.gcp.impersonate
---@return jeton.token_options
M.impersonate = issuer.new {
  name = "gcp.impersonate",
  options = {
    from = { token_options, needed = true },
    service_account = { issuer.text, needed = true, by_key = true },
    scope = { issuer.texts, by_key = true },
    audience = { issuer.text, by_key = true },
    lifetime = { issuer.whole_seconds },
    delegates = { issuer.list },
    url = { issuer.url, base = true, default = "https://iamcredentials.googleapis.com" },
  },
  check = check_purpose,
  fetch = function(options, ctx)
    local access, why, how = options.from.fetch(ctx)
    if not access then return nil, why, how end
    return generate(options, access.value, options.url)
  end,
}

return names.strict("jeton.gcp", M)
