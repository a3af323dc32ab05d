-- A jeton policy for an OCI registry: clients without a login pull and push through it.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved
-- Then: skopeo inspect --tls-verify=false docker://127.0.0.1:8080/my/app

local registry = require "jeton.registry"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Where an upload goes on is said as clients of jeton know it.
  upstream = { "https://registry.example.com", rewrite_location = true },

  tokens = {
    -- A token for each scope that is asked for.
    images = registry.token {
      url = "https://registry.example.com",
      username = "robot",
      password = jeton.secret.file "/run/secrets/registry",
    },
  },

  on_request = function(req, tokens)
    registry.authorize(req, tokens.images)
  end,
}
