-- A token that nobody fetches: whoever issues it posts it here, signed, and requests use it from then on.
--
--   body='{"token":"abc","expires_in":300}'
--   sign=$(printf %s "$body" | openssl dgst -sha256 -hmac "$(cat SECRET_FILE)" -r | cut -d' ' -f1)
--   curl -d "$body" -H "X-Signature: $sign" http://127.0.0.1:8080/_push
--
-- The slot belongs to the process: all workers have the token at once, and it survives a reload (not a restart).

local secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/webhook")

local function take_push(req, tokens)
  if req.method ~= "POST" then return req:respond(405, { allow = "POST" }) end
  local body, problem = req:body()
  if not body then return req:respond(413, nil, problem .. "\n") end
  local signature = jeton.crypto.hex(jeton.crypto.hmac("sha256", secret, body))
  if not jeton.crypto.equal(signature, req.headers["x-signature"] or "") then return req:respond(403) end -- in constant time
  local push, not_json = jeton.json.decode(body)
  if type(push) ~= "table" or type(push.token) ~= "string" then return req:respond(400, nil, (not_json or "no token") .. "\n") end
  local ok, why = tokens.api:set(push.token, { expires_in = push.expires_in })
  if not ok then return req:respond(422, nil, why .. "\n") end -- no lifetime, or one that is over
  jeton.log.info("a token was pushed", { token = tokens.api })  -- token<api generation 2, expires in 299 s>
  req:respond(204)
end

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  tokens = {
    api = { missing = "fail" }, -- no fetch. Before the first push, and when the last token is over: 503 at once
  },

  on_request = function(req, tokens)
    if req.path == "/_push" then return take_push(req, tokens) end
    req.headers["authorization"] = "Bearer " .. tokens.api
  end,
}
