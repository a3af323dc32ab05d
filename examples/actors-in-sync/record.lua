-- Any of the three stores with a notebook beside it, for the pictures of README.md:
--
--   STORE=1-channels jeton demo examples/actors-in-sync/record.lua 2> 1-channels.log
--   lua5.4 examples/actors-in-sync/draw.lua 1-channels 1-channels.log > 1-channels.svg
--
-- With BUSY=1 it is the store of busy.lua.
--
-- It changes nothing of the store: it stands between store and issuer.lua and notes when the store asks, and of each
-- request when it came and was answered, which token it had, and how long the upstream said that this one was still
-- good for.

local store = assert(jeton.env.STORE, "STORE: which one? 1-channels, 2-interim or 3-mutex")

local issuer = require "issuer"
local ask = issuer.ask
function issuer.ask()
  local begun = jeton.now()
  local res, problem, code = ask()
  local life = res and res.status == 200 and res:json().expires_in or 0
  jeton.log.info("fetch", { begun = begun, over = jeton.now(), life = life })
  return res, problem, code
end

local policy = require(jeton.env.BUSY and "busy" or store)
local serve = policy.on_request

function policy.on_request(req, tokens)
  req.ctx.begun = jeton.now()
  return serve(req, tokens)
end

function policy.on_response(res, req)
  local body = jeton.json.decode(res:body())
  jeton.log.info("visit", { begun = req.ctx.begun, over = jeton.now(), status = res.status, token = body.token, left = body.good_for })
end

return policy
