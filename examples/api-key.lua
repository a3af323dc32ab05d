-- A key that does not expire: it comes from a file (or a variable), goes on every request, and is never seen by clients, logs or this script.
-- The file is looked at again when it is used, at most once a second: a key that is replaced there needs no reload.

local key
if jeton.env.API_KEY then
  key = jeton.secret.env "API_KEY" -- the name of the variable, not its value
else
  key = jeton.secret.file(jeton.env.API_KEY_FILE or "/run/secrets/api-key")
end

-- The same with a user and a password (RFC 7617): what is made of a secret is a secret.
--   local basic = "Basic " .. jeton.base64.encode("reports:" .. jeton.secret.file "/run/secrets/password")
--   … req.headers["authorization"] = basic

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  on_request = function(req)
    req.headers["x-api-key"] = key -- in place of whatever the client sent by that name
  end,
}
