-- Somebody logs in once with a browser, on any machine, by typing in a code (RFC 8628): jeton login examples/device-login.lua api
-- From then on jeton renews the login by itself, and keeps it in a file. With a browser on this machine: oauth2.authorization_code, with authorize_url.
local oauth2 = require "jeton.oauth2"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",
  tokens = {
    api = oauth2.device {
      device_url = jeton.env.DEVICE_URL or "https://login.example.com/device/auth",
      token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
      client_id = jeton.env.CLIENT_ID or "reports",
      scope = { "openid", "offline_access" }, -- most issuers give a refresh token for this one alone
      path = jeton.env.LOGIN_FILE or "/var/lib/jeton/login",
    },
  },
  on_request = function(req, tokens) req.headers.authorization = "Bearer " .. tokens.api end,
}
