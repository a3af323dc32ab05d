--- An issuer and an upstream in one, and what each of them saw: a policy, so that it is scripted in a few lines. /NAME/token gives the token NAME-1, NAME-2, … with a
-- refresh token; /hold/NAME lets requests under /NAME wait until /release/NAME; /answer sets what /NAME/token says instead; /seen tells what came.
local seen, held, answers, n = {}, {}, {}, 0

local function token_of(who)
  n = n + 1
  return jeton.json.encode { access_token = who .. "-" .. n, token_type = "Bearer", expires_in = 3600, refresh_token = who .. "-refresh-" .. n }
end

return {
  listen = "127.0.0.1:0",
  on_request = function(req)
    local who, what = req.path:match "^/([%w_]+)/?([%w_]*)"
    local body = req:body()
    if who == "seen" then
      req:respond(200, nil, jeton.json.encode(jeton.json.array(seen)))
    elseif who == "hold" or who == "release" then
      held[what] = who == "hold" or nil
      req:respond(200, nil, "")
    elseif who == "answer" then
      answers[what] = body ~= "" and jeton.json.decode(body) or nil
      req:respond(200, nil, "")
    else
      seen[#seen + 1] = { path = req.path, authorization = req.headers.authorization, body = body }
      while held[who] do jeton.sleep(0.02) end
      local answer = what == "token" and answers[who]
      if answer then
        local text = answer.body:gsub("%$BODY", function() return body end):gsub("%$AUTH", function() return req.headers.authorization or "" end)
        req:respond(answer.status, answer.headers, text)
      elseif what == "token" then
        req:respond(200, { ["content-type"] = "application/json" }, token_of(who))
      else
        req:respond(200, nil, tostring(req.headers.authorization))
      end
    end
  end,
}
