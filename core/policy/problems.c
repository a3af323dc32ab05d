/* problems.c: gathers problems while a policy is read, each with its line, and hands them on sorted by line, so that everything that is wrong is reported at
 * once and in the order of the file. They lie in the policy's arena: a Lua error in between loses and leaks nothing. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/hint.h"
#include "policy/locate.h"
#include "policy/schema.h"

struct problem {
  struct problem *next; /* the one before it */
  unsigned line;        /* 0: not known */
  bool warning;
  const char *path; /* "" for the table itself */
  const char *text;
};

unsigned schema_line(struct schema *s, const struct path *at) {
  if (s->locator == NULL) s->locator = locator_new(s->arena, s->policy->sources[0].text);
  unsigned line = 0;
  for (; at != NULL && line == 0; at = at->parent) line = locator_line(s->locator, path_text(s->arena, at));
  return line;
}

static void add(struct schema *s, bool warning, unsigned line, const char *path, const char *text) {
  if (!warning && ++s->nproblems > PROBLEMS_MAX) return;
  struct problem *p = arena_alloc(s->arena, sizeof *p);
  *p = (struct problem){s->problems, line, warning, path, text};
  s->problems = p;
}

static const char *format(struct schema *s, const char *fmt, va_list args) {
  char text[1024]; /* what goes in is cut; a longer list of known keys is cut here */
  vsnprintf(text, sizeof text, fmt, args);
  return arena_dup(s->arena, str_of(text)).p;
}

void schema_problem(struct schema *s, const struct path *at, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  add(s, false, schema_line(s, at), path_text(s->arena, at).p, format(s, fmt, args));
  va_end(args);
}

void schema_warning(struct schema *s, const struct path *at, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  add(s, true, schema_line(s, at), path_text(s->arena, at).p, format(s, fmt, args));
  va_end(args);
}

void schema_problem_at(struct schema *s, unsigned line, const char *path, const char *text) {
  add(s, false, line, path, arena_dup(s->arena, str_of(text)).p);
}

void schema_warning_at(struct schema *s, unsigned line, const char *path, const char *text) {
  add(s, true, line, path, arena_dup(s->arena, str_of(text)).p);
}

void schema_expected(struct schema *s, const struct path *at, int value, const char *expected, const char *hint) {
  const char *got = hint_value(s, at, value);
  if (hint == NULL || hint_hidden(s, at, value)) {
    schema_problem(s, at, "expected %s, got %s", expected, got);
  } else {
    schema_problem(s, at, "expected %s, got %s (did you mean %s?)", expected, got, hint);
  }
}

static int by_line(const void *a, const void *b) {
  const struct problem *x = *(const struct problem *const *)a, *y = *(const struct problem *const *)b;
  if (x->line != y->line) return x->line == 0 ? 1 : y->line == 0 ? -1 : x->line < y->line ? -1 : 1;
  int order = strcmp(x->path, y->path);
  return order != 0 ? order : strcmp(x->text, y->text);
}

static void report_one(struct schema *s, struct report *r, const struct problem *p) {
  char line[16] = "";
  if (p->line > 0) snprintf(line, sizeof line, ":%u", p->line);
  const char *file = s->policy->sources[0].name, *colon = p->path[0] != '\0' ? ": " : "";
  void (*say)(struct report *, const char *, ...) = p->warning ? report_warning : report_problem;
  say(r, "%s%s: %s%s%s", file, line, p->path, colon, p->text);
}

void schema_report(struct schema *s, struct report *r) {
  size_t n = 0;
  for (struct problem *p = s->problems; p != NULL; p = p->next) n++;
  struct problem **all = arena_alloc(s->arena, (n + 1) * sizeof *all);
  n = 0;
  for (struct problem *p = s->problems; p != NULL; p = p->next) all[n++] = p;
  if (n > 1) qsort(all, n, sizeof *all, by_line);
  for (size_t i = 0; i < n; i++) report_one(s, r, all[i]);
  if (s->nproblems <= PROBLEMS_MAX) return;
  report_problem(r, "%s: and %u more", s->policy->sources[0].name, s->nproblems - PROBLEMS_MAX);
}
