/* tls_files_test.c: what outlives a reading of the files (tickets, sessions), and what happens when the files change. */
#include <sys/time.h>

#include "net/tls_internal.h"
#include "ops/certificates.h"
#include "tls_lab.h"

/* --- a clock of our own: mbedTLS asks time(2) how old a ticket's key is --- */

static time_t ahead;
time_t time(time_t *out) {
  struct timeval now;
  gettimeofday(&now, NULL);
  time_t t = now.tv_sec + ahead;
  if (out != NULL) *out = t;
  return t;
}

/* --- what was told --- */

struct told {
  char text[8192];
  unsigned done, failed, notes;
};
static void tell(struct told *t, const char *text) {
  size_t n = strlen(t->text);
  snprintf(t->text + n, sizeof t->text - n, "%s\n", text);
}
static void on_done(void *arg, const char *path) {
  ((struct told *)arg)->done++;
  tell(arg, path);
}
static void on_failed(void *arg, const char *text) {
  ((struct told *)arg)->failed++;
  tell(arg, text);
}
static void on_note(void *arg, const char *text) {
  ((struct told *)arg)->notes++;
  tell(arg, text);
}
static struct told reread(void) {
  struct told t = {.text = ""};
  struct tls_reread_sink sink = {on_done, on_failed, on_note, &t};
  tls_reread(&sink);
  return t;
}

/* --- files --- */

/* The pair `name` takes the place of live.pem and live.key, as a tool that renews certificates does it: by a rename. */
static void put(const char *what, const char *name, const char *ending) {
  char command[256];
  snprintf(command, sizeof command, "cp %s.%s new && mv new %s.%s", name, ending, what, ending);
  shell(command);
}
static void put_pair(const char *name) {
  put("live", name, "pem");
  put("live", name, "key");
}

/* --- one connection --- */

static bool client_heard(const struct lab *l) { return l->c.got.n > 0; }
struct outcome {
  bool open, resumed;
  char reason[320];
};
static struct outcome try(struct tls_client *c, struct tls_server *s, const char *host) {
  struct lab l;
  struct outcome o = {.reason = ""};
  lab_init(&l, c, s, host);
  buf_addz(&l.c.out, "hello");
  l.s.echo = true;
  dial(&l, 0);
  turn(&l, done_opening);
  o.open = l.c.opened == 0;
  if (o.open) {
    struct tls_peer peer;
    turn(&l, client_heard);
    CHECK(stream_tls_peer(&l.c.stream, &peer));
    o.resumed = peer.resumed;
  }
  snprintf(o.reason, sizeof o.reason, "%s", l.c.reason);
  lab_fini(&l);
  return o;
}

/* --- tests --- */

static void a_renewed_certificate_serves_new_connections_while_old_ones_go_on(void) {
  struct lab old;
  put_pair("ecdsa");
  struct tls_client *c = client();
  struct tls_server *s = server("live");
  lab_open(&old, c, s, "localhost");
  old.s.echo = true;
  put_pair("exact");
  struct told t = reread();
  CHECK(t.done == 1 && t.failed == 0);
  expect_text(t.text, "live.pem");
  CHECK(reread().done == 0); /* nothing has changed since */
  CHECK(try(c, s, "a.example.com").open);
  say(&old.c, "still here");
  turn(&old, client_heard);
  lab_fini(&old);
  tls_client_unref(c);
  tls_server_unref(s);
}

static void a_broken_pair_keeps_the_old_one_and_is_told_once(void) {
  put_pair("ecdsa");
  struct tls_client *c = client();
  struct tls_server *s = server("live");
  put("live", "rsa", "pem"); /* its key comes later */
  struct told t = reread();
  CHECK(t.failed == 1 && t.done == 0);
  expect_text(t.text, "live.key: not the key of the certificate in ");
  CHECK(reread().failed == 0);
  CHECK(try(c, s, "localhost").open);
  put("live", "rsa", "key");
  CHECK(reread().done == 1);
  shell("rm live.key");
  t = reread();
  CHECK(t.failed == 1);
  expect_text(t.text, "live.key: no such file");
  CHECK(try(c, s, "localhost").open);
  tls_client_unref(c);
  tls_server_unref(s);
}

static void an_authority_that_is_taken_away_is_believed_no_more(void) {
  put("live-ca", "ca", "pem");
  struct tls_client *c = client_with((struct tls_client_settings){.ca = file("live-ca.pem")});
  struct tls_server *s = server("ecdsa");
  uint64_t before = tls_client_fingerprint(c);
  CHECK(try(c, s, "localhost").open);
  CHECK(try(c, s, "localhost").resumed);
  put("live-ca", "other-ca", "pem");
  CHECK(reread().done == 1);
  CHECK(tls_client_fingerprint(c) != before);
  struct outcome o = try(c, s, "localhost"); /* no saved session helps */
  CHECK(!o.open);
  expect_text(o.reason, "unknown certificate authority");
  tls_client_unref(c);
  tls_server_unref(s);
}

static void a_folder_of_authorities_is_looked_into(void) {
  shell("rm -rf folder && mkdir folder && cp other-ca.pem folder");
  struct tls_client *c = client_with((struct tls_client_settings){.ca = file("folder")});
  struct tls_server *s = server("ecdsa");
  CHECK(!try(c, s, "localhost").open);
  shell("cp ca.pem folder");
  CHECK(reread().done == 1);
  CHECK(try(c, s, "localhost").open);
  tls_client_unref(c);
  tls_server_unref(s);
}

/* A folder may be named by a hundred upstreams: its certificates are in memory once. */
static void a_folder_is_read_once_for_all_until_it_changes(void) {
  char err[256];
  shell("rm -rf folder && mkdir folder && cp other-ca.pem folder");
  struct tls_trust *a = tls_trust_get(file("folder"), err, sizeof err),
                   *b = tls_trust_get(file("folder"), err, sizeof err);
  CHECK(a != NULL && a == b);
  shell("cp ca.pem folder");
  struct tls_trust *c = tls_trust_get(file("folder"), err, sizeof err);
  CHECK(c != NULL && c != a);
  shell("cp intermediate.pem folder/ca.pem"); /* the folder itself stays as it is */
  struct tls_trust *d = tls_trust_get(file("folder"), err, sizeof err);
  CHECK(d != NULL && d != c && memcmp(tls_trust_digest(c), tls_trust_digest(d), TLS_DIGEST) != 0);
  tls_trust_unref(a), tls_trust_unref(b), tls_trust_unref(c), tls_trust_unref(d);
}

static void tickets_outlive_a_renewal_and_a_reload(void) {
  put_pair("ecdsa");
  struct tls_client *c = client();
  struct tls_server *s = server("live");
  CHECK(!try(c, s, "localhost").resumed);
  shell(
      "openssl req -x509 -CA ca.pem -CAkey ca.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout again.key "
      "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 -days 40 -out again.pem "
      "2>/dev/null");
  put_pair("again"); /* another key, the same names */
  CHECK(reread().done == 1);
  CHECK(try(c, s, "localhost").resumed);
  struct tls_server *next = server("live"); /* as a reload makes it, before the old one goes */
  struct tls_client *next_client = client();
  tls_server_unref(s);
  tls_client_unref(c);
  CHECK(try(next_client, next, "localhost").resumed);
  put_pair("rsa"); /* another kind of key */
  CHECK(reread().done == 1);
  CHECK(!try(next_client, next, "localhost").resumed);
  CHECK(try(next_client, next, "localhost").resumed);
  tls_client_unref(next_client);
  tls_server_unref(next);
}

static struct tls_server *asking(const char *ca, bool required) {
  return server_with((struct tls_server_settings){.client_ca = ca, .client_required = required}, "ecdsa");
}
static void tickets_are_not_for_servers_that_ask_more_of_a_client(void) {
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa"), *optional = asking(file("ca.pem"), false);
  CHECK(!try(c, s, "localhost").resumed);
  CHECK(!try(c, optional, "localhost").resumed);
  tls_client_unref(c);
  struct tls_server *required = asking(file("ca.pem"), true), *other = asking(file("other-ca.pem"), true);
  c = client_with((struct tls_client_settings){.cert = file("client.pem"), .key = file("client.key")});
  CHECK(try(c, required, "localhost").open);
  struct lab l; /* what one authority vouched for is nothing to another one */
  lab_open(&l, c, other, "localhost");
  CHECK(l.s.opened == ERR_TLS);
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
  tls_server_unref(optional);
  tls_server_unref(required);
  tls_server_unref(other);
}

enum { HOUR = 3600 };
static void ticket_keys_rotate_and_the_one_before_is_still_taken(void) {
  struct tls_client *first = client(), *second = client_with((struct tls_client_settings){.server_name = "localhost"});
  struct tls_server *s = server("ecdsa");
  CHECK(!try(first, s, "localhost").resumed);
  ahead = 3 * HOUR;
  CHECK(!try(second, s, "localhost").resumed); /* its ticket is of the first key still */
  CHECK(try(first, s, "localhost").resumed);
  ahead = 5 * HOUR;
  CHECK(try(second, s, "localhost").resumed); /* by the key before: another one has come */
  if (!has_1_3)
    CHECK(!try(first, s, "localhost").resumed); /* too old; TLS 1.3 tells by a clock that is not ours here */
  ahead = 15 * HOUR;
  CHECK(!try(first, s, "localhost").resumed); /* both keys have gone */
  ahead = 0;
  tls_client_unref(first);
  tls_client_unref(second);
  tls_server_unref(s);
}

static void what_is_careless_or_ends_soon_is_noted(void) {
  struct told t = {.text = ""};
  shell(
      "openssl req -x509 -key ecdsa.key -subj /CN=soon -days 12 -out soon.pem 2>/dev/null && cp ecdsa.key soon.key && "
      "chmod 604 soon.key");
  shell(
      "openssl req -x509 -CA ca.pem -CAkey ca.key -key rsa.key -sha1 -subj /CN=old -days 90 -out old.pem 2>/dev/null "
      "&& "
      "cp rsa.key old.key");
  shell("cat ecdsa.pem intermediate.pem > jumbled.pem && cp ecdsa.key jumbled.key");
  static const char *const cases[][2] = {
      {"soon", "soon.pem: the certificate expires in 11 days, on 20"},
      {"soon", "soon.key: a private key that everybody may read"},
      {"weak", "weak.pem: an RSA key of 1024 bits: clients refuse fewer than 2048"},
      {"old", "old.pem: signed by SHA-1, which clients refuse"},
      {"old", "old.pem: the certificate names no host (no subjectAltName): clients refuse it"},
      {"client", "client.pem: the certificate is not meant for servers (extended key usage): clients refuse it"},
      {"expired", "expired.pem: the certificate expired on 2020-01-02"},
      {"future", "future.pem: the certificate is not valid before 2099-01-01"},
      {"jumbled", "the chain is out of order: behind the certificate of CN=localhost"},
      {"lone", "the chain ends below CN=jeton test intermediate"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct tls_server *s = server(cases[i][0]);
    t = (struct told){.text = ""};
    tls_server_notes(s, TLS_NOTES_THOROUGH, on_note, &t);
    expect_text(t.text, cases[i][1]);
    tls_server_unref(s);
  }
  shell("cat chained.pem ca.pem > whole.pem && cp chained.key whole.key");
  struct tls_server *s = server("whole");
  t = (struct told){.text = ""};
  tls_server_notes(s, TLS_NOTES_THOROUGH, on_note, &t);
  CHECK(t.notes == 0);
  tls_server_unref(s);
  /* The authority of the listener's own clients is no stranger. */
  s = server_with((struct tls_server_settings){.client_ca = file("ca.pem")}, "ecdsa");
  tls_server_notes(s, TLS_NOTES_THOROUGH, on_note, &t);
  CHECK(t.notes == 0);
  tls_server_unref(s);
  struct tls_client *c = client_with((struct tls_client_settings){.ca = file("soon.pem")});
  tls_client_notes(c, TLS_NOTES_USUAL, on_note, &t);
  expect_text(t.text, "soon.pem: an authority expires in 11 days");
  tls_client_unref(c);
}

static void expect_client_notes(struct tls_client_settings settings, const char *text) {
  struct told t = {.text = ""};
  struct tls_client *c = client_with(settings);
  tls_client_notes(c, TLS_NOTES_THOROUGH, on_note, &t);
  expect_text(t.text, text);
  CHECK(t.notes == (text[0] != '\0'));
  tls_client_unref(c);
}

static void what_a_client_shows_or_believes_in_vain_is_noted(void) {
  shell("cat intermediate-limited-hard.pem ca.pem > odd-ca.pem");
  expect_client_notes((struct tls_client_settings){.ca = file("rsa.pem")}, "CN=localhost is no authority (CA:FALSE)");
  expect_client_notes((struct tls_client_settings){.ca = file("self-signed.pem")}, "");
  expect_client_notes((struct tls_client_settings){.ca = file("odd-ca.pem")},
                      "odd-ca.pem: certificate 1 in it has a critical extension that is not known here, such as name "
                      "constraints; it is passed over");
  /* Its server has an authority of its own: nothing to say of that. */
  expect_client_notes((struct tls_client_settings){.cert = file("client.pem"), .key = file("client.key")}, "");
  expect_client_notes((struct tls_client_settings){.cert = file("ecdsa.pem"), .key = file("ecdsa.key")},
                      "ecdsa.pem: the certificate is not meant for clients (extended key usage): servers refuse it");
}

/* A key that root shares with a service's group is how that service gets to read it. */
static void a_group_may_read_a_key_that_is_not_ours_alone(void) {
  struct told t = {.text = ""};
  shell("cp ecdsa.pem group.pem; cp ecdsa.key group.key; chmod 640 group.key");
  struct tls_server *s = server("group");
  tls_server_notes(s, TLS_NOTES_USUAL, on_note, &t);
  CHECK(t.notes == (geteuid() != 0));
  if (geteuid() != 0) expect_text(t.text, "group.key: a private key that its group may read");
  tls_server_unref(s);
}

static void on_hook(void *arg) { ++*(unsigned *)arg; }
static void files_and_insecure_names_of_living_configurations_are_told(void) {
  unsigned calls = 0;
  struct told t = {.text = ""};
  tls_on_files(on_hook, &calls);
  struct tls_server *s = server("ecdsa");
  struct tls_client *c = client_with((struct tls_client_settings){.insecure = "a trial"});
  CHECK(calls == 2);
  tls_files(on_note, &t);
  expect_text(t.text, "ecdsa.pem");
  expect_text(t.text, "ecdsa.key");
  CHECK(t.notes == 2);
  t = (struct told){.text = ""};
  tls_insecure(on_note, &t);
  CHECK(strcmp(t.text, "a trial\n") == 0);
  tls_client_unref(c);
  tls_server_unref(s);
  CHECK(calls == 4);
  tls_on_files(NULL, NULL);
  t = (struct told){.text = ""};
  tls_files(on_note, &t);
  CHECK(t.notes == 0);
}

/* --- who watches --- */

static void on_late(uv_timer_t *t) { *(bool *)t->data = true; }

/* Control watches a file only after it was read: what changed in between would else wait for the look of each minute. */
static void a_pair_renewed_before_it_is_watched_is_read_again_at_once(void) {
  uv_loop_t loop;
  uv_timer_t limit;
  bool late = false;
  put_pair("ecdsa");
  CHECK(uv_loop_init(&loop) == 0 && uv_timer_init(&loop, &limit) == 0);
  limit.data = &late;
  CHECK(uv_timer_start(&limit, on_late, 30 * 1000, 0) == 0);
  struct certificates *c = certificates_new(&loop, CERTIFICATES_REMIND_MS);
  struct tls_server *s = server("live");
  put_pair("rsa");
  while (certificates_facts(c).renewed == 0 && !late) (void)uv_run(&loop, UV_RUN_ONCE);
  CHECK(certificates_facts(c).renewed == 1 && certificates_facts(c).failed == 0);
  tls_server_unref(s);
  certificates_close(c);
  uv_close((uv_handle_t *)&limit, NULL);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static unsigned count_in_file(const char *path, const char *what) {
  static char text[64 * 1024];
  unsigned n = 0;
  FILE *f = fopen(path, "r");
  CHECK(f != NULL);
  text[fread(text, 1, sizeof text - 1, f)] = '\0';
  fclose(f);
  for (const char *p = text; (p = strstr(p, what)) != NULL; p++) n++;
  return n;
}

/* A load tells it, but nobody may load for longer than a certificate lives. */
static void what_ends_soon_is_told_again_while_the_process_runs(void) {
  uv_loop_t loop;
  uv_timer_t limit;
  bool late = false;
  shell("openssl req -x509 -key ecdsa.key -subj /CN=soon -days 12 -out soon.pem 2>/dev/null && cp ecdsa.key soon.key");
  CHECK(uv_loop_init(&loop) == 0 && uv_timer_init(&loop, &limit) == 0);
  limit.data = &late;
  CHECK(uv_timer_start(&limit, on_late, 30 * 1000, 0) == 0);
  struct tls_server *one = server("soon"), *other = server("soon"), *fine = server("ecdsa");
  log_configure(&(struct log_settings){.level = LOG_WARN});
  int log = dup(2);
  CHECK(log >= 0 && freopen(file("log"), "w", stderr) != NULL);
  struct certificates *c = certificates_new(&loop, 20);
  while (count_in_file(file("log"), "soon.pem: the certificate expires in 11 days") < 3 && !late)
    (void)uv_run(&loop, UV_RUN_ONCE);
  certificates_close(c);
  uv_close((uv_handle_t *)&limit, NULL);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(dup2(log, 2) == 2 && close(log) == 0);
  log_configure(&(struct log_settings){.level = LOG_ERROR});
  CHECK(!late && uv_loop_close(&loop) == 0);
  CHECK(count_in_file(file("log"), "soon.pem") == 3 && count_in_file(file("log"), "warn") == 3);
  tls_server_unref(one);
  tls_server_unref(other);
  tls_server_unref(fine);
}

/* --- threads --- */

struct shared {
  struct tls_client *client;
  struct tls_server *server;
};
static void *connect_on(void *arg) {
  struct shared *h = arg;
  for (int i = 0; i < 12; i++) CHECK(try(h->client, h->server, "localhost").open);
  return NULL;
}
static void connections_go_on_while_files_are_read_again(void) {
  put_pair("ecdsa");
  struct shared h = {.client = client(), .server = server("live")};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, connect_on, &h) == 0);
  for (int i = 0; i < 4; i++) {
    put_pair(i % 2 == 0 ? "rsa" : "ecdsa");
    CHECK(reread().failed == 0);
  }
  for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  tls_client_unref(h.client);
  tls_server_unref(h.server);
}

int main(void) {
  lab_setup();
  RUN(a_renewed_certificate_serves_new_connections_while_old_ones_go_on);
  RUN(a_broken_pair_keeps_the_old_one_and_is_told_once);
  RUN(an_authority_that_is_taken_away_is_believed_no_more);
  RUN(a_folder_of_authorities_is_looked_into);
  RUN(a_folder_is_read_once_for_all_until_it_changes);
  RUN(tickets_outlive_a_renewal_and_a_reload);
  RUN(tickets_are_not_for_servers_that_ask_more_of_a_client);
  RUN(ticket_keys_rotate_and_the_one_before_is_still_taken);
  RUN(what_is_careless_or_ends_soon_is_noted);
  RUN(what_a_client_shows_or_believes_in_vain_is_noted);
  RUN(a_group_may_read_a_key_that_is_not_ours_alone);
  RUN(files_and_insecure_names_of_living_configurations_are_told);
  RUN(a_pair_renewed_before_it_is_watched_is_read_again_at_once);
  RUN(what_ends_soon_is_told_again_while_the_process_runs);
  RUN(connections_go_on_while_files_are_read_again);
  lab_teardown();
  return 0;
}
