-- Three keys for one API: each request takes the one that was used least, and one that is at its limit rests for as long as the API says.

local pool = require "jeton.pool"

local keys = pool.new { tokens = { "one", "two", "three" }, choose = "least_used", rest_on = { 429 } }
local dir = jeton.env.KEYS_DIR or "/run/secrets/api-keys"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",
  limits = { retries = 2 }, -- so that each key may be tried
  tokens = { one = jeton.secret.file(dir .. "/one"), two = jeton.secret.file(dir .. "/two"), three = jeton.secret.file(dir .. "/three") },
  on_send = function(req, tokens)
    local key = keys:choose(req, tokens)
    if key then req.headers["x-api-key"] = key end
  end,
  on_response = function(res, req) keys:answered(res, req) end,
}
