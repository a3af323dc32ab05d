-- A jeton policy: a Lua file that returns a table.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local oauth2 = require "jeton.oauth2"

return {
  -- Where clients connect: plain HTTP. A list is fine: { "127.0.0.1:8080", "unix:/run/jeton-proxy.sock" }.
  listen = "127.0.0.1:8080",

  -- Where their requests go. Only this server is given the token.
  upstream = "https://api.example.com",

  tokens = {
    -- Fetched before it is needed, refreshed before it expires, shared by all requests.
    api = oauth2.client_credentials {
      token_url     = "https://login.example.com/oauth/token",
      client_id     = "my-client",
      client_secret = jeton.secret.file "/run/secrets/my-client", -- read when needed, never shown
      -- scope    = "reports.read",
      -- audience = "https://api.example.com",
    },

    -- A token by hand, for an issuer that speaks something of its own:
    -- other = {
    --   fetch = function(ctx)
    --     local res = assert(jeton.http.post("https://login.example.com/session", { json = { user = "me" }, timeout = 5 }))
    --     local body = assert(res:json())
    --     return { value = body.token, expires_in = body.ttl }
    --   end,
    --   refresh_at = 0.8,   -- of its life
    --   wait = "2s",        -- how long a request waits while there is no valid token
    -- },
  },

  -- Runs for each request. `tokens.api` is a handle: its bytes are put in when the request is sent, and never seen here.
  on_request = function(req, tokens)
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,

  -- log = { level = "info" },
  -- timeouts = { connect = "5s", first_byte = "60s", drain = "30s" },
}
