/* main.c: the program's entry; everything is in ops/cli.c.
 *
 * The program's first thread only waits: policies are run and checked on one whose stack has a stated size, whatever `ulimit -s` says. */
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "base/secmem.h"
#include "base/thread.h"
#include "ops/cli.h"
#include "ops/exits.h"

struct program {
  int argc;
  char **argv;
  int exit_code;
};

static void on_unlocked(enum secmem_use use) {
  log_warn("memory for secrets cannot be locked and may reach swap%s: raise the limit on locked memory (ulimit -l)",
           use == SECMEM_PASSING ? " (some of the buffers that they pass through; tokens come first)" : "");
}

static void *run(void *arg) {
  struct program *p = arg;
  p->exit_code = cli_main(p->argc, p->argv);
  return NULL;
}

int main(int argc, char **argv) {
  abort_with_a_line();
  secmem_on_unlocked(on_unlocked);
  struct program p = {argc, argv, 0};
  pthread_t thread;
  int rc = thread_start(&thread, run, &p);
  if (rc != 0) {
    (void)fprintf(stderr, "jeton: its thread cannot be started: %s\n", err_text(rc));
    return exit_for(rc);
  }
  (void)pthread_join(thread, NULL);
  return p.exit_code;
}
