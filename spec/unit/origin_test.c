/* origin_test.c: places that may not have every address, and who waits for whose dial. The answers to names are made here: this program's getaddrinfo comes before the system's, so a name can
 * have several addresses, and other ones the next time; and so does its clock_gettime, so that time can pass quickly. Servers listen on 127.0.0.1 to .3 at one port. */
#include "http/origin.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "http/health.h"

/* --- time --- */

static atomic_llong skew_s;

int clock_gettime(clockid_t id, struct timespec *t) {
  int rc = (int)syscall(SYS_clock_gettime, id, t);
  if (id != CLOCK_REALTIME && id != CLOCK_THREAD_CPUTIME_ID) t->tv_sec += skew_s;
  return rc;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- names --- */

static _Atomic(const char *) answers; /* "127.0.0.1 127.0.0.2"; asked for on libuv's pool */
static atomic_int asked;

static struct addrinfo *one_answer(const char *ip, struct addrinfo *next) {
  struct addrinfo *ai = calloc(1, sizeof *ai);
  union address *a = calloc(1, sizeof *a);
  CHECK(ai != NULL && a != NULL);
  bool six = strchr(ip, ':') != NULL;
  CHECK((six ? uv_ip6_addr(ip, 0, &a->in6) : uv_ip4_addr(ip, 0, &a->in)) == 0);
  *ai =
      (struct addrinfo){.ai_family = a->sa.sa_family, .ai_addr = &a->sa, .ai_addrlen = address_len(a), .ai_next = next};
  return ai;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
  (void)host, (void)service, (void)hints;
  char text[128], *rest = NULL;
  snprintf(text, sizeof text, "%s", atomic_load(&answers));
  asked++;
  *out = NULL;
  struct addrinfo **last = out;
  for (char *ip = strtok_r(text, " ", &rest); ip != NULL; ip = strtok_r(NULL, " ", &rest))
    last = &(*last = one_answer(ip, NULL))->ai_next;
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

/* --- what is needed around an origin --- */

struct lab {
  uv_loop_t loop;
  struct net net;
  struct wheel wheel;
  struct mailbox mailbox;
  struct resolver *resolver;
  struct origins *origins;
  struct origin *origin;
  int servers[3];
  uint16_t port;
  bool closed;
};

static void lab_init(struct lab *lab) {
  *lab = (struct lab){0};
  CHECK(uv_loop_init(&lab->loop) == 0);
  net_init(&lab->net, &lab->loop);
  wheel_init(&lab->wheel, &lab->loop);
  CHECK(mailbox_init(&lab->mailbox, &lab->loop) == 0);
  lab->resolver = resolver_new(NULL, &lab->loop, &lab->mailbox, &lab->wheel);
  lab->origins = origins_new(&lab->net, &lab->wheel, lab->resolver, NULL, NULL);
  union address a;
  for (int i = 0; i < 3; i++) { /* the first one's port for all */
    char text[32];
    snprintf(text, sizeof text, "127.0.0.%d:%u", i + 1, lab->port);
    CHECK(address_parse(str_of(text), &a) == 0);
    lab->servers[i] = address_listen(&a, 16);
    CHECK(lab->servers[i] >= 0);
    lab->port = ntohs(a.in.sin_port);
  }
  struct origin_settings s = {.host = STR("name.example"), .port = lab->port};
  lab->origin = origin_get(lab->origins, &s);
}

static void set_true(void *arg) { *(bool *)arg = true; }

static void lab_fini(struct lab *lab) {
  origin_unref(lab->origin);
  origins_close(lab->origins, set_true, &lab->closed);
  while (!lab->closed) uv_run(&lab->loop, UV_RUN_ONCE);
  resolver_close(lab->resolver, NULL, NULL);
  wheel_close(&lab->wheel);
  mailbox_close(&lab->mailbox);
  uv_run(&lab->loop, UV_RUN_DEFAULT);
  net_fini(&lab->net);
  CHECK(uv_loop_close(&lab->loop) == 0);
  for (int i = 0; i < 3; i++) close(lab->servers[i]);
}

/* --- places --- */

struct caller {
  struct place place;
  const char *only; /* addresses that are allowed */
  unsigned streams; /* what its connection is said to carry once it is there; 0: nothing is said */
  int calls, status, judged;
};

static bool only_these(struct place *p, const union address *a) {
  struct caller *mine = (struct caller *)p;
  char ip[INET_ADDRSTRLEN];
  mine->judged++;
  CHECK(inet_ntop(AF_INET, &a->in.sin_addr, ip, sizeof ip) != NULL);
  return strstr(mine->only, ip) != NULL;
}

static void on_done(struct place *p, int status, const char *reason) {
  struct caller *mine = (struct caller *)p;
  CHECK(status == 0 ? p->conn != NULL : p->conn == NULL && reason != NULL);
  mine->calls++;
  mine->status = status;
  if (status == 0 && mine->streams > 0) origin_conn_places(p->conn, mine->streams);
}

static void ask(struct lab *lab, struct caller *c, bool fresh) {
  c->place.done = on_done;
  c->place.allowed = c->only != NULL ? only_these : NULL;
  place_take(lab->origin, &c->place, 5000, fresh);
}

static void give_back(struct caller *c, unsigned idle) {
  place_give_back(&c->place, &(struct pool_terms){.keep_ms = 3600000, .idle = idle});
}

static void await(struct lab *lab, struct caller *c) {
  while (c->calls == 0) uv_run(&lab->loop, UV_RUN_ONCE);
  CHECK(c->calls == 1);
}

/* A place that may have the addresses in `only`; NULL: all of them. */
static struct caller *take(struct lab *lab, const char *only, bool fresh) {
  static struct caller c; /* a place may not move */
  c = (struct caller){.only = only};
  ask(lab, &c, fresh);
  await(lab, &c);
  return &c;
}

/* The last number of its address. */
static int host_of(const struct caller *c) {
  CHECK(c->status == 0 && c->place.conn != NULL);
  return (int)(ntohl(c->place.conn->address.in.sin_addr.s_addr) & 0xff);
}

static unsigned dialed(const struct lab *lab) { return (unsigned)origins_counts(lab->origins).dialed; }

static void of_several_addresses_only_those_allowed_are_tried(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1 127.0.0.2 127.0.0.3";
  for (int i = 0; i < 6; i++) {
    struct caller *c = take(&lab, "127.0.0.2", true);
    CHECK(host_of(c) == 2);
    place_close(&c->place);
  }
  bool seen[4] = {false};
  for (int i = 0; i < 6; i++) { /* round robin over the two that are left */
    struct caller *c = take(&lab, "127.0.0.1 127.0.0.3", true);
    seen[host_of(c)] = true;
    place_close(&c->place);
  }
  CHECK(seen[1] && !seen[2] && seen[3]);
  lab_fini(&lab);
}

static void with_none_allowed_nothing_is_dialled_and_the_server_is_not_called_down(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1 127.0.0.2";
  struct caller *c = take(&lab, "10.0.0.1", false);
  CHECK(c->status == ERR_FORBIDDEN && c->judged == 2);
  CHECK(dialed(&lab) == 0 && !origin_down(lab.origin));
  lab_fini(&lab);
}

static void an_allowed_address_that_fails_leads_to_no_other_kind(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1 127.0.0.9"; /* nobody listens on the second */
  struct caller *c = take(&lab, "127.0.0.9", false);
  CHECK(c->status == UV_ECONNREFUSED && dialed(&lab) == 1);
  lab_fini(&lab);
}

static void a_pooled_connection_is_judged_by_its_own_address(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct caller *c = take(&lab, NULL, false);
  CHECK(host_of(c) == 1);
  give_back(c, 4);
  answers = "127.0.0.2";
  /* the name's known answer is the old one still: neither it nor the pooled connection will do */
  CHECK(take(&lab, "127.0.0.2", false)->status == ERR_FORBIDDEN);
  c = take(&lab, "127.0.0.1", false);
  CHECK(host_of(c) == 1 && c->place.conn->reused && dialed(&lab) == 1);
  give_back(c, 4);
  c = take(&lab, NULL, false);
  CHECK(c->place.conn->reused);
  place_close(&c->place);
  lab_fini(&lab);
}

static void a_fresh_place_passes_the_pool_by(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  give_back(take(&lab, NULL, false), 4);
  struct caller *c = take(&lab, NULL, true);
  CHECK(!c->place.conn->reused && dialed(&lab) == 2);
  place_close(&c->place);
  lab_fini(&lab);
}

/* --- one place a connection, as with HTTP/1.1 --- */

static void every_caller_dials_where_a_dial_brings_one_place(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct caller v[5] = {0};
  for (int i = 0; i < 5; i++) ask(&lab, &v[i], false);
  for (int i = 0; i < 5; i++) await(&lab, &v[i]);
  CHECK(dialed(&lab) == 5 && origins_counts(lab.origins).leased == 5);
  for (int i = 0; i < 5; i++) {
    CHECK(v[i].place.conn->state == ORIGIN_FULL);
    struct origin_conn *c = v[i].place.conn;
    give_back(&v[i], 3);
    CHECK(c->state == ORIGIN_IDLE && v[i].place.conn == NULL);
  }
  CHECK(origins_counts(lab.origins).leased == 0 && origins_counts(lab.origins).idle == 3); /* the pool's most */
  lab_fini(&lab);
}

static void a_cancelled_caller_ends_its_dial(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct caller gone = {0}, stays = {0};
  ask(&lab, &gone, false);
  ask(&lab, &stays, false);
  place_cancel(&gone.place);
  await(&lab, &stays);
  CHECK(gone.calls == 0 && host_of(&stays) == 1);
  place_close(&stays.place);
  lab_fini(&lab);
}

/* --- many places a connection: who speaks on it says so, as HTTP/2 will when its peer's settings are there --- */

/* Leaves the lab with a server that is known for `streams` places a connection, and no connection. */
static void learn(struct lab *lab, unsigned streams) {
  struct caller c = {.streams = streams};
  ask(lab, &c, false);
  await(lab, &c);
  CHECK(c.place.conn->state == ORIGIN_SHARED);
  place_close(&c.place);
}

static void callers_share_a_connection_up_to_its_places(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct caller v[4] = {{.streams = 3}};
  for (int i = 0; i < 4; i++) ask(&lab, &v[i], false), await(&lab, &v[i]);
  struct origin_conn *c = v[0].place.conn;
  CHECK(v[1].place.conn == c && v[2].place.conn == c && c->state == ORIGIN_FULL && c->taken == 3);
  CHECK(v[3].place.conn != c && dialed(&lab) == 2);
  give_back(&v[1], 4);
  CHECK(c->state == ORIGIN_SHARED);
  v[1] = (struct caller){0};
  ask(&lab, &v[1], false);
  CHECK(v[1].calls == 1 && v[1].place.conn == c && c->state == ORIGIN_FULL);
  give_back(&v[0], 4);
  give_back(&v[1], 4);
  CHECK(c->state == ORIGIN_SHARED && origins_counts(lab.origins).leased == 2);
  give_back(&v[2], 4);
  CHECK(c->state == ORIGIN_IDLE && origins_counts(lab.origins).leased == 1);
  place_close(&v[3].place);
  lab_fini(&lab);
}

static void as_many_wait_for_a_dial_as_it_is_likely_to_serve(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  learn(&lab, 3);
  struct caller v[7] = {0};
  for (int i = 0; i < 7; i++) v[i].streams = 3, ask(&lab, &v[i], false);
  for (int i = 0; i < 7; i++) await(&lab, &v[i]);
  CHECK(dialed(&lab) == 1 + 3);
  for (int i = 0; i < 7; i++) place_close(&v[i].place);
  lab_fini(&lab);
}

static void a_dial_that_brings_less_than_expected_leaves_the_others_to_dial(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  learn(&lab, 10);
  struct caller v[4] = {0}; /* the server speaks HTTP/1.1 now */
  for (int i = 0; i < 4; i++) ask(&lab, &v[i], false);
  for (int i = 0; i < 4; i++) await(&lab, &v[i]);
  CHECK(dialed(&lab) == 1 + 4);
  for (int i = 0; i < 4; i++) {
    CHECK(v[i].place.conn->state == ORIGIN_FULL);
    place_close(&v[i].place);
  }
  lab_fini(&lab);
}

static void a_dial_that_fails_has_failed_for_all_who_wait_for_it(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  learn(&lab, 10);
  for (int i = 0; i < 3; i++) close(lab.servers[i]);
  struct caller v[4] = {0};
  for (int i = 0; i < 4; i++) ask(&lab, &v[i], false);
  for (int i = 0; i < 4; i++) await(&lab, &v[i]);
  for (int i = 0; i < 4; i++) CHECK(v[i].status == UV_ECONNREFUSED);
  CHECK(dialed(&lab) == 1 + 1);
  for (int i = 0; i < 3; i++) lab.servers[i] = dup(0); /* for lab_fini */
  lab_fini(&lab);
}

static void a_dial_outlives_the_caller_that_it_was_begun_for_while_others_wait(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  learn(&lab, 10);
  struct caller v[4] = {0};
  for (int i = 0; i < 4; i++) v[i].streams = 10, ask(&lab, &v[i], false);
  place_cancel(&v[0].place); /* its own */
  place_cancel(&v[2].place); /* one that waits */
  await(&lab, &v[1]);
  await(&lab, &v[3]);
  CHECK(v[0].calls == 0 && v[2].calls == 0 && v[1].place.conn == v[3].place.conn && dialed(&lab) == 1 + 1);
  place_close(&v[1].place);
  CHECK(v[3].place.conn->state == ORIGIN_RETIRING);
  struct caller next = {0};
  ask(&lab, &next, false);
  await(&lab, &next);
  CHECK(next.place.conn != v[3].place.conn); /* that one gives no new place */
  give_back(&v[3], 4);
  CHECK(origins_counts(lab.origins).idle == 0 && origins_counts(lab.origins).leased == 1);
  place_close(&next.place);
  lab_fini(&lab);
}

static void who_judges_addresses_waits_for_nobody_elses_dial(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1 127.0.0.2";
  learn(&lab, 10);
  struct caller v[3] = {{.only = NULL}, {.only = "127.0.0.2"}, {.only = "10.0.0.1"}};
  for (int i = 0; i < 3; i++) v[i].streams = 10, ask(&lab, &v[i], true);
  for (int i = 0; i < 3; i++) await(&lab, &v[i]);
  CHECK(host_of(&v[1]) == 2 && v[2].status == ERR_FORBIDDEN && dialed(&lab) == 1 + 2);
  place_close(&v[0].place), place_close(&v[1].place);
  lab_fini(&lab);
}

/* --- several addresses, some of which are silent --- */

/* Takes no connection: its queue is full, so the kernel drops what comes. */
struct silent {
  int fd, fill[8];
};
static struct silent silent_at(const struct lab *lab, int host) {
  struct silent s;
  struct sockaddr_in in = {
      .sin_family = AF_INET, .sin_port = htons(lab->port), .sin_addr.s_addr = htonl(0x7f000000u + (unsigned)host)};
  s.fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(bind(s.fd, (struct sockaddr *)&in, sizeof in) == 0 && listen(s.fd, 0) == 0);
  for (int i = 0; i < 8; i++) {
    s.fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    (void)connect(s.fill[i], (struct sockaddr *)&in, sizeof in);
    usleep(1000);
  }
  return s;
}
static void silent_end(struct silent *s) {
  close(s->fd);
  for (int i = 0; i < 8; i++) close(s->fill[i]);
}

static void jump(struct lab *lab, int by) {
  skew_s += by;
  uv_run(&lab->loop, UV_RUN_NOWAIT); /* the loop's own idea of the time */
}

static double timed_take(struct lab *lab, int expected) {
  double t0 = seconds();
  struct caller *c = take(lab, NULL, true);
  CHECK(host_of(c) == expected);
  place_close(&c->place);
  return seconds() - t0;
}

/* How many of them wait for nobody; a busy machine may hold up one or the other. */
static int takes_at_once(struct lab *lab, int expected, int times) {
  int n = 0;
  for (int i = 0; i < times; i++) n += timed_take(lab, expected) < 0.24;
  return n;
}

static void a_silent_address_is_passed_after_a_quarter_of_a_second_and_then_known(void) {
  struct lab lab;
  lab_init(&lab);
  struct silent s = silent_at(&lab, 8);
  answers = "127.0.0.8 127.0.0.1";
  double took = timed_take(&lab, 1);
  CHECK(took > 0.24 && took < 5);
  CHECK(takes_at_once(&lab, 1, 4) >= 2);
  struct origin_settings other = {.host = STR("other.example"), .port = lab.port}; /* it is the address that is known */
  struct origin *first = lab.origin;
  lab.origin = origin_get(lab.origins, &other);
  CHECK(takes_at_once(&lab, 1, 3) >= 2);
  origin_unref(first);
  silent_end(&s);
  lab_fini(&lab);
}

static void with_many_silent_addresses_the_last_one_is_reached_all_the_same(void) {
  struct lab lab;
  lab_init(&lab);
  struct silent s[8];
  for (int i = 0; i < 8; i++) s[i] = silent_at(&lab, 10 + i);
  answers = "127.0.0.10 127.0.0.11 127.0.0.12 127.0.0.13 127.0.0.14 127.0.0.15 127.0.0.16 127.0.0.17 127.0.0.2";
  CHECK(timed_take(&lab, 2) > 1.9);
  CHECK(takes_at_once(&lab, 2, 3) >= 2);
  for (int i = 0; i < 8; i++) silent_end(&s[i]);
  lab_fini(&lab);
}

static void a_silent_address_that_is_not_allowed_is_not_waited_for(void) {
  struct lab lab;
  lab_init(&lab);
  struct silent s = silent_at(&lab, 8);
  answers = "127.0.0.8 127.0.0.1";
  double t0 = seconds();
  struct caller *c = take(&lab, "127.0.0.1", true);
  CHECK(host_of(c) == 1 && seconds() - t0 < 0.24 && dialed(&lab) == 1);
  place_close(&c->place);
  silent_end(&s);
  lab_fini(&lab);
}

static void a_caller_that_leaves_closes_all_that_was_begun_for_it(void) {
  struct lab lab;
  lab_init(&lab);
  struct silent s = silent_at(&lab, 8), s2 = silent_at(&lab, 9);
  answers = "127.0.0.8 127.0.0.9";
  struct caller c = {0};
  ask(&lab, &c, true);
  while (dialed(&lab) < 2) uv_run(&lab.loop, UV_RUN_ONCE);
  place_cancel(&c.place);
  CHECK(c.calls == 0);
  silent_end(&s), silent_end(&s2);
  lab_fini(&lab);
}

static void an_answer_whose_addresses_all_fail_is_asked_for_anew(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.9"; /* nobody listens */
  CHECK(take(&lab, NULL, true)->status == UV_ECONNREFUSED && dialed(&lab) == 1);
  jump(&lab, 3);
  answers = "127.0.0.9 127.0.0.2";
  (void)timed_take(&lab, 2);
  answers = "127.0.0.8";
  struct silent s = silent_at(&lab, 8);
  jump(&lab, 100);
  CHECK(take(&lab, "127.0.0.1", true)->status == ERR_FORBIDDEN); /* leaves the silent one as the known answer */
  answers = "127.0.0.3";
  jump(&lab, 3);
  double took = timed_take(&lab, 3);
  CHECK(took > 0.24 && took < 5);
  silent_end(&s);
  lab_fini(&lab);
}

static void the_system_s_family_comes_first_and_then_they_alternate(void) {
  static struct health h;
  union address v[5];
  static const char *const ip[] = {"[2001:db8::1]:1", "[2001:db8::2]:1", "10.0.0.1:1", "10.0.0.2:1", "[2001:db8::3]:1"};
  for (int i = 0; i < 5; i++) CHECK(address_parse(str_of(ip[i]), &v[i]) == 0);
  union address six = v[1], four = v[3];
  health_order(&h, v, 5, 0, 1000);
  char text[ADDRESS_TEXT];
  CHECK(address_format(&v[1], text, sizeof text) == 0 && strcmp(text, "10.0.0.1:1") == 0);
  CHECK(v[0].sa.sa_family == AF_INET6 && v[2].sa.sa_family == AF_INET6 && v[4].sa.sa_family == AF_INET6);
  health_slow(&h, &six, 1000);
  health_failed(&h, &four, 1000);
  health_order(&h, v, 5, 0, 2000);
  CHECK(address_same(&v[4], &six) && address_same(&v[3], &four)); /* its time is up earlier */
  union address over[] = {six, four};
  health_order(&h, over, 2, 0, 1000 + HEALTH_SLOW_MS);
  CHECK(address_same(&over[0], &six));
  health_slow(&h, &six, 100000); /* again: for twice as long */
  union address two[] = {six, four};
  health_order(&h, two, 2, 0, 100000 + HEALTH_SLOW_MS + 1);
  CHECK(address_same(&two[0], &four));
  health_good(&h, &six);
  union address back[] = {six, four};
  health_order(&h, back, 2, 0, 100000 + HEALTH_SLOW_MS + 1);
  CHECK(address_same(&back[0], &six));
}

static void a_server_is_out_after_three_failures_in_a_row_and_tried_by_one_request_at_a_time(void) {
  struct standing s = {0};
  CHECK(standing_failed(&s, false, 1000) == STANDING_AS_BEFORE &&
        standing_failed(&s, false, 1000) == STANDING_AS_BEFORE);
  CHECK(standing_served(&s, false) == STANDING_AS_BEFORE && s.failures == 0);
  for (int i = 0; i < 2; i++) CHECK(standing_failed(&s, false, 1000) == STANDING_AS_BEFORE);
  CHECK(standing_failed(&s, false, 1000) == STANDING_WENT_OUT && standing_out(&s));
  for (int i = 0; i < 20; i++) CHECK(standing_failed(&s, false, 1000) == STANDING_AS_BEFORE); /* were under way */
  uint64_t t = 1000 + STANDING_OUT_MS;
  CHECK(!standing_try(&s, true, t - 1) && !standing_try(&s, false, t));
  CHECK(standing_try(&s, true, t) && !standing_try(&s, true, t));
  CHECK(!standing_try(&s, true, t + STANDING_OUT_MS) && standing_try(&s, true, t + 2 * STANDING_OUT_MS)); /* doubled */
  CHECK(standing_try(&s, false, t + 10 * STANDING_OUT_MOST_MS)); /* nobody came who could have gone elsewhere */
  CHECK(standing_served(&s, false) == STANDING_CAME_BACK && !standing_out(&s));
}

static void a_good_head_says_nothing_of_a_server_that_breaks_its_replies_off(void) {
  struct standing s = {0};
  for (int i = 0; i < 2; i++) {
    CHECK(standing_served(&s, false) == STANDING_AS_BEFORE);
    CHECK(standing_failed(&s, true, 1000) == STANDING_AS_BEFORE);
  }
  CHECK(standing_served(&s, false) == STANDING_AS_BEFORE && standing_failed(&s, true, 1000) == STANDING_WENT_OUT);
  CHECK(standing_served(&s, false) == STANDING_AS_BEFORE && standing_served(&s, true) == STANDING_CAME_BACK);
}

/* --- connections that lead where the name does not any more, and old ones --- */

/* A sweep over connections, and the lookups that it begins. */
static void let_time_pass(struct lab *lab, int by) {
  int before = asked;
  jump(lab, by);
  for (double t0 = seconds(); asked == before && seconds() - t0 < 3;) uv_run(&lab->loop, UV_RUN_NOWAIT), usleep(1000);
  for (int i = 0; i < 50 || (i < 2000 && lab->loop.active_reqs.count > 0); i++) /* its answer is there */
    uv_run(&lab->loop, UV_RUN_NOWAIT), usleep(1000);
  jump(lab, 3);
  for (int i = 0; i < 50; i++) uv_run(&lab->loop, UV_RUN_NOWAIT), usleep(1000);
}

static void connections_to_an_address_that_the_name_has_left_retire(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct caller busy = {0}, idle = {0};
  ask(&lab, &busy, false), await(&lab, &busy);
  ask(&lab, &idle, false), await(&lab, &idle);
  give_back(&idle, 4);
  answers = "127.0.0.2";
  let_time_pass(&lab, 31);
  CHECK(origins_counts(lab.origins).idle == 1); /* one answer is none */
  let_time_pass(&lab, 31);
  CHECK(origins_counts(lab.origins).idle == 0 && origins_counts(lab.origins).leased == 1);
  CHECK(busy.place.conn->state == ORIGIN_RETIRING);
  give_back(&busy, 4);
  CHECK(origins_counts(lab.origins).idle == 0 && origins_counts(lab.origins).leased == 0);
  struct caller *c = take(&lab, NULL, false);
  CHECK(host_of(c) == 2);
  place_close(&c->place);
  lab_fini(&lab);
}

static void shared_connections_retire_with_their_last_place(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct caller a = {.streams = 3}, b = {0};
  ask(&lab, &a, false), await(&lab, &a);
  ask(&lab, &b, false), await(&lab, &b);
  struct origin_conn *c = a.place.conn;
  CHECK(c == b.place.conn && c->state == ORIGIN_SHARED);
  answers = "127.0.0.2";
  let_time_pass(&lab, 31);
  let_time_pass(&lab, 31);
  CHECK(c->state == ORIGIN_RETIRING);
  struct caller next = {0};
  ask(&lab, &next, false), await(&lab, &next);
  CHECK(host_of(&next) == 2);
  give_back(&a, 4);
  CHECK(c->state == ORIGIN_RETIRING && c->taken == 1);
  give_back(&b, 4);
  place_close(&next.place);
  lab_fini(&lab);
}

static void connections_of_a_name_that_answers_with_parts_of_its_addresses_stay(void) {
  static const char *const parts[] = {"127.0.0.1", "127.0.0.2", "127.0.0.3"};
  struct lab lab;
  lab_init(&lab);
  answers = parts[0];
  give_back(take(&lab, NULL, false), 4);
  for (int i = 1; i < 7; i++) {
    answers = parts[i % 3];
    let_time_pass(&lab, 31);
    struct caller *c = take(&lab, NULL, false);
    CHECK(host_of(c) == 1 && c->place.conn->reused);
    give_back(c, 4);
  }
  CHECK(dialed(&lab) == 1);
  lab_fini(&lab);
}

static void an_old_connection_serves_no_new_request(void) {
  static const struct pool_terms terms = {.keep_ms = 60000, .age_ms = 20000, .idle = 4}, no_limit = {600000, 0, 4};
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct caller *c = take(&lab, NULL, false);
  jump(&lab, 10);
  place_give_back(&c->place, &terms);
  CHECK(origins_counts(lab.origins).idle == 1);
  skew_s += 12; /* idle, and too old now */
  for (int i = 0; i < 50; i++) uv_run(&lab.loop, UV_RUN_NOWAIT), usleep(1000);
  CHECK(origins_counts(lab.origins).idle == 0);
  c = take(&lab, NULL, false);
  jump(&lab, 21);
  place_give_back(&c->place, &terms); /* too old as it comes back */
  CHECK(origins_counts(lab.origins).idle == 0);
  c = take(&lab, NULL, false);
  jump(&lab, 100000);
  place_give_back(&c->place, &no_limit);
  CHECK(origins_counts(lab.origins).idle == 1);
  lab_fini(&lab);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  RUN(of_several_addresses_only_those_allowed_are_tried);
  RUN(with_none_allowed_nothing_is_dialled_and_the_server_is_not_called_down);
  RUN(an_allowed_address_that_fails_leads_to_no_other_kind);
  RUN(a_pooled_connection_is_judged_by_its_own_address);
  RUN(a_fresh_place_passes_the_pool_by);
  RUN(every_caller_dials_where_a_dial_brings_one_place);
  RUN(a_cancelled_caller_ends_its_dial);
  RUN(callers_share_a_connection_up_to_its_places);
  RUN(as_many_wait_for_a_dial_as_it_is_likely_to_serve);
  RUN(a_dial_that_brings_less_than_expected_leaves_the_others_to_dial);
  RUN(a_dial_that_fails_has_failed_for_all_who_wait_for_it);
  RUN(a_dial_outlives_the_caller_that_it_was_begun_for_while_others_wait);
  RUN(who_judges_addresses_waits_for_nobody_elses_dial);
  RUN(a_silent_address_is_passed_after_a_quarter_of_a_second_and_then_known);
  RUN(with_many_silent_addresses_the_last_one_is_reached_all_the_same);
  RUN(a_silent_address_that_is_not_allowed_is_not_waited_for);
  RUN(a_caller_that_leaves_closes_all_that_was_begun_for_it);
  RUN(an_answer_whose_addresses_all_fail_is_asked_for_anew);
  RUN(the_system_s_family_comes_first_and_then_they_alternate);
  RUN(a_server_is_out_after_three_failures_in_a_row_and_tried_by_one_request_at_a_time);
  RUN(a_good_head_says_nothing_of_a_server_that_breaks_its_replies_off);
  RUN(connections_to_an_address_that_the_name_has_left_retire);
  RUN(shared_connections_retire_with_their_last_place);
  RUN(connections_of_a_name_that_answers_with_parts_of_its_addresses_stay);
  RUN(an_old_connection_serves_no_new_request);
  CHECK(asked > 0);
  return 0;
}
