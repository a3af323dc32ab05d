/* secmem.c: an allocator of its own for secrets.
 *
 * Small pieces come from size classes (powers of two) cut out of 64 KiB chunks; freed pieces go to their class's list
 * and chunks are never given back, so what is locked is bounded by the most that was in use at once. Large pieces are mapped one by one.
 * Every page is locked, left out of core dumps and zero in a child. A free piece is all zero but for the pointer to the
 * next one. One mutex guards the lists; it is held for a few stores, or for one mmap.
 *
 * Of what secrets pass through each thread keeps a few freed pieces of each class for itself, and takes no lock for these: a request towards a server of HTTP/2 has the library ask for some
 * twenty. They are as wiped as the others, and go back to the lists when the thread ends.
 *
 * What secrets pass through has chunks of its own, and takes a half of the limit at the most. Buffers are there before the first token, 272 KiB for each thread, and
 * later as many as there are connections; without a share they would have all of an ordinary limit of 8 MiB, and tokens would lie in pages that may be swapped. */
#include "base/secmem.h"

#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/must.h"
#include "base/thread.h"

enum { CLASS_MIN_BITS = 5, CLASS_MAX_BITS = 14, CLASSES = CLASS_MAX_BITS - CLASS_MIN_BITS + 1, CHUNK = 64 * 1024 };
enum { STACK_WIPED = 32 * 1024, STACK_KEPT = 24 * 1024 /* less, since pages do not begin where frames do */ };

struct piece {
  struct piece *next;
};

static struct {
  pthread_mutex_t lock;                     /* held for a list operation, or while new pages are mapped */
  struct piece *free[SECMEM_USES][CLASSES]; /* guarded by lock */
  void (*on_unlocked)(enum secmem_use use); /* set before there are other threads */
  atomic_flag told[SECMEM_USES];            /* it has been called */
  atomic_size_t passing;                    /* bytes mapped for SECMEM_PASSING, locked or not; relaxed */
  atomic_size_t share;                      /* how many of them may be locked; 0: not asked yet; relaxed */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = {ATOMIC_FLAG_INIT, ATOMIC_FLAG_INIT}};

/* A thread's own. Invariant: piece[c] has n[c] pieces, of SECMEM_PASSING, and no more than OWN_BYTES of each class and OWN_MOST in number. */
enum { OWN_BYTES = 8 * 1024, OWN_MOST = 32 };
static _Thread_local struct own {
  struct piece *free[CLASSES];
  uint8_t n[CLASSES];
  bool ends; /* the thread's end will give them back */
} own;
static pthread_key_t own_key;
static pthread_once_t own_once = PTHREAD_ONCE_INIT;

void secmem_on_unlocked(void (*fn)(enum secmem_use use)) { heap.on_unlocked = fn; }

/* It may be called under the lock and must ask for no memory here: it logs. */
static void report_unlocked(enum secmem_use use) {
  if (heap.on_unlocked != NULL && !atomic_flag_test_and_set(&heap.told[use])) heap.on_unlocked(use);
}

/* The limit does not bind who has CAP_IPC_LOCK. */
static bool is_limited(void) {
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  if (syscall(SYS_capget, &head, data) != 0) return true;
  return (data[CAP_IPC_LOCK / 32].effective & (1U << CAP_IPC_LOCK % 32)) == 0;
}

static size_t ask_share(void) {
  struct rlimit limit;
  if (!is_limited() || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur > SIZE_MAX / 2) return SIZE_MAX;
  return (size_t)limit.rlim_cur / 2 + 1;
}

/* Any thread that asks first gets the same answer. */
static size_t share_of_passing(void) {
  size_t share = atomic_load_explicit(&heap.share, memory_order_relaxed);
  if (share == 0) {
    share = ask_share();
    atomic_store_explicit(&heap.share, share, memory_order_relaxed);
  }
  return share;
}

static bool is_within_share(size_t size) {
  size_t before = atomic_fetch_add_explicit(&heap.passing, size, memory_order_relaxed);
  return size < share_of_passing() && before < share_of_passing() - size;
}

static void lock_pages(void *p, size_t size, enum secmem_use use) {
  bool may = use == SECMEM_KEPT || is_within_share(size);
  if (!may || mlock(p, size) != 0) report_unlocked(use);
}

static void *map_pages(size_t size, enum secmem_use use) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) out_of_memory(size);
  madvise(p, size, MADV_DONTDUMP);
  madvise(p, size, MADV_WIPEONFORK);
  lock_pages(p, size, use);
  return p;
}

static void unmap_pages(void *p, size_t size, enum secmem_use use) {
  munmap(p, size);
  if (use == SECMEM_PASSING) atomic_fetch_sub_explicit(&heap.passing, size, memory_order_relaxed);
}

static size_t page_round(size_t n) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (n + page - 1) / page * page;
}

static bool is_large(size_t n) { return n > (size_t)1 << CLASS_MAX_BITS; }

/* The smallest c with 2^(CLASS_MIN_BITS + c) >= n. */
static unsigned class_of(size_t n) {
  unsigned bits = n > 1 ? (unsigned)(64 - __builtin_clzl(n - 1)) : 0;
  return bits > CLASS_MIN_BITS ? bits - CLASS_MIN_BITS : 0;
}
_Static_assert(sizeof(size_t) == sizeof(long) && sizeof(long) == 8, "the bits that class_of counts");

static void push(struct piece **list, struct piece *p) {
  p->next = *list;
  *list = p;
}

/* Cuts a new chunk into pieces of class c. The lock is held. */
static void refill(unsigned c, enum secmem_use use) {
  size_t size = (size_t)1 << (CLASS_MIN_BITS + c);
  char *chunk = map_pages(CHUNK, use);
  for (size_t at = CHUNK; at > 0; at -= size) {
    push(&heap.free[use][c], (struct piece *)(void *)(chunk + at - size));
  }
}

/* Runs when the thread ends; what other destructors free behind it makes the next round call it again. */
static void own_end(void *arg) {
  struct own *o = arg;
  o->ends = false;
  pthread_mutex_lock(&heap.lock);
  for (unsigned c = 0; c < CLASSES; c++)
    for (struct piece *p = o->free[c], *next; p != NULL; p = next) {
      next = p->next;
      push(&heap.free[SECMEM_PASSING][c], p);
    }
  pthread_mutex_unlock(&heap.lock);
  memset(o->free, 0, sizeof o->free);
  memset(o->n, 0, sizeof o->n);
}

static void own_key_make(void) {
  if (pthread_key_create(&own_key, own_end) != 0) out_of_memory(0);
}

static bool own_begin(void) {
  (void)pthread_once(&own_once, own_key_make);
  own.ends = pthread_setspecific(own_key, &own) == 0;
  return own.ends;
}

static void *own_take(unsigned c) {
  struct piece *p = own.free[c];
  if (p == NULL) return NULL;
  own.free[c] = p->next;
  own.n[c]--;
  p->next = NULL;
  return p;
}

/* False: enough of these are kept. */
static bool own_give(unsigned c, struct piece *p) {
  if (own.n[c] == OWN_MOST || (own.n[c] + (size_t)1) << (CLASS_MIN_BITS + c) > OWN_BYTES) return false;
  if (!own.ends && !own_begin()) return false;
  push(&own.free[c], p);
  own.n[c]++;
  return true;
}

static void *alloc(size_t n, enum secmem_use use) {
  if (n > SIZE_MAX / 2) out_of_memory(n);
  if (is_large(n)) return map_pages(page_round(n), use);
  unsigned c = class_of(n);
  void *mine = use == SECMEM_PASSING ? own_take(c) : NULL;
  if (mine != NULL) return mine;
  pthread_mutex_lock(&heap.lock);
  if (heap.free[use][c] == NULL) refill(c, use);
  struct piece *p = heap.free[use][c];
  heap.free[use][c] = p->next;
  pthread_mutex_unlock(&heap.lock);
  p->next = NULL;
  return p;
}

static void release(const void *held, size_t n, enum secmem_use use) {
  void *p = (void *)(uintptr_t)held;
  if (p == NULL) return;
  secmem_wipe(p, n);
  if (is_large(n)) {
    unmap_pages(p, page_round(n), use);
    return;
  }
  unsigned c = class_of(n);
  if (use == SECMEM_PASSING && own_give(c, p)) return;
  pthread_mutex_lock(&heap.lock);
  push(&heap.free[use][c], p);
  pthread_mutex_unlock(&heap.lock);
}

void *secmem_alloc(size_t n) { return alloc(n, SECMEM_KEPT); }
void secmem_free(const void *p, size_t n) { release(p, n, SECMEM_KEPT); }
void *secmem_alloc_passing(size_t n) { return alloc(n, SECMEM_PASSING); }
void secmem_free_passing(const void *p, size_t n) { release(p, n, SECMEM_PASSING); }

void secmem_wipe(void *p, size_t n) {
  if (n > 0) explicit_bzero(p, n);
}

/* --- what calls left behind --- */

/* A copy of a secret stays in vector registers until something else is copied, for as long as the thread rests. Whoever saves the registers then puts it on the stack: the dynamic linker at a
 * function's first call, the kernel for a signal. All of them may be overwritten by any call (System V ABI for x86-64, section 3.2.1). A memcpy for AVX-512 takes those from 16 on
 * alone, which VZEROALL leaves as they are. */
#if defined(__x86_64__)
/* clang-format off */
__attribute__((target("avx512f"))) static void wipe_upper_registers(void) {
  __asm__ volatile(".irp r, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\tvpxord %%zmm\\r, %%zmm\\r, %%zmm\\r\n\t.endr"
                   ::: "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

static void wipe_registers(void) {
  __asm__ volatile(".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\tpxor %%xmm\\r, %%xmm\\r\n\t.endr"
                   ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  if (__builtin_cpu_supports("avx")) __asm__ volatile("vzeroall"); /* their upper halves, too */
  if (__builtin_cpu_supports("avx512f")) wipe_upper_registers();
}
/* clang-format on */
#elif defined(__has_attribute) && __has_attribute(zero_call_used_regs)
__attribute__((noinline, zero_call_used_regs("all"))) static void wipe_registers(void) { __asm__ volatile(""); }
#else
static void wipe_registers(void) {}
#endif

/* A frame of its own, or it would be the caller's and lie above what is to be wiped. */
__attribute__((noinline)) static void wipe_frame(void) {
  char below[STACK_WIPED];
  secmem_wipe(below, sizeof below);
}

/* Calls that are made all the time go down some 20 KiB: there it is cheaper to wipe than to fetch new pages. Some reach much deeper (the dynamic linker saves the
 * vector registers at a function's first call), and their pages are given back. The registers come first, so that nothing saves them meanwhile. */
void secmem_wipe_stack(void) {
  wipe_registers();
  thread_stack_trim(STACK_KEPT);
  wipe_frame();
}
