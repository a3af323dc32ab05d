/* steady.c: a library for LD_PRELOAD under callgrind, which takes away what differs from run to run and from build to build.
 *
 * The seed of Lua's string hashes: collisions differ from seed to seed, by two or three per cent of a request. Lua mixes it (luai_makeseed) of time(), of the address of the
 * state, of a local variable's and of lua_newstate's. So time() stands still here (jeton itself asks clock_gettime), the state lies at an address of ours, and lua_newstate, which is
 * this one, runs on a stack of ours.
 *
 * The collector: a cycle takes as many instructions as some hundreds of requests, and comes by the clock (the worker takes a step of it now and then) as well as by what was
 * allocated; whether a run has one more is chance. So it stands still, and what it would have freed is freed when the state is closed: making and freeing an object is counted,
 * marking those that live is not.
 *
 * What is declared here is as in lua.h of Lua 5.4. */
#include <assert.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

struct lua_State;
typedef void *alloc_fn(void *ud, void *ptr, size_t osize, size_t nsize);
typedef struct lua_State *newstate_fn(alloc_fn *alloc, void *ud);
typedef alloc_fn *getallocf_fn(struct lua_State *L, void **ud);
typedef void setallocf_fn(struct lua_State *L, alloc_fn *alloc, void *ud);
typedef int gc_fn(struct lua_State *L, int what, ...);
typedef void close_fn(struct lua_State *L);
struct lua_State *lua_newstate(alloc_fn *alloc, void *ud);
int lua_gc(struct lua_State *L, int what, ...);
void lua_close(struct lua_State *L);

/* Each state has a place of STATE bytes and one of STACK bytes behind it, from BASE on, where neither a program nor valgrind puts anything. */
enum { STATE = 0x10000, STACK = 0x40000, ROOM = STATE + STACK, STATES_MAX = 256 };
enum { GC_STOP = 0, GC_COUNT = 3, GC_COUNTB = 4, GC_ISRUNNING = 9 };
static const uintptr_t BASE = 0x600000000;
static atomic_uint nstates;

static void *original(const char *name) {
  void *fn = dlsym(RTLD_NEXT, name);
  assert(fn != NULL);
  return fn;
}

time_t time(time_t *t) {
  const time_t always = 1000000000;
  if (t != NULL) *t = always;
  return always;
}

struct making {
  alloc_fn *alloc;
  void *ud;
  char *place; /* the first block's, which is the state's own */
  bool placed;
  struct lua_State *made;
};

static void *alloc_first(void *ud, void *ptr, size_t osize, size_t nsize) {
  struct making *m = ud;
  if (m->placed) return m->alloc(m->ud, ptr, osize, nsize);
  assert(ptr == NULL && nsize <= STATE);
  m->placed = true;
  return m->place;
}

static _Thread_local struct making *making;

static void make(void) {
  struct making *m = making;
  newstate_fn *newstate = (newstate_fn *)original("lua_newstate");
  m->made = newstate(alloc_first, m);
}

struct lua_State *lua_newstate(alloc_fn *alloc, void *ud) {
  const unsigned n = atomic_fetch_add(&nstates, 1);
  assert(n < STATES_MAX);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  char *room = mmap((void *)(BASE + (uintptr_t)n * ROOM), ROOM, PROT_READ | PROT_WRITE, flags, -1, 0);
  assert(room != MAP_FAILED);
  struct making m = {.alloc = alloc, .ud = ud, .place = room};
  making = &m;
  ucontext_t here, there;
  (void)getcontext(&there);
  there.uc_stack.ss_sp = room + STATE;
  there.uc_stack.ss_size = STACK;
  there.uc_link = &here;
  makecontext(&there, make, 0);
  (void)swapcontext(&here, &there);
  if (m.made == NULL) return NULL;
  setallocf_fn *setallocf = (setallocf_fn *)original("lua_setallocf");
  setallocf(m.made, alloc, ud);
  (void)lua_gc(m.made, GC_STOP);
  return m.made;
}

/* Answers what is asked, and stops; it neither steps nor collects. */
int lua_gc(struct lua_State *L, int what, ...) {
  gc_fn *gc = (gc_fn *)original("lua_gc");
  return what == GC_STOP || what == GC_COUNT || what == GC_COUNTB || what == GC_ISRUNNING ? gc(L, what) : 0;
}

/* --- the end: the state's own block is not the allocator's --- */

struct closing {
  alloc_fn *alloc;
  void *ud;
};

static void *alloc_last(void *ud, void *ptr, size_t osize, size_t nsize) {
  const struct closing *c = ud;
  const bool ours = (uintptr_t)ptr >= BASE && (uintptr_t)ptr < BASE + (uintptr_t)STATES_MAX * ROOM;
  return ours ? NULL : c->alloc(c->ud, ptr, osize, nsize);
}

void lua_close(struct lua_State *L) {
  getallocf_fn *getallocf = (getallocf_fn *)original("lua_getallocf");
  setallocf_fn *setallocf = (setallocf_fn *)original("lua_setallocf");
  close_fn *close = (close_fn *)original("lua_close");
  struct closing c;
  c.alloc = getallocf(L, &c.ud);
  setallocf(L, alloc_last, &c);
  close(L);
}
