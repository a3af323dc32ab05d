-- A registry for clients that have no login of their own: each request gets a token for its repository and action, and nothing more.

local registry = require "jeton.registry"

local url = jeton.env.UPSTREAM or "https://registry.example.com"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = { url, rewrite_location = true }, -- uploads go where the registry says; so that they come through here
  tokens = {
    registry = registry.token {
      url = url,
      username = "ci",
      password = jeton.secret.file(jeton.env.PASSWORD_FILE or "/run/secrets/registry"),
    },
  },
  on_request = function(req, tokens) registry.authorize(req, tokens.registry) end,
}
