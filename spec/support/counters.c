/* counters.c: a library for LD_PRELOAD that counts what a program asks of the system, for spec/proxy/cost_spec.lua.
 *
 * $COUNTERS names a file of `enum counter` 64-bit numbers, which is mapped: whoever wants to know reads it while the program runs. All threads
 * count together. glibc's own names serve for allocation, since dlsym itself allocates; the others are looked up at their first use, and two
 * threads that do so at once store the same address. */
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum counter {
  READS,
  WRITES,
  EPOLL_CTLS,
  EPOLL_WAITS,
  ALLOCATIONS,
  TIMERS,
  LOCKS,
  CLOCKS,
  SPLICES,
  NODELAYS,
  COUNTERS
};

static _Atomic uint64_t unmapped[COUNTERS];
static _Atomic uint64_t *counters = unmapped;

static void count(enum counter c) { atomic_fetch_add_explicit(&counters[c], 1, memory_order_relaxed); }

__attribute__((constructor)) static void map_counters(void) {
  const char *path = getenv("COUNTERS");
  int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *p = mmap(NULL, sizeof unmapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  (void)close(fd);
  if (p != MAP_FAILED) counters = p;
}

/* The function behind this one. The address is kept in the caller's static, as data: ISO C has no other way from dlsym to a function. */
static void *behind(void *_Atomic *kept, const char *name) {
  void *p = atomic_load_explicit(kept, memory_order_relaxed);
  if (p == NULL) {
    p = dlsym(RTLD_NEXT, name);
    atomic_store_explicit(kept, p, memory_order_relaxed);
  }
  return p;
}

#define COUNTED(counter, type, name, parameters, arguments) \
  type name parameters {                                    \
    static void *_Atomic kept;                              \
    void *found = behind(&kept, #name);                     \
    type(*next) parameters;                                 \
    *(void **)&next = found;                                \
    count(counter);                                         \
    return next arguments;                                  \
  }

COUNTED(READS, ssize_t, read, (int fd, void *p, size_t n), (fd, p, n))
COUNTED(READS, ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))
COUNTED(READS, ssize_t, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
COUNTED(READS, ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
COUNTED(WRITES, ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
COUNTED(WRITES, ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
COUNTED(WRITES, ssize_t, send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
COUNTED(WRITES, ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
COUNTED(EPOLL_CTLS, int, epoll_ctl, (int e, int op, int fd, struct epoll_event *ev), (e, op, fd, ev))
COUNTED(EPOLL_WAITS, int, epoll_wait, (int e, struct epoll_event *v, int n, int ms), (e, v, n, ms))
COUNTED(EPOLL_WAITS, int, epoll_pwait, (int e, struct epoll_event *v, int n, int ms, const sigset_t *s),
        (e, v, n, ms, s))
COUNTED(SPLICES, ssize_t, splice, (int from, loff_t *at, int to, loff_t *there, size_t n, unsigned flags),
        (from, at, to, there, n, flags))
COUNTED(TIMERS, int, uv_timer_start, (uv_timer_t * t, uv_timer_cb cb, uint64_t ms, uint64_t repeat),
        (t, cb, ms, repeat))
COUNTED(TIMERS, int, uv_timer_stop, (uv_timer_t * t), (t))
COUNTED(TIMERS, int, uv_timer_again, (uv_timer_t * t), (t))
COUNTED(LOCKS, int, pthread_mutex_lock, (pthread_mutex_t * m), (m))
COUNTED(CLOCKS, int, clock_gettime, (clockid_t id, struct timespec *t), (id, t))

int setsockopt(int fd, int level, int option, const void *p, socklen_t n) {
  static void *_Atomic kept;
  void *found = behind(&kept, "setsockopt");
  int (*next)(int, int, int, const void *, socklen_t);
  *(void **)&next = found;
  if (level == IPPROTO_TCP && option == TCP_NODELAY) count(NODELAYS);
  return next(fd, level, option, p, n);
}

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n) {
  count(ALLOCATIONS);
  return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
  count(ALLOCATIONS);
  return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
  count(ALLOCATIONS);
  return __libc_realloc(p, n);
}
