--- Tokens of a Kubernetes service account: the one that the cluster mounts into a pod, and others that its API makes (TokenRequest).
--
--   tokens = { api = kubernetes.service_account() }
--   tokens = { vault = kubernetes.token_request { service_account = "reports", audience = "https://vault.example.com" } }
--
-- Sources: "Managing Service Accounts" (bound and projected tokens) and the reference of TokenRequest (authentication.k8s.io/v1) in the Kubernetes documentation.

local issuer = require "jeton.issuer"
local jwt = require "jeton.jwt"
local names = require "jeton.names"

local M = {}

local WHO = "the Kubernetes API"
local MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
--- Seconds. The kubelet writes a new token at four fifths of a life that is ten minutes at least; a cluster may let the old one live for a year, and counts
--- whoever uses it.
local READ_AGAIN = 60
local SHORTEST = 600 -- seconds: TokenRequest takes no less
local TOKEN_MAX = "64k"

local function trimmed(text) return text:match "^%s*(.-)%s*$" end

-- the mounted token ---------------------------------------------------------------------------------------------------------------------------

--- How long a token is used: to its end, and no longer than until the file is read again. One without an end is an old one, from a Secret.
local function life_of(options, token)
  local claims = jwt.claims(token)
  if not claims then return nil, options.path .. " holds no token of a service account" end
  if type(claims.exp) ~= "number" then return options.lifetime end
  local left = claims.exp - jeton.now()
  if left <= 0 then return nil, ("the token in %s has ended: is the kubelet there to write another one?"):format(options.path) end
  return math.min(left, options.lifetime)
end

local service_account = issuer.new {
  name = "kubernetes.service_account",
  calls = false,
  options = {
    path = { issuer.path, default = MOUNT .. "/token", by_key = true },
    lifetime = { issuer.seconds, default = READ_AGAIN },
  },
  fetch = function(options)
    local text, why = jeton.file.read(options.path, { max = TOKEN_MAX })
    if not text then return nil, why end
    local token = trimmed(text)
    local life
    life, why = life_of(options, token)
    if not life then return nil, why end
    return { value = token, expires_in = life }
  end,
}
--- The token in a file that the kubelet renews (a projected volume), by default that of the pod's own service account. It is read again each minute.
---@param options? jeton.kubernetes.service_account
---@return jeton.token_options
function M.service_account(options) return service_account(options == nil and {} or options) end

-- TokenRequest --------------------------------------------------------------------------------------------------------------------------------

--- Where the API is, as a pod is told.
local function api_url(options)
  if options.url then return options.url end
  local host, port = jeton.env.KUBERNETES_SERVICE_HOST, jeton.env.KUBERNETES_SERVICE_PORT
  return ("https://%s:%s"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, port)
end

--- What the policy says, or the pod's own file; or nil, message. The files are read as such: a secret's would warn that everybody may read it, which is how
--- they are mounted.
---@async
local function own(options, key)
  if options[key] then return options[key] end
  local text, why = jeton.file.read(options.mount .. "/" .. key, { max = TOKEN_MAX })
  if not text then return nil, key .. ": " .. why end
  return trimmed(text)
end

local function audiences_of(options)
  return type(options.audience) == "string" and { options.audience } or options.audience
end

--- The pod's own authority, unless the policy says how the API is to be trusted.
local function tls_of(options)
  if options.tls ~= nil or api_url(options):find "^http:" then return options.tls end
  return { ca = options.mount .. "/ca.crt" }
end

---@async
local function fetch_request(options)
  local namespace, token, why
  namespace, why = own(options, "namespace")
  if not namespace then return nil, why end
  token, why = own(options, "token")
  if not token then return nil, why end
  local path = ("/api/v1/namespaces/%s/serviceaccounts/%s/token"):format(jeton.url.escape(namespace), jeton.url.escape(options.service_account))
  local body, refused, how = issuer.ask(options, WHO, {
    method = "POST",
    url = api_url(options) .. path,
    tls = tls_of(options),
    headers = { authorization = "Bearer " .. (type(token) == "string" and jeton.secret.value(token) or token) },
    json = {
      apiVersion = "authentication.k8s.io/v1", kind = "TokenRequest",
      spec = { audiences = audiences_of(options), expirationSeconds = options.expiration, boundObjectRef = options.bound_to },
    },
  })
  if not body then return nil, refused, how end
  local status = type(body.status) == "table" and body.status or {}
  local made
  made, why = issuer.string_of(status, "token", WHO)
  if not made then return nil, why end
  return { value = made, expires_at = status.expirationTimestamp }
end

local function check_request(options)
  if options.url == nil and not jeton.env.KUBERNETES_SERVICE_HOST then
    error("url: is needed outside of a pod (KUBERNETES_SERVICE_HOST is not set), as in \"https://kubernetes.example.com:6443\"", 0)
  end
  if options.expiration and (math.type(options.expiration) ~= "integer" or options.expiration < SHORTEST) then
    error(("expiration: expected whole seconds, %d or more, since the API takes no less"):format(SHORTEST), 0)
  end
  if options.service_account:find "[^%l%d.-]" then error("service_account: expected its name alone; the namespace stands in namespace", 0) end
end

--- A token of a service account for an audience, made by the cluster's API: the pod's own account (or `token`) has to be allowed `create` of
--- `serviceaccounts/token`.
---@type fun(options: jeton.kubernetes.token_request): jeton.token_options
M.token_request = issuer.new {
  name = "kubernetes.token_request",
  options = {
    service_account = { issuer.text, needed = true, by_key = true },
    namespace = { issuer.text, by_key = true },
    audience = { issuer.texts, by_key = true },
    expiration = { issuer.seconds },
    bound_to = { issuer.map, by_key = true },
    token = { issuer.secret },
    url = { issuer.url, base = true },
    mount = { issuer.path, default = MOUNT },
  },
  check = check_request,
  fetch = fetch_request,
}

return names.strict("jeton.kubernetes", M)
