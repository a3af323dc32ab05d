-- One proxy, many tenants: a header names the tenant, and each has a token of its own, fetched when it is first needed.
--
--   curl -H 'X-Tenant: acme' http://127.0.0.1:8080/
--
-- A tenant exists when there is a file with its secret, SECRETS/acme. A new one needs no reload.

local token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token"
local secrets = jeton.env.SECRETS_DIR or "/etc/jeton/tenants"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  tokens = {
    tenant = {
      family = true, -- one token a key: tokens.tenant[key]
      max = 1000,    -- at one time; when all are in use, a request for one more gets 500
      idle = "30m",  -- one that nobody used for so long is dropped
      fetch = function(ctx)
        local res, problem = jeton.http.post(token_url, {
          -- ctx.key is what on_request put between the brackets; form: both are encoded as OAuth wants it (RFC 6749 section 2.3.1).
          auth = { ctx.key, jeton.secret.file(secrets .. "/" .. ctx.key), form = true },
          form = { grant_type = "client_credentials" },
          timeout = "5s",
        })
        if not res then return nil, problem end
        if res.status ~= 200 then return nil, "the issuer answered " .. res.status end
        local body, not_json = res:json()
        if not body then return nil, not_json end
        return { value = body.access_token, expires_in = body.expires_in }
      end,
    },
  },

  on_request = function(req, tokens)
    local tenant = req.headers["x-tenant"]
    -- It comes from outside and goes into a file's name: letters, digits, '_' and '-' only.
    if not tenant or not tenant:find "^[%w_-]+$" or #tenant > 64 then return req:respond(400, nil, "X-Tenant: which tenant?\n") end
    if not jeton.file.exists(secrets .. "/" .. tenant) then return req:respond(403, nil, "X-Tenant: no such tenant\n") end
    req.headers["authorization"] = "Bearer " .. tokens.tenant[tenant]
    req.headers["x-tenant"] = nil -- the upstream knows by the token
  end,
}
