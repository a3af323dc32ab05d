-- GitHub's API as a GitHub App: the token of the app's installation in an organization, fetched anew before its hour is over.

local github = require "jeton.github"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.github.com",
  tokens = {
    api = github.app {
      app_id = 12345,
      key = jeton.secret.file(jeton.env.KEY_FILE or "/run/secrets/github-app.pem"),
      organization = "acme",
      url = jeton.env.UPSTREAM, -- of an Enterprise server; github.com's unless it is given
    },
  },
  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end,
}
