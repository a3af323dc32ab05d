-- Each caller's own token is exchanged for one that the API behind takes, in the caller's name (RFC 8693). What was exchanged once is kept until it ends.
local oauth2 = require "jeton.oauth2"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",
  tokens = { user = oauth2.token_exchange {
    token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
    client_id = jeton.env.CLIENT_ID or "gateway",
    client_secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/gateway"),
    audience = "reports",
    family = true,
  } },
  on_request = function(req, tokens)
    local own = (req.headers.authorization or ""):match "^Bearer (.+)$"
    if not own then return req:respond(401) end
    local subject = jeton.secret.value(own)
    req.headers.authorization = "Bearer " .. tokens.user:of(subject, { subject = subject })
  end,
}
