--- Moments as servers write them, in seconds since the epoch. A part of jeton.oauth2. Pure arithmetic: the sandbox has no calendar of other zones.

local M = {}

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12 }
local MILLISECONDS_FROM = 1e11 -- as seconds that would be the year 5138

--- Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day comes last.
local function days(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = year // 400
  local in_era = year - era * 400
  local in_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
  return era * 146097 + in_era * 365 + in_era // 4 - in_era // 100 + in_year - 719468
end

--- Seconds, or nil when there is no such moment. Each is a number or its digits; the month may be missing.
local function epoch(...)
  local v = { ... }
  for i = 1, 6 do
    v[i] = math.tointeger(tonumber(v[i]))
    if not v[i] then return nil end
  end
  local year, month, day, hour, minute, second = table.unpack(v)
  if month < 1 or month > 12 or day < 1 or hour > 24 or minute > 59 or second > 60 then return nil end
  local first = days(year, month, 1)
  local next_first = month < 12 and days(year, month + 1, 1) or days(year + 1, 1, 1)
  if day > next_first - first then return nil end
  return (first + day - 1) * 86400 + hour * 3600 + minute * 60 + second
end

--- Years of two digits are of the century that brings them nearest, not more than 50 years ahead (RFC 9110 section 5.6.7).
local function whole_year(digits)
  local century = jeton.now() // (365.2425 * 86400) + 1970
  local year = math.tointeger(century // 100 * 100) + tonumber(digits)
  return year > century + 50 and year - 100 or year
end

--- An HTTP-date, or nil: the form that servers have to write ("Sun, 06 Nov 1994 08:49:37 GMT"), and the two that recipients have to read beside it
--- ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994": RFC 9110 section 5.6.7). UTC is GMT by another name.
function M.of_http(text)
  if type(text) ~= "string" then return nil end
  text = text:match "^%s*(.-)%s*$":gsub(" UTC$", " GMT"):gsub(" %+0000$", " GMT")
  local day, month, year, hour, minute, second = text:match "^%a%a%a, (%d%d?) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"
  if not day then
    day, month, year, hour, minute, second = text:match "^%a+, (%d%d)-(%a%a%a)-(%d%d) (%d%d):(%d%d):(%d%d) GMT$"
    year = day and whole_year(year)
  end
  if not day then
    month, day, hour, minute, second, year = text:match "^%a%a%a (%a%a%a) +(%d%d?) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$"
  end
  return epoch(year, MONTHS[month or ""], day, hour, minute, second)
end

--- RFC 3339: "2026-01-31T08:00:00Z", with a fraction and an offset if they are there. Without a zone it is not known which moment that is: nil.
local function of_iso(text)
  local year, month, day, hour, minute, second, zone = text:match "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)%.?%d*(.*)$"
  local at = year and epoch(year, month, day, hour, minute, second)
  if not at then return nil end
  if zone == "Z" or zone == "z" then return at end
  local sign, hours, minutes = zone:match "^([+-])(%d%d):?(%d%d)$"
  if not sign then return nil end
  return at - (sign == "-" and -1 or 1) * (hours * 3600 + minutes * 60)
end

--- Azure's App Service: "11/27/2026 12:00:00 PM +00:00", also without AM and PM.
local function of_azure(text)
  local month, day, year, hour, minute, second, half = text:match "^(%d%d?)/(%d%d?)/(%d%d%d%d) (%d%d?):(%d%d):(%d%d) ?(%u?%u?) ?%+00:00$"
  if not month then return nil end
  hour = tonumber(hour)
  if half ~= "" and hour <= 12 then hour = hour % 12 + (half == "PM" and 12 or 0) end
  return epoch(year, month, day, hour, minute, second)
end

--- A moment that stands in a JSON reply: a number, digits as text, RFC 3339, or a date of HTTP's or Azure's; milliseconds are told by their size. Or nil.
function M.of_json(value)
  local number = type(value) == "number" and value or nil
  if type(value) == "string" then
    local text = value:match "^%s*(.-)%s*$"
    number = text:find "^%d+%.?%d*[eE]?%+?%d*$" and tonumber(text) or of_iso(text) or M.of_http(text) or of_azure(text)
  end
  if not number then return nil end
  return number >= MILLISECONDS_FROM and number < MILLISECONDS_FROM * 1000 and number / 1000 or number
end

return M
