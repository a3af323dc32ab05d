/* thread.c: see thread.h. */
#include "base/thread.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The lowest address of this thread's stack; 0: not asked for yet. */
static _Thread_local uintptr_t lowest;

int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg) {
  pthread_attr_t attributes;
  int rc = pthread_attr_init(&attributes);
  if (rc != 0) return -rc;
  rc = pthread_attr_setstacksize(&attributes, THREAD_STACK);
  if (rc == 0) rc = pthread_create(thread, &attributes, run, arg);
  (void)pthread_attr_destroy(&attributes);
  return -rc;
}

/* Of a first thread it follows from `ulimit -s` and /proc; where these do not say, half of the usual size is taken to be below `here`. */
static uintptr_t find_lowest(uintptr_t here) {
  pthread_attr_t attributes;
  void *stack = NULL;
  size_t size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return here - THREAD_STACK / 2;
  int rc = pthread_attr_getstack(&attributes, &stack, &size);
  (void)pthread_attr_destroy(&attributes);
  return rc == 0 ? (uintptr_t)stack : here - THREAD_STACK / 2;
}

size_t thread_stack_left(void) {
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  if (lowest == 0) lowest = find_lowest(here);
  return here > lowest ? here - lowest : 0;
}

void thread_stack_trim(size_t kept) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), here = (uintptr_t)__builtin_frame_address(0);
  const uintptr_t from = (here - thread_stack_left() + page - 1) & ~(page - 1), to = (here - kept) & ~(page - 1);
  if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED); /* else they keep what they hold */
}
