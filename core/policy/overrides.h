/* overrides.h: settings of the command line that replace a policy's keys. Borrowed by the loader; immutable. */
#ifndef JETON_POLICY_OVERRIDES_H
#define JETON_POLICY_OVERRIDES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { POLICY_WORKERS_MAX = 256 };
/* jeton login: the policy's table is replaced by one that logs in (scripts/jeton/login.lua), whose task's end is the process's. */
struct policy_login {
  const char *what; /* NAME or NAME[KEY] of a token */
  unsigned port;    /* of this machine, free a moment ago */
  atomic_int code;  /* by the keeper, when the task has ended: an exit code */
};
struct policy_overrides { /* applied before the keys are checked; zeroed: nothing is said */
  const char *const *listen;
  size_t nlisten;
  unsigned workers;           /* 0: not said */
  struct policy_login *login; /* NULL: not said; outlives the process's threads */
  bool thorough;              /* jeton check: also warnings that take time to find */
  bool stdout_is_own;         /* no access log on standard output: the demo says there what it has to say */
};

#endif
