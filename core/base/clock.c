/* clock.c: clock_gettime for the four clocks. Any thread. */
#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

static struct timespec now(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) abort(); /* only for a clock that the kernel does not have */
  return t;
}
static int64_t now_ms(clockid_t clock) {
  struct timespec t = now(clock);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_boot_ms(void) { return now_ms(CLOCK_BOOTTIME); }
int64_t clock_wall_ms(void) { return now_ms(CLOCK_REALTIME); }
static int64_t now_us(clockid_t clock) {
  struct timespec t = now(clock);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
int64_t clock_mono_us(void) { return now_us(CLOCK_MONOTONIC); }
int64_t clock_thread_us(void) { return now_us(CLOCK_THREAD_CPUTIME_ID); }
