--- DPoP (RFC 9449): a token that is bound to a key, and a proof with each request that its sender has that key. A part of jeton.oauth2.
---
--- A proof is a JWT for one request: its method and URL, a random id, the time, the hash of the token that goes with it, and a nonce if the server gives them. So
--- it is made for each try (on_send), with the token of that try. A server's nonce comes with any of its replies and holds for the next proof there; one that a
--- proof has lacked comes with a refusal, which is no refusal of the token: the request is sent again (req:retry).
---
--- Each thread keeps the nonces that it has seen, by server. The key's file is read for each proof, so that it may be replaced; tokens that are bound to the
--- old one are refused then, and fetched anew.

local issuer = require "jeton.issuer"
local jwt = require "jeton.jwt"
local names = require "jeton.names"

local M = {}
local Dpop = {}
Dpop.__index = Dpop
Dpop.__name = "jeton.oauth2.dpop"
Dpop.__metatable = "jeton.oauth2.dpop"

local KEYS = { key = true, alg = true }
local ALGORITHMS = { ES256 = true, ES384 = true, RS256 = true, RS384 = true, RS512 = true, PS256 = true }
local SERVERS_MAX = 1000

local function fail(text, ...) error(text:format(...), 0) end

local is_secret = issuer.is_secret
local function is_dpop(value) return getmetatable(value) == Dpop.__metatable end

-- URLs ------------------------------------------------------------------------------------------------------------------------

--- Without query and fragment (RFC 9449 section 4.2).
local function bare(url) return (url:gsub("[?#].*$", "")) end

--- A nonce belongs to a server.
local function server_of(url) return url:match "^%a+://[^/?#]+" or url end

--- Does a refusal ask for a nonce (RFC 9449 sections 8 and 9)? Of a resource server by its challenge, of the issuer by its error.
local function asks_for_nonce(res)
  for _, challenge in ipairs(res.headers:all "www-authenticate") do
    if challenge:find("use_dpop_nonce", 1, true) then return true end
  end
  return false
end

--- As a token's reject_on: the nonce was refused, and the token was not.
function M.refuses(res) return res.status == 401 and not asks_for_nonce(res) end

-- proofs ----------------------------------------------------------------------------------------------------------------------

--- The proof for a request { method =, url = }, with the token that it is for, if there is one: an opaque secret, or nil, message, code.
function Dpop:proof(request)
  local public, why, code = jeton.crypto.jwk(self.key)
  if not public then return nil, ("%s is no key for DPoP: %s"):format(self.key, why), code end
  local ath
  if request.token then
    ath, why, code = jeton.crypto.hash("sha256", request.token)
    if not ath then return nil, why, code end
    ath = jeton.base64.encode_url(ath)
  end
  return jwt.sign({
    jti = jeton.base64.encode_url(jeton.crypto.random(16)),
    htm = request.method,
    htu = bare(request.url),
    iat = math.floor(jeton.now()),
    ath = ath,
    nonce = self.nonces[server_of(request.url)],
  }, { alg = self.alg, key = self.key, header = { typ = "dpop+jwt", jwk = public } })
end

--- Keeps the nonce that came with a reply. True: that reply asks for it, and the request may go once more.
function Dpop:learn(url, res)
  local nonce = res.headers["dpop-nonce"]
  if not nonce then return false end
  local server = server_of(url)
  if self.nonces[server] == nil then self.n = self.n + 1 end
  if self.n > SERVERS_MAX then self.nonces, self.n = {}, 1 end
  self.nonces[server] = nonce
  if res.status ~= 400 and res.status ~= 401 then return false end
  if asks_for_nonce(res) then return true end
  local body = res.json and res:json()
  return type(body) == "table" and body.error == "use_dpop_nonce"
end

-- in a policy -----------------------------------------------------------------------------------------------------------------

local function url_of(target) return ("%s://%s%s"):format(target.scheme, target.authority, target.path) end

--- In on_send: puts the token and its proof on the request.
---@param req jeton.request
---@param token jeton.secret
function Dpop:sign(req, token)
  if not is_secret(token) then error("dpop:sign: expected a token, as in dpop:sign(req, tokens.api), got " .. type(token), 2) end
  local known, target = pcall(function() return req.target end)
  if not known then error("dpop:sign: belongs into on_send, where a request's target is known", 2) end
  local proof, why = self:proof { method = req.method, url = url_of(target), token = token }
  if not proof then error("dpop:sign: " .. why, 2) end
  req.headers.authorization = "DPoP " .. token
  req.headers.dpop = proof
end

--- In on_response: keeps the server's nonce, and has a request that lacked it sent again. Returns true in that case.
---@param res jeton.response
---@param req jeton.request
function Dpop:check(res, req)
  local nonce = res.headers["dpop-nonce"]
  if not nonce then return false end
  local asked = self:learn(url_of(req.target), { status = res.status, headers = res.headers })
  return asked and req:retry() == true
end

--- By what a reload sees that it is another one.
function Dpop:identity() return { self.key, self.alg } end

-- options ---------------------------------------------------------------------------------------------------------------------

local function check_options(options)
  if type(options) ~= "table" then fail("expected a table { key = jeton.secret.file \"dpop.key\" }, got %s", type(options)) end
  names.check(KEYS, options, fail)
  if not is_secret(options.key) then fail("key: expected a private key such as jeton.secret.file \"dpop.key\", got %s", type(options.key)) end
  if options.alg ~= nil and not ALGORITHMS[options.alg] then fail "alg: expected ES256, ES384, RS256, RS384, RS512 or PS256" end
  local signed, why, code = jeton.crypto.sign(options.alg or "ES256", options.key, "")
  if not signed and code == "EINVAL" then fail("%s", why) end
end

--- The makers of proofs for the options of a policy's token. Raises.
function M.check(options)
  if is_dpop(options) then return options end
  local good, why = pcall(check_options, options)
  if not good then fail("dpop: %s", why) end
  return setmetatable({ key = options.key, alg = options.alg or "ES256", nonces = {}, n = 0 }, Dpop)
end

--- oauth2.dpop { key =, alg = }: for the token (`dpop = …`), for on_send and on_response.
---@param options jeton.oauth2.dpop.options
---@return jeton.oauth2.dpop
function M.new(options)
  local good, made = pcall(M.check, options)
  if not good then error("oauth2." .. made, 2) end
  return made
end

return M
