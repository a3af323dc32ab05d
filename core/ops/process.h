/* process.h: the running jeton: `jeton run` and the proxy of `jeton demo`. */
#ifndef JETON_OPS_PROCESS_H
#define JETON_OPS_PROCESS_H

#include <stdbool.h>

#include "policy/load.h"

struct process_options {
  const char *policy_path;
  struct policy_overrides overrides;
  const char *control_path;
  /* It is of own_dir_make, and goes at once when a second signal ends the process; else the caller removes it. */
  bool control_in_own_dir;
  bool watch;          /* reload when a file of the policy changes */
  bool prove;          /* end with EXIT_UNAVAILABLE when tokens are not there after timeouts.prove */
  bool debug_dumpable; /* core dumps and debuggers are let in: secrets may get out */
  void (*on_ready)(void *arg,
                   const char *url); /* the first policy is active; url: of its first listener. May be NULL */
  void *arg;
};
/* Runs until it is stopped. An exit code of ops/exits.h. */
int process_run(const struct process_options *o);

#endif
