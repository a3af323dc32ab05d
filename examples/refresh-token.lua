-- OAuth 2 refresh tokens (RFC 6749 section 6), for an API that acts for somebody who has logged in once with a browser. The issuer rotates: each refresh
-- brings a new refresh token and the old one is void. The newest one is kept in memory, over reloads too, and in a file, over restarts.
--
-- To begin: log in with whatever your issuer offers, and put the refresh token into the file.
--
--   install -m 600 /dev/stdin /var/lib/jeton/refresh-token

local oauth2 = require "jeton.oauth2"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  tokens = {
    api = oauth2.refresh_token {
      token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
      client_id = jeton.env.CLIENT_ID or "reports",
      client_secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/reports"), -- a public client has none: auth = "none"
      path = jeton.env.REFRESH_FILE or "/var/lib/jeton/refresh-token", -- written whole or not at all, with mode 0600
      -- refresh_token = jeton.secret.env "REFRESH_TOKEN",             -- instead of a path, or for when the file is not there yet
      refresh_at = 0.5, -- early: a refresh token that is never used may expire as well
    },
  },

  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end,
}
