/* message.c: see message.h.
 *
 * One allocation: the parts, a value or the pairs of a table, and the bytes of all strings behind them. Written in two passes, the first of which checks
 * everything and may raise, so that the second owns what it makes without a guard. Wiped when it is freed: scripts send token bytes, too.
 * Made on the sender's thread, pushed on the receiver's; any thread may free it. */
#include "lua/message.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/secmem.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/l_secret.h"
#include "lua/vm.h"
#include "token/secret.h"

enum part_kind { PART_FALSE, PART_TRUE, PART_INTEGER, PART_NUMBER, PART_STRING, PART_SECRET };

struct part {
  enum part_kind kind;
  union {
    lua_Integer integer;
    lua_Number number;
    struct str string; /* behind the parts */
    struct secret *secret;
  } u;
};

struct message {
  struct channel_item item;
  struct channels *all; /* that its bytes are charged to */
  size_t size;
  bool table; /* parts are key, value, key, value… */
  size_t n;
  size_t listed; /* of a table: about how many pairs are of a list. A guess: a border may be any, even 2^63 - 1 */
  struct part parts[];
};

static struct message *message_of(struct channel_item *item) { return CONTAINER_OF(item, struct message, item); }

static void on_free(struct channel_item *item) {
  struct message *m = message_of(item);
  for (size_t i = 0; i < m->n; i++) {
    if (m->parts[i].kind == PART_SECRET) secret_unref(m->parts[i].u.secret);
  }
  channels_discharge(m->all, m->size);
  secmem_wipe(m, m->size);
  free(m);
}

/* --- the first pass --- */

static int refuse(lua_State *L, int idx, const char *what, const char *where) {
  if (lua_isnoneornil(L, idx))
    return luaL_error(L, "%s: nil cannot be sent, since it is what a closed channel gives; send false", what);
  if (lua_istable(L, idx))
    return luaL_error(L, "%s: a table%s cannot be sent: send jeton.json.encode of the whole", what, where);
  return luaL_error(
      L, "%s: %s%s cannot be sent: a message is a boolean, a number, a string, a secret, or a table of these", what,
      arg_push_noun(L, idx), where);
}

/* A token's handle is its VM's; what stands for its bytes is not. */
static void check_userdata(lua_State *L, int idx, const char *what, const char *where) {
  if (l_secret_test_token(L, idx) != NULL)
    luaL_error(L,
               "%s: a token's handle%s cannot be sent, since each thread has its own: send \"\" .. tokens.NAME, "
               "which is a secret",
               what, where);
  if (l_secret_test(L, idx) == NULL) (void)refuse(L, idx, what, where);
}

static size_t measure_part(lua_State *L, int idx, const char *what, const char *where) {
  switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN:
    case LUA_TNUMBER: break;
    case LUA_TSTRING: return sizeof(struct part) + lua_rawlen(L, idx);
    case LUA_TUSERDATA: check_userdata(L, idx, what, where); break;
    default: (void)refuse(L, idx, what, where);
  }
  return sizeof(struct part);
}

size_t message_measure(lua_State *L, int idx, const char *what) {
  idx = lua_absindex(L, idx);
  size_t size = sizeof(struct message);
  if (!lua_istable(L, idx)) return size + measure_part(L, idx, what, "");
  luaL_checkstack(L, 4, what);
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) {
    vm_burn(L, 1);
    if (lua_type(L, -2) == LUA_TUSERDATA) luaL_error(L, "%s: a key of a table that is sent cannot be a secret", what);
    size += measure_part(L, -2, what, " as a key");
    size += measure_part(L, -1, what, " in a table");
  }
  return size;
}

/* --- the second pass --- */

struct writer {
  lua_State *L;
  struct message *m;
  char *bytes; /* the next string's */
  int status;
};

static void write_string(struct writer *w, struct part *p, int idx) {
  size_t n;
  const char *s = lua_tolstring(w->L, idx, &n);
  memcpy(w->bytes, s, n);
  p->u.string = (struct str){w->bytes, n};
  w->bytes += n;
}

static void write_number(struct writer *w, struct part *p, int idx) {
  if (p->kind == PART_INTEGER)
    p->u.integer = lua_tointeger(w->L, idx);
  else
    p->u.number = lua_tonumber(w->L, idx);
}

static enum part_kind kind_of(lua_State *L, int idx) {
  switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN: return lua_toboolean(L, idx) ? PART_TRUE : PART_FALSE;
    case LUA_TNUMBER: return lua_isinteger(L, idx) ? PART_INTEGER : PART_NUMBER;
    case LUA_TSTRING: return PART_STRING;
    default: return PART_SECRET;
  }
}

static void write_part(struct writer *w, int idx) {
  if (w->status != 0) return;
  struct part *p = &w->m->parts[w->m->n];
  p->kind = kind_of(w->L, idx);
  if (p->kind == PART_STRING) write_string(w, p, idx);
  if (p->kind == PART_INTEGER || p->kind == PART_NUMBER) write_number(w, p, idx);
  if (p->kind == PART_SECRET) w->status = secret_carry(l_secret_test(w->L, idx), &p->u.secret);
  if (w->status == 0) w->m->n++;
}

static size_t count_parts(lua_State *L, int idx) {
  if (!lua_istable(L, idx)) return 1;
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) n += 2;
  return n;
}

int message_make(lua_State *L, int idx, size_t size, struct channels *all, struct channel_item **out) {
  if (size > MESSAGE_MAX) return UV_E2BIG;
  if (!channels_charge(all, size)) return ERR_LIMIT;
  struct message *m = must_malloc(size);
  idx = lua_absindex(L, idx);
  *m = (struct message){.item.free = on_free, .all = all, .size = size, .table = lua_istable(L, idx)};
  struct writer w = {L, m, (char *)(m->parts + count_parts(L, idx)), 0};
  if (!m->table) write_part(&w, idx);
  if (m->table) {
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
      write_part(&w, -2);
      write_part(&w, -1);
    }
    m->listed = lua_rawlen(L, idx);
    if (m->listed > m->n / 2) m->listed = m->n / 2;
  }
  *out = &m->item;
  if (w.status != 0) on_free(&m->item);
  return w.status;
}

/* --- back --- */

static void push_part(lua_State *L, const struct part *p) {
  switch (p->kind) {
    case PART_FALSE: lua_pushboolean(L, 0); break;
    case PART_TRUE: lua_pushboolean(L, 1); break;
    case PART_INTEGER: lua_pushinteger(L, p->u.integer); break;
    case PART_NUMBER: lua_pushnumber(L, p->u.number); break;
    case PART_STRING: lua_pushlstring(L, p->u.string.p, p->u.string.n); break;
    case PART_SECRET:
      secret_at_home(p->u.secret, &vm_services(vm_of(L))->mailbox);
      l_secret_push(L, secret_ref(p->u.secret));
      break;
  }
}

static void push_table(lua_State *L, const struct message *m) {
  luaL_checkstack(L, 8, NULL);
  lua_createtable(L, (int)m->listed, (int)(m->n / 2 - m->listed)); /* MESSAGE_MAX bounds both */
  for (size_t i = 0; i < m->n; i += 2) {
    push_part(L, &m->parts[i]);
    push_part(L, &m->parts[i + 1]);
    lua_rawset(L, -3);
  }
}

void message_push(lua_State *L, struct channel_item *item) {
  struct message *m = message_of(item);
  if (m->table)
    push_table(L, m);
  else
    push_part(L, &m->parts[0]);
  on_free(item);
}

int message_failure(lua_State *L, int code, const char *what) {
  if (code == UV_E2BIG) return arg_failure(L, ERR_LIMIT, "%s: a message is at most %d KiB", what, MESSAGE_MAX / 1024);
  if (code == ERR_LIMIT)
    return arg_failure(L, code, "%s: the messages of this process take %d MiB, which is their limit", what,
                       CHANNEL_BYTES_MAX >> 20);
  return push_failure(L, code, what);
}
