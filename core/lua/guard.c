/* guard.c: see guard.h.
 *
 * The userdata exists, with its metatable and empty, before the memory is taken: an error at any place leaks nothing. Owned by the VM's thread. */
#include "lua/guard.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/must.h"

#define GUARD "jeton.guard"

struct guard {
  void *p;
  void (*unmake)(void *p);
};

static int l_collect(lua_State *L) {
  struct guard *g = luaL_checkudata(L, 1, GUARD);
  void *p = g->p;
  g->p = NULL;
  if (p != NULL) g->unmake(p);
  return 0;
}

static const luaL_Reg metamethods[] = {{"__gc", l_collect}, {"__close", l_collect}, {NULL, NULL}};

void *guard_new(lua_State *L, size_t size, void (*unmake)(void *p)) {
  struct guard *g = lua_newuserdatauv(L, sizeof *g, 0);
  g->p = NULL;
  g->unmake = unmake;
  if (luaL_newmetatable(L, GUARD)) luaL_setfuncs(L, metamethods, 0);
  lua_setmetatable(L, -2);
  g->p = must_calloc(1, size);
  return g->p;
}

void guard_release(lua_State *L, int idx) { ((struct guard *)luaL_checkudata(L, idx, GUARD))->p = NULL; }

void guard_close(lua_State *L, int idx) {
  struct guard *g = luaL_checkudata(L, idx, GUARD);
  void *p = g->p;
  g->p = NULL;
  if (p != NULL) g->unmake(p);
}

static void unmake_buf(void *p) {
  buf_fini(p);
  free(p);
}

struct buf *guard_buf(lua_State *L) {
  struct buf *b = guard_new(L, sizeof *b, unmake_buf);
  buf_init(b);
  b->sensitive = true;
  return b;
}
