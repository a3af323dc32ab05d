/* demo.h: `jeton demo`: issuer, upstream and proxy in one process, with no network and no configuration; with a policy of the user's, visitors too. */
#ifndef JETON_OPS_DEMO_H
#define JETON_OPS_DEMO_H

#include <stddef.h>

struct demo_options {
  const char *program;       /* as it was called: what is printed to be typed begins with it */
  const char *policy;        /* NULL: examples/demo.lua, with no visitors: its user is the visitor */
  const char *const *listen; /* NULL: 127.0.0.1:8080, or another port when that one is taken */
  size_t nlisten;
  const char *control_path; /* NULL: the default, or one of its own when a jeton answers there */
};
int demo_run(const struct demo_options *o); /* an exit code of ops/exits.h */

#endif
