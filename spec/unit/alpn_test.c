/* alpn_test.c: which protocol the two ends of a TLS connection agree on, ours and openssl's, and with which suites. */
#include "tls_child.h"

static bool is_h2(const struct end *e) { return stream_tls_is_h2(&e->stream); }

static void the_two_agree_on_what_both_have_and_on_http_2_rather(void) {
  static const struct {
    enum tls_alpn client, server;
    bool h2;
  } cases[] = {{TLS_ALPN_H1, TLS_ALPN_H1, false},    {TLS_ALPN_H1, TLS_ALPN_H2_H1, false},
               {TLS_ALPN_H2_H1, TLS_ALPN_H1, false}, {TLS_ALPN_H2_H1, TLS_ALPN_H2_H1, true},
               {TLS_ALPN_H2_H1, TLS_ALPN_H2, true},  {TLS_ALPN_H2, TLS_ALPN_H2_H1, true},
               {TLS_ALPN_H2, TLS_ALPN_H2, true}};
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct lab l;
    lab_init(&l, c, s, "localhost");
    l.c.alpn = cases[i].client;
    l.s.alpn = cases[i].server;
    dial(&l, 0);
    turn(&l, done_opening);
    CHECK(l.c.opened == 0 && l.s.opened == 0);
    CHECK(is_h2(&l.c) == cases[i].h2 && is_h2(&l.s) == cases[i].h2);
    lab_fini(&l);
  }
  tls_client_unref(c);
  tls_server_unref(s);
}

static void two_without_a_protocol_in_common_say_so(void) {
  static const struct {
    enum tls_alpn client, server;
    const char *reason;
  } cases[] = {{TLS_ALPN_H2, TLS_ALPN_H1, "the server does not speak HTTP/2 (ALPN)"},
               {TLS_ALPN_H1, TLS_ALPN_H2, "the server does not speak HTTP/1.1 (ALPN)"}};
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct lab l;
    lab_init(&l, c, s, "localhost");
    l.c.alpn = cases[i].client;
    l.s.alpn = cases[i].server;
    dial(&l, 0);
    turn(&l, done_opening);
    CHECK(l.c.opened == ERR_TLS && strcmp(l.c.reason, cases[i].reason) == 0);
    CHECK(l.s.opened == ERR_TLS);
    lab_fini(&l);
  }
  tls_client_unref(c);
  tls_server_unref(s);
}

static bool client_heard(const struct lab *l) { return l->c.got.n > 0; }

/* One connection with some data, so that tickets that come after the handshake are seen. */
static void expect_protocol(struct tls_client *c, struct tls_server *s, enum tls_alpn alpn, bool h2, bool resumed) {
  struct lab l;
  struct tls_peer peer;
  lab_init(&l, c, s, "localhost");
  l.c.alpn = alpn;
  l.s.alpn = TLS_ALPN_H2_H1;
  l.s.echo = true;
  buf_addz(&l.c.out, "hello");
  dial(&l, 0);
  turn(&l, client_heard);
  CHECK(stream_tls_peer(&l.c.stream, &peer) && peer.resumed == resumed);
  CHECK(is_h2(&l.c) == h2 && is_h2(&l.s) == h2);
  lab_fini(&l);
}

static void a_resumed_session_is_no_word_on_the_protocol(void) {
  struct tls_client *c = client();
  struct tls_server *s = server("ecdsa");
  expect_protocol(c, s, TLS_ALPN_H2_H1, true, false);
  expect_protocol(c, s, TLS_ALPN_H1, false, true);
  expect_protocol(c, s, TLS_ALPN_H2, true, true);
  expect_protocol(c, s, TLS_ALPN_H1, false, true);
  tls_client_unref(c);
  tls_server_unref(s);
}

static struct child child;

static void a_client_of_openssl_gets_what_it_offers(void) {
  static const char *const cases[][2] = {
      {"-alpn h2,http/1.1", "ALPN protocol: h2"}, {"-alpn http/1.1,h2", "ALPN protocol: h2"}, /* the server chooses */
      {"-alpn h2 -tls1_2", "ALPN protocol: h2"},  {"-alpn http/1.1", "ALPN protocol: http/1.1"},
      {"-alpn foo", "no application protocol"},   {"", "No ALPN negotiated"},
  };
  struct tls_server *s = server("rsa");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct lab l;
    s_client_of(s, TLS_ALPN_H2_H1, cases[i][0], &child, &l);
    expect_text(child.text, cases[i][1]);
    CHECK(is_h2(&l.s) == (strcmp(cases[i][1], "ALPN protocol: h2") == 0));
    lab_fini(&l);
  }
  tls_server_unref(s);
}

/* RFC 9113 section 9.2.2: a client that has nothing newer cannot have HTTP/2, nor anything else of us. */
static void an_old_suite_is_no_way_to_http_2(void) {
  struct lab l;
  struct tls_server *s = server("rsa");
  s_client_of(s, TLS_ALPN_H2_H1, "-alpn h2,http/1.1 -tls1_2 -cipher ECDHE-RSA-AES128-SHA", &child, &l);
  CHECK(l.s.opened == ERR_TLS);
  lab_fini(&l);
  tls_server_unref(s);
}

/* Returns how another handshake may do better. */
static unsigned expect_of_openssl(const char *options, enum tls_alpn alpn, unsigned how, bool h2, const char *reason) {
  struct lab l;
  struct tls_client *c = client();
  char all[160];
  lab_init(&l, c, NULL, "localhost");
  l.c.alpn = alpn;
  l.c.how = how;
  snprintf(all, sizeof all, "-cert rsa.pem -key rsa.key %s", options);
  dial_s_server(&l, &child, all);
  turn(&l, client_decided);
  if (reason == NULL) {
    CHECK(l.c.opened == 0 && is_h2(&l.c) == h2);
  } else {
    CHECK(l.c.opened == ERR_TLS);
    expect_text(l.c.reason, reason);
  }
  unsigned other = stream_tls_other_how(&l.c.stream);
  end_close(&l.c);
  child_stop(&l, &child);
  lab_fini(&l);
  tls_client_unref(c);
  return other;
}

static void a_server_of_openssl_may_know_nothing_of_it(void) {
  static const char none[] = "the server does not speak HTTP/2 (ALPN)";
  expect_of_openssl("-alpn h2,http/1.1", TLS_ALPN_H2_H1, 0, true, NULL);
  expect_of_openssl("-alpn http/1.1", TLS_ALPN_H2_H1, 0, false, NULL);
  expect_of_openssl("-alpn h2", TLS_ALPN_H2, 0, true, NULL);
  expect_of_openssl("", TLS_ALPN_H2_H1, 0, false, NULL);
  expect_of_openssl("", TLS_ALPN_H2, 0, false, none);
  expect_of_openssl("-alpn http/1.1", TLS_ALPN_H2, 0, false, none);
  expect_of_openssl("-tls1_2", TLS_ALPN_H2, 0, false, none);
}

static void a_server_with_an_old_suite_is_spoken_to_by_http_1_1(void) {
  static const char old[] = "-alpn h2,http/1.1 -tls1_2 -cipher ECDHE-RSA-AES128-SHA256",
                    both[] = "-alpn h2,http/1.1 -tls1_2 -cipher ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
  unsigned how = expect_of_openssl(old, TLS_ALPN_H2_H1, TLS_CAPPED, false, "a cipher suite that is too old for it");
  CHECK(how == (TLS_CAPPED | TLS_NO_H2));
  expect_of_openssl(old, TLS_ALPN_H2_H1, how, false, NULL);
  CHECK(expect_of_openssl(old, TLS_ALPN_H2, 0, false, "the peer refused: no cipher") == 0);
  expect_of_openssl(both, TLS_ALPN_H2_H1, 0, true, NULL);
  expect_of_openssl(both, TLS_ALPN_H2, 0, true, NULL);
}

int main(void) {
  lab_setup();
  RUN(the_two_agree_on_what_both_have_and_on_http_2_rather);
  RUN(two_without_a_protocol_in_common_say_so);
  RUN(a_resumed_session_is_no_word_on_the_protocol);
  RUN(a_client_of_openssl_gets_what_it_offers);
  RUN(an_old_suite_is_no_way_to_http_2);
  RUN(a_server_of_openssl_may_know_nothing_of_it);
  RUN(a_server_with_an_old_suite_is_spoken_to_by_http_1_1);
  lab_teardown();
  return 0;
}
