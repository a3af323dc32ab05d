-- An API of its own kind: a login with user and password in JSON, whose answer is { "token": …, "expires_at": epoch seconds, "session": … }; requests want
-- the token in one header and the session in another. This is how a fetch is written by hand.

local login_url = jeton.env.LOGIN_URL or "https://api.example.com/v1/login"
local user = jeton.env.LOGIN_USER or "reports"
local password = jeton.secret.file(jeton.env.PASSWORD_FILE or "/run/secrets/reports-password")

-- Runs on the keeper's thread: it may wait, and delays no request. One runs at a time.
local function login(ctx)
  jeton.log.debug("logging in", { reason = ctx.reason, attempt = ctx.attempt }) -- "first", "expiring", "rejected" or "manual"
  local res, problem = jeton.http.post(login_url, { json = { user = user, password = password }, timeout = "5s" })
  if not res then return nil, problem end -- nobody answered; jeton tries again, with longer and longer pauses
  if res.status ~= 200 then return nil, "the login answered " .. res.status end
  local body, not_json = res:json()
  if not body then return nil, not_json end
  -- A missing value, no lifetime or one in the past is a failed fetch: no need to check for it here.
  return { value = body.token, expires_at = body.expires_at, fields = { session = body.session } }
end

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",

  tokens = {
    api = {
      fetch = login,
      refresh_at = "60s",         -- this long before its end; a number such as 0.8 is a fraction of its life
      reject_on = { 401, 419 },   -- what this upstream answers when a session is over: log in again, send the request again
      timeout = "10s",            -- of one login
    },
  },

  on_request = function(req, tokens)
    req.headers["authorization"] = "Token " .. tokens.api
    req.headers["x-session"] = tokens.api:field "session" -- published with the token, in one step
  end,
}
