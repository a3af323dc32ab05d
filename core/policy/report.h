/* report.h: the report about a policy that is loaded: its problems and warnings, a line each, in the order of the file. Lines are as the user sees them:
 * `policy.lua:12: upstream: expected a URL, got "api.example.com" (did you mean "https://api.example.com"?)`. One thread's at a time. */
#ifndef JETON_POLICY_REPORT_H
#define JETON_POLICY_REPORT_H

#include "base/buf.h"

struct policy;
struct report {
  struct buf text; /* lines ended by \n */
  unsigned problems, warnings;
  struct policy *refused; /* a reference to what was loaded in vain, for its files; NULL: none */
};
void report_init(struct report *r);
void report_fini(struct report *r);
/* One line; control bytes in it are written out, so that a name or a script's message cannot begin another. */
void report_problem(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void report_warning(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* "warning: …" */

#endif
