--- Moments as issuers write them, in seconds since the epoch: what jeton.time.parse reads, and what only they write. A part of jeton.oauth2.

local M = {}

local MILLISECONDS_FROM = 1e11 -- as seconds that would be the year 5138

--- A date of a header (Date, Retry-After), or nil.
function M.of_header(text)
  return type(text) == "string" and jeton.time.parse(text) or nil
end

--- Azure's App Service: "11/27/2026 12:00:00 PM +00:00", also without AM and PM.
local function of_azure(text)
  local month, day, year, hour, minute, second, half = text:match "^(%d%d?)/(%d%d?)/(%d%d%d%d) (%d%d?):(%d%d):(%d%d) ?(%u?%u?) ?%+00:00$"
  if not month then return nil end
  hour = tonumber(hour)
  if half ~= "" and hour <= 12 then hour = hour % 12 + (half == "PM" and 12 or 0) end
  return jeton.time.parse(("%04d-%02d-%02dT%02d:%s:%sZ"):format(year, month, day, hour, minute, second)) or nil
end

--- A moment that stands in a JSON reply: a number, digits as text, RFC 3339, or a date of HTTP's or Azure's; milliseconds are told by their size. Or nil.
function M.of_json(value)
  local number = type(value) == "number" and value or nil
  if type(value) == "string" then
    local text = value:match "^%s*(.-)%s*$"
    number = text:find "^%d+%.?%d*[eE]?%+?%d*$" and tonumber(text) or jeton.time.parse(text) or of_azure(text)
  end
  if not number then return nil end
  return number >= MILLISECONDS_FROM and number < MILLISECONDS_FROM * 1000 and number / 1000 or number
end

return M
