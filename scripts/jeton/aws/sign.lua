--- aws.sign: Signature Version 4 of a request, in on_send. A part of jeton.aws.
--
-- What is signed: the method, the path, the query, the body's hash, and of the header fields Host, Content-Type, Content-MD5 and all x-amz-*, which is what AWS asks
-- for, and those of the option `headers`. Others may be changed by whoever is between. What a client has signed itself is taken away: its key is not ours.
--
-- The key of a day is four HMACs of the secret access key, so it is kept for as long as the token's generation, which on_send has pinned.

local names = require "jeton.names"
local v4 = require "jeton.aws.v4"

local M = {}

local crypto, now = jeton.crypto, jeton.now

local OPTIONS = { service = true, region = true, payload = true, query = true, expires = true, headers = true, algorithm = true, time = true }
local EXPIRES_MAX = 7 * 86400 -- of a query's signature, which is AWS's own bound
local PARAMETERS = { "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Security-Token", "X-Amz-Signature" }

-- options -------------------------------------------------------------------------------------------------------------------------------------

local function fail(text, ...) error("aws.sign: " .. text:format(...), 0) end

--- Names that are good are known then; a policy has a few of them.
local words, nwords = {}, 0
local function check_word(options, key, example)
  local value = options[key]
  if words[value] then return end
  if type(value) == "string" and value:find "^[%w_.-]+$" then
    if nwords == 256 then words, nwords = {}, 0 end
    words[value], nwords = true, nwords + 1
    return
  end
  if value == nil then fail("%s: is needed, the name that AWS signs with, such as %q", key, example) end
  fail("%s: expected a name such as %q, got %s", key, example, type(value) == "string" and "another string" or type(value))
end

--- The signature over several regions is another algorithm, with another key.
local function check_algorithm(options)
  local region, algorithm = options.region, options.algorithm
  if region == "*" or type(region) == "table" or (type(region) == "string" and region:find(",", 1, true)) then
    fail "region: SigV4a (AWS4-ECDSA-P256-SHA256), the signature for several regions, is not made here: name one region, and send to its endpoint"
  end
  if algorithm == nil or algorithm == v4.ALGORITHM then return end
  if algorithm == "AWS4-ECDSA-P256-SHA256" or (type(algorithm) == "string" and algorithm:lower() == "sigv4a") then
    fail("algorithm: SigV4a (AWS4-ECDSA-P256-SHA256) is not made here: leave algorithm out, which is %s, and name one region", v4.ALGORITHM)
  end
  fail("algorithm: expected %q, or leave it out", v4.ALGORITHM)
end

local function check_payload(options)
  local payload = options.payload
  if payload ~= nil and payload ~= "hash" and payload ~= "unsigned" and payload ~= "client" then
    fail 'payload: expected "hash", "unsigned" or "client"'
  end
  if options.query and payload == "hash" and v4.is_s3(options.service) then
    fail 'payload: S3 does not look at the body of a request that is signed in its query: leave payload out'
  end
end

local function check_rest(options)
  local expires = options.expires
  if expires ~= nil and (math.type(expires) ~= "integer" or expires < 1 or expires > EXPIRES_MAX) then
    fail("expires: expected whole seconds from 1 to %d", EXPIRES_MAX)
  end
  if expires ~= nil and not options.query then fail "expires: is for a signature in the query: say query = true beside it" end
  if options.query ~= nil and type(options.query) ~= "boolean" then fail("query: expected true or false, got %s", type(options.query)) end
  if options.headers ~= nil and type(options.headers) ~= "table" then fail('headers: expected a list of names such as { "date" }, got %s', type(options.headers)) end
  if options.time ~= nil and math.type(options.time) ~= "integer" then fail("time: expected whole seconds since the epoch, got %s", type(options.time)) end
end

local function check(token, options)
  if type(options) ~= "table" then fail('expected a table of options such as { service = "s3", region = "eu-west-1" }, got %s', type(options)) end
  names.check(OPTIONS, options, fail)
  if getmetatable(token) ~= "token" then fail("expected a token such as tokens.aws, got %s", type(token)) end
  if not words[options.region] or options.algorithm then check_algorithm(options) end
  check_word(options, "service", "s3")
  check_word(options, "region", "eu-west-1")
  if options.payload then check_payload(options) end
  if options.query ~= nil or options.expires or options.headers or options.time then check_rest(options) end
end

-- what a token's generation gives -------------------------------------------------------------------------------------------------------------

--- By the token's handle, not by its name: keys of a family may look alike in it. Emptied when there are many.
local KEPT_MAX = 256
local kept, nkept = {}, 0
local MISUSE = {} -- in the place of a code: what is to be raised

--- { generation, id, session (nil: it has none), leads, and what key_of keeps }; or nil, message, code.
local function credentials_of(token)
  local generation = token.generation
  local mine = kept[token]
  if mine and mine.generation == generation then return mine end
  local id, session = token:field "access_key_id", token:field "session_token"
  local there, why, code = crypto.equal(token, "") -- awaits a token that is not there, by its `wait` and `missing`
  if there == nil then return nil, why, code end
  if crypto.equal(id, "") == nil then
    return nil, ("token %s has no field access_key_id: make it with jeton.aws, or let its fetch return fields = { access_key_id = … }"):format(token.name), MISUSE
  end
  local no_session = crypto.equal(session, "")
  mine = { generation = token.generation, id = id, session = no_session == false and session or nil, leads = {}, nleads = 0 }
  if not kept[token] then
    if nkept == KEPT_MAX then kept, nkept = {}, 0 end
    nkept = nkept + 1
  end
  kept[token] = mine
  return mine
end

--- The scope, and the signing key; or nil, message, code. The last ones are kept, which are those of the next request, too, but for a policy of many services.
local function key_of(token, mine, day, options)
  local service, region = options.service, options.region
  if mine.day == day and mine.service == service and mine.region == region then return mine.scope, mine.key end
  local key, why, code = v4.key(token, day, region, service)
  if not key then return nil, why, code end
  mine.day, mine.service, mine.region, mine.scope, mine.key = day, service, region, v4.scope(day, region, service), key
  return mine.scope, key
end

--- The value of Authorization up to the signature: the same for all requests of a kind.
local function lead_of(mine, scope, signed)
  local known = mine.leads[signed]
  if known and known.scope == scope then return known.text end
  if mine.nleads == 64 then mine.leads, mine.nleads = {}, 0 end
  local lead = { scope = scope, text = v4.ALGORITHM .. " Credential=" .. mine.id .. ("/" .. scope .. ", SignedHeaders=" .. signed .. ", Signature=") }
  mine.leads[signed], mine.nleads = lead, mine.nleads + (known and 0 or 1)
  return lead.text
end

-- the body ------------------------------------------------------------------------------------------------------------------------------------

local CHUNKED = "the body is signed in chunks (aws-chunked) with the client's own key, which the server does not know: turn that off in the client, in "
  .. 'AWS\'s SDKs by request_checksum_calculation = "when_required" and, where there is one, the option for chunked encoding or payload signing'
local STREAMED_UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

--- A body whose chunks carry signatures: those are of the client's key, and each hangs on the one of the head, which is ours. In chunks without signatures there is
--- nothing of a key, and S3 takes the name of that form as the hash.
local function chunked(claimed, coding)
  if claimed == STREAMED_UNSIGNED then return "passes" end
  if type(claimed) == "string" and claimed:find "^STREAMING%-" then return "refused" end
  if type(coding) == "string" and coding:lower():find("aws-chunked", 1, true) then return "refused" end
end

local TOO_LARGE = "the body is larger than limits.script_body, so it cannot be hashed: say payload = \"unsigned\", which S3 takes over TLS, or " ..
  "payload = \"client\" where clients send its hash as x-amz-content-sha256, or raise limits.script_body"

local function hash_of_body(req)
  local body, why, code = req:body()
  if body == "" then return v4.NOTHING end
  if not body then return nil, code == "LIMIT" and TOO_LARGE or "the body: " .. why end
  local hash
  hash, why = crypto.hash("sha256", body)
  if not hash then return nil, "the body: " .. why end
  return crypto.hex(hash)
end

--- What stands for the body; or nil, message.
local function payload_of(req, claimed, options)
  local payload = options.payload
  if payload == "unsigned" or (options.query and v4.is_s3(options.service)) then return v4.UNSIGNED end
  if payload == "client" and type(claimed) == "string" and #claimed == 64 and claimed:find "^%x+$" then return claimed end
  return hash_of_body(req)
end

-- the fields ----------------------------------------------------------------------------------------------------------------------------------

local SIGNED = { host = true, ["content-type"] = true, ["content-md5"] = true }
--- Ours, whatever the client sent, and what is looked at; not signed from there.
local SEEN = { ["x-amz-date"] = true, ["x-amz-security-token"] = true, ["x-amz-content-sha256"] = true, ["content-encoding"] = true }

--- In lower case where it is signed or looked at, else false; by its name as it stands. Clients choose names, so it is emptied when there are many.
local known, nknown = {}, 0
local function known_name(name)
  local lower = name:lower()
  local found = (SIGNED[lower] or SEEN[lower] or lower:sub(1, 6) == "x-amz-") and lower or false
  if nknown == 256 then known, nknown = {}, 0 end
  known[name], nknown = found, nknown + 1
  return found
end

--- Fields of one name are one, joined by commas (RFC 9110 section 5.3).
local function add(list, values, name, value)
  value = v4.trim(value)
  if values[name] == nil then
    list[#list + 1], values[name] = name, value
  else
    values[name] = values[name] .. "," .. value
  end
end

local NOTHING_SEEN = {}

--- The names and values that are signed of what is there, and what was looked at. The tables have room for what is usual, since growing makes them anew.
local function fields_of(headers, options)
  local list, values, seen = { nil, nil, nil, nil }, { host = nil, ["x-amz-date"] = nil, ["content-type"] = nil, ["x-amz-target"] = nil }, NOTHING_SEEN
  for name, value in pairs(headers) do
    local lower = known[name]
    if lower == nil then lower = known_name(name) end
    if lower and SEEN[lower] then
      if seen == NOTHING_SEEN then seen = {} end
      seen[lower] = value
    elseif lower then
      add(list, values, lower, value)
    end
  end
  if not options.headers then return list, values, seen end
  for _, name in ipairs(options.headers) do
    name = name:lower()
    if values[name] == nil and not SEEN[name] then
      for _, value in ipairs(headers:all(name)) do add(list, values, name, value) end
    end
  end
  return list, values, seen
end

--- A few names, most of them in order already.
local function sort(list)
  for i = 2, #list do
    local name, at = list[i], i - 1
    while at > 0 and list[at] > name do
      list[at + 1], at = list[at], at - 1
    end
    list[at + 1] = name
  end
end

-- the two forms -------------------------------------------------------------------------------------------------------------------------------

--- A signature that a client put into its query is none of ours. True; or nil, message.
local function drop_parameters(req, query)
  if query == nil then return true end
  if type(query) ~= "string" then return nil, "the query holds a secret, which a signature cannot put in order: set it as a header" end
  if query:find("X-Amz-", 1, true) then
    for _, name in ipairs(PARAMETERS) do req:set_query(name, nil) end
  end
  return true
end

local function signature_of(what, more)
  local target = what.target
  sort(what.names)
  what.signed = table.concat(what.names, ";")
  local wrong
  what.query, wrong = v4.query(target.query, more and more(what.signed))
  if not what.query then return nil, wrong, MISUSE end
  return v4.signature(what.key, what)
end

local function own(headers, what, name, value)
  headers[name] = value
  local list = what.names
  list[#list + 1], what.values[name] = name, value
end

local function in_head(headers, mine, what, seen)
  own(headers, what, "x-amz-date", what.date)
  if mine.session then
    own(headers, what, "x-amz-security-token", mine.session)
  elseif seen["x-amz-security-token"] ~= nil then
    headers["x-amz-security-token"] = nil
  end
  if seen["x-amz-content-sha256"] ~= nil or what.payload == v4.UNSIGNED or v4.is_s3(what.service) then own(headers, what, "x-amz-content-sha256", what.payload) end
  local signature, why, code = signature_of(what)
  if not signature then return nil, why, code end
  headers.authorization = lead_of(mine, what.scope, what.signed) .. signature
  return true
end

--- The parameters of a signature in the query, as they are signed.
local function parameters(mine, what, signed)
  local list = {
    { "X-Amz-Algorithm", v4.ALGORITHM },
    { "X-Amz-Credential", mine.id .. ("/" .. what.scope) },
    { "X-Amz-Date", what.date },
    { "X-Amz-Expires", tostring(what.expires or 300) },
    { "X-Amz-SignedHeaders", signed },
  }
  if mine.session then list[#list + 1] = { "X-Amz-Security-Token", mine.session } end
  return list
end

local function in_query(req, headers, mine, what, seen)
  headers["x-amz-date"], headers["x-amz-security-token"], headers.authorization = nil, nil, nil
  if seen["x-amz-content-sha256"] ~= nil or (what.payload == v4.UNSIGNED and not v4.is_s3(what.service)) then
    own(headers, what, "x-amz-content-sha256", what.payload)
  end
  local made
  local signature, why, code = signature_of(what, function(signed)
    made = parameters(mine, what, signed)
    local escaped = {}
    for i, parameter in ipairs(made) do escaped[i] = { parameter[1], jeton.url.escape(parameter[2]) } end
    return escaped
  end)
  if not signature then return nil, why, code end
  for _, parameter in ipairs(made) do req:set_query(parameter[1], parameter[2]) end
  req:set_query("X-Amz-Signature", signature)
  return true
end

-- aws.sign ------------------------------------------------------------------------------------------------------------------------------------

--- The request is looked at before the token, since the body is awaited.
local function sign(req, token, options)
  local headers, target = req.headers, req.target
  local list, values, seen = fields_of(headers, options)
  local chunks = chunked(seen["x-amz-content-sha256"], seen["content-encoding"])
  if chunks == "refused" then
    req:respond(400, { ["content-type"] = "text/plain; charset=utf-8" }, "jeton: " .. CHUNKED .. "\n")
    return nil, CHUNKED, "AWS_CHUNKED"
  end
  local dropped, wrong = drop_parameters(req, target.query)
  if not dropped then return nil, wrong, MISUSE end
  local payload = STREAMED_UNSIGNED
  if not chunks then
    payload, wrong = payload_of(req, seen["x-amz-content-sha256"], options)
    if not payload then return nil, wrong, MISUSE end
  end
  local mine, why, code = credentials_of(token)
  if not mine then return nil, why, code end
  local date, day = v4.stamp(options.time or now() // 1 | 0)
  local scope, key
  scope, key, code = key_of(token, mine, day, options)
  if not scope then return nil, key, code end
  local what = { target = target, names = list, values = values, payload = payload, date = date, scope = scope, key = key,
    service = options.service, expires = options.expires, method = req.method, path = v4.path(target.path, options.service), query = "", signed = "" }
  if options.query then return in_query(req, headers, mine, what, seen) end
  return in_head(headers, mine, what, seen)
end

--- Good for the first look: what is named is known, and there is nothing else.
local function plain(token, options)
  if type(options) ~= "table" or not words[options.service] or not words[options.region] or getmetatable(token) ~= "token" then return false end
  for key in next, options do
    if key ~= "service" and key ~= "region" then return false end
  end
  return true
end

--- Signs the request of this try with the credentials of a token: its value is the secret access key, its fields are `access_key_id` and, where there is one,
--- `session_token`. Call it last in on_send: what it signs may not change behind it. Returns true; or nil, message, code where the token has no valid value and says
--- missing = "pass", and where the client's body is signed in chunks: then it has answered with 400. Raises for misuse.
---@async
---@param req jeton.request
---@param token jeton.token
---@param options jeton.aws.sign
---@return true? ok, string? message, string? code
function M.sign(req, token, options)
  if not plain(token, options) then
    local good, wrong = pcall(check, token, options)
    if not good then error(wrong, 2) end
  end
  local done, why, code = sign(req, token, options)
  if code == MISUSE then error("aws.sign: " .. why, 2) end
  return done, why, code
end

return M
