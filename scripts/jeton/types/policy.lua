---@meta jeton.policy
-- luacheck: ignore
-- Types of a policy and of what its hooks are given, for editors with the Lua language server. Not loaded by jeton. Annotate a policy with
-- ---@type jeton.policy. Reference: docs/reference.md.

---@class jeton.headers
---@field [string] string|number|jeton.secret|nil get, set, nil removes; without regard to case
local headers = {}
---@param name string
---@return (string|jeton.secret)[]
function headers:all(name) end

---@class jeton.client
---@field address string
---@field tls jeton.client.tls? nil on a plain listener

---@class jeton.client.tls
---@field subject string "" without a certificate
---@field san string its names, parted by ", ": "a.example", "192.0.2.1", "URI:spiffe://…", "email:…"
---@field fingerprint string SHA-256 in hex
---@field version string "TLSv1.2"
---@field sni string the name that the client asked for
---@field verified boolean

---@class jeton.request
---@field method string
---@field path string
---@field query string?
---@field url string
---@field headers jeton.headers
---@field client jeton.client
---@field id string
---@field upstream string? the name of the upstream to use; nil: a target of `forward`
---@field ctx table for this exchange
---@field host string
---@field version "1.0"|"1.1"|"2" of HTTP, as the client speaks it
---@field scheme string
---@field target jeton.target once the route is known: in on_send and later
local request = {}
---@async
---@return string|jeton.secret? body a secret, if secrets were put into it
---@return string? message, string? code
function request:body() end
---@param name string
---@param value string|number|boolean|jeton.secret|nil nil: none goes out
function request:set_query(name, value) end
---@param name string
---@param value string|number|boolean|jeton.secret|nil nil: none goes out
function request:set_cookie(name, value) end
---@param value any as of jeton.json.encode; secrets may be inside
function request:set_json(value) end
---@param form table<string, string|number|boolean|jeton.secret|(string|number|boolean|jeton.secret)[]>
function request:set_form(form) end
---@param body string|jeton.secret
function request:set_body(body) end
--- In on_response: has the request sent again.
---@param detail? any try.detail of the tries that follow
---@return true? ok, string? message, string? code
function request:retry(detail) end
---@param status integer 200 to 599
---@param fields? table<string, string|number|string[]>
---@param body? string
function request:respond(status, fields, body) end

---@class jeton.target what goes to the upstream, exactly as it is sent
---@field scheme "http"|"https"
---@field host string
---@field port integer
---@field authority string what stands in Host
---@field path string the upstream's base path included
---@field query string?

---@class jeton.try
---@field number integer 1, 2, …
---@field reason "first"|"rejected"|"stale"|"retry" rejected: a replay behind a refused token; stale: its connection had ended; retry: req:retry, or another server is asked
---@field detail any what the last req:retry was given

---@class jeton.response
---@field status integer
---@field version "1.0"|"1.1"|"2" of HTTP, as the upstream speaks it
---@field headers jeton.headers without secrets
local response = {}
---@async
---@return string? body, string? message, string? code
function response:body() end
---@param body string
function response:set_body(body) end

---@class jeton.error
---@field status integer
---@field code string
---@field message string
---@field retry_after integer? seconds, with a 503

---@class jeton.entry
---@field method string
---@field host string? with its port, if the client named one
---@field path string
---@field query string?
---@field version "1.0"|"1.1"|"2"|nil nil: the request could not be read
---@field client string
---@field upstream string "" when none was asked
---@field status integer 499: the client left first
---@field bytes_in integer
---@field bytes_out integer
---@field duration number seconds
---@field id string
---@field replayed boolean
---@field retries integer how often req:retry had it sent again
---@field cut boolean the reply broke off: at its upstream, by a limit of time, or because jeton was stopped
---@field aborted boolean its client left before the end, or took nothing any more
---@field error string? why it failed
---@field grpc_status integer? what jeton answered a gRPC call; `status` is that of the failure
---@field ctx table? what a hook put into req.ctx

---@class jeton.certificate
---@field cert string file
---@field key string file

---@class jeton.listen.tls
---@field certificates jeton.certificate[]
---@field client_ca? string file
---@field client_required? boolean
---@field min_version? "1.2"|"1.3"
---@field max_version? "1.2"|"1.3"

---@class jeton.listen
---@field [1] string address
---@field tls? jeton.listen.tls
---@field half_close? boolean
---@field tcp_keepalive? boolean|jeton.tcp_keepalive
---@field http2? boolean beside HTTP/1.1; true unless it is given

---@class jeton.tcp_keepalive
---@field idle? jeton.duration
---@field interval? jeton.duration
---@field probes? integer

---@class jeton.proxy
---@field url string "http://HOST:PORT"
---@field user? string
---@field password? string|jeton.secret

---@class jeton.upstream
---@field [integer] string URLs, taken in turn
---@field tls? jeton.tls
---@field timeouts? jeton.upstream.timeouts
---@field pool? { idle: integer?, keep: jeton.duration?, age: jeton.duration? }
---@field tcp_keepalive? boolean|jeton.tcp_keepalive
---@field http2? boolean|"auto" "auto": as the server says in the TLS handshake
---@field proxy? string|jeton.proxy|false "http://USER:PASSWORD@HOST:PORT", or "environment"
---@field preserve_host? boolean
---@field rewrite_location? boolean a Location that names this upstream is said as clients of jeton know it

---@class jeton.upstream.timeouts
---@field connect? jeton.duration
---@field first_byte? jeton.duration
---@field response? jeton.duration
---@field send? jeton.duration
---@field pool? jeton.duration

---@class jeton.timeouts : jeton.upstream.timeouts
---@field handshake? jeton.duration
---@field head? jeton.duration
---@field prove? jeton.duration of jeton run --prove: to every token's first value
---@field body? jeton.duration
---@field idle? jeton.duration
---@field exchange? jeton.duration
---@field half_close? jeton.duration
---@field tunnel? jeton.duration
---@field drain? jeton.duration

---@class jeton.limits
---@field request_line? jeton.size
---@field head? jeton.size
---@field headers? integer
---@field chunk_line? jeton.size
---@field chunk_overhead? jeton.size
---@field body? jeton.size
---@field body_rate? jeton.size bytes a second
---@field script_body? jeton.size
---@field replay_buffer? jeton.size
---@field retries? integer of one request, by req:retry; 1 unless it is given
---@field memory? jeton.size
---@field script_time? jeton.duration
---@field connections? integer
---@field connections_per_address? integer
---@field handshakes? integer
---@field waiters? integer
---@field pipelined? integer
---@field streams? integer of one HTTP/2 connection of a client
---@field buffered? jeton.size

---@class jeton.forward
---@field hosts? string[] targets of requests: "h", "h:port", "*.h", "http://h", "https://h"
---@field connect? string[] targets of CONNECT: "h" (port 443), "h:port", "*.h"
---@field private? string[] private addresses and ranges that these may lead to: "10.0.0.0/8", "127.0.0.1"
---@field tls? jeton.tls for https targets; without server_name
---@field http2? boolean|"auto" to the targets in hosts
---@field proxy? string|jeton.proxy|false as of an upstream

---@class jeton.log.options
---@field level? "debug"|"info"|"warn"|"error"|"off"
---@field format? "text"|"json"
---@field access? boolean|string true: standard output; text: a file

---@class jeton.policy
---@field listen? string|jeton.listen|(string|jeton.listen)[]
---@field upstream? string|string[]|jeton.upstream
---@field upstreams? table<string, string|string[]|jeton.upstream>
---@field forward? jeton.forward
---@field tokens? table<string, jeton.token_options|jeton.secret>
---@field tasks? table<string, async fun()>
---@field workers? integer
---@field timeouts? jeton.timeouts
---@field limits? jeton.limits
---@field log? jeton.log.options
---@field access_log? boolean|string the same as log.access
---@field forwarded? "drop"|"set"|"append"|"off"|false what the upstream is told of the client; "drop" unless it is given
---@field via? boolean
---@field half_close? boolean
---@field tcp_keepalive? boolean|jeton.tcp_keepalive
---@field on_start? async fun()
---@field on_request? async fun(req: jeton.request, tokens: jeton.tokens)
---@field on_send? async fun(req: jeton.request, tokens: jeton.tokens, try: jeton.try) before each try; it may await req:body() alone
---@field on_response? async fun(res: jeton.response, req: jeton.request, tokens: jeton.tokens)
---@field on_error? async fun(req: jeton.request, err: jeton.error)
---@field on_log? async fun(entry: jeton.entry)
