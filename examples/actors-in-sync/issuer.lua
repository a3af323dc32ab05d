-- How the three stores of Actors in Sync ask the issuer for a token. What they differ in is what comes of it.

local M = {}

local token_url = jeton.env.TOKEN_URL or (jeton.env.JETON_DEMO_ISSUER or "") .. "/token?life=3s&delay=500ms"

-- The issuer's response, or nil and the problem.
function M.ask()
  return jeton.http.post(token_url, { form = { grant_type = "client_credentials" }, timeout = "10s" })
end

return M
