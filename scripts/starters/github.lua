-- A jeton policy for GitHub's API, as a GitHub App.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved
-- Then: curl http://127.0.0.1:8080/installation/repositories

local github = require "jeton.github"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the token.
  upstream = "https://api.github.com",

  tokens = {
    -- The token of an installation: it holds for an hour, and is fetched anew before that.
    api = github.app {
      app_id = 12345, -- the app's id or client id, on its page of settings
      key = jeton.secret.file "/run/secrets/github-app.pem", -- a private key made on that page
      organization = "my-organization", -- where it is installed; or repository = "owner/name", user = "name", installation = 67890
      -- repositories = { "api" },            -- no more than these
      -- permissions = { contents = "read" }, -- and no more than this
    },
  },

  on_request = function(req, tokens)
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
