-- Any of the three stores with a notebook beside it, for the pictures of README.md:
--
--   STORE=1-channels jeton demo examples/actors-in-sync/record.lua 2> 1-channels.log
--   lua5.4 examples/actors-in-sync/draw.lua 1-channels 1-channels.log > 1-channels.svg
--
-- It changes nothing of the store: it notes when the store asks the issuer, and of each request when it came, when it had its token, and which.

local store = assert(jeton.env.STORE, "STORE: which one? 1-channels, 2-interim or 3-mutex")

local post = jeton.http.post
function jeton.http.post(...)
  local begun = jeton.now()
  local res, problem, code = post(...)
  jeton.log.info("fetch", { begun = begun, over = jeton.now() })
  return res, problem, code
end

local policy = require(store)
local serve = policy.on_request

function policy.on_request(req, tokens)
  req.ctx.begun = jeton.now()
  local result = serve(req, tokens)
  req.ctx.ready = jeton.now()
  return result
end

function policy.on_response(res, req)
  local body = jeton.json.decode(res:body())
  jeton.log.info("visit", { begun = req.ctx.begun, ready = req.ctx.ready, over = jeton.now(), token = body.token or 0, status = res.status })
end

return policy
