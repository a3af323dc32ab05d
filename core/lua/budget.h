/* budget.h: how long Lua may run without giving the thread back.
 *
 * The budget is processor time, not wall time: on a busy machine a thread may wait for longer than a whole budget, and that is no script's fault. The clock is
 * read lazily: a run that ends within BUDGET_COUNT instructions reads none, and one that goes on starts its clock at the first firing of the count hook. C
 * functions that loop for long spend fuel, since no instruction is counted there.
 *
 * One instruction, or one step in C, may take as long as the VM's largest block allows, from whichever run that is. So the owner says how many there may be
 * between two checks: fewer than the above where large blocks live. Owned by the VM's thread. */
#ifndef JETON_LUA_BUDGET_H
#define JETON_LUA_BUDGET_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  BUDGET_COUNT = 1000, /* VM instructions between two checks of the clock, at the most: some 10 µs */
  BUDGET_FUEL = 4096,  /* steps of C loops between two checks, at the most: about the same time */
  PLACE_SIZE = LUA_IDSIZE + 16
};

struct budget {
  /* set by the owner: calls budget_on_count with this budget, which a hook of Lua cannot be given */
  lua_Hook hook;
  int64_t limit_us; /* 0 or less: none */
  int64_t start_us; /* of clock_mono_us; 0: the clock has not been read yet */
  int64_t start_thread_us;
  uint32_t fuel;
  int count;      /* of instructions between two checks, in this run; also of steps, when it is not BUDGET_COUNT */
  unsigned depth; /* runs that are on the C stack; the outermost one's clock counts for all */
  bool over;      /* kept until the next outermost run begins */
  char place[PLACE_SIZE]; /* "policy.lua:12" where it ended, or "" */
};

/* count: of instructions between two checks, BUDGET_COUNT at the most. */
static inline void budget_enter(struct budget *b, int count) {
  if (b->depth++ > 0) return;
  b->start_us = 0;
  b->fuel = count == BUDGET_COUNT ? BUDGET_FUEL : (uint32_t)count;
  b->count = count;
  b->over = false;
}
static inline void budget_leave(struct budget *b) { b->depth--; }

/* Sets the count hook on L; coroutines that L makes inherit it. */
void budget_arm(lua_State *L, const struct budget *b);
/* The count hook: raises when the time is over. */
void budget_on_count(lua_State *L, struct budget *b);
/* From here on this run checks the clock every `count` instructions, unless it does more often already. L is what runs. May be called by the allocator. */
void budget_hurry(lua_State *L, struct budget *b, int count);
/* Makes L check as often as this run does. Call it before L is resumed. */
void budget_keep_pace(lua_State *L, const struct budget *b);
/* Checks the clock without touching Lua. True when the time is over, or was before. */
bool budget_spent(struct budget *b);
/* Checks the clock and raises when the time is over. For C functions. */
void budget_check(lua_State *L, struct budget *b);
/* n steps of a loop in C: checks the clock every BUDGET_FUEL of them. */
static inline void budget_burn(lua_State *L, struct budget *b, size_t n) {
  if (n < b->fuel)
    b->fuel -= (uint32_t)n;
  else
    budget_check(L, b);
}
/* Raises the budget's error, from any C function. Functions that catch errors call it, so that none swallows this one. */
int budget_raise(lua_State *L, struct budget *b);
/* "50 ms" */
void budget_text(const struct budget *b, char *out, size_t n);

/* "policy.lua:12" of the innermost Lua function that runs on L, or "". Takes no memory. */
void lua_place(lua_State *L, char out[PLACE_SIZE]);
/* The same of the function at reference fn, where it begins. */
void lua_place_of(lua_State *L, int fn, char out[PLACE_SIZE]);

#endif
