/* connect.c: see connect.h. */
#include "http/connect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/must.h"
#include "http/parser.h"
#include "net/uv_buf.h"

enum { WHY = 256, TARGET = 300, INTERIMS_MAX = 8 };

struct connecting {
  struct parent *parent; /* borrowed */
  connect_fn done;
  char target[TARGET]; /* host:port */
  uint16_t port;
  unsigned interims;
  struct http_parser parser;
  struct response response;
  struct arena arena;
  _Alignas(16) uint8_t first[1024];
};

static const struct http_limits limits = {
    .request_line = 4096, .head = 16 * 1024, .headers = 128, .chunk_line = 128, .chunk_overhead = 1024};

void connect_free(struct origin_conn *c) {
  struct connecting *k = c->connecting;
  buf_fini(&c->early);
  if (k == NULL) return;
  c->connecting = NULL;
  arena_reset(&k->arena);
  free(k);
}

/* --- the answer --- */

static void failed(struct origin_conn *c, int status, const char *what) {
  char why[WHY];
  const struct connecting *k = c->connecting;
  (void)snprintf(why, sizeof why, "proxy %.100s: %s", parent_where(k->parent), what);
  k->done(c, status, why);
}

static void refused(struct origin_conn *c) {
  struct connecting *k = c->connecting;
  const int status = k->response.status;
  char what[WHY];
  if (status == 407)
    (void)snprintf(what, sizeof what, "407, %s", parent_has_credentials(k->parent) ? PARENT_REFUSES : PARENT_WANTS);
  else if (status == 403 && k->port != 443)
    (void)snprintf(what, sizeof what,
                   "403, it makes no tunnel to %.100s (squid's own settings allow those to port 443 alone: SSL_ports)",
                   k->target);
  else
    (void)snprintf(what, sizeof what, "%d %s for a tunnel to %.100s", status, status_phrase(status), k->target);
  failed(c, ERR_PROXY, what);
}

static void made(struct origin_conn *c, const uint8_t *p, size_t n) {
  connect_fn done = c->connecting->done;
  stream_read_stop(&c->stream);
  connect_free(c);
  buf_add(&c->early, p, n);
  done(c, 0, NULL);
}

static void begin_answer(struct connecting *k) {
  http_parser_init_response(&k->parser, &k->arena, &limits, &k->response, STR("CONNECT"));
}

/* Behind it the connection may be gone, and all that belongs to it. */
static void on_head(struct origin_conn *c, const uint8_t *p, size_t n) {
  if (c->connecting->response.status / 100 == 2)
    made(c, p, n);
  else
    refused(c);
}

static void feed(struct origin_conn *c, const uint8_t *p, size_t n) {
  struct connecting *k = c->connecting;
  struct str span;
  for (;;) {
    enum parse_event e = http_parser_next(&k->parser, &p, &n, &span);
    if (e == PARSE_MORE) return;
    if (e != PARSE_HEAD) {
      failed(c, ERR_PROXY, e == PARSE_ERROR ? k->parser.fault.text : "an answer to CONNECT that is none");
      return;
    }
    if (k->response.status / 100 != 1 || k->response.status == 101) {
      on_head(c, p, n);
      return;
    }
    if (++k->interims > INTERIMS_MAX) {
      failed(c, ERR_PROXY, "interim answers without end");
      return;
    }
    begin_answer(k);
  }
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct origin_conn *c = s->owner;
  if (n > 0)
    feed(c, data, (size_t)n);
  else if (n == UV_EOF)
    failed(c, ERR_PROXY,
           http_parser_started(&c->connecting->parser) ? "it closed within its answer to CONNECT"
                                                       : "it closed without an answer to CONNECT");
  else
    failed(c, (int)n, err_text((int)n));
}

/* --- the question --- */

static int write_head(struct origin_conn *c, struct connecting *k) {
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  buf_addf(&out, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", k->target, k->target);
  int rc = parent_add_authorization(k->parent, &out);
  if (rc == 0) {
    buf_addz(&out, "\r\n");
    uv_buf_t b = uv_buf_of(buf_str(&out));
    rc = stream_write(&c->stream, &b, 1, true);
  }
  buf_fini(&out);
  return rc;
}

int connect_start(struct origin_conn *c, struct parent *p, const char *host, uint16_t port, connect_fn done, char *why,
                  size_t size) {
  struct connecting *k = must_calloc(1, sizeof *k);
  const bool ipv6 = strchr(host, ':') != NULL;
  k->parent = p;
  k->done = done;
  k->port = port;
  (void)snprintf(k->target, sizeof k->target, ipv6 ? "[%.255s]:%u" : "%.255s:%u", host, port);
  arena_init(&k->arena, k->first, sizeof k->first);
  c->connecting = k;
  begin_answer(k);
  int rc = write_head(c, k);
  if (rc == 0) {
    stream_read_start(&c->stream, on_read);
    return 0;
  }
  (void)snprintf(why, size, "proxy %.100s: %s", parent_where(p), err_text(rc));
  return rc;
}
