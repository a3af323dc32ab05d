/* child.h: a child process with its standard streams captured: jeton.exec and jeton.secret.exec.
 *
 * argv, no shell, a session of its own. It ends when the child has exited and its output is read, at its time limit, or when it writes more than it
 * may; in the last two cases, and when cancelled, its process group gets SIGTERM and, GRACE later, SIGKILL. One loop's thread. */
#ifndef JETON_LUA_CHILD_H
#define JETON_LUA_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/str.h"
#include "lua/charge.h"

enum { CHILD_GRACE_MS = 1000, CHILD_LINGER_MS = 500 };

struct child_settings {
  char **argv;     /* NULL-terminated; argv[0] is looked up in PATH */
  char **env;      /* NULL: this process's */
  const char *cwd; /* NULL: this process's */
  struct str in;   /* standard input, copied; .p NULL: /dev/null */
  uint64_t timeout_ms;
  size_t out_max, err_max;
  /* taken over: input and output are charged to it until the process is done; none: they are not */
  struct charge charge;
};
struct child_result {
  int error; /* 0; UV_ENOENT and the like: it did not start; UV_ETIMEDOUT; ERR_LIMIT: more output than it may; UV_ENOMEM: more than its charge may */
  int64_t status;
  int signal;          /* 0: it exited by itself */
  struct str out, err; /* valid during done; wiped afterwards */
};
struct child;
/* done is called exactly once, from the loop, unless child_cancel comes first; the process frees itself. *s is not needed after the call. */
struct child *child_start(uv_loop_t *loop, const struct child_settings *s,
                          void (*done)(void *arg, const struct child_result *r), void *arg);
void child_cancel(struct child *p); /* not after done */

#endif
