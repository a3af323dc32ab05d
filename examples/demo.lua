-- The policy of `jeton demo`. An issuer in the same process hands out tokens that live ten seconds, and an upstream refuses
-- every request whose token is not valid at that moment. This file stands between them.

local issuer = jeton.env("JETON_DEMO_ISSUER")     -- jeton demo sets both before it loads this file
local upstream = jeton.env("JETON_DEMO_UPSTREAM")

return {
  listen = "127.0.0.1:8080",
  upstream = upstream,

  tokens = {
    api = {
      -- Runs on the keeper's thread, may wait, and delays nobody: while it runs, requests use the token that is still valid.
      -- An issuer that speaks OAuth 2 needs no such function: see jeton.oauth2.
      fetch = function(ctx)
        jeton.log.info("fetching a token, reason: " .. ctx.reason)
        local res = assert(jeton.http.post(issuer .. "/token", { form = { grant_type = "client_credentials" }, timeout = 5 }))
        assert(res.status == 200, "the issuer answered " .. res.status)
        local body = assert(res:json())
        return { value = body.access_token, expires_in = body.expires_in }
      end,
      refresh_at = 0.7, -- of its life: after seven of the ten seconds, or a little earlier
      wait = "2s",      -- so long does a request wait while there is no valid token; then 503 with Retry-After
    },
  },

  on_request = function(req, tokens)
    -- tokens.api is a handle. Its bytes are put in while the request is written, and only if they are valid then.
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,

  on_response = function(res, _, tokens)
    res.headers["x-token"] = tostring(tokens.api) -- facts, never the token: try curl -i
  end,
}
