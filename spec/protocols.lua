--- Which specs also run by HTTP/2, with which protocols of clients and upstreams (spec/support/protocols.lua), and which of their cases do not: what holds is said once, in the spec.
--- A line: the spec, its protocols, and which cases are left out with clients of HTTP/2 (`clients`), with upstreams of HTTP/2 (`upstreams`), or with either (`without`): parts of full
--- names, as Lua patterns, each with the reason. `only` instead names the cases that run.
--- `lua5.4 spec/protocols.lua` prints all of it, as spec/support/run-specs takes it: FILE@PROTOCOLS.
local H2_H1, H1_H2, H2_H2 = "h2-h1", "h1-h2", "h2-h2"

local M = {}

local HTTP_1 = "says how something is written in HTTP/1.x"
local NO_CONNECTION = "HTTP/2 has no Connection"
local ONE_STREAM = "only the stream ends"
local OWN_SERVER = "that upstream is a socket of the spec, which speaks HTTP/1.1"
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
  { "proxy/send", { H2_H1, H1_H2, H2_H2 } },
  { "proxy/registry", { H2_H1 } }, { "proxy/session", { H2_H1 } },
  { "proxy/pool", { H2_H2 }, upstreams = { ["^the example"] = "a policy that stands in a file chooses itself what its upstream speaks" } },
  { "proxy/aws", { H2_H2 }, only = { "^aws%.sign" } },
  { "proxy/retry", { H2_H2 } },
  { "proxy/refusals", { H2_H2 } },
  { "proxy/placed", { H2_H2 } },
  { "proxy/grants", { H2_H2 }, only = { "^dpop" } },
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
  { "security/target", { H1_H2 }, upstreams = { ["a kept connection to a private address"] = "targets over http:// are asked by HTTP/1.1, so nothing is shared with an upstream" } },
  { "security/framing", { H1_H2 } },
  { "security/memory", { H2_H2 } },
  { "proxy/leaving", { H1_H2 }, only = { "^a client that leaves by FIN", "^a client that leaves in a storm", "^a reply that breaks off" } },
  { "proxy/leaving", { H2_H1 }, clients = {
    ["while nobody reads what it sends"] = "it pipelines", ["closes its half"] = HALF_CLOSE, ["over TLS by"] = "that client speaks HTTP/1.1",
    ["would look complete"] = HTTP_1, ["because its client left"] = "what of a stream its client has taken nobody tells",
  } },
  { "proxy/streaming", { H2_H1, H1_H2 }, clients = {
    ["for HTTP/1%.0"] = HTTP_1, ["each chunk's CRLF"] = HTTP_1, ["closes behind the reply"] = NO_CONNECTION, ["behind one that asked for the end"] = NO_CONNECTION,
  }, upstreams = {
    ["while a slow upstream takes"] = OWN_SERVER, ["of an HTTP/1%.0 upstream"] = HTTP_1, ["may be IPv6"] = "nginx speaks HTTP/1.1 there",
  } },
  { "proxy/streaming", { H2_H2 }, only = { "^memory" }, upstreams = { ["while a slow upstream takes"] = OWN_SERVER } },
  { "proxy/limits", { H2_H1 }, only = { "^a request over a limit", "^a drain", "^a client's body", "^a reader may be an upstream" }, clients = {
    ["chunk_line"] = HTTP_1, ["chunk_overhead"] = HTTP_1,
  } },
  { "proxy/limits", { H1_H2 }, only = { "^limits%.buffered bounds", "^timeouts%.pool", "that takes nothing is cut" } },
  { "proxy/reload", { H2_H2 }, only = { "^a reload " } },
  { "security/response", { H1_H2 }, upstreams = {
    ["Transfer%-Encoding"] = HTTP_1, ["folded line"] = HTTP_1, ["a fold in packets"] = HTTP_1, ["a bare LF"] = HTTP_1, ["chunked twice"] = HTTP_1, ["chunked, identity"] = HTTP_1,
    ["gzip, chunked"] = HTTP_1, ["xchunked"] = HTTP_1, ["the status 099"] = ONE_STREAM, ["the status 600"] = ONE_STREAM, ["bad_chunk"] = HTTP_1,
    ["with 204 and a length"] = "the library takes it for malformed, with RFC 9110 section 8.6", ["with 103 and a length"] = "the library takes it for malformed, with RFC 9110 section 8.6",
    ["head without end is a 502"] = HTTP_1, ["an upgrade answered 200"] = "an Upgrade wants HTTP/1.1", ["bytes that no request asked for"] = "a frame belongs to a stream",
  } },
}

--- Specs of spec/proxy and spec/security that run by HTTP/1.1 alone, or choose their protocols themselves: why.
local ITSELF = "is of HTTP/2, or chooses the protocols of its cases"
local NO_EXCHANGE = "what it shows does not come by an exchange of messages"
M.left_out = {
  ["proxy/backpressure"] = ITSELF, ["proxy/access_log"] = "holds lines and fields of the log against what each request was; basic, hooks and leaving show those of HTTP/2", ["proxy/actors"] = NO_EXCHANGE,
  ["proxy/bounds"] = "bounds scripts; only jeton.http speaks, which h2_calls runs by both", ["proxy/channel"] = NO_EXCHANGE, ["proxy/chaos"] = "the storms of h2_life and grpc are HTTP/2's",
  ["proxy/cli"] = NO_EXCHANGE, ["proxy/cost"] = "counts calls of the system; h2_calls and `make bench-instructions` do for HTTP/2",
  ["proxy/dial"] = "a dial ends before anybody speaks; http2_alpn shows what is chosen", ["proxy/dns"] = NO_EXCHANGE, ["proxy/docs"] = NO_EXCHANGE, ["proxy/examples"] = NO_EXCHANGE,
  ["proxy/clouds"] = NO_EXCHANGE, ["proxy/exec_credential"] = NO_EXCHANGE, ["proxy/family_data"] = NO_EXCHANGE, ["proxy/fetch_failures"] = NO_EXCHANGE, ["proxy/first_login"] = NO_EXCHANGE, ["proxy/flush"] = "its peers of every language speak HTTP/1.1; http2_flow and grpc show that nothing waits", ["proxy/grpc"] = ITSELF, ["proxy/grpc_errors"] = ITSELF, ["proxy/h2_calls"] = ITSELF, ["proxy/h2_cut"] = ITSELF,
  ["proxy/h2_life"] = ITSELF, ["proxy/h2_life_upstream"] = ITSELF, ["proxy/h2_window"] = ITSELF, ["proxy/http2_alpn"] = ITSELF, ["proxy/http2_flow"] = ITSELF, ["proxy/http2_keys"] = ITSELF,
  ["proxy/http2_peers"] = ITSELF, ["proxy/index"] = NO_EXCHANGE, ["proxy/issuers"] = NO_EXCHANGE, ["proxy/issuer_replies"] = "gives scripts replies byte by byte, as HTTP/1.x has them; security/response has those of HTTP/2",
  ["proxy/kubernetes"] = NO_EXCHANGE, ["proxy/keepalive"] = "TCP's, below the protocol", ["proxy/library"] = NO_EXCHANGE, ["proxy/login"] = NO_EXCHANGE,
  ["proxy/misuse"] = "what a script may not do, whoever asked",
  ["proxy/aws_logins"] = NO_EXCHANGE, ["proxy/hmac"] = "signs what on_send shows, as aws does", ["proxy/digest"] = "answers by what send and retry show in both",
  ["proxy/computed"] = "what a secret is made of, whichever protocol carries it; placed and send show heads and bodies of HTTP/2",
  ["proxy/oauth2"] = NO_EXCHANGE, ["proxy/oauth2_tls"] = NO_EXCHANGE, ["proxy/parent"] = "is about the way to upstreams, and says itself which protocol they speak behind it", ["proxy/readiness"] = NO_EXCHANGE, ["proxy/release"] = NO_EXCHANGE, ["proxy/secrets"] = NO_EXCHANGE, ["proxy/shared"] = NO_EXCHANGE,
  ["proxy/static_tokens"] = NO_EXCHANGE, ["proxy/storm"] = "of issuers and tokens; tokens runs by both", ["proxy/token_bond"] = NO_EXCHANGE, ["proxy/vault"] = NO_EXCHANGE, ["proxy/tunnel"] = "an Upgrade is HTTP/1.1's on both sides (RFC 9113 section 8.6)",
  ["proxy/words"] = "of starts and loads, before anybody asks", ["security/addresses"] = "judges addresses before a dial", ["security/containment"] = "bounds scripts, whoever asked",
  ["security/control"] = NO_EXCHANGE, ["security/corpus"] = "is bytes of HTTP/1.x; security/h2 and translation have those of HTTP/2", ["security/depth"] = NO_EXCHANGE, ["security/echo"] = "jeton.http speaks HTTP/1.1 with its issuers, which are of http://",
  ["security/floods"] = ITSELF, ["security/h2"] = ITSELF, ["security/hostile"] = NO_EXCHANGE, ["security/tls"] = "TLS, below the protocol", ["security/tls_files"] = "TLS, below the protocol",
  ["security/tls_peers"] = "TLS, below the protocol; http2_peers has the protocols", ["security/translation"] = ITSELF,
}

local function all()
  local lines = {}
  for _, spec in ipairs(M.specs) do
    for _, protocols in ipairs(spec[2]) do lines[#lines + 1] = ("spec/%s_spec.lua@%s"):format(spec[1], protocols) end
  end
  return lines
end

local function has(list, value)
  for _, each in ipairs(list) do
    if each == value then return true end
  end
  return false
end

--- What busted is told for one of them: options that leave out what does not hold there.
local function filters(file, protocols)
  local options = {}
  for _, spec in ipairs(M.specs) do
    if ("spec/%s_spec.lua"):format(spec[1]) == file and has(spec[2], protocols) then
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
