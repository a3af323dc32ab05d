-- A jeton policy for an application without an API key: jeton logs in as a person does, and keeps the cookie.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local session = require "jeton.session"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the cookie.
  upstream = "https://app.example.com",

  tokens = {
    app = session.login {
      url = "https://app.example.com/login",
      form = { user = "reports", password = jeton.secret.file "/run/secrets/app-password" },
      cookie = "session", -- its name
      -- csrf = { input = "_csrf" }, -- a hidden field of the form that has to come back
      -- logout = "https://app.example.com/logout",
    },
  },

  on_request = function(req, tokens)
    req.headers["cookie"] = tokens.app
  end,
}
