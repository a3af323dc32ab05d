/* overrides.h: settings of the command line that replace a policy's keys. Borrowed by the loader; immutable. */
#ifndef JETON_POLICY_OVERRIDES_H
#define JETON_POLICY_OVERRIDES_H

#include <stdbool.h>
#include <stddef.h>

enum { POLICY_WORKERS_MAX = 256 };
struct policy_overrides { /* applied before the keys are checked; zeroed: nothing is said */
  const char *const *listen;
  size_t nlisten;
  unsigned workers;   /* 0: not said */
  bool thorough;      /* jeton check: also warnings that take time to find */
  bool stdout_is_own; /* no access log on standard output: the demo says there what it has to say */
};

#endif
