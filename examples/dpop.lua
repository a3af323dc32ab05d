-- Tokens that are bound to a key, and a proof of it with every request (DPoP, RFC 9449): whoever finds such a token in a log cannot use it.
local oauth2 = require "jeton.oauth2"
local dpop = oauth2.dpop { key = jeton.secret.file(jeton.env.KEY_FILE or "/etc/jeton/dpop.key") } -- openssl ecparam -name prime256v1 -genkey -noout

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",
  tokens = {
    api = oauth2.client_credentials {
      token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
      client_id = jeton.env.CLIENT_ID or "reports",
      client_secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/reports"),
      dpop = dpop,
    },
  },
  on_send = function(req, tokens) dpop:sign(req, tokens.api) end, -- for each try: a proof is good for one
  on_response = function(res, req) dpop:check(res, req) end, -- a server that wants its nonce in it gets it
}
