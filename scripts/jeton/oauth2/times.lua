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

local function epoch(year, month, day, hour, minute, second)
  if not month or month < 1 or month > 12 or day < 1 or day > 31 or hour > 24 or minute > 59 or second > 60 then return nil end
  return days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
end

--- An HTTP-date in the form that servers have to write (RFC 9110 section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT"), or nil.
function M.of_http(text)
  if type(text) ~= "string" then return nil end
  local day, month, year, hour, minute, second = text:match "^%s*%a%a%a, (%d%d?) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT%s*$"
  if not day then return nil end
  return epoch(math.tointeger(year), MONTHS[month], math.tointeger(day), math.tointeger(hour), math.tointeger(minute), math.tointeger(second))
end

--- RFC 3339: "2026-01-31T08:00:00Z", with a fraction and an offset if they are there. Without a zone it is not known which moment that is: nil.
local function of_iso(text)
  local year, month, day, hour, minute, second, zone = text:match "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)%.?%d*(.*)$"
  if not year then return nil end
  local at = epoch(math.tointeger(year), math.tointeger(month), math.tointeger(day), math.tointeger(hour), math.tointeger(minute), math.tointeger(second))
  if zone == "Z" or zone == "z" then return at end
  local sign, hours, minutes = zone:match "^([+-])(%d%d):?(%d%d)$"
  if not (at and sign) then return nil end
  return at - (sign == "-" and -1 or 1) * (hours * 3600 + minutes * 60)
end

--- A moment that stands in a JSON reply: a number, digits as text, or RFC 3339; milliseconds are told by their size. Or nil.
function M.of_json(value)
  local number = type(value) == "number" and value or nil
  if type(value) == "string" then
    local text = value:match "^%s*(.-)%s*$"
    number = text:find "^%d+%.?%d*$" and tonumber(text) or of_iso(text)
  end
  if not number then return nil end
  return number >= MILLISECONDS_FROM and number < MILLISECONDS_FROM * 1000 and number / 1000 or number
end

return M
