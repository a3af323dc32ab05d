/* slot_bench.c: reads of a token that many threads share, while a writer replaces it every millisecond.
 *
 * usage: slot_bench KIND THREADS SECONDS [quiet]   prints "reads N seconds S"; quiet: no writer
 *
 * KIND is the way in which the token is shared. All of them hold a struct token of jeton's, and a read ends with a token that stays valid while it
 * is used: the slot lends it until the next read; behind a lock a reference is taken, and given back after use.
 *   slot     jeton's: a change counter in front of the mutex, a reference kept by each reader
 *   mutex    one mutex around the pointer
 *   rwlock   one read-write lock around it
 *   actor    a thread owns the token and answers messages: a queue under a mutex, a condition variable for each side */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "token/keeper.h"
#include "token/slot.h"

enum { CACHE_LINE = 64, LIFE_S = 3600, WRITE_EVERY_NS = 1000 * 1000 };

struct bench;
struct reader {
  _Alignas(CACHE_LINE) pthread_t thread;
  struct bench *bench;
  uint64_t reads, sum;
  /* actor: guarded by the actor's lock */
  struct reader *next;
  struct token *reply;
  pthread_cond_t answered;
};
struct way {
  const char *name;
  void (*read)(struct reader *r); /* reads until the bench is over */
  void (*write)(struct bench *b, unsigned n);
};
struct bench {
  const struct way *way;
  _Alignas(CACHE_LINE) atomic_bool over;
  int64_t now;
  struct slot *slot;
  _Alignas(CACHE_LINE) pthread_mutex_t mutex;
  _Alignas(CACHE_LINE) pthread_rwlock_t rwlock;
  struct token *token;   /* guarded by mutex, rwlock, or the actor's */
  struct reader *asking; /* actor: a stack of those who wait; guarded by mutex */
  pthread_cond_t asked;
  bool closed;
};

static bool goes_on(struct bench *b) { return !atomic_load_explicit(&b->over, memory_order_relaxed); }

/* What a request does with it: looks whether it is valid, and at its bytes. */
static void use(struct reader *r, const struct token *t) {
  if (t != NULL && t->expires_at > r->bench->now) r->sum += (uint8_t)t->value.p[0];
  r->reads++;
}

static struct token *made(const struct bench *b, unsigned n) {
  char text[64];
  int len = snprintf(text, sizeof text, "token-%032u", n);
  struct token *t = token_new((struct str){text, (size_t)len}, NULL, 0);
  if (t == NULL) abort();
  t->expires_at = b->now + LIFE_S * 1000;
  return t;
}

/* --- slot --- */

static void read_slot(struct reader *r) {
  struct slot_reader view;
  slot_reader_init(&view, r->bench->slot);
  while (goes_on(r->bench)) use(r, slot_read(&view, r->bench->now));
  slot_reader_fini(&view);
}

static void write_slot(struct bench *b, unsigned n) {
  char text[64];
  int len = snprintf(text, sizeof text, "token-%032u", n);
  struct fetch_result f = {.ok = true, .value = {text, (size_t)len}, .has_expires_in = true, .expires_in = LIFE_S};
  if (slot_set(b->slot, &f) != NULL) abort();
}

/* --- mutex, rwlock --- */

static void read_mutex(struct reader *r) {
  struct bench *b = r->bench;
  while (goes_on(b)) {
    pthread_mutex_lock(&b->mutex);
    struct token *t = token_ref(b->token);
    pthread_mutex_unlock(&b->mutex);
    use(r, t);
    token_unref(t);
  }
}

static void write_mutex(struct bench *b, unsigned n) {
  struct token *t = made(b, n);
  pthread_mutex_lock(&b->mutex);
  struct token *old = b->token;
  b->token = t;
  pthread_mutex_unlock(&b->mutex);
  token_unref(old);
}

static void read_rwlock(struct reader *r) {
  struct bench *b = r->bench;
  while (goes_on(b)) {
    pthread_rwlock_rdlock(&b->rwlock);
    struct token *t = token_ref(b->token);
    pthread_rwlock_unlock(&b->rwlock);
    use(r, t);
    token_unref(t);
  }
}

static void write_rwlock(struct bench *b, unsigned n) {
  struct token *t = made(b, n);
  pthread_rwlock_wrlock(&b->rwlock);
  struct token *old = b->token;
  b->token = t;
  pthread_rwlock_unlock(&b->rwlock);
  token_unref(old);
}

/* --- actor --- */

static void read_actor(struct reader *r) {
  struct bench *b = r->bench;
  while (goes_on(b)) {
    pthread_mutex_lock(&b->mutex);
    r->reply = NULL;
    r->next = b->asking;
    b->asking = r;
    pthread_cond_signal(&b->asked);
    while (r->reply == NULL) pthread_cond_wait(&r->answered, &b->mutex);
    struct token *t = r->reply;
    pthread_mutex_unlock(&b->mutex);
    use(r, t);
    token_unref(t);
  }
}

static void *actor(void *arg) {
  struct bench *b = arg;
  pthread_mutex_lock(&b->mutex);
  for (;;) {
    while (b->asking == NULL && !b->closed) pthread_cond_wait(&b->asked, &b->mutex);
    if (b->asking == NULL) break;
    struct reader *r = b->asking;
    b->asking = r->next;
    r->reply = token_ref(b->token);
    pthread_cond_signal(&r->answered);
  }
  pthread_mutex_unlock(&b->mutex);
  return NULL;
}

/* --- running it --- */

static const struct way ways[] = {
    {"slot", read_slot, write_slot},
    {"mutex", read_mutex, write_mutex},
    {"rwlock", read_rwlock, write_rwlock},
    {"actor", read_actor,
     write_mutex}, /* the message that replaces the token needs no answer: it is the assignment that it causes */
};

static void *read_until_over(void *arg) {
  struct reader *r = arg;
  r->bench->way->read(r);
  return NULL;
}

static double seconds_now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void write_for(struct bench *b, double seconds, bool quiet) {
  double end = seconds_now() + seconds;
  for (unsigned n = 2; seconds_now() < end; n++) {
    (void)nanosleep(&(struct timespec){.tv_nsec = WRITE_EVERY_NS}, NULL);
    if (!quiet) b->way->write(b, n);
  }
}

static void bench_init(struct bench *b) {
  b->now = clock_boot_ms();
  b->slot = slot_new(STR("api"), (struct str){NULL, 0});
  pthread_mutex_init(&b->mutex, NULL);
  pthread_rwlock_init(&b->rwlock, NULL);
  pthread_cond_init(&b->asked, NULL);
  b->token = made(b, 1);
  write_slot(b, 1);
}

static void close_actor(struct bench *b, pthread_t thread) {
  pthread_mutex_lock(&b->mutex);
  b->closed = true;
  pthread_cond_signal(&b->asked);
  pthread_mutex_unlock(&b->mutex);
  pthread_join(thread, NULL);
}

static void run(struct bench *b, unsigned threads, double seconds, bool quiet) {
  struct reader *readers = aligned_alloc(CACHE_LINE, threads * sizeof *readers);
  pthread_t actor_thread;
  bool acts = b->way->read == read_actor;
  if (readers == NULL || (acts && pthread_create(&actor_thread, NULL, actor, b) != 0)) abort();
  memset(readers, 0, threads * sizeof *readers);
  double begin = seconds_now();
  for (unsigned i = 0; i < threads; i++) {
    readers[i].bench = b;
    pthread_cond_init(&readers[i].answered, NULL);
    if (pthread_create(&readers[i].thread, NULL, read_until_over, &readers[i]) != 0) abort();
  }
  write_for(b, seconds, quiet);
  atomic_store(&b->over, true);
  uint64_t reads = 0;
  for (unsigned i = 0; i < threads; i++) {
    pthread_join(readers[i].thread, NULL);
    reads += readers[i].reads;
  }
  double took = seconds_now() - begin;
  if (acts) close_actor(b, actor_thread);
  (void)printf("reads %llu seconds %.6f\n", (unsigned long long)reads, took);
  free(readers);
}

int main(int argc, char **argv) {
  struct bench *b = aligned_alloc(CACHE_LINE, sizeof *b);
  if (b == NULL) abort();
  memset(b, 0, sizeof *b);
  for (size_t i = 0; argc >= 4 && i < sizeof ways / sizeof ways[0]; i++)
    if (strcmp(argv[1], ways[i].name) == 0) b->way = &ways[i];
  if (b->way == NULL) {
    (void)fprintf(stderr, "usage: slot_bench slot|mutex|rwlock|actor THREADS SECONDS [quiet]\n");
    return 64;
  }
  bench_init(b);
  run(b, (unsigned)atoi(argv[2]), atof(argv[3]), argc > 4);
  token_unref(b->token);
  slot_unref(b->slot);
  free(b);
  return 0;
}
