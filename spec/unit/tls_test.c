/* tls_test.c: TLS streams over real sockets on loopback, our client against our server, and what each must refuse. */
#include "tls_lab.h"

/* --- bytes --- */

static bool echoed_5(const struct lab *l) { return l->c.got.n == 5; }
static void bytes_pass_both_ways(void) {
  struct lab l;
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  lab_init(&l, c, s, "127.0.0.1");
  l.s.echo = true;
  dial(&l, 0);
  turn(&l, done_opening);
  say(&l.c, "hello");
  turn(&l, echoed_5);
  CHECK(str_eq(buf_str(&l.c.got), STR("hello")));
  struct tls_peer peer;
  CHECK(stream_tls_peer(&l.c.stream, &peer) && peer.verified && peer.subject.n == 0);
  CHECK(str_eq(peer.version, has_1_3 ? STR("TLSv1.3") : STR("TLSv1.2")));
  CHECK(stream_tls_peer(&l.s.stream, &peer) && !peer.verified && peer.sni.n == 0); /* no SNI for an address */
  CHECK(strcmp(stream_reason(&l.c.stream), "") == 0);
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

enum { LARGE = 5 * 1024 * 1024 + 123 };
static void fill(struct buf *b) {
  uint8_t *p = buf_reserve(b, LARGE);
  for (size_t i = 0; i < LARGE; i++) p[i] = (uint8_t)(i * 2654435761u >> 13);
  b->n += LARGE;
}
static bool large_arrived(const struct lab *l) {
  if (l->s.opened == 0 && l->s.stream.on_read == NULL && !l->s.stream.closing)
    stream_read_start((struct stream *)(uintptr_t)&l->s.stream, on_read);
  return l->s.got.n >= LARGE && l->c.got.n >= LARGE;
}
static void large_transfers_cross_with_stops_and_starts(void) {
  struct lab l;
  struct tls_client *c = client();
  struct tls_server *s = server("rsa");
  lab_init(&l, c, s, "localhost");
  fill(&l.c.out);
  fill(&l.s.out);
  l.s.resume_read = true;
  dial(&l, 0);
  turn(&l, large_arrived);
  struct buf expected;
  buf_init(&expected);
  fill(&expected);
  CHECK(str_eq(buf_str(&l.s.got), buf_str(&expected)) && str_eq(buf_str(&l.c.got), buf_str(&expected)));
  CHECK(l.c.calls < LARGE / 16384 + 200); /* records are gathered, and full */
  buf_fini(&expected);
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

/* --- whom the client believes --- */

static void good_certificates_are_accepted(void) {
  expect_open(client(), server("rsa"), "localhost");
  expect_open(client(), server("ecdsa"), "localhost");
  expect_open(client(), server("ecdsa"), "LOCALHOST.");
  expect_open(client(), server("ecdsa"), "127.0.0.1");
  expect_open(client(), server("ecdsa"), "::1");
  expect_open(client(), server("chained"), "127.0.0.1");
  expect_open(client_with((struct tls_client_settings){.server_name = "localhost"}), server("dns-only"), "127.0.0.1");
  expect_open(client_with((struct tls_client_settings){.ca = file("other-ca.pem")}), server("foreign"), "localhost");
}

static void bad_certificates_are_refused_with_a_sentence(void) {
  expect_refused(client(), server("expired"), "localhost", "certificate expired on 2020-01-02");
  expect_refused(client(), server("future"), "localhost", "certificate is not valid before 2099-01-01");
  expect_refused(client(), server("wrong-name"), "localhost", "certificate is for other.example, not localhost");
  expect_refused(client(), server("no-name"), "localhost", "certificate names no host");
  expect_refused(client(), server("self-signed"), "localhost", "certificate is self-signed");
  expect_refused(client(), server("foreign"), "localhost", "unknown certificate authority: CN=another test CA");
  expect_refused(client(), server("lone"), "localhost", "unknown certificate authority: CN=jeton test intermediate");
  expect_refused(client(), server("weak"), "localhost", "certificate has a key that is too weak");
}

static struct tls_client *client_as(const char *name) {
  char cert[64], key[64];
  snprintf(cert, sizeof cert, "%s/%s.pem", dir, name);
  snprintf(key, sizeof key, "%s/%s.key", dir, name);
  return client_with((struct tls_client_settings){.cert = cert, .key = key});
}
static struct tls_server *asking(bool required) {
  return server_with((struct tls_server_settings){.client_ca = file("ca.pem"), .client_required = required}, "ecdsa");
}

static bool server_decided(const struct lab *l) { return l->s.opened <= 0; }
static void expect_client_refused(struct tls_client *c, struct tls_server *s, const char *what) {
  struct lab l;
  lab_init(&l, c, s, "localhost");
  dial(&l, 0);
  turn(&l, server_decided);
  CHECK(l.s.opened == ERR_TLS);
  expect_text(l.s.reason, what);
  turn(&l, done_opening);
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

static void an_authority_vouches_for_what_it_is_meant_for(void) {
  static const char refusal[] = "certificate of its authority is not meant for this use";
  expect_refused(client(), server("mail-only"), "localhost", refusal);
  shell(
      "openssl req -x509 -CA intermediate-mail-only.pem -CAkey intermediate-mail-only.key -key client.key -subj /CN=x "
      "-days 90 -out mailed.pem -addext basicConstraints=CA:FALSE && cat intermediate-mail-only.pem >> mailed.pem && "
      "cp client.key mailed.key");
  expect_client_refused(client_as("mailed"), asking(true), refusal);
}

/* Makes NAME.pem of those files, in that order, with leaf.key. */
static void chain_of(const char *name, const char *files) {
  char command[256];
  snprintf(command, sizeof command, "cat %s > %s.pem && cp leaf.key %s.key", files, name, name);
  shell(command);
}
/* issued BY as NAME, an authority or not, whose key is made unless it is there. */
static void issue(const char *by, const char *name, const char *subject, bool authority) {
  char command[500];
  snprintf(command, sizeof command,
           "{ [ -e %s.key ] || openssl ecparam -name prime256v1 -genkey -noout -out %s.key; } && openssl req -x509 "
           "-CA %s.pem -CAkey %s.key -key %s.key -subj '/CN=%s' -days 90 -out %s.pem "
           "-addext basicConstraints=critical,CA:%s %s",
           name, name, by, by, name, subject, name, authority ? "TRUE" : "FALSE",
           authority ? "" : "-addext subjectAltName=DNS:localhost");
  shell(command);
}

static void a_chain_may_come_in_any_order(void) {
  static const char *const orders[] = {"leaf.pem lower.pem middle.pem upper.pem",
                                       "leaf.pem upper.pem middle.pem lower.pem",
                                       "leaf.pem middle.pem upper.pem lower.pem",
                                       "leaf.pem upper.pem lower.pem middle.pem ca.pem",
                                       "leaf.pem ca.pem upper.pem lower.pem middle.pem",
                                       "leaf.pem rsa.pem middle.pem lower.pem wildcard.pem upper.pem",
                                       "leaf.pem middle.pem middle.pem upper.pem lower.pem leaf.pem lower.pem"};
  issue("ca", "upper", "upper", true);
  issue("upper", "middle", "middle", true);
  issue("middle", "lower", "lower", true);
  issue("lower", "leaf", "leaf", false);
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
    chain_of("ordered", orders[i]);
    expect_open(client(), server("ordered"), "localhost");
    expect_refused(client(), server("ordered"), "elsewhere", "certificate is for localhost, not elsewhere");
  }
  chain_of("ordered", "leaf.pem upper.pem lower.pem");
  expect_refused(client(), server("ordered"), "localhost", "unknown certificate authority: CN=middle");
  chain_of("ordered", "leaf.pem upper.pem middle.pem lower.pem");
  expect_refused(client_with((struct tls_client_settings){.ca = file("other-ca.pem")}), server("ordered"), "localhost",
                 "unknown certificate authority: CN=jeton test CA");
}

static void a_chain_may_lead_to_an_older_authority(void) {
  /* "upper" as its own root, which nobody trusts, and signed by ca; and with a circle: upper signed by middle, too */
  shell(
      "cp upper.key own.key && openssl req -x509 -key own.key -subj /CN=upper -days 90 -out own.pem "
      "-addext basicConstraints=critical,CA:TRUE");
  shell("cp upper.key circle.key");
  issue("middle", "circle", "upper", true);
  static const char *const orders[] = {"leaf.pem lower.pem middle.pem own.pem upper.pem",
                                       "leaf.pem own.pem upper.pem middle.pem lower.pem",
                                       "leaf.pem upper.pem middle.pem circle.pem lower.pem"};
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
    chain_of("ordered", orders[i]);
    expect_open(client(), server("ordered"), "localhost");
  }
}

static void a_chain_may_hold_an_authority_once_for_each_that_signed_it(void) {
  /* upper and middle again, signed by an authority that nobody trusts, and that one signed by ca as well */
  issue("other-ca", "stranger", "stranger", true);
  shell("cp upper.key upper-twin.key && cp middle.key middle-twin.key && cp stranger.key stranger-twin.key");
  issue("stranger", "upper-twin", "upper", true);
  issue("stranger", "middle-twin", "middle", true);
  static const char *const orders[] = {"leaf.pem lower.pem middle.pem upper-twin.pem upper.pem",
                                       "leaf.pem lower.pem middle.pem upper-twin.pem stranger.pem upper.pem",
                                       "leaf.pem lower.pem middle-twin.pem middle.pem upper-twin.pem upper.pem",
                                       "leaf.pem lower.pem middle-twin.pem stranger.pem middle.pem upper.pem",
                                       "leaf.pem upper.pem upper-twin.pem middle-twin.pem middle.pem lower.pem"};
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
    chain_of("ordered", orders[i]);
    expect_open(client(), server("ordered"), "localhost");
  }
  issue("ca", "stranger-twin", "stranger", true);
  chain_of("ordered", "leaf.pem lower.pem middle-twin.pem stranger.pem stranger-twin.pem");
  expect_open(client(), server("ordered"), "localhost");
  chain_of("ordered", "leaf.pem lower.pem middle-twin.pem stranger.pem");
  expect_refused(client(), server("ordered"), "localhost", "unknown certificate authority: CN=another test CA");
}

static void what_is_wrong_with_a_chain_is_found_in_any_order(void) {
  shell(
      "openssl x509 -in mail-only.pem > mail-leaf.pem && "
      "cat mail-leaf.pem upper.pem ca.pem intermediate-mail-only.pem > mail-mixed.pem && "
      "cp mail-only.key mail-mixed.key");
  expect_refused(client(), server("mail-mixed"), "localhost", "certificate of its authority is not meant for this use");
  shell(
      "openssl x509 -in limited.pem > limited-leaf.pem && cat limited-leaf.pem ca.pem upper.pem "
      "intermediate-limited.pem > limited-mixed.pem && cp limited.key limited-mixed.key");
  expect_refused(client(), server("limited-mixed"), "localhost", "name constraints");
}

static void a_client_s_chain_may_come_in_any_order(void) {
  chain_of("ordered", "leaf.pem upper.pem middle.pem lower.pem");
  struct lab l;
  struct tls_client *c = client_as("ordered");
  struct tls_server *s = asking(true);
  struct tls_peer peer;
  lab_open(&l, c, s, "localhost");
  CHECK(l.c.opened == 0 && l.s.opened == 0);
  CHECK(stream_tls_peer(&l.s.stream, &peer) && peer.verified && str_eq(peer.subject, STR("CN=leaf")));
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
  chain_of("ordered", "leaf.pem upper.pem lower.pem");
  expect_client_refused(client_as("ordered"), asking(true), "unknown certificate authority: CN=middle");
}

static void an_authority_with_name_constraints_is_not_believed(void) {
  expect_refused(client(), server("limited"), "localhost", "certificate of its authority has name constraints");
  expect_refused(client_with((struct tls_client_settings){.ca = file("intermediate-limited.pem")}), server("limited"),
                 "localhost", "certificate of its authority has name constraints");
}

static void an_address_must_be_named_by_the_certificate(void) {
  expect_refused(client(), server("dns-only"), "127.0.0.1", "certificate is for localhost, not 127.0.0.1");
  expect_refused(client(), server("ecdsa"), "127.0.0.2", "certificate is for localhost, 127.0.0.1, ::1, not 127.0.0.2");
  expect_refused(client(), server("ecdsa"), "::2", "not ::2");
  expect_refused(client(), server("ecdsa"), "::ffff:127.0.0.1", "not ::ffff:127.0.0.1");
}

static void expect_no_client(struct tls_client_settings s, const char *what) {
  char err[256];
  CHECK(tls_client_new(&s, err, sizeof err) == NULL);
  expect_text(err, what);
}
static void a_name_that_no_certificate_can_have_is_refused(void) {
  static const char *const names[] = {"https://localhost", "localhost:443", "[::1]", "a..b", ".a", "",
                                      "*.example.com",     "b\303\274cher"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    expect_no_client((struct tls_client_settings){.ca = file("ca.pem"), .server_name = names[i]}, "server_name \"");
  expect_open(client_with((struct tls_client_settings){.server_name = "LOCALHOST."}), server("ecdsa"), "192.0.2.1");
  expect_open(client_with((struct tls_client_settings){.server_name = "::1"}), server("ecdsa"), "elsewhere");
}

static void a_wildcard_stands_for_one_label(void) {
  expect_open(client(), server("wildcard"), "b.example.com");
  expect_refused(client(), server("wildcard"), "a.b.example.com", "certificate is for *.example.com");
  expect_refused(client(), server("wildcard"), "example.com", "certificate is for *.example.com");
}

static void the_system_bundle_does_not_know_us(void) {
  char err[256];
  struct tls_client_settings s = {.min_version = TLS_1_2};
  struct tls_client *c = tls_client_new(&s, err, sizeof err);
  if (c == NULL && strstr(err, "no such file") != NULL) return; /* a machine without a bundle */
  CHECK(c != NULL);
  expect_refused(c, server("ecdsa"), "localhost", "unknown certificate authority");
}

static void insecure_believes_everybody(void) {
  expect_open(client_with((struct tls_client_settings){.insecure = "a test"}), server("self-signed"), "localhost");
  expect_open(client_with((struct tls_client_settings){.insecure = "a test"}), server("expired"), "127.0.0.3");
}

static const char *pin_of(const char *name, char out[64]) {
  char path[64];
  snprintf(path, sizeof path, "%s.pin", name);
  FILE *f = fopen(file(path), "r");
  CHECK(f != NULL);
  out[fread(out, 1, 63, f)] = '\0';
  fclose(f);
  return out;
}

static void pins_are_asked_even_of_an_insecure_client(void) {
  char good[64], other[64];
  const char *both[] = {pin_of("exact", other), pin_of("ecdsa", good)};
  struct tls_client_settings right = {.pins = both, .npins = 2}, wrong = {.pins = both, .npins = 1};
  struct tls_client_settings lax = {.pins = both, .npins = 2, .insecure = "a test"};
  struct tls_client_settings lax_wrong = {.pins = both, .npins = 1, .insecure = "a test"};
  expect_open(client_with(right), server("ecdsa"), "localhost");
  expect_open(client_with(lax), server("ecdsa"), "elsewhere");
  expect_refused(client_with(wrong), server("ecdsa"), "localhost", "none of the pins");
  struct lab l;
  struct tls_client *c = client_with(lax_wrong);
  struct tls_server *s = server("ecdsa");
  lab_open(&l, c, s, "localhost"); /* refused after the handshake, which the server may have thought done */
  CHECK(l.c.opened == ERR_TLS);
  expect_text(l.c.reason, "none of the pins");
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

/* --- what the server asks for --- */

static void the_server_chooses_by_name_exact_before_wildcard(void) {
  struct tls_certificate_settings list[] = {{file("rsa.pem"), file("rsa.key")},
                                            {file("wildcard.pem"), file("wildcard.key")},
                                            {file("exact.pem"), file("exact.key")}};
  char pin[64];
  const char *exact[] = {pin_of("exact", pin)};
  struct tls_server_settings s = {.certificates = list, .ncertificates = 3};
  struct tls_server *v = server_with(s, NULL);
  expect_open(client_with((struct tls_client_settings){.pins = exact, .npins = 1}), tls_server_ref(v), "a.example.com");
  expect_open(client(), tls_server_ref(v), "b.example.com");
  expect_open(client(), tls_server_ref(v), "localhost");
  expect_open(client(), tls_server_ref(v), "127.0.0.1");
  expect_refused(client(), v, "c.example.org", "certificate is for localhost");
}

static void a_required_client_certificate_is_required(void) {
  expect_client_refused(client(), asking(true), "no certificate");
  expect_client_refused(client_as("foreign-client"), asking(true), "unknown certificate authority: CN=another test CA");
  expect_client_refused(client_as("expired-client"), asking(true), "client certificate expired on 2020-01-02");
  expect_client_refused(client_as("dns-only"), asking(true), "not meant for this use");
}

static void a_client_certificate_tells_who_it_is(void) {
  for (int required = 0; required < 2; required++) {
    struct lab l;
    struct tls_peer peer;
    struct tls_client *c = client_as("client");
    struct tls_server *s = asking(required);
    for (int round = 0; round < 2; round++) { /* the second one may be resumed */
      lab_open(&l, c, s, "localhost");
      CHECK(stream_tls_peer(&l.s.stream, &peer) && peer.verified);
      CHECK(str_eq(peer.subject, STR("CN=reports")) && str_eq(peer.san, STR("reports.example")));
      CHECK(peer.fingerprint.n == 64 && str_eq(peer.sni, STR("localhost")));
      lab_fini(&l);
    }
    tls_client_unref(c);
    tls_server_unref(s);
  }
}

static void what_a_client_is_called_is_told_by_kind(void) {
  struct lab l;
  struct tls_peer peer;
  shell(
      "openssl req -x509 -CA ca.pem -CAkey ca.key -key client.key -subj /CN=x -days 90 -out kinds.pem -addext "
      "basicConstraints=CA:FALSE -addext 'subjectAltName=URI:spiffe://corp.example/reports,DNS:a.example,IP:192.0.2.7,"
      "email:a@b.example,DNS:URI:spiffe://corp.example/billing' && cp client.key kinds.key");
  struct tls_client *c = client_as("kinds");
  struct tls_server *s = asking(true);
  lab_open(&l, c, s, "localhost");
  CHECK(stream_tls_peer(&l.s.stream, &peer) && peer.verified);
  expect_text(peer.san.p,
              "URI:spiffe://corp.example/reports, a.example, 192.0.2.7, email:a@b.example, "
              "URI?spiffe???corp.example?billing");
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

static void an_optional_client_certificate_may_be_absent_but_not_bad(void) {
  struct tls_client *c = client();
  struct tls_server *s = asking(false);
  for (int round = 0; round < 2; round++) {
    struct lab l;
    struct tls_peer peer;
    lab_open(&l, c, s, "localhost");
    CHECK(l.s.opened == 0 && stream_tls_peer(&l.s.stream, &peer) && !peer.verified && peer.subject.n == 0);
    lab_fini(&l);
  }
  tls_client_unref(c);
  tls_server_unref(s);
  expect_client_refused(client_as("foreign-client"), asking(false),
                        "unknown certificate authority: CN=another test CA");
  expect_client_refused(client_as("expired-client"), asking(false), "client certificate expired on 2020-01-02");
  expect_client_refused(client_as("dns-only"), asking(false), "not meant for this use");
}

/* --- resumption --- */

static bool client_heard(const struct lab *l) { return l->c.got.n > 0; }
/* One connection with some data, so that tickets that come after the handshake are seen. */
static bool resumed(struct tls_client *c, struct tls_server *s, const char *host) {
  struct lab l;
  struct tls_peer peer;
  lab_init(&l, c, s, host);
  buf_addz(&l.c.out, "hello");
  l.s.echo = true;
  dial(&l, 0);
  turn(&l, client_heard);
  CHECK(stream_tls_peer(&l.c.stream, &peer) && peer.verified);
  bool is = peer.resumed;
  lab_fini(&l);
  return is;
}

static void a_second_connection_resumes_the_session(void) {
  char pin[64];
  const char *pins[] = {pin_of("ecdsa", pin)};
  struct tls_client *c = client(), *equal = client();
  struct tls_client *pinned = client_with((struct tls_client_settings){.pins = pins, .npins = 1});
  struct tls_server *s = server("ecdsa");
  CHECK(!resumed(c, s, "localhost"));
  CHECK(resumed(c, s, "localhost"));
  CHECK(resumed(equal, s, "localhost")); /* what one reading of the same files has verified, another one need not */
  CHECK(!resumed(c, s, "127.0.0.1"));    /* another name was verified */
  CHECK(!resumed(pinned, s, "localhost"));
  tls_client_unref(c);
  tls_client_unref(equal);
  tls_client_unref(pinned);
  tls_server_unref(s);
}

static void a_session_of_another_server_is_a_full_handshake(void) {
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa"), *t = server("wildcard");
  CHECK(!resumed(c, s, "localhost"));
  tls_server_unref(s);
  expect_refused(tls_client_ref(c), t, "localhost", "certificate is for *.example.com");
  s = server("ecdsa");
  CHECK(!resumed(c, s, "localhost")); /* forgotten */
  tls_client_unref(c);
  tls_server_unref(s);
}

/* --- ends --- */

static bool server_ended(const struct lab *l) { return l->s.ended != 0; }
static bool client_ended(const struct lab *l) { return l->c.ended != 0; }

static void close_notify_is_the_only_clean_end(void) {
  static uint8_t cut[] = {0x17, 3, 3, 0, 64, 1, 2, 3};
  int expected[] = {UV_EOF, UV_EOF, ERR_TRUNCATED, UV_ECONNRESET};
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  for (int i = 0; i < 4; i++) {
    struct lab l;
    uv_buf_t b = uv_buf_init((char *)cut, sizeof cut);
    lab_open(&l, c, s, "localhost");
    say(&l.c, "hello");
    if (i == 0) stream_shutdown(&l.c.stream);
    if (i == 1) end_close(&l.c);
    if (i == 3) CHECK(stream_plain_write(&l.c.stream, &b, 1, false) == 0);
    if (i >= 2) stream_plain_shutdown(&l.c.stream);
    turn(&l, server_ended);
    CHECK(l.s.ended == expected[i] && str_eq(buf_str(&l.s.got), STR("hello")));
    lab_fini(&l);
  }
  tls_client_unref(c);
  tls_server_unref(s);
}

static bool client_ended_with_echo(const struct lab *l) { return l->c.ended != 0 && l->c.got.n >= 5; }
static void a_half_closed_connection_still_answers(void) {
  struct lab l;
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  lab_open(&l, c, s, "localhost");
  say(&l.c, "hello");
  stream_shutdown(&l.c.stream);
  turn(&l, server_ended);
  CHECK(l.s.ended == UV_EOF);
  l.s.eof_after_echo = true;
  say(&l.s, "reply");
  turn(&l, client_ended_with_echo);
  CHECK(l.c.ended == UV_EOF && str_eq(buf_str(&l.c.got), STR("reply")));
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

static void a_damaged_record_is_an_error(void) {
  struct lab l;
  uint8_t record[5 + 40] = {0x17, 3, 3, 0, 40};
  uv_buf_t b = uv_buf_init((char *)record, sizeof record);
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  lab_open(&l, c, s, "localhost");
  CHECK(stream_plain_write(&l.c.stream, &b, 1, false) == 0);
  turn(&l, server_ended);
  CHECK(l.s.ended == ERR_TLS);
  expect_text(stream_reason(&l.s.stream), "damaged");
  turn(&l, client_ended);
  CHECK(l.c.ended == ERR_TLS);
  expect_text(stream_reason(&l.c.stream), "could not authenticate");
  CHECK(stream_write(&l.c.stream, &b, 1, false) != 0 || true); /* must not crash */
  lab_fini(&l);
  tls_client_unref(c);
  tls_server_unref(s);
}

static void what_is_not_tls_is_refused(void) {
  struct lab l;
  struct tls_server *s = server("ecdsa");
  lab_init(&l, NULL, s, NULL);
  buf_addz(&l.c.out, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  dial(&l, 0);
  turn(&l, done_opening);
  CHECK(l.s.opened == ERR_TLS);
  expect_text(l.s.reason, "is not TLS");
  lab_fini(&l);
  tls_server_unref(s);
}

static bool server_accepted(const struct lab *l) { return l->s.live; }
static void a_peer_that_leaves_during_the_handshake_is_told_of(void) {
  struct lab l;
  struct tls_client *c = client();
  lab_init(&l, c, NULL, "localhost");
  dial(&l, 0);
  turn(&l, server_accepted);
  stream_shutdown(&l.s.stream);
  turn(&l, done_opening);
  CHECK(l.c.opened == ERR_TLS);
  expect_text(l.c.reason, "closed the connection during the TLS handshake");
  lab_fini(&l);
  tls_client_unref(c);
}

static void a_connection_may_be_closed_in_its_handshake(void) {
  struct lab l;
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  lab_init(&l, c, s, "localhost");
  dial(&l, 0);
  turn(&l, server_accepted);
  lab_fini(&l);
  CHECK(l.c.opened == 1);
  tls_client_unref(c);
  tls_server_unref(s);
}

static bool server_closed(const struct lab *l) { return l->s.closed; }
static void callbacks_may_close_the_stream(void) {
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  for (int i = 0; i < 2; i++) {
    struct lab l;
    lab_init(&l, c, s, "localhost");
    l.s.close_on_open = i == 0;
    l.s.close_on_read = i == 1;
    buf_addz(&l.c.out, "hello");
    dial(&l, 0);
    turn(&l, server_closed);
    turn(&l, client_ended);
    CHECK(l.c.ended == UV_EOF || l.c.ended == UV_ECONNRESET);
    lab_fini(&l);
  }
  tls_client_unref(c);
  tls_server_unref(s);
}

/* The client's last flight of a resumed handshake has its first data behind it. */
static bool server_heard(const struct lab *l) { return l->s.got.n > 0 && l->s.ended != 0; }
static void data_behind_the_handshake_waits_for_the_reader(void) {
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  resumed(c, s, "localhost");
  for (int i = 0; i < 3; i++) {
    struct lab l;
    lab_init(&l, c, s, "localhost");
    l.s.lazy = true;
    buf_addz(&l.c.out, "early");
    l.c.eof_after_echo = true;
    dial(&l, 0);
    turn(&l, done_opening);
    for (int k = 0; k < i; k++) uv_run(&l.loop, UV_RUN_NOWAIT);
    stream_read_start(&l.s.stream, on_read);
    CHECK(l.s.got.n == 0); /* never from inside */
    turn(&l, server_heard);
    CHECK(str_eq(buf_str(&l.s.got), STR("early")) && l.s.ended == UV_EOF);
    lab_fini(&l);
  }
  tls_client_unref(c);
  tls_server_unref(s);
}

/* --- threads --- */

enum { THREADS = 2, ROUNDS = 6 };
struct shared {
  struct tls_client *client;
  struct tls_server *server;
};
static void *many_connections(void *arg) {
  struct shared *h = arg;
  for (int i = 0; i < ROUNDS; i++) {
    char host[32];
    snprintf(host, sizeof host, "%s", i % 3 == 0 ? "127.0.0.1" : "localhost");
    struct tls_client *fresh = client();
    resumed(i % 2 == 0 ? h->client : fresh, h->server, host);
    tls_client_unref(fresh);
  }
  return NULL;
}
static void threads_share_configurations(void) {
  struct tls_certificate_settings list[] = {{file("ecdsa.pem"), file("ecdsa.key")}, {file("rsa.pem"), file("rsa.key")}};
  struct tls_server_settings s = {.certificates = list, .ncertificates = 2, .client_ca = file("ca.pem")};
  struct shared h = {client(), server_with(s, NULL)};
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, many_connections, &h) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  tls_client_unref(h.client);
  tls_server_unref(h.server);
}

/* --- configurations that cannot be --- */

static void expect_no_server(const char *cert, const char *key, const char *what) {
  char err[256];
  struct tls_certificate_settings one = {file(cert), file(key)};
  struct tls_server_settings s = {.certificates = &one, .ncertificates = 1};
  CHECK(tls_server_new(&s, err, sizeof err) == NULL);
  expect_text(err, what);
}

static void what_is_wrong_with_a_configuration_is_said_with_the_file(void) {
  const char *bad_pin[] = {"sha256/AAAA"};
  char err[256];
  expect_no_client((struct tls_client_settings){.ca = "/nowhere/ca.pem"}, "/nowhere/ca.pem: no such file");
  expect_no_client((struct tls_client_settings){.ca = file("ca.key")}, "ca.key: holds no certificate");
  expect_no_client((struct tls_client_settings){.ca = file("empty")}, "empty: a directory without a certificate");
  expect_no_client((struct tls_client_settings){.ca = file("ca.pem"), .cert = file("client.pem")}, "needs both");
  expect_no_client((struct tls_client_settings){.ca = file("ca.pem"), .pins = bad_pin, .npins = 1}, "expected sha256/");
  expect_no_server("ecdsa.pem", "rsa.key", "rsa.key: not the key of the certificate in ");
  expect_no_server("ecdsa.pem", "encrypted.key", "encrypted.key: the key is encrypted");
  expect_no_server("ecdsa.pem", "ecdsa.pem", "ecdsa.pem: holds no private key");
  expect_no_server("ecdsa.key", "ecdsa.key", "ecdsa.key: holds no certificate");
  expect_no_server("ecdsa.pem", "ecdsa.pub", "ecdsa.pub: holds no private key, but a public one");
  expect_no_server("ecdsa.pem", "ed25519.key", "ed25519.key: the key is of a kind that is not known here: RSA and EC");
  expect_no_server("ed25519.pem", "ecdsa.key",
                   "ed25519.pem: certificate 1 in it has a key of a kind that is not known");
  expect_no_server("limited-hard.pem", "limited-hard.key",
                   "limited-hard.pem: certificate 2 in it has a critical extension that is not known here");
  expect_no_server("none.pem", "ecdsa.key", "none.pem: no such file");
  expect_no_server("empty", "ecdsa.key", "empty: not a file");
  struct tls_server_settings none = {.certificates = NULL};
  CHECK(tls_server_new(&none, err, sizeof err) == NULL);
  expect_text(err, "at least one certificate");
}

static void a_file_that_is_read_in_part_is_no_chain(void) {
  shell("{ cat chained.pem; head -c 300 ca.pem; } > torn.pem; head -c 100 ecdsa.key > torn.key");
  expect_no_server("torn.pem", "chained.key", "torn.pem: certificate 3 in it is damaged or cut short");
  expect_no_server("ecdsa.pem", "torn.key", "torn.key: the key is damaged or cut short");
  shell("cat intermediate.pem lone.pem > turned.pem");
  expect_no_server("turned.pem", "chained.key", "chained.key: the key of certificate 2 in ");
  /* Of authorities those count that can be read. */
  expect_open(client_with((struct tls_client_settings){.ca = file("torn.pem")}), server("chained"), "localhost");
}

static void a_key_that_no_handshake_can_use_is_refused(void) {
  shell(
      "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1 -out odd.key 2>/dev/null && "
      "openssl req -x509 -key odd.key -subj /CN=odd -out odd.pem");
  expect_no_server("odd.pem", "odd.key",
                   "odd.key: a key on a curve that is not spoken here: P-256, P-384 and P-521 are");
}

static void a_chain_that_no_record_can_hold_is_refused(void) {
  shell(
      "cp chained.key long.key; cp chained.pem long.pem; for i in 1 2 3 4 5; do cat rsa.pem weak.pem rsa.pem weak.pem "
      "rsa.pem; done >> long.pem");
  expect_no_server("long.pem", "long.key", "long.pem: a chain of ");
}

static void files_of_other_shapes_are_read_too(void) {
  static const char *const shapes[] = {
      "cp ecdsa.pem shaped.pem; openssl ec -in ecdsa.key -out shaped.key 2>/dev/null",
      "openssl x509 -in ecdsa.pem -outform DER -out shaped.pem; openssl pkey -in ecdsa.key -outform DER -out "
      "shaped.key",
      "sed 's/$/\r/' ecdsa.pem > shaped.pem; sed 's/$/\r/' ecdsa.key > shaped.key",
      "printf '\357\273\277' | cat - ecdsa.pem > shaped.pem; printf '\357\273\277' | cat - ecdsa.key > shaped.key",
      "cat ecdsa.key ecdsa.pem > shaped.pem; cp shaped.pem shaped.key",
      "openssl x509 -in ecdsa.pem -text > shaped.pem; { openssl ecparam -name prime256v1; openssl ec -in ecdsa.key "
      "2>/dev/null; } > shaped.key"};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    shell(shapes[i]);
    expect_open(client(), server("shaped"), "localhost");
  }
}

static void a_directory_of_authorities_does(void) {
  expect_open(client_with((struct tls_client_settings){.ca = file("authorities")}), server("ecdsa"), "localhost");
}

static uint64_t fingerprint(struct tls_client_settings s) {
  struct tls_client *c = client_with(s);
  uint64_t f = tls_client_fingerprint(c);
  tls_client_unref(c);
  return f;
}
static void fingerprints_tell_settings_apart(void) {
  char pin[64];
  const char *pins[] = {pin_of("ecdsa", pin)};
  struct tls_client_settings all[] = {{.ca = file("ca.pem")},
                                      {.ca = file("other-ca.pem")},
                                      {.insecure = "a test"},
                                      {.server_name = "a"},
                                      {.server_name = "b"},
                                      {.pins = pins, .npins = 1},
                                      {.cert = file("client.pem"), .key = file("client.key")}};
  enum { N = sizeof all / sizeof *all };
  uint64_t seen[N];
  for (int i = 0; i < N; i++) {
    seen[i] = fingerprint(all[i]);
    CHECK(seen[i] == fingerprint(all[i]));
    for (int k = 0; k < i; k++) CHECK(seen[k] != seen[i]);
  }
}

static void version_1_3_alone_is_had_where_there_is_one(void) {
  if (has_1_3)
    expect_open(client_with((struct tls_client_settings){.min_version = TLS_1_3}), server("ecdsa"), "localhost");
}

int main(void) {
  lab_setup();
  RUN(bytes_pass_both_ways);
  RUN(large_transfers_cross_with_stops_and_starts);
  RUN(good_certificates_are_accepted);
  RUN(bad_certificates_are_refused_with_a_sentence);
  RUN(an_authority_vouches_for_what_it_is_meant_for);
  RUN(an_authority_with_name_constraints_is_not_believed);
  RUN(a_chain_may_come_in_any_order);
  RUN(a_chain_may_lead_to_an_older_authority);
  RUN(a_chain_may_hold_an_authority_once_for_each_that_signed_it);
  RUN(what_is_wrong_with_a_chain_is_found_in_any_order);
  RUN(a_client_s_chain_may_come_in_any_order);
  RUN(an_address_must_be_named_by_the_certificate);
  RUN(a_name_that_no_certificate_can_have_is_refused);
  RUN(a_wildcard_stands_for_one_label);
  RUN(the_system_bundle_does_not_know_us);
  RUN(insecure_believes_everybody);
  RUN(pins_are_asked_even_of_an_insecure_client);
  RUN(the_server_chooses_by_name_exact_before_wildcard);
  RUN(a_required_client_certificate_is_required);
  RUN(a_client_certificate_tells_who_it_is);
  RUN(what_a_client_is_called_is_told_by_kind);
  RUN(an_optional_client_certificate_may_be_absent_but_not_bad);
  RUN(a_second_connection_resumes_the_session);
  RUN(a_session_of_another_server_is_a_full_handshake);
  RUN(close_notify_is_the_only_clean_end);
  RUN(a_half_closed_connection_still_answers);
  RUN(a_damaged_record_is_an_error);
  RUN(what_is_not_tls_is_refused);
  RUN(a_peer_that_leaves_during_the_handshake_is_told_of);
  RUN(a_connection_may_be_closed_in_its_handshake);
  RUN(callbacks_may_close_the_stream);
  RUN(data_behind_the_handshake_waits_for_the_reader);
  RUN(threads_share_configurations);
  RUN(what_is_wrong_with_a_configuration_is_said_with_the_file);
  RUN(a_file_that_is_read_in_part_is_no_chain);
  RUN(a_key_that_no_handshake_can_use_is_refused);
  RUN(a_chain_that_no_record_can_hold_is_refused);
  RUN(files_of_other_shapes_are_read_too);
  RUN(a_directory_of_authorities_does);
  RUN(fingerprints_tell_settings_apart);
  RUN(version_1_3_alone_is_had_where_there_is_one);
  lab_teardown();
  return 0;
}
