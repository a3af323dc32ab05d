--- Chunk sizes, extensions, ends and trailers (RFC 9112 section 7.1).
local w = require "spec.security.corpus.words"
local chunked, all, inner = w.chunked, w.all, w.inner

local S, E, R = "RFC 9112 section 7.1", "RFC 9112 section 7.1.1", "RFC 9112 section 7.1.2"
local function size(text, data) return chunked(text .. "\r\n" .. (data or "hello") .. "\r\n0\r\n\r\n") end
local function extension(text) return size("5" .. text) end
local function trailer(line) return chunked("5\r\nhello\r\n0\r\n" .. line .. "\r\n\r\n") end

local refused = all("refused", "400", {
  { "a size with 0x before it", size "0x5", S },
  { "a size with a plus sign", size "+5", S },
  { "a negative size", size "-5", S },
  { "a size of -1", size "-1", S },
  { "a size with an underscore", size("1_0", "hello world!!!!!"), S },
  { "a size with a decimal point", size "5.0", S },
  { "a size with an h behind it", size "5h", S },
  { "a size that is a word", size "five", S },
  { "a size of 0_2e, which is 0 or 46", chunked("0_2e\r\n\r\n" .. inner), S },
  { "a size of -0x0", chunked "-0x0\r\n\r\n", S },
  { "a size with letters that are no digits behind it", size "5these-bytes", S },
  { "an empty size for the last one", chunked "\r\n\r\n", S },
  { "sizes that are no numbers", chunked "Z\r\nZZ\r\nZZZ\r\n\r\n", S },
  { "many spaces before the last size", chunked "          0\r\n\r\n", S },
  { "an empty line before the last chunk", chunked("5\r\nhello\r\n\r\n\r\n0\r\n\r\n"), S },
  { "CR CR before an extension", chunked("5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n" .. inner), E },
  { "CR CR behind an extension", chunked("5;a=b\r\rhello\r\n0\r\n\r\n" .. inner), E },
  { "an empty size", size "", S },
  { "a size with a space before it", size " 5", S },
  { "a size with a tab before it", size "\t5", S },
  { "a size with a space behind it", size "5 ", S },
  { "a size with a tab behind it", size "5\t", S },
  { "a size with a space in it", size("1 0", "hello world!!!!!"), S },
  { "a size in quotes", size '"5"', S },
  { "a size with a NUL behind it", size "5\0", S },
  { "a size with a vertical tab behind it", size "5\v", S },
  { "a size with a no-break space behind it", size "5\xa0", S },
  { "a size in full-width digits", size "\xef\xbc\x95", S },
  { "a size of 2^64", size "10000000000000000", S },
  { "a size of 2^64 + 5", size "10000000000000005", S },
  { "a size of 2^63, which is negative to some", size "8000000000000000", S },
  { "a size of 2^64 - 1, which is -1 to some", size "ffffffffffffffff", S },
  { "a size of 17 digits F and 0", size "FFFFFFFFFFFFFFFF0", S },
  { "a size of 40 digits", size(("f"):rep(40)), S },
  { "a size with a comma list", size "5,5", S },
  { "a size of zeros only, then data", chunked("00\r\nhello\r\n0\r\n\r\n"), S },
  { "a bare LF behind the size", chunked "5\nhello\r\n0\r\n\r\n", S },
  { "a bare CR behind the size", chunked "5\rhello\r\n0\r\n\r\n", S },
  { "CR CR LF behind the size", chunked "5\r\r\nhello\r\n0\r\n\r\n", S },
  { "LF CR behind the size", chunked "5\n\rhello\r\n0\r\n\r\n", S },
  { "bare LFs everywhere in the body", chunked "5\nhello\n0\n\n", S },
  { "no CRLF behind the data", chunked "5\r\nhello0\r\n\r\n", S },
  { "a bare LF behind the data", chunked "5\r\nhello\n0\r\n\r\n", S },
  { "a bare CR behind the data", chunked "5\r\nhello\r0\r\n\r\n", S },
  { "two CRLF behind the data", chunked "5\r\nhello\r\n\r\n0\r\n\r\n", S },
  { "two other bytes for the CRLF behind the data", chunked "5\r\nhelloXX0\r\n\r\n", S },
  { "more data than said", chunked "5\r\nhello!!\r\n0\r\n\r\n", S },
  { "less data than said", chunked "6\r\nhello\r\n0\r\n\r\n", S },
  { "a bare LF behind the last size", chunked "5\r\nhello\r\n0\n\r\n", S },
  { "a bare LF at the end", chunked "5\r\nhello\r\n0\r\n\n", S },
  { "a bare CR at the end", chunked("5\r\nhello\r\n0\r\n\r" .. inner), S },
  { "a last chunk of -0", chunked "5\r\nhello\r\n-0\r\n\r\n", S },
  { "a semicolon alone", extension ";", E },
  { "two semicolons", extension ";;a", E },
  { "a bare LF behind a semicolon", chunked "5;\nhello\r\n0\r\n\r\n", E },
  { "a bare LF in an extension", chunked("2;\nxx\r\n0\r\n\r\n" .. inner .. "\r\n0\r\n\r\n"), E },
  { "a bare CR in an extension", extension ";a\rX", E },
  { "a bare CR in a quoted extension", extension ';a="b\rc"', E },
  { "a bare LF in a quoted extension", extension ';a="b\nc"', E },
  { "a CRLF in a quoted extension", extension ';a="b\r\nc"', E },
  { "a NUL in an extension", extension ";a\0b", E },
  { "a control byte in an extension", extension ";a=\1", E },
  { "a bracket in an extension", extension ";bad[=x", E },
  { "an extension without a semicolon", extension " a=b", E },
  { "an extension behind a comma", extension ",a=b", E },
  { "an extension without a name", extension ";=b", E },
  { "an extension without a value", extension ";a=", E },
  { "an extension whose quote stays open", extension ';a="b', E },
  { "an extension with bytes behind its quote", extension ';a="b"c', E },
  { "an 8-bit byte in an extension", extension ";\xe9", E },
  { "a space before an extension", extension " ;a", E },
  { "a space behind the semicolon", extension "; a", E },
  { "spaces around the equals sign", extension ";a = b", E },
  { "an extension of 100 KB", extension(";a=" .. ("b"):rep(100000)), E },
  { "an extension of 64 KB on the last chunk", chunked("5\r\nhello\r\n0;" .. ("b"):rep(65536) .. "\r\n\r\n"), E },
  { "a Content-Length in the trailers", trailer "Content-Length: 50", "RFC 9110 section 6.5.1" },
  { "a Transfer-Encoding in the trailers", trailer "Transfer-Encoding: chunked", "RFC 9110 section 6.5.1" },
  { "a folded trailer", trailer "X: a\r\n b", "RFC 9112 section 5.2" },
  { "a trailer without a colon", trailer "X", R },
  { "a trailer without a name", trailer ": x", R },
  { "a trailer with a space before its colon", trailer "X : y", R },
  { "a trailer with a bare LF", trailer "X: a\nY: b", R },
  { "a trailer with a NUL", trailer "X: a\0", R },
  { "a trailer section that is a request", chunked("0\r\n" .. inner), R },
  { "white space before the first trailer", trailer " X: y", R },
})

local function body_is(text)
  return function(seen) assert(#seen == 1 and seen[1].body == text, "the body did not arrive") end
end
local served = all("served", "200", {
  { "one chunk", chunked(w.hello), S, check = body_is "hello" },
  { "two chunks", chunked "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", S, check = body_is "hello world" },
  { "no chunk but the last", chunked "0\r\n\r\n", S, check = body_is "" },
  { "a size in capitals", size("A", "helloworld"), S, check = body_is "helloworld" },
  { "a size in small letters", size("a", "helloworld"), S, check = body_is "helloworld" },
  { "a size with leading zeros", size "00005", S, check = body_is "hello" },
  { "a last size of several zeros", chunked "5\r\nhello\r\n000\r\n\r\n", S, check = body_is "hello" },
  { "an extension", extension ";a=b", E, check = body_is "hello" },
  { "an extension without a value", extension ";a", E, check = body_is "hello" },
  { "several extensions", extension ";a=b;c;d=e", E, check = body_is "hello" },
  { "a quoted extension", extension ';a="b;c\\"d"', E, check = body_is "hello" },
  { "an extension on the last chunk", chunked "5\r\nhello\r\n0;last\r\n\r\n", E, check = body_is "hello" },
  { "a trailer", trailer "X-Checksum: abc", R, check = body_is "hello" },
  { "a trailer that looks like a request line", trailer "X:POST /smuggled HTTP/1.1", R, check = body_is "hello" },
  { "a trailer that was announced", w.post({ "Transfer-Encoding: chunked", "Trailer: X-Checksum" }, "5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n"), R, check = body_is "hello" },
  { "bytes of every kind", chunked("5\r\n\0\r\n\xff\n\r\n0\r\n\r\n"), S, check = body_is "\0\r\n\xff\n" },
  { "a chunk whose data looks like a request", chunked(w.inner_size .. "\r\n" .. inner .. "\r\n0\r\n\r\n"), S, check = body_is(inner) },
  { "chunks cut in the middle of everything", { chunked "5", "\r", "\nhel", "lo", "\r\n0\r", "\n", "\r\n" }, S, check = body_is "hello" },
})

--- Fields that may not stand in a trailer section must not come out as fields of the request.
local function gone(name)
  return function(seen)
    assert(#seen == 1 and not seen[1].by[name] and not (seen[1].trailers and seen[1].trailers[name]), name .. " arrived")
  end
end
local dropped = all("clear", nil, {
  { "Authorization in the trailers", trailer "Authorization: Bearer evil", "RFC 9110 section 6.5.1", check = gone "authorization" },
  { "Cookie in the trailers", trailer "Cookie: evil", "RFC 9110 section 6.5.1", check = gone "cookie" },
  { "Content-Type in the trailers", trailer "Content-Type: text/evil", "RFC 9110 section 6.5.1", check = gone "content-type" },
  { "Host in the trailers", trailer "Host: evil.example", "RFC 9110 section 6.5.1" },
})

local unfinished = all("unfinished", nil, {
  { "a size of 2^32 + 5, which is 5 in 32 bits, and a request behind it", chunked("100000005\r\nhello\r\n0\r\n\r\n" .. inner), S, ends = true },
  { "a size of 2^63 - 1", size "7fffffffffffffff", S, ends = true },
})

return w.join(refused, served, dropped, unfinished)
