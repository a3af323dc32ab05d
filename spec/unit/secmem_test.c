/* Tests of secmem.c: what the limit on locked memory is spent on. */
#include "base/secmem.h"

#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

static unsigned reports[SECMEM_USES];
static void on_unlocked(enum secmem_use use) { reports[use]++; }

static long locked_kb(void) {
  char line[256];
  long kb = -1;
  FILE *f = fopen("/proc/self/status", "r");
  while (f != NULL && fgets(line, sizeof line, f) != NULL)
    if (strncmp(line, "VmLck:", 6) == 0) kb = strtol(line + 6, NULL, 10);
  if (f != NULL) (void)fclose(f);
  return kb;
}

/* As an ordinary user has it: a limit of 1 MiB that holds. */
static bool limit_locking(void) {
  struct rlimit limit = {1 << 20, 1 << 20};
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || syscall(SYS_capget, &head, data) != 0) return false;
  data[0].effective &= ~(1U << CAP_IPC_LOCK);
  return syscall(SYS_capset, &head, data) == 0;
}

/* Sanitizers make mlock do nothing. */
static bool locking_works(void) {
  long before = locked_kb();
  void *p = secmem_alloc(20000);
  bool works = locked_kb() > before;
  secmem_free(p, 20000);
  return works;
}

static void tokens_are_locked_however_many_buffers_there_are(void) {
  enum { BUFFERS = 28, SIZE = 128 * 1024 };
  void *buffers[BUFFERS], *small[BUFFERS], *token, *large;
  if (!locking_works() || !limit_locking()) return;
  secmem_on_unlocked(on_unlocked);
  for (int i = 0; i < BUFFERS; i++) buffers[i] = secmem_alloc_passing(SIZE);
  for (int i = 0; i < BUFFERS; i++) small[i] = secmem_alloc_passing(16 * 1024);
  long before = locked_kb();
  CHECK(before > 0 && before <= 512 + 64); /* the chunk of locking_works */
  CHECK(reports[SECMEM_PASSING] == 1 && reports[SECMEM_KEPT] == 0);
  token = secmem_alloc(1000);
  large = secmem_alloc(300000);
  CHECK(locked_kb() >= before + 293);
  CHECK(reports[SECMEM_KEPT] == 0);
  secmem_free(large, 300000);
  secmem_free(token, 1000);
  for (int i = 0; i < BUFFERS; i++) secmem_free_passing(buffers[i], SIZE);
  for (int i = 0; i < BUFFERS; i++) secmem_free_passing(small[i], 16 * 1024);
  large = secmem_alloc(2 << 20); /* more than there is */
  CHECK(reports[SECMEM_PASSING] == 1 && reports[SECMEM_KEPT] == 1);
  secmem_free(large, 2 << 20);
}

int main(void) {
  RUN(tokens_are_locked_however_many_buffers_there_are);
  return 0;
}
