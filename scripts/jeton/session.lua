--- Logins that give a cookie, as web applications have them: a form or JSON with a password, a CSRF token in between, and a redirect to the login when
--- the session is over.
--
--   tokens = { app = session.login {
--     url = "https://app.example.com/login", form = { user = "reports", password = jeton.secret.file "…" }, cookie = "sid", csrf = { input = "_csrf" },
--   } }
--   on_request = function(req, tokens) req.headers["cookie"] = tokens.app end
--
-- The token's value is the Cookie header: all cookies that the login has given. A session has no end that is told; so it is over when a reply says so (401,
-- or a redirect that leads to the login), and the request is replayed with a fresh one. A login that is refused is not tried again and again, since
-- applications lock accounts by that.
-- Sources: RFC 6265 sections 5.2 and 5.4; Rails', Django's, Angular's and Laravel's guides for where their CSRF tokens stand.

local issuer = require "jeton.issuer"
local names = require "jeton.names"
local reply = require "jeton.oauth2.reply"

local M = {}

local LIFETIME = 1800 -- seconds: what most applications let a session idle for
local PAGE_MAX = "1m"
local OVER = { [401] = true, [419] = true, [440] = true } -- 419: Laravel's, 440: IIS's
local REFUSED = { [400] = true, [401] = true, [403] = true, [422] = true }
local REDIRECT = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- cookies -------------------------------------------------------------------------------------------------------------------------------------

--- Seconds that a cookie lives, or nil: as long as the browser. Max-Age goes before Expires (RFC 6265 section 5.3).
local function life_of(attributes)
  local age = attributes:match ";%s*[Mm]ax%-[Aa]ge%s*=%s*(-?%d+)"
  if age then return tonumber(age) end
  local date = attributes:match ";%s*[Ee]xpires%s*=%s*([^;]+)"
  local at = date and jeton.time.parse((date:gsub("^(%a%a%a, %d%d)%-(%a%a%a)%-(%d%d%d%d)", "%1 %2 %3")))
  return at and at - jeton.now()
end

--- Takes in what a reply sets. jar: by name, { value =, life = }.
local function take(jar, res)
  for _, text in ipairs(res.headers:all "set-cookie") do
    local name, value, attributes = text:match "^%s*([^=;%s]+)%s*=%s*([^;]-)%s*(;.*)$"
    if not name then
      name, value = text:match "^%s*([^=;%s]+)%s*=%s*([^;]-)%s*$"
      attributes = ""
    end
    local life = name and life_of(attributes)
    if name then jar[name] = not (life and life <= 0) and { value = value, life = life } or nil end
  end
end

local function header_of(jar)
  local list = {}
  for name, cookie in pairs(jar) do list[#list + 1] = name .. "=" .. cookie.value end
  table.sort(list)
  return #list > 0 and table.concat(list, "; ") or nil
end

local function names_of(options) return type(options.cookie) == "string" and { options.cookie } or options.cookie end

-- CSRF tokens ---------------------------------------------------------------------------------------------------------------------------------

local ENTITIES = { amp = "&", quot = '"', apos = "'", lt = "<", gt = ">" }

local function unescape(text)
  text = text:gsub("&#[xX](%x%x?%x?%x?);", function(hex) return utf8.char(tonumber(hex, 16)) end)
  text = text:gsub("&#(%d%d?%d?%d?);", function(number) return utf8.char(tonumber(number)) end)
  return (text:gsub("&(%a+);", ENTITIES))
end

local function attribute(tag, name)
  for key, _, value in tag:gmatch "([%w_-]+)%s*=%s*([\"'])(.-)%2" do
    if key:lower() == name then return unescape(value) end
  end
  for key, value in tag:gmatch "([%w_-]+)%s*=%s*([^%s\"'>/]+)" do
    if key:lower() == name then return unescape(value) end
  end
end

--- The value of the tag of that kind and name, as in <input name="_csrf" value="…"> and <meta name="csrf-token" content="…">.
local function tag_value(page, kind, name, value)
  for found, tag in page:gmatch "<%s*(%a+)(%s[^>]*)>" do
    if found:lower() == kind and attribute(tag, "name") == name then return attribute(tag, value) end
  end
end

--- A CSRF token out of a page and the cookies at hand, or nil, message.
local function csrf_in(csrf, res, jar)
  if csrf.cookie then
    local cookie = jar[csrf.cookie]
    if not cookie then return nil, ("there is no cookie '%s' with a CSRF token"):format(csrf.cookie) end
    return (jeton.url.unescape(cookie.value)) or cookie.value -- Laravel and others write it percent-encoded
  end
  local token
  if csrf.input then
    token = tag_value(res.body, "input", csrf.input, "value")
  else
    token = tag_value(res.body, "meta", csrf.meta, "content")
  end
  if token then return token end
  return nil, ("the page has no <%s name=\"%s\"> with a CSRF token"):format(csrf.input and "input" or "meta", csrf.input or csrf.meta)
end

--- Where the token goes: a header, or a field of what is sent.
local function with_csrf(csrf, token, headers, body)
  if not token then return body end
  if csrf.header then
    headers[csrf.header] = token
    return body
  end
  local copy = {}
  for name, value in pairs(body) do copy[name] = value end
  copy[csrf.field or csrf.input] = token
  return copy
end

-- requests ------------------------------------------------------------------------------------------------------------------------------------

---@async
local function ask(options, request, jar)
  request.headers = request.headers or {}
  for name, value in pairs(options.headers or {}) do request.headers[name] = request.headers[name] or value end
  request.headers.cookie = jar and header_of(jar) or request.headers.cookie
  request.timeout, request.limits = options.timeout, { body = PAGE_MAX }
  request.tls, request.http2, request.proxy = options.tls, options.http2, options.proxy
  local res, why = jeton.http.request(request)
  if res and jar then take(jar, res) end
  return res, why
end

--- Reads a page for its cookies, and its CSRF token if one is wanted; or nil, message.
---@async
local function read_page(options, url, jar)
  local res, why = ask(options, { method = "GET", url = url }, jar)
  if not res then return nil, why end
  local wants_page = options.csrf and not options.csrf.cookie
  if res.status >= (wants_page and 300 or 400) then
    local message, how = reply.refusal(res, nil, "the page " .. url:match "^[^?#]*")
    return nil, message, how
  end
  if not options.csrf then return true end
  return csrf_in(options.csrf, res, jar)
end

local function path_of(base, reference)
  local url = jeton.url.join(base, reference)
  local parts = url and jeton.url.parse(url)
  return parts and (parts.path == "" and "/" or parts.path)
end

--- Does a reply lead to the login? Hosts are left out: an application may know itself by another name.
local function leads_to_login(options, res)
  local location = REDIRECT[res.status] and res.headers.location
  local path = location and path_of(options.url, location)
  for _, place in ipairs(path and { options.url, options.page or options.url, options.redirect } or {}) do
    if path == path_of(options.url, place) then return true end
  end
  return false
end

--- Why a reply is no success, or nil. An application may say no with 200 and the same page once more.
local function refusal_in(options, res)
  if options.success then
    return not options.success(res) and ("the login answered %d, which `success` does not take for one"):format(res.status) or nil
  end
  if res.status >= 400 then return ("the login answered %d"):format(res.status) end
  if leads_to_login(options, res) then return "the login leads back to itself: are name and password right?" end
  if res.body:lower():find "<input[^>]*type%s*=%s*[\"']?password" then return "the login answered with its form again: are name and password right?" end
end

-- the login -----------------------------------------------------------------------------------------------------------------------------------

local function result_of(options, jar, token)
  local life, given
  for _, name in ipairs(names_of(options)) do
    local cookie = jar[name]
    if not cookie then
      local there = {}
      for other in pairs(jar) do there[other] = true end
      return nil, ("the login gave no cookie '%s': %s"):format(name, next(there) and names.known(there) or "it gave none")
    end
    given = cookie.life and math.min(given or cookie.life, cookie.life) or given
  end
  life = given and math.min(given, options.lifetime or given) or options.lifetime or LIFETIME
  return { value = header_of(jar), expires_in = life, fields = { csrf = token } }
end

---@async
local function fetch(options)
  local jar, headers = {}, {}
  local token, why, how
  if options.page or options.csrf then
    token, why, how = read_page(options, options.page or options.url, jar)
    if not token then return nil, why, how end
  end
  local kind = options.json and "json" or "form"
  local body = with_csrf(options.csrf, options.csrf and token, headers, options[kind])
  local res
  res, why = ask(options, { method = "POST", url = options.url, headers = headers, [kind] = body }, jar)
  if not res then return nil, why end
  local refused = refusal_in(options, res)
  if refused then return nil, refused, reply.how(res, (res.status < 400 or REFUSED[res.status]) and true or nil) end
  if options.csrf and options.csrf.after then
    token, why, how = read_page(options, options.csrf.after, jar)
    if not token then return nil, why, how end
  elseif options.csrf and options.csrf.cookie then
    token = csrf_in(options.csrf, res, jar)
  end
  return result_of(options, jar, options.csrf and token)
end

--- Ends the session where the application has a place for that.
---@async
local function release(options, ctx)
  local url, csrf = options.logout, options.csrf
  if not url then return true end
  local headers = { cookie = ctx.previous:field() }
  local form = with_csrf(csrf, csrf and ctx.previous:field "csrf", headers, {})
  local res, why = ask(options, { method = "POST", url = url, headers = headers, form = form })
  if not res then return nil, why end
  if res.status >= 400 then return nil, ("the logout answered %d"):format(res.status) end
  return true
end

-- options -------------------------------------------------------------------------------------------------------------------------------------

local CSRF = { input = true, meta = true, cookie = true, field = true, header = true, after = true }

local function check_csrf(csrf)
  for key, value in pairs(csrf) do
    if not CSRF[key] then error(("csrf: unknown option '%s': %s"):format(tostring(key), names.meant(CSRF, key)), 0) end
    if type(value) ~= "string" or value == "" then error(("csrf.%s: expected a string, got %s"):format(key, type(value)), 0) end
  end
  local from = (csrf.input and 1 or 0) + (csrf.meta and 1 or 0) + (csrf.cookie and 1 or 0)
  if from ~= 1 then error('csrf: expected one place that it comes from: input = "NAME", meta = "NAME" or cookie = "NAME"', 0) end
  if not csrf.input and not csrf.field and not csrf.header then error('csrf: expected where it goes: header = "NAME" or field = "NAME"', 0) end
  if csrf.field and csrf.header then error("csrf: header says already where it goes: leave field out", 0) end
  if csrf.after and issuer.url(csrf.after) then error("csrf.after: expected a URL of a page that has the token after the login", 0) end
end

local function check(options)
  if options.form ~= nil and options.json ~= nil then error("json: form says already what is sent: leave one of the two out", 0) end
  if options.form == nil and options.json == nil then
    error("form: is needed, and is what the login's form has: { user = …, password = jeton.secret.file \"PATH\" }", 0)
  end
  if options.csrf then check_csrf(options.csrf) end
end

local function callable(value) return type(value) ~= "function" and "a function of the reply" or nil end

--- A login that gives a cookie.
---@type fun(options: jeton.session.login): jeton.token_options
M.login = issuer.new {
  name = "session.login",
  options = {
    url = { issuer.url, needed = true },
    page = { issuer.url },
    redirect = { issuer.text },
    form = { issuer.map, by_key = true },
    json = { issuer.map, by_key = true },
    headers = { issuer.map },
    cookie = { issuer.texts, needed = true },
    csrf = { issuer.map },
    success = { callable },
    lifetime = { issuer.seconds },
    logout = { issuer.url },
  },
  check = check,
  fetch = fetch,
  release = release,
  token = function(token, options)
    if token.reject_on == nil then token.reject_on = function(res) return OVER[res.status] or leads_to_login(options, res) end end
  end,
}

return names.strict("jeton.session", M)
