-- OAuth 2 client credentials (RFC 6749 section 4.4): this proxy logs in as itself, and every request carries its token.
--
--   curl http://127.0.0.1:8080/anything
--
-- What it promises: the token is fetched at the start, fetched anew before it expires, and never sent expired. When the upstream answers 401, it is fetched
-- anew and the request sent again. When the issuer is down, requests use the token at hand as long as it is valid, and then get 503 with Retry-After.

local oauth2 = require "jeton.oauth2"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  tokens = {
    api = oauth2.client_credentials {
      token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
      client_id = jeton.env.CLIENT_ID or "reports",
      client_secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/reports"), -- opaque, read again when the file changes
      scope = "reports.read",
      -- auth = "client_secret_post",          -- credentials in the form; default: "client_secret_basic", in the Authorization header
      -- audience = "https://api.example.com", -- some issuers want it
      wait = "2s",                             -- how long a request waits while there is no valid token
    },
  },

  on_request = function(req, tokens)
    -- A client's own Authorization is replaced. The token's bytes are put in by C, after this function has returned.
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
