---@meta jeton.policy
-- luacheck: ignore
-- Types of what hooks are given, for editors with the Lua language server. Not loaded by jeton. Annotate a policy with ---@type jeton.policy.

---@class jeton.headers
---@field [string] string|jeton.secret|nil get, set, nil removes; without regard to case
local headers = {}
---@param name string
---@return string[]
function headers:all(name) end

---@class jeton.request
---@field method string
---@field path string
---@field query string?
---@field url string
---@field headers jeton.headers
---@field client table address and TLS identity
---@field id string
---@field upstream string? the name of the upstream to use; nil: a target of `forward`
---@field ctx table for this exchange
---@field host string
---@field version string
---@field scheme string
local request = {}
---@async
---@return string? body, string? message, string? code
function request:body() end
---@param body string
function request:set_body(body) end
---@param status integer
---@param fields? table<string, string>
---@param body? string
function request:respond(status, fields, body) end

---@class jeton.response
---@field status integer
---@field headers jeton.headers
local response = {}
---@async
---@return string? body, string? message, string? code
function response:body() end
---@param body string
function response:set_body(body) end

---@class jeton.forward
---@field hosts? string[] targets of requests: "h", "h:port", "*.h", "http://h", "https://h"
---@field connect? string[] targets of CONNECT: "h" (port 443), "h:port", "*.h"
---@field private? string[] private addresses and ranges that these may lead to: "10.0.0.0/8", "127.0.0.1"
---@field tls? table for https targets, as of an upstream

---@class jeton.policy
---@field listen? string|table
---@field upstream? string|table
---@field upstreams? table<string, string|table>
---@field forward? jeton.forward
---@field tokens? table<string, jeton.token_options>
---@field tasks? table<string, async fun()>
---@field workers? integer
---@field timeouts? table<string, jeton.duration>
---@field limits? table<string, integer|string>
---@field log? table
---@field forwarded? "set"|"append"|"off"
---@field on_start? async fun()
---@field on_request? async fun(req: jeton.request, tokens: jeton.tokens)
---@field on_response? async fun(res: jeton.response, req: jeton.request, tokens: jeton.tokens)
---@field on_error? async fun(req: jeton.request, err: { status: integer, code: string, message: string, retry_after: integer? })
---@field on_log? fun(entry: table)
