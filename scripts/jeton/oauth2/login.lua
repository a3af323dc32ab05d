--- A login that lasts: the refresh token of somebody who has logged in once, where it is kept, and which one is presented (RFC 6749 section 6).
--- A part of jeton.oauth2; `options` are that module's, those of one key if the token is a family.
---
--- An issuer that rotates gives a new refresh token with each answer. The old one is spent, and if it comes again that looks like theft and may end the whole login
--- (RFC 9700 section 4.14.2). What follows from it:
---   * One at a time, over all processes: the lock of `path` is held from reading to saving.
---   * What stands at `path` comes first when it is not what this login last read or wrote there: somebody has logged in anew, or another process has rotated.
---     Otherwise memory is the newest, since a save may have failed.
---   * The new one is saved before the fetch counts as done, also when nothing else in the reply is any good. Not over one that has come to `path` meanwhile, which
---     somebody has logged in for. A save that fails is tried again until it succeeds or a newer one has come, by jeton itself, since a reload ends what runs here;
---     status and metrics show it.
---   * One that the issuer has refused is not presented again. The file is read again at once, watched, and a new one in it is a reason to fetch.
---
--- Memory is the extra fields of the token at hand (ctx.previous), which outlive reloads: the refresh token, whose login it is (a fingerprint of issuer and client;
--- by this name jeton knows it, too), and a fingerprint of what was at `path` then. A fetch that came to nothing gives them back, too, if it has spent the old ones.

local M = {}
local Login = {}
Login.__index = Login

local SAVED, LOGIN = "refresh_token_saved", "login" -- the fields with the fingerprints
local REFUSED_MAX = 10000 -- that are remembered
local WATCHED_MAX = 64 -- files; of further keys' only the next attempt notices a change
local TIMEOUT = 30 -- seconds: the default of a token's timeout

--- Codes of RFC 6749 section 5.2 and of issuers that have their own, which mean this refresh token and not the client, and will not change.
local DEAD = {
  invalid_grant = true, invalid_token = true, expired_token = true, token_expired = true, invalid_refresh_token = true,
  bad_refresh_token = true, token_revoked = true,
}
--- The issuer's own trouble, whatever status it comes with.
local TEMPORARY = { temporarily_unavailable = true, server_error = true, slow_down = true, authorization_pending = true }
local TEMPORARY_STATUS = { [408] = true, [421] = true, [425] = true, [429] = true }

-- small things ----------------------------------------------------------------------------------------------------------------

--- Of a string or a secret: says whether two are the same, and nothing else. Of a secret it is one as well. Nil for a secret that cannot be had now.
local function fingerprint(value)
  local sum = jeton.crypto.hmac("sha256", value, "jeton.oauth2")
  return sum and jeton.crypto.hex(sum)
end

--- Of two fingerprints, or nil.
local function same(a, b) return a ~= nil and b ~= nil and jeton.crypto.equal(a, b) == true end

local UNITS = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400 }

--- Seconds of a duration as a policy has it.
local function seconds(value)
  if type(value) == "number" then return value end
  local number, unit = tostring(value):match "^([%d.]+)(%a*)$"
  return tonumber(number) and tonumber(number) * (UNITS[unit == "" and "s" or unit] or 1) or TIMEOUT
end

--- Did the issuer say no, so that asking once more with the same would be in vain?
local function is_definite(code, status)
  if TEMPORARY[code] or code == nil and status == nil then return false end
  if code == "TOKEN_AUDIENCE" then return true end -- another issuer's, from before a reload: it does not go to this one
  return status == 200 and code ~= nil or status ~= nil and status >= 400 and status < 500 and not TEMPORARY_STATUS[status]
end

--- The handle of the token that is fetched.
local function handle(ctx)
  local token = ctx.name and jeton.tokens and jeton.tokens[ctx.name]
  if token and ctx.key then return token[ctx.key] end
  return token
end

--- `what`: { path =, value =, before = }, which jeton goes on trying to save, after a reload as well.
local function note(ctx, why, what)
  local token = handle(ctx)
  if token then token:unsaved(why, what) end
end

--- What is at path: { token =, print = }, or { why = }.
local function on_disk(path)
  if not path then return {} end
  local text, why = jeton.file.read(path, { max = "64k" })
  if not text then return { why = why } end
  text = text:gsub("^\239\187\191", ""):match "^%s*(.-)%s*$"
  if text == "" then return { why = path .. " is empty" } end
  return { token = jeton.secret.value(text), print = fingerprint(text) }
end

-- which one -------------------------------------------------------------------------------------------------------------------

local function add(list, token)
  local print = token ~= nil and fingerprint(token)
  if not print then return end
  for _, known in ipairs(list) do
    if same(known.print, print) then return end
  end
  list[#list + 1] = { token = token, print = print }
end

--- Is what is on disk what this login last read or wrote there? `saved`: the fingerprint of that, or nil.
local function is_known(disk, saved) return same(saved, disk.print) end

local function login_of(options) return fingerprint(options.token_url .. "\n" .. options.client_id) or "" end

--- The token at hand, unless its refresh token is another client's or issuer's, to whom its return from us would look like theft.
local function memory_of(options, ctx)
  local previous = ctx.previous
  local login = previous and previous:field(LOGIN)
  if login and not jeton.crypto.equal(login, login_of(options)) then return nil end
  return previous
end

--- The refresh tokens to try, the newest first, each once.
local function candidates(options, previous, disk)
  local list = {}
  if not is_known(disk, previous and previous:field(SAVED)) then add(list, disk.token) end
  add(list, previous and previous:field "refresh_token")
  add(list, disk.token)
  add(list, options.refresh_token)
  return list
end

--- The entry of a refresh token of that key of a family (or "") that the issuer has refused, or nil.
function Login:refusal(key, print)
  for _, refused in ipairs(self.refused[key] or {}) do
    if same(refused.print, print) then return refused end
  end
end

function Login:refuse(key, print, why)
  local known = self:refusal(key, print)
  if known then
    known.why = why
    return
  end
  if self.nrefused >= REFUSED_MAX then self.refused, self.nrefused = {}, 0 end
  self.refused[key] = self.refused[key] or {}
  table.insert(self.refused[key], { print = print, why = why })
  self.nrefused = self.nrefused + 1
end

--- Presents one after the other. Returns the reply's body and the candidate; or nil, message, what the fetch's third result is to be, whether it is the issuer's
--- last word, and the candidate and the new refresh token if one has come in vain.
function Login:try(key, list, present, anew)
  local why, how, asked
  for _, candidate in ipairs(list) do
    if anew or not self:refusal(key, candidate.print) then
      asked = true
      local body, code, status, rotated
      body, why, code, how, status, rotated = present(candidate.token)
      if body then return body, candidate end
      if type(rotated) == "string" and rotated ~= "" then return nil, why, how, false, candidate, rotated end
      if not is_definite(code, status) then return nil, why, how, false end
      if DEAD[code] then self:refuse(key, candidate.print, why) end
    end
  end
  return nil, asked and why or nil, how, true
end

--- Is there nothing that the issuer has not refused for good? Then asking is over until somebody has logged in anew: a change of the file is noticed, since
--- the fetch has read it, and so are another policy and a refresh by hand.
function Login:all_refused(key, list)
  for _, candidate in ipairs(list) do
    if not self:refusal(key, candidate.print) then return false end
  end
  return true
end

--- When there was nothing to present: there is none, or each has been refused before.
function Login:explain(options, key, list, disk)
  local by_command = self.by_command and ": log in with jeton login POLICY NAME" or ""
  if #list == 0 then return "no refresh token: " .. tostring(disk.why) .. by_command end
  local remedy = self.by_command and " with jeton login POLICY NAME" or options.path and " and put a new one into " .. options.path
    or " and give the policy a new one, or a path to save new ones at"
  return ("%s; that refresh token is not presented again: log in anew%s"):format(self:refusal(key, list[1].print).why, remedy)
end

-- the file --------------------------------------------------------------------------------------------------------------------

--- The lock, for as long as the fetch goes on; or nil, message. The wait leaves half of the fetch's time for the issuer: to be cut off after it has rotated
--- is what this is all about.
local function hold(options)
  if not options.path then return nil end
  local lock, why, code = jeton.file.lock(options.path, { timeout = seconds(options.timeout or TIMEOUT) / 2 })
  if lock or code ~= "ETIMEDOUT" then return lock end -- no lock is to be had there: what is wrong with the path shows below
  return nil, why
end

--- Before the issuer is asked: afterwards it may be too late.
function Login:try_path(path, ctx)
  local token = handle(ctx)
  if not path or token and token.saving then return end -- there is one that could not be saved yet
  local ok, why = jeton.file.writable(path)
  if not ok and self.trouble[path] ~= why then
    jeton.log.error("a new refresh token could not be saved: a restart would be locked out", { reason = why })
  end
  self.trouble[path] = not ok and why or nil
  note(ctx, why)
end

--- `used`: the candidate that it comes for; `disk`: what was at path when that was chosen; `saved`: the fingerprint of what is at path. Returns that of what is
--- there then.
function Login:save(path, ctx, token, used, disk, saved)
  if not path then
    if self.warned then return nil end
    self.warned = true
    jeton.log.warn "the issuer gave a new refresh token, and there is no `path` to save it at: a restart will present the policy's own, which is spent"
    return nil
  end
  local there = on_disk(path)
  if there.print and not same(there.print, disk.print) and not same(there.print, used.print) then
    jeton.log.warn("another refresh token has come while one was renewed: it stays, and is presented next", { path = path })
    note(ctx, nil)
    return saved
  end
  local ok, why = jeton.file.write(path, token, { mode = "0600" })
  if ok then
    note(ctx, nil)
    self.trouble[path] = nil
    return fingerprint(token)
  end
  jeton.log.error("the new refresh token was not saved, which is tried again: until then a restart is locked out", { reason = why })
  note(ctx, why, { path = path, value = token, before = { used.token, disk.token } })
  return saved
end

--- The issuer has said no for good: a change of the file is worth a fetch, at once and whatever the backoff.
function Login:watch(path, ctx)
  if not path or not ctx.name then return end
  self.dead[path] = ctx
  if self.watched[path] or self.nwatched >= WATCHED_MAX then return end
  self.nwatched = self.nwatched + 1
  self.watched[path] = jeton.file.watch(path, function()
    local dead = self.dead[path]
    local token = dead and handle(dead)
    if token then
      self.woken[path] = true
      token:refresh()
    end
  end)
end

-- the fetch -------------------------------------------------------------------------------------------------------------------

--- Returns the reply's body and the extra fields of the token; or nil, message, and what the fetch's third result is to be.
--- present(refresh_token): the reply's body; or nil, message, code, the fetch's third result, the reply's status.
function Login:fetch(options, ctx, present)
  local path, key = options.path, ctx.key or ""
  local lock <close>, locked = hold(options)
  if not lock and locked then return nil, locked end
  self:try_path(path, ctx)
  local disk = on_disk(path)
  local previous = memory_of(options, ctx)
  local list = candidates(options, previous, disk)
  local by_hand = ctx.reason == "manual" and not (path and self.woken[path])
  if path then self.woken[path] = nil end
  local body, used, how, final, spent, rotated
  body, used, how, final, spent, rotated = self:try(key, list, present, by_hand)
  if not body and final and path then
    local before = disk
    self:watch(path, ctx)
    disk = on_disk(path)
    if disk.token and not same(disk.print, before.print) then
      list = { disk }
      body, used, how, final, spent, rotated = self:try(key, list, present, false)
    end
  end
  if body then
    spent = used
    if type(body.refresh_token) == "string" and body.refresh_token ~= "" then rotated = body.refresh_token end
  end
  local saved = disk.print or previous and previous:field(SAVED)
  if rotated then saved = self:save(path, ctx, rotated, spent, disk, saved) end
  local fields = spent and { refresh_token = rotated or spent.token, [SAVED] = saved, [LOGIN] = login_of(options) }
  if not body then
    local retry_after = type(how) == "table" and how.retry_after or nil
    if rotated then how = { retry_after = retry_after, fields = fields } end
    if final and self:all_refused(key, list) then return nil, self:explain(options, key, list, disk), { retry_after = retry_after, permanent = "spent" } end
    return nil, used or self:explain(options, key, list, disk), how
  end
  if path then self.dead[path] = nil end
  return body, fields
end

--- What the fetches of one token have in common, over all its keys.
--- by_command: a new login is made by `jeton login`.
function M.new(by_command)
  return setmetatable({
    by_command = by_command,
    refused = {}, nrefused = 0, -- by key: a list of { print =, why = }, what the issuer said of each
    trouble = {}, -- by path: why it could not be written when it was tried
    dead = {}, -- by path: the context of the fetch that was refused for good
    watched = {}, nwatched = 0, woken = {},
  }, Login)
end

--- Seconds that the refresh token lives, or nil: some issuers tell, and 0 means for ever.
function M.life(body)
  local least
  for _, name in ipairs { "refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in" } do
    local life = tonumber(body[name])
    if life and life > 0 and (not least or life < least) then least = life end
  end
  return least
end

return M
