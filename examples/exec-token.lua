-- A token from a command, such as the command line of a cloud that has logged in already. It runs without a shell, in the background, on the keeper's thread.
-- This one understands what `az account get-access-token --output json` prints: { "accessToken": …, "expires_on": epoch seconds }.

local command = jeton.env.TOKEN_COMMAND or "az"

local function run_it()
  local done, problem = jeton.exec { command, "account", "get-access-token", "--resource", "https://management.azure.com/", "--output", "json", timeout = "20s" }
  if not done then return nil, problem end -- no such program, too slow, too much output
  if done.status ~= 0 then
    -- What it says on standard error is for us; what it prints on standard output holds the token and is never logged.
    return nil, ("%s ended with %d: %s"):format(command, done.status, done.stderr:sub(1, 200))
  end
  local out, not_json = jeton.json.decode(done.stdout)
  if not out then return nil, not_json end
  return { value = out.accessToken, expires_at = out.expires_on }
end

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://management.azure.com",

  tokens = {
    azure = {
      fetch = run_it,
      refresh_at = "5m",               -- the command gives out its cached token until then: asking earlier would bring the same one
      backoff = { min = "1s", max = "1m" },
    },
  },

  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.azure end,
}
