/* Makes a policy's table from bytes, as a small program: known keys and values mixed with arbitrary ones; then validates it. The same bytes are also read as source
 * text by the locator. The files of TLS are not read. clang -fsanitize=fuzzer,address,undefined. */
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/check.h"
#include "policy/keys.h"
#include "policy/load.h"
#include "policy/locate.h"

enum { DEPTH_MAX = 7 };
#define SECRET "hunter2" /* what stands under keys that speak of secrets: never in the report */

static const char *const words[] = {"listen",
                                    "upstream",
                                    "upstreams",
                                    "workers",
                                    "timeouts",
                                    "limits",
                                    "log",
                                    "access_log",
                                    "forwarded",
                                    "via",
                                    "tokens",
                                    "tasks",
                                    "on_start",
                                    "on_request",
                                    "on_log",
                                    "handshake",
                                    "head",
                                    "connect",
                                    "first_byte",
                                    "pool",
                                    "drain",
                                    "request_line",
                                    "headers",
                                    "memory",
                                    "script_time",
                                    "buffered",
                                    "level",
                                    "format",
                                    "access",
                                    "tls",
                                    "ca",
                                    "cert",
                                    "verify",
                                    "insecure",
                                    "min_version",
                                    "max_version",
                                    "pins",
                                    "server_name",
                                    "certificates",
                                    "client_ca",
                                    "client_required",
                                    "preserve_host",
                                    "rewrite_location",
                                    "idle",
                                    "keep",
                                    "fetch",
                                    "refresh_at",
                                    "jitter",
                                    "leeway",
                                    "wait",
                                    "missing",
                                    "reject_on",
                                    "hosts",
                                    "reveal",
                                    "timeout",
                                    "backoff",
                                    "family",
                                    "max",
                                    "min",
                                    "api",
                                    "default",
                                    "127.0.0.1:8080",
                                    "[::1]:80",
                                    "unix:/x",
                                    ":0",
                                    "localhost:80",
                                    "https://a.example.com",
                                    "http://b:9000/x",
                                    "unix:/run/x.sock:/b",
                                    "api.example.com",
                                    "5 sec",
                                    "2s",
                                    "64 MiB",
                                    "64k",
                                    "debug",
                                    "json",
                                    "set",
                                    "off",
                                    "drop",
                                    "1.3",
                                    "pass",
                                    "a.example.com:8443",
                                    "http://10.0.0.7",
                                    "forward",
                                    "private",
                                    "*.example.com",
                                    "10.0.0.7/8",
                                    "::1",
                                    "127.1",
                                    "https://a.example.com/x",
                                    "a.example.com."};
static const char *const secret_words[] = {"key", "client_secret", "password", "token_value"};

struct program {
  const uint8_t *p, *end;
};

static uint8_t take(struct program *g) { return g->p < g->end ? *g->p++ : 0; }

static void push_word(lua_State *L, uint8_t which) { lua_pushstring(L, words[which % (sizeof words / sizeof *words)]); }

static void push_bytes(lua_State *L, struct program *g) {
  size_t n = take(g) % 80, left = (size_t)(g->end - g->p);
  if (n > left) n = left;
  lua_pushlstring(L, (const char *)g->p, n);
  g->p += n;
}

static void push_number(lua_State *L, struct program *g) {
  double n = 0;
  for (size_t i = 0; i < sizeof n; i++) ((uint8_t *)&n)[i] = take(g);
  lua_pushnumber(L, n);
}

static int l_nothing(lua_State *L) {
  (void)L;
  return 0;
}

static void push_value(lua_State *L, struct program *g, unsigned depth);

/* A key and its value into the table on top. */
static void add_entry(lua_State *L, struct program *g, unsigned depth) {
  uint8_t how = take(g);
  if (how % 16 == 0) {
    lua_pushstring(L, secret_words[take(g) % 4]);
    lua_pushliteral(L, SECRET);
  } else if (how % 16 < 5) {
    push_value(L, g, depth);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    return;
  } else if (how % 16 == 5) {
    push_bytes(L, g);
    push_value(L, g, depth);
  } else if (how % 16 == 6) {
    lua_pushinteger(L, take(g) - 100);
    push_value(L, g, depth);
  } else {
    push_word(L, take(g));
    push_value(L, g, depth);
  }
  lua_rawset(L, -3);
}

static void push_table(lua_State *L, struct program *g, unsigned depth) {
  luaL_checkstack(L, 8, NULL);
  lua_newtable(L);
  for (unsigned n = take(g) % 16; n > 0 && depth < DEPTH_MAX; n--) add_entry(L, g, depth + 1);
}

static void push_value(lua_State *L, struct program *g, unsigned depth) {
  switch (take(g) % 12) {
    case 0: lua_pushboolean(L, take(g) & 1); break;
    case 1: lua_pushinteger(L, take(g) - 5); break;
    case 2: push_number(L, g); break;
    case 3: push_bytes(L, g); break;
    case 4: lua_pushcfunction(L, l_nothing); break;
    case 5: lua_newuserdatauv(L, 1, 0); break;
    case 6:
    case 7:
    case 8: push_word(L, take(g)); break;
    default: push_table(L, g, depth); break;
  }
}

struct run {
  struct schema schema;
  struct program program;
};

static int l_validate(lua_State *L) {
  struct run *r = lua_touserdata(L, 1);
  r->schema.L = L;
  push_table(L, &r->program, 0);
  keys_read(&r->schema, lua_gettop(L));
  return 0;
}

static void check_report(const struct report *r, const struct policy *p) {
  const char *text = (const char *)r->text.p;
  unsigned lines = 0;
  for (size_t i = 0; i < r->text.n; i++) {
    lines += text[i] == '\n';
    CHECK(text[i] == '\n' || ((uint8_t)text[i] >= 0x20 && text[i] != 0x7f));
    CHECK(r->text.n - i < sizeof SECRET - 1 || memcmp(text + i, SECRET, sizeof SECRET - 1) != 0);
  }
  CHECK(lines == r->problems + r->warnings);
  if (r->problems > 0) return;
  const struct forward_conf *f = p->forward;
  CHECK(p->nlistens > 0 && (p->nupstreams > 0 || p->hooks[HOOK_REQUEST] || f != NULL));
  CHECK(f == NULL || f->hosts != NULL || f->connect != NULL);
  for (size_t i = 0; i < p->nupstreams; i++) CHECK(p->upstreams[i].nurls > 0);
  for (size_t i = 0; i < p->ntokens; i++) CHECK(p->tokens[i].audience != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (memmem(data, n, SECRET, sizeof SECRET - 1) != NULL) return 0; /* it may stand anywhere then */
  struct source source = {"policy.lua", "policy.lua", "policy.lua", {(const char *)data, n}};
  struct policy *p = policy_new();
  keys_defaults(p);
  p->sources = &source;
  p->nsources = 1;
  struct run r = {{.policy = p, .arena = p->memory, .dir = "."}, {data, data + n}};
  struct report report;
  report_init(&report);
  lua_State *L = luaL_newstate();
  lua_pushcfunction(L, l_validate);
  lua_pushlightuserdata(L, &r);
  CHECK(lua_pcall(L, 1, 0, 0) == LUA_OK);
  keys_finish(&r.schema);
  schema_report(&r.schema, &report);
  check_report(&report, p);
  static const struct path listen = {NULL, {"listen", 6}, 0};
  (void)schema_line(&r.schema, &listen); /* the text is read even when nothing was wrong */
  lua_close(L);
  report_fini(&report);
  policy_unref(p);
  return 0;
}
