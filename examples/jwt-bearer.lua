-- A signed JWT for a token (the JWT bearer grant, RFC 7523): a service account of Google, Salesforce, DocuSign or Zoom. The key signs, and nobody reads it.
local oauth2 = require "jeton.oauth2"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://storage.googleapis.com",
  tokens = {
    api = oauth2.jwt_bearer {
      token_url = jeton.env.TOKEN_URL or "https://oauth2.googleapis.com/token",
      jwt = {
        issuer = jeton.env.ACCOUNT or "reports@project.iam.gserviceaccount.com",
        key = jeton.secret.file(jeton.env.ACCOUNT_KEY or "/etc/jeton/account.key"),
        claims = { scope = "https://www.googleapis.com/auth/devstorage.read_only" },
      },
    },
  },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
}
