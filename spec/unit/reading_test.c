/* reading_test.c: where llhttp's reading and ours differ, the message is refused; and the differences that are known are none. */
#include "http/reading.h"

#include "base/arena.h"
#include "feed.h"

/* A message that the parser takes; `change` then makes ours another reading of the same bytes, which llhttp must not confirm. */
struct tried {
  struct feed feed;
  struct reading reading;
  struct buf bytes;
};

static void take(struct tried *t, bool response, const char *head) {
  *t = (struct tried){.feed = {.response = response}};
  buf_init(&t->bytes);
  buf_addz(&t->bytes, head);
  feed_start(&t->feed);
  const uint8_t *at = t->bytes.p;
  size_t n = t->bytes.n;
  struct str span;
  CHECK(http_parser_next(&t->feed.parser, &at, &n, &span) == PARSE_HEAD && n == 0);
}

static void done(struct tried *t) {
  buf_fini(&t->bytes);
  feed_done(&t->feed);
}

/* The head as it lies in the arena, where our slices point into it. */
static bool request_agrees(struct tried *t) {
  const struct request *r = &t->feed.request;
  char *head = (char *)(uintptr_t)r->method.p;
  return reading_of_request(&t->reading, head, t->bytes.n, r);
}
static bool response_agrees(struct tried *t) {
  const struct response *r = &t->feed.reply;
  char *head = (char *)(uintptr_t)(r->reason.p - sizeof "HTTP/1.1 200" + 1 - 1);
  return reading_of_response(&t->reading, head, t->bytes.n, r);
}

#define EACH(v, table) for (size_t v = 0; v < sizeof table / sizeof *table; v++)

#define REQUEST "POST /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 5\r\n\r\n"
#define REPLY "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\n"

static void the_same_reading_agrees(void) {
  struct tried t;
  take(&t, false, REQUEST);
  CHECK(request_agrees(&t) && request_agrees(&t));
  done(&t);
  take(&t, true, REPLY);
  CHECK(response_agrees(&t) && response_agrees(&t));
  done(&t);
}

typedef void change_request(struct request *r);
static void another_target(struct request *r) { r->target.n--; }
static void another_method(struct request *r) { r->method.n--; }
static void another_version(struct request *r) { r->version = HTTP_1_0; }
static void another_name(struct request *r) { r->headers.v[1].name = r->headers.v[0].name; }
static void a_shorter_name(struct request *r) { r->headers.v[0].name.n--; }
static void another_value(struct request *r) { r->headers.v[1].value = r->headers.v[0].value; }
static void a_longer_value(struct request *r) { r->headers.v[1].value.n++; }
static void a_shorter_value(struct request *r) { r->headers.v[1].value.n = 0; }
static void a_field_less(struct request *r) { r->headers.n--; }
static void another_length(struct request *r) { r->content_length++; }
static void no_body(struct request *r) { r->framing = FRAMING_NONE; }
static void chunks(struct request *r) { r->framing = FRAMING_CHUNKED; }

static void a_difference_in_a_request_is_seen(void) {
  static change_request *const changes[] = {another_target, another_method, another_version, another_name,
                                            a_shorter_name, another_value,  a_longer_value,  a_shorter_value,
                                            a_field_less,   another_length, no_body,         chunks};
  EACH(i, changes) {
    struct tried t;
    take(&t, false, REQUEST);
    changes[i](&t.feed.request);
    CHECK(!request_agrees(&t));
    done(&t);
  }
}

typedef void change_response(struct response *r);
static void another_status(struct response *r) { r->status = 201; }
static void another_reason(struct response *r) { r->reason.n--; }
static void a_reply_without_body(struct response *r) { r->framing = FRAMING_NONE, r->has_length = false; }
static void a_reply_without_length(struct response *r) { r->framing = FRAMING_UNTIL_CLOSE, r->has_length = false; }
static void another_reply_length(struct response *r) { r->content_length = 4; }
static void a_chunked_reply(struct response *r) { r->framing = FRAMING_CHUNKED, r->has_length = false; }

static void a_difference_in_a_reply_is_seen(void) {
  static change_response *const changes[] = {another_status,         another_reason,       a_reply_without_body,
                                             a_reply_without_length, another_reply_length, a_chunked_reply};
  EACH(i, changes) {
    struct tried t;
    take(&t, true, REPLY);
    changes[i](&t.feed.reply);
    CHECK(!response_agrees(&t));
    done(&t);
  }
}

static void a_head_with_more_behind_it_is_not_the_same(void) {
  struct tried t;
  static char twice[] = REQUEST REQUEST;
  take(&t, false, REQUEST);
  struct request *r = &t.feed.request;
  ptrdiff_t moved = twice - r->method.p;
  r->method.p += moved, r->target.p += moved;
  for (unsigned i = 0; i < r->headers.n; i++) r->headers.v[i].name.p += moved, r->headers.v[i].value.p += moved;
  CHECK(reading_of_request(&t.reading, twice, sizeof REQUEST - 1, r));
  CHECK(!reading_of_request(&t.reading, twice, sizeof REQUEST, r));
  CHECK(!reading_of_request(&t.reading, twice, sizeof REQUEST - 2, r));
  done(&t);
}

static void chunks_are_of_one_size_and_end_once(void) {
  struct tried t;
  struct headers none;
  take(&t, false, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  headers_init(&none, &t.feed.arena);
  CHECK(request_agrees(&t) && !reading_of_chunk_line(&t.reading, STR("5\r\n"), 1, 6));
  CHECK(request_agrees(&t) && reading_of_chunk_line(&t.reading, STR("5;a=b\r\n"), 1, 5));
  CHECK(reading_of_chunk_data(&t.reading, STR("hel")) && !reading_of_chunk_data(&t.reading, STR("lo\r")));
  CHECK(request_agrees(&t) && reading_of_chunk_line(&t.reading, STR("1\r\n"), 1, 1) &&
        reading_of_chunk_data(&t.reading, STR("x")));
  CHECK(reading_of_chunk_end(&t.reading, '\r') && !reading_of_chunk_end(&t.reading, 'x'));
  CHECK(request_agrees(&t) && reading_of_chunk_line(&t.reading, STR("0\r\n"), 1, 0));
  CHECK(!reading_of_trailers(&t.reading, STR("A: b\r\n\r\n"), &none));
  CHECK(request_agrees(&t) && reading_of_chunk_line(&t.reading, STR("0\r\n"), 1, 0));
  CHECK(reading_of_trailers(&t.reading, STR("\r\n"), &none) && !reading_of_trailers(&t.reading, STR("\r\n"), &none));
  done(&t);
}

/* --- everything that decides about framing, multiplied --- */

static const char *const white[] = {"", " ", "\t", " \t", "\t ", "\t\t"};
static const char *const connections[] = {NULL,      "close",       "keep-alive",          "upgrade",
                                          "Upgrade", "upgrade,\tx", "close, upgrade\t, x", "keep-alive, close"};
static const char *const upgrades[] = {NULL, "websocket", "a/1,\tb"};
static const struct {
  const char *name, *value;
} framings[] = {
    {NULL, NULL},
    {"Content-Length", "0"},
    {"Content-Length", "5"},
    {"Content-Length", "5,\t5"},
    {"Transfer-Encoding", "chunked"},
    {"Transfer-Encoding", "Chunked"},
    {"Transfer-Encoding", "gzip,\tchunked"},
    {"Transfer-Encoding", "gzip"},
    {"Transfer-Encoding", ""},
};

/* The field with `before` and `behind` around its value. */
static void add_field(struct buf *b, const char *name, const char *before, const char *value, const char *behind) {
  if (value != NULL) buf_addf(b, "%s:%s%s%s\r\n", name, before, value, behind);
}

/* What we refuse by ourselves is another test's; what we let through must be llhttp's reading, too. */
static void check_no_difference(bool response, const char *method, struct buf *message) {
  struct feed f = {.response = response, .method = method};
  feed_all(&f, buf_str(message), message->n, message->n);
  if (f.parser.fault.disagreed) fprintf(stderr, "%.*s%s\n", STR_FMT(buf_str(message)), f.parser.fault.text);
  CHECK(!f.parser.fault.disagreed);
  feed_done(&f);
}

/* All that a head says of its message's end, behind `line`; a field that is of no account stands last, so that a framing field is also one in the middle. */
static void with_every_framing(bool response, const char *method, const char *line) {
  struct buf b;
  buf_init(&b);
  EACH(f, framings) EACH(c, connections) EACH(u, upgrades) EACH(before, white) EACH(behind, white) {
    if (framings[f].name == NULL && connections[c] == NULL && (before > 0 || behind > 0)) continue;
    buf_reset(&b);
    buf_addz(&b, line);
    add_field(&b, "Connection", white[before], connections[c], white[behind]);
    add_field(&b, "Upgrade", white[behind], upgrades[u], white[before]);
    add_field(&b, framings[f].name, white[before], framings[f].value, white[behind]);
    buf_addz(&b, "X: y\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    check_no_difference(response, method, &b);
  }
  buf_fini(&b);
}

static void every_framing_of_a_request_is_read_alike(void) {
  static const char *const lines[] = {
      "GET / HTTP/1.1\r\nHost: a\r\n",   "POST /a?b HTTP/1.1\r\nHost:\ta\t\r\n",
      "HEAD / HTTP/1.1\r\nHost: a\r\n",  "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n",
      "QUERY / HTTP/1.1\r\nHost: a\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
      "POST / HTTP/1.0\r\nHost: a\r\n",  "GET / HTTP/1.0\r\n",
  };
  EACH(i, lines) with_every_framing(false, NULL, lines[i]);
}

static void every_framing_of_a_reply_is_read_alike(void) {
  static const char *const lines[] = {"HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n",      "HTTP/1.1 101 Now\r\n",
                                      "HTTP/1.1 103 \r\n",   "HTTP/1.1 204 None\r\n",    "HTTP/1.1 304\tSame\r\n",
                                      "HTTP/1.1 426 Up\r\n", "HTTP/1.1 599 a\tb c\t\r\n"};
  static const char *const methods[] = {"GET", "HEAD", "CONNECT"};
  EACH(i, lines) EACH(m, methods) with_every_framing(true, methods[m], lines[i]);
}

int main(void) {
  RUN(the_same_reading_agrees);
  RUN(a_difference_in_a_request_is_seen);
  RUN(a_difference_in_a_reply_is_seen);
  RUN(a_head_with_more_behind_it_is_not_the_same);
  RUN(chunks_are_of_one_size_and_end_once);
  RUN(every_framing_of_a_request_is_read_alike);
  RUN(every_framing_of_a_reply_is_read_alike);
  return 0;
}
