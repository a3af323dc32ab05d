-- Several upstreams behind one address, chosen by path; one of them on two machines. Each gets its own token and no other.
--
--   /reports/7  →  REPORTS, as /7, with the token `reports`
--   the rest    →  the default upstream, as it is, with the token `api`

local oauth2 = require "jeton.oauth2"

local reports_url = jeton.env.REPORTS or "https://reports.example.com"
local api_a, api_b = jeton.env.API_A or "https://a.api.example.com", jeton.env.API_B or "https://b.api.example.com"

-- Who may receive a token: host[:port] means https, a plain one is written with its http://.
local function host_of(url) return (url:gsub("^https://", "")) end

local function credentials(scope, hosts)
  return oauth2.client_credentials {
    token_url = jeton.env.TOKEN_URL or "https://login.example.com/oauth/token",
    client_id = "gateway",
    client_secret = jeton.secret.file(jeton.env.SECRET_FILE or "/run/secrets/gateway"),
    scope = scope,
    hosts = hosts, -- checked in C as the request is written: a mistake below gives a 500, and no token goes where it should not
  }
end

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",

  -- Requests go to a and b in turn; one that cannot be reached, or does not serve, is passed over for a while.
  upstream = { api_a, api_b, timeouts = { connect = "2s" } },
  upstreams = {
    reports = { reports_url, timeouts = { first_byte = "5m" } }, -- slow by nature
  },

  tokens = {
    api = credentials("api", { host_of(api_a), host_of(api_b) }),
    reports = credentials("reports", { host_of(reports_url) }),
  },

  on_request = function(req, tokens)
    local rest = req.path:match "^/reports(/.*)$"
    if rest then
      req.upstream, req.path = "reports", rest
      req.headers["authorization"] = "Bearer " .. tokens.reports
    else
      req.headers["authorization"] = "Bearer " .. tokens.api
    end
  end,
}
