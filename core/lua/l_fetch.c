/* l_fetch.c: see l_fetch.h. Owned by the keeper's thread, or (token:set) by any VM's.
 *
 * A fetch returns whatever a policy's author wrote, and its mistakes show at run time, so each is a sentence that names the key and the type that was found,
 * and never a value. A script's own message (nil, message) passes as it is; ours get the place of the function in front.
 *
 * Tables are read raw, so that no metamethod of the script runs here, and l_fetch_read never raises. Bytes are gathered in one buffer that may move while it grows:
 * until the end the result is kept as offsets. The previous token is given as a userdata with secrets, not as text: a script can send a refresh token, but
 * not print it. */
#include "lua/l_fetch.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mask.h"
#include "base/moment.h"
#include "base/units.h"
#include "lua/arg.h"
#include "lua/budget.h"
#include "lua/fetch_data.h"
#include "lua/http_op.h"
#include "lua/l_secret.h"
#include "token/secret.h"
#include "token/token.h"

#define PREVIOUS "jeton.previous"

enum { ERROR_MAX = 300, RESULTS = 3 };
static const double RETRY_MAX_S = 86400; /* the schedule has a bound of its own */

/* --- its argument --- */

struct previous {
  struct token *token;     /* a reference */
  const struct slot *slot; /* only compared */
  bool changed;            /* it was fetched by a fetch that is made of something else */
  bool sealed;             /* it may not be revealed */
  char label[80];
};

/* A refresh token goes back to its issuer. A fetch that is made of something else may ask another one, which is to see no refresh token of the first: so it may send
 * what the one before it brought only to servers that that one asked. */
static struct audience *servers_of(const struct previous *p) { /* a new reference; NULL: all */
  if (!p->changed) return NULL;
  return p->token->asked != NULL ? audience_ref(p->token->asked) : audience_new();
}

static int l_previous_field(lua_State *L) {
  struct previous *p = luaL_checkudata(L, 1, PREVIOUS);
  struct str name = {0};
  if (!lua_isnoneornil(L, 2)) name = arg_string(L, 2, "previous:field", "name");
  struct str bytes = token_bytes(p->token, name);
  if (bytes.p == NULL || (name.p == NULL && bytes.n == 0)) return 0; /* fetches have brought fields, and no token yet */
  struct token_bond bond = p->token->bond;                           /* its audience is borrowed */
  bond.sealed = bond.sealed || p->sealed;
  struct audience *servers = servers_of(p);
  struct secret *secret = secret_bytes_of_token(bytes, p->label, servers, &bond, p->slot);
  audience_unref(servers);
  l_secret_push(L, secret);
  return 1;
}

static int l_previous_index(lua_State *L) {
  struct previous *p = luaL_checkudata(L, 1, PREVIOUS);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  int64_t left = p->token->expires_at - clock_boot_ms();
  if (strcmp(key, "field") == 0)
    lua_pushcfunction(L, l_previous_field);
  else if (strcmp(key, "generation") == 0)
    lua_pushinteger(L, (lua_Integer)p->token->generation);
  else if (strcmp(key, "expires_in") == 0)
    lua_pushnumber(L, left > 0 ? (lua_Number)left / 1000 : 0);
  else
    return luaL_error(
        L, "the previous token has generation, expires_in and :field(name) (its value without a name), not '%s'", key);
  return 1;
}

static int l_previous_tostring(lua_State *L) {
  struct previous *p = luaL_checkudata(L, 1, PREVIOUS);
  lua_pushfstring(L, "%s<generation %I>", p->label, (LUAI_UACINT)p->token->generation);
  return 1;
}

static int l_previous_collect(lua_State *L) {
  struct previous *p = luaL_checkudata(L, 1, PREVIOUS);
  token_unref(p->token);
  p->token = NULL;
  return 0;
}

static const luaL_Reg previous_metamethods[] = {
    {"__gc", l_previous_collect},
    {"__index", l_previous_index},
    {"__tostring", l_previous_tostring},
    {NULL, NULL},
};

static void push_previous(lua_State *L, const struct fetch *f, bool open) {
  struct previous *p = lua_newuserdatauv(L, sizeof *p, 0);
  p->token = NULL;
  (void)snprintf(p->label, sizeof p->label, "previous token %s", slot_name(f->slot));
  if (luaL_newmetatable(L, PREVIOUS)) luaL_setfuncs(L, previous_metamethods, 0);
  lua_setmetatable(L, -2);
  p->token = token_ref(f->previous);
  p->slot = f->slot;
  p->sealed = !open;
  p->changed = !token_bond_made_alike(&f->previous->bond, &f->bond);
}

/* A worker sent it, and not this thread: the reply that it got may repeat it, and the script may say that reply. */
static void mask_refused(const struct token *t) {
  mask_add(mask_of_thread(), t->value);
  for (unsigned i = 0; i < t->nfields; i++) mask_add(mask_of_thread(), t->fields[i].bytes);
}

/* ctx.refusal = { status, headers } */
static void push_refusal(lua_State *L, const struct refusal *r) {
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, r->status);
  lua_setfield(L, -2, "status");
  http_headers_push(L, r->fields, r->n);
  lua_setfield(L, -2, "headers");
}

int l_fetch_push_context(lua_State *L, const struct fetch *f, bool open) {
  luaL_checkstack(L, 12, "a fetch's context");
  lua_createtable(L, 0, 6);
  lua_pushstring(L, slot_token_name(f->slot));
  lua_setfield(L, -2, "name");
  lua_pushstring(L, fetch_reason_name(f->reason));
  lua_setfield(L, -2, "reason");
  lua_pushinteger(L, (lua_Integer)f->attempt);
  lua_setfield(L, -2, "attempt");
  struct str key = slot_key(f->slot);
  if (key.p != NULL) {
    lua_pushlstring(L, key.p, key.n);
    lua_setfield(L, -2, "key");
  }
  if (slot_data_of(f->slot) != NULL) {
    fetch_data_push(L, slot_data_of(f->slot));
    lua_setfield(L, -2, "data");
  }
  if (f->previous != NULL) {
    push_previous(L, f, open);
    lua_setfield(L, -2, "previous");
  }
  if (f->refusal != NULL) {
    if (f->previous != NULL) mask_refused(f->previous);
    push_refusal(L, f->refusal);
    lua_setfield(L, -2, "refusal");
  }
  return 1;
}

/* --- its results --- */

struct span {
  size_t at, n;
};
struct reader {
  lua_State *L;
  struct buf *hold;
  struct fetch_result *out;
  struct token_bond *bond; /* narrowed by the tokens among the values */
  const struct slot *slot; /* whose own refresh token may stay a field of its value; NULL: nobody's */
  struct span value, names[TOKEN_FIELDS_MAX], bytes[TOKEN_FIELDS_MAX];
  char error[ERROR_MAX]; /* "": none */
  bool own_words;        /* the error is the script's */
};

static bool fail(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct reader *r, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(r->error, sizeof r->error, fmt, args);
  va_end(args);
  return false;
}

static bool keep(struct reader *r, int idx, const char *what, const struct slot *owner, struct span *span) {
  lua_State *L = r->L;
  span->at = r->hold->n;
  struct secret *secret = l_secret_test(L, idx);
  if (secret != NULL) {
    struct secret_context any = {.any_target = true, .bond = r->bond, .owner = owner};
    l_secret_note(L, secret);
    int rc = secret_expand(secret, &any, r->hold);
    if (rc != 0) return fail(r, "%s: %s", what, err_text(rc));
  } else {
    size_t n;
    if (lua_type(L, idx) != LUA_TSTRING)
      return fail(r, "%s: expected a string or a secret, got %s", what, luaL_typename(L, idx));
    const char *p = lua_tolstring(L, idx, &n);
    if (n > TOKEN_BYTES_MAX) return fail(r, "%s: more than %d bytes", what, TOKEN_BYTES_MAX);
    buf_add(r->hold, p, n);
  }
  span->n = r->hold->n - span->at;
  return true;
}

/* "3600", as some issuers send it, with blanks around it or without; nothing that only Lua would take for a number. */
static bool text_number(lua_State *L, int idx, double *out) {
  struct str text;
  char digits[64];
  text.p = lua_tolstring(L, idx, &text.n);
  text = str_trim(text);
  if (text.n == 0 || text.n >= sizeof digits) return false;
  memcpy(digits, text.p, text.n);
  digits[text.n] = '\0';
  if (strspn(digits, "-0123456789.") != text.n || lua_stringtonumber(L, digits) == 0) return false;
  *out = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return true;
}

static bool read_number(struct reader *r, int idx, const char *what, bool *has, double *out) {
  lua_State *L = r->L;
  *has = !lua_isnil(L, idx);
  if (!*has) return true;
  if (lua_type(L, idx) == LUA_TSTRING)
    return text_number(L, idx, out) || fail(r, "%s: a string that is not a decimal number", what);
  if (lua_type(L, idx) != LUA_TNUMBER)
    return fail(r, "%s: expected a number of seconds, got %s", what, luaL_typename(L, idx));
  *out = lua_tonumber(L, idx);
  return true;
}

/* A moment: as a number, or as servers write it. */
static bool read_moment(struct reader *r, int idx, const char *what, bool *has, double *out) {
  lua_State *L = r->L;
  if (lua_type(L, idx) != LUA_TSTRING || text_number(L, idx, out)) return read_number(r, idx, what, has, out);
  struct str text;
  text.p = lua_tolstring(L, idx, &text.n);
  const char *wrong = moment_parse(text, (double)clock_wall_ms() / 1000, out);
  *has = true;
  return wrong == NULL || fail(r, "%s: %s", what, wrong);
}

static bool read_fields(struct reader *r, int idx) {
  lua_State *L = r->L;
  if (lua_isnil(L, idx)) return true;
  if (!lua_istable(L, idx)) return fail(r, "fields: expected a table, got %s", luaL_typename(L, idx));
  unsigned n = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) return fail(r, "fields: a name that is a %s", luaL_typename(L, -2));
    if (n == TOKEN_FIELDS_MAX) return fail(r, "fields: more than %d", TOKEN_FIELDS_MAX);
    char what[64];
    (void)snprintf(what, sizeof what, "fields.%.40s", lua_tostring(L, -2));
    if (!keep(r, lua_gettop(L) - 1, what, NULL, &r->names[n]) || !keep(r, lua_gettop(L), what, r->slot, &r->bytes[n]))
      return false;
    n++;
  }
  r->out->nfields = n;
  return true;
}

static int push_raw(lua_State *L, int table, const char *key) {
  lua_pushstring(L, key);
  lua_rawget(L, table);
  return lua_gettop(L);
}

static bool read_options(struct reader *r, int table) {
  struct fetch_result *o = r->out;
  bool known;
  return read_number(r, push_raw(r->L, table, "expires_in"), "expires_in", &o->has_expires_in, &o->expires_in) &&
         read_moment(r, push_raw(r->L, table, "expires_at"), "expires_at", &o->has_expires_at, &o->expires_at) &&
         read_number(r, push_raw(r->L, table, "refresh_expires_in"), "refresh_expires_in", &known,
                     &o->refresh_expires_in);
}

static struct str slice(const struct reader *r, struct span s) {
  return (struct str){(const char *)r->hold->p + s.at, s.n};
}

/* `hold` does not move any more: the result points into it. */
static void fill_fields(struct reader *r) {
  for (unsigned i = 0; i < r->out->nfields; i++)
    r->out->fields[i] = (struct token_field){.name = slice(r, r->names[i]), .bytes = slice(r, r->bytes[i])};
}

static void fill_result(struct reader *r) {
  r->out->ok = true;
  r->out->value = slice(r, r->value);
  fill_fields(r);
}

const char *l_fetch_options(lua_State *L, int value, int options, struct fetch_result *out, struct buf *hold,
                            struct token_bond *bond) {
  struct reader r = {.L = L, .hold = hold, .out = out, .bond = bond};
  memset(out, 0, sizeof *out);
  luaL_checkstack(L, 16, "a token's options");
  if (!lua_istable(L, options))
    return "expected a table with expires_in (seconds) or expires_at (seconds since the epoch, or a date)";
  if (keep(&r, value, "value", NULL, &r.value) && read_options(&r, options) &&
      read_fields(&r, push_raw(L, options, "fields"))) {
    fill_result(&r);
    return NULL;
  }
  size_t at = hold->n;
  buf_add(hold, r.error, strlen(r.error) + 1);
  return (const char *)hold->p + at;
}

static const char misshaped[] =
    "the fetch returned %s%s: expected { value = …, expires_in = seconds } (or expires_at), or nil and a message";

/* nil, message: the script's own words, as long as they are words. */
static void read_failure(struct reader *r, int message) {
  lua_State *L = r->L;
  r->own_words = lua_type(L, message) == LUA_TSTRING && lua_rawlen(L, message) > 0;
  if (r->own_words)
    (void)fail(r, "%s", lua_tostring(L, message));
  else if (lua_isnoneornil(L, message))
    (void)fail(r, misshaped, "nothing", "");
  else
    (void)fail(r, "the fetch returned nil and a %s instead of a message", luaL_typename(L, message));
}

/* Behind the script's own words. */
static void add_complaint(struct reader *r, const char *what) {
  size_t n = strlen(r->error);
  (void)snprintf(r->error + n, sizeof r->error - n, " (and %s)", what);
}

/* A fetch that fails may have spent what it was made with, and have its successor. */
static void read_brought(struct reader *r, int how) {
  char said[ERROR_MAX], wrong[ERROR_MAX];
  (void)snprintf(said, sizeof said, "%s", r->error);
  if (read_fields(r, push_raw(r->L, how, "fields"))) return;
  (void)snprintf(wrong, sizeof wrong, "%s", r->error);
  (void)snprintf(r->error, sizeof r->error, "%s", said);
  add_complaint(r, wrong);
}

static void read_retry_after(struct reader *r, int how) {
  lua_State *L = r->L;
  int64_t ms = 0;
  struct str text;
  int at = push_raw(L, how, "retry_after");
  if (lua_isnil(L, at)) return;
  double seconds = lua_type(L, at) == LUA_TNUMBER ? lua_tonumber(L, at) : -1;
  if (lua_type(L, at) == LUA_TSTRING) {
    text.p = lua_tolstring(L, at, &text.n);
    if (units_duration_ms(text, &ms)) seconds = (double)ms / 1000;
  }
  if (seconds >= 0) { /* no NaN */
    r->out->retry_after = seconds < RETRY_MAX_S ? seconds : RETRY_MAX_S;
    return;
  }
  add_complaint(r, "its retry_after is neither seconds nor a duration");
}

static void read_permanent(struct reader *r, int how) {
  lua_State *L = r->L;
  int at = push_raw(L, how, "permanent");
  if (lua_isnil(L, at)) return;
  if (lua_isboolean(L, at))
    r->out->outlook = lua_toboolean(L, at) ? OUTLOOK_PERMANENT : OUTLOOK_OPEN;
  else if (lua_type(L, at) == LUA_TSTRING && strcmp(lua_tostring(L, at), "spent") == 0)
    r->out->outlook = OUTLOOK_SPENT;
  else
    add_complaint(r, "its permanent is neither true nor false nor \"spent\"");
}

/* The third result of a failure may be { retry_after = seconds or a duration, permanent = true or "spent", fields = table }. What else stands in this place is the code
 * of a function of the library, whose results a fetch may return as they are. */
static void read_how(struct reader *r, int how) {
  if (!lua_istable(r->L, how)) return;
  read_brought(r, how);
  read_retry_after(r, how);
  read_permanent(r, how);
}

/* In protected mode: the reader at 1, the first three results behind it. */
static int l_read(lua_State *L) {
  struct reader *r = lua_touserdata(L, 1);
  r->L = L;
  lua_settop(L, 4);
  luaL_checkstack(L, 16, "a fetch's results");
  if (lua_isnil(L, 2) || (lua_isboolean(L, 2) && !lua_toboolean(L, 2))) {
    read_failure(r, 3);
    read_how(r, 4);
  } else if (!lua_istable(L, 2)) {
    (void)fail(r, misshaped, "a bare ", luaL_typename(L, 2));
  } else if (!read_fields(r, push_raw(L, 2, "fields"))) { /* first: they count though the rest is no good */
    return 0;
  } else if (lua_isnil(L, push_raw(L, 2, "value"))) {
    (void)fail(r, misshaped, "a table without a value", "");
  } else if (keep(r, lua_gettop(L), "value", NULL, &r->value)) {
    (void)read_options(r, 2);
  }
  return 0;
}

/* Pushing light values allocates nothing; what may raise happens inside of the pcall. */
static bool protected_read(lua_State *L, int nresults, struct reader *r) {
  int first = lua_gettop(L) - nresults + 1;
  if (!lua_checkstack(L, 8)) return false;
  lua_pushcfunction(L, l_read);
  lua_pushlightuserdata(L, r);
  for (int i = 0; i < RESULTS; i++) {
    if (i < nresults)
      lua_pushvalue(L, first + i);
    else
      lua_pushnil(L);
  }
  bool ok = lua_pcall(L, 1 + RESULTS, 0, 0) == LUA_OK;
  if (!ok) lua_pop(L, 1);
  return ok;
}

void l_fetch_read(lua_State *L, int nresults, int fn, const struct slot *slot, struct fetch_result *out,
                  struct buf *hold) {
  struct reader r = {.hold = hold, .out = out, .bond = &out->bond, .slot = slot};
  memset(out, 0, sizeof *out);
  if (!protected_read(L, nresults, &r)) (void)fail(&r, "what the fetch returned could not be read: out of memory");
  if (r.error[0] == '\0') {
    fill_result(&r);
    return;
  }
  char place[PLACE_SIZE] = "";
  if (!r.own_words) lua_place_of(L, fn, place);
  size_t at = hold->n;
  buf_addf(hold, "%s%s%s", place, place[0] != '\0' ? ": " : "", r.error);
  buf_add(hold, "", 1);
  fill_fields(&r);
  out->error = (const char *)hold->p + at;
}

int l_fetch_secret(lua_State *L, int ref, struct fetch_result *out, struct buf *hold, struct provenance **provenance) {
  memset(out, 0, sizeof *out);
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  struct secret *secret = l_secret_test(L, -1);
  struct secret_context any = {.any_target = true, .bond = &out->bond};
  secret_note_provenance(secret, provenance); /* first: that looks at the files */
  int rc = secret_expand(secret, &any, hold);
  lua_pop(L, 1);
  out->ok = out->lasts = rc == 0;
  out->value = buf_str(hold);
  if (rc != 0) out->error = err_text(rc);
  return rc;
}
