-- Azure's key vault from a machine with a managed identity: nothing to keep, nothing to rotate.

local azure = require "jeton.azure"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://my-vault.vault.azure.net",
  tokens = {
    vault = azure.managed_identity {
      resource = "https://vault.azure.net",
      url = jeton.env.METADATA, -- the machine's metadata server unless it is given
    },
  },
  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.vault end,
}
