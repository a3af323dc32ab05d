/* budget.c: see budget.h.
 *
 * When the time is over the hook raises, and is armed again at one instruction: a pcall that catches the error cannot go on, nor can a to-be-closed
 * variable of the unwinding stack. The functions that catch errors in C (pcall, xpcall, coroutine.resume, load: sandbox*.c) raise it again. An error
 * from a hook leaves the hook of a coroutine that died of it off for good: such a coroutine never runs again (task.c, sandbox_coroutine.c).
 *
 * Owned by the VM's thread. */
#include "lua/budget.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

void lua_place(lua_State *L, char out[PLACE_SIZE]) {
  lua_Debug ar;
  out[0] = '\0';
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline <= 0) continue;
    (void)snprintf(out, PLACE_SIZE, "%s:%d", ar.short_src, ar.currentline);
    return;
  }
}

void lua_place_of(lua_State *L, int fn, char out[PLACE_SIZE]) {
  lua_Debug ar;
  out[0] = '\0';
  if (!lua_checkstack(L, 1) || lua_rawgeti(L, LUA_REGISTRYINDEX, fn) != LUA_TFUNCTION) return;
  lua_getinfo(L, ">S", &ar);
  (void)snprintf(out, PLACE_SIZE, "%s:%d", ar.short_src, ar.linedefined);
}

void budget_text(const struct budget *b, char *out, size_t n) {
  if (b->limit_us % 1000 == 0)
    (void)snprintf(out, n, "%lld ms", (long long)(b->limit_us / 1000));
  else
    (void)snprintf(out, n, "%lld us", (long long)b->limit_us);
}

/* The cheap clock first, which is never behind the other. */
static bool time_is_over(const struct budget *b, int64_t now) {
  return now - b->start_us >= b->limit_us && clock_thread_us() - b->start_thread_us >= b->limit_us;
}

bool budget_spent(struct budget *b) {
  b->fuel = b->count == BUDGET_COUNT ? BUDGET_FUEL : (uint32_t)b->count;
  if (b->over) return true;
  if (b->limit_us <= 0 || b->depth == 0) return false;
  int64_t now = clock_mono_us();
  if (b->start_us == 0) {
    b->start_us = now;
    b->start_thread_us = clock_thread_us();
  } else {
    b->over = time_is_over(b, now);
  }
  return b->over;
}

void budget_on_count(lua_State *L, struct budget *b) {
  if (b->depth == 0) return;
  if (budget_spent(b)) budget_raise(L, b);
  /* a coroutine that was suspended in another run may check more often, or at each instruction */
  budget_keep_pace(L, b);
}

void budget_arm(lua_State *L, const struct budget *b) { lua_sethook(L, b->hook, LUA_MASKCOUNT, BUDGET_COUNT); }

void budget_keep_pace(lua_State *L, const struct budget *b) {
  if (lua_gethookcount(L) != b->count) lua_sethook(L, b->hook, LUA_MASKCOUNT, b->count);
}

/* lua_sethook stores four fields and marks the frames that run: it may be called at any moment, as from a signal. */
void budget_hurry(lua_State *L, struct budget *b, int count) {
  if (count >= b->count) return;
  b->count = count;
  if (b->fuel > (uint32_t)count) b->fuel = (uint32_t)count;
  budget_keep_pace(L, b);
}

int budget_raise(lua_State *L, struct budget *b) {
  char place[PLACE_SIZE], limit[32];
  lua_place(L, place);
  if (b->place[0] == '\0') memcpy(b->place, place, sizeof place);
  b->count = 1;
  budget_keep_pace(L, b);
  budget_text(b, limit, sizeof limit);
  lua_pushfstring(L, "%s%stime budget of %s exceeded", place, place[0] != '\0' ? ": " : "", limit);
  return lua_error(L);
}

void budget_check(lua_State *L, struct budget *b) {
  if (b->depth > 0 && budget_spent(b)) budget_raise(L, b);
}
