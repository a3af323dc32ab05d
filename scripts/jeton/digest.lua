--- Digest access authentication (RFC 7616): a server's challenge is answered by hashes of name, password and its nonce, which is then used again and counted.
--
--   local login = digest.login { username = "mona" }
--   tokens      = { password = { secret = jeton.secret.file "password", reject_on = {} } },
--   on_send     = function(req, tokens) login.sign(req, tokens.password) end,
--   on_response = function(res, req) login.answer(res, req) end,
--
-- The first request goes without (none knows a nonce yet), its 401 brings the challenge, and req:retry sends it again. A nonce is kept by server and realm, for all
-- requests of this VM, until the server gives another: by `stale`, or by nextnonce in Authentication-Info.

local names = require "jeton.names"

local M = {}

local crypto = jeton.crypto

local OPTIONS = { username = true, prefer = true }
--- The stronger one first; what is not here (SHA-512-256) no library of jeton's makes.
local ALGORITHMS = { { "SHA-256", "sha256" }, { "SHA-256-sess", "sha256" }, { "MD5", "md5" }, { "MD5-sess", "md5" } }
local SERVERS_MAX = 256 -- challenges that are kept

-- challenges ----------------------------------------------------------------------------------------------------------------------------------

local TOKEN = "[%w!#$%%&'*+.^_`|~-]+" -- RFC 9110 section 5.6.2

--- The value of a parameter at that place, a token or a quoted string (RFC 9110 section 5.6.4), and where it ends. No place is further than behind the last byte,
--- where string.match would have nothing, also if the text ends in the middle of a value.
local function value_at(text, at)
  if text:sub(at, at) ~= '"' then return text:match("^([^%s,]*)()", at) end
  local made, from, last = {}, at + 1, #text + 1
  while true do
    local plain, behind = text:match('^([^"\\]*)()', from)
    made[#made + 1] = plain
    if text:sub(behind, behind) ~= "\\" then return table.concat(made), math.min(behind + 1, last) end
    made[#made + 1] = text:sub(behind + 1, behind + 1)
    from = math.min(behind + 2, last)
  end
end

--- Splits a WWW-Authenticate field into its challenges (RFC 9110 section 11.3), tables of parameters with their scheme. A word is a scheme unless `=` and a value
--- are behind it.
local function challenges_of(text)
  local list, at = {}, 1
  while true do
    at = text:match("^[%s,]*()", at)
    local word, behind = text:match("^(" .. TOKEN .. ")()", at)
    if not word then return list end
    local start = text:match("^%s*=%s*()", behind)
    if not start then
      list[#list + 1], at = { scheme = word:lower() }, behind
    else
      local value
      value, at = value_at(text, start)
      local challenge = list[#list]
      if challenge and challenge[word:lower()] == nil then challenge[word:lower()] = value end
    end
  end
end

local function rank(challenge)
  for i, algorithm in ipairs(ALGORITHMS) do
    if (challenge.algorithm or "MD5"):upper() == algorithm[1]:upper() then return i, algorithm end
  end
end

local function offers(qop, wanted)
  for word in qop:gmatch "[^%s,]+" do
    if word:lower() == wanted then return true end
  end
  return false
end

--- "auth", "auth-int", or nil for the form without it (RFC 2069); false: none that is known.
local function qop_of(challenge, prefer)
  local qop = challenge.qop
  if qop == nil then return nil end
  if prefer and offers(qop, prefer) then return prefer end
  return offers(qop, "auth") and "auth" or offers(qop, "auth-int") and "auth-int"
end

--- The best of what a reply offers; or nil, what it offers.
local function best_of(res, prefer)
  local best, best_rank, seen = nil, nil, {}
  for _, field in ipairs(res.headers:all "www-authenticate") do
    for _, challenge in ipairs(challenges_of(field)) do
      local place, algorithm = rank(challenge)
      local qop = qop_of(challenge, prefer)
      seen[#seen + 1] = challenge.scheme .. (challenge.algorithm and " " .. challenge.algorithm or "")
      if challenge.scheme == "digest" and challenge.nonce and challenge.realm and place and qop ~= false and (not best or place < best_rank) then
        challenge.hash, challenge.sess, challenge.used_qop = algorithm[2], algorithm[1]:find "%-sess$" ~= nil, qop
        best, best_rank = challenge, place
      end
    end
  end
  return best, table.concat(seen, ", ")
end

-- what is answered ----------------------------------------------------------------------------------------------------------------------------

local function hashed(hash, text)
  local made, why, code = crypto.hash(hash, text)
  if not made then return nil, why, code end
  return crypto.hex(made)
end

--- H(name:realm:password), and for the sessions of -sess with the nonce (section 3.4.2); a secret, or nil, message, code.
local function a1_of(challenge, username, password)
  local made, why, code = hashed(challenge.hash, username .. (":" .. challenge.realm .. ":") .. password)
  if not made or not challenge.sess then return made, why, code end
  return hashed(challenge.hash, made .. (":" .. challenge.nonce .. ":" .. challenge.cnonce))
end

local function a2_of(req, challenge, uri)
  local text = req.method .. ":" .. uri
  if challenge.used_qop ~= "auth-int" then return hashed(challenge.hash, text) end
  local body, why, code = req:body()
  if not body then
    if code == "LIMIT" then error("digest.login: the body is larger than limits.script_body, and the server wants it hashed (qop=auth-int): raise that", 0) end
    error("digest.login: the body: " .. why, 0)
  end
  return hashed(challenge.hash, text .. ":" .. hashed(challenge.hash, body))
end

local function quoted(text) return '"' .. text:gsub('[\\"]', "\\%0") .. '"' end

--- username, as a parameter (section 3.4): hashed where the server wants that, and by RFC 5987 where it is not ASCII.
local function name_of(challenge, username)
  if (challenge.userhash or ""):lower() == "true" then
    local made, why = hashed(challenge.hash, username .. ":" .. challenge.realm)
    if not made then error("digest.login: username: " .. why, 0) end
    return 'username="' .. made .. '", userhash=true'
  end
  if type(username) ~= "string" then return 'username="' .. username .. '"' end
  if username:find "[\128-\255]" then return "username*=UTF-8''" .. jeton.url.escape(username) end
  return "username=" .. quoted(username)
end

--- The value of Authorization, or nil, message, code. A nonce is counted each time that it is used.
local function authorization(req, challenge, username, password)
  local target = req.target
  local uri = target.query and target.path .. "?" .. target.query or target.path
  local a2 = a2_of(req, challenge, uri) -- awaits, so it comes before the count
  challenge.count = challenge.count + 1
  local count = ("%08x"):format(challenge.count)
  local a1, why, code = a1_of(challenge, username, password)
  if not a1 then return nil, why, code end
  local qop = challenge.used_qop
  local middle = qop and (":%s:%s:%s:%s:"):format(challenge.nonce, count, challenge.cnonce, qop) or ":" .. challenge.nonce .. ":"
  local response
  response, why, code = hashed(challenge.hash, a1 .. middle .. a2)
  if not response then return nil, why, code end
  local rest = (", realm=%s, nonce=%s, uri="):format(quoted(challenge.realm), quoted(challenge.nonce))
  local made = "Digest " .. name_of(challenge, username) .. rest .. '"' .. uri .. '", response="' .. response .. '"'
  if challenge.algorithm then made = made .. ", algorithm=" .. challenge.algorithm end
  if challenge.opaque then made = made .. ", opaque=" .. quoted(challenge.opaque) end
  if qop or challenge.sess then made = made .. (', cnonce="%s"'):format(challenge.cnonce) end
  if qop then made = made .. (", qop=%s, nc=%s"):format(qop, count) end
  return made
end

-- a login -------------------------------------------------------------------------------------------------------------------------------------

local function fail(text, ...) error("digest.login: " .. text:format(...), 0) end

local function check(options)
  if type(options) ~= "table" then fail('expected a table of options such as { username = "mona" }, got %s', type(options)) end
  names.check(OPTIONS, options, fail)
  local kind, username = getmetatable(options.username), options.username
  if kind == "secret" then return options end
  if type(username) ~= "string" or username == "" then
    fail("username: expected a string or a secret, got %s", username == "" and "an empty string" or type(username))
  end
  if username:find "%c" then fail "username: has control characters" end
  if options.prefer ~= nil and options.prefer ~= "auth" and options.prefer ~= "auth-int" then fail 'prefer: expected "auth" or "auth-int"' end
  return options
end

--- Where a nonce is good: at the server that gave it.
local function server_of(req)
  local target = req.target
  return target.scheme .. "://" .. target.authority
end

local function sign(login, req, password)
  req.headers.authorization = nil -- the client's own is for jeton's own users
  local challenge = login.challenges[server_of(req)]
  req.ctx[login.mark] = challenge and challenge.nonce
  if not challenge then return true end
  local made, why, code = authorization(req, challenge, login.username, password)
  if not made then return nil, why, code end
  req.headers.authorization = made
  return true
end

local function keep(login, server, challenge)
  if not login.challenges[server] then
    if login.kept == SERVERS_MAX then login.challenges, login.kept = {}, 0 end
    login.kept = login.kept + 1
  end
  challenge.count, challenge.cnonce = 0, crypto.hex(crypto.random(16))
  login.challenges[server] = challenge
end

--- nextnonce (section 3.5): the server wants that one from now on.
local function take_next(login, res, server)
  local info, challenge = res.headers["authentication-info"], login.challenges[server]
  local nonce = info and challenge and (info:match 'nextnonce="([^"]*)"' or info:match "nextnonce=([^%s,]+)")
  if nonce and nonce ~= challenge.nonce then challenge.nonce, challenge.count = nonce, 0 end
end

local function answer(login, res, req)
  local server = server_of(req)
  local used, known = req.ctx[login.mark], login.challenges[server]
  if res.status ~= 401 then
    if used and known and known.nonce == used then known.proved = true end
    take_next(login, res, server)
    return nil, "it was not refused", "EINVAL"
  end
  local challenge, offered = best_of(res, login.prefer)
  if not challenge then
    local what = offered ~= "" and offered or "no challenge"
    jeton.log.warn("digest.login: the server offers " .. what .. ", and none of it is Digest with SHA-256 or MD5")
    return nil, "no Digest that can be answered: " .. what, "EINVAL"
  end
  local stale = (challenge.stale or ""):lower() == "true" or (known and known.proved) -- a nonce that was good once has only become old
  if used and not stale and known and known.nonce == used then
    login.challenges[server], login.kept = nil, login.kept - 1 -- name or password are wrong; the next request begins anew
    return nil, "name or password are refused", "EACCES"
  end
  if not known or known.nonce == used then keep(login, server, challenge) end -- else another request has learnt a newer one meanwhile
  return req:retry()
end

--- sign(req, password), for on_send, and answer(res, req), for on_response, which returns true where the request goes again, else nil, message, code. Password: a
--- token or another secret.
---@param options jeton.digest.options
---@return jeton.digest.login
function M.login(options)
  local good, made = pcall(check, options)
  if not good then error(made, 2) end
  local login = { username = made.username, prefer = made.prefer, challenges = {}, kept = 0, mark = {} }
  local function guarded(what, ...)
    local fine, done, why, code = pcall(what, login, ...)
    if fine then return done, why, code end
    error(done, type(done) == "string" and done:find "^digest%.login: " and 3 or 0)
  end
  return names.strict("digest.login", {
    sign = function(req, password)
      local kind = getmetatable(password)
      if kind ~= "token" and kind ~= "secret" then
        error(("digest.login: sign: expected req and a password such as tokens.password, got %s"):format(type(password)), 2)
      end
      return guarded(sign, req, password)
    end,
    answer = function(res, req) return guarded(answer, res, req) end,
  })
end

return names.strict("jeton.digest", M)
