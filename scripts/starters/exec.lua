-- A jeton policy for credentials of programs that have logged in already: gcloud, az, git, kubectl's plugins.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local exec_credential = require "jeton.exec_credential"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the token.
  upstream = "https://api.example.com",

  tokens = {
    -- A plugin as a kubeconfig names it (users[].user.exec); no shell runs.
    api = exec_credential.kubernetes { command = { "my-login", "get-token", "--cluster", "main" } },

    -- api = exec_credential.gcloud(),
    -- api = exec_credential.az { resource = "https://graph.microsoft.com" },
    -- api = exec_credential.git { url = "https://git.example.com" }, -- then: req.headers["authorization"] = tokens.api:field "authorization"
  },

  on_request = function(req, tokens)
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
