--- Starts spec/support/peers/token_peer.lua: see there.
local jeton = require "spec.support.jeton"
local http = require "spec.support.http"
local cjson = require "cjson"

---@class TokenPeer: Jeton
local Peer = {}

function Peer:url(path) return ("http://127.0.0.1:%d%s"):format(self.port, path or "") end
function Peer:hold(name) assert(http.get(self.port, "/hold/" .. name).status == 200) end
function Peer:release(name) assert(http.get(self.port, "/release/" .. name).status == 200) end
--- What /NAME/token answers from now on: { status, body, headers }; $BODY and $AUTH stand for what was sent. nil: tokens again.
function Peer:answer(name, answer)
  assert(http.request(self.port, "POST", "/answer/" .. name, nil, answer and cjson.encode(answer) or "").status == 200)
end
--- The requests that came, of that path when one is given.
function Peer:seen(path)
  local list = {}
  for _, request in ipairs(cjson.decode(http.get(self.port, "/seen").body)) do
    if path == nil or request.path == path then list[#list + 1] = request end
  end
  return list
end

local M = {}
function M.start()
  local p = jeton.start { file = jeton.root .. "/spec/support/peers/token_peer.lua" }
  local base = getmetatable(p).__index
  return setmetatable(p, { __index = function(t, key)
    if Peer[key] then return Peer[key] end
    return base(t, key)
  end })
end

return M
