/* job.c: see job.h. Owned by the VM's thread.
 *
 * The job is a userdata. While it can run it is anchored in the registry (`self`). Its task runs l_run, whose first act is to mark a userdata of its own, the
 * job's end, to-be-closed on the task's stack: so the job learns of the task's end in every case, cancellation included, where task_done is not called. It is not
 * the job itself, whose __close is the script's: a handle in a <close> variable is cancelled with it.
 * Invariant: `task` is non-NULL only while that task is suspended or running. */
#include "lua/job.h"

#include <lauxlib.h>

#include "base/err.h"
#include "base/log.h"
#include "lua/arg.h"
#include "lua/vm.h"

#define JOB "jeton.job"
#define END "jeton.job.end"

struct job {
  struct vm *vm; /* outlives its userdata */
  const char *kind;
  struct task *task;
  struct job_source *source;
  int self; /* registry reference to this userdata, or LUA_NOREF */
  int nargs;
  bool once; /* spawn: no source ever */
  bool running, ended;
};
enum { UV_ARGS = 1, UV_END, NUVALUES = UV_END }; /* user values: { run, fn, args… }, and the end */
enum { END_JOB = 1 };                            /* the end's user value: the job */

static struct job *check(lua_State *L) { return arg_self(L, JOB); }

static void unanchor(lua_State *L, struct job *j) {
  int self = j->self;
  j->self = LUA_NOREF;
  luaL_unref(L, LUA_REGISTRYINDEX, self);
}

static void end_source(struct job *j) {
  struct job_source *s = j->source;
  j->source = NULL;
  if (s == NULL) return;
  s->job = NULL;
  s->end(s);
}

/* --- in the task --- */

static int l_ran(lua_State *L, int status, lua_KContext context) {
  (void)L, (void)status, (void)context;
  return 0;
}

/* the job's end, fn, args… */
static int l_run(lua_State *L) {
  (void)luaL_checkudata(L, 1, END);
  lua_toclose(L, 1);
  lua_callk(L, lua_gettop(L) - 2, 0, 0, l_ran);
  return l_ran(L, LUA_OK, 0);
}

static int l_ended(lua_State *L) { /* __close of the end: the task is over */
  (void)luaL_checkudata(L, 1, END);
  lua_getiuservalue(L, 1, END_JOB);
  struct job *j = luaL_checkudata(L, -1, JOB);
  j->task = NULL;
  j->running = false;
  if (j->source == NULL) j->ended = true;
  return 0;
}

static int push_run(lua_State *L, void *arg) {
  struct job *j = arg;
  luaL_checkstack(L, j->nargs + 4, "a function's arguments");
  lua_rawgeti(L, LUA_REGISTRYINDEX, j->self);
  int handle = lua_gettop(L);
  lua_getiuservalue(L, handle, UV_END);
  lua_getiuservalue(L, handle, UV_ARGS);
  for (int i = 2; i <= j->nargs + 2; i++) lua_rawgeti(L, handle + 2, i);
  lua_remove(L, handle + 2);
  lua_remove(L, handle);
  return j->nargs + 2;
}

static void on_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)nresults;
  struct job *j = arg;
  j->running = false;
  j->task = NULL;
  if (status != 0 && status != ERR_CLOSED) log_from(LOG_ERROR, j->kind, "%s", message);
  if (j->source == NULL) {
    j->ended = true;
    unanchor(L, j);
  }
}

/* The reference to l_run is made for each start and given back at once: the task has it on its stack by then. */
static void start(lua_State *L, struct job *j, int run) {
  j->running = true;
  task_start(j->vm, run, push_run, on_done, j, &j->task);
  luaL_unref(L, LUA_REGISTRYINDEX, run);
}

void job_start(lua_State *L, int idx) {
  struct job *j = luaL_checkudata(L, idx, JOB);
  if (j->self == LUA_NOREF) {
    lua_pushvalue(L, idx);
    j->self = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_pushcfunction(L, l_run);
  start(L, j, luaL_ref(L, LUA_REGISTRYINDEX));
}

static int l_fire(lua_State *L) { /* under vm_call: its argument is the job */
  struct job *j = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, j->self);
  job_start(L, lua_gettop(L));
  return 0;
}

bool job_fire(struct job *j) {
  const char *message = NULL;
  if (j->running) return false;
  if (vm_call(j->vm, l_fire, j, &message) != 0) log_from(LOG_ERROR, j->kind, "%s", message);
  return true;
}

/* --- the handle --- */

/* A job with a source is not started again, and a run under way goes on. A job without one is ended where it waits. */
static int l_cancel(lua_State *L) {
  struct job *j = check(L);
  if (j->source != NULL) {
    end_source(j);
    j->ended = !j->running;
    if (!j->running) unanchor(L, j);
    return 0;
  }
  if (j->ended || !j->once) return 0;
  struct task *task = j->task;
  j->task = NULL;
  j->ended = true;
  if (task != NULL) task_cancel(task); /* itself too: then it ends where it waits next */
  unanchor(L, j);
  return 0;
}

static int l_index(lua_State *L) { /* upvalue 1: methods */
  struct job *j = check(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "done") == 0) {
    lua_pushboolean(L, j->ended);
    return 1;
  }
  return luaL_error(L, "a job has no '%s': it has done and :cancel()", luaL_tolstring(L, 2, NULL));
}

static int l_newindex(lua_State *L) {
  return luaL_error(L, "job.%s cannot be set: a job has done and :cancel()", luaL_tolstring(L, 2, NULL));
}

static int l_tostring(lua_State *L) {
  struct job *j = check(L);
  lua_pushfstring(L, "%s<%s>", j->kind, j->ended ? "done" : j->running ? "running" : "waiting");
  return 1;
}

static int l_collect(lua_State *L) {
  end_source(check(L));
  return 0;
}

static const luaL_Reg methods[] = {{"cancel", l_cancel}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {
    {"__gc", l_collect}, {"__close", l_cancel}, {"__tostring", l_tostring}, {"__newindex", l_newindex}, {NULL, NULL}};

static void set_metatable(lua_State *L) {
  if (luaL_newmetatable(L, JOB)) {
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "job");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

/* Pushes the end of the job on the top. */
static void push_end(lua_State *L) {
  (void)lua_newuserdatauv(L, 0, END_JOB);
  lua_pushvalue(L, -2);
  lua_setiuservalue(L, -2, END_JOB);
  if (luaL_newmetatable(L, END)) {
    lua_pushcfunction(L, l_ended);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
}

void job_check_loading(lua_State *L, const char *what) {
  if (vm_loading(vm_of(L)))
    luaL_error(
        L, "%s: the policy's file only declares: do it in on_start, or in one of tasks = { name = function() … end }",
        what);
}

struct job *job_push(lua_State *L, const char *kind, int fn, int nargs, struct job_source *source) {
  fn = lua_absindex(L, fn);
  struct job *j = lua_newuserdatauv(L, sizeof *j, NUVALUES);
  *j = (struct job){.vm = vm_of(L), .kind = kind, .self = LUA_NOREF, .nargs = nargs, .once = source == NULL};
  set_metatable(L);
  lua_createtable(L, nargs + 2, 0);
  for (int i = 0; i <= nargs; i++) {
    lua_pushvalue(L, fn + i);
    lua_rawseti(L, -2, i + 2);
  }
  lua_setiuservalue(L, -2, UV_ARGS);
  push_end(L);
  lua_setiuservalue(L, -2, UV_END);
  if (source == NULL) return j;
  lua_pushvalue(L, -1);
  j->self = luaL_ref(L, LUA_REGISTRYINDEX);
  j->source = source;
  source->job = j;
  return j;
}
