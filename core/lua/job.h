/* job.h: a function of the script that C starts: spawn, every, file.watch. The handle that the script gets is the job. */
#ifndef JETON_LUA_JOB_H
#define JETON_LUA_JOB_H

#include <lua.h>
#include <stdbool.h>

struct job;

/* Starts a job again and again (a timer, a watch). Owned by the job until `end`, which frees it, at once or when its handles are closed. */
struct job_source {
  struct job *job; /* set by job_push; NULL once the job has ended */
  void (*end)(struct job_source *s);
};

/* Raises while the policy's file is loading: it only declares. */
void job_check_loading(lua_State *L, const char *what);
/* Pushes a handle for the function at `fn` and the `nargs` values behind it, at the top. kind is static: "spawn", "every", "watch".
 * With a source the handle is kept alive until it is cancelled or the VM ends. Raises without having taken over the source. */
struct job *job_push(lua_State *L, const char *kind, int fn, int nargs, struct job_source *source);
/* Starts the function of the handle at idx in a task of its own. */
void job_start(lua_State *L, int idx);
/* From a source's callback: starts the function, unless its last run has not ended: then nothing happens and this is false. */
bool job_fire(struct job *j);

#endif
