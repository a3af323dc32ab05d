/* sandbox_coroutine.c: coroutines of scripts. status, running and isyieldable are the stock ones; what makes, resumes, yields or closes is ours:
 *
 * - a task's own coroutine is resumed and closed by task.c alone, and yields only to wait;
 * - a coroutine that ended with its time budget over is marked dead, since its count hook is off for good: its to-be-closed variables never run;
 * - resume and wrap catch errors, so they ask the budget as pcall does.
 *
 * Owned by the VM's thread. */
#include <lauxlib.h>
#include <lualib.h>

#include "lua/sandbox.h"
#include "lua/vm.h"
#include "lua/vm_internal.h"

enum { RESUME_STEPS = 64 /* a resume counts as this many steps of a loop in C */ };

static lua_State *check_coroutine(lua_State *L, int idx) {
  lua_State *co = lua_tothread(L, idx);
  luaL_argexpected(L, co != NULL, idx, "coroutine");
  return co;
}

static bool is_ours(lua_State *L, lua_State *co) { return (vm_marks(co) & MARK_TASK) != 0 || co == vm_at(L)->L; }

/* --- resume --- */

static int fail(lua_State *L, const char *why) {
  lua_pushstring(L, why);
  return -1;
}

static int take_results(lua_State *L, lua_State *co, int n) {
  if (!lua_checkstack(L, n + 1)) {
    lua_pop(co, n);
    return fail(L, "too many results to resume");
  }
  lua_xmove(co, L, n);
  return n;
}

/* Resumes co with the top nargs of L. Returns how many results are on L's top, or -1 with the error there. */
static int resume(lua_State *L, lua_State *co, int nargs) {
  struct budget *b = &vm_at(L)->budget;
  int n = 0;
  if (is_ours(L, co)) return fail(L, "cannot resume a coroutine that is not the script's own");
  if ((vm_marks(co) & MARK_DEAD) != 0) return fail(L, "cannot resume dead coroutine");
  if (!lua_checkstack(co, nargs)) return fail(L, "too many arguments to resume");
  budget_burn(L, b, RESUME_STEPS);
  budget_keep_pace(co, b);
  lua_xmove(L, co, nargs);
  lua_State **running = &vm_at(L)->resumed, *outer = *running;
  *running = co;
  int status = lua_resume(co, L, nargs, &n);
  *running = outer;
  bool ended = status != LUA_OK && status != LUA_YIELD;
  if (b->over && ended) vm_mark(co, MARK_DEAD);
  if (b->over) return budget_raise(L, b);
  if (!ended) return take_results(L, co, n);
  lua_xmove(co, L, 1);
  budget_check(L, b);
  return -1;
}

static int l_resume(lua_State *L) {
  lua_State *co = check_coroutine(L, 1);
  int n = resume(L, co, lua_gettop(L) - 1);
  lua_pushboolean(L, n >= 0);
  if (n < 0) n = 1;
  lua_insert(L, -(n + 1));
  return n + 1;
}

/* --- close --- */

/* Runs the to-be-closed variables; the error, if any, is on co's top. The count of C calls does not follow from L into co in all versions of Lua 5.4. */
static int close_thread(lua_State *L, lua_State *co) {
  if (!vm_has_stack()) return luaL_error(L, "coroutines close one another too deeply");
  budget_keep_pace(co, &vm_at(L)->budget);
#if LUA_VERSION_RELEASE_NUM >= 50406
  int status = lua_closethread(co, L);
#else
  int status = lua_resetthread(co);
#endif
  budget_check(L, &vm_at(L)->budget);
  return status;
}

static const char *busy(lua_State *L, lua_State *co) { /* NULL: it may be closed */
  lua_Debug ar;
  if (co == L) return "running";
  return lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar) ? "normal" : NULL;
}

static int l_close(lua_State *L) {
  lua_State *co = check_coroutine(L, 1);
  if (is_ours(L, co)) return luaL_error(L, "cannot close a coroutine that is not the script's own");
  if (busy(L, co) != NULL) return luaL_error(L, "cannot close a %s coroutine", busy(L, co));
  if ((vm_marks(co) & MARK_DEAD) != 0) {
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "the coroutine ended with its time budget exceeded");
    return 2;
  }
  int status = close_thread(L, co);
  lua_pushboolean(L, status == LUA_OK);
  if (status == LUA_OK) return 1;
  lua_xmove(co, L, 1);
  return 2;
}

/* --- wrap --- */

static int rethrow(lua_State *L, lua_State *co) { /* the error is on L's top */
  int status = lua_status(co);
  if (status != LUA_OK && status != LUA_YIELD && (vm_marks(co) & (MARK_TASK | MARK_DEAD)) == 0) {
    lua_pushvalue(L, -1);
    lua_xmove(L, co, 1); /* closing takes it from there */
    status = close_thread(L, co);
    if (status != LUA_OK) lua_xmove(co, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int l_wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int n = resume(L, co, lua_gettop(L));
  return n >= 0 ? n : rethrow(L, co);
}

/* Pushes a coroutine of the function at 1. */
static int l_create(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  if (!vm_make_stack_room(co)) {
    lua_pushliteral(L, "not enough memory"); /* vm_failure knows it */
    return lua_error(L);
  }
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  return 1;
}

static int l_wrap(lua_State *L) {
  (void)l_create(L);
  lua_pushcclosure(L, l_wrapped, 1);
  return 1;
}

/* --- yield --- */

static int l_yield(lua_State *L) {
  if ((vm_marks(L) & MARK_TASK) != 0)
    return luaL_error(L, "coroutine.yield outside of a coroutine: to give other tasks a turn, use jeton.sleep(0)");
  return lua_yield(L, lua_gettop(L));
}

static const luaL_Reg functions[] = {{"create", l_create}, {"resume", l_resume}, {"close", l_close},
                                     {"wrap", l_wrap},     {"yield", l_yield},   {NULL, NULL}};

void sandbox_open_coroutine(lua_State *L) {
  luaL_requiref(L, LUA_COLIBNAME, luaopen_coroutine, 1);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}
