-- Changes bodies on their way: adds a field to JSON that goes up, takes one out of JSON that comes down. Everything else is streamed and not looked at.

local function is_json(headers) return (headers["content-type"] or ""):find("application/json", 1, true) ~= nil end
local function is_object(text) return text:find "^%s*{" ~= nil end

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://api.example.com",
  limits = { script_body = "256k" }, -- what req:body() and res:body() gather at the most

  on_request = function(req)
    req.headers["accept-encoding"] = nil -- else the upstream may compress what on_response has to read
    if not is_json(req.headers) then return end
    local text, too_large = req:body()
    if not text then return req:respond(413, nil, too_large .. "\n") end
    local body, wrong = jeton.json.decode(text)
    if not body or not is_object(text) then return req:respond(400, nil, (wrong or "expected an object") .. "\n") end
    body.source = "gateway"
    req:set_body(jeton.json.encode(body)) -- the length is written anew
  end,

  on_response = function(res)
    if not is_json(res.headers) then return end
    local text = res:body()
    if not text then return end -- over limits.script_body: it is relayed as it is
    local body = is_object(text) and jeton.json.decode(text)
    if not body then return end
    body.internal_id = nil
    res:set_body(jeton.json.encode(body))
    res.headers["etag"] = nil -- it named the body as it was
  end,
}
