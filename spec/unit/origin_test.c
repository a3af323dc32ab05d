/* origin_test.c: places that may not have every address, and who waits for whose dial. The answers to names are made here: this program's getaddrinfo comes before the system's, so a name can
 * have several addresses, and other ones the next time. Servers listen on 127.0.0.1 to .3 at one port. */
#include "http/origin.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"

/* --- names --- */

static _Atomic(const char *) answers; /* "127.0.0.1 127.0.0.2"; asked for on libuv's pool */
static atomic_int asked;

static struct addrinfo *one_answer(const char *ip, struct addrinfo *next) {
  struct addrinfo *ai = calloc(1, sizeof *ai);
  struct sockaddr_in *in = calloc(1, sizeof *in);
  CHECK(ai != NULL && in != NULL);
  in->sin_family = AF_INET;
  CHECK(inet_pton(AF_INET, ip, &in->sin_addr) == 1);
  *ai = (struct addrinfo){
      .ai_family = AF_INET, .ai_addr = (struct sockaddr *)in, .ai_addrlen = sizeof *in, .ai_next = next};
  return ai;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
  (void)host, (void)service, (void)hints;
  char text[128], *rest = NULL;
  snprintf(text, sizeof text, "%s", atomic_load(&answers));
  asked++;
  *out = NULL;
  for (char *ip = strtok_r(text, " ", &rest); ip != NULL; ip = strtok_r(NULL, " ", &rest)) *out = one_answer(ip, *out);
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
  lab->resolver = resolver_new(&lab->loop);
  lab->origins = origins_new(&lab->net, &lab->wheel, lab->resolver);
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
  place_give_back(&c->place, 60000, 4);
  answers = "127.0.0.2";
  /* the name's known answer is the old one still: neither it nor the pooled connection will do */
  CHECK(take(&lab, "127.0.0.2", false)->status == ERR_FORBIDDEN);
  c = take(&lab, "127.0.0.1", false);
  CHECK(host_of(c) == 1 && c->place.conn->reused && dialed(&lab) == 1);
  place_give_back(&c->place, 60000, 4);
  c = take(&lab, NULL, false);
  CHECK(c->place.conn->reused);
  place_close(&c->place);
  lab_fini(&lab);
}

static void a_fresh_place_passes_the_pool_by(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  place_give_back(&take(&lab, NULL, false)->place, 60000, 4);
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
    place_give_back(&v[i].place, 60000, 3);
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
  place_give_back(&v[1].place, 60000, 4);
  CHECK(c->state == ORIGIN_SHARED);
  v[1] = (struct caller){0};
  ask(&lab, &v[1], false);
  CHECK(v[1].calls == 1 && v[1].place.conn == c && c->state == ORIGIN_FULL);
  place_give_back(&v[0].place, 60000, 4);
  place_give_back(&v[1].place, 60000, 4);
  CHECK(c->state == ORIGIN_SHARED && origins_counts(lab.origins).leased == 2);
  place_give_back(&v[2].place, 60000, 4);
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
  place_give_back(&v[3].place, 60000, 4);
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
  CHECK(asked > 0);
  return 0;
}
