/* tls_openssl_test.c: our TLS client and server, each against the openssl command run as a child. */
#include "tls_child.h"

static struct child child;

static void openssl_talks_to_our_server(void) {
  struct lab l;
  struct tls_server *s = server("chained");
  s_client(s, "-verify_return_error -verify_hostname localhost -servername localhost -alpn h2,http/1.1", &child, &l);
  expect_text(child.text, "Verify return code: 0 (ok)");
  expect_text(child.text, "ALPN protocol: http/1.1");
  expect_text(child.text, has_1_3 ? "TLSv1.3" : "TLSv1.2");
  expect_text(child.text, "\nhello\n");
  CHECK(str_eq(buf_str(&l.s.got), STR("hello\n")));
  lab_fini(&l);
  tls_server_unref(s);
}

static void the_ciphers_that_cost_least_are_chosen(void) {
  struct tls_certificate_settings list[] = {{file("rsa.pem"), file("rsa.key")}, {file("ecdsa.pem"), file("ecdsa.key")}};
  static const char *const cases[][2] = {
      {"-tls1_2", "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305"},
      {"-tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
       "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"},
      {"-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384", "Cipher is ECDHE-RSA-AES256-GCM-SHA384"},
      {"-tls1_2 -cipher ECDHE-RSA-AES128-SHA256", "Cipher is (NONE)"}, /* CBC is for dated upstreams alone */
  };
  struct tls_server_settings two = {.certificates = list, .ncertificates = 2, .min_version = TLS_1_2};
  struct tls_server *s = server_with(two, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct lab l;
    char options[256];
    snprintf(options, sizeof options, "-servername localhost %s", cases[i][0]);
    s_client(s, options, &child, &l);
    expect_text(child.text, cases[i][1]);
    lab_fini(&l);
  }
  tls_server_unref(s);
}

static void smaller_records_are_granted_where_they_are_kept(void) {
  static const struct {
    const char *name;
    int size;
    bool granted;
  } cases[] = {{"ecdsa", 512, false},   {"ecdsa", 1024, true}, {"chained", 512, false}, {"chained", 1024, true},
               {"chained", 2048, true}, {"rsa", 1024, true},   {"rsa", 4096, true},     {"long", 1024, false},
               {"long", 2048, false},   {"long", 4096, true}};
  shell("cat chained.pem intermediate.pem intermediate.pem ca.pem > long.pem && cp chained.key long.key");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct lab l;
    char options[128];
    struct tls_server *s = server(cases[i].name);
    snprintf(options, sizeof options, "-servername localhost -tls1_2 -tlsextdebug -maxfraglen %d", cases[i].size);
    s_client(s, options, &child, &l);
    expect_text(child.text, "\nhello\n");
    CHECK((strstr(child.text, "\"max fragment length\"") != NULL) == cases[i].granted);
    lab_fini(&l);
    tls_server_unref(s);
  }
  struct lab l;
  struct tls_server *s = server_with((struct tls_server_settings){.client_ca = file("ca.pem")}, "ecdsa");
  s_client(s, "-servername localhost -tls1_2 -tlsextdebug -maxfraglen 4096 -cert client.pem -key client.key", &child,
           &l);
  expect_text(child.text, "\nhello\n");
  CHECK(strstr(child.text, "\"max fragment length\"") == NULL);
  lab_fini(&l);
  tls_server_unref(s);
}

static void a_name_with_a_final_dot_is_that_name(void) {
  struct tls_certificate_settings list[] = {{file("rsa.pem"), file("rsa.key")}, {file("exact.pem"), file("exact.key")}};
  struct tls_server_settings two = {.certificates = list, .ncertificates = 2, .min_version = TLS_1_2};
  struct tls_server *s = server_with(two, NULL);
  struct tls_peer peer;
  struct lab l;
  s_client(s, "-servername A.example.com. -verify_hostname a.example.com -verify_return_error", &child, &l);
  expect_text(child.text, "Verify return code: 0 (ok)");
  CHECK(stream_tls_peer(&l.s.stream, &peer) && str_eq(peer.sni, STR("A.example.com.")));
  lab_fini(&l);
  tls_server_unref(s);
}

static void openssl_resumes_with_our_server(void) {
  struct lab l;
  struct tls_server *s = server("rsa");
  s_client(s, "-tls1_2 -sess_out session", &child, &l);
  expect_text(child.text, "New, TLSv1.2");
  lab_fini(&l);
  s_client(s, "-tls1_2 -sess_in session", &child, &l);
  expect_text(child.text, "Reused, TLSv1.2");
  lab_fini(&l);
  s_client(s, "-tls1_2 -no_ticket -sess_out session", &child, &l);
  expect_text(child.text, "New, TLSv1.2");
  lab_fini(&l);
  s_client(s, "-tls1_2 -no_ticket -sess_in session", &child, &l);
  expect_text(child.text, "Reused, TLSv1.2"); /* from the cache */
  lab_fini(&l);
  tls_server_unref(s);
}

static void old_versions_and_other_protocols_are_refused(void) {
  static const char *const options[] = {"-tls1_1 -cipher DEFAULT@SECLEVEL=0", "-tls1_2 -cipher AES128-SHA", "-alpn h2",
                                        "-tls1_2 -sigalgs RSA+SHA1 -cipher DEFAULT@SECLEVEL=0",
                                        "-tls1_2 -sigalgs RSA+SHA224 -cipher DEFAULT@SECLEVEL=0"};
  struct tls_server *s = server("rsa");
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    struct lab l;
    s_client(s, options[i], &child, &l);
    CHECK(l.s.opened == ERR_TLS && l.s.got.n == 0);
    CHECK(l.s.reason[0] != '\0');
    lab_fini(&l);
  }
  tls_server_unref(s);
}

static void renegotiation_is_refused(void) {
  struct lab l;
  struct tls_server *s = server("rsa");
  lab_init(&l, NULL, s, NULL);
  char command[256];
  snprintf(command, sizeof command,
           "{ echo R; echo R; } | openssl s_client -connect 127.0.0.1:%u -tls1_2 2>&1; echo over",
           ntohs(l.address.sin_port));
  child_start(&l, &child, command);
  child_wait(&l, &child);
  expect_text(child.text, "RENEGOTIATING");
  CHECK(l.s.opened == 0);
  expect_text(child.text, "no renegotiation");
  lab_fini(&l);
  tls_server_unref(s);
}

static bool client_got_answer(const struct lab *l) { return l->c.got.n >= 6; }
static void our_client_talks_to_openssl(void) {
  static const char *const options[] = {"-cert rsa.pem -key rsa.key -alpn http/1.1",
                                        "-cert ecdsa.pem -key ecdsa.key",
                                        "-cert rsa.pem -key rsa.key -tls1_2",
                                        "-cert ecdsa.pem -key ecdsa.key -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA",
                                        "-cert ecdsa.pem -key ecdsa.key -tls1_2 -cipher ECDHE-ECDSA-AES256-SHA",
                                        "-cert rsa.pem -key rsa.key -tls1_2 -cipher ECDHE-RSA-AES128-SHA",
                                        "-cert rsa.pem -key rsa.key -tls1_2 -cipher DHE-RSA-AES128-SHA",
                                        "-cert rsa.pem -key rsa.key -tls1_2 -cipher DHE-RSA-AES256-SHA256",
                                        "-cert rsa.pem -key rsa.key -tls1_2 -cipher DHE-RSA-CHACHA20-POLY1305"};
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    struct lab l;
    struct tls_client *c = client();
    lab_init(&l, c, NULL, "localhost");
    buf_addz(&l.c.out, "hello\n");
    dial_s_server(&l, &child, options[i]);
    turn(&l, client_got_answer);
    CHECK(str_eq(buf_str(&l.c.got), STR("olleh\n")));
    end_close(&l.c);
    child_stop(&l, &child);
    lab_fini(&l);
    tls_client_unref(c);
  }
}

/* Parameters of 1024 bits, made for this test. */
static const char dh1024[] =
    "cat > dh1024.pem <<'END'\n"
    "-----BEGIN DH PARAMETERS-----\n"
    "MIGHAoGBAKbNWAG+oj8cLF4bRQAjjKV/zXCShVvGp0MIPhBYjrpIS7/A0sUSeJon\n"
    "a1gq/j3V/rtZ3abiFIWUjhZW+s6EIgQ+htkCx7Vy/vfqhdDJ1rojoow0+cgdYZcv\n"
    "BQ57ms3Gr4Vf91tzLyqtVLn0v1bIRETkXXNmB9LPeWZIzE6dnC5HAgEC\n"
    "-----END DH PARAMETERS-----\n"
    "END";

static void servers_of_openssl_are_refused_as_ours(void) {
  static const char *const cases[][2] = {
      {"-cert client.pem -key client.key", "not meant for this use"},
      {"-cert expired.pem -key expired.key", "certificate expired on 2020-01-02"},
      {"-cert rsa.pem -key rsa.key -tls1_1 -cipher DEFAULT@SECLEVEL=0", "version"},
      {"-cert rsa.pem -key rsa.key -tls1_2 -cipher AES128-SHA256", "the peer refused: no cipher"},
      {"-cert rsa.pem -key rsa.key -tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0 -dhparam dh1024.pem", ""},
      {"-cert rsa.pem -key rsa.key -tls1_2 -sigalgs RSA+SHA1 -cipher DEFAULT@SECLEVEL=0", "the peer refused"},
      {"-cert rsa.pem -key rsa.key -tls1_2 -sigalgs RSA+SHA224 -cipher DEFAULT@SECLEVEL=0", "the peer refused"},
      {"-cert limited-hard.pem -cert_chain intermediate-limited-hard.pem -key limited-hard.key",
       "a certificate of the peer has a critical extension that is not known here"},
  };
  struct tls_client *c = client();
  shell(dh1024);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct lab l;
    lab_init(&l, c, NULL, i == 0 ? "reports.example" : "localhost");
    dial_s_server(&l, &child, cases[i][0]);
    turn(&l, client_decided);
    CHECK(l.c.opened == ERR_TLS);
    expect_text(l.c.reason, cases[i][1]);
    end_close(&l.c);
    child_stop(&l, &child);
    lab_fini(&l);
  }
  tls_client_unref(c);
}

/* Makes NAME.pem, signed BY and with NAME.key, which is made unless it is there. */
static void certify(const char *by, const char *name, const char *extra) {
  char command[500];
  snprintf(command, sizeof command,
           "{ [ -e %s.key ] || openssl ecparam -name prime256v1 -genkey -noout -out %s.key; } && openssl req -x509 "
           "-CA %s.pem -CAkey %s.key -key %s.key -subj /CN=%s -days 90 -out %s.pem %s",
           name, name, by, by, name, name, name, extra);
  shell(command);
}

static void make_odd_certificates(void) {
  static const char host[] = "-addext basicConstraints=CA:FALSE -addext subjectAltName=DNS:localhost ";
  char extra[256];
  shell(
      "openssl genpkey -algorithm ED25519 -out ed.key && openssl req -x509 -key ed.key -subj /CN=ed -days 90 -out "
      "ed.pem");
  shell(
      "cp rsa.key by-ed.key && cp weak.key weak-ca.key && openssl req -x509 -key weak-ca.key -subj /CN=weak-ca -days "
      "90 -out weak-ca.pem");
  certify("ed", "by-ed", host);
  certify("ed", "ed-middle", "-addext basicConstraints=critical,CA:TRUE");
  certify("ed-middle", "below-ed", host);
  certify("weak-ca", "below-weak", host);
  certify("ca", "dns-ip", "-addext subjectAltName=DNS:127.0.0.1,DNS:localhost");
  snprintf(extra, sizeof extra, "%s -addext certificatePolicies=critical,1.2.3.4", host);
  certify("ca", "policy", extra);
  snprintf(extra, sizeof extra, "%s -addext 1.2.3.4=critical,ASN1:NULL", host);
  certify("ca", "critical", extra);
  certify("ca", "no-ca", "-addext basicConstraints=CA:FALSE");
  certify("no-ca", "below-no-ca", host);
  shell(
      "cat ed-middle.pem >> below-ed.pem && cat no-ca.pem >> below-no-ca.pem && cat foreign.pem other-ca.pem > "
      "rooted.pem && cp foreign.key rooted.key");
  shell("cp ca.pem d0.pem && cp ca.key d0.key");
  for (int i = 0; i < 10; i++) {
    char by[16], name[16];
    snprintf(by, sizeof by, "d%d", i);
    snprintf(name, sizeof name, "d%d", i + 1);
    certify(by, name, "-addext basicConstraints=critical,CA:TRUE");
  }
  certify("d10", "deep", host);
  shell("cat d10.pem d9.pem d8.pem d7.pem d6.pem d5.pem d4.pem d3.pem d2.pem d1.pem >> deep.pem");
  shell(
      "cp lone.pem large.pem && cp lone.key large.key && for i in $(seq 50); do cat intermediate.pem; done >> "
      "large.pem");
}

/* The server's certificate, its options, and what is said; host NULL: localhost. */
static void expect_sentence(struct tls_client *c, const char *name, const char *options, const char *host,
                            const char *text) {
  struct lab l;
  char all[200];
  lab_init(&l, c, NULL, host != NULL ? host : "localhost");
  snprintf(all, sizeof all, "-cert %s.pem -cert_chain %s.pem -key %s.key %s", name, name, name, options);
  dial_s_server(&l, &child, all);
  turn(&l, client_decided);
  CHECK(l.c.opened == ERR_TLS);
  expect_text(l.c.reason, text);
  end_close(&l.c);
  child_stop(&l, &child);
  lab_fini(&l);
}

static void a_refusal_says_what_is_wrong_and_what_to_do(void) {
  static const char lax[] = "-cipher DEFAULT@SECLEVEL=0",
                    unread[] = "signed in a way that is not known here (by Ed25519?)";
  static const char spoken[] =
      "spoken here: ECDHE and DHE with certificates of RSA or EC; neither RSA key exchange nor Ed25519";
  struct tls_client *c = client();
  make_odd_certificates();
  expect_sentence(c, "by-ed", "", NULL, unread);
  expect_sentence(c, "below-ed", "", NULL, unread);
  expect_sentence(c, "ed25519", "", NULL, spoken);
  expect_sentence(c, "rsa", "-tls1_2 -cipher AES128-SHA", NULL, spoken);
  expect_sentence(c, "policy", "", NULL, "a certificate of the peer has critical certificate policies");
  expect_sentence(c, "critical", "", NULL, "a certificate of the peer has a critical extension that is not known here");
  expect_sentence(c, "dns-ip", "", "127.0.0.1", "certificate has the address 127.0.0.1 as a host name (DNS)");
  expect_sentence(c, "deep", "", NULL, "more than 8 intermediates");
  expect_sentence(c, "large", "", NULL, "16 KB");
  expect_sentence(c, "lone", "", NULL,
                  "unknown certificate authority: CN=jeton test intermediate (does the peer leave out an intermediate "
                  "certificate, or is this authority missing in `tls.ca`?)");
  expect_sentence(c, "rooted", "", NULL,
                  "CN=another test CA (its certificate came along, but `tls.ca` does not name it)");
  expect_sentence(c, "below-no-ca", "", NULL, "CN=no-ca (its certificate came along, but must not sign this");
  expect_sentence(c, "self-signed", "", NULL, "certificate is self-signed: to trust it, name its file in `tls.ca`");
  expect_sentence(c, "weak", lax, NULL, "certificate has a key that is too weak");
  tls_client_unref(c);
  c = client_with((struct tls_client_settings){.ca = file("weak-ca.pem")});
  expect_sentence(c, "below-weak", lax, NULL, "certificate is signed by an authority whose key is too weak");
  tls_client_unref(c);
}

static void a_version_that_is_too_low_is_named(void) {
  struct tls_client *c = client();
  struct lab l;
  lab_init(&l, c, NULL, "localhost");
  dial_s_server(&l, &child, "-cert rsa.pem -key rsa.key -tls1 -cipher DEFAULT@SECLEVEL=0");
  turn(&l, client_decided);
  expect_text(l.c.reason, "no TLS version in common");
  CHECK(strstr(l.c.reason, "mbedTLS") == NULL);
  end_close(&l.c);
  child_stop(&l, &child);
  lab_fini(&l);
  tls_client_unref(c);
  struct tls_server *s = server("rsa");
  s_client(s, "-tls1_1 -cipher DEFAULT@SECLEVEL=0", &child, &l);
  expect_text(l.s.reason,
              "no TLS version in common: the peer offers up to TLS 1.1, and the lowest that is spoken here is 1.2");
  lab_fini(&l);
  tls_server_unref(s);
}

static bool client_ended(const struct lab *l) { return l->c.ended != 0; }
/* What s_server does when it reads that line at its standard input: it changes its keys, or asks for another handshake. */
static void expect_end(const char *options, const char *line, const char *text) {
  struct tls_client *c = client();
  struct lab l;
  char command[256];
  lab_init(&l, c, NULL, "localhost");
  snprintf(command, sizeof command,
           "{ sleep 1; echo %s; sleep 1; echo; sleep 3; } | openssl s_server -accept 127.0.0.1:0 -naccept 1 -cert "
           "rsa.pem -key rsa.key %s",
           line, options);
  child_start(&l, &child, command);
  child_expect(&l, &child, "ACCEPT 127.0.0.1:");
  while (strchr(strstr(child.text, "ACCEPT"), '\n') == NULL) uv_run(&l.loop, UV_RUN_ONCE);
  dial(&l, (uint16_t)atoi(strstr(child.text, "ACCEPT 127.0.0.1:") + 17));
  turn(&l, client_ended);
  CHECK(l.c.ended == ERR_TLS);
  expect_text(stream_reason(&l.c.stream), text);
  end_close(&l.c);
  child_stop(&l, &child);
  lab_fini(&l);
  tls_client_unref(c);
}

static void what_comes_in_mid_connection_is_named(void) {
  expect_end("-tls1_2", "r", "the server wanted to renegotiate, most likely for a client certificate");
  if (has_1_3) expect_end("-tls1_3", "K", "the peer changed its keys in mid-connection (KeyUpdate of TLS 1.3)");
}

int main(void) {
  lab_setup();
  RUN(openssl_talks_to_our_server);
  RUN(the_ciphers_that_cost_least_are_chosen);
  RUN(smaller_records_are_granted_where_they_are_kept);
  RUN(a_name_with_a_final_dot_is_that_name);
  RUN(openssl_resumes_with_our_server);
  RUN(old_versions_and_other_protocols_are_refused);
  RUN(renegotiation_is_refused);
  RUN(our_client_talks_to_openssl);
  RUN(servers_of_openssl_are_refused_as_ours);
  RUN(a_refusal_says_what_is_wrong_and_what_to_do);
  RUN(a_version_that_is_too_low_is_named);
  RUN(what_comes_in_mid_connection_is_named);
  lab_teardown();
  return 0;
}
