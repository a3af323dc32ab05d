-- A service account: the fetch signs a JWT that says who it is and what it wants, and exchanges it for an access token (the JWT bearer grant, RFC 7523
-- section 2.1). Google's service accounts work like this, and so do others. It is also how a fetch signs by hand, with jeton.jwt.
--
-- From the key file that Google hands out take client_email, and put private_key into a file of its own:
--
--   jq -r .private_key account.json | install -m 600 /dev/stdin /etc/jeton/account.key

local jwt = require "jeton.jwt"

local token_url = jeton.env.TOKEN_URL or "https://oauth2.googleapis.com/token"
local account = jeton.env.ACCOUNT or "reports@project.iam.gserviceaccount.com"
local key = jeton.secret.file(jeton.env.KEY_FILE or "/etc/jeton/account.key")

local function exchange()
  local now = math.floor(jeton.now())
  local assertion, unsigned = jwt.sign({
    iss = account,
    aud = token_url,
    scope = "https://www.googleapis.com/auth/devstorage.read_only",
    iat = now,
    exp = now + 300,
  }, { alg = "RS256", key = key })
  if not assertion then return nil, unsigned end
  local res, problem = jeton.http.post(token_url, {
    form = { grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion = assertion }, -- a secret as any other
    timeout = "5s",
  })
  if not res then return nil, problem end
  if res.status ~= 200 then return nil, "the token endpoint answered " .. res.status end
  local body, not_json = res:json()
  if not body then return nil, not_json end
  return { value = body.access_token, expires_in = body.expires_in }
end

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://storage.googleapis.com",
  tokens = { api = { fetch = exchange } },
  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end,
}
