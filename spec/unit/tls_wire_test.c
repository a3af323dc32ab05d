/* tls_wire_test.c: peers that use the freedoms of the record layer: records without data, a smaller size of records. The peer is mbedTLS itself on a blocking
 * socket, in a thread of its own; what it sends while `held` leaves in one write, so that it arrives in one read. */
#include <sys/socket.h>

#include "net/tls_compat.h"
#include "tls_lab.h"

enum { HELD_MAX = 65536 };

struct odd {
  int endpoint; /* MBEDTLS_SSL_IS_CLIENT or _SERVER */
  uint16_t port;
  bool old;               /* TLS 1.2 at the most */
  int empty;              /* records without data in a row, before and behind "hello" */
  bool apart;             /* each of them in a write of its own */
  unsigned char fragment; /* MBEDTLS_SSL_MAX_FRAG_LEN_*, asked for by a client */
  /* of the thread */
  int fd, listener;
  bool hold;
  size_t held;
  unsigned char out[HELD_MAX];
  size_t largest; /* payload of a record that came */
  size_t granted; /* what its records may carry */
  int failed;     /* 0, or mbedTLS's code of the handshake */
  char got[64];
  mbedtls_ssl_context ssl;
  mbedtls_ssl_config conf;
  pthread_t thread;
};

static void odd_flush(struct odd *o) {
  for (size_t at = 0; at < o->held;) {
    ssize_t n = send(o->fd, o->out + at, o->held - at, MSG_NOSIGNAL);
    if (n <= 0) break;
    at += (size_t)n;
  }
  o->held = 0;
}
static int odd_send(void *p, const unsigned char *data, size_t n) {
  struct odd *o = p;
  CHECK(o->held + n <= HELD_MAX);
  memcpy(o->out + o->held, data, n);
  o->held += n;
  if (!o->hold) odd_flush(o);
  return (int)n;
}
static int odd_recv(void *p, unsigned char *data, size_t n) {
  struct odd *o = p;
  ssize_t r = recv(o->fd, data, n, 0);
  if (r == 5 && n == 5 && data[0] >= 20 && data[0] <= 23) { /* a header: mbedTLS asks for it alone */
    size_t size = (size_t)(data[3] << 8 | data[4]);
    if (size > o->largest) o->largest = size;
  }
  return r > 0 ? (int)r : MBEDTLS_ERR_SSL_CONN_EOF;
}

static void odd_empty(struct odd *o) {
  for (int i = 0; i < o->empty; i++) {
    CHECK(mbedtls_ssl_write(&o->ssl, NULL, 0) == 0);
    if (!o->apart) continue;
    odd_flush(o);
    usleep(2000); /* whether they arrive apart is chance, and either way is to be survived */
  }
}

static void *odd_run(void *p) {
  struct odd *o = p;
  struct sockaddr_in to = {
      .sin_family = AF_INET, .sin_port = htons(o->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (o->endpoint == MBEDTLS_SSL_IS_SERVER) {
    o->fd = accept(o->listener, NULL, NULL);
  } else {
    o->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(o->fd, (struct sockaddr *)&to, sizeof to) == 0);
  }
  mbedtls_ssl_set_bio(&o->ssl, o, odd_send, odd_recv, NULL);
  o->failed = mbedtls_ssl_handshake(&o->ssl);
  if (o->failed == 0) {
    o->granted = (size_t)mbedtls_ssl_get_max_out_record_payload(&o->ssl);
    o->hold = !o->apart;
    odd_empty(o);
    CHECK(mbedtls_ssl_write(&o->ssl, (const unsigned char *)"hello", 5) == 5);
    odd_empty(o);
    CHECK(mbedtls_ssl_write(&o->ssl, (const unsigned char *)" there", 6) == 6);
    o->hold = false;
    odd_flush(o);
    for (size_t n = 0; n < 11;) {
      int r = mbedtls_ssl_read(&o->ssl, (unsigned char *)o->got + n, sizeof o->got - n - 1);
      if (r < 0 && r != MBEDTLS_ERR_SSL_WANT_READ && r != COMPAT_NEW_TICKET) break;
      if (r > 0) n += (size_t)r;
    }
    mbedtls_ssl_close_notify(&o->ssl);
  }
  shutdown(o->fd, SHUT_RDWR);
  return NULL;
}

static void odd_start(struct odd *o, mbedtls_x509_crt *chain, mbedtls_pk_context *key) {
  CHECK(compat_init());
  mbedtls_ssl_init(&o->ssl);
  mbedtls_ssl_config_init(&o->conf);
  CHECK(mbedtls_ssl_config_defaults(&o->conf, o->endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) ==
        0);
  mbedtls_ssl_conf_rng(&o->conf, compat_rng, NULL);
  compat_conf_versions(&o->conf, false, o->old);
  mbedtls_ssl_conf_authmode(&o->conf, MBEDTLS_SSL_VERIFY_NONE);
  if (chain != NULL) CHECK(mbedtls_ssl_conf_own_cert(&o->conf, chain, key) == 0);
  if (o->fragment != 0) CHECK(mbedtls_ssl_conf_max_frag_len(&o->conf, o->fragment) == 0);
  CHECK(mbedtls_ssl_setup(&o->ssl, &o->conf) == 0);
  CHECK(mbedtls_ssl_set_hostname(&o->ssl, o->endpoint == MBEDTLS_SSL_IS_CLIENT ? "localhost" : NULL) == 0);
  CHECK(pthread_create(&o->thread, NULL, odd_run, o) == 0);
}

static void odd_fini(struct odd *o) {
  CHECK(pthread_join(o->thread, NULL) == 0);
  close(o->fd);
  mbedtls_ssl_free(&o->ssl);
  mbedtls_ssl_config_free(&o->conf);
}

static bool heard_all(const struct lab *l) {
  return l->s.got.n >= 11 || l->c.got.n >= 11 || l->s.ended != 0 || l->c.ended != 0;
}

/* --- records without data --- */

static void empty_from_a_client(int n, bool old, bool apart) {
  static struct odd o;
  struct tls_server *s = server("ecdsa");
  struct lab l;
  lab_init(&l, NULL, s, NULL);
  l.s.echo = true;
  o = (struct odd){
      .endpoint = MBEDTLS_SSL_IS_CLIENT, .port = ntohs(l.address.sin_port), .old = old, .empty = n, .apart = apart};
  odd_start(&o, NULL, NULL);
  turn(&l, heard_all);
  CHECK(str_eq(buf_str(&l.s.got), STR("hello there")));
  while (l.s.ended == 0) uv_run(&l.loop, UV_RUN_ONCE);
  CHECK(l.s.ended == UV_EOF);
  lab_fini(&l);
  odd_fini(&o);
  CHECK(strcmp(o.got, "hello there") == 0);
  tls_server_unref(s);
}

static void empty_from_a_server(int n, bool old, bool apart) {
  static struct odd o;
  struct tls_client *c = client();
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof any;
  mbedtls_x509_crt chain;
  mbedtls_pk_context key;
  struct lab l;
  lab_init(&l, c, NULL, "localhost");
  l.c.echo = true;
  o = (struct odd){.endpoint = MBEDTLS_SSL_IS_SERVER, .old = old, .empty = n, .apart = apart};
  o.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(o.listener, (struct sockaddr *)&any, sizeof any) == 0 && listen(o.listener, 1) == 0);
  CHECK(getsockname(o.listener, (struct sockaddr *)&any, &size) == 0);
  mbedtls_x509_crt_init(&chain);
  mbedtls_pk_init(&key);
  CHECK(mbedtls_x509_crt_parse_file(&chain, file("ecdsa.pem")) == 0);
  char text[4096] = "";
  FILE *f = fopen(file("ecdsa.key"), "r");
  CHECK(f != NULL);
  size_t got = fread(text, 1, sizeof text - 1, f);
  fclose(f);
  CHECK(compat_parse_key(&key, (unsigned char *)text, got + 1) == 0);
  odd_start(&o, &chain, &key);
  dial(&l, ntohs(any.sin_port));
  turn(&l, heard_all);
  CHECK(str_eq(buf_str(&l.c.got), STR("hello there")));
  while (l.c.ended == 0) uv_run(&l.loop, UV_RUN_ONCE);
  CHECK(l.c.ended == UV_EOF);
  lab_fini(&l);
  odd_fini(&o);
  close(o.listener);
  CHECK(strcmp(o.got, "hello there") == 0);
  mbedtls_x509_crt_free(&chain);
  mbedtls_pk_free(&key);
  tls_client_unref(c);
}

static void records_without_data_end_nothing(void) {
  static const int counts[] = {1, 2, 3, 4, 5, 40, 500};
  for (int old = 0; old < 2; old++)
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
      empty_from_a_client(counts[i], old == 1, false);
      empty_from_a_server(counts[i], old == 1, false);
    }
}

static void nor_do_those_that_come_one_by_one(void) {
  for (int old = 0; old < 2; old++) {
    empty_from_a_client(9, old == 1, true);
    empty_from_a_server(9, old == 1, true);
  }
}

int main(void) {
  lab_setup();
  RUN(records_without_data_end_nothing);
  RUN(nor_do_those_that_come_one_by_one);
  lab_teardown();
  return 0;
}
