-- An application without an API key: jeton logs in by its form, sends its cookie, and logs in again when a reply is 401 or leads to the login.

local session = require "jeton.session"

local app = jeton.env.UPSTREAM or "https://app.example.com"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = app,
  tokens = {
    app = session.login {
      url = app .. "/login",
      form = { user = "reports", password = jeton.secret.file(jeton.env.PASSWORD_FILE or "/run/secrets/password") },
      csrf = { input = "_csrf" },
      cookie = "connect.sid",
      logout = app .. "/logout",
    },
  },
  on_request = function(req, tokens) req.headers["cookie"] = tokens.app end,
}
