/* load.h: from a policy's file to its snapshot. Control's thread. */
#ifndef JETON_POLICY_LOAD_H
#define JETON_POLICY_LOAD_H

#include "policy/overrides.h"
#include "policy/policy.h"
#include "policy/report.h"

struct vm;
/* Reads the file, runs it in `vm` (a fresh control VM), checks its table. A new reference; NULL with the problems in r. o NULL: there are none. */
struct policy *policy_load(struct vm *vm, const char *path, const struct policy_overrides *o, struct report *r);

#endif
