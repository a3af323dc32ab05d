-- Error replies of one's own: for what jeton answers itself (on_error: no token, upstream down, a script's error) and for what the upstream answers (on_response).

local function reply(status, id, retry_after)
  local text = status == 503 and "We are waiting for a login service. Please try again shortly." or "Something went wrong on our side."
  return jeton.json.encode { error = { status = status, text = text, id = id, retry_after = retry_after } } .. "\n"
end

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",
  timeouts = { connect = "1s" },

  tokens = {
    api = {
      wait = "500ms",
      fetch = function()
        local res, problem = jeton.http.post(jeton.env.TOKEN_URL or "https://login.example.com/token", { form = { grant_type = "client_credentials" } })
        local body = res and res:json()
        if not body then return nil, problem or "no JSON" end
        return { value = body.access_token, expires_in = body.expires_in }
      end,
    },
  },

  on_request = function(req, tokens) req.headers["authorization"] = "Bearer " .. tokens.api end,

  -- err: { status, code, message, retry_after }. The message is for the log, where jeton has written it already: it may name hosts.
  on_error = function(req, err)
    req:respond(err.status, {
      ["content-type"] = "application/json",
      ["cache-control"] = "no-store",
      ["retry-after"] = err.retry_after, -- nil, which is no header, but with a 503
    }, reply(err.status, req.id, err.retry_after))
  end,

  on_response = function(res, req)
    if res.status < 500 then return end
    res:set_body(reply(res.status, req.id))
    res.headers["content-type"] = "application/json"
    res.headers["content-encoding"] = nil
  end,
}
