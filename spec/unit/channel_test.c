/* Channels: order, fairness, and that nothing is lost or delivered twice, with eight threads that send, receive, select and give up. */
#include "base/channel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "check.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SCALE = 1 };
#else
enum { SCALE = 4 };
#endif

/* --- messages --- */

struct message {
  struct channel_item item;
  unsigned sender;
  uint64_t number;
};
static atomic_long live;

static void on_free(struct channel_item *item) {
  atomic_fetch_sub(&live, 1);
  free(CONTAINER_OF(item, struct message, item));
}

static struct channel_item *message(unsigned sender, uint64_t number) {
  struct message *m = calloc(1, sizeof *m);
  CHECK(m != NULL);
  *m = (struct message){.item.free = on_free, .sender = sender, .number = number};
  atomic_fetch_add(&live, 1);
  return &m->item;
}

static struct message *message_of(struct channel_item *item) { return CONTAINER_OF(item, struct message, item); }
static uint64_t number_of(struct channel_item *item) { return message_of(item)->number; }

/* --- one thread: a loop whose waits are ended by hand --- */

struct party { /* an operation of one arm or more, with what became of it */
  struct channel_wait wait;
  struct channel_arm arms[4];
  int dones;
};
static struct registry *names;
static struct channels *all;
static struct named *all_named;
static uv_loop_t loop;
static struct mailbox mailbox;
static struct rng rng;

static void on_done(struct channel_wait *w) { CONTAINER_OF(w, struct party, wait)->dones++; }

static void begin(void) {
  names = registry_new();
  all_named = named_get(names, &channels_kind, STR("all"), NULL);
  all = channels_of(all_named);
  CHECK(uv_loop_init(&loop) == 0 && mailbox_init(&mailbox, &loop) == 0);
  rng_seed(&rng, 1);
}
static void end(void) {
  mailbox_close(&mailbox);
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&loop) == 0);
  named_unref(all_named);
  registry_free(names);
  CHECK(atomic_load(&live) == 0);
}
static void turn(void) { (void)uv_run(&loop, UV_RUN_NOWAIT); }

static struct channel *make(const char *name, unsigned capacity) {
  struct channel *ch;
  unsigned has;
  CHECK(channel_join(names, all, str_of(name), capacity, &ch, &has) == 0);
  return ch;
}

static void party_begin(struct party *p, unsigned n) {
  p->dones = 0;
  p->wait = (struct channel_wait){.home = &mailbox, .arms = p->arms, .n = n, .done = on_done};
}
static void arm_receive(struct party *p, unsigned i, struct channel *ch) {
  p->arms[i] = (struct channel_arm){.channel = ch};
}
static void arm_send(struct party *p, unsigned i, struct channel *ch, uint64_t number) {
  p->arms[i] = (struct channel_arm){.channel = ch, .sends = true, .item = message(0, number)};
}
static int receive(struct party *p, struct channel *ch) {
  party_begin(p, 1);
  arm_receive(p, 0, ch);
  return channel_wait(&p->wait, NULL);
}
static int give(struct party *p, struct channel *ch, uint64_t number) {
  party_begin(p, 1);
  arm_send(p, 0, ch, number);
  return channel_wait(&p->wait, NULL);
}
/* What the party has received; frees it. */
static uint64_t got(struct party *p) {
  struct channel_arm *arm = &p->arms[p->wait.fired];
  CHECK(arm->taken && !arm->sends && arm->item != NULL);
  uint64_t number = number_of(arm->item);
  on_free(arm->item);
  arm->item = NULL;
  return number;
}
static uint64_t take(struct channel *ch) {
  struct channel_arm arm = {.channel = ch};
  CHECK(channel_try(&arm, 1, NULL) == 0 && arm.taken);
  uint64_t number = number_of(arm.item);
  on_free(arm.item);
  return number;
}
static void put(struct channel *ch, uint64_t number) {
  struct channel_arm arm = {.channel = ch, .sends = true, .item = message(0, number)};
  CHECK(channel_try(&arm, 1, NULL) == 0 && arm.taken && arm.item == NULL);
}
static bool is_empty(struct channel *ch) {
  struct channel_arm arm = {.channel = ch};
  int fired = channel_try(&arm, 1, NULL);
  return fired == UV_EAGAIN || (fired == 0 && !arm.taken && arm.item == NULL);
}
static bool is_full(struct channel *ch) {
  struct channel_arm arm = {.channel = ch, .sends = true, .item = message(0, 0)};
  bool full = channel_try(&arm, 1, NULL) == UV_EAGAIN;
  CHECK(full && arm.item != NULL);
  on_free(arm.item);
  return full;
}

static void test_a_name_is_one_channel_until_the_last_reference_goes(void) {
  begin();
  struct channel *a = make("jobs", 2), *b = make("jobs", 2), *other;
  unsigned has = 0;
  CHECK(a == b);
  CHECK(channel_join(names, all, STR("jobs"), 3, &other, &has) == UV_EEXIST && has == 2);
  put(a, 1);
  channel_unref(a);
  CHECK(channel_length(b) == 1);
  channel_unref(b); /* with what it holds */
  CHECK(atomic_load(&live) == 0);
  a = make("jobs", 3);
  CHECK(channel_length(a) == 0 && channel_capacity(a) == 3 && strcmp(channel_name(a), "jobs") == 0);
  channel_unref(a);
  end();
}

static void test_there_is_a_limit_of_channels_and_of_bytes(void) {
  static struct channel *many[CHANNELS_MAX];
  begin();
  struct channel *one_more;
  unsigned has;
  for (unsigned i = 0; i < CHANNELS_MAX; i++) {
    char name[16];
    (void)snprintf(name, sizeof name, "c%u", i);
    many[i] = make(name, 0);
  }
  CHECK(channel_join(names, all, STR("more"), 0, &one_more, &has) == ERR_LIMIT);
  CHECK(channel_close(many[0]));
  one_more = make("more", 0); /* a closed one does not count */
  channel_unref(one_more);
  for (unsigned i = 0; i < CHANNELS_MAX; i++) channel_unref(many[i]);
  CHECK(channels_charge(all, CHANNEL_BYTES_MAX) && !channels_charge(all, 1));
  channels_discharge(all, CHANNEL_BYTES_MAX);
  CHECK(!channels_charge(all, SIZE_MAX) && !channels_charge(all, (size_t)CHANNEL_BYTES_MAX + 1));
  end();
}

static void test_a_buffer_keeps_order_and_ends(void) {
  begin();
  struct channel *ch = make("c", 3);
  for (uint64_t i = 1; i <= 3; i++) put(ch, i);
  CHECK(is_full(ch) && channel_length(ch) == 3);
  for (uint64_t i = 1; i <= 3; i++) CHECK(take(ch) == i);
  CHECK(is_empty(ch));
  channel_unref(ch);
  end();
}

static void test_a_rendezvous_needs_both(void) {
  begin();
  struct channel *ch = make("c", 0);
  struct party sender, receiver;
  CHECK(is_full(ch) && is_empty(ch));
  CHECK(give(&sender, ch, 7) == UV_EAGAIN);
  turn();
  CHECK(sender.dones == 0 && channel_length(ch) == 0);
  CHECK(receive(&receiver, ch) == 0 && got(&receiver) == 7);
  CHECK(sender.dones == 0); /* told by mail, never inside of another's call */
  turn();
  CHECK(sender.dones == 1 && sender.arms[0].taken && sender.arms[0].item == NULL && receiver.dones == 0);
  CHECK(receive(&receiver, ch) == UV_EAGAIN);
  put(ch, 8);
  turn();
  CHECK(receiver.dones == 1 && got(&receiver) == 8);
  channel_unref(ch);
  end();
}

static void test_who_waits_longest_is_served_first(void) {
  begin();
  struct channel *ch = make("c", 1);
  struct party p[4];
  for (int i = 0; i < 4; i++) CHECK(receive(&p[i], ch) == UV_EAGAIN);
  for (uint64_t i = 0; i < 4; i++) put(ch, i);
  CHECK(is_empty(ch));
  turn();
  for (uint64_t i = 0; i < 4; i++) CHECK(p[i].dones == 1 && got(&p[i]) == i);
  put(ch, 100);
  for (uint64_t i = 0; i < 4; i++) CHECK(give(&p[i], ch, i) == UV_EAGAIN);
  CHECK(take(ch) == 100 &&
        is_full(ch)); /* the first sender's is in the buffer: a later one cannot get before the others */
  for (uint64_t i = 0; i < 4; i++) CHECK(take(ch) == i);
  turn();
  for (int i = 0; i < 4; i++) CHECK(p[i].dones == 1 && p[i].arms[0].taken);
  channel_unref(ch);
  end();
}

static void test_closing_wakes_all_and_drains(void) {
  begin();
  struct channel *ch = make("c", 1), *idle = make("idle", 0), *again;
  struct party sender, receiver;
  put(ch, 1);
  CHECK(give(&sender, ch, 2) == UV_EAGAIN && receive(&receiver, idle) == UV_EAGAIN);
  CHECK(channel_close(ch) && channel_close(idle) && !channel_close(ch) && channel_closed(ch));
  turn();
  CHECK(sender.dones == 1 && !sender.arms[0].taken && number_of(sender.arms[0].item) == 2);
  CHECK(receiver.dones == 1 && !receiver.arms[0].taken && receiver.arms[0].item == NULL);
  CHECK(channel_try(sender.arms, 1, NULL) == 0 && !sender.arms[0].taken && sender.arms[0].item != NULL);
  on_free(sender.arms[0].item);
  CHECK(take(ch) == 1);
  CHECK(receive(&receiver, ch) == 0 && !receiver.arms[0].taken && receiver.arms[0].item == NULL);
  again = make("c", 9);
  CHECK(again != ch && channel_capacity(again) == 9);
  channel_unref(again);
  channel_unref(ch);
  channel_unref(idle);
  end();
}

static void test_a_stopped_wait_is_not_told_and_takes_nothing(void) {
  begin();
  struct channel *ch = make("c", 0);
  struct party p;
  CHECK(receive(&p, ch) == UV_EAGAIN && !channel_stop(&p.wait));
  CHECK(is_full(ch));
  CHECK(give(&p, ch, 1) == UV_EAGAIN && !channel_stop(&p.wait));
  CHECK(is_empty(ch) && number_of(p.arms[0].item) == 1);
  on_free(p.arms[0].item);
  turn();
  CHECK(p.dones == 0);
  channel_unref(ch);
  end();
}

static void test_a_receiver_that_gives_up_with_an_item_hands_it_on(void) {
  begin();
  struct channel *ch = make("c", 0);
  struct party first, second, sender;
  CHECK(receive(&first, ch) == UV_EAGAIN && receive(&second, ch) == UV_EAGAIN);
  put(ch, 1); /* the first one's; not told yet */
  CHECK(channel_stop(&first.wait) && first.arms[0].item != NULL);
  channel_return(ch, first.arms[0].item);
  turn();
  CHECK(first.dones == 0 && second.dones == 1 && got(&second) == 1);
  /* nobody waits: it stays, before all that is sent later */
  CHECK(receive(&first, ch) == UV_EAGAIN);
  put(ch, 2);
  CHECK(channel_stop(&first.wait));
  channel_return(ch, first.arms[0].item);
  CHECK(channel_length(ch) == 1 && is_full(ch));
  CHECK(give(&sender, ch, 3) == UV_EAGAIN);
  CHECK(take(ch) == 2);
  turn();
  CHECK(sender.dones == 0 && take(ch) == 3);
  turn();
  CHECK(sender.dones == 1);
  channel_unref(ch);
  end();
}

static void test_items_handed_back_in_any_order_are_in_order(void) {
  begin();
  struct channel *ch = make("c", 2);
  struct party p[3];
  for (int i = 0; i < 3; i++) CHECK(receive(&p[i], ch) == UV_EAGAIN);
  for (uint64_t i = 0; i < 5; i++) put(ch, i);
  static const int order[] = {1, 2, 0};
  for (int i = 0; i < 3; i++) CHECK(channel_stop(&p[order[i]].wait));
  for (int i = 0; i < 3; i++) channel_return(ch, p[order[i]].arms[0].item);
  CHECK(channel_length(ch) == 5 && is_full(ch));
  CHECK(channel_close(ch));
  for (uint64_t i = 0; i < 5; i++) CHECK(take(ch) == i);
  channel_unref(ch);
  end();
}

static void test_a_deferred_outcome_comes_by_mail_or_is_stopped(void) {
  begin();
  struct channel *ch = make("c", 1);
  struct party p;
  for (int stopped = 0; stopped < 2; stopped++) {
    put(ch, 5);
    party_begin(&p, 1);
    arm_receive(&p, 0, ch);
    CHECK(channel_try(p.arms, 1, NULL) == 0);
    channel_defer(&p.wait, 0);
    CHECK(p.dones == 0);
    if (stopped) CHECK(channel_stop(&p.wait));
    turn();
    CHECK(p.dones == !stopped && got(&p) == 5);
  }
  channel_unref(ch);
  end();
}

/* --- sets of arms --- */

static void test_one_arm_fires_and_the_others_are_gone(void) {
  begin();
  struct channel *a = make("a", 0), *b = make("b", 0);
  struct party p;
  party_begin(&p, 3);
  arm_receive(&p, 0, a);
  arm_receive(&p, 1, b);
  arm_send(&p, 2, b, 9);
  CHECK(channel_wait(&p.wait, &rng) == UV_EAGAIN); /* not with itself */
  put(b, 4);
  CHECK(is_full(a) && is_empty(b)); /* before it was told */
  turn();
  CHECK(p.dones == 1 && p.wait.fired == 1 && got(&p) == 4 && number_of(p.arms[2].item) == 9);
  on_free(p.arms[2].item);
  channel_unref(a);
  channel_unref(b);
  end();
}

static void test_two_sets_meet_once(void) {
  begin();
  struct channel *ch = make("c", 0);
  struct party p, q;
  party_begin(&p, 2);
  party_begin(&q, 2);
  arm_receive(&p, 0, ch);
  arm_send(&p, 1, ch, 1);
  arm_receive(&q, 0, ch);
  arm_send(&q, 1, ch, 2);
  CHECK(channel_wait(&p.wait, &rng) == UV_EAGAIN);
  int fired = channel_wait(&q.wait, &rng);
  turn();
  CHECK((fired == 0 || fired == 1) && p.dones == 1 && (int)p.wait.fired == 1 - fired);
  CHECK(is_full(ch) && is_empty(ch));
  struct party *sent = fired == 1 ? &q : &p, *received = fired == 1 ? &p : &q;
  CHECK(sent->arms[1].item == NULL && number_of(received->arms[0].item) == (fired == 1 ? 2u : 1u));
  on_free(received->arms[0].item);
  on_free(received->arms[1].item);
  channel_unref(ch);
  end();
}

enum { CHOICES = 8 };

/* Draws `rounds` choices among `ready` of the CHOICES arms. */
static void count_choices(unsigned ready, unsigned rounds, unsigned counts[CHOICES]) {
  struct channel *chs[CHOICES];
  memset(counts, 0, CHOICES * sizeof *counts);
  for (unsigned i = 0; i < CHOICES; i++) {
    char name[16];
    (void)snprintf(name, sizeof name, "c%u", i);
    chs[i] = make(name, 2);
    if (ready >> i & 1) put(chs[i], i), put(chs[i], i);
  }
  for (unsigned round = 0; round < rounds; round++) {
    struct channel_arm arms[CHOICES];
    for (unsigned i = 0; i < CHOICES; i++) arms[i] = (struct channel_arm){.channel = chs[i]};
    int fired = channel_try(arms, CHOICES, &rng);
    CHECK(fired >= 0 && number_of(arms[fired].item) == (uint64_t)fired);
    counts[fired]++;
    channel_return(chs[fired], arms[fired].item);
  }
  for (unsigned i = 0; i < CHOICES; i++) channel_unref(chs[i]);
}

/* With 7 degrees of freedom chi-square is above 29.9 once in 10,000 fair runs (with 4: 23.5), and the seed is fixed: this does not flicker. */
static void test_a_choice_is_uniform_among_the_ready(void) {
  enum { ROUNDS = 80 * 1000 };
  unsigned counts[CHOICES];
  begin();
  static const struct {
    unsigned ready;
    double limit;
  } cases[] = {{0xff, 29.9}, {0x9d, 23.5}};
  for (int c = 0; c < 2; c++) {
    unsigned k = (unsigned)__builtin_popcount(cases[c].ready);
    count_choices(cases[c].ready, ROUNDS, counts);
    double expected = (double)ROUNDS / k, chi = 0;
    for (unsigned i = 0; i < CHOICES; i++) {
      if ((cases[c].ready >> i & 1) == 0) CHECK(counts[i] == 0);
      if (cases[c].ready >> i & 1) chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    CHECK(chi < cases[c].limit && chi > 0);
  }
  end();
}

static void test_choices_follow_from_the_seed(void) {
  begin();
  struct channel *chs[3] = {make("a", 1), make("b", 1), make("c", 1)};
  struct rng model;
  rng_seed(&rng, 42);
  rng_seed(&model, 42);
  for (unsigned round = 0; round < 1000; round++) {
    unsigned ready = round % 8, candidates[3], k = 0;
    for (unsigned i = 0; i < 3; i++) {
      if ((ready >> i & 1) == 0) continue;
      candidates[k++] = i;
      put(chs[i], i);
    }
    struct channel_arm arms[3] = {{.channel = chs[0]}, {.channel = chs[1]}, {.channel = chs[2]}};
    int expected = k == 0 ? UV_EAGAIN : k == 1 ? (int)candidates[0] : (int)candidates[rng_next(&model) % k];
    CHECK(channel_try(arms, 3, &rng) == expected);
    if (expected >= 0) on_free(arms[expected].item);
    for (unsigned i = 0; i < 3; i++) {
      if (channel_length(chs[i]) > 0) CHECK(take(chs[i]) == i);
    }
  }
  for (int i = 0; i < 3; i++) channel_unref(chs[i]);
  end();
}

/* --- eight threads --- */

enum { THREADS = 8, CHANNELS = 3, PARTIES = 6, ORDERED = 125 * 1000 * SCALE, TURNS = 200 * 1000 * SCALE };
static const unsigned capacities[CHANNELS] = {0, 1, 64};

struct worker;
struct task { /* what a script's task is: one operation at a time */
  struct party party;
  struct worker *worker;
  bool waits;
};
struct worker {
  uint64_t index;
  pthread_t thread;
  uv_loop_t loop;
  struct mailbox mailbox;
  uv_idle_t idle;
  struct rng rng;
  struct task tasks[PARTIES];
  uint64_t numbered, turns, waited, stopped, returned;
  uint64_t last[THREADS / 2]; /* of each sender */
};
static struct worker workers[THREADS];
static struct channel *chs[CHANNELS];

static void open_worker(struct worker *w, unsigned index) {
  *w = (struct worker){.index = index};
  CHECK(uv_loop_init(&w->loop) == 0 && mailbox_init(&w->mailbox, &w->loop) == 0);
  CHECK(uv_idle_init(&w->loop, &w->idle) == 0);
  w->idle.data = w;
  rng_seed(&w->rng, index + 1);
}
static void close_worker(struct worker *w) {
  uv_close((uv_handle_t *)&w->idle, NULL);
  mailbox_close(&w->mailbox);
}
static void *run_worker(void *arg) {
  struct worker *w = arg;
  CHECK(uv_run(&w->loop, UV_RUN_DEFAULT) == 0);
  return NULL;
}
static void run_all(void) {
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0);
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(workers[i].thread, NULL) == 0);
    CHECK(uv_loop_close(&workers[i].loop) == 0);
  }
}
static void report(const char *what, uint64_t n, int64_t since_us) {
  double us = (double)(clock_mono_us() - since_us);
  printf("   %s: %llu in %.2f s, %.0f ns each\n", what, (unsigned long long)n, us / 1e6, us * 1000 / (double)n);
}

/* --- order: four send in turn, four receive --- */

static uint64_t ordered; /* messages of each sender */

static void ordered_go(struct task *t);

/* The one arm has fired. False: the channel is closed, this one is done. */
static bool ordered_settle(struct task *t) {
  struct worker *w = t->worker;
  struct channel_arm *arm = &t->party.arms[0];
  if (arm->sends) {
    CHECK(arm->taken);
    return ++w->numbered < ordered;
  }
  if (arm->item == NULL) return false;
  struct message *m = message_of(arm->item);
  CHECK(m->number + 1 > w->last[m->sender]); /* the numbers begin at 0, last is one more */
  w->last[m->sender] = m->number + 1;
  w->turns++;
  on_free(arm->item);
  return true;
}

static void ordered_done(struct channel_wait *w) {
  struct task *t = CONTAINER_OF(w, struct task, party.wait);
  if (ordered_settle(t))
    ordered_go(t);
  else
    close_worker(t->worker);
}

static void ordered_go(struct task *t) {
  struct worker *w = t->worker;
  do {
    party_begin(&t->party, 1);
    t->party.wait.home = &w->mailbox;
    t->party.wait.done = ordered_done;
    arm_receive(&t->party, 0, chs[0]);
    if (w->index < THREADS / 2) {
      t->party.arms[0].sends = true;
      t->party.arms[0].item = message((unsigned)w->index, w->numbered);
    }
    if (channel_wait(&t->party.wait, NULL) == UV_EAGAIN) return;
  } while (ordered_settle(t));
  close_worker(w);
}

static void on_ordered_start(uv_idle_t *idle) {
  struct worker *w = idle->data;
  uv_idle_stop(idle);
  w->tasks[0].worker = w;
  ordered_go(&w->tasks[0]);
}

static void *close_when_received(void *arg) {
  (void)arg;
  for (int i = 0; i < THREADS / 2; i++) CHECK(pthread_join(workers[i].thread, NULL) == 0);
  CHECK(channel_close(chs[0]));
  return NULL;
}

static void ordered_run(unsigned capacity, uint64_t each) {
  pthread_t closer;
  begin();
  ordered = each;
  chs[0] = make("ordered", capacity);
  for (unsigned i = 0; i < THREADS; i++) {
    open_worker(&workers[i], i);
    CHECK(uv_idle_start(&workers[i].idle, on_ordered_start) == 0);
  }
  int64_t since = clock_mono_us();
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0);
  CHECK(pthread_create(&closer, NULL, close_when_received, NULL) == 0 && pthread_join(closer, NULL) == 0);
  uint64_t received = 0;
  for (int i = 0; i < THREADS; i++) {
    if (i >= THREADS / 2) CHECK(pthread_join(workers[i].thread, NULL) == 0);
    CHECK(uv_loop_close(&workers[i].loop) == 0);
    received += workers[i].turns;
  }
  CHECK(received == each * THREADS / 2);
  report(capacity > 0 ? "buffered" : "rendezvous", received, since);
  channel_unref(chs[0]);
  end();
}

static void test_each_senders_order_is_kept_through_a_buffer(void) { ordered_run(64, ORDERED); }
static void test_each_senders_order_is_kept_by_a_rendezvous(void) { ordered_run(0, ORDERED / 4); }

/* --- chaos: everybody sends, receives, selects and gives up --- */

enum { NUMBERS = 4 * TURNS };
static atomic_uchar *sent, *received; /* by sender and number */

static size_t place(const struct message *m) { return (size_t)m->sender * NUMBERS + m->number; }

static void chaos_settle(struct task *t, unsigned fired) {
  for (unsigned i = 0; i < t->party.wait.n; i++) {
    struct channel_arm *arm = &t->party.arms[i];
    if (arm->item == NULL) continue;
    if (!arm->sends) CHECK(i == fired && atomic_fetch_add(&received[place(message_of(arm->item))], 1) == 0);
    if (arm->sends) {
      CHECK(i != fired || !arm->taken);
      CHECK(atomic_fetch_sub(&sent[place(message_of(arm->item))], 1) == 1); /* it was not, after all */
    }
    on_free(arm->item);
  }
  t->waits = false;
}

static void chaos_done(struct channel_wait *w) { chaos_settle(CONTAINER_OF(w, struct task, party.wait), w->fired); }

static void chaos_arm(struct task *t, unsigned i) {
  struct worker *w = t->worker;
  struct channel_arm *arm = &t->party.arms[i];
  arm_receive(&t->party, i, chs[rng_below(&w->rng, CHANNELS)]);
  arm->sends = rng_below(&w->rng, 2) == 0;
  if (!arm->sends) return;
  arm->item = message((unsigned)w->index, w->numbered++);
  atomic_store(&sent[place(message_of(arm->item))], 1); /* before somebody can have it */
}

static void chaos_go(struct task *t) {
  struct worker *w = t->worker;
  unsigned n = 1 + (unsigned)rng_below(&w->rng, 3);
  party_begin(&t->party, n);
  t->party.wait.home = &w->mailbox;
  t->party.wait.done = chaos_done;
  for (unsigned i = 0; i < n; i++) chaos_arm(t, i);
  int fired = channel_wait(&t->party.wait, &w->rng);
  t->waits = fired == UV_EAGAIN;
  w->waited += t->waits;
  if (!t->waits) chaos_settle(t, (unsigned)fired);
  w->turns++;
}

static void chaos_stop(struct task *t) {
  struct channel_wait *w = &t->party.wait;
  bool fired = channel_stop(w);
  struct channel_arm *arm = &t->party.arms[w->fired];
  t->worker->stopped++;
  if (fired && !arm->sends && arm->item != NULL) { /* the client has left: another may have it */
    channel_return(arm->channel, arm->item);
    arm->item = NULL;
    t->worker->returned++;
  }
  chaos_settle(t, fired ? w->fired : w->n);
}

static void on_chaos_turn(uv_idle_t *idle) {
  struct worker *w = idle->data;
  bool over = w->turns >= TURNS;
  for (int i = 0; i < PARTIES; i++) {
    struct task *t = &w->tasks[i];
    t->worker = w;
    if (t->waits && (over || rng_below(&w->rng, 16) == 0)) chaos_stop(t);
    if (!t->waits && !over) chaos_go(t);
  }
  if (!over) return;
  uv_idle_stop(idle);
  close_worker(w);
}

static void drain(struct channel *ch) {
  CHECK(channel_close(ch));
  for (;;) {
    struct channel_arm arm = {.channel = ch};
    CHECK(channel_try(&arm, 1, NULL) == 0);
    if (arm.item == NULL) return;
    CHECK(atomic_fetch_add(&received[place(message_of(arm.item))], 1) == 0);
    on_free(arm.item);
  }
}

static uint64_t check_accounts(void) {
  uint64_t n = 0;
  for (size_t i = 0; i < (size_t)THREADS * NUMBERS; i++) {
    CHECK(atomic_load(&sent[i]) == atomic_load(&received[i]));
    n += atomic_load(&sent[i]);
  }
  return n;
}

static void test_nothing_is_lost_or_received_twice_whoever_gives_up(void) {
  begin();
  sent = calloc((size_t)THREADS * NUMBERS, sizeof *sent);
  received = calloc((size_t)THREADS * NUMBERS, sizeof *received);
  CHECK(sent != NULL && received != NULL);
  for (unsigned i = 0; i < CHANNELS; i++) {
    char name[16];
    (void)snprintf(name, sizeof name, "c%u", i);
    chs[i] = make(name, capacities[i]);
  }
  for (unsigned i = 0; i < THREADS; i++) {
    open_worker(&workers[i], i);
    CHECK(uv_idle_start(&workers[i].idle, on_chaos_turn) == 0);
  }
  int64_t since = clock_mono_us();
  run_all();
  for (int i = 0; i < CHANNELS; i++) drain(chs[i]);
  uint64_t n = check_accounts(), waited = 0, stopped = 0, returned = 0;
  for (int i = 0; i < THREADS; i++) {
    waited += workers[i].waited, stopped += workers[i].stopped, returned += workers[i].returned;
  }
  report("chaos", n, since);
  printf("   %llu waited, %llu gave up, %llu handed back\n", (unsigned long long)waited, (unsigned long long)stopped,
         (unsigned long long)returned);
  CHECK(n > TURNS && waited > 0 && stopped > 0 && returned > 0);
  for (int i = 0; i < CHANNELS; i++) channel_unref(chs[i]);
  free(sent);
  free(received);
  end();
}

static void print_cost(void) {
  enum { ROUNDS = 200 * 1000 };
  begin();
  struct channel *ch = make("c", 1);
  struct channel_item *item = message(0, 0);
  int64_t since = clock_mono_us();
  for (int i = 0; i < ROUNDS; i++) {
    struct channel_arm give_arm = {.channel = ch, .sends = true, .item = item}, take_arm = {.channel = ch};
    CHECK(channel_try(&give_arm, 1, NULL) == 0 && channel_try(&take_arm, 1, NULL) == 0);
  }
  report("a send and a receive, alone", ROUNDS, since);
  on_free(item);
  channel_unref(ch);
  end();
}

int main(void) {
  RUN(test_a_name_is_one_channel_until_the_last_reference_goes);
  RUN(test_there_is_a_limit_of_channels_and_of_bytes);
  RUN(test_a_buffer_keeps_order_and_ends);
  RUN(test_a_rendezvous_needs_both);
  RUN(test_who_waits_longest_is_served_first);
  RUN(test_closing_wakes_all_and_drains);
  RUN(test_a_stopped_wait_is_not_told_and_takes_nothing);
  RUN(test_a_receiver_that_gives_up_with_an_item_hands_it_on);
  RUN(test_items_handed_back_in_any_order_are_in_order);
  RUN(test_a_deferred_outcome_comes_by_mail_or_is_stopped);
  RUN(test_one_arm_fires_and_the_others_are_gone);
  RUN(test_two_sets_meet_once);
  RUN(test_a_choice_is_uniform_among_the_ready);
  RUN(test_choices_follow_from_the_seed);
  RUN(test_each_senders_order_is_kept_through_a_buffer);
  RUN(test_each_senders_order_is_kept_by_a_rendezvous);
  RUN(test_nothing_is_lost_or_received_twice_whoever_gives_up);
  print_cost();
  return 0;
}
