--- Fields that are right, however odd they look: they must arrive as they were sent (RFC 9110 section 5).
local w = require "spec.security.corpus.words"
local get, all = w.get, w.all

local function arrives(name, value)
  return function(seen)
    local got = seen[1] and seen[1].by[name:lower()]
    assert(got, name .. " did not arrive")
    assert(table.concat(got, "|") == value, ("%s arrived as %q"):format(name, table.concat(got, "|")))
  end
end
local function value(name, sent, got) return { name, get("X-Corpus:" .. sent), "RFC 9110 section 5.5", check = arrives("X-Corpus", got) } end
local function name(text) return { "a name of " .. text, get(text .. ": v"), "RFC 9110 section 5.1", check = arrives(text, "v") } end

local high = {}
for byte = 0x80, 0xff do high[#high + 1] = string.char(byte) end
high = table.concat(high)
local visible = {}
for byte = 0x21, 0x7e do visible[#visible + 1] = string.char(byte) end
visible = table.concat(visible)

return all("served", "200", {
  value("an empty value", "", ""),
  value("a value of white space", " \t ", ""),
  value("a value without white space before it", "v", "v"),
  value("a value between spaces and tabs", " \t v \t ", "v"),
  value("a value with tabs in it", " a\tb\t\tc", "a\tb\t\tc"),
  value("a value with spaces in it", " a  b", "a  b"),
  value("every visible character in a value", " " .. visible, visible),
  value("every byte from 0x80 on in a value", " " .. high, high),
  value("a next-line byte and a no-break space around a value", " \x85admin\xa0", "\x85admin\xa0"),
  value("UTF-8 in a value", " Gr\xc3\xbc\xc3\x9fe \xe2\x82\xac", "Gr\xc3\xbc\xc3\x9fe \xe2\x82\xac"),
  value("colons in a value", " a:b::c", "a:b::c"),
  value("a request line in a value", " GET / HTTP/1.1", "GET / HTTP/1.1"),
  value("quotes and backslashes in a value", ' "a\\"b, c"', '"a\\"b, c"'),
  value("a value of 16 KB", " " .. ("a"):rep(16384), ("a"):rep(16384)),
  value("a value of one comma", " ,", ","),
  name "x", name "1", name "!#$%&'*+-.^`|~", name "X_Corpus", name "x-corpus.v2", name "-", name("X" .. ("a"):rep(500)),
  { "the same name three times, in order", get("X: a", "X: b", "X: c"), "RFC 9110 section 5.3", check = function(seen)
    assert(table.concat(seen[1].by.x, ","):gsub("%s", "") == "a,b,c", "they arrived in another order")
  end },
  { "two Cookie fields", get("Cookie: a=b", "Cookie: c=d"), "RFC 6265 section 5.4", check = function(seen)
    local all_of = table.concat(seen[1].by.cookie, "; ")
    assert(all_of:find("a=b", 1, true) and all_of:find("c=d", 1, true), "a cookie is lost")
  end },
  { "a Cookie of 8 KB", get("Cookie: s=" .. ("c"):rep(8192)), "RFC 6265 section 6.1", check = arrives("Cookie", "s=" .. ("c"):rep(8192)) },
  { "a Cookie that breaks its own grammar", get 'Cookie: =; a; b=c"; ;;', "RFC 9110 section 5.5", check = arrives("Cookie", '=; a; b=c"; ;;') },
  { "100 fields", get(("X-H: v\r\n"):rep(98) .. "X-Last: v"), "RFC 9110 section 5.4", check = arrives("X-Last", "v") },
  { "two Content-Types, which frame nothing", get("Content-Type: text/plain", "Content-Type: text/html"), "RFC 9110 section 5.3", check = function(seen)
    assert(#seen == 1, "it did not arrive")
  end },
  { "a Range on a GET", get "Range: bytes=0-10,20-30", "RFC 9110 section 14.2", check = arrives("Range", "bytes=0-10,20-30") },
  { "a Range of a hundred parts", get("Range: bytes=0-0" .. (",0-0"):rep(99)), "RFC 9110 section 14.2", check = arrives("Range", "bytes=0-0" .. (",0-0"):rep(99)) },
  { "a thousand cookies", get("Cookie: a=1" .. ("; a=1"):rep(999)), "RFC 6265 section 6.1", check = arrives("Cookie", "a=1" .. ("; a=1"):rep(999)) },
  { "an empty Cookie", get "Cookie: ", "RFC 9110 section 5.5", check = arrives("Cookie", "") },
  { "fields of a condition", get('If-None-Match: "a", W/"b"', "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", 'If-Range: "a"'), "RFC 9110 section 13.1", check = arrives("If-None-Match", '"a", W/"b"') },
  { "a Range that is no range", get "Range: bytes=abc-xyz", "RFC 9110 section 14.2", check = arrives("Range", "bytes=abc-xyz") },
  { "an Accept that nobody offers", get "Accept: application/x-nonsense", "RFC 9110 section 12.5.1", check = arrives("Accept", "application/x-nonsense") },
})
