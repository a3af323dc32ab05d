/* origin_test.c: leases that may not have every address. The answers to names are made here: this program's getaddrinfo comes before the system's, so a name can
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

/* --- leases --- */

struct lease {
  struct origin_lease lease;
  const char *only; /* addresses that are allowed */
  struct origin_conn *conn;
  int calls, status, judged;
};

static bool only_these(struct origin_lease *l, const union address *a) {
  struct lease *mine = (struct lease *)l;
  char ip[INET_ADDRSTRLEN];
  mine->judged++;
  CHECK(inet_ntop(AF_INET, &a->in.sin_addr, ip, sizeof ip) != NULL);
  return strstr(mine->only, ip) != NULL;
}

static void on_done(struct origin_lease *l, struct origin_conn *c, int status, const char *reason) {
  struct lease *mine = (struct lease *)l;
  CHECK(c != NULL || reason != NULL);
  mine->calls++;
  mine->conn = c;
  mine->status = status;
}

/* Leases for one that may have the addresses in `only`; NULL: all of them. */
static struct lease lease(struct lab *lab, const char *only, bool fresh) {
  static struct lease l; /* a lease may not move */
  l = (struct lease){.only = only, .lease = {.done = on_done, .allowed = only != NULL ? only_these : NULL}};
  origin_lease(lab->origin, &l.lease, 5000, fresh);
  while (l.calls == 0) uv_run(&lab->loop, UV_RUN_ONCE);
  CHECK(l.calls == 1);
  return l;
}

/* The last number of its address. */
static int host_of(const struct lease *l) {
  CHECK(l->status == 0 && l->conn != NULL);
  return (int)(ntohl(l->conn->address.in.sin_addr.s_addr) & 0xff);
}

static void of_several_addresses_only_those_allowed_are_tried(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1 127.0.0.2 127.0.0.3";
  for (int i = 0; i < 6; i++) {
    struct lease l = lease(&lab, "127.0.0.2", true);
    CHECK(host_of(&l) == 2);
    origin_discard(l.conn);
  }
  bool seen[4] = {false};
  for (int i = 0; i < 6; i++) { /* round robin over the two that are left */
    struct lease l = lease(&lab, "127.0.0.1 127.0.0.3", true);
    seen[host_of(&l)] = true;
    origin_discard(l.conn);
  }
  CHECK(seen[1] && !seen[2] && seen[3]);
  lab_fini(&lab);
}

static void with_none_allowed_nothing_is_dialled_and_the_server_is_not_called_down(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1 127.0.0.2";
  struct lease l = lease(&lab, "10.0.0.1", false);
  CHECK(l.conn == NULL && l.status == ERR_FORBIDDEN && l.judged == 2);
  CHECK(origins_counts(lab.origins).dialed == 0 && !origin_down(lab.origin));
  lab_fini(&lab);
}

static void an_allowed_address_that_fails_leads_to_no_other_kind(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1 127.0.0.9"; /* nobody listens on the second */
  struct lease l = lease(&lab, "127.0.0.9", false);
  CHECK(l.conn == NULL && l.status == UV_ECONNREFUSED && origins_counts(lab.origins).dialed == 1);
  lab_fini(&lab);
}

static void a_pooled_connection_is_judged_by_its_own_address(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct lease l = lease(&lab, NULL, false);
  CHECK(host_of(&l) == 1);
  origin_release(l.conn, 60000, 4);
  answers = "127.0.0.2";
  l = lease(&lab, "127.0.0.2",
            false); /* the name's known answer is the old one still: neither it nor the pooled connection will do */
  CHECK(l.conn == NULL && l.status == ERR_FORBIDDEN);
  l = lease(&lab, "127.0.0.1", false);
  CHECK(host_of(&l) == 1 && l.conn->reused && origins_counts(lab.origins).dialed == 1);
  origin_release(l.conn, 60000, 4);
  l = lease(&lab, NULL, false);
  CHECK(l.conn->reused);
  origin_discard(l.conn);
  lab_fini(&lab);
}

static void a_fresh_lease_passes_the_pool_by(void) {
  struct lab lab;
  lab_init(&lab);
  answers = "127.0.0.1";
  struct lease l = lease(&lab, NULL, false);
  origin_release(l.conn, 60000, 4);
  l = lease(&lab, NULL, true);
  CHECK(!l.conn->reused && origins_counts(lab.origins).dialed == 2);
  origin_discard(l.conn);
  lab_fini(&lab);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  RUN(of_several_addresses_only_those_allowed_are_tried);
  RUN(with_none_allowed_nothing_is_dialled_and_the_server_is_not_called_down);
  RUN(an_allowed_address_that_fails_leads_to_no_other_kind);
  RUN(a_pooled_connection_is_judged_by_its_own_address);
  RUN(a_fresh_lease_passes_the_pool_by);
  CHECK(asked > 0);
  return 0;
}
