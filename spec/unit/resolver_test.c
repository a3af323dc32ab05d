/* resolver_test.c: names, their cache, and what they settle on. The answers are made here: this program's getaddrinfo comes before the system's, and so does its
 * clock_gettime, so that an answer can grow old in no time. */
#include "net/resolver.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/named.h"
#include "check.h"

/* --- the world --- */

static _Atomic(const char *) answers; /* "127.0.0.1 ::1"; "" is a name that does not exist */
static atomic_int asked, hold;        /* hold: no getaddrinfo returns before it is 0 */
static atomic_llong skew_ms;

int clock_gettime(clockid_t id, struct timespec *t) {
  int rc = (int)syscall(SYS_clock_gettime, id, t);
  if (id == CLOCK_BOOTTIME) t->tv_sec += skew_ms / 1000;
  return rc;
}

static void world(const char *list) {
  answers = list;
  asked = 0;
}

static void later_by(int seconds) { skew_ms += seconds * 1000; }

static struct addrinfo *one_answer(const char *ip) {
  struct addrinfo *ai = calloc(1, sizeof *ai);
  union address *a = calloc(1, sizeof *a);
  CHECK(ai != NULL && a != NULL);
  bool six = strchr(ip, ':') != NULL;
  CHECK((six ? uv_ip6_addr(ip, 0, &a->in6) : uv_ip4_addr(ip, 0, &a->in)) == 0);
  *ai = (struct addrinfo){.ai_family = a->sa.sa_family, .ai_addr = &a->sa, .ai_addrlen = address_len(a)};
  return ai;
}

static struct addrinfo *all_answers(const char *list) {
  struct addrinfo *first = NULL, **last = &first;
  char *text = strdup(list), *rest = NULL;
  CHECK(text != NULL);
  for (char *ip = strtok_r(text, " ", &rest); ip != NULL; ip = strtok_r(NULL, " ", &rest))
    last = &(*last = one_answer(ip))->ai_next;
  free(text);
  return first;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
  (void)host, (void)service, (void)hints;
  asked++;
  while (hold > 0) usleep(1000);
  *out = all_answers(answers);
  return *out != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list) {
  while (list != NULL) {
    struct addrinfo *next = list->ai_next;
    free(list->ai_addr);
    free(list);
    list = next;
  }
}

/* --- what is needed around a resolver --- */

struct lab {
  uv_loop_t loop;
  struct mailbox mailbox;
  struct wheel wheel;
  struct resolver *r;
  bool closed;
};
static struct registry *names;

static void lab_init(struct lab *lab) {
  *lab = (struct lab){0};
  CHECK(uv_loop_init(&lab->loop) == 0);
  CHECK(mailbox_init(&lab->mailbox, &lab->loop) == 0);
  wheel_init(&lab->wheel, &lab->loop);
  lab->r = resolver_new(names, &lab->loop, &lab->mailbox, &lab->wheel);
}

static void set_true(void *arg) { *(bool *)arg = true; }

static void lab_end(struct lab *lab) { /* after resolver_close */
  while (!lab->closed) uv_run(&lab->loop, UV_RUN_ONCE);
  wheel_close(&lab->wheel);
  mailbox_close(&lab->mailbox);
  CHECK(uv_run(&lab->loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&lab->loop) == 0);
}

static void lab_fini(struct lab *lab) {
  resolver_close(lab->r, set_true, &lab->closed);
  lab_end(lab);
}

/* --- a request --- */

struct request {
  struct resolve q;
  int calls, status;
  unsigned n;
  union address first;
};
static void on_resolved(struct resolve *q, int status, const union address *v, unsigned n) {
  struct request *a = CONTAINER_OF(q, struct request, q);
  a->calls++;
  a->status = status;
  a->n = n;
  if (n > 0) a->first = v[0];
}
static struct request *ask(struct lab *lab, struct request *a, const char *host, uint16_t port) {
  *a = (struct request){.q.done = on_resolved};
  resolver_lookup(lab->r, &a->q, host, port);
  return a;
}
static struct request *ask_beyond(struct lab *lab, struct request *a, uint64_t number) {
  *a = (struct request){.q = {.done = on_resolved, .beyond = number}};
  resolver_lookup(lab->r, &a->q, "name.example", 80);
  return a;
}
static struct request *wait_for(struct lab *lab, struct request *a) {
  while (a->calls == 0) uv_run(&lab->loop, UV_RUN_ONCE);
  CHECK(a->calls == 1);
  return a;
}
/* Asks and waits; the last number of the IPv4 address, or -1. */
static int get(struct lab *lab) {
  struct request a;
  wait_for(lab, ask(lab, &a, "name.example", 80));
  return a.status == 0 ? (int)(ntohl(a.first.in.sin_addr.s_addr) & 0xff) : -1;
}
/* Lets a lookup in the background end: until its answer is there, however long the pool's thread is kept from the processor. */
static void until_asked(struct lab *lab, int times) {
  while (asked < times) uv_run(&lab->loop, UV_RUN_NOWAIT);
  for (int i = 0; i < 20 || (i < 2000 && lab->loop.active_reqs.count > 0); i++)
    uv_run(&lab->loop, UV_RUN_NOWAIT), usleep(1000);
  CHECK(asked == times);
}

/* --- literals, waiters, closing --- */

static void literals_are_answered_at_once(void) {
  struct lab lab;
  struct request a;
  lab_init(&lab);
  CHECK(ask(&lab, &a, "192.0.2.7", 81)->calls == 1 && a.n == 1 && a.first.in.sin_port == htons(81));
  CHECK(ask(&lab, &a, "::1", 82)->calls == 1 && a.first.in6.sin6_port == htons(82));
  CHECK(ask(&lab, &a, "[::1]", 83)->calls == 1 && a.first.sa.sa_family == AF_INET6);
  CHECK(a.q.number == 0 && asked == 0);
  lab_fini(&lab);
}

static void a_name_is_asked_once_for_all_who_wait_and_kept(void) {
  struct lab lab;
  struct request a, b, c, d;
  world("127.0.0.1 ::1 127.0.0.1");
  lab_init(&lab);
  ask(&lab, &a, "name.example", 80);
  ask(&lab, &b, "NAME.example", 81);
  ask(&lab, &c, "name.example", 82);
  CHECK(a.calls == 0);
  resolver_cancel(&c.q);
  wait_for(&lab, &a), wait_for(&lab, &b);
  CHECK(c.calls == 0 && a.status == 0 && a.n == 2 && asked == 1);
  CHECK(a.first.in.sin_port == htons(80) && b.first.in.sin_port == htons(81));
  CHECK(ask(&lab, &d, "name.example", 83)->calls == 1 && d.first.in.sin_port == htons(83));
  resolver_cancel(&d.q); /* harmless when it is over */
  lab_fini(&lab);
}

static struct lab *again_in;
static struct request again;
static void on_failed_ask_again(struct resolve *q, int status, const union address *v, unsigned n) {
  on_resolved(q, status, v, n);
  ask(again_in, &again, "name.example", 80);
}

static void a_failed_name_can_be_asked_again_from_its_callback(void) {
  struct lab lab;
  struct request a = {.q.done = on_failed_ask_again};
  world("");
  lab_init(&lab);
  again_in = &lab;
  resolver_lookup(lab.r, &a.q, "name.example", 80);
  wait_for(&lab, &a);
  wait_for(&lab, &again);
  CHECK(a.status < 0 && a.n == 0 && again.status < 0 && asked == 2);
  lab_fini(&lab);
}

static void closing_cancels_what_waits(void) {
  struct lab lab;
  struct request a[8], late;
  hold = 1;
  answers = "127.0.0.1";
  lab_init(&lab);
  for (unsigned i = 0; i < 8; i++) {
    char name[32];
    snprintf(name, sizeof name, "n%u.example", i / 2);
    ask(&lab, &a[i], name, 80);
  }
  resolver_close(lab.r, set_true, &lab.closed);
  CHECK(!lab.closed && ask(&lab, &late, "name.example", 80)->status == UV_ECANCELED);
  for (unsigned i = 0; i < 8; i++) CHECK(a[i].calls == 1 && a[i].status == UV_ECANCELED);
  hold = 0;
  lab_end(&lab);
}

/* --- one cache for all threads --- */

static void what_one_thread_has_asked_another_one_knows(void) {
  struct lab one, two;
  struct request a;
  world("127.0.0.7");
  names = registry_new();
  lab_init(&one), lab_init(&two);
  CHECK(get(&one) == 7 && asked == 1);
  answers = "";
  CHECK(ask(&two, &a, "name.example", 80)->calls == 1 && a.status == 0 && asked == 1);
  lab_fini(&one), lab_fini(&two);
  registry_free(names);
  names = NULL;
}

static void a_lookup_of_one_thread_is_waited_for_by_others_and_begun_anew_when_that_thread_ends(void) {
  struct lab one, two;
  struct request a, b;
  world("127.0.0.7");
  hold = 1;
  names = registry_new();
  lab_init(&one), lab_init(&two);
  ask(&one, &a, "name.example", 80);
  ask(&two, &b, "name.example", 80);
  while (asked < 1) usleep(1000);
  resolver_close(one.r, set_true, &one.closed);
  CHECK(a.status == UV_ECANCELED);
  hold = 0;
  lab_end(&one); /* the lookup could not be stopped, so its outcome is there */
  wait_for(&two, &b);
  CHECK(b.status == 0 && b.n == 1 && asked <= 2);
  lab_fini(&two);
  registry_free(names);
  names = NULL;
}

static atomic_int unanswered;
static void *ask_much(void *arg) {
  struct lab lab;
  (void)arg;
  lab_init(&lab);
  for (int i = 0; i < 200; i++) {
    struct request a;
    char name[32];
    snprintf(name, sizeof name, "n%d.example", i % 7);
    ask(&lab, &a, name, 80);
    if (i % 3 == 0)
      resolver_cancel(&a.q);
    else
      wait_for(&lab, &a);
    if (i % 3 != 0 && a.status != 0) unanswered++;
    if (i % 20 == 0) later_by(40);
  }
  lab_fini(&lab);
  return NULL;
}

static void many_threads_ask_at_once(void) {
  pthread_t threads[4];
  answers = "127.0.0.1 127.0.0.2";
  names = registry_new();
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, ask_much, NULL) == 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  CHECK(unanswered == 0);
  registry_free(names);
  names = NULL;
}

/* --- age --- */

static void an_answer_serves_at_once_for_a_minute_and_is_renewed_meanwhile(void) {
  struct lab lab;
  struct request a;
  world("127.0.0.1");
  lab_init(&lab);
  CHECK(get(&lab) == 1);
  answers = "127.0.0.2";
  later_by(29);
  CHECK(get(&lab) == 1 && asked == 1);
  later_by(10);
  CHECK(ask(&lab, &a, "name.example", 80)->calls == 1); /* the old one, and a new one is on its way */
  until_asked(&lab, 2);
  CHECK(get(&lab) == 2);
  lab_fini(&lab);
}

static void an_older_one_waits_for_a_new_one(void) {
  struct lab lab;
  world("127.0.0.1");
  lab_init(&lab);
  CHECK(get(&lab) == 1);
  answers = "127.0.0.2";
  later_by(90);
  CHECK(get(&lab) == 2 && asked == 2);
  lab_fini(&lab);
}

static void while_the_name_server_fails_or_hangs_the_old_one_serves_for_an_hour(void) {
  struct lab lab;
  struct request a;
  world("127.0.0.1");
  lab_init(&lab);
  CHECK(get(&lab) == 1);
  answers = "";
  later_by(600);
  CHECK(get(&lab) == 1 && asked == 2);
  CHECK(ask(&lab, &a, "name.example", 80)->calls == 1 &&
        asked == 2); /* known to fail: nobody waits, and it is left in peace */
  later_by(600);
  answers = "127.0.0.2"; /* and when it has recovered in the meantime, that is seen */
  CHECK(get(&lab) == 2 && asked == 3);
  answers = "";
  later_by(90);
  CHECK(get(&lab) == 2 && asked == 4);
  later_by(6);
  hold = 1;
  CHECK(ask(&lab, &a, "name.example", 80)->calls == 1);
  while (asked < 5) usleep(1000);
  hold = 0;
  answers = "127.0.0.1";
  until_asked(&lab, 5);
  later_by(600);
  hold = 1;
  CHECK(ask(&lab, &a, "name.example", 80)->calls == 0); /* it may answer yet */
  wait_for(&lab, &a);                                   /* it does not */
  CHECK(a.status == 0 && hold == 1);
  hold = 0;
  answers = "";
  until_asked(&lab, 6);
  later_by(3700);
  CHECK(get(&lab) == -1);
  lab_fini(&lab);
}

/* --- an answer whose addresses all fail --- */

static void beyond_an_answer_a_newer_one_is_asked_for_once_a_second(void) {
  struct lab lab;
  struct request a, b;
  world("127.0.0.1");
  lab_init(&lab);
  wait_for(&lab, ask(&lab, &a, "name.example", 80));
  uint64_t old = a.q.number;
  CHECK(old > 0 && ask_beyond(&lab, &b, old)->calls == 1 && b.status == UV_EAGAIN && asked == 1); /* it is new */
  answers = "127.0.0.2";
  later_by(2);
  CHECK(ask_beyond(&lab, &b, old)->calls == 0);
  wait_for(&lab, &b);
  CHECK(b.status == 0 && (ntohl(b.first.in.sin_addr.s_addr) & 0xff) == 2 && asked == 2);
  CHECK(ask_beyond(&lab, &a, old)->calls == 1 && a.status == 0 && asked == 2); /* another's question */
  answers = "";
  later_by(2);
  wait_for(&lab, ask_beyond(&lab, &a, b.q.number));
  CHECK(a.status == UV_EAGAIN && asked == 3);
  hold = 1;
  later_by(2);
  wait_for(&lab, ask_beyond(&lab, &a, b.q.number)); /* and not for long */
  CHECK(a.status == UV_EAGAIN && hold == 1);
  hold = 0;
  lab_fini(&lab);
}

/* --- what a name has settled on --- */

static struct answers history;
static int64_t at;
static void says(const char *list, int seconds) { /* an answer, and then so much time */
  struct addrinfo *ai = all_answers(list);
  struct answer a;
  answer_read(&a, ai, at);
  freeaddrinfo(ai);
  answers_add(&history, &a);
  at += seconds * 1000;
}
static void fresh_history(void) {
  history = (struct answers){0};
  at = 1000000;
}
static bool is_settled(void) { return answers_settled(&history, at); }

static void a_name_settles_after_a_minute_of_the_same_answers(void) {
  fresh_history();
  says("10.0.0.1 10.0.0.2", 30);
  CHECK(!is_settled());
  says("10.0.0.2 10.0.0.1", 29);
  CHECK(!is_settled());
  at += 1000;
  CHECK(is_settled());
  fresh_history();
  says("10.0.0.1", 300);
  CHECK(!is_settled()); /* one answer is none */
}

static void a_name_that_moves_settles_a_minute_after_the_last_old_answer(void) {
  fresh_history();
  for (int i = 0; i < 10; i++) says("10.0.0.1", 30);
  says("10.0.0.2", 0);
  CHECK(!is_settled());
  at += 30000;
  says("10.0.0.2", 0);
  CHECK(is_settled());
}

static void a_name_that_answers_with_other_parts_each_time_never_settles(void) {
  static const char *const parts[] = {"10.0.0.1 10.0.0.2", "10.0.0.2 10.0.0.3", "10.0.0.3 10.0.0.4",
                                      "10.0.0.4 10.0.0.1"};
  fresh_history();
  for (int i = 0; i < 200; i++) {
    says(parts[i % 4], 30);
    CHECK(!is_settled());
  }
}

static void a_name_whose_parts_are_repeated_by_a_cache_is_found_out(void) {
  int times = 0;
  fresh_history();
  for (int i = 0; i < 120; i++) { /* three parts in turn, each for two minutes */
    says(i / 4 % 3 == 0 ? "10.0.0.1" : i / 4 % 3 == 1 ? "10.0.0.2" : "10.0.0.3", 30);
    times += is_settled();
  }
  CHECK(times < 12);
  for (int i = 0; i < 60; i++) says("10.0.0.9", 30); /* and when it moves for good, that is seen, too */
  CHECK(is_settled());
}

static void a_name_with_more_addresses_than_are_used_never_settles(void) {
  char list[64 * 16] = "";
  for (int i = 0; i < 40; i++) snprintf(list + strlen(list), sizeof list - strlen(list), "10.0.1.%d ", i);
  fresh_history();
  for (int i = 0; i < 10; i++) says(list, 30);
  CHECK(!is_settled() && history.last.n == RESOLVE_MAX);
}

static void a_name_with_connections_is_asked_again_without_a_lookup(void) {
  struct lab lab;
  union address v[RESOLVE_MAX];
  world("127.0.0.1 127.0.0.2");
  lab_init(&lab);
  CHECK(get(&lab) == 1 && resolver_settled(lab.r, "name.example", v) == 0 && asked == 1);
  for (int i = 2; i <= 3; i++) {
    later_by(31);
    resolver_settled(lab.r, "name.example", v);
    until_asked(&lab, i);
  }
  CHECK(resolver_settled(lab.r, "Name.example", v) == 2 && v[0].in.sin_port == 0);
  CHECK(resolver_settled(lab.r, "127.0.0.1", v) == 0);
  lab_fini(&lab);
}

int main(void) {
  RUN(literals_are_answered_at_once);
  RUN(a_name_is_asked_once_for_all_who_wait_and_kept);
  RUN(a_failed_name_can_be_asked_again_from_its_callback);
  RUN(closing_cancels_what_waits);
  RUN(what_one_thread_has_asked_another_one_knows);
  RUN(a_lookup_of_one_thread_is_waited_for_by_others_and_begun_anew_when_that_thread_ends);
  RUN(many_threads_ask_at_once);
  RUN(an_answer_serves_at_once_for_a_minute_and_is_renewed_meanwhile);
  RUN(an_older_one_waits_for_a_new_one);
  RUN(while_the_name_server_fails_or_hangs_the_old_one_serves_for_an_hour);
  RUN(beyond_an_answer_a_newer_one_is_asked_for_once_a_second);
  RUN(a_name_settles_after_a_minute_of_the_same_answers);
  RUN(a_name_that_moves_settles_a_minute_after_the_last_old_answer);
  RUN(a_name_that_answers_with_other_parts_each_time_never_settles);
  RUN(a_name_whose_parts_are_repeated_by_a_cache_is_found_out);
  RUN(a_name_with_more_addresses_than_are_used_never_settles);
  RUN(a_name_with_connections_is_asked_again_without_a_lookup);
  return 0;
}
