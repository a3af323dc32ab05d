-- OAuth 2 client credentials without a shared secret: the client signs a short assertion with its private key (private_key_jwt, RFC 7523), and the issuer
-- knows the public key. FAPI, Okta, Auth0, Keycloak and Entra ID take it.
--
-- To begin: make a key, and register its public half with the issuer.
--
--   openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | install -m 600 /dev/stdin /etc/jeton/reports.key
--   openssl pkey -in /etc/jeton/reports.key -pubout
--
-- To change the key: register the new one, replace the file, take the old one away. The file is looked at again when it is used; no reload, no restart.
--
-- With a certificate instead (tls_client_auth, RFC 8705):  auth = "tls_client_auth", tls = { cert = "reports.pem", key = "reports.key" }

local oauth2 = require "jeton.oauth2"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  tokens = {
    api = oauth2.client_credentials {
      token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
      client_id = jeton.env.CLIENT_ID or "reports",
      auth = "private_key_jwt",
      assertion = {
        alg = "ES256", -- an RSA key: "RS256", or "PS256"
        key = jeton.secret.file(jeton.env.KEY_FILE or "/etc/jeton/reports.key"), -- opaque: it signs, and nobody reads it
        -- kid = "2026-11",                      -- the key's name, when the issuer knows several
        -- audience = "https://login.example.com", -- some issuers want their own name here; default: token_url
      },
      tls = { ca = jeton.env.ISSUER_CA }, -- nil: the system's authorities
    },
  },

  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end,
}
