/* Tests of secmem.c: what the limit on locked memory is spent on, what threads keep of it for themselves, and what calls leave in registers. */
#include "base/secmem.h"

#include <linux/capability.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
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

enum { PIECE = 64, CHUNK = 64 * 1024, PIECES = CHUNK / PIECE };

/* A whole chunk's pieces, written to and given back. Stores the lowest address. */
static void *use_a_chunk(void *arg) {
  static void *p[PIECES];
  uintptr_t *lowest = arg;
  *lowest = UINTPTR_MAX;
  for (int i = 0; i < PIECES; i++) {
    p[i] = secmem_alloc_passing(PIECE);
    memset(p[i], 'x', PIECE);
    if ((uintptr_t)p[i] < *lowest) *lowest = (uintptr_t)p[i];
  }
  for (int i = 0; i < PIECES; i++) secmem_free_passing(p[i], PIECE);
  return NULL;
}

static void what_a_thread_keeps_comes_back_at_its_end(void) {
  pthread_t thread;
  uintptr_t chunk;
  CHECK(pthread_create(&thread, NULL, use_a_chunk, &chunk) == 0 && pthread_join(thread, NULL) == 0);
  static void *p[PIECES];
  for (int i = 0; i < PIECES; i++) {
    static const char zeros[PIECE];
    p[i] = secmem_alloc_passing(PIECE);
    CHECK((uintptr_t)p[i] >= chunk && (uintptr_t)p[i] < chunk + CHUNK);
    CHECK(memcmp(p[i], zeros, PIECE) == 0);
  }
  for (int i = 0; i < PIECES; i++) secmem_free_passing(p[i], PIECE);
}

static void sizes_of_every_class_are_their_own(void) {
  enum { SIZES = 20 };
  static const size_t sizes[SIZES] = {1,   16,  31,   32,   33,   63,   64,   65,   127,   128,
                                      129, 512, 1000, 1024, 1025, 8191, 8192, 8193, 16384, 16385};
  uint8_t *p[SIZES];
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < SIZES; i++) {
      p[i] = secmem_alloc_passing(sizes[i]);
      for (size_t k = 0; k < sizes[i]; k++) CHECK(p[i][k] == 0);
      memset(p[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < SIZES; i++) {
      for (size_t k = 0; k < sizes[i]; k++) CHECK(p[i][k] == i + 1);
      secmem_free_passing(p[i], sizes[i]);
    }
  }
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

#ifdef __x86_64__
static unsigned count(const void *bytes, size_t n, uint8_t wanted) {
  unsigned found = 0;
  for (size_t i = 0; i < n; i++) found += ((const uint8_t *)bytes)[i] == wanted;
  return found;
}

/* Fills one vector register of each kind, wipes, and says how many bytes still hold it: wiping frames may leave others. */
__attribute__((noinline, target("avx512f"))) static unsigned left_of_512(const void *text) {
  uint8_t left[3][64];
  __asm__ volatile(
      "vmovdqu64 %0, %%zmm5\n\tvmovdqu64 %0, %%zmm16\n\tvmovdqu64 %0, %%zmm31" ::"m"(*(const uint8_t(*)[64])text)
      : "xmm5", "xmm16", "xmm31");
  secmem_wipe_stack();
  __asm__ volatile("vmovdqu64 %%zmm5, %0\n\tvmovdqu64 %%zmm16, %1\n\tvmovdqu64 %%zmm31, %2"
                   : "=m"(left[0]), "=m"(left[1]), "=m"(left[2]));
  return count(left, sizeof left, *(const uint8_t *)text);
}

__attribute__((noinline)) static unsigned left_of_128(const void *text) {
  uint8_t left[2][16];
  __asm__ volatile("movdqu %0, %%xmm5\n\tmovdqu %0, %%xmm15" ::"m"(*(const uint8_t(*)[16])text) : "xmm5", "xmm15");
  secmem_wipe_stack();
  __asm__ volatile("movdqu %%xmm5, %0\n\tmovdqu %%xmm15, %1" : "=m"(left[0]), "=m"(left[1]));
  return count(left, sizeof left, *(const uint8_t *)text);
}

static void registers_hold_nothing_of_calls_that_are_over(void) {
  char text[64];
  memset(text, 'x', sizeof text);
  CHECK(left_of_128(text) == 0);
  if (__builtin_cpu_supports("avx512f")) CHECK(left_of_512(text) == 0);
}
#endif

int main(void) {
#ifdef __x86_64__
  RUN(registers_hold_nothing_of_calls_that_are_over);
#endif
  RUN(tokens_are_locked_however_many_buffers_there_are);
  RUN(what_a_thread_keeps_comes_back_at_its_end);
  RUN(sizes_of_every_class_are_their_own);
  return 0;
}
