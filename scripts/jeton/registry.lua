--- OCI registries (Docker Hub, GHCR, GitLab, Harbor, …): the Bearer challenge, and a token for each scope.
--
--   tokens = { registry = registry.token { url = "https://registry.example.com", username = "ci", password = jeton.secret.file "…" } }
--   on_request = function(req, tokens) registry.authorize(req, tokens.registry) end
--
-- A registry answers 401 with a challenge: which token server to ask (realm), for which service, with which scope. The scope follows from method and
-- path, so a token is there before the registry is asked, and realm and service are asked for once; where a registry wants another scope, its 401 says
-- so, and that one is fetched.
-- Sources: "Token Authentication Specification", "Token Scope Documentation" and "HTTP API" of the distribution project, the OCI distribution specification.

local issuer = require "jeton.issuer"
local names = require "jeton.names"
local reply = require "jeton.oauth2.reply"

local M = {}

local WHO = "the registry's token server"
local NO_SCOPE = "-" -- the key of what needs a token, and no scope: the ping at /v2/
local LIFE = 60 -- seconds, when a token server tells none (Token Authentication Specification, "expires_in")
local KEY_MAX = 256 -- bytes: a longer key stands as its hash
local NAME = "^[a-z0-9][a-z0-9._/-]*$"

-- scopes --------------------------------------------------------------------------------------------------------------------------------------

local ACTIONS = { GET = "pull", HEAD = "pull", POST = "pull,push", PUT = "pull,push", PATCH = "pull,push", DELETE = "delete" }

--- Behind a repository's name, in the HTTP API. Names have slashes, so the end of the path tells.
local ENDS = { "/blobs/uploads/[^/]*$", "/blobs/[^/]+$", "/manifests/[^/]+$", "/referrers/[^/]+$", "/tags/list$" }

local function repository_of(path)
  local rest = path:match "^/v2/(.+)$"
  for _, ending in ipairs(rest and ENDS or {}) do
    local name = rest:match("^(.+)" .. ending)
    if name then return name:find(NAME) and name or nil end
  end
end

--- A blob that is mounted from another repository is read there.
local function mounted_from(query)
  local fields = query and jeton.url.query(query)
  local from = fields and fields.mount and fields.from
  return from and from:find(NAME) and from or nil
end

--- What a request has to be allowed: "repository:acme/app:pull", several with a blank between; "-" where any token will do. Nil: not a registry's path.
---@param req { method: string, path: string, query: string? }
---@return string? scope
function M.scope(req)
  if req.path == "/v2" or req.path == "/v2/" then return NO_SCOPE end
  if req.path == "/v2/_catalog" then return "registry:catalog:*" end
  local name, actions = repository_of(req.path), ACTIONS[req.method]
  if not name or not actions then return nil end
  local scope = ("repository:%s:%s"):format(name, actions)
  local from = req.method == "POST" and mounted_from(req.query)
  return from and ("%s repository:%s:pull"):format(scope, from) or scope
end

--- A key of a family is at most so long as it is; the scope of a mount between two long names goes beside it.
local function token_for(tokens, scope)
  return #scope <= KEY_MAX and tokens[scope] or tokens:of(scope, { scope = scope })
end

--- Puts the token for what is asked on a request, in on_request; what the client says of itself goes. tokens: the family, as `tokens.registry`.
---@param req jeton.request
---@param tokens table<string, jeton.token>
function M.authorize(req, tokens)
  local scope = M.scope(req)
  req.headers["authorization"] = scope and "Bearer " .. token_for(tokens, scope) or nil
end

-- challenges ----------------------------------------------------------------------------------------------------------------------------------

--- The parameters of the Bearer challenge in a reply's headers (RFC 9110 section 11.6.1, RFC 6750 section 3); or nil, the scheme that there is instead.
local function challenge_in(headers)
  local other
  for _, value in ipairs(headers:all "www-authenticate") do
    local at = select(2, value:lower():find "%f[%w]bearer%s+")
    if at then
      local found = {}
      for key, text in value:sub(at + 1):gmatch '([%w_]+)%s*=%s*"([^"]*)"' do found[key:lower()] = found[key:lower()] or text end
      return found
    end
    other = other or value:match "^%s*([%w-]+)"
  end
  return nil, other
end

--- The realm gets the password, so it may not be less safe to ask than the registry.
local function check_realm(options, challenge)
  local realm = challenge.realm
  if type(realm) ~= "string" or not realm:find "^https?://[^/?#@]+" then return nil, "the registry's challenge names no token server (realm)" end
  if realm:find "^http:" and not options.url:find "^http:" then
    return nil, "the registry's challenge names a token server without TLS: it does not get a password from here"
  end
  return challenge
end

--- What the registry says to who comes without a token; or nil, message.
---@async
local function ask_challenge(options)
  local url = options.url .. "/v2/"
  local res, why = jeton.http.get(url, { timeout = options.timeout, tls = options.tls, http2 = options.http2, proxy = options.proxy })
  if not res then return nil, why end
  local challenge, other = challenge_in(res.headers)
  if challenge then return check_realm(options, challenge) end
  if other and other:lower() == "basic" then
    return nil, 'the registry asks for a password itself, not for a token: write req.headers["authorization"] = "Basic " .. jeton.base64.encode("user:" .. password)'
  end
  return nil, ("the registry answered %d to /v2/ without a Bearer challenge"):format(res.status), reply.how(res)
end

local challenges = {} -- by options: what the registry has said. For as long as the VM

---@async
local function challenge_of(options, ctx)
  local refused = ctx.refusal and challenge_in(ctx.refusal.headers)
  if refused then return check_realm(options, refused) end
  if not challenges[options] then
    local challenge, why, how = ask_challenge(options)
    if not challenge then return nil, why, how end
    challenges[options] = { realm = challenge.realm, service = challenge.service }
  end
  return challenges[options]
end

-- tokens --------------------------------------------------------------------------------------------------------------------------------------

local function scopes_of(text)
  local list = {}
  for scope in text:gmatch "%S+" do list[#list + 1] = scope end
  return #list > 0 and list or nil
end

--- The request: by GET, or with an identity token by POST, as OAuth 2.0 has it ("Docker Registry v2 Bearer token specification", refresh tokens).
local function request_of(options, challenge, scope)
  if not options.identity_token then
    return {
      url = challenge.realm, query = { service = challenge.service, scope = scopes_of(scope), account = options.username },
      auth = options.username and { options.username, options.password } or nil,
    }
  end
  return {
    method = "POST", url = challenge.realm,
    form = { grant_type = "refresh_token", refresh_token = options.identity_token, service = challenge.service, scope = scope, client_id = "jeton" },
  }
end

---@async
local function fetch(options, ctx)
  local challenge, why, unready = challenge_of(options, ctx)
  if not challenge then return nil, why, unready end
  local scope = challenge.scope or ctx.data and ctx.data.scope or ctx.key
  if scope == NO_SCOPE then scope = "" end
  local body, refused, how = issuer.ask(options, WHO, request_of(options, challenge, scope))
  if not body then
    challenges[options] = nil -- it may have moved
    return nil, refused, how
  end
  local token = body.token or body.access_token
  if type(token) ~= "string" or token == "" then return nil, WHO .. "'s reply has no token" end
  return { value = token, expires_in = body.expires_in or LIFE }
end

local function check(options)
  if options.username and options.password == nil then error("password: is needed beside username", 0) end
  if options.password ~= nil and not options.username then error("username: is needed beside password", 0) end
  if options.username and options.identity_token ~= nil then error("identity_token: takes the place of username and password: leave them out", 0) end
end

--- A family of tokens, one a scope. Without a password: what a registry gives to everybody.
---@type fun(options: jeton.registry.token): jeton.token_options
M.token = issuer.new {
  name = "registry.token",
  options = {
    url = { issuer.url, base = true, needed = true },
    username = { issuer.text },
    password = { issuer.secret },
    identity_token = { issuer.secret },
  },
  check = check,
  fetch = fetch,
  token = function(token) token.family = true end,
}

return names.strict("jeton.registry", M)
