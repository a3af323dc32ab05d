/* oauth2_test.c: scripts/jeton/oauth2.lua against a token endpoint on the same loop. Run from the repository's top. */
#include "library_run.h"

static const char *const names_of_modules[] = {"jeton.names",
                                               "jeton.jwt",
                                               "jeton.issuer",
                                               "jeton.oauth2",
                                               "jeton.oauth2.assertion",
                                               "jeton.oauth2.authentication",
                                               "jeton.oauth2.dpop",
                                               "jeton.oauth2.exchange",
                                               "jeton.oauth2.family",
                                               "jeton.oauth2.first",
                                               "jeton.oauth2.login",
                                               "jeton.oauth2.options",
                                               "jeton.oauth2.reply",
                                               "jeton.oauth2.times"};
enum { MODULES = sizeof names_of_modules / sizeof *names_of_modules };
static char *modules[MODULES];

/* The module with those it requires, its functions' fetch results checked in Lua. */
static void passes_with_oauth2(const char *script) {
  static const char head[] =
      "local loaded, sources = {}, {} local function require(name) if not loaded[name] then loaded[name] = "
      "assert(sources[name], name)() end return loaded[name] end";
  static const char tail[] =
      " local oauth2 = require 'jeton.oauth2' local port, dir = ... local url = 'http://127.0.0.1:' .. port .. '/token'"
      " local function last() return jeton.http.get('http://127.0.0.1:' .. port .. '/last').body end"
      " local function options(o) o.token_url, o.client_id, o.client_secret = url, o.client_id or 'an id', "
      "jeton.secret.value 'a&secret' return o end"
      " local function shown(s) jeton.file.write(dir .. '/shown', s) return jeton.file.read(dir .. '/shown') end"
      " local function previous(f) return { generation = 1, field = function(_, name) return f.fields[name] end } end ";
  enum { AROUND = 64 }; /* of a module */
  size_t n = sizeof head + sizeof tail + strlen(script);
  for (int i = 0; i < MODULES; i++) n += strlen(names_of_modules[i]) + strlen(modules[i]) + AROUND;
  char *whole = malloc(n);
  CHECK(whole != NULL);
  size_t at = (size_t)snprintf(whole, n, "%s", head);
  for (int i = 0; i < MODULES; i++)
    at += (size_t)snprintf(whole + at, n - at, " sources['%s'] = function() %s end", names_of_modules[i], modules[i]);
  (void)snprintf(whole + at, n - at, "%s%s", tail, script);
  passes(whole);
  free(whole);
}

static void client_credentials_with_basic_authentication(void) {
  passes_with_oauth2(
      "local t = oauth2.client_credentials(options { scope = { 'a', 'b' }, audience = 'x', extra = { resource = 'r' }, "
      "refresh_at = 0.5, wait = '1s' })"
      " assert(t.refresh_at == 0.5 and t.wait == '1s' and t.client_id == nil and t.scope == nil) local f = "
      "assert(t.fetch {}) assert(f.value == 'cc' and f.expires_in == 60)"
      " local r = last() assert(r:find('Basic ' .. jeton.base64.encode 'an+id:a%26secret', 1, true), r)"
      " for _, part in ipairs { 'grant_type=client_credentials', 'scope=a+b', 'audience=x', 'resource=r' } do "
      "assert(r:find(part, 1, true), r) end"
      " assert(not r:find('client_id=', 1, true), r)");
}
static void client_credentials_in_the_body(void) {
  passes_with_oauth2(
      "assert(oauth2.client_credentials(options { auth = 'post' }).fetch {}) local r = last()"
      " assert(r:find('client_id=an+id', 1, true) and r:find('client_secret=a%26secret', 1, true) and not "
      "r:lower():find('authorization'), r)");
}
static void errors_say_what_the_server_said_and_no_more(void) {
  passes_with_oauth2(
      "local v, m = oauth2.client_credentials(options { scope = 'bad' }).fetch {} assert(v == nil and m == 'the token "
      "endpoint answered 401: invalid_client', m)"
      " v, m = oauth2.client_credentials(options { scope = 'html' }).fetch {} assert(v == nil and not m:find('leak'), "
      "m)"
      " v, m = oauth2.client_credentials(options { scope = 'mac' }).fetch {} assert(v == nil and m:find('token_type') "
      "and not m:find('leak'), m)"
      " v, m = oauth2.refresh_token(options { refresh_token = 'old' }).fetch {} assert(v == nil and m:find('the "
      "token endpoint answered 400: invalid_grant: no such token', 1, true) == 1, m)");
}
static void a_lifetime_can_be_assumed(void) {
  passes_with_oauth2(
      "assert(oauth2.client_credentials(options { scope = 'odd' }).fetch {}.expires_in == nil)"
      " assert(oauth2.client_credentials(options { scope = 'odd', lifetime = 90 }).fetch {}.expires_in == 90)");
}
static void a_rotated_refresh_token_is_kept(void) {
  passes_with_oauth2(
      "local t = oauth2.refresh_token(options { refresh_token = jeton.secret.value 'r1' }) local f = assert(t.fetch "
      "{}) assert(f.value == 'a1' and f.fields.refresh_token == 'r2')"
      " local g = assert(t.fetch { previous = previous(f) }) assert(g.value == 'a2' and g.expires_in == '60' and "
      "g.fields.refresh_token == 'r2')");
}
static void a_rotated_refresh_token_is_saved(void) {
  passes_with_oauth2(
      "local path = dir .. '/refresh' local t = oauth2.refresh_token(options { refresh_token = 'r1', path = path }) "
      "assert(t.fetch {}) assert(jeton.file.read(path) == 'r2')"
      " assert(jeton.file.stat(path).mode == '0600') local f = assert(oauth2.refresh_token(options { path = path "
      "}).fetch {}) assert(f.value == 'a2' and shown(f.fields.refresh_token) == 'r2')"
      " local v, m = oauth2.refresh_token(options { path = dir .. '/none' }).fetch {} assert(v == nil and m:find('no "
      "refresh token', 1, true) and m:find('no such file', 1, true), m)"
      " jeton.file.write(dir .. '/empty', ' \\n') v, m = oauth2.refresh_token(options { path = dir .. '/empty' "
      "}).fetch {} "
      "assert(v == nil and m:find('/empty is empty', 1, true), m)");
}
static void an_invalid_saved_token_gives_way_to_the_policys(void) {
  passes_with_oauth2(
      "local path = dir .. '/stale' jeton.file.write(path, 'gone') local f = assert(oauth2.refresh_token(options { "
      "refresh_token = 'r1', path = path }).fetch {})"
      " assert(f.value == 'a1' and jeton.file.read(path) == 'r2')");
}
static void a_jwt_tells_its_own_lifetime_when_the_server_does_not(void) {
  passes_with_oauth2(
      "local f = assert(oauth2.client_credentials(options { scope = 'jwt' }).fetch {}) assert(math.abs(f.expires_in - "
      "(1300819380 - jeton.now())) < 5)"
      " f = assert(oauth2.client_credentials(options { scope = 'jwt', lifetime = 90 }).fetch {}) "
      "assert(f.expires_in < 0)");
}
static void client_credentials_with_a_signed_assertion(void) {
  passes_with_oauth2(
      "local o = options { auth = 'client_secret_jwt', assertion = { kid = 'k1', audience = { 'https://issuer' } } }"
      " assert(oauth2.client_credentials(o).fetch {}) assert(o.auth == 'client_secret_jwt') local r = last()"
      " local input, head, body, sig = r:match 'client_assertion=(([%w_-]+)%.([%w_-]+))%.([%w_-]+)' assert(sig, r)"
      " assert(r:find('client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer', 1, "
      "true) and r:find('client_id=an+id', 1, true) and not r:find('client_secret=', 1, true), r)"
      " assert(not r:lower():find('authorization:', 1, true), r)"
      " local function json(t) return jeton.json.decode(jeton.base64.decode_url(t)) end head, body = json(head), "
      "json(body)"
      " assert(head.alg == 'HS256' and head.typ == 'JWT' and head.kid == 'k1')"
      " assert(body.iss == 'an id' and body.sub == 'an id' and body.aud[1] == 'https://issuer' and #body.jti == 22)"
      " assert(body.exp == body.iat + 60 and math.abs(body.iat - jeton.now()) < 30)"
      " assert(sig == jeton.base64.encode_url(jeton.crypto.hmac('sha256', 'a&secret', input)))"
      " assert(oauth2.client_credentials(o).fetch {}) assert(not last():find(input, 1, true))");
}
static void wrong_options_raise_with_the_policys_line(void) {
  passes_with_oauth2(
      "for _, o in ipairs { { token_url = 5 }, { extra = { grant_type = 'x' } }, { secope = 'x' }, { auth = 'digest' "
      "}, { client_id = 7 }, { lifetime = 'x' } } do"
      " local url = o.token_url o = options(o) o.token_url = url or o.token_url local ok, m = pcall(function() local t "
      "= oauth2.client_credentials(o) return t end)"
      " assert(not ok and m:find('^test:%d+: oauth2.client_credentials: '), m) end assert(not "
      "pcall(oauth2.refresh_token, options {}))");
}

static char *read_module(const char *name) {
  char path[128];
  size_t at = (size_t)snprintf(path, sizeof path, "scripts/%s.lua", name);
  for (size_t k = 0; k + 4 < at; k++)
    if (path[k] == '.') path[k] = '/';
  FILE *f = fopen(path, "r");
  CHECK(f != NULL);
  char *text = calloc(1, 64 * 1024);
  CHECK(text != NULL && fread(text, 1, 64 * 1024 - 1, f) > 0);
  CHECK(fclose(f) == 0);
  return text;
}

int main(void) {
  for (int i = 0; i < MODULES; i++) modules[i] = read_module(names_of_modules[i]);
  library_begin();
  RUN(client_credentials_with_basic_authentication);
  RUN(client_credentials_in_the_body);
  RUN(errors_say_what_the_server_said_and_no_more);
  RUN(a_lifetime_can_be_assumed);
  RUN(a_jwt_tells_its_own_lifetime_when_the_server_does_not);
  RUN(client_credentials_with_a_signed_assertion);
  RUN(a_rotated_refresh_token_is_kept);
  RUN(a_rotated_refresh_token_is_saved);
  RUN(an_invalid_saved_token_gives_way_to_the_policys);
  RUN(wrong_options_raise_with_the_policys_line);
  library_end();
  for (int i = 0; i < MODULES; i++) free(modules[i]);
  return 0;
}
