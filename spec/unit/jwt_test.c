/* jwt_test.c: scripts/jeton/jwt.lua as scripts see it. What it signs is read back through a file, verified with jeton.crypto; that others can verify it is
 * in spec/proxy/oauth2_tls_spec.lua. Run from the repository's top. */
#include "library_run.h"

static char module[64 * 1024], names_module[64 * 1024];

static void read_module(const char *path, char text[64 * 1024]) {
  FILE *f = fopen(path, "r");
  CHECK(f != NULL);
  CHECK(fread(text, 1, sizeof module - 1, f) > 0);
  CHECK(fclose(f) == 0);
}

/* The arguments of a script are port and directory; jwt is the module, key(name) a key of the authority in the directory. */
static void passes_with_jwt(const char *script) {
  static const char around[] =
      "local names = (function() %s end)() local function require() return names end"
      " local jwt = (function() %s end)() local port, dir = ..."
      " local function key(name) return jeton.secret.file(dir .. '/ca/' .. name .. '.key') end"
      " local function read(name) return assert(jeton.file.read(dir .. '/ca/' .. name)) end"
      " local function shown(s) assert(jeton.file.write(dir .. '/shown', s)) return jeton.file.read(dir .. '/shown') "
      "end"
      " local function json(t) return jeton.json.decode(assert(jeton.base64.decode_url(t))) end"
      " local function parts(s) local input, h, c, sig = shown(s):match '^(([%%w_-]+)%%.([%%w_-]+))%%.([%%w_-]+)$'"
      "   return json(h), json(c), input, assert(jeton.base64.decode_url(sig)) end"
      " local function raises(what, ...) local ok, m = pcall(jwt.sign, ...) assert(not ok and m:find(what, 1, true), m)"
      "   return m end %s";
  size_t n = sizeof around + strlen(names_module) + strlen(module) + strlen(script);
  char *whole = malloc(n);
  CHECK(whole != NULL);
  (void)snprintf(whole, n, around, names_module, module, script);
  passes(whole);
  free(whole);
}

static void what_it_signs_verifies_with_every_algorithm(void) {
  passes_with_jwt(
      "local keys = { RS256 = 'rsa', RS384 = 'rsa', RS512 = 'rsa', PS256 = 'rsa', ES256 = 'ecdsa', ES384 = 'p384' }"
      " for alg, name in pairs(keys) do"
      "   local head, claims, input, sig = parts(assert(jwt.sign({ iss = 'a', n = 7 }, { alg = alg, key = key(name) "
      "})))"
      "   assert(head.alg == alg and head.typ == 'JWT' and claims.iss == 'a' and claims.n == 7)"
      "   assert(jeton.crypto.verify(alg, read(name .. '.pub'), input, sig) == true, alg)"
      " end"
      " local secret = ('k'):rep(64)"
      " for alg, hash in pairs { HS256 = 'sha256', HS384 = 'sha384', HS512 = 'sha512' } do"
      "   local _, _, input, sig = parts(assert(jwt.sign({}, { alg = alg, key = jeton.secret.value(secret) })))"
      "   assert(sig == jeton.crypto.hmac(hash, secret, input), alg)"
      " end");
}

static void a_signature_of_ecdsa_is_two_numbers_of_fixed_size(void) { /* RFC 7518 section 3.4 */
  passes_with_jwt(
      "for _ = 1, 20 do local _, _, _, sig = parts(assert(jwt.sign({}, { alg = 'ES256', key = key 'ecdsa' "
      "}))) assert(#sig == 64) end");
}

static void the_header_takes_a_kid_and_more(void) {
  passes_with_jwt(
      "local head = parts(jwt.sign({}, { alg = 'ES256', key = key 'ecdsa', kid = '2026', header = { typ = 'at+jwt', "
      "['x5t#S256'] = 'abc' } }))"
      " assert(head.kid == '2026' and head.typ == 'at+jwt' and head['x5t#S256'] == 'abc' and head.alg == 'ES256')"
      " raises('header.alg', {}, { alg = 'ES256', key = key 'ecdsa', header = { alg = 'none' } })"
      " raises('header.kid', {}, { alg = 'ES256', key = key 'ecdsa', header = { kid = 'x' } })");
}

static void what_comes_back_is_opaque(void) {
  passes_with_jwt(
      "local s = assert(jwt.sign({}, { alg = 'ES256', key = key 'ecdsa' })) assert(tostring(s) == 'secret<<secret "
      "value>.base64url(<secret signature>)>', "
      "tostring(s))"
      " assert(type('Bearer ' .. s) == 'userdata') assert(type(jeton.json.encode { s }) == 'userdata')");
}

static void claims_may_be_secrets(void) {
  passes_with_jwt(
      "local s = assert(jwt.sign({ ath = jeton.secret.value 'hush' }, { alg = 'ES256', key = key 'ecdsa' }))"
      " local _, claims, input, sig = parts(s) assert(claims.ath == 'hush')"
      " assert(jeton.crypto.verify('ES256', read 'ecdsa.pub', input, sig) == true)"
      " assert(not tostring(s):find 'hush', tostring(s))");
}

static void a_key_that_is_not_opaque_is_refused(void) {
  passes_with_jwt(
      "local m = raises('jeton.secret.file', {}, { alg = 'HS256', key = 'my-plain-key' }) assert(not "
      "m:find('my-plain-key', 1, true), m)"
      " raises('jeton.secret.file', {}, { alg = 'RS256', key = read 'rsa.key' }) raises('key', {}, { alg = 'ES256' })");
}

static void misuse_raises_and_says_what_to_write(void) {
  passes_with_jwt(
      "raises('claims: expected a table', 'x', {}) raises('table of options', {}) raises(\"unknown option 'algo': "
      "did you mean 'alg'?\", "
      "{}, "
      "{ algo = 'RS256' })"
      " raises('got \"none\"', {}, { alg = 'none', key = key 'rsa' }) raises('ES256', {}, { alg = 256, key = key 'rsa' "
      "})"
      " raises('kid: expected a string', {}, { alg = 'ES256', key = key 'ecdsa', kid = 7 })"
      " raises('header: expected a table', {}, { alg = 'ES256', key = key 'ecdsa', header = 'x' })"
      " local ok, m = pcall(function() return (jwt.sign({}, { alg = 'RS1' })) end) assert(not ok and "
      "m:find('^test:%d+: "
      "jwt.sign: alg'), m)");
}

static void a_key_of_no_use_is_told_without_its_bytes(void) {
  passes_with_jwt(
      "local function told(what, alg, name) local v, m, code = jwt.sign({}, { alg = alg, key = key(name) })"
      "   assert(v == nil and code == 'EINVAL' and m:find(what, 1, true) and m:find(name .. '.key', 1, true) and "
      "m:find(alg, 1, true), m) end"
      " told('needs an RSA key', 'RS256', 'ecdsa') told('needs an EC key', 'ES256', 'rsa') told('P-256', 'ES256', "
      "'p384') told('encrypted', 'ES256', 'encrypted')"
      " local v, m, code = jwt.sign({}, { alg = 'RS256', key = jeton.secret.value 'not-a-pem' }) assert(v == nil and "
      "code "
      "== 'EINVAL' and not m:find('not-a-pem', 1, true), m)"
      " v, m = jwt.sign({ f = print }, { alg = 'ES256', key = key 'ecdsa' }) assert(v == nil and m:find('claims', 1, "
      "true), m)");
}

static void claims_are_read_and_nothing_is_believed(void) {
  passes_with_jwt(/* RFC 7515 appendix A.1 */
                  "local c = "
                  "assert(jwt.claims('eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
                  "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzOD"
                  "AsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'))"
                  " assert(c.iss == 'joe' and c.exp == 1300819380 and c['http://example.com/is_root'] == true)"
                  " assert(jwt.claims 'e30.eyJleHAiOjF9.'.exp == 1)"
                  " for _, bad in ipairs { '', 'opaque', 'a.b', 'e30.e30.a.b', 'e30.***.x', 'e30.e3.x', 'e30.NQ.x', "
                  "'e30.Zm9v.x', "
                  "' e30.e30.x' } do"
                  "   local v, m, code = jwt.claims(bad) assert(v == nil and m == 'not a JSON Web Token' and code == "
                  "'EINVAL', bad)"
                  " end"
                  " local ok, m = pcall(jwt.claims, jeton.secret.value 'x') assert(not ok and m:find('expected a "
                  "string', 1, true), "
                  "m)");
}

int main(void) {
  char command[128];
  read_module("scripts/jeton/names.lua", names_module);
  read_module("scripts/jeton/jwt.lua", module);
  library_begin();
  (void)snprintf(command, sizeof command, "sh spec/support/ca.sh %s/ca", dir);
  CHECK(system(command) == 0);
  RUN(what_it_signs_verifies_with_every_algorithm);
  RUN(a_signature_of_ecdsa_is_two_numbers_of_fixed_size);
  RUN(the_header_takes_a_kid_and_more);
  RUN(what_comes_back_is_opaque);
  RUN(claims_may_be_secrets);
  RUN(a_key_that_is_not_opaque_is_refused);
  RUN(misuse_raises_and_says_what_to_write);
  RUN(a_key_of_no_use_is_told_without_its_bytes);
  RUN(claims_are_read_and_nothing_is_believed);
  library_end();
  return 0;
}
