--- What a token endpoint answers (RFC 6749 sections 5.1 and 5.2), as issuers do it in fact. A part of jeton.oauth2.
--
-- A reply is judged by what is in it: a refusal may come with 200, a token with 201, and either as a form instead of JSON. It is read in three steps: the
-- bytes become a table (`parse`), the table a refusal or a token (`M.read`), and the token's life a number of seconds (`M.life`). Issuers' clocks are not
-- ours: a moment that they name is held against the Date of the same reply, which is by their clock, too. Where a life can be told in two ways the shorter
-- one counts. Of a refusal only what is known to hold words is shown, since a reply may hold anything.

local jwt = require "jeton.jwt"
local times = require "jeton.oauth2.times"

local M = {}

local SHOWN_MAX = 200
local DATE_TRUST = 86400 -- seconds: a Date that is further from our clock than this is taken for a server without one
local MOMENT_FROM = 1e9 -- as a moment that is 2001, as a length 31 years
local LIFE_KEYS = { "expires_in", "expiresIn", "expires" }
local UNTIL_KEYS = { "expires_on", "expires_at", "expiresOn", "expiresAt", "expireTime", "expire_time", "expiration", "expiry", "expires" }
--- Not the RFC's, and yet bearer tokens: Slack's, eBay's, and a token's form in the place of its type.
local BEARER_TOO = {
  bot = true, user = true, ["application access token"] = true, ["user access token"] = true, access_token = true, jwt = true,
}

local function present(value)
  if value == jeton.json.null or value == "" then return nil end
  return value
end

--- A word or number that may be shown, or nil. What it repeats of what was sent is masked before the cut, behind which half a secret would not be known as one.
local function word(value)
  if type(value) == "number" then return tostring(value) end
  if type(value) ~= "string" or value == "" then return nil end
  return (jeton.log.masked(value):sub(1, SHOWN_MAX):gsub("%c", " "))
end

local function first(table_, keys)
  for _, key in ipairs(keys) do
    local shown = word(table_[key])
    if shown then return shown end
  end
end

-- bytes -> table --------------------------------------------------------------------------------------------------------------

local function unescape(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- application/x-www-form-urlencoded; the first of two fields of one name counts.
local function parse_form(text)
  local body = {}
  for name, value in text:gmatch "([^&=]+)=([^&]*)" do
    name = unescape(name)
    if body[name] == nil then body[name] = unescape(value) end
  end
  return body
end

--- By its type, or because it looks like one and like nothing else: issuers send forms as text/plain and text/html, too.
local function is_form(res, text)
  local kind = res.headers["content-type"]
  if kind and kind:lower():find "^%s*application/x%-www%-form%-urlencoded" then return true end
  return text:find "^[%w_%-.]+=[^%s<>{}]*$" ~= nil
end

--- The reply as a table, or nil, message.
local function parse(res)
  local body, why = res:json()
  if type(body) == "table" then return body end
  local text = res.body:gsub("^\xEF\xBB\xBF", ""):match "^%s*(.-)%s*$"
  if body == nil and is_form(res, text) then return parse_form(text) end
  return nil, why or "not a JSON object"
end

-- refusals --------------------------------------------------------------------------------------------------------------------

local CODES = { "error", "errorCode", "error_code", "errcode", "code", "__type", "type", "title", "name" }
local NESTED_CODES = { "status", "code", "type", "error", "reason" }
local WORDS = {
  "error_description", "message", "Message", "errorMessage", "error_message", "errorSummary", "errmsg", "msg",
  "detail", "description", "faultstring", "reason",
}

--- What the server says went wrong: its code and its words, each nil when there is none. RFC 6749 has `error` and `error_description`; Google nests them
--- in `error`, Apigee in `fault`, others list them in `errors`, and of a list the first counts.
local function refusal_of(body)
  for _, key in ipairs { "error", "fault", "errors" } do
    local inner = body[key]
    local listed = type(inner) == "table" and inner[1]
    if type(listed) == "string" then return nil, word(listed) end
    if type(listed) == "table" then inner = listed end
    if type(inner) == "table" and next(inner) ~= nil then return first(inner, NESTED_CODES), first(inner, WORDS) end
  end
  local code = first(body, CODES)
  return code, first(body, WORDS)
end

--- A reply that says in words that it is none of success, whatever its status.
local function refuses(body)
  local said = present(body.error)
  if said ~= nil and said ~= false and said ~= 0 and not (type(said) == "table" and next(said) == nil) then return true end
  if body.ok == false or body.success == false then return true end -- Slack
  local number = tonumber(present(body.errcode))
  return number ~= nil and number ~= 0
end

--- Where a redirect leads, without what may be a secret in it. who: what answered, if not the token endpoint.
local function redirect_of(res, who)
  local location = res.headers.location
  if res.status < 300 or res.status > 399 or not location then return nil end
  local place = word((location:match "^[^?#@]*"))
  return (", a redirect to %s: give the URL that answers%s"):format(place or "another place", who and "" or " as token_url")
end

--- The message for a reply without a token, and the server's code by itself. who: what answered.
local function describe(res, body, who)
  local code, text
  if body then
    code, text = refusal_of(body)
  end
  local message = ("%s answered %d"):format(who or "the token endpoint", res.status)
  if code then message = message .. ": " .. code end
  if text and text ~= code then message = message .. ": " .. text end
  return message .. (redirect_of(res, who) or ""), code
end

--- Codes of RFC 6749 section 5.2 and RFC 8707 that stay what they are until somebody changes the client, at the issuer or here. Not what only looks like them: an
--- issuer that is being deployed answers 404 and 403, too.
local PERMANENT = {
  invalid_request = true, invalid_client = true, invalid_grant = true, unauthorized_client = true, unsupported_grant_type = true,
  invalid_scope = true, invalid_target = true,
}

--- Seconds, as Retry-After asks for them (RFC 9110 section 10.2.3), or nil. A date is held against that of the reply, whose clock is the same.
function M.retry_after(res)
  local text = res.headers["retry-after"]
  if not text then return nil end
  local seconds = tonumber(text:match "^%s*(%d+)%s*$")
  local at = not seconds and times.of_header(text)
  if at then seconds = math.max(0, at - (times.of_header(res.headers.date) or jeton.now())) end
  return seconds
end

--- The third result of a fetch: how the next attempt is to be made after a reply; nil: as any.
function M.how(res, permanent)
  local seconds = M.retry_after(res)
  if seconds == 0 then seconds = nil end
  return (seconds or permanent) and { retry_after = seconds, permanent = permanent } or nil
end

--- What a failed read returns: how the next attempt is to be made stands at the end.
local function failed(res, message, code)
  return nil, message, code, M.how(res, res.status < 500 and PERMANENT[code] or nil)
end

local function refused(res, body, who) return failed(res, describe(res, body, who)) end

--- Of a reply that is a refusal, of whatever issuer: the message, how the next attempt is to be made (nil: as any), and the server's code.
--- body: the reply as a table, or nil.
function M.refusal(res, body, who)
  local _, message, code, how = refused(res, body, who)
  return message, how, code
end

-- tokens ----------------------------------------------------------------------------------------------------------------------

--- The type of a token that is not used: its name, as long as it is one.
local function type_shown(kind)
  return type(kind) == "string" and #kind <= 20 and kind:find "^[%w_-]+$" and kind or "another one"
end

--- types: what is as good as Bearer here, in lower case.
local function is_bearer(kind, types)
  kind = present(kind)
  if kind == nil then return true end
  if type(kind) ~= "string" then return false end
  kind = kind:lower():match "^%s*(.-)%s*$"
  return kind:find "^bearer" ~= nil or BEARER_TOO[kind] or types and types[kind] or kind == ""
end

--- nil for a type that is wanted, or a message. types: "DPoP", for nothing else; a set of what is as good as Bearer; or nil.
local function wrong_type(kind, types)
  if types ~= "DPoP" then
    return not is_bearer(kind, types) and ("the token endpoint gave a token whose token_type is %s, not Bearer"):format(type_shown(kind)) or nil
  end
  if type(kind) == "string" and kind:lower() == "dpop" then return nil end
  local text = "the token endpoint gave a token whose token_type is %s, not DPoP: it is not bound to the key. Leave `dpop` out, or have the issuer ask for it"
  return text:format(type_shown(kind))
end

--- When the reply was made, by its server's clock; nil when that is not known.
local function date_of(res)
  local date = times.of_header(res.headers.date)
  if not date or math.abs(date - jeton.now()) > DATE_TRUST then return nil end
  local age = res.headers.age -- of a cache on the way, which has no business here
  return date + (age and tonumber(age:match "^%s*(%d+)%s*$") or 0)
end

--- Seconds as they stand there; nil: not told. As text they may have an exponent, a sign, or the `s` of protocol buffers' durations.
local function seconds_of(value)
  value = present(value)
  if type(value) ~= "string" then return value end
  value = present(value:match "^%s*(.-)%s*$")
  if not value or value:find "^%d+%.?%d*$" then return value end
  local digits = value:match "^%+?(%d+%.?%d*[eE]?[+-]?%d*)s?$"
  return digits and tonumber(digits) or value
end

--- RFC 6749's key as it is, so that what is wrong with it is told; the others only where they hold a length.
local function told_seconds(body)
  local seconds = seconds_of(body.expires_in)
  if seconds ~= nil then return seconds end
  for _, key in ipairs(LIFE_KEYS) do
    local other = tonumber(seconds_of(body[key]))
    if other and other < MOMENT_FROM then return other end
  end
end

--- A moment becomes seconds by the clock of whoever named it. What cannot be one is a length in the wrong place.
local function told_moment(body, date)
  for _, key in ipairs(UNTIL_KEYS) do
    local at = times.of_json(body[key])
    if at and at > 0 then return at < MOMENT_FROM and at or at - (date or jeton.now()) end
  end
end

--- The life that stands in a JWT. Without the issuer's clock: no longer than from its making (it may have been made before), nor than by our clock.
local function jwt_life(token, date)
  local claims = jwt.claims(token)
  local until_, made = times.of_json(claims and claims.exp), times.of_json(claims and claims.iat)
  if not until_ then return nil end
  local life = until_ - (date or jeton.now())
  if made then life = math.min(life, until_ - made) end
  return life
end

--- Seconds, or as the issuer wrote them; nil: it tells none. `lifetime` is the policy's, for an issuer that tells none beside the token itself.
function M.life(body, lifetime)
  local seconds = told_seconds(body)
  local zero = tonumber(seconds) == 0 -- some write it for "I do not say", others for "over": the policy's `lifetime` says which
  if seconds and not zero then return seconds end
  local left = told_moment(body, body.date)
  if left then return left end
  if zero and not lifetime then return 0 end
  local life = jwt_life(body.access_token, body.date)
  if life and lifetime then return math.min(life, lifetime) end
  return life or lifetime
end

--- The reply's table with `date` in it (nil: not known), or nil, message, the server's code, and how the next attempt is to be made:
--- `{ retry_after = seconds, permanent = true }`, or nil when nothing is known of that.
--- types: as of wrong_type.
function M.read(res, types)
  local body, why = parse(res)
  local good = res.status >= 200 and res.status <= 299
  if not good or (body and refuses(body)) then return refused(res, body) end
  if not body then return failed(res, "the token endpoint's reply is " .. why) end
  if type(body.access_token) ~= "string" or body.access_token == "" then
    local kind = type(present(body.access_token) or nil)
    if kind ~= "nil" and kind ~= "string" then
      return failed(res, ("the token endpoint's reply has an access_token that is a %s, not a string"):format(kind))
    end
    local _, text = refusal_of(body)
    return failed(res, "the token endpoint's reply has no access_token" .. (text and ", it says: " .. text or ""))
  end
  local wrong = wrong_type(body.token_type, types)
  if wrong then return failed(res, wrong) end
  body.date = date_of(res)
  return body
end

return M
