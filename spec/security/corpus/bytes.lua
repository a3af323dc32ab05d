--- Bytes that may not stand where they stand: line ends, folds, control bytes, white space (RFC 9112 sections 2.2, 5.1, 5.2; RFC 9110 section 5.5).
local w = require "spec.security.corpus.words"
local get, post, all = w.get, w.post, w.all

local N, F, V, O = "RFC 9112 section 2.2", "RFC 9110 section 5.1", "RFC 9110 section 5.5", "RFC 9112 section 5.2"
local C = "RFC 9112 section 5.1"

local ends = all("refused", "400", {
  { "a bare LF behind the request line", "GET /corpus HTTP/1.1\nHost: example.com\r\n\r\n", N },
  { "a bare LF behind a field", "GET /corpus HTTP/1.1\r\nHost: example.com\nX: y\r\n\r\n", N },
  { "a bare LF behind the last field", "GET /corpus HTTP/1.1\r\nHost: example.com\n\r\n", N },
  { "a bare LF as the empty line", "GET /corpus HTTP/1.1\r\nHost: example.com\r\n\n", N },
  { "bare LFs everywhere", "GET /corpus HTTP/1.1\nHost: example.com\n\n", N },
  { "a bare LF before the request line", "\nGET /corpus HTTP/1.1\r\nHost: example.com\r\n\r\n", N },
  { "a bare CR behind the request line", "GET /corpus HTTP/1.1\rHost: example.com\r\n\r\n", N },
  { "a bare CR behind a field", "GET /corpus HTTP/1.1\r\nHost: example.com\rX: y\r\n\r\n", N },
  { "bare CRs everywhere", "GET /corpus HTTP/1.1\rHost: example.com\r\rx\r\n\r\n", N },
  { "a bare CR before the request line", "\rGET /corpus HTTP/1.1\r\nHost: example.com\r\n\r\n", N },
  { "CR CR LF behind the request line", "GET /corpus HTTP/1.1\r\r\nHost: example.com\r\n\r\n", N },
  { "CR CR LF behind a field", "GET /corpus HTTP/1.1\r\nHost: example.com\r\r\n\r\n", N },
  { "CR and another byte as the empty line", "GET /corpus HTTP/1.1\r\nHost: example.com\r\n\rX\r\n\r\n", N },
  { "LF CR for CR LF", "GET /corpus HTTP/1.1\n\rHost: example.com\n\r\n\r", N },
  { "a vertical tab for a line end", "GET /corpus HTTP/1.1\r\nHost: example.com\vX: y\r\n\r\n", V },
  { "a next-line byte behind the version", "GET /corpus HTTP/1.1\x85\r\nHost: example.com\r\n\r\n", N },
  { "white space before the request line", " GET /corpus HTTP/1.1\r\nHost: example.com\r\n\r\n", N },
  { "a line of white space before the request line", " \r\nGET /corpus HTTP/1.1\r\nHost: example.com\r\n\r\n", N },
  { "nothing but white space", "   \r\n\r\n", N },
  { "a line of white space before the first field", "GET /corpus HTTP/1.1\r\n \r\nHost: example.com\r\n\r\n", N },
  { "white space before the first field", "GET /corpus HTTP/1.1\r\n Host: example.com\r\n\r\n", N },
  { "a tab before the first field", "GET /corpus HTTP/1.1\r\n\tHost: example.com\r\n\r\n", N },
  { "bytes of no protocol", "\x8f\x07\xc2\x19\x00\xff\x3a\x5b\x81\x0c\xe1\x77\x2e\x99\x01\xab\r\n\r\n", "RFC 9112 section 3" },
  { "a TLS hello", "\22\3\1\0\200\1\0\0\196\3\3" .. ("\7"):rep(200), "RFC 9112 section 3" },
  { "a NUL alone", "\0\r\n\r\n", "RFC 9112 section 3" },
})

local folds = all("refused", "400", {
  { "a folded line", get "X: one\r\n two", O },
  { "a line folded with a tab", get "X: one\r\n\ttwo", O },
  { "a fold of white space only", get "X: one\r\n ", O },
  { "a fold behind an empty value", get "X:\r\n one", O },
  { "a folded Host", "GET /corpus HTTP/1.1\r\nHost: example.com\r\n .evil\r\n\r\n", O },
  { "a fold behind a bare LF", get "X: one\n two", O },
  { "a fold that looks like a field", post({ "X: one\r\n Content-Length: 5", "Content-Length: 0" }, ""), O },
  { "a fold cut between CRLF and space", { "GET /corpus HTTP/1.1\r\nHost: example.com\r\nX: one\r\n", " two\r\n\r\n" }, O },
})

local function value(text) return get("X-Corpus: " .. text) end
local values = all("refused", "400", {
  { "a NUL in a value", value "a\0b", V },
  { "a NUL before a value", value "\0b", V },
  { "a NUL behind a value", value "a\0", V },
  { "a bell, a backspace and a vertical tab in a value", value "a\7\8\11b", V },
  { "a control byte of 0x01 in a value", value "a\1b", V },
  { "a control byte of 0x1f in a value", value "a\31b", V },
  { "an escape in a value", value "a\27[31mb", V },
  { "a form feed in a value", value "a\fb", V },
  { "a DEL in a value", value "a\127b", V },
  { "a bare CR in a value", value "a\rb", V },
  { "a bare CR at the end of a value", value "a\r", V },
  { "a bare LF in a value", value "a\nb", V },
  { "a NUL in a Cookie", get "Cookie: a=b\0c", V },
  { "a control byte in a Cookie", get "Cookie: a=\1\2\3", V },
  { "a value that carries a field behind a bare CR", post({ "X: y\rContent-Length: 44", "Content-Length: 0" }, ""), V },
  { "a value that carries a field behind a bare LF", post({ "X: y\nContent-Length: 44", "Content-Length: 0" }, ""), V },
  { "a value that carries a field behind a NUL", post({ "X: y\0Content-Length: 44", "Content-Length: 0" }, ""), V },
})

local function name(text) return get(text .. ": v") end
local names = all("refused", "400", {
  { "an empty name", get ": v", F },
  { "a name with a space in it", name "X Y", F },
  { "a name with a tab in it", name "X\tY", F },
  { "a name that reads Content-Length but for a tab", post({ "Content-Length: 5", "Content\tLength: 3" }, "hello"), F },
  { "a name with a space behind it", name "X ", C },
  { "a name with a tab behind it", name "X\t", C },
  { "a name with a vertical tab behind it", name "X\v", F },
  { "a name with a NUL", name "X\0Y", F },
  { "a name with a NUL before it", name "\0X", F },
  { "a name with a control byte before it", name "\1X", F },
  { "a name with a control byte behind it", name "X\1", F },
  { "a name with a DEL", name "X\127", F },
  { "a name with a CR behind it", name "X\r", N },
  { "a name with an LF behind it", name "X\n", N },
  { "a name with a CR before it", name "\rX", N },
  { "a name with an 8-bit byte", name "X\xe9", F },
  { "a name in UTF-8", name "X-T\xc3\xabst", F },
  { "a name with a bracket", name "X[a]", F },
  { "a name with an at sign", name "a@b", F },
  { "a name with a comma", name "a,b", F },
  { "a name with a slash", name "a/b", F },
  { "a name with parentheses", name "a(b)", F },
  { "a name with a quote", name 'a"b', F },
  { "a name with a backslash", name "a\\b", F },
  { "a name with an equals sign", name "a=b", F },
  { "a name with braces", name "{a}", F },
  { "neither name nor value", get ":", F },
  { "neither name nor value before other fields", "GET /corpus HTTP/1.1\r\n:\r\nHost: example.com\r\n\r\n", F },
  { "a name cut by an LF", get "Te\nst: v", N },
  { "every separator in a name", name '"(),/;<=>?@[/]{}', F },
  { "an LF behind a colon, and a request", get("X:\n\n" .. w.inner), N },
  { "a CR, another byte and a request for the end", "GET /corpus HTTP/1.1\r\nHost: example.com\r\n\rZ" .. w.inner, N },
  { "a line without a colon", get "NoColonHere", F },
  { "a line without a colon that reads like a request", get "GET /smuggled HTTP/1.1", F },
  { "a line with a semicolon for a colon", get "X; y", F },
})

local unfinished = all("unfinished", nil, {
  { "nothing at all", "", N, ends = true },
  { "half a request line", "GET /cor", N, ends = true },
  { "a head without its end", "GET /corpus HTTP/1.1\r\nHost: example.com\r\nX: value", N, ends = true },
  { "a head without its last LF", "GET /corpus HTTP/1.1\r\nHost: example.com\r\n\r", N, ends = true },
  { "an empty line alone", "\r\n", N, ends = true },
})

return w.join(ends, folds, values, names, unfinished)
