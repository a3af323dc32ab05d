/* l_http.c: see lib.h. Owned by the VM's thread.
 *
 * Reads the script's arguments into an op (http_op.h), under a guard since every option may raise. Header values, bodies and form and JSON values may be opaque
 * secrets, and so may those of query =; the URL itself may not, since it is shown in messages and kept in other servers' logs. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/version.h"
#include "http/headers.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/http_op.h"
#include "lua/l_json.h"
#include "lua/l_proxy.h"
#include "lua/l_secret.h"
#include "lua/parts.h"
#include "lua/sent.h"
#include "lua/vm.h"
#include "token/secret.h"

static const char what[] = "jeton.http";

/* --- method and URL --- */

static struct str keep(struct http_op *op, struct str s) { return arena_dup(&op->arena, s); }

static void read_method(lua_State *L, int opts, struct http_op *op, const char *method) {
  struct str m = str_of(method);
  if (method == NULL) {
    if (lua_getfield(L, opts, "method") == LUA_TNIL)
      m = STR("GET");
    else
      m = arg_string(L, -1, what, "method");
  }
  if (!header_name_valid(m)) luaL_error(L, "%s: method: not a method's name", what); /* a token, as a field name is */
  op->method = keep(op, m);
  char *p = (char *)(uintptr_t)op->method.p;
  for (size_t i = 0; i < op->method.n; i++)
    if (p[i] >= 'a' && p[i] <= 'z') p[i] = (char)(p[i] - 'a' + 'A');
  if (str_eq(op->method, STR("CONNECT"))) luaL_error(L, "%s: method: CONNECT is not for a client of resources", what);
}

static void refuse_byte(lua_State *L, unsigned char c) {
  char code[4];
  (void)snprintf(code, sizeof code, "%%%02X", c);
  luaL_error(L, "%s: url: a byte that has to be percent-encoded: write %s", what, code);
}

static void read_url(lua_State *L, int idx, struct http_op *op) {
  if (l_secret_test(L, idx) != NULL)
    luaL_error(L, "%s: url: a secret: URLs show in logs and messages; put it into a header or the body", what);
  if (lua_istable(L, idx))
    luaL_error(L, "%s: url: expected a string, got a table; with the URL in the table: jeton.http.request { url = … }",
               what);
  struct str s = arg_string(L, idx, what, "url");
  for (size_t i = 0; i < s.n; i++)
    if (s.p[i] <= ' ' || s.p[i] >= 0x7f) refuse_byte(L, (unsigned char)s.p[i]);
  const char *wrong = url_parse(keep(op, s), &op->url);
  if (wrong != NULL) luaL_error(L, "%s: url: %s", what, wrong);
}

static void take_query(lua_State *L, struct http_op *op, struct parts *p) {
  if (!p->has_secret) {
    if (p->text.n > 0) op->url.query = keep(op, buf_str(&p->text));
    return;
  }
  op->query_secret = parts_secret(p);
  op->url.query = (struct str){NULL, 0};
  op->credentials = true;
  if (op->query_secret == NULL)
    luaL_error(L, "%s: a query with secrets in more than %d parts or of more than %d bytes", what, SECRET_PARTS_MAX,
               SECRET_BYTES_MAX);
}

/* Behind the query that the URL has. */
static void read_query(lua_State *L, int opts, struct http_op *op) {
  if (lua_getfield(L, opts, "query") != LUA_TNIL) {
    if (!lua_istable(L, -1))
      arg_wrong(L, what, "query", "a table of names and values (a query that is text already stands in the URL)", -1);
    struct parts *p = parts_guard(L);
    buf_adds(&p->text, op->url.query);
    parts_add_query(L, -2, p, "jeton.http: query");
    sent_table(L, -2);
    op->body.full = p->full; /* told at the end */
    take_query(L, op, p);
    guard_close(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* --- headers --- */

static bool has_trait(struct str name, unsigned trait) { return (header_traits[header_id(name)] & trait) != 0; }

static void set_secret(struct http_op *op, struct str name, struct secret *s) {
  op->credentials = true;
  headers_set_secret(&op->headers, keep(op, name), s);
}

/* The value on top. */
static void add_header(lua_State *L, struct http_op *op, struct str name) {
  struct secret *s = l_secret_test(L, -1);
  if (s != NULL) {
    set_secret(op, name, s);
    return;
  }
  if (!lua_isstring(L, -1)) arg_wrong(L, "jeton.http: headers", name.p, "a string, a number or a secret", -1);
  lua_pushvalue(L, -1);
  struct str value;
  value.p = lua_tolstring(L, -1, &value.n);
  if (op->body.full || !charge_begin(L, &op->charge, name.n + value.n)) {
    op->body.full = true; /* told at the end, with what else has no room */
    lua_pop(L, 1);
    return;
  }
  vm_burn(L, value.n / 4);
  if (!header_value_valid(value))
    luaL_error(L, "%s: headers: %s: CR, LF or another byte that may not stand in a header", what, name.p);
  l_secret_check_text(L, value);
  if (str_ieq(name, STR("host"))) {
    if (!host_valid(value)) luaL_error(L, "%s: headers: host: not a host", what);
    op->host = keep(op, value);
  } else {
    headers_add(&op->headers, keep(op, name), keep(op, value));
  }
  if (has_trait(name, HEADER_CREDENTIAL)) {
    op->credentials = true;
    sent_header(value);
  }
  lua_pop(L, 1);
}

static void add_header_list(lua_State *L, struct http_op *op, struct str name) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
  for (lua_Integer i = 1; i <= n; i++) {
    vm_burn(L, 1);
    lua_rawgeti(L, -1, i);
    if (l_secret_test(L, -1) != NULL && n > 1)
      luaL_error(L, "%s: headers: %s: a secret has to be a field's only value", what, name.p);
    add_header(L, op, name);
    lua_pop(L, 1);
  }
}

static void read_headers(lua_State *L, int opts, struct http_op *op) {
  if (lua_getfield(L, opts, "headers") != LUA_TNIL) {
    if (!lua_istable(L, -1)) arg_wrong(L, what, "headers", "a table", -1);
    int table = lua_gettop(L);
    for (lua_pushnil(L); vm_next(L, table); lua_pop(L, 1)) {
      vm_burn(L, 1);
      if (lua_type(L, -2) != LUA_TSTRING)
        luaL_error(L, "%s: headers: expected { [\"name\"] = value, … }, got %s in place of a name", what,
                   arg_push_noun(L, -2));
      struct str name = arg_string(L, -2, what, "headers");
      if (!header_name_valid(name)) luaL_error(L, "%s: headers: '%s' is not a header's name", what, name.p);
      if (has_trait(name, HEADER_OURS)) luaL_error(L, "%s: headers: %s is written by jeton itself", what, name.p);
      if (lua_istable(L, -1))
        add_header_list(L, op, name);
      else
        add_header(L, op, name);
    }
  }
  lua_pop(L, 1);
  if (headers_find(&op->headers, STR("user-agent")) == NULL)
    headers_add(&op->headers, STR("user-agent"), STR("jeton/" JETON_VERSION));
}

static void add_auth_part(lua_State *L, int auth, int i, struct parts *p, bool form) {
  lua_rawgeti(L, auth, i);
  struct secret *s = l_secret_test(L, -1);
  if (s != NULL) {
    s = secret_ref(s);
  } else {
    struct str text = arg_string(L, -1, what, i == 1 ? "auth: user" : "auth: password");
    if (i == 1 && !form && memchr(text.p, ':', text.n) != NULL)
      luaL_error(L, "%s: auth: a user with a colon (RFC 7617 section 2)", what);
    s = i == 1 ? secret_literal(text) : secret_bytes(text, "password", NULL); /* a user's name is no secret */
  }
  struct secret *encoded = form ? secret_encode(s, SECRET_FORM) : s;
  if (form) secret_unref(s);
  parts_add_secret(p, encoded);
  lua_pop(L, 1);
}

/* auth = { user, secret } (RFC 7617); with form = true both are form-encoded first (RFC 6749 section 2.3.1). Plain strings are copied to secret memory too. */
static void read_auth(lua_State *L, int opts, struct http_op *op) {
  if (lua_getfield(L, opts, "auth") == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  int auth = lua_gettop(L);
  if (!lua_istable(L, auth)) arg_wrong(L, what, "auth", "a list of two, { user, password }", auth);
  if (lua_rawlen(L, auth) != 2) luaL_error(L, "%s: auth: expected a list of two, { user, password }", what);
  static const char *const auth_keys[] = {"form", NULL};
  arg_known(L, auth, "jeton.http: auth", auth_keys);
  bool form = arg_field_bool(L, auth, "jeton.http: auth", "form", false);
  struct parts *p = parts_guard(L);
  add_auth_part(L, auth, 1, p, form);
  buf_addz(&p->text, ":");
  add_auth_part(L, auth, 2, p, form);
  struct secret *pair = parts_secret(p);
  struct secret *encoded = secret_encode(pair, SECRET_BASE64);
  struct secret *value = secret_join_text(encoded, STR("Basic "), true);
  if (value != NULL) set_secret(op, STR("authorization"), value);
  secret_unref(pair);
  secret_unref(encoded);
  secret_unref(value);
  if (value == NULL) luaL_error(L, "%s: auth: too large", what);
  guard_close(L, -1);
  lua_settop(L, auth - 1);
}

/* --- body --- */

static void default_type(struct http_op *op, struct str type) {
  if (headers_find(&op->headers, STR("content-type")) == NULL) headers_add(&op->headers, STR("content-type"), type);
}

static struct str body_text(lua_State *L) {
  const char *expected =
      lua_istable(L, -1) ? "a string or a secret (a table goes into json = or form =)" : "a string or a secret";
  if (lua_type(L, -1) != LUA_TSTRING) arg_wrong(L, what, "body", expected, -1);
  return arg_string(L, -1, what, "body");
}

static void read_plain(lua_State *L, struct http_op *op) {
  struct secret *s = l_secret_test(L, -1);
  if (s != NULL)
    parts_add_secret(&op->body, secret_ref(s));
  else
    buf_adds(&op->body.text, body_text(L));
  if (s == NULL) sent_form_text(buf_str(&op->body.text));
}

static void read_form(lua_State *L, struct http_op *op) {
  if (!lua_istable(L, -1))
    arg_wrong(L, what, "form", "a table of names and values (a form that is text already is a body)", -1);
  parts_add_form(L, -1, &op->body, "jeton.http: form");
  sent_table(L, -1);
  default_type(op, STR("application/x-www-form-urlencoded"));
}

static void read_json(lua_State *L, struct http_op *op) {
  const char *wrong = l_json_add(L, -1, &op->body);
  if (wrong != NULL && !op->body.full) luaL_error(L, "%s: json: cannot hold %s", what, wrong);
  sent_table(L, -1);
  default_type(op, STR("application/json"));
}

static void read_body(lua_State *L, int opts, struct http_op *op) {
  static const struct body_kind {
    const char *key;
    void (*read)(lua_State *L, struct http_op *op);
  } kinds[] = {{"body", read_plain}, {"form", read_form}, {"json", read_json}};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    if (lua_getfield(L, opts, kinds[i].key) != LUA_TNIL) {
      if (op->has_body) luaL_error(L, "%s: one of body, form and json, not two", what);
      op->has_body = true;
      kinds[i].read(L, op);
    }
    lua_pop(L, 1);
  }
  op->body_secret = parts_secret(&op->body);
  if (op->body.overflow || (op->body.has_secret && op->body_secret == NULL))
    luaL_error(L, "%s: a body with secrets in more than %d parts or of more than %d bytes", what, SECRET_PARTS_MAX,
               SECRET_BYTES_MAX);
}

/* --- the rest --- */

static void read_limits(lua_State *L, int opts, struct http_op *op) {
  static const char *const known[] = {"body", NULL};
  if (lua_getfield(L, opts, "limits") != LUA_TNIL) {
    if (!lua_istable(L, -1)) arg_wrong(L, what, "limits", "a table", -1);
    arg_known(L, -1, "jeton.http: limits", known);
  }
  op->reply_max = arg_field_size(L, lua_gettop(L), "jeton.http: limits", "body", HTTP_REPLY_MAX);
  lua_pop(L, 1);
  int64_t ms = arg_field_ms(L, opts, what, "timeout", HTTP_TIMEOUT_MS);
  if (ms < 1) luaL_error(L, "%s: timeout: expected more than 0", what);
  op->timeout_ms = (uint64_t)ms;
  if (lua_getfield(L, opts, "redirects") != LUA_TNIL) {
    lua_Integer n = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : -1;
    if (n < 0 || n > HTTP_REDIRECTS_MAX)
      luaL_error(L, "%s: redirects: expected a number from 0 to %d", what, HTTP_REDIRECTS_MAX);
    op->redirects = (unsigned)n;
  }
  lua_pop(L, 1);
}

static void read_tls(lua_State *L, int opts, struct http_op *op) {
  lua_getfield(L, opts, "tls");
  tls_choice_read(L, -1, &op->tls);
  lua_pop(L, 1);
  if (op->tls.own) op->credentials = true; /* settings for one server are not for another */
  op->client = tls_choice_known(L, &op->tls);
}

static void read_http2(lua_State *L, int opts, struct http_op *op) {
  int type = lua_getfield(L, opts, "http2");
  bool automatic = type == LUA_TSTRING && strcmp(lua_tostring(L, -1), "auto") == 0;
  if (type != LUA_TNIL && type != LUA_TBOOLEAN && !automatic)
    arg_wrong(L, what, "http2", "true, false or \"auto\"", -1);
  if (automatic && !op->url.tls) luaL_error(L, "%s: http2: %s", what, HTTP2_NOT_AUTO);
  op->http2 = type == LUA_TNIL ? HTTP2_USUAL : automatic ? HTTP2_AUTO : lua_toboolean(L, -1) ? HTTP2_ONLY : HTTP2_OFF;
  lua_pop(L, 1);
}

static bool is_environment(lua_State *L) {
  return lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "environment") == 0;
}

/* 0, or the number of results to return at once. */
static int read_proxy(lua_State *L, int opts, struct http_op *op) {
  lua_getfield(L, opts, "proxy");
  if (op->url.unix_path.p != NULL && lua_toboolean(L, -1) && !is_environment(L))
    luaL_error(L, "%s: proxy: a Unix socket is not reached through one", what);
  int results = l_proxy_read(L, -1, what, &op->parents);
  if (results == 0) lua_pop(L, 1);
  return results;
}

/* What a call under way costs before its reply, but its headers, which are charged as they are read. */
static size_t size_of(const struct http_op *op) {
  size_t n = CHARGE_CALL + op->body.text.n + op->url.path.n + op->url.query.n;
  if (op->query_secret != NULL) n += secret_size(op->query_secret);
  if (op->body_secret != NULL) n += 2 * secret_size(op->body_secret); /* it is expanded for each head */
  return n;
}

/* opts: the index of a table; url: of the URL. */
static int request(lua_State *L, const char *method, int url, int opts) {
  struct http_op *op = guard_new(L, sizeof *op, http_op_unmake);
  int guard = lua_gettop(L);
  lua_toclose(L, guard); /* an error frees it at once: it may hold much that the collector does not see */
  http_op_init(op, vm_services(vm_of(L)));
  luaL_checkstack(L, 16, what);
  read_method(L, opts, op, method);
  read_url(L, url, op);
  read_query(L, opts, op);
  read_headers(L, opts, op);
  read_auth(L, opts, op);
  read_body(L, opts, op);
  read_limits(L, opts, op);
  read_tls(L, opts, op);
  read_http2(L, opts, op);
  int failed = read_proxy(L, opts, op);
  if (failed > 0) return failed;
  if (op->body.full || !charge_begin(L, &op->charge, size_of(op)))
    return arg_failure(L, ERR_LIMIT, "jeton.http: the calls under way have no room for another within limits.memory");
  return http_op_await(L, guard, op);
}

static const char *const known[] = {"method",  "url",    "headers",   "auth", "query", "body",  "form", "json",
                                    "timeout", "limits", "redirects", "tls",  "http2", "proxy", NULL};

static int l_request(lua_State *L) {
  if (!lua_istable(L, 1) || !lua_isnoneornil(L, 2))
    return luaL_error(L, "%s: expected one table: jeton.http.request { method = \"GET\", url = \"https://…\", … }",
                      what);
  lua_settop(L, 1);
  arg_known(L, 1, what, known);
  lua_getfield(L, 1, "url");
  return request(L, NULL, 2, 1);
}

static int with_method(lua_State *L, const char *method) {
  lua_settop(L, 2);
  arg_options(L, 2, what, "{ body = text, timeout = 5 }", known + 2); /* method and url are given */
  if (lua_isnil(L, 2)) {
    lua_newtable(L);
    lua_replace(L, 2);
  }
  return request(L, method, 1, 2);
}

/* --- settings, checked beforehand --- */

struct trial {
  struct tls_choice choice;
  struct tls_client *client;
};
static void trial_unmake(void *p) {
  struct trial *t = p;
  tls_choice_fini(&t->choice);
  tls_client_unref(t->client);
  free(t);
}

static void on_tls_note(void *arg, const char *text) {
  char line[1280];
  (void)snprintf(line, sizeof line, "%s: tls: %s", what, text);
  vm_warn(arg, line);
}

/* The VM that tries a policy reports notes, so that each load reports them once. */
static void tell_notes(struct vm *vm, const struct trial *t) {
  char text[512];
  if (vm_role(vm) != VM_CONTROL) return;
  tls_client_notes(t->client, TLS_NOTES_USUAL, on_tls_note, vm);
  if (t->choice.settings.insecure == NULL) return;
  (void)snprintf(text, sizeof text, TLS_CHOICE_INSECURE, t->choice.settings.insecure);
  on_tls_note(vm, text);
}

static void try_files(lua_State *L, struct trial *t) {
  char why[512];
  t->client = tls_choice_known(L, &t->choice);
  if (t->client != NULL) return;
  t->client = tls_client_new(&t->choice.settings, why, sizeof why);
  if (t->client == NULL) luaL_error(L, "%s.tls: %s", what, why);
  tell_notes(vm_of(L), t);
  tls_choice_keep(L, &t->choice, t->client);
}

/* Files are read where a policy is tried and where its tokens are fetched, and only while its file runs, when nobody waits: a worker that needs them
 * reads them at its first request. */
static int l_tls(lua_State *L) {
  const struct vm *vm = vm_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  struct trial *t = guard_new(L, sizeof *t, trial_unmake);
  tls_choice_read(L, 1, &t->choice);
  if (vm_loading(vm) && vm_role(vm) != VM_WORKER) try_files(L, t);
  guard_close(L, 2);
  lua_settop(L, 1);
  return 1;
}

/* The value, and behind it nothing; or what l_proxy_read says of the environment. */
static int l_proxy(lua_State *L) {
  struct parents *p;
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  int results = l_proxy_read(L, 1, what, &p);
  parents_unref(p);
  return results > 0 ? results : 1;
}

static int l_get(lua_State *L) { return with_method(L, "GET"); }
static int l_head(lua_State *L) { return with_method(L, "HEAD"); }
static int l_post(lua_State *L) { return with_method(L, "POST"); }
static int l_put(lua_State *L) { return with_method(L, "PUT"); }
static int l_patch(lua_State *L) { return with_method(L, "PATCH"); }
static int l_delete(lua_State *L) { return with_method(L, "DELETE"); }

static const luaL_Reg functions[] = {
    {"request", l_request}, {"get", l_get},       {"head", l_head}, {"post", l_post},   {"put", l_put},
    {"patch", l_patch},     {"delete", l_delete}, {"tls", l_tls},   {"proxy", l_proxy}, {NULL, NULL},
};

int l_http_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
