/* l_named.c: see l_named.h. A table in the registry, by metatable's name, maps names to handles. Owned by the VM's thread. */
#include "lua/l_named.h"

#include <lauxlib.h>
#include <string.h>

#include "http/services.h"
#include "lua/arg.h"
#include "lua/vm.h"

enum { SUGGEST_DISTANCE = 3 };

static int l_collect(lua_State *L) {
  struct l_named *h = lua_touserdata(L, 1);
  struct named *n = h->object;
  h->object = NULL;
  if (n != NULL) named_unref(n);
  return 0;
}

static int l_tostring(lua_State *L) {
  const struct l_named *h = luaL_checkudata(L, 1, lua_tostring(L, lua_upvalueindex(1)));
  lua_pushfstring(L, "%s<%s>", lua_tostring(L, lua_upvalueindex(2)), h->object != NULL ? h->object->name : "?");
  return 1;
}

/* store:gte: upvalue 1 is what it has, 2 the type's name. */
static int l_absent(lua_State *L) {
  const char *shown = lua_tostring(L, lua_upvalueindex(2)), *near = NULL;
  if (lua_type(L, 2) == LUA_TSTRING) {
    struct str key;
    key.p = lua_tolstring(L, 2, &key.n);
    near = arg_nearest(L, lua_upvalueindex(1), key);
  }
  const char *key = luaL_tolstring(L, 2, NULL);
  if (near != NULL) return luaL_error(L, "a handle of jeton.%s has no '%s' (did you mean ':%s'?)", shown, key, near);
  return luaL_error(L, "a handle of jeton.%s has no '%s' (docs/library.md lists its methods)", shown, key);
}

/* Makes the table of methods on the top strict. */
static void guard_methods(lua_State *L, const struct l_named_type *t) {
  lua_createtable(L, 0, 1);
  lua_pushvalue(L, -2);
  lua_pushstring(L, t->shown);
  lua_pushcclosure(L, l_absent, 2);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
}

static void set_metatable(lua_State *L, const struct l_named_type *t) {
  if (luaL_newmetatable(L, t->metatable)) {
    lua_pushcfunction(L, l_collect);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, t->metatable);
    lua_pushstring(L, t->shown);
    lua_pushcclosure(L, l_tostring, 2);
    lua_setfield(L, -2, "__tostring");
    lua_newtable(L);
    luaL_setfuncs(L, t->methods, 0);
    guard_methods(L, t);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, t->shown);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

/* Pushes the table of this VM's handles of that type. */
static void push_handles(lua_State *L, const struct l_named_type *t) {
  lua_pushfstring(L, "%s handles", t->metatable);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, LUA_REGISTRYINDEX) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  lua_remove(L, -2);
}

struct str l_named_name(lua_State *L, const char *what) {
  struct str name = arg_string(L, 1, what, "name");
  if (!named_valid(name)) luaL_error(L, "%s: name: 1 to 64 letters, digits and _ . : / -", what);
  return name;
}

void *l_named_find(lua_State *L, const struct l_named_type *t, struct str name) {
  push_handles(L, t);
  lua_pushlstring(L, name.p, name.n);
  if (lua_rawget(L, -2) == LUA_TNIL) {
    lua_pop(L, 2);
    return NULL;
  }
  lua_remove(L, -2);
  return lua_touserdata(L, -1);
}

/* The nearest of the names there are, pushed, or NULL. */
static const char *nearest(lua_State *L, const struct l_named_type *t, struct str name) {
  const char *best = NULL;
  unsigned least = SUGGEST_DISTANCE;
  push_handles(L, t);
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    const char *known = lua_tostring(L, -2); /* kept by the table */
    unsigned distance = str_distance(name, str_of(known));
    if (distance < least) best = known;
    if (distance < least) least = distance;
  }
  return best;
}

static void refuse_late(lua_State *L, const struct l_named_type *t, struct str name) {
  const char *what = t->kind->what, *near = nearest(L, t, name), *n = lua_tostring(L, 1);
  if (near != NULL) luaL_error(L, "%s: the policy names no '%s' (did you mean '%s'?)", what, n, near);
  luaL_error(L, "%s: the policy names no '%s': write `local x = %s(\"%s\")` at the top of its file, and use x here",
             what, n, what, n);
}

/* The table of handles is on top. */
static void check_room(lua_State *L, const struct l_named_type *t) {
  unsigned n = 0;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) n++;
  if (n >= t->most) luaL_error(L, "%s: the policy names %d already, and may name no more", t->kind->what, (int)n);
}

void *l_named_new(lua_State *L, const struct l_named_type *t, struct str name, const void *settings) {
  if (!vm_loading(vm_of(L))) refuse_late(L, t, name);
  push_handles(L, t);
  check_room(L, t);
  lua_pushlstring(L, name.p, name.n);
  struct l_named *h = lua_newuserdatauv(L, t->size, 0);
  memset(h, 0, t->size);
  set_metatable(L, t);
  h->object = named_get(vm_services(vm_of(L))->names, t->kind, name, settings);
  lua_pushvalue(L, -1);
  lua_insert(L, -4);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  return h;
}

void *l_named_check(lua_State *L, int idx, const struct l_named_type *t) {
  struct l_named *h = idx == 1 ? arg_self(L, t->metatable) : luaL_checkudata(L, idx, t->metatable);
  if (h->object == NULL) luaL_error(L, "%s: used after its VM has closed it", t->kind->what);
  if (vm_loading(vm_of(L)))
    luaL_error(L, "%s: the top of a policy's file only declares: use it in a hook, on_start or a task", t->kind->what);
  return h;
}
