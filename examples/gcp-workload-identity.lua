-- Google Cloud from a cluster elsewhere, without a key: the cluster's token, which it rotates in a file, is exchanged for one of a service account.

local gcp = require "jeton.gcp"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://storage.googleapis.com",
  tokens = {
    api = gcp.workload_identity {
      provider = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster",
      token = jeton.secret.file(jeton.env.TOKEN_FILE or "/var/run/secrets/tokens/google"),
      service_account = "reports@project.iam.gserviceaccount.com",
      sts_url = jeton.env.ISSUER, -- Google's unless they are given
      iam_url = jeton.env.ISSUER,
    },
  },
  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end,
}
