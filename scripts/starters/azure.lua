-- A jeton policy for Azure, Microsoft Graph, and whatever else Microsoft Entra guards.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local azure = require "jeton.azure"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the token.
  upstream = "https://graph.microsoft.com",

  tokens = {
    -- An application and its secret:
    api = azure.client_secret {
      tenant = "00000000-0000-0000-0000-000000000000",
      client_id = "11111111-1111-1111-1111-111111111111",
      client_secret = jeton.secret.file "/run/secrets/azure-client",
      scope = "https://graph.microsoft.com/.default", -- the API's name with /.default behind it
    },

    -- The same with a certificate instead:
    -- api = azure.certificate { tenant = "…", client_id = "…", cert = "client.pem", key = jeton.secret.file "client.key", scope = "…/.default" },

    -- In a pod with Azure's workload identity, which says who it is:
    -- api = azure.workload_identity { scope = "https://vault.azure.net/.default" },

    -- On a machine with a managed identity:
    -- api = azure.managed_identity { resource = "https://vault.azure.net" },
  },

  on_request = function(req, tokens)
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
