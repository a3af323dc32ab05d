--- Tokens of a GitHub App: a JWT that the app's key signs is exchanged for the token of an installation, which holds for an hour
--- (docs.github.com, "Authenticating as a GitHub App installation").
--
--   tokens = { api = github.app { app_id = 12345, key = jeton.secret.file "app.pem", organization = "acme" } }

local issuer = require "jeton.issuer"
local jwt = require "jeton.jwt"
local names = require "jeton.names"

local M = {}

local WHO = "GitHub"
local BACK, LIFE = 60, 540 -- seconds: their clock may be behind ours, and ten minutes are the most they take

local PLACES = { "installation", "organization", "repository", "user" }

local function check(options)
  local given = {}
  for _, key in ipairs(PLACES) do
    if options[key] ~= nil then given[#given + 1] = key end
  end
  if #given == 0 then error("installation: is needed, its number or where it is: organization = \"acme\", repository = \"acme/api\" or user = \"name\"", 0) end
  if #given > 1 then error(("%s: %s says already which installation it is, leave one of them out"):format(given[2], given[1]), 0) end
  local repository = options.repository
  issuer.check_key("key", options.key, "RS256")
  if repository ~= nil and not repository:find "^[%w_.-]+/[%w_.-]+$" then error('repository: expected owner and name, as in "acme/api"', 0) end
end

local function headers(app)
  return { authorization = "Bearer " .. app, accept = "application/vnd.github+json", ["x-github-api-version"] = "2022-11-28" }
end

--- As who an app speaks (RS256 is all that GitHub takes): an opaque JWT, or nil, message.
local function app_token(options)
  local now = math.floor(jeton.now())
  return jwt.sign({ iss = tostring(options.app_id), iat = now - BACK, exp = now + LIFE }, { alg = "RS256", key = options.key })
end

--- Where GitHub says which installation is meant.
local function place_of(options)
  if options.organization then return "/orgs/" .. jeton.url.escape(options.organization) end
  if options.repository then return "/repos/" .. options.repository end
  return "/users/" .. jeton.url.escape(options.user)
end

--- The installation's number, or nil, message, how.
---@async
local function installation_of(options, app)
  if options.installation then return options.installation end
  local body, why, how = issuer.ask(options, WHO, { url = options.url .. place_of(options) .. "/installation", headers = headers(app) })
  if not body then return nil, why, how end
  if math.type(body.id) ~= "integer" then return nil, "GitHub's reply has no id of an installation" end
  return body.id
end

---@async
local function fetch(options)
  local app, unsigned = app_token(options)
  if not app then return nil, unsigned end
  local installation, why, how = installation_of(options, app)
  if not installation then return nil, why, how end
  local body
  body, why, how = issuer.ask(options, WHO, {
    method = "POST",
    url = ("%s/app/installations/%s/access_tokens"):format(options.url, jeton.url.escape(tostring(installation))),
    headers = headers(app),
    json = { permissions = options.permissions, repositories = options.repositories },
  })
  if not body then return nil, why, how end
  local token
  token, why = issuer.string_of(body, "token", WHO)
  if not token then return nil, why end
  return { value = token, expires_at = body.expires_at }
end

--- The token of an app's installation: `installation` (its number), or where it is: `organization`, `repository` ("owner/name") or `user`. With family = true one
--- of them, or `repositories` or `permissions`, is a function of the key.
---@param options jeton.github.app
---@return jeton.token_options
M.app = issuer.new {
  name = "github.app",
  options = {
    app_id = { issuer.id, needed = true }, -- or the client id, which GitHub takes as well
    key = { issuer.secret, needed = true },
    installation = { issuer.id, by_key = true },
    organization = { issuer.text, by_key = true },
    repository = { issuer.text, by_key = true },
    user = { issuer.text, by_key = true },
    permissions = { issuer.map, by_key = true },
    repositories = { issuer.list, by_key = true },
    url = { issuer.url, base = true, default = "https://api.github.com" },
  },
  check = check,
  fetch = fetch,
}

return names.strict("jeton.github", M)
