--- Which specs also run by HTTP/2, with which protocols of clients and upstreams (spec/support/protocols.lua), and which of their cases do not: what holds is said once, in the spec.
--- A line: the spec, its protocols, and which cases are left out with clients of HTTP/2 (`clients`), with upstreams of HTTP/2 (`upstreams`), or with either (`without`): parts of full
--- names, as Lua patterns, each with the reason. `only` instead names the cases that run.
--- `lua5.4 spec/protocols.lua` prints all of it, as spec/support/run-specs takes it: FILE@PROTOCOLS.
local H2_H1, H1_H2, H2_H2 = "h2-h1", "h1-h2", "h2-h2"

local M = {}

local HTTP_1 = "says how something is written in HTTP/1.x"
local NO_CONNECTION = "HTTP/2 has no Connection"
local ONE_STREAM = "only the stream ends"
local HALF_CLOSE = "half of a connection that carries many requests is no request's end"

M.specs = {
  { "proxy/basic", { H2_H1, H1_H2, H2_H2 }, clients = {
    ["HTTP/1%.0 client"] = HTTP_1, ["what Connection names"] = NO_CONNECTION, ["may half%-close"] = HALF_CLOSE,
  } },
  { "proxy/hooks", { H2_H1 }, clients = {
    ["lost their hop%-by%-hop fields"] = NO_CONNECTION, ["body has not come closes the connection"] = "no connection closes for one request",
    ["body is broken is a 400"] = HTTP_1,
  } },
  { "proxy/tokens", { H2_H2 } },
  { "proxy/forwarded", { H2_H1 } },
  { "proxy/faults", { H2_H2 }, only = { "^an upstream that", "^an upstream of several addresses", "^a pooled connection that the upstream closes", "^a client that leaves" }, clients = {
    ["does not read a large request"] = "that upstream speaks no protocol at all",
  } },
  { "proxy/lifecycle", { H2_H2 }, only = { "^a token " } },
  { "security/leak", { H2_H2 } },
  { "proxy/failover", { H2_H2 } },
  { "proxy/forward", { H2_H1 }, only = { "a request with an absolute target" }, clients = {
    ["may be an upgrade"] = "HTTP/2 has no Upgrade", ["that is none is a 400"] = HTTP_1,
  } },
  { "security/base_path", { H2_H2 } },
  { "security/credentials", { H2_H2 }, clients = { ["not in a tunnel"] = HTTP_1 } },
  { "security/target", { H2_H1 }, clients = {
    ["the same Host twice"] = "a Host that agrees with :authority is none too many", ["beside a target with one"] = "an absolute target is :authority",
    ["HTTP/0%.9"] = HTTP_1, ["HTTP/1%.0"] = HTTP_1, ["HTTP/1%.2"] = HTTP_1, ["HTTP/2%.0"] = HTTP_1, ["HTTP/1%.10"] = HTTP_1, ["HTTP/11"] = HTTP_1, ["a TLS hello"] = HTTP_1,
    ["PRI of HTTP/2"] = HTTP_1, ["128 fields"] = "the case of their names", ["a field of 30 KB"] = "the case of its name", ["takes no target with"] = "is a reset, not a 400",
  } },
  { "security/response", { H1_H2 }, upstreams = {
    ["Transfer%-Encoding"] = HTTP_1, ["folded line"] = HTTP_1, ["a fold in packets"] = HTTP_1, ["a bare LF"] = HTTP_1, ["chunked twice"] = HTTP_1, ["chunked, identity"] = HTTP_1,
    ["gzip, chunked"] = HTTP_1, ["xchunked"] = HTTP_1, ["the status 099"] = ONE_STREAM, ["the status 600"] = ONE_STREAM, ["bad_chunk"] = HTTP_1,
    ["with 204 and a length"] = "the library takes it for malformed, with RFC 9110 section 8.6", ["with 103 and a length"] = "the library takes it for malformed, with RFC 9110 section 8.6",
    ["head without end is a 502"] = HTTP_1, ["an upgrade answered 200"] = "an Upgrade wants HTTP/1.1", ["bytes that no request asked for"] = "a frame belongs to a stream",
  } },
}

local function all()
  local lines = {}
  for _, spec in ipairs(M.specs) do
    for _, protocols in ipairs(spec[2]) do lines[#lines + 1] = ("spec/%s_spec.lua@%s"):format(spec[1], protocols) end
  end
  return lines
end

--- What busted is told for one of them: options that leave out what does not hold there.
local function filters(file, protocols)
  local options = {}
  for _, spec in ipairs(M.specs) do
    if ("spec/%s_spec.lua"):format(spec[1]) == file then
      for _, part in ipairs(spec.only or {}) do options[#options + 1] = "--filter=" .. part end
      local function leave_out(cases)
        for part, _ in pairs(cases or {}) do options[#options + 1] = "--filter-out=" .. part end
      end
      leave_out(spec.without)
      if protocols:find "^h2" then leave_out(spec.clients) end
      if protocols:find "h2$" then leave_out(spec.upstreams) end
    end
  end
  table.sort(options)
  return options
end

if arg and arg[0] and arg[0]:find "spec/protocols%.lua$" then
  for _, line in ipairs(arg[1] and filters(arg[1], arg[2]) or all()) do print(line) end
end

return M
