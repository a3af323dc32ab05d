---@meta jeton
-- luacheck: ignore
-- Types of the jeton library for editors with the Lua language server. Not loaded by jeton. Reference: docs/library.md.

---@alias jeton.duration number|string seconds, or "250ms", "2s", "5m", "1h"
---@alias jeton.url.value string|number|boolean
---@alias jeton.size integer|string bytes, or "64k", "1m"

---An opaque value: it can be joined with `..` and handed on, never read.
---@class jeton.secret
---@operator concat(string|number|jeton.secret|jeton.token): jeton.secret

---The handle of a token. A secret wherever a secret is accepted.
---@class jeton.token : jeton.secret
---@field valid boolean
---@field expires_in number seconds left; 0 when not valid
---@field generation integer
---@field state "empty"|"fetching"|"valid"|"refreshing"|"failing"|"expired"|"closed"
---@field name string
---@field last_error string?
---@field saving boolean what could not be saved is tried again
local token = {}
---@param name string
---@return jeton.secret
function token:field(name) end
---@param value string|jeton.secret
---@param options { expires_in: number|string|nil, expires_at: number|string|nil, fields: table<string, string|jeton.secret>|nil }
---@return true? ok, string? message, string? code
function token:set(value, options) end
---@async
---@return true? ok, string? message, string? code
function token:refresh() end
---@async
---@param timeout? jeton.duration
---@return true? ok, string? message, string? code
function token:wait(timeout) end
---@param why? string why what a fetch brought could not be saved; nil: it is
---@param what? { path: string, value: string|jeton.secret, before: (string|jeton.secret)[]|nil } what jeton goes on trying to write there
function token:unsaved(why, what) end
---@return string? bytes, string? message, string? code
function token:reveal() end

---@alias jeton.fetch_data table<string, string|number|boolean|jeton.secret>

--- A family, by key.
---@class jeton.family
---@field [string|jeton.secret] jeton.token
local family = {}
---@param key string|jeton.secret
---@param data? jeton.fetch_data for the fetch: ctx.data. Other data are another token
---@return jeton.token
function family:of(key, data) end

---@alias jeton.tokens table<string, jeton.token|jeton.family>

---@class jeton.previous
---@field generation integer
---@field expires_in number
local previous = {}
---@param name? string without it: the value
---@return jeton.secret?
function previous:field(name) end

---@class jeton.fetch_context
---@field name string of the token in the policy
---@field reason "first"|"expiring"|"rejected"|"manual"|"changed"
---@field attempt integer
---@field key string? of a family
---@field data jeton.fetch_data? of a family: as tokens.NAME:of had it
---@field previous jeton.previous?
---@field refusal { status: integer, headers: jeton.http.headers }? the reply that refused the last value

---@class jeton.release_context
---@field name string of the token in the policy
---@field reason "stop"|"unused"|"removed"
---@field key string? of a family
---@field data jeton.fetch_data? of a family: as tokens.NAME:of had it
---@field previous jeton.previous the token that was there last

---@class jeton.fetch_result
---@field value string|jeton.secret
---@field expires_in? number|string seconds from when the fetch began
---@field expires_at? number|string seconds since the epoch, or a date
---@field refresh_expires_in? number|string seconds that what the next fetch needs lives
---@field fields? table<string, string|jeton.secret>

---@class jeton.fetch_failure
---@field retry_after? number|string seconds, or a duration: the next attempt comes no sooner
---@field permanent? boolean|"spent" it cannot succeed unless something changes; "spent": nor by time alone
---@field fields? table<string, string|jeton.secret> in place of the last token's, for the next fetch: the old ones are spent

---@class jeton.token_options
---@field fetch? async fun(ctx: jeton.fetch_context): jeton.fetch_result?, string?, jeton.fetch_failure?
---@field release? async fun(ctx: jeton.release_context): boolean?, string? gives back what a token has at its issuer when it leaves
---@field secret? jeton.secret instead of fetch: the value, which does not end
---@field refresh_at? number|string
---@field jitter? number
---@field leeway? jeton.duration
---@field wait? jeton.duration
---@field missing? "wait"|"fail"|"pass"
---@field reject_on? integer[]|fun(res: jeton.response): boolean? a function decides by status and headers
---@field hosts? string[] "h", "h:port", "http://h", "unix:/path"; "exec:/path" and "file:/path" for jeton.exec and jeton.file.write
---@field version? string|number|table what the token is, where its fetch does not say
---@field reveal? boolean
---@field rotates? boolean the fetch spends what the last one brought
---@field ready? boolean false: the process is ready without it
---@field timeout? jeton.duration
---@field backoff? { min: jeton.duration?, max: jeton.duration? }
---@field family? boolean
---@field max? integer
---@field idle? jeton.duration

---@class jeton.handle
---@field done boolean
local handle = {}
function handle:cancel() end

---@class jeton.tls
---@field ca? string
---@field cert? string
---@field key? string
---@field server_name? string
---@field min_version? "1.2"|"1.3"
---@field max_version? "1.2"|"1.3"
---@field pins? string[]
---@field verify? boolean
---@field insecure? string

---@class jeton.http.options
---@field headers? table<string, string|number|jeton.secret|string[]>
---@field query? table<string, jeton.url.value|jeton.secret|(jeton.url.value|jeton.secret)[]>
---@field body? string|jeton.secret
---@field form? table<string, string|number|boolean|jeton.secret|table>
---@field json? any
---@field auth? { [1]: string|jeton.secret, [2]: string|jeton.secret, form: boolean? }
---@field timeout? jeton.duration
---@field limits? { body: jeton.size? }
---@field redirects? integer
---@field tls? jeton.tls
---@field http2? boolean|"auto"
---@field proxy? string|jeton.proxy|false

---@class jeton.http.request : jeton.http.options
---@field method? string
---@field url string

---@class jeton.http.headers
---@field [string] string?
local headers = {}
---@param name string
---@return string[]
function headers:all(name) end

---@class jeton.http.response
---@field status integer
---@field headers jeton.http.headers
---@field body string
local response = {}
---@return any value, string? message, string? code
function response:json() end

---@class jeton.exec.options
---@field [integer] string
---@field stdin? string|jeton.secret
---@field env? table<string, string|jeton.secret|false>
---@field cwd? string
---@field timeout? jeton.duration
---@field limits? { stdout: jeton.size?, stderr: jeton.size? }

---@alias jeton.shared.value boolean|number|string

---Values that all workers and the keeper see, and that stay over reloads. Every method is one step.
---@class jeton.shared
local store = {}
---@param key string 1 to 256 bytes
---@return jeton.shared.value?
function store:get(key) end
---@param key string
---@param value jeton.shared.value
---@param ttl? jeton.duration
---@return true? ok, string? message, string? code
function store:set(key, value, ttl) end
---@param key string
---@param value jeton.shared.value
---@param ttl? jeton.duration
---@return boolean? stored, string? message, string? code
function store:add(key, value, ttl) end
---@param key string
---@param by? number default 1
---@param ttl? jeton.duration of a value made by this call
---@return number? sum, string? message, string? code
function store:incr(key, by, ttl) end
---@param key string
---@param old jeton.shared.value? nil: there is none
---@param new jeton.shared.value? nil: remove it
---@param ttl? jeton.duration
---@return boolean? swapped, string? message, string? code
function store:cas(key, old, new, ttl) end
---@param key string
---@return boolean there_was_one
function store:delete(key) end
---@param limit? integer default 1000, at most 10000
---@return string[]
function store:keys(limit) end
---@return { entries: integer, bytes: integer, max: integer, evictions: integer }
function store:stats() end

---@class jeton
---@field version string
---@field tokens jeton.tokens in hooks, fetches, on_start and tasks: not while the policy's file loads
---@field env table<string, string?>|fun(name: string): string?
jeton = {}

---@return number seconds since the epoch
function jeton.now() end

jeton.time = {}
---@param text string "2026-01-31T08:00:00Z", "Sat, 31 Jan 2026 08:00:00 GMT"
---@return number? seconds since the epoch; whole ones as an integer
---@return string? message
---@return string? code
function jeton.time.parse(text) end

---@class jeton.url.parts
---@field scheme string
---@field host string without brackets
---@field port integer? given, or the scheme's
---@field userinfo string?
---@field path string
---@field query string?
---@field fragment string?

jeton.url = {}
---@generic T: string|jeton.secret
---@param text T
---@param keep? string reserved characters that stay
---@return T
function jeton.url.escape(text, keep) end
---@param text string
---@param options? { form: boolean|nil } "+" is a space
---@return string? text, string? message, string? code
function jeton.url.unescape(text, options) end
---@overload fun(text: string): table<string, string>?, string[][]|string, string?
---@param values table<string, jeton.url.value|jeton.url.value[]>
---@return string? query, string? message, string? code
function jeton.url.query(values) end
---@param url string absolute
---@return jeton.url.parts? parts, string? message, string? code
function jeton.url.parse(url) end
---@param base string absolute
---@param reference string
---@return string? url, string? message, string? code
function jeton.url.join(base, reference) end
---@async
---@param duration jeton.duration
function jeton.sleep(duration) end
---@param fn async fun(...)
---@return jeton.handle
function jeton.spawn(fn, ...) end
---@param interval jeton.duration
---@param fn async fun()
---@return jeton.handle
function jeton.every(interval, fn) end
---At the top of a policy's file, or for a name that the top has named.
---@param name string
---@param options? { max: jeton.size? } default "1m"
---@return jeton.shared
function jeton.shared(name, options) end
---@async
---@param options jeton.exec.options
---@return { status: integer, signal: integer?, stdout: string, stderr: string }? result, string? message, string? code
function jeton.exec(options) end

---What can be sent: copied, at most 1 MiB.
---@alias jeton.scalar boolean|number|string|jeton.secret
---@alias jeton.message jeton.scalar|table<boolean|number|string, jeton.scalar>

---A case of jeton.select.
---@class jeton.channel.case

---@class jeton.channel
---@field name string
---@field capacity integer
---@field closed boolean
---@operator len: integer how many messages it holds
local channel = {}
---Raises when the channel is closed.
---@async
---@param value jeton.message
---@param timeout? jeton.duration
---@return true? ok, string? why "timeout" or what is too large, string? code
function channel:send(value, timeout) end
---@async
---@param timeout? jeton.duration
---@return jeton.message? value, string? why "closed" or "timeout", string? code
function channel:recv(timeout) end
---@param value jeton.message
---@return true? ok, string? why "full" or what is too large, string? code
function channel:try_send(value) end
---@return jeton.message? value, string? why "closed" or "empty", string? code
function channel:try_recv() end
function channel:close() end
---@param f? async fun(value: jeton.message?, why: string?, code: string?): ...
---@return jeton.channel.case
function channel:on_recv(f) end
---@param value jeton.message
---@param f? async fun(): ...
---@return jeton.channel.case
function channel:on_send(value, f) end

---The channel of that name, the same in every thread.
---@param name string
---@param capacity? integer 0: sender and receiver meet
---@return jeton.channel
function jeton.channel(name, capacity) end

---@class jeton.select
---@overload async fun(cases: { [integer]: jeton.channel.case, timeout: jeton.duration?, default: (async fun(): ...)? }): ...
jeton.select = {}
---Makes this VM's choices repeatable.
---@param seed integer
function jeton.select.seed(seed) end

jeton.http = {}
---@async
---@param request jeton.http.request
---@return jeton.http.response? response, string? message, string? code
function jeton.http.request(request) end
---@async
---@param url string
---@param options? jeton.http.options
---@return jeton.http.response? response, string? message, string? code
function jeton.http.get(url, options) end
jeton.http.head, jeton.http.post, jeton.http.put = jeton.http.get, jeton.http.get, jeton.http.get
---Looks at settings at the top of a policy's file: opens their files, raises for what is wrong, warns of what soon may be. Returns the table.
---@param settings jeton.tls
---@return jeton.tls settings
function jeton.http.tls(settings) end
---Looks at a proxy at the top of a policy's file, and raises for what is wrong with it. Returns it; or nil, message, code where the environment's is of no use.
---@param proxy string|jeton.proxy|false
---@return string|jeton.proxy|false|nil proxy, string? message, string? code
function jeton.http.proxy(proxy) end
jeton.http.patch, jeton.http.delete = jeton.http.get, jeton.http.get

jeton.file = {}
---@async
---@param path string
---@param options? { max: jeton.size }
---@return string? content, string? message, string? code
function jeton.file.read(path, options) end
---@async
---@param path string
---@param data string|jeton.secret
---@param options? { mode: string } octal digits: "0600"
---@return true? ok, string? message, string? code
function jeton.file.write(path, data, options) end
---Whether write would succeed, found by trying.
---@async
---@param path string
---@return true? ok, string? message, string? code
function jeton.file.writable(path) end
---@class jeton.lock
local lock = {}
function lock:unlock() end
---`local lock <close> = assert(jeton.file.lock(path))`
---@async
---@param path string
---@param options? { timeout: jeton.duration? }
---@return jeton.lock? lock, string? message, string? code
function jeton.file.lock(path, options) end
---@async
---@param path string
---@return { size: integer, mtime: number, type: "file"|"directory"|"other", mode: string }? stat, string? message, string? code
function jeton.file.stat(path) end
---@async
---@param path string
---@return boolean? exists, string? message, string? code
function jeton.file.exists(path) end
---@async
---@param path string
---@return true? ok, string? message, string? code
function jeton.file.remove(path) end
---@param path string
---@param fn async fun(path: string)
---@return jeton.handle? handle, string? message, string? code
function jeton.file.watch(path, fn) end

jeton.secret = {}
---@param path string
---@param options? { raw: boolean?, decode: "base64"|"base64url"? } raw: nothing at the edges is left out; decode: the bytes that it holds in base64
---@return jeton.secret
function jeton.secret.file(path, options) end
---@param path string
---@param field string|string[] a name, or names from the outside in
---@param options? { decode: "base64"|"base64url"? } of that string
---@return jeton.secret
function jeton.secret.json(path, field, options) end
---@param name string
---@param options? { raw: boolean? } raw: nothing at the edges is left out
---@return jeton.secret
function jeton.secret.env(name, options) end
---@param command { [integer]: string, ttl: jeton.duration?, timeout: jeton.duration?, raw: boolean? }
---@return jeton.secret
function jeton.secret.exec(command) end
---@param text string|jeton.secret of a secret its bytes of now
---@return jeton.secret? secret, string? message, string? code
function jeton.secret.value(text) end

jeton.json = {}
---@type lightuserdata
jeton.json.null = nil
---@param value any
---@return string|jeton.secret? text a secret, if one is inside
---@return string? message, string? code
function jeton.json.encode(value) end
---@param text string
---@return any value, string? message, string? code
function jeton.json.decode(text) end
---@generic T: table
---@param list T
---@return T
function jeton.json.array(list) end

jeton.base64 = {}
---@generic T: string|jeton.secret
---@param data T
---@return T
function jeton.base64.encode(data) end
---@generic T: string|jeton.secret
---@param text T
---@return T? data, string? message, string? code
function jeton.base64.decode(text) end
jeton.base64.encode_url, jeton.base64.decode_url = jeton.base64.encode, jeton.base64.decode

jeton.crypto = {}
---@alias jeton.hash "md5"|"sha1"|"sha256"|"sha384"|"sha512"
---@alias jeton.signature "RS256"|"RS384"|"RS512"|"PS256"|"ES256"|"ES384"
---@generic T: string|jeton.secret
---@param alg jeton.hash
---@param data T
---@return T? bytes, string? message, string? code
function jeton.crypto.hash(alg, data) end
---@param alg jeton.hash
---@param key string|jeton.secret
---@param data string|jeton.secret
---@return string|jeton.secret? bytes a secret, if key or data is one
---@return string? message, string? code
function jeton.crypto.hmac(alg, key, data) end
---@param alg jeton.signature
---@generic T: string|jeton.secret
---@param key string|jeton.secret private key in PEM
---@param data T
---@return T? bytes, string? message, string? code
function jeton.crypto.sign(alg, key, data) end
---@param alg jeton.signature
---@param key string public key or certificate in PEM
---@param data string|jeton.secret
---@param signature string|jeton.secret
---@return boolean? valid, string? message, string? code
function jeton.crypto.verify(alg, key, data, signature) end
--- The public half of a key as a JSON Web Key.
---@param key string|jeton.secret private key, public key or certificate in PEM
---@return table<string, string>? jwk, string? message, string? code
function jeton.crypto.jwk(key) end
---@param a string|jeton.secret
---@param b string|jeton.secret
---@return boolean? equal, string? message, string? code
function jeton.crypto.equal(a, b) end
---@param n integer
---@return string bytes
function jeton.crypto.random(n) end
---@generic T: string|jeton.secret
---@param data T
---@return T
function jeton.crypto.hex(data) end

---@class jeton.log
---@overload fun(message: any, fields?: table)
jeton.log = {}
---@param message any
---@param fields? table
function jeton.log.debug(message, fields) end
jeton.log.info, jeton.log.warn, jeton.log.error = jeton.log.debug, jeton.log.debug, jeton.log.debug
--- The text with *** in place of the secrets that this thread has sent.
---@param text string
---@return string
function jeton.log.masked(text) end
