/* sandbox_table.c: table.insert, remove, move, concat, unpack and sort.
 *
 * The stock ones loop in C, where no instruction is counted, over as many elements as __len or the arguments say: table.move({}, 1, 2^53, 2) would
 * hold its thread for years. These do the same as Lua 5.4's manual says (6.6) and burn the time budget at every element; pack, which is bounded
 * by the stack, stays. Owned by the VM's thread. */
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>

#include "lua/l_secret.h"
#include "lua/sandbox.h"
#include "lua/vm.h"
#include "lua/vm_internal.h"

enum { NEEDS_READ = 1, NEEDS_WRITE = 2, NEEDS_LENGTH = 4 };

static bool has_metafield(lua_State *L, int idx, const char *name) {
  if (luaL_getmetafield(L, idx, name) == LUA_TNIL) return false;
  lua_pop(L, 1);
  return true;
}

/* A table, or what behaves like one. */
static void check_table(lua_State *L, int idx, int needs) {
  if (lua_istable(L, idx)) return;
  bool like = ((needs & NEEDS_READ) == 0 || has_metafield(L, idx, "__index")) &&
              ((needs & NEEDS_WRITE) == 0 || has_metafield(L, idx, "__newindex")) &&
              ((needs & NEEDS_LENGTH) == 0 || has_metafield(L, idx, "__len"));
  if (!like) luaL_checktype(L, idx, LUA_TTABLE);
}

static lua_Integer length(lua_State *L, int idx, int needs) {
  check_table(L, idx, needs | NEEDS_LENGTH);
  return luaL_len(L, idx);
}

static inline void burn(lua_State *L) { budget_burn(L, &vm_at(L)->budget, 1); }

/* --- insert, remove, move --- */

static int l_insert(lua_State *L) {
  lua_Integer end =
      (lua_Integer)((lua_Unsigned)length(L, 1, NEEDS_READ | NEEDS_WRITE) + 1); /* first free; wraps as in stock Lua */
  lua_Integer at = end;
  if (lua_gettop(L) == 3) {
    at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, (lua_Unsigned)at - 1u < (lua_Unsigned)end, 2, "position out of bounds");
    for (lua_Integer i = end; i > at; i--) {
      burn(L);
      lua_geti(L, 1, i - 1);
      lua_seti(L, 1, i);
    }
  } else if (lua_gettop(L) != 2) {
    return luaL_error(L, "wrong number of arguments to 'insert'");
  }
  lua_seti(L, 1, at);
  return 0;
}

static int l_remove(lua_State *L) {
  lua_Integer size = length(L, 1, NEEDS_READ | NEEDS_WRITE);
  lua_Integer at = luaL_optinteger(L, 2, size);
  if (at != size) luaL_argcheck(L, (lua_Unsigned)at - 1u <= (lua_Unsigned)size, 2, "position out of bounds");
  lua_geti(L, 1, at);
  for (; at < size; at++) {
    burn(L);
    lua_geti(L, 1, at + 1);
    lua_seti(L, 1, at);
  }
  lua_pushnil(L);
  lua_seti(L, 1, at);
  return 1;
}

static void move_up(lua_State *L, int to, lua_Integer from, lua_Integer count, lua_Integer target) {
  for (lua_Integer i = 0; i < count; i++) {
    burn(L);
    lua_geti(L, 1, from + i);
    lua_seti(L, to, target + i);
  }
}

static void move_down(lua_State *L, int to, lua_Integer from, lua_Integer count, lua_Integer target) {
  for (lua_Integer i = count - 1; i >= 0; i--) {
    burn(L);
    lua_geti(L, 1, from + i);
    lua_seti(L, to, target + i);
  }
}

static int l_move(lua_State *L) {
  lua_Integer from = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3), target = luaL_checkinteger(L, 4);
  int to = lua_isnoneornil(L, 5) ? 1 : 5;
  check_table(L, 1, NEEDS_READ);
  check_table(L, to, NEEDS_WRITE);
  if (last >= from) {
    luaL_argcheck(L, from > 0 || last < LUA_MAXINTEGER + from, 3, "too many elements to move");
    lua_Integer count = last - from + 1;
    luaL_argcheck(L, target <= LUA_MAXINTEGER - count + 1, 4, "destination wrap around");
    bool apart = target > last || target <= from || (to != 1 && !lua_compare(L, 1, to, LUA_OPEQ));
    if (apart)
      move_up(L, to, from, count, target);
    else
      move_down(L, to, from, count, target);
  }
  lua_pushvalue(L, to);
  return 1;
}

/* --- concat --- */

static void add_element(lua_State *L, luaL_Buffer *b, lua_Integer i) {
  burn(L);
  lua_geti(L, 1, i);
  if (lua_isuserdata(L, -1) && l_secret_test(L, -1) != NULL)
    luaL_error(L, "a secret or token at index %I in table for 'concat': join them with .., which keeps them opaque",
               (LUAI_UACINT)i);
  if (!lua_isstring(L, -1))
    luaL_error(L, "invalid value (%s) at index %I in table for 'concat'", luaL_typename(L, -1), (LUAI_UACINT)i);
  luaL_addvalue(b);
}

static int l_concat(lua_State *L) {
  luaL_Buffer b;
  size_t nsep;
  lua_Integer last = length(L, 1, NEEDS_READ);
  const char *sep = luaL_optlstring(L, 2, "", &nsep);
  lua_Integer i = luaL_optinteger(L, 3, 1);
  last = luaL_optinteger(L, 4, last);
  luaL_buffinit(L, &b);
  for (; i < last; i++) {
    add_element(L, &b, i);
    luaL_addlstring(&b, sep, nsep);
  }
  if (i == last) add_element(L, &b, i);
  luaL_pushresult(&b);
  return 1;
}

/* --- unpack --- */

static int l_unpack(lua_State *L) {
  lua_Integer i = luaL_optinteger(L, 2, 1);
  lua_Integer last = luaL_opt(L, luaL_checkinteger, 3, luaL_len(L, 1));
  if (i > last) return 0;
  lua_Unsigned n = (lua_Unsigned)last - (lua_Unsigned)i;
  if (n >= (lua_Unsigned)INT_MAX || !lua_checkstack(L, (int)++n)) return luaL_error(L, "too many results to unpack");
  budget_burn(L, &vm_at(L)->budget, (size_t)n / 4);
  for (; i < last; i++) lua_geti(L, 1, i);
  lua_geti(L, 1, last);
  return (int)n;
}

/* --- sort: quicksort of ranges, the shorter one by recursion, with the median of three as the pivot; short ranges by insertion.
 * The order may be nonsense (a script's function), so no scan trusts it to stop. The table is argument 1, the order argument 2. --- */

enum { SORT_SHORT = 12 };

/* Is the value at index a before the one at b? */
static bool before(lua_State *L, int a, int b) {
  burn(L);
  if (lua_isnil(L, 2)) return lua_compare(L, a, b, LUA_OPLT);
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, a);
  lua_pushvalue(L, b);
  lua_call(L, 2, 1);
  bool yes = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return yes;
}

static void sort_short(lua_State *L, lua_Integer lo, lua_Integer hi) {
  for (lua_Integer i = lo + 1; i <= hi; i++) {
    lua_Integer j = i;
    lua_geti(L, 1, i);
    for (; j > lo; j--) {
      lua_geti(L, 1, j - 1);
      if (!before(L, -2, -1)) {
        lua_pop(L, 1);
        break;
      }
      lua_seti(L, 1, j);
    }
    lua_seti(L, 1, j);
  }
}

/* Puts the elements at a and b in order. */
static void order_two(lua_State *L, lua_Integer a, lua_Integer b) {
  lua_geti(L, 1, a);
  lua_geti(L, 1, b);
  if (before(L, -1, -2)) {
    lua_seti(L, 1, a);
    lua_seti(L, 1, b);
  } else {
    lua_pop(L, 2);
  }
}

/* Leaves the first element from `at` in direction `step` that is not on its side of the pivot (top of the stack) above it; returns where it is. */
static lua_Integer scan(lua_State *L, lua_Integer at, lua_Integer end, int step) {
  for (;; at += step) {
    lua_geti(L, 1, at);
    if (step > 0 ? !before(L, -1, -2) : !before(L, -2, -1)) return at;
    if (at == end) luaL_error(L, "invalid order function for sorting");
    lua_pop(L, 1);
  }
}

static lua_Integer partition(lua_State *L, lua_Integer lo, lua_Integer hi) {
  lua_Integer mid = lo + (hi - lo) / 2;
  order_two(L, lo, mid);
  order_two(L, mid, hi);
  order_two(L, lo, mid);
  lua_geti(L, 1, mid);
  lua_Integer i = lo, j = hi;
  for (;;) {
    i = scan(L, i + 1, hi, 1);
    lua_insert(L, -2); /* below the pivot */
    j = scan(L, j - 1, lo, -1);
    if (i >= j) {
      lua_pop(L, 3);
      return j;
    }
    lua_seti(L, 1, i);
    lua_insert(L, -2); /* the pivot, the element that was at i */
    lua_seti(L, 1, j);
  }
}

static void sort_range(lua_State *L, lua_Integer lo, lua_Integer hi) {
  while (hi - lo >= SORT_SHORT) {
    luaL_checkstack(L, 20, "the order is too deep");
    lua_Integer mid = partition(L, lo, hi);
    if (mid - lo < hi - mid) {
      sort_range(L, lo, mid);
      lo = mid + 1;
    } else {
      sort_range(L, mid + 1, hi);
      hi = mid;
    }
  }
  sort_short(L, lo, hi);
}

static int l_sort(lua_State *L) {
  lua_Integer n = length(L, 1, NEEDS_READ | NEEDS_WRITE);
  if (n < 2) return 0;
  luaL_argcheck(L, n < INT_MAX, 1, "array too big");
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  sort_range(L, 1, n);
  return 0;
}

static const luaL_Reg functions[] = {{"insert", l_insert}, {"remove", l_remove}, {"move", l_move}, {"concat", l_concat},
                                     {"sort", l_sort},     {"unpack", l_unpack}, {NULL, NULL}};

void sandbox_open_table(lua_State *L) {
  luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 1);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}
