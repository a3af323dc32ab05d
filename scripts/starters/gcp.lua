-- A jeton policy for Google Cloud's APIs.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved

local gcp = require "jeton.gcp"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given the token.
  upstream = "https://storage.googleapis.com",

  tokens = {
    -- On Google's machines, in its containers and functions: the account that they run as. Nothing has to be kept.
    api = gcp.metadata(),

    -- Elsewhere, with the key file of a service account:
    -- api = gcp.key_file { path = "/run/secrets/account.json" },

    -- In another cloud, a cluster or a CI, by the token that it gives:
    -- api = gcp.workload_identity {
    --   provider = "//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
    --   token = jeton.secret.file "/var/run/secrets/tokens/google",
    --   service_account = "reports@project.iam.gserviceaccount.com",
    -- },

    -- For a service of yours that asks who calls (Cloud Run, IAP): an ID token. Any of the above takes `audience`.
    -- api = gcp.metadata { audience = "https://service-abc.a.run.app" },
  },

  on_request = function(req, tokens)
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
