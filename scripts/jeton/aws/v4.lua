--- Signature Version 4, as text and secrets go in and a secret comes out ("Signature Version 4 signing process" in AWS's IAM user guide; for S3 "Authenticating
-- Requests" in its API reference). A part of jeton.aws.
--
-- A server computes the same from what it received: the canonical request. So what stands here follows what servers see, not what was meant: the path and the query
-- as they are on the wire. A session token is in the canonical request, which is a secret then, and so is all that comes of it.

local M = {}

local crypto, url = jeton.crypto, jeton.url
local hash, hmac, hex = crypto.hash, crypto.hmac, crypto.hex -- each request asks for them
local concat = table.concat

M.ALGORITHM = "AWS4-HMAC-SHA256"
--- The hash of no bytes.
M.NOTHING = hex(hash("sha256", ""))
M.UNSIGNED = "UNSIGNED-PAYLOAD"

--- "20150830T123600Z" and "20150830", of whole seconds since the epoch: the same texts for a whole second's requests.
local stamped_at, stamp, stamp_day
function M.stamp(seconds)
  if seconds ~= stamped_at then
    stamp = os.date("!%Y%m%dT%H%M%SZ", seconds)
    stamp_day = stamp:sub(1, 8)
    stamped_at = seconds
  end
  return stamp, stamp_day
end

--- Parts of a text, of which some may be secrets, in as few joins as there are secrets.
local function join(parts, separator)
  local whole, from = nil, 1
  for i = 1, #parts do
    if type(parts[i]) ~= "string" then
      local text = concat(parts, separator, from, i - 1)
      if i > from then text = text .. separator end
      local piece = text .. parts[i] .. (i < #parts and separator or "")
      whole = whole and whole .. piece or piece
      from = i + 1
    end
  end
  if not whole then return concat(parts, separator) end
  return from <= #parts and whole .. concat(parts, separator, from) or whole
end

-- the path ------------------------------------------------------------------------------------------------------------------------------------

--- S3 takes the key as it is: the path decoded once, and encoded as AWS encodes. A `+` is a space there, as S3 reads it.
local function path_of_s3(path)
  if not path:find "[^%w/._~-]" then return path end
  local plain = url.unescape(path, { form = true })
  return plain and url.escape(plain, "/") or url.escape(path, "/%")
end

--- All others: without empty and dot segments (RFC 3986 section 5.2.4), and what was encoded is encoded once more.
local function path_of_others(path)
  if not path:find "//" and not path:find("/.", 1, true) then return url.escape(path, "/") end
  local kept, n = {}, 0
  for segment in path:gmatch "[^/]+" do
    if segment == ".." then
      kept[n] = nil
      n = math.max(n - 1, 0)
    elseif segment ~= "." then
      n = n + 1
      kept[n] = segment
    end
  end
  local made = "/" .. concat(kept, "/", 1, n)
  if n > 0 and path:sub(-1) == "/" then made = made .. "/" end
  return url.escape(made, "/")
end

--- Services whose names begin so have S3's rules (s3-object-lambda, s3express, s3-outposts).
function M.is_s3(service) return service:sub(1, 2) == "s3" end

function M.path(path, service)
  if M.is_s3(service) then return path_of_s3(path) end
  return path_of_others(path)
end

-- the query -----------------------------------------------------------------------------------------------------------------------------------

--- "name\0value" of each parameter, encoded as AWS encodes; a `+` is a space. So they are in order where they are in the order of their bytes.
local function parameters(query)
  local list, n = {}, 0
  if not query:find "[^%w._~&=-]" and not query:find "=[^&]*=" and not query:find "&=" and not query:find "^=" then -- nothing to decode
    for name, value in query:gmatch "([^&=]+)=?([^&]*)" do
      n = n + 1
      list[n] = name .. "\0" .. value
    end
    return list
  end
  local _, found = url.query(query)
  if not found then return nil, "the query has a % without two hexadecimal digits, which servers read in several ways" end
  for _, parameter in ipairs(found) do
    if parameter[1] ~= "" then
      n = n + 1
      list[n] = url.escape(parameter[1]) .. "\0" .. url.escape(parameter[2])
    end
  end
  return list
end

--- The query in canonical form, or nil, message. more: a list of { name, value }, whose values may be secrets; no name of it is in the query.
function M.query(query, more)
  if not more and (not query or query == "" or query:find "^[%w._~-]+=[%w._~-]*$") then return query or "" end
  local list, wrong = parameters(query or "")
  if not list then return nil, wrong end
  local values = {}
  for _, parameter in ipairs(more or {}) do
    list[#list + 1], values[parameter[1]] = parameter[1], parameter[2]
  end
  table.sort(list)
  if not more then return (concat(list, "&"):gsub("%z", "=")) end
  for i = 1, #list do
    local value = values[list[i]]
    list[i] = value and list[i] .. "=" .. value or list[i]:gsub("%z", "=")
  end
  return join(list, "&")
end

-- header fields -------------------------------------------------------------------------------------------------------------------------------

--- A value without white space at its edges, and one space for several.
function M.trim(value)
  if type(value) ~= "string" or not value:find "[ \t]" then return value end
  return (value:match "^[ \t]*(.-)[ \t]*$":gsub("[ \t]+", " "))
end

-- the signature -------------------------------------------------------------------------------------------------------------------------------

--- "20150830/us-east-1/iam/aws4_request"
function M.scope(day, region, service) return concat({ day, region, service, "aws4_request" }, "/") end

--- The key of a day, region and service; or nil, message, code.
function M.key(secret_access_key, day, region, service)
  local key = "AWS4" .. secret_access_key
  local why, code
  for _, part in ipairs { day, region, service, "aws4_request" } do
    key, why, code = hmac("sha256", key, part)
    if not key then return nil, why, code end
  end
  return key
end

--- The signature in hexadecimal, or nil, message, code. key: as of M.key; what: method, path and query in canonical form, names (sorted, in lower case) and
--- values of the header fields that are signed, the payload's hash, the date and the scope.
function M.signature(key, what)
  local names, values, fields = what.names, what.values, ""
  for i = 1, #names do
    local name = names[i]
    fields = (fields .. name .. ":") .. (values[name] .. "\n") -- text before secrets: each join with one makes another secret
  end
  local first, last = what.method .. "\n" .. what.path .. "\n", "\n" .. what.signed .. "\n" .. what.payload
  local made, why, code = hash("sha256", first .. what.query .. "\n" .. fields .. last)
  if not made then return nil, why, code end
  made, why, code = hmac("sha256", key, M.ALGORITHM .. "\n" .. what.date .. "\n" .. what.scope .. "\n" .. hex(made))
  if not made then return nil, why, code end
  return hex(made)
end

return M
