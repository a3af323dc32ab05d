/* main.c: the program's entry; everything is in ops/cli.c. */
#include "base/log.h"
#include "base/secmem.h"
#include "ops/cli.h"

static void on_unlocked(void) {
  log_warn("memory for secrets cannot be locked and may reach swap: raise the limit on locked memory (ulimit -l)");
}

int main(int argc, char **argv) {
  secmem_on_unlocked(on_unlocked);
  return cli_main(argc, argv);
}
