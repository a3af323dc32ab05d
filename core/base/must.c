/* must.c: see must.h. The line is made on the stack and written in one call: nothing here asks for memory, or takes a lock that somebody may hold. */
#include "base/must.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_abort(int signal) {
  static const char line[] =
      "jeton: ended by an abort: the system refused memory or a thread (ulimit -v, ulimit -u, a container's limit), or "
      "it is a fault of jeton's own, which the lines above may name\n";
  (void)signal;
  ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
  (void)written; /* abort goes on when this returns */
}

void abort_with_a_line(void) {
  struct sigaction act = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};
  (void)sigemptyset(&act.sa_mask);
  (void)sigaction(SIGABRT, &act, NULL);
}

_Noreturn void out_of_memory(size_t n) {
  char line[80];
  int length = snprintf(line, sizeof line, "jeton: out of memory: %zu bytes were asked for\n", n);
  ssize_t written = write(STDERR_FILENO, line, (size_t)length);
  (void)written;
  (void)signal(SIGABRT, SIG_DFL); /* it has been said */
  abort();
}

void *must_malloc(size_t n) {
  void *p = malloc(n > 0 ? n : 1);
  if (p == NULL) out_of_memory(n);
  return p;
}

void *must_calloc(size_t n, size_t size) {
  if (n == 0 || size == 0) n = size = 1;
  void *p = calloc(n, size);
  if (p == NULL) out_of_memory(size <= SIZE_MAX / n ? n * size : SIZE_MAX);
  return p;
}

void *must_realloc(void *p, size_t n) {
  void *q = realloc(p, n > 0 ? n : 1);
  if (q == NULL) out_of_memory(n);
  return q;
}

char *must_dup(struct str s) {
  char *z = must_malloc(s.n + 1);
  if (s.n > 0) memcpy(z, s.p, s.n);
  z[s.n] = '\0';
  return z;
}

void must_free(const void *p) { free((void *)(uintptr_t)p); }

char *must_strdup(const char *z) { return must_dup(str_of(z)); }
