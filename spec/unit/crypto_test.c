/* crypto_test.c: jeton.crypto and jeton.base64 as scripts see them: vectors of the RFCs, round trips, the openssl command as
 * the other side, and secrets that stay opaque. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "lua/l_secret.h"
#include "lua/lib.h"
#include "token/secret.h"
#include "vm_support.h"

static lua_State *L;
static char dir[] = "/tmp/jeton-crypto-XXXXXX";

/* Runs a chunk, its arguments: crypto, base64, dir, and the secret when there is one. It must return true. */
static void run_with(const char *chunk, struct secret *secret) {
  CHECK(luaL_loadstring(L, chunk) == LUA_OK);
  l_crypto_open(L);
  l_base64_open(L);
  lua_pushstring(L, dir);
  if (secret != NULL) l_secret_push(L, secret);
  if (lua_pcall(L, secret != NULL ? 4 : 3, 1, 0) != LUA_OK) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(1);
  }
  CHECK(lua_toboolean(L, -1));
  lua_pop(L, 1);
}
static void run(const char *chunk) { run_with(chunk, NULL); }

/* A secret of bytes as a file would give them. */
static struct secret *secret_of(const char *text) { return secret_bytes(str_of(text), "test", NULL); }

#define PRELUDE                                                                                                   \
  "local crypto, base64, dir, secret = ...\n"                                                                     \
  "local function read(name) local f = assert(io.open(dir .. '/' .. name, 'rb'))\n"                               \
  "  local s = f:read 'a'; f:close(); return s end\n"                                                             \
  "local function write(name, s) local f = assert(io.open(dir .. '/' .. name, 'wb'))\n"                           \
  "  f:write(s); f:close() end\n"                                                                                 \
  "local function sh(command) return (os.execute('cd ' .. dir .. ' && ' .. command .. ' >/dev/null 2>&1')) end\n" \
  "local function raises(what, f, ...) local good, message = pcall(f, ...)\n"                                     \
  "  return not good and message:find(what, 1, true) ~= nil end\n"

static void hash_gives_the_digests_of_the_standards(void) { /* FIPS 180-4 examples, RFC 1321 A.5 */
  run(PRELUDE
      "local hex = function(alg) return crypto.hex(crypto.hash(alg, 'abc')) end\n"
      "assert(hex 'md5' == '900150983cd24fb0d6963f7d28e17f72')\n"
      "assert(hex 'sha1' == 'a9993e364706816aba3e25717850c26c9cd0d89d')\n"
      "assert(hex 'sha256' == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')\n"
      "assert(hex 'sha384' == "
      "'cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7')\n"
      "assert(hex 'sha512' == "
      "'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80"
      "e2a9ac94fa54ca49f')\n"
      "return crypto.hex(crypto.hash('sha256', '')) == "
      "'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'");
}

static void hmac_gives_the_vectors_of_rfc_4231(void) {
  run(PRELUDE
      "local hex = function(alg, key, data) return crypto.hex(crypto.hmac(alg, key, data)) end\n"
      "local key = ('\\x0b'):rep(20)\n"
      "assert(hex('sha256', key, 'Hi There') == 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7')\n"
      "assert(hex('sha384', key, 'Hi There') == "
      "'afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6')\n"
      "assert(hex('sha512', 'Jefe', 'what do ya want for nothing?') == "
      "'164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4"
      "b636e070a38bce737')\n"
      "assert(hex('sha1', 'Jefe', 'what do ya want for nothing?') == 'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79')\n" /* RFC 2202 */
      "local long = ('\\xaa'):rep(131)\n"
      "return hex('sha256', long, 'Test Using Larger Than Block-Size Key - Hash Key First') == "
      "'60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54'"
      " and hex('sha256', '', '') == 'b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad'");
}

/* What comes of a secret is one, and equal tells what it is. */
static void of_secrets_come_secrets(void) {
  run_with(PRELUDE
           "local function is(made, text) return type(made) == 'userdata' and crypto.equal(made, text) end\n"
           "local data = 'what do ya want for nothing?'\n"
           "local hex = '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'\n"
           "assert(is(crypto.hex(crypto.hmac('sha256', secret, data)), hex))\n"
           "assert(is(crypto.hmac('sha256', data, secret), crypto.hmac('sha256', data, 'Jefe')))\n"
           "assert(is(crypto.hmac('sha256', secret, secret), crypto.hmac('sha256', 'Jefe', 'Jefe')))\n"
           "assert(is(crypto.hash('sha512', secret), crypto.hash('sha512', 'Jefe')))\n"
           "assert(is(crypto.hash('md5', 'x' .. secret), crypto.hash('md5', 'xJefe')))\n"
           "local m = secret\n"
           "for _ = 1, 100 do m = crypto.hmac('sha1', m, 'step') end\n"
           "local plain = 'Jefe'\n"
           "for _ = 1, 100 do plain = crypto.hmac('sha1', plain, 'step') end\n"
           "assert(is(m, plain))\n"
           "local sig = crypto.sign('ES256', read 'ecdsa.key', secret)\n"
           "assert(type(sig) == 'userdata' and crypto.verify('ES256', read 'ecdsa.pub', secret, sig) == true)\n"
           "assert(crypto.verify('ES256', read 'ecdsa.pub', 'Jefe', sig) == true)\n"
           "assert(crypto.verify('ES256', read 'ecdsa.pub', 'jefe', sig) == false)\n"
           "assert(is(base64.decode(base64.encode(secret)), 'Jefe') and "
           "is(base64.decode_url(base64.encode_url(secret)), 'Jefe'))\n"
           "local bytes, message, code = base64.decode('!!!!' .. secret)\n"
           "return bytes == nil and message:find 'not base64' and not message:find 'Jefe' and code == 'EINVAL'",
           secret_of("Jefe"));
}

/* RFC 4231 and AWS's own example of a signing key: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
static void a_signing_key_is_derived(void) {
  run_with(PRELUDE
           "local k = 'AWS4' .. secret\n"
           "for _, part in ipairs { '20120215', 'us-east-1', 'iam', 'aws4_request' } do k = crypto.hmac('sha256', k, "
           "part) end\n"
           "return crypto.equal(crypto.hex(k), 'f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d')",
           secret_of("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"));
}

static void what_computing_costs(void) {
  run_with(PRELUDE
           "local start = os.clock()\n"
           "local n = 20000\n"
           "for _ = 1, n do local _ = crypto.hmac('sha256', secret, 'what do ya want for nothing?') end\n"
           "print(('# an hmac of a secret: %.0f ns'):format((os.clock() - start) * 1e9 / n))\n"
           "return true",
           secret_of("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"));
}

static void base64_gives_the_vectors_of_rfc_4648(void) {
  run(PRELUDE
      "local v = { [''] = '', f = 'Zg==', fo = 'Zm8=', foo = 'Zm9v', foob = 'Zm9vYg==', fooba = 'Zm9vYmE=', foobar = "
      "'Zm9vYmFy' }\n"
      "for plain, text in pairs(v) do\n"
      "  assert(base64.encode(plain) == text and base64.decode(text) == plain)\n"
      "  assert(base64.encode_url(plain) == text:gsub('=', '') and base64.decode_url(text) == plain)\n"
      "  assert(base64.decode((text:gsub('=', ''))) == plain)\n"
      "end\n"
      "local all = {} for i = 0, 255 do all[i + 1] = string.char(i) end all = table.concat(all)\n"
      "assert(base64.encode('\\xfb\\xff') == '+/8=' and base64.encode_url('\\xfb\\xff') == '-_8')\n"
      "return base64.decode(base64.encode(all)) == all and base64.decode_url(base64.encode_url(all)) == all");
}

static void base64_refuses_what_is_not_canonical(void) {
  run(PRELUDE
      "for _, bad in ipairs { 'Zg=', 'Zg===', 'Z', 'Zh==', 'Zm9=', 'Zm 9v', 'Zm9v\\n', '-_8=', '=', '====', "
      "'Zg==Zg==', 'Zm9v=' } do\n"
      "  local bytes, message, code = base64.decode(bad)\n"
      "  assert(bytes == nil and type(message) == 'string' and code == 'EINVAL', bad)\n"
      "end\n"
      "assert(not base64.decode_url '+/8')\n"
      "return raises('string', base64.decode, 12) and raises('string or secret', base64.encode, {})");
}

static void base64_of_a_secret_stays_opaque(void) {
  struct secret *s = secret_of("user:pass");
  CHECK(luaL_loadstring(L, "local _, base64, _, secret = ... return base64.encode(secret)") == LUA_OK);
  l_crypto_open(L);
  l_base64_open(L);
  lua_pushnil(L);
  l_secret_push(L, s);
  CHECK(lua_pcall(L, 4, 1, 0) == LUA_OK);
  struct secret *encoded = l_secret_test(L, -1);
  CHECK(encoded != NULL);
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  struct secret_context ctx = {.any_target = true};
  CHECK(secret_expand(encoded, &ctx, &out) == 0);
  CHECK(str_eq(buf_str(&out), STR("dXNlcjpwYXNz")));
  buf_fini(&out);
  lua_pop(L, 1);
}

static void signatures_verify_and_damage_is_noticed(void) {
  run(PRELUDE
      "local keys = { RS256 = 'rsa', RS384 = 'rsa', RS512 = 'rsa', PS256 = 'rsa', ES256 = 'ecdsa', ES384 = 'p384' }\n"
      "for alg, key in pairs(keys) do\n"
      "  local sig = assert(crypto.sign(alg, read(key .. '.key'), 'data'))\n"
      "  assert(crypto.verify(alg, read(key .. '.pub'), 'data', sig) == true, alg)\n"
      "  assert(crypto.verify(alg, read(key .. '.pub'), 'dato', sig) == false, alg)\n"
      "  assert(crypto.verify(alg, read(key .. '.pub'), 'data', sig:sub(1, -2) .. string.char(sig:byte(-1) ~ 1)) == "
      "false, alg)\n"
      "  assert(crypto.verify(alg, read(key .. '.pub'), 'data', sig:sub(1, -2)) == false, alg)\n"
      "  assert(crypto.verify(alg, read(key .. '.pub'), 'data', '') == false, alg)\n"
      "end\n"
      "assert(#crypto.sign('ES256', read 'ecdsa.key', 'x') == 64 and #crypto.sign('ES384', read 'p384.key', 'x') == "
      "96)\n"
      "return crypto.verify('ES256', read 'ecdsa.pem', 'x', crypto.sign('ES256', read 'ecdsa.key', 'x'))"); /* a certificate */
}

static void ecdsa_numbers_keep_their_leading_zeros(void) { /* 1 in 256 is a byte short in DER */
  run(PRELUDE
      "local key, pub = read 'ecdsa.key', read 'ecdsa.pub'\n"
      "for i = 1, 300 do\n"
      "  local sig = crypto.sign('ES256', key, tostring(i))\n"
      "  assert(#sig == 64 and (i > 20 and sig:byte(1) > 0 and sig:byte(33) > 0 or crypto.verify('ES256', pub, "
      "tostring(i), sig)), i)\n"
      "end return true");
}

static void openssl_verifies_our_signatures(void) {
  run(PRELUDE
      "write('data', 'the data')\n"
      "write('rs', crypto.sign('RS256', read 'rsa.key', 'the data'))\n"
      "assert(sh 'openssl dgst -sha256 -verify rsa.pub -signature rs data')\n"
      "write('ps', crypto.sign('PS256', read 'rsa.key', 'the data'))\n"
      "assert(sh 'openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -verify rsa.pub "
      "-signature ps data')\n"
      "return true");
}

static void a_jwk_has_the_numbers_that_openssl_sees(void) {
  run(PRELUDE
      "local function number(text) return base64.decode_url(text) end\n"
      "assert(sh '(openssl rsa -in rsa.key -noout -modulus > modulus)')\n"
      "for _, name in ipairs { 'rsa.key', 'rsa.pub' } do\n"
      "  local k = crypto.jwk(read(name))\n"
      "  assert(k.kty == 'RSA' and k.crv == nil and k.e == 'AQAB')\n"
      "  assert(read 'modulus':lower():find('=' .. crypto.hex(number(k.n)) .. '\\n', 1, true))\n"
      "end\n"
      "assert(sh 'openssl ec -in ecdsa.key -no_public -out bare.key')\n"
      "assert(sh 'openssl pkey -in ecdsa.key -pubout -outform DER -out ecdsa.der')\n"
      "for _, name in ipairs { 'ecdsa.key', 'ecdsa.pub', 'bare.key' } do\n"
      "  local k = crypto.jwk(read(name))\n"
      "  assert(k.kty == 'EC' and k.crv == 'P-256' and read 'ecdsa.der':sub(-64) == number(k.x) .. number(k.y), name)\n"
      "end\n"
      "local k, why, code = crypto.jwk 'nothing'\n"
      "return k == nil and code == 'EINVAL' and why == 'not a key in PEM'");
}

static void we_verify_signatures_of_openssl(void) {
  run(PRELUDE
      "write('data', 'the data')\n"
      "assert(sh 'openssl dgst -sha384 -sign rsa.key -out rs data')\n"
      "assert(crypto.verify('RS384', read 'rsa.pub', 'the data', read 'rs'))\n"
      "assert(sh 'openssl dgst -sha256 -sign rsa.key -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -out ps "
      "data')\n"
      "assert(crypto.verify('PS256', read 'rsa.pub', 'the data', read 'ps'))\n"
      "assert(sh 'openssl dgst -sha256 -sign ecdsa.key -out es data')\n"
      "local der = read 'es'\n" /* 30 len 02 n r 02 m s */
      "local n = der:byte(4) local r, s = der:sub(5, 4 + n), der:sub(7 + n)\n"
      "local function fixed(v) v = v:gsub('^\\0', '') return ('\\0'):rep(32 - #v) .. v end\n"
      "return crypto.verify('ES256', read 'ecdsa.pub', 'the data', fixed(r) .. fixed(s))");
}

static void hs256_gives_the_example_of_rfc_7515(void) { /* appendix A.1 */
  run(PRELUDE
      "local key = base64.decode_url "
      "'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow'\n"
      "local input = "
      "'eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ'\n"
      "return base64.encode_url(crypto.hmac('sha256', key, input)) == 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'");
}

static void rs256_gives_the_example_of_rfc_7515(void) { /* appendix A.2; the key as PKCS #8 */
  static const char key[] =
      "-----BEGIN PRIVATE KEY-----\n"
      "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCh+BYK4uPJtGXO\n"
      "jS1lYmM2K5J9vinh8CR3/BYlzJChNuOL2TSXxbbqY913EeZ8dCn5VrD7io8ImtxL\n"
      "aYk8wTM/U+3QGbh3hCUv7JFP5IV3aVlL6kKA0ywPVb9ilE8TA5a8bpvfbr3SvaNn\n"
      "juygxmj3AbONv/s4yDQs4v5tJ/reSlpIdJed1LnPmt7Ex1sFhSwsD174pcF1A5L5\n"
      "ROjtZMEQxrZHYJqkeDrrnGya11UxMFBji4NmXG9veoKjlnAqH2QbgtPr8jkiGUkf\n"
      "toaHLFcW9Qr4NY2ai50Xw0Byj3+H2JoY2PyrZ62EWQwuz3WTOTY8BwNNb2BvniHg\n"
      "VFbK5emhAgMBAAECggEAEq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyW\n"
      "PEAeP88vLNO97IjlA7/GQ5sLKMgvfTeXZx9SE+7YwVol2NXOoAJe46sui395IW/G\n"
      "O+pWJ1O0BkTGoVEn2bKVRUCgu+GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzj\n"
      "kn439X0M/V51gfpRLI9JYanrC4D4qAdGcopV/0ZHHzQlBjudU2QvXt4ehNYTCBr6\n"
      "XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl/x/jTj3ccPDVZFD9pIuhLhBOneufuBiB\n"
      "4cS98l2SR/RQyGWSeWjnczT0QU91p1DhOVRuOopznQKBgQDgHMQQ60imZV1URk0K\n"
      "pLttoLhyt3SmqdEf/kgHePDdtzEafpAu+cS191R2JiuoF2yzWXnwFDcqGigp5BNr\n"
      "0AHQfD8/Lk8l1Mk09jxxCfui5nYooNyac8YFjm3vItzVCVDnEd3BbVWG8qf6deqE\n"
      "lMGAg+C2V0L4oNXnP7LZcPAZRwKBgQC5A8R+CZW2MvRTLLHzwZkUXV866cff7tx6\n"
      "kqa0finGG0KgeqlaZPxgCZnFp7AeAcCMtiynVlJ7vMVgePsLq6XtON4tB5kP9jAP\n"
      "rq3rbAOal78eUH5OcED6eNuCV8ixEu1eWcPNCS/l1OW1EnXUEoEHKl54Xrrz2uNw\n"
      "kgMTP1FZ1wKBgAcCn1dwJKufzBWQxWQp1vsM5fggqPN1qGb5y0MAk3g7/Ls5bkUp\n"
      "5u9SN0Ai3Ya6hNnvWJMb7sXQX6U/zyO2M/hTip7tUeh7CXgwo59dkpN75gJLVds2\n"
      "9+DAncu3KXU4f2Fa+7bLNrur53k8KwPOq2bbuTG69QtV7Jr5MR0AHWKNAoGBAIf/\n"
      "evpitUf+4JYbLpvNXWcY052Mpz22aR84mY3nh3F2LF2mjMJDpTg7FmuyPcVw6EcG\n"
      "yoAe9fa65iNqCq+jdw6PVNGo2hxfjSiZ8IIzHdsPXI89//pMjZcQK9r+CCoRjaZj\n"
      "OYiIDktVWZzmevJuv6WywUqd57LE3Zar3dLSIkx1AoGAIYd7DHOhrWvxkwPQsRM2\n"
      "tOgrjbcrfvtQJipd+DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd/QJQ3\n"
      "ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp/gh6A56\n"
      "03k2+ZQwVK0JKSHuLFkuQ3U=\n"
      "-----END PRIVATE KEY-----\n";
  run_with(
      PRELUDE
      "local input = "
      "'eyJhbGciOiJSUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ'\n"
      "return base64.encode_url(crypto.sign('RS256', secret, input)) == "
      "'cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU"
      "Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO-"
      "-xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_I"
      "oypGlUPQGe77Rw'",
      secret_of(key));
}

static void es256_accepts_the_example_of_rfc_7515(void) { /* appendix A.3; the key as SubjectPublicKeyInfo */
  run(PRELUDE
      "local x = base64.decode_url 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU'\n"
      "local y = base64.decode_url 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0'\n"
      "local der = "
      "'\\x30\\x59\\x30\\x13\\x06\\x07\\x2a\\x86\\x48\\xce\\x3d\\x02\\x01\\x06\\x08\\x2a\\x86\\x48\\xce\\x3d\\x03\\x01"
      "\\x07\\x03\\x42\\0\\x04' .. x .. y\n"
      "local pem = '-----BEGIN PUBLIC KEY-----\\n' .. base64.encode(der):gsub(('.'):rep(64), '%0\\n') .. '\\n-----END "
      "PUBLIC KEY-----\\n'\n"
      "local input = "
      "'eyJhbGciOiJFUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ'\n"
      "local sig = base64.decode_url "
      "'DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q'\n"
      "return crypto.verify('ES256', pem, input, sig)");
}

static void a_private_key_may_be_opaque(void) {
  char path[128], pem[4096];
  snprintf(path, sizeof path, "%s/ecdsa.key", dir);
  FILE *f = fopen(path, "r");
  CHECK(f != NULL);
  pem[fread(pem, 1, sizeof pem - 1, f)] = '\0';
  fclose(f);
  run_with(PRELUDE "return crypto.verify('ES256', read 'ecdsa.pub', 'x', crypto.sign('ES256', secret, 'x'))",
           secret_of(pem));
}

static void a_key_that_does_not_fit_fails_with_a_sentence(void) {
  run(PRELUDE
      "local function fails(what, ...) local v, message, code = crypto.sign(...)\n"
      "  return v == nil and message:find(what, 1, true) ~= nil and code == 'EINVAL' end\n"
      "assert(fails('RSA key', 'RS256', read 'ecdsa.key', 'x'))\n"
      "assert(fails('EC key', 'ES256', read 'rsa.key', 'x'))\n"
      "assert(fails('P-256', 'ES256', read 'p384.key', 'x'))\n"
      "assert(fails('encrypted', 'ES256', read 'encrypted.key', 'x'))\n"
      "assert(fails('PEM', 'ES256', 'nonsense', 'x'))\n"
      "assert(fails('no private key, but a public one', 'RS256', read 'rsa.pub', 'x'))\n"
      "assert(fails('RSA and EC keys are', 'ES256', read 'ed25519.key', 'x'))\n"
      "assert(fails('too long', 'RS256', ('x'):rep(100000), 'x'))\n"
      "assert(sh 'openssl genrsa -out small.key 1024')\n"
      "return fails('2048', 'RS256', read 'small.key', 'x')");
}

static void misuse_raises(void) {
  run(PRELUDE
      "return raises('unknown hash', crypto.hash, 'sha3', 'x') and raises('unknown algorithm', crypto.sign, 'none', "
      "'k', 'x')\n"
      "  and raises('string or secret', crypto.hmac, 'sha256', {}, 'x') and raises('string or secret', crypto.hash, "
      "'sha256', "
      "12)\n"
      "  and raises('expected 0 to', crypto.random, -1) and raises('expected 0 to', crypto.random, 1 << 40)");
}

static void equal_compares_strings_and_secrets(void) {
  run_with(PRELUDE
           "assert(crypto.equal('abc', 'abc') and not crypto.equal('abc', 'abd') and not crypto.equal('abc', 'ab'))\n"
           "return crypto.equal('', '') and crypto.equal(secret, 'Jefe') and crypto.equal(secret, secret) and not "
           "crypto.equal('jefe', secret)",
           secret_of("Jefe"));
}

static void random_gives_what_is_asked(void) {
  run(PRELUDE
      "return #crypto.random(32) == 32 and crypto.random(0) == '' and crypto.random(16) ~= crypto.random(16)"
      " and #crypto.random(1 << 20) == 1 << 20");
}

int main(void) {
  char command[256];
  CHECK(mkdtemp(dir) != NULL);
  snprintf(command, sizeof command, "sh spec/support/ca.sh %s >/dev/null", dir);
  CHECK(system(command) == 0);
  struct vm *vm = vm_for_test(0, 0);
  L = vm_state(vm);
  luaL_openlibs(L); /* the stock ones again: the chunks here read and write files */
  RUN(hash_gives_the_digests_of_the_standards);
  RUN(hmac_gives_the_vectors_of_rfc_4231);
  RUN(of_secrets_come_secrets);
  RUN(a_signing_key_is_derived);
  RUN(base64_gives_the_vectors_of_rfc_4648);
  RUN(base64_refuses_what_is_not_canonical);
  RUN(base64_of_a_secret_stays_opaque);
  RUN(signatures_verify_and_damage_is_noticed);
  RUN(ecdsa_numbers_keep_their_leading_zeros);
  RUN(openssl_verifies_our_signatures);
  RUN(a_jwk_has_the_numbers_that_openssl_sees);
  RUN(we_verify_signatures_of_openssl);
  RUN(hs256_gives_the_example_of_rfc_7515);
  RUN(rs256_gives_the_example_of_rfc_7515);
  RUN(es256_accepts_the_example_of_rfc_7515);
  RUN(a_private_key_may_be_opaque);
  RUN(a_key_that_does_not_fit_fails_with_a_sentence);
  RUN(misuse_raises);
  RUN(equal_compares_strings_and_secrets);
  RUN(what_computing_costs);
  RUN(random_gives_what_is_asked);
  vm_unref(vm);
  snprintf(command, sizeof command, "rm -rf %s", dir);
  CHECK(system(command) == 0);
  return 0;
}
