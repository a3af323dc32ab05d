--- Which protocols the specs speak with the program under test: those of its clients, and of its upstreams. JETON_SPEC_PROTOCOLS=h2-h1 has clients of HTTP/2 and upstreams of HTTP/1.1;
--- without it both are HTTP/1.1. Which spec runs with which others stands in spec/protocols.lua.
local M = { client = "h1", upstream = "h1" }

local told = os.getenv "JETON_SPEC_PROTOCOLS"
if told and told ~= "" then
  M.client, M.upstream = told:match "^(h[12])%-(h[12])$"
  assert(M.client, "JETON_SPEC_PROTOCOLS is not h1-h2, h2-h1, h2-h2 or h1-h1")
end

--- What req.version says of a client, and a field's name as a client can send it.
M.version = M.client == "h2" and "2" or "1.1"
--- The same in a line of the access log, behind "HTTP/".
M.in_log = M.client == "h2" and "2.0" or "1.1"
function M.name(name) return M.client == "h2" and name:lower() or name end

--- The ports of programs under test: clients speak their protocol there, and HTTP/1.1 with everybody else.
M.ports = {}
function M.is_h2(target)
  if M.client ~= "h2" then return false end
  local port = type(target) == "string" and target:match ":(%d+)$" or target
  return M.ports[tonumber(port)] == true
end

-- All upstreams over http:// speak HTTP/2, if the policy does not say something else of them. On the first line, so that the others keep their numbers.
local WRAP = [[return (function(policy)
  local function speak(u)
    if type(u) == "string" then u = { u } end
    if type(u) == "table" and u.http2 == nil and type(u[1]) == "string" and u[1]:find "^http:" then u.http2 = true end
    return u
  end
  if type(policy) ~= "table" then return policy end
  policy.upstream = speak(policy.upstream)
  for name, u in pairs(type(policy.upstreams) == "table" and policy.upstreams or {}) do policy.upstreams[name] = speak(u) end
  return policy
end)((function(...) ]]

--- A policy's text, with what the protocol of its upstreams asks for.
function M.policy(text)
  if M.upstream ~= "h2" or not text or text:sub(1, #"return (function(policy)") == "return (function(policy)" then return text end
  return WRAP:gsub("\n%s*", " ") .. text .. "\nend)(...))\n"
end

return M
