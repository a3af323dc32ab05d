/* h2_fuzz.h: what the fuzz targets of HTTP/2 share: a session over a socket whose other end plays the peer, a user of it that holds it to its contract, and a way to
 * play an input.
 *
 * Input: a byte for how it is played (enum fuzz_play), a byte for what the user does (as each target reads it), and what the peer sends. That is either the bytes as
 * they are, or records, which are made into frames of the right length, so that a mutation of one leaves the next where it is:
 *
 *   KIND FLAGS ID N and N bytes    a frame: KIND below 0xa0, its number modulo 12; from 0xa0 on DATA of 256 N bytes instead
 *   KIND                           from 0xe0 on: something that the user does (fuzz_act)
 *
 * Checked besides the events' order: nothing reaches the library after it was told to terminate, or wants nothing; memory does not grow by much more than what came; and each
 * message that was let through has fields that our rules allow, and says the same when it is written as HTTP/1 and read again. */
#ifndef JETON_SPEC_H2_FUZZ_H
#define JETON_SPEC_H2_FUZZ_H

#include <dlfcn.h>
#include <sanitizer/allocator_interface.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "http/h2_compat.h"
#include "http/h2_fields.h"
#include "http/h2_session.h"
#include "net/stream.h"
#include "net/url.h"

enum fuzz_play {
  PLAY_RECORDS = 1,
  PLAY_TAKES = 6, /* two bits: of a body all, nothing, half, or a byte is taken */
  PLAY_FULL = 8,  /* the peer does not read */
  PLAY_CUT = 48,  /* two bits: whole (of records: each), by 64, by 7, by one byte */
  PLAY_TURNS = 64 /* the loop runs between the pieces */
};
enum { FUZZ_STREAMS = 8, FUZZ_GROWTH = 1 << 20 };

/* The session under test, one at a time. */
static struct fuzz {
  uv_loop_t loop;
  struct laters laters;
  struct net net;
  struct stream stream;
  int peer; /* the other end */
  struct h2_session session;
  struct link users; /* struct fuzz_stream */
  unsigned nusers;
  uint8_t play, plan;
  bool ready;         /* the loop is made: once */
  bool over, closed;  /* the session has said so; the stream */
  size_t before, fed; /* bytes: allocated, and given to the session */
  unsigned pieces;
} fuzz;

struct fuzz_stream {
  struct h2_stream st;
  struct link link;
  struct arena arena;
  struct h2_block block;
  struct request request;
  struct response reply;
  struct str method; /* client: of the request */
  bool head, told_end, in_block, detached;
  uint64_t received;
};
static inline struct fuzz_stream *fuzz_of(struct h2_stream *st) { return CONTAINER_OF(st, struct fuzz_stream, st); }

/* --- the library, watched: these stand before its own --- */

static bool fuzz_terminated;

ssize_t nghttp2_session_mem_recv(nghttp2_session *s, const uint8_t *p, size_t n) {
  static ssize_t (*real)(nghttp2_session *, const uint8_t *, size_t);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "nghttp2_session_mem_recv");
  CHECK(!fuzz_terminated);
  ssize_t used = real(s, p, n);
  if (used < 0 || nghttp2_session_want_read(s) == 0) fuzz_terminated = true;
  return used;
}
/* By us. The library calls these for itself, too: what it reads of the same feed behind that, it throws away. */
static void note_terminated(void) {
  if (fuzz.session.state == H2_DEAD) fuzz_terminated = true;
}
int nghttp2_session_terminate_session(nghttp2_session *s, uint32_t code) {
  static int (*real)(nghttp2_session *, uint32_t);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "nghttp2_session_terminate_session");
  note_terminated();
  return real(s, code);
}
int nghttp2_session_terminate_session2(nghttp2_session *s, int32_t last, uint32_t code) {
  static int (*real)(nghttp2_session *, int32_t, uint32_t);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "nghttp2_session_terminate_session2");
  note_terminated();
  return real(s, last, code);
}

/* --- streams of the user --- */

static inline struct h2_stream *fuzz_stream_new(void) {
  struct fuzz_stream *f = calloc(1, sizeof *f);
  CHECK(f != NULL);
  h2_stream_init(&f->st);
  arena_init(&f->arena, NULL, 0);
  list_push(&fuzz.users, &f->link);
  fuzz.nusers++;
  return &f->st;
}
static inline void fuzz_stream_free(struct fuzz_stream *f) {
  list_remove(&f->link);
  fuzz.nusers--;
  arena_reset(&f->arena);
  free(f);
}
/* From within an event of it: the memory lasts until the feed is over. */
static inline void fuzz_stream_detach(struct fuzz_stream *f, enum h2_error code) {
  h2_stream_detach(&f->st, code);
  CHECK(f->st.session == NULL);
  f->detached = true;
}
static inline void fuzz_free_detached(void) {
  for (struct link *l = fuzz.users.next, *next; l != &fuzz.users; l = next) {
    next = l->next;
    struct fuzz_stream *f = CONTAINER_OF(l, struct fuzz_stream, link);
    if (f->detached) fuzz_stream_free(f);
  }
}

static inline bool fuzz_is_client(void) { return fuzz.session.settings.side == H2_CLIENT; }

static inline void fuzz_block_begin(struct h2_stream *st, enum h2_block_kind kind) {
  struct fuzz_stream *f = fuzz_of(st);
  bool response = fuzz_is_client();
  CHECK(!f->in_block && !f->told_end && f->head == (kind == H2_TRAILERS));
  f->in_block = true;
  if (response && kind == H2_HEAD) f->reply = (struct response){.status = 0};
  struct headers *to = response          ? kind == H2_HEAD ? &f->reply.headers : &f->reply.trailers
                       : kind == H2_HEAD ? &f->request.headers
                                         : &f->request.trailers;
  h2_block_begin(&f->block, &f->arena, &fuzz_limits, response, kind, to);
}
static inline enum h2_error fuzz_field(struct h2_stream *st, struct str name, struct str value) {
  struct fuzz_stream *f = fuzz_of(st);
  CHECK(f->in_block && !f->detached);
  return h2_block_field(&f->block, name, value);
}

static inline size_t fuzz_body(struct h2_stream *st, struct str span) {
  struct fuzz_stream *f = fuzz_of(st);
  CHECK(f->head && !f->told_end && !f->detached && span.n > 0);
  size_t takes[] = {span.n, 0, span.n / 2, 1};
  size_t taken = takes[(fuzz.play & PLAY_TAKES) / 2];
  f->received += taken;
  return taken;
}
static inline void fuzz_body_end(struct h2_stream *st) {
  struct fuzz_stream *f = fuzz_of(st);
  enum http_framing framing = fuzz_is_client() ? f->reply.framing : f->request.framing;
  CHECK(f->head && !f->told_end);
  CHECK(framing != FRAMING_LENGTH ||
        f->received == (fuzz_is_client() ? f->reply.content_length : f->request.content_length));
  f->told_end = true;
}
static inline void fuzz_closed(struct h2_stream *st, enum h2_error code, bool by_peer) {
  (void)code, (void)by_peer;
  CHECK(!fuzz_of(st)->detached);
  fuzz_stream_free(fuzz_of(st));
}
static inline void fuzz_over(struct h2_session *s) {
  CHECK(s == &fuzz.session && !fuzz.over);
  fuzz.over = true;
}
static inline void fuzz_no_event(struct h2_stream *st) { CHECK(fuzz_of(st)->st.session == &fuzz.session); }

/* Of struct h2_events, what both sides have; each adds what it has by itself. */
#define FUZZ_EVENTS                                                                                   \
  .block_begin = fuzz_block_begin, .field = fuzz_field, .body = fuzz_body, .body_end = fuzz_body_end, \
  .fed = fuzz_no_event, .drained = fuzz_no_event, .closed = fuzz_closed, .over = fuzz_over

/* --- what was let through --- */

/* Nothing in it that a message of HTTP/1 could not say, so reading it there gives the same. */
static inline void fuzz_check_list(const struct headers *h) {
  for (unsigned i = 0; i < h->n; i++) {
    struct str name = h->v[i].name;
    if (name.p == NULL) continue; /* of several crumbs of a cookie the first has all */
    CHECK(header_name_valid(name) && header_value_valid(h->v[i].value));
    for (size_t j = 0; j < name.n; j++) CHECK(name.p[j] < 'A' || name.p[j] > 'Z');
    CHECK((header_traits[h->v[i].id] & HEADER_HOP) == 0 || h->v[i].id == H_TE || h->v[i].id == H_PROXY_AUTHORIZATION ||
          h->v[i].id == H_PROXY_AUTHENTICATE || h->v[i].id == H_TRAILER);
    if (h->v[i].id == H_TE) CHECK(str_ieq(h->v[i].value, STR("trailers")));
  }
}

/* Of two lists the same fields in the same order, but for those that a writer makes itself. */
static inline void fuzz_same_fields(const struct headers *a, const struct headers *b, uint8_t passed_over) {
  unsigned i = 0, j = 0;
  for (;;) {
    while (i < a->n && (a->v[i].name.p == NULL || (header_traits[a->v[i].id] & passed_over) != 0)) i++;
    while (j < b->n && (header_traits[b->v[j].id] & passed_over) != 0) j++;
    if (i == a->n || j == b->n) break;
    CHECK(str_eq(a->v[i].name, b->v[j].name) && str_eq(a->v[i].value, b->v[j].value));
    i++, j++;
  }
  CHECK(i == a->n && j == b->n);
}

/* As HTTP/1 it may be longer than we let it be there. */
static const struct http_limits fuzz_wide = {
    .request_line = 100000, .head = 200000, .headers = 1000, .chunk_line = 100, .chunk_overhead = 200};

static inline void fuzz_check_request(struct request *r) {
  struct feed g = {.limits = &fuzz_wide};
  fuzz_check_list(&r->headers);
  CHECK(r->version == HTTP_2 && !r->upgrade && r->framing != FRAMING_UNTIL_CLOSE);
  CHECK(r->authority.p == NULL || host_valid(r->authority));
  CHECK(!r->is_connect || r->path.n == 0);
  CHECK(r->is_connect || r->path.p[0] == '/' || str_eq(r->path, STR("*")));
  if (!fuzz_request_again(r, &g)) return;
  fuzz_same_fields(&r->headers, &g.request.headers, HEADER_NOT_IN_REQUEST);
  feed_done(&g);
}

static inline void fuzz_check_response(struct response *r, struct str method) {
  bool head = str_eq(method, STR("HEAD"));
  struct feed g = {.response = true, .method = head ? "HEAD" : "GET", .limits = &fuzz_wide};
  fuzz_check_list(&r->headers);
  CHECK(r->version == HTTP_2 && r->status >= 100 && r->status <= 599 && r->status != 101);
  if (head || r->status < 200 || r->status == 204 || r->status == 304) CHECK(r->framing == FRAMING_NONE);
  fuzz_response_again(r, &g);
  fuzz_same_fields(&r->headers, &g.reply.headers, HEADER_NOT_IN_REPLY);
  feed_done(&g);
}

/* --- playing --- */

/* Not for each piece: the allocator has to count. */
static inline void fuzz_bounded(void) {
  size_t now = __sanitizer_get_current_allocated_bytes();
  CHECK(now < fuzz.before || now - fuzz.before <= FUZZ_GROWTH + 16 * fuzz.fed);
  CHECK(fuzz.nusers >= fuzz.session.nstreams);
}

static inline void fuzz_peer_reads(void) {
  char bytes[65536];
  while (recv(fuzz.peer, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
    ;
}

static inline void fuzz_turn(void) {
  if ((fuzz.play & PLAY_FULL) == 0) fuzz_peer_reads();
  uv_run(&fuzz.loop, UV_RUN_NOWAIT);
}

static inline void fuzz_feed(const uint8_t *p, size_t n) {
  uint8_t *copy = malloc(n > 0 ? n : 1); /* a piece of its own, so that a pointer into it is found */
  CHECK(copy != NULL);
  memcpy(copy, p, n);
  fuzz.fed += n;
  (void)h2_session_feed(&fuzz.session, copy, n);
  free(copy);
  fuzz_free_detached();
  if (++fuzz.pieces % 64 == 0) fuzz_bounded();
  if ((fuzz.play & PLAY_TURNS) != 0) fuzz_turn();
}

/* The session goes on being fed when it has said that it is over: nothing may come of that. */
static inline void fuzz_feed_pieces(const uint8_t *p, size_t n) {
  static const size_t steps[] = {SIZE_MAX, 64, 7, 1};
  size_t step = steps[(fuzz.play & PLAY_CUT) / 16];
  for (size_t at = 0; at < n;) {
    size_t k = n - at < step ? n - at : step;
    fuzz_feed(p + at, k);
    at += k;
  }
}

static inline struct fuzz_stream *fuzz_some_stream(uint8_t which) {
  if (fuzz.nusers == 0) return NULL;
  struct link *l = fuzz.users.next;
  for (unsigned i = which % fuzz.nusers; i > 0; i--) l = l->next;
  return CONTAINER_OF(l, struct fuzz_stream, link);
}

static inline void fuzz_act(uint8_t what) {
  struct fuzz_stream *f = fuzz_some_stream(fuzz.plan);
  switch (what % 8) {
    case 0: h2_session_drain(&fuzz.session); break;
    case 1: h2_session_leave(&fuzz.session); break;
    case 2: h2_session_terminate(&fuzz.session, H2_NO_ERROR); break;
    case 3: h2_session_ping(&fuzz.session); break;
    case 4: h2_session_write(&fuzz.session); break;
    case 5:
      if (f != NULL) h2_stream_take(&f->st);
      break;
    case 6:
      if (f == NULL) break;
      fuzz_stream_detach(f, H2_CANCEL);
      fuzz_stream_free(f);
      break;
    default: fuzz.play ^= PLAY_FULL; fuzz_turn();
  }
}

static inline void fuzz_frame(uint8_t kind, uint8_t flags, uint8_t id, const uint8_t *p, size_t n) {
  static uint8_t frame[9 + 65536];
  const uint8_t head[9] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, kind, flags, 0, 0, 0, id};
  memcpy(frame, head, 9);
  if (p != NULL)
    memcpy(frame + 9, p, n);
  else
    memset(frame + 9, 0, n);
  fuzz_feed_pieces(frame, 9 + n);
}

static inline void fuzz_records(const uint8_t *p, size_t n) {
  while (n > 0) {
    uint8_t kind = *p;
    if (kind >= 0xe0 || n < 4) {
      if (kind >= 0xe0) fuzz_act(kind);
      p++, n--;
      continue;
    }
    bool large = kind >= 0xa0;
    size_t payload = large ? 0 : p[3] < n - 4 ? p[3] : n - 4;
    fuzz_frame(large ? 0 : kind % 12, p[1], p[2], large ? NULL : p + 4, large ? (size_t)p[3] * 256 : payload);
    p += 4 + payload;
    n -= 4 + payload;
  }
}

static inline void fuzz_stream_closed(struct stream *s) {
  CHECK(s == &fuzz.stream);
  fuzz.closed = true;
}

/* The session begins; `play` and `plan` are the input's first two bytes. */
static inline void fuzz_begin(uint8_t play, uint8_t plan, const struct h2_settings *settings,
                              const struct h2_events *events) {
  int pair[2];
  if (!fuzz.ready) {
    CHECK(uv_loop_init(&fuzz.loop) == 0);
    laters_init(&fuzz.laters, &fuzz.loop);
    net_init(&fuzz.net, &fuzz.loop);
    fuzz.net.queued_most = 1 << 20;
    fuzz.ready = true;
  }
  list_init(&fuzz.users);
  fuzz.nusers = 0;
  fuzz.play = play;
  fuzz.plan = plan;
  fuzz.over = fuzz.closed = fuzz_terminated = false;
  fuzz.fed = 0;
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  fuzz.peer = pair[1];
  fuzz.before = __sanitizer_get_current_allocated_bytes();
  stream_init_socket(&fuzz.stream, &fuzz.net, pair[0], true);
  h2_session_init(&fuzz.session, &fuzz.stream, &fuzz.laters, settings, events);
}

static inline void fuzz_play(const uint8_t *p, size_t n) {
  if ((fuzz.play & PLAY_RECORDS) != 0)
    fuzz_records(p, n);
  else
    fuzz_feed_pieces(p, n);
  fuzz_turn();
  fuzz_bounded();
}

static inline void fuzz_end(void) {
  h2_session_fini(&fuzz.session);
  CHECK(fuzz.nusers == 0);
  stream_close(&fuzz.stream, fuzz_stream_closed);
  while (!fuzz.closed) uv_run(&fuzz.loop, UV_RUN_NOWAIT);
  CHECK(fuzz.net.queued == 0);
  (void)close(fuzz.peer);
}

#endif
