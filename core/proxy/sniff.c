/* sniff.c: a connection without TLS, until its first bytes have told which protocol its client speaks.
 *
 * Over TLS that is agreed on (ALPN). Without it, a client that speaks HTTP/2 begins with the preface (RFC 9113 section 3.3), and one of HTTP/1 with a method: the first three bytes of the
 * preface begin none that is served. With the first byte that differs HTTP/1 has the connection, with the third that does not HTTP/2; either gets the bytes as if it had read them.
 *
 * What has been seen and is not enough is a beginning of the preface, so its length says all of it (conn->sniffed), and nothing has to be kept. From the first byte on the connection is
 * busy, which means that neither a drain nor the want of room closes it, and has the time of a head for the rest. Owned by the worker's thread. */
#include <string.h>

#include "proxy/conn.h"
#include "proxy/worker_state.h"

static const struct str preface = {"PRI", 3};

static const struct policy *policy(const struct conn *c) { return c->worker->runtime->policy; }

/* A first line of three words in capitals has neither a target nor a version: it is a preface that went wrong (RFC 9113 section 3.4). Its sender, if it speaks HTTP/2, would take a
 * reply of HTTP/1.1 for a frame of megabytes, and wait for the rest of it. */
static bool is_no_http(const uint8_t *p, size_t n) {
  const uint8_t *end = memchr(p, '\r', n);
  int spaces = 0;
  if (end == NULL) return false;
  for (; p < end; p++) {
    if (*p == ' ')
      spaces++;
    else if (*p < 'A' || *p > 'Z')
      return false;
  }
  return spaces == 2;
}

static void wait_for_more(struct conn *c, size_t seen) {
  if (c->sniffed == 0) {
    conn_become_busy(c);
    timeout_set(&c->timeout, policy(c)->timeouts.head);
  }
  c->sniffed += (uint8_t)seen;
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct conn *c = s->owner;
  if (n < 0) {
    conn_close(c);
    return;
  }
  struct str had = {preface.p, c->sniffed}, bytes = {(const char *)data, (size_t)n};
  size_t rest = preface.n - had.n, seen = bytes.n < rest ? bytes.n : rest;
  if (memcmp(data, preface.p + had.n, seen) == 0) {
    if (seen < rest)
      wait_for_more(c, seen);
    else
      conn_speaks(c, CONN_HTTP2, had, bytes);
  } else if (had.n == 0 && is_no_http(data, bytes.n)) {
    COUNT(c->worker, refused, 1);
    conn_close(c);
  } else {
    conn_speaks(c, CONN_HTTP1, had, bytes);
  }
}

static void sniff_begin(struct conn *c) {
  stream_read_start(&c->stream, on_read);
  timeout_set(&c->timeout, policy(c)->timeouts.idle);
}

static void sniff_drain(struct conn *c) {
  if (c->sniffed == 0) conn_close(c);
}

static void holds_nothing(struct conn *c) { (void)c; }

static bool looks_whole(const struct conn *c) {
  (void)c;
  return false;
}

/* Nothing is taken: who gets the connection from here is another. */
const struct conn_protocol sniff_protocol = {.begin = sniff_begin,
                                             .due = conn_close,
                                             .drain = sniff_drain,
                                             .lost = holds_nothing,
                                             .fini = holds_nothing,
                                             .looks_whole = looks_whole};
