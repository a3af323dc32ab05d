-- A jeton policy for secrets that HashiCorp Vault or OpenBao keeps or makes.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local vault = require "jeton.vault"

-- How jeton proves to Vault who it is; vault.kubernetes, vault.jwt and vault.token are others.
local login = vault.approle {
  url = "https://vault.example.com:8200",
  role_id = "reports",
  secret_id = jeton.secret.file "/run/secrets/vault-secret-id",
}

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the secret.
  upstream = "https://api.example.com",

  tokens = {
    -- A secret that is kept (KV), read anew every five minutes and when it is refused:
    api = vault.kv { login = login, path = "reports/api", value = "key" },

    -- Credentials that are made for this proxy alone, renewed while it runs and revoked when it ends:
    -- db = vault.dynamic { login = login, path = "database/creds/reports", value = "password", fields = { "username" } },
  },

  on_request = function(req, tokens)
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
