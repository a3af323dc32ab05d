/* report.c: the lines of a report about a policy. Names and messages come from the policy's author and from scripts, so control bytes are written out: a line
 * stays a line. Owned by the loader. */
#include "policy/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "policy/policy.h"

void report_init(struct report *r) {
  *r = (struct report){0};
  buf_init(&r->text);
}

void report_fini(struct report *r) {
  buf_fini(&r->text);
  policy_unref(r->refused);
}

static void add_line(struct report *r, const char *text, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint8_t c = (uint8_t)text[i];
    if (c == '\n') {
      buf_addz(&r->text, "\\n");
    } else if (c < 0x20 || c == 0x7f) {
      buf_addf(&r->text, "\\x%02x", c);
    } else {
      buf_add(&r->text, &text[i], 1);
    }
  }
  buf_addz(&r->text, "\n");
}

static void add(struct report *r, const char *fmt, va_list args) {
  char small[512];
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(small, sizeof small, fmt, args);
  if (n < 0) abort(); /* a format of ours that is wrong */
  if ((size_t)n < sizeof small) {
    add_line(r, small, (size_t)n);
  } else {
    char *large = must_malloc((size_t)n + 1);
    vsnprintf(large, (size_t)n + 1, fmt, again);
    add_line(r, large, (size_t)n);
    free(large);
  }
  va_end(again);
}

void report_problem(struct report *r, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  add(r, fmt, args);
  va_end(args);
  r->problems++;
}

void report_warning(struct report *r, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  buf_addz(&r->text, "warning: ");
  add(r, fmt, args);
  va_end(args);
  r->warnings++;
}
