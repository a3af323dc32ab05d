/* parser_test.c: requests and replies as they come, well-formed and hostile; each whole, byte by byte and in every two pieces. */
#include "feed.h"
#include "http/headers.h"

struct message {
  struct str in;
  const char *expected; /* what feed.h writes down; a fault may be given by its status alone, "!400" */
  const char *method;   /* of the request that a reply is for */
};
#define IN(text) \
  { text, sizeof(text) - 1 }
#define HOST "Host: a\r\n"

static void run(const struct message *m, size_t n, bool response, const struct http_limits *limits) {
  for (size_t i = 0; i < n; i++) {
    struct feed f = {.response = response, .method = m[i].method, .limits = limits};
    const char *expected = m[i].expected;
    char said[4096];
    if (expected[0] == '!' && strlen(expected) <= 4) { /* learn the sentence from the whole message, after its status */
      feed_all(&f, m[i].in, m[i].in.n, m[i].in.n);
      const char *got = buf_z(&f.said);
      const char *fault = strchr(got, '!');
      if (fault == NULL || strncmp(fault, expected, strlen(expected)) != 0 || fault[strlen(expected)] != ' ')
        fprintf(stderr, "input: %.*s\nsaid: %s\nexpected: %s\n", STR_FMT(m[i].in), got, expected);
      CHECK(fault != NULL && strncmp(fault, expected, strlen(expected)) == 0 && fault[strlen(expected)] == ' ');
      snprintf(said, sizeof said, "%s", got);
      feed_done(&f);
      expected = said;
    }
    CHECK(feed_every_way(&f, m[i].in, expected));
  }
}
#define REQUESTS(table) run(table, sizeof table / sizeof *table, false, NULL)
#define REPLIES(table) run(table, sizeof table / sizeof *table, true, NULL)

static void reads_requests(void) {
  static const struct message table[] = {
      {IN(""), "nothing", NULL},
      {IN("\r\n"), "nothing", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "1.1 GET path=/ authority=a none keep [Host: a] end rest=0", NULL},
      {IN("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), "1.1 GET path=/ authority=a none keep [Host: a] end rest=0", NULL},
      {IN("GET /a/b?c=d?e HTTP/1.1\r\nHost:a:80\r\nX:\r\nY: \t b c\t \r\n\r\nGET"),
       "1.1 GET path=/a/b query=c=d?e authority=a:80 none keep [Host: a:80|X: |Y: b c] end rest=3", NULL},
      {IN("GET /? HTTP/1.1\r\n" HOST "\r\n"), "1.1 GET path=/ query= authority=a none keep [Host: a] end rest=0", NULL},
      {IN("GET /\"<>{}|\\^` HTTP/1.1\r\n" HOST "\r\n"),
       "1.1 GET path=/\"<>{}|\\^` authority=a none keep [Host: a] end rest=0", NULL},
      {IN("HEAD / HTTP/1.1\r\n" HOST "\r\n"), "1.1 HEAD path=/ authority=a none keep head [Host: a] end rest=0", NULL},
      {IN("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), "1.1 OPTIONS path=* authority=a none keep [Host: a] end rest=0", NULL},
      {IN("PROPFIND / HTTP/1.1\r\n" HOST "\r\n"), "1.1 PROPFIND path=/ authority=a none keep [Host: a] end rest=0",
       NULL},
      {IN("VERSION-CONTROL /a HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhiGET"),
       "1.1 VERSION-CONTROL path=/a authority=a length=2 keep [Host: a|Content-Length: 2] body(hi) end rest=3", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length:\t2 \t\r\n\r\nhi"),
       "1.1 POST path=/ authority=a length=2 keep [Host: a|Content-Length: 2] body(hi) end rest=0", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \tchunked\t\r\n\r\n0\r\n\r\n"),
       "1.1 POST path=/ authority=a chunked keep [Host: a|Transfer-Encoding: chunked] end rest=0", NULL},
      {IN("QUERY /?q HTTP/1.1\r\n" HOST "\r\n"), "1.1 QUERY path=/ query=q authority=a none keep [Host: a] end rest=0",
       NULL},
      {IN("GET / HTTP/1.1\r\nHost: h:\r\n\r\n"), "1.1 GET path=/ authority=h none keep [Host: h:] end rest=0", NULL},
      {IN("GET http://[::1]:/ HTTP/1.1\r\nHost: h\r\n\r\n"),
       "1.1 GET path=/ authority=[::1] none keep absolute [Host: h] end rest=0", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, close\r\nUpgrade:\r\n\r\n"),
       "1.1 GET path=/ authority=a none close [Host: a|Connection: Upgrade, close|Upgrade: ] end rest=0", NULL},
      {IN("M-SEARCH / HTTP/1.1\r\n" HOST "\r\n"), "1.1 M-SEARCH path=/ authority=a none keep [Host: a] end rest=0",
       NULL},
      {IN("GET / HTTP/1.0\r\n\r\n"), "1.0 GET path=/ none close [] end rest=0", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\r\nV: caf\xc3\xa9\r\n\r\n"),
       "1.1 GET path=/ authority=a none keep [Host: a|V: caf\xc3\xa9] end rest=0", NULL},
      {IN("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
       "1.1 GET path=/ authority=[::1]:8080 none keep [Host: [::1]:8080] end rest=0", NULL},
  };
  REQUESTS(table);
}

static void the_target_wins_over_host(void) {
  static const struct message table[] = {
      {IN("GET http://b:81/p?q HTTP/1.1\r\n" HOST "\r\n"),
       "1.1 GET path=/p query=q authority=b:81 none keep absolute [Host: a] end rest=0", NULL},
      {IN("GET HTTP://b HTTP/1.1\r\n" HOST "\r\n"),
       "1.1 GET path=/ authority=b none keep absolute [Host: a] end rest=0", NULL},
      {IN("GET http://b?q HTTP/1.1\r\n" HOST "\r\n"),
       "1.1 GET path=/ query=q authority=b none keep absolute [Host: a] end rest=0", NULL},
      {IN("GET https://[::1]/ HTTP/1.1\r\n" HOST "\r\n"),
       "1.1 GET path=/ authority=[::1] none keep absolute [Host: a] end rest=0", NULL},
      {IN("OPTIONS http://b HTTP/1.1\r\n" HOST "\r\n"),
       "1.1 OPTIONS path=* authority=b none keep absolute [Host: a] end rest=0", NULL},
      {IN("CONNECT b:443 HTTP/1.1\r\n" HOST "\r\nrest"),
       "1.1 CONNECT path= authority=b:443 none keep connect [Host: a] end rest=4", NULL},
      {IN("CONNECT [::1]:443 HTTP/1.0\r\n\r\n"),
       "1.0 CONNECT path= authority=[::1]:443 none close connect [] end rest=0", NULL},
  };
  REQUESTS(table);
}

static void persistence_is_as_9_3_says(void) {
  static const struct message table[] = {
      {IN("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"),
       "1.1 GET path=/ authority=a none close [Host: a|Connection: close] end rest=0", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n"),
       "1.1 GET path=/ authority=a none close [Host: a|Connection: x, Close] end rest=0", NULL},
      {IN("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
       "1.0 GET path=/ none keep [Connection: keep-alive] end rest=0", NULL},
      {IN("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"),
       "1.0 GET path=/ none close [Connection: keep-alive|Connection: close] end rest=0", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nrest"),
       "1.1 GET path=/ authority=a none keep upgrade=websocket [Host: a|Connection: Upgrade|Upgrade: websocket] end "
       "rest=4",
       NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\n\r\n"),
       "1.1 GET path=/ authority=a none keep [Host: a|Upgrade: websocket] end rest=0", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"),
       "1.1 GET path=/ authority=a none keep [Host: a|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c] end rest=0",
       NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"),
       "1.1 POST path=/ authority=a length=2 keep [Host: a|Content-Length: 2|Connection: Upgrade|Upgrade: websocket] "
       "body(hi) end rest=0",
       NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhi"),
       "1.1 POST path=/ authority=a length=2 keep upgrade=x [Host: a|Content-Length: 2|Connection: Upgrade|Upgrade: x] "
       "body(hi) "
       "end rest=0",
       NULL},
      {IN("POST / HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
       "1.1 POST path=/ authority=a chunked keep upgrade=x [Host: a|Transfer-Encoding: chunked|Connection: "
       "Upgrade|Upgrade: x] "
       "body(x) end rest=0",
       NULL},
  };
  REQUESTS(table);
}

static void reads_bodies(void) {
  static const struct message table[] = {
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhelloGET /"),
       "1.1 POST path=/ authority=a length=5 keep [Host: a|Content-Length: 5] body(hello) end rest=5", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhiGET"),
       "1.1 GET path=/ authority=a length=2 keep [Host: a|Content-Length: 2] body(hi) end rest=3", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"),
       "1.1 POST path=/ authority=a length=0 keep [Host: a|Content-Length: 0] end rest=0", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello"),
       "1.1 POST path=/ authority=a length=5 keep expect [Host: a|Content-Length: 5|Expect: 100-Continue] body(hello) "
       "end rest=0",
       NULL},
      {IN("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
       "1.0 POST path=/ length=1 close [Expect: 100-continue|Content-Length: 1] body(x) end rest=0", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST
          "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=y;z;q=\"a;\\\"b\"\r\n0123456789\r\n000\r\n\r\nmore"),
       "1.1 POST path=/ authority=a chunked keep [Host: a|Transfer-Encoding: Chunked] body(hello0123456789) end rest=4",
       NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nHost: b\r\nAuthorization: "
          "c\r\nX_Forwarded_For: d\r\nY: \r\n\r\n"),
       "1.1 POST path=/ authority=a chunked keep [Host: a|Transfer-Encoding: chunked] trailers[X-Sum: 1|Y: ] end "
       "rest=0",
       NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"),
       "1.1 GET path=/ authority=a chunked keep [Host: a|Transfer-Encoding: chunked] end rest=3", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel"),
       "1.1 POST path=/ authority=a length=5 keep [Host: a|Content-Length: 5] body(hel) !400 the peer closed within "
       "the body (RFC 9112 section 8)",
       NULL},
      {IN("GET / HT"), "!400 the peer closed within the head", NULL},
  };
  REQUESTS(table);
}

#define POST_CHUNKED "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

static void refuses_unsure_framing(void) {
  static const struct message table[] = {
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 4\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 4\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 1 1\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 01\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 00\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551616\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Content-Length: \r\n\r\nx"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
       "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "!501", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "!501",
       NULL},
      {IN("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Expect: something\r\n\r\n"), "!417", NULL},
      {IN("CONNECT a:1 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx"), "!400", NULL},
      {IN("CONNECT a:1 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "!400", NULL},
  };
  REQUESTS(table);
}

static void what_some_read_as_framing_is_refused(void) {
  static const struct message table[] = {
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer_Encoding: chunked\r\n\r\nrest"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "Transfer--Encoding: chunked\r\nContent-Length: 4\r\n\r\nrest"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "content_length: 4\r\n\r\nrest"), "!400", NULL},
      {IN("POST / HTTP/1.1\r\n" HOST "X_Content_Length: 4\r\nContent-Lengths: 3\r\n\r\nrest"),
       "1.1 POST path=/ authority=a none keep [Host: a|X_Content_Length: 4|Content-Lengths: 3] end rest=4", NULL},
  };
  REQUESTS(table);
}

static void refuses_bad_bytes(void) {
  static const struct message table[] = {
      {IN("GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n"), "!400 a folded line (RFC 9112 section 5.2)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n"), "!400 a folded line (RFC 9112 section 5.2)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST " \r\n\r\n"), "!400 a folded line (RFC 9112 section 5.2)", NULL},
      {IN("GET / HTTP/1.1\r\n " HOST "\r\n"), "!400 white space before the first field (RFC 9112 section 2.2)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A: b\rC: d\r\n\r\n"), "!400 bare CR in the head (RFC 9112 section 2.2)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "\rX"), "!400 bare CR in the head (RFC 9112 section 2.2)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "\r\r\n"), "!400 bare CR in the head (RFC 9112 section 2.2)", NULL},
      {IN("GET / HTTP/1.1\n" HOST "\r\n"), "!400 bare LF in the head (RFC 9112 section 2.2)", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\n\r\n"), "!400 bare LF in the head (RFC 9112 section 2.2)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "\n"), "!400 bare LF in the head (RFC 9112 section 2.2)", NULL},
      {IN("\nGET / HTTP/1.1\r\n" HOST "\r\n"), "!400 bare LF in the head (RFC 9112 section 2.2)", NULL},
      {IN("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("\rGET / HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A: b\0c\r\n\r\n"), "!400 NUL in the head (RFC 9110 section 5.5)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A: b\x01\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A: b\x7f\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n"), "!400 an empty field name (RFC 9110 section 5.1)", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A b: c\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A\xe9: c\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A(: c\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\n" HOST "A\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), "!400", NULL},
      {IN("\x16\x03\x01\x02\x00\x01\x00"), "!400", NULL},
  };
  REQUESTS(table);
}

static void refuses_bad_request_lines(void) {
  static const struct message table[] = {
      {IN("GET  / HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET /  HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1 \r\n" HOST "\r\n"), "!400", NULL},
      {IN(" GET / HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET\t/ HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET /a b HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET /\xe9 HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET /\x0b HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET /\r\n\r\n"), "!400", NULL},
      {IN("GET\r\n\r\n"), "!400", NULL},
      {IN("GET / http/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.10\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET / HTTP/1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET / ICE/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET / RTSP/1.0\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET / HTTP/0.9\r\n" HOST "\r\n"), "!505", NULL},
      {IN("GET / HTTP/1.2\r\n" HOST "\r\n"), "!505", NULL},
      {IN("GET / HTTP/2.0\r\n" HOST "\r\n"), "!505", NULL},
      {IN("GET / HTTP/0.1\r\n" HOST "\r\n"), "!505", NULL},
      {IN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "!505", NULL},
      {IN("PRI * HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("SOURCE / HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("DESCRIBE / HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("PLAY / HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("FOO / HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("get / HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("GETX / HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("AVERYLONGMETHODTHATNOBODYEVERREGISTERED / HTTP/1.1\r\n" HOST "\r\n"), "!501", NULL},
      {IN("GET /#f HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET http://u@a/ HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET http://u:p@a/ HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET http:///p HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET http://a\\b/ HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET http://a:x/ HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET a HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET a:80 HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("GET * HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("OPTIONS *x HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT a HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT a:0 HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT a:70000 HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT u@a:1 HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT a:1/p HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT /p HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT http://a:1/ HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
      {IN("CONNECT * HTTP/1.1\r\n" HOST "\r\n"), "!400", NULL},
  };
  REQUESTS(table);
}

static void refuses_bad_hosts(void) {
  static const struct message table[] = {
      {IN("GET / HTTP/1.1\r\n\r\n"), "!400", NULL},
      {IN("GET http://a/ HTTP/1.1\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost:\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: h/p\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: :\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: h::\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), "!400", NULL},
      {IN("GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n"), "!400", NULL},
  };
  REQUESTS(table);
}

static void refuses_bad_chunks(void) {
  static const struct message table[] = {
      {IN(POST_CHUNKED "0x5\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5 \r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED " 5\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "1_0\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "+5\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "-5\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "g\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "10000000000000000\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "00000000000000005\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5;a\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5\r\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5;\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5;a=\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5;a=\"b\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5;a\rb\r\nhello\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5\r\nhelloX\r\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5\r\nhello\n0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5\r\nhello\rX0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5\r\nhello0\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "0\r\nA: b\r\n c\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "0\r\n A: b\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "0\r\nA: b\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "0\r\n\n"), "!400", NULL},
      {IN(POST_CHUNKED "0\r\n\rX"), "!400", NULL},
      {IN(POST_CHUNKED "0\r\nA : b\r\n\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "5\r\nhel"), "!400", NULL},
      {IN(POST_CHUNKED "5\r\nhello\r\n"), "!400", NULL},
      {IN(POST_CHUNKED "0\r\n"), "!400", NULL},
      {IN(POST_CHUNKED), "!400", NULL},
  };
  REQUESTS(table);
}

static void trailers_never_frame(void) {
#define CHUNKED_END POST_CHUNKED "0\r\n"
#define CHUNKED_SAID "1.1 POST path=/ authority=a chunked keep [Host: a|Transfer-Encoding: chunked] "
  static const struct message table[] = {
      {IN(CHUNKED_END "Content-Length: 5\r\n\r\n"), "!400", NULL},
      {IN(CHUNKED_END "Transfer-Encoding: chunked\r\n\r\n"), "!400", NULL},
      {IN(CHUNKED_END "Transfer-Encoding: gzip\r\n\r\n"), "!400", NULL},
      {IN(CHUNKED_END "Connection: close\r\nOk: 1\r\n\r\nGET"), CHUNKED_SAID "trailers[Ok: 1] end rest=3", NULL},
      {IN(CHUNKED_END "Connection: upgrade\r\nUpgrade: x\r\n\r\nGET"), CHUNKED_SAID "end rest=3", NULL},
  };
  REQUESTS(table);
}

static void reads_replies(void) {
  static const struct message table[] = {
      {IN(""), "nothing", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP"),
       "1.1 200 (OK) length=2 keep [Content-Length: 2] body(hi) end rest=4", NULL},
      {IN("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), "1.1 200 () length=0 keep [Content-Length: 0] end rest=0",
       NULL},
      {IN("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"), "1.1 404 () length=0 keep [Content-Length: 0] end rest=0",
       NULL},
      {IN("HTTP/1.1 599 a b\xe9\r\nContent-Length: 0\r\n\r\n"),
       "1.1 599 (a b\xe9) length=0 keep [Content-Length: 0] end rest=0", NULL},
      {IN("HTTP/1.1 200 OK\r\n\r\nuntil the end"), "1.1 200 (OK) until-close close [] body(until the end) end", NULL},
      {IN("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"),
       "1.0 200 (OK) length=1 close [Content-Length: 1] body(x) end rest=0", NULL},
      {IN("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\nx"),
       "1.0 200 (OK) length=1 keep [Content-Length: 1|Connection: Keep-Alive] body(x) end rest=0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"),
       "1.1 200 (OK) length=1 close [Content-Length: 1|Connection: close] body(x) end rest=0", NULL},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\nSet-Cookie: z\r\n\r\n"),
       "1.1 200 (OK) chunked keep [Transfer-Encoding: chunked] body(abc) trailers[X: y] end rest=0", NULL},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
       "1.1 200 (OK) chunked close [Transfer-Encoding: chunked|Connection: close] body(abc) end rest=0", NULL},
  };
  REPLIES(table);
}

static void replies_without_a_body(void) {
  static const struct message table[] = {
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/"),
       "1.1 200 (OK) none keep has-length=5 [Content-Length: 5] end rest=5", "HEAD"},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/"),
       "1.1 200 (OK) none keep [Transfer-Encoding: chunked] end rest=5", "HEAD"},
      {IN("HTTP/1.1 200 OK\r\n\r\nHTTP/"), "1.1 200 (OK) none keep [] end rest=5", "HEAD"},
      {IN("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\nHTTP/"),
       "1.1 204 (x) none keep has-length=5 [Content-Length: 5] end rest=5", NULL},
      {IN("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\nHTTP/"),
       "1.1 304 (x) none keep has-length=5 [Content-Length: 5] end rest=5", NULL},
      {IN("HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/"),
       "1.1 304 (x) none keep [Transfer-Encoding: chunked] end rest=5", NULL},
      {IN("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/"),
       "1.1 100 (Continue) none keep has-length=5 [Content-Length: 5] end rest=5", NULL},
      {IN("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/"),
       "1.1 103 (Early Hints) none keep [Link: </a>] end rest=5", NULL},
      {IN("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n\x81\x01"),
       "1.1 101 (x) none close [Connection: upgrade|Upgrade: y] end rest=2", NULL},
      {IN("HTTP/1.1 101 x\r\nContent-Length: 2\r\n\r\n\x81\x01"),
       "1.1 101 (x) none close has-length=2 [Content-Length: 2] end rest=2", NULL},
      {IN("HTTP/1.1 200 x\r\nConnection: upgrade\r\nUpgrade: y\r\nContent-Length: 2\r\n\r\nhi"),
       "1.1 200 (x) length=2 keep [Connection: upgrade|Upgrade: y|Content-Length: 2] body(hi) end rest=0", NULL},
      {IN("HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nhi"),
       "1.1 200 (x) none close has-length=2 [Content-Length: 2] end rest=2", "CONNECT"},
      {IN("HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nhi"),
       "1.1 403 (x) length=2 keep [Content-Length: 2] body(hi) end rest=0", "CONNECT"},
  };
  REPLIES(table);
}

static void refuses_bad_replies(void) {
  static const struct message table[] = {
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 204 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), "!0", "HEAD"},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\nA: b\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nA: b\r\n\n"), "!0", NULL},
      {IN("HTTP/1.1 20 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 20\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 099 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 2000 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 600 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1  200 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 O\0K\r\n\r\n"), "!0", NULL},
      {IN("HTTP/1.2 200 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/2.0 200 OK\r\n\r\n"), "!0", NULL},
      {IN("HTTP/0.9 200 OK\r\n\r\n"), "!0", NULL},
      {IN("ICY 200 OK\r\n\r\n"), "!0", NULL},
      {IN("\r\nHTTP/1.1 200 OK\r\n\r\n"), "!0", NULL},
      {IN("hello"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "!0", NULL},
      {IN("HTTP/1.1 200 OK\r\nA: b"), "!0", NULL},
  };
  REPLIES(table);
}

/* --- limits --- */

static struct str repeated(struct buf *b, const char *before, char c, size_t n, const char *after) {
  buf_init(b);
  buf_addz(b, before);
  memset(buf_reserve(b, n), c, n);
  b->n += n;
  buf_addz(b, after);
  return buf_str(b);
}

static int status_of(struct str in, size_t first, size_t step, size_t *memory) {
  struct feed f = {.response = false};
  feed_all(&f, in, first, step);
  int status = f.parser.fault.text != NULL ? f.parser.fault.status : 0;
  if (memory != NULL) *memory = f.arena.used;
  feed_done(&f);
  return status;
}

/* Whole, in reads of a socket's size, and byte by byte. */
static void check_status(struct str in, int expected, size_t memory_max) {
  const size_t steps[] = {in.n, 65536, 1460, 1};
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    size_t memory;
    CHECK(status_of(in, steps[i], steps[i], &memory) == expected);
    CHECK(memory <= memory_max);
  }
}

static void long_targets(void) {
  struct buf b;
  check_status(repeated(&b, "GET /", 'a', 8000, " HTTP/1.1\r\n" HOST "\r\n"), 0, 64 * 1024);
  buf_fini(&b);
  check_status(repeated(&b, "GET /", 'a', 1 << 20, " HTTP/1.1\r\n" HOST "\r\n"), 414, 128 * 1024);
  buf_fini(&b);
  check_status(repeated(&b, "", 'A', 1 << 20, " / HTTP/1.1\r\n" HOST "\r\n"), 501, 128 * 1024);
  buf_fini(&b);
}

static void large_heads(void) {
  struct buf b;
  check_status(repeated(&b, "GET / HTTP/1.1\r\n" HOST "X: ", 'a', 1 << 20, "\r\n\r\n"), 431, 256 * 1024);
  buf_fini(&b);
  check_status(repeated(&b, "GET / HTTP/1.1\r\n" HOST "X: ", 'a', 1 << 15, "\r\n\r\n"), 0, 256 * 1024);
  buf_fini(&b);
  check_status(repeated(&b, "GET / HTTP/1.1\r\n" HOST, 'a', 1 << 20, ": b\r\n\r\n"), 431, 256 * 1024);
  buf_fini(&b);
}

static void many_fields(void) {
  for (unsigned n = 127; n <= 128; n++) {
    struct buf b;
    buf_init(&b);
    buf_addz(&b, "GET / HTTP/1.1\r\n" HOST);
    for (unsigned i = 0; i < n; i++) buf_addf(&b, "X-%u: y\r\n", i);
    buf_addz(&b, "\r\n");
    check_status(buf_str(&b), n == 127 ? 0 : 431, 64 * 1024);
    buf_fini(&b);
  }
}

static void limits_to_the_byte(void) {
  static const struct http_limits tight = {
      .request_line = 16, .head = 39, .headers = 2, .chunk_line = 8, .chunk_overhead = 16};
  static const struct message table[] = {
      {IN("GET /ab HTTP/1.1\r\nHost: a\r\n\r\n"), "1.1 GET path=/ab authority=a none keep [Host: a] end rest=0", NULL},
      {IN("GET /abc HTTP/1.1\r\nHost: a\r\n\r\n"), "!414", NULL},
      {IN("GET /ab HTTP/1.1\n"), "!400", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\r\nB: 3456789\r\n\r\n"),
       "1.1 GET path=/ authority=a none keep [Host: a|B: 3456789] end rest=0", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\r\nB: 34567890\r\n\r\n"), "!431", NULL},
      {IN("GET / HTTP/1.1\r\nHost: a\r\nB:\r\nC:\r\n\r\n"), "!431", NULL},
  };
  run(table, sizeof table / sizeof *table, false, &tight);
}

static void chunk_lines_are_bounded(void) {
  struct buf b;
  check_status(repeated(&b, POST_CHUNKED "1;", 'a', 1 << 20, "\r\nx\r\n0\r\n\r\n"), 400, 64 * 1024);
  buf_fini(&b);
  check_status(repeated(&b, POST_CHUNKED "1;", 'a', 4000, "\r\nx\r\n0\r\n\r\n"), 0, 64 * 1024);
  buf_fini(&b);
  check_status(repeated(&b, POST_CHUNKED, '0', 1 << 20, ""), 400, 64 * 1024);
  buf_fini(&b);
  check_status(repeated(&b, POST_CHUNKED "0\r\nX: ", 'a', 1 << 20, "\r\n\r\n"), 431, 256 * 1024);
  buf_fini(&b);
}

static struct str chunks(struct buf *b, unsigned n, const char *extension, const char *size, const char *data) {
  buf_init(b);
  buf_addz(b, POST_CHUNKED);
  for (unsigned i = 0; i < n; i++) buf_addf(b, "%s%s\r\n%s\r\n", size, extension, data);
  buf_addz(b, "0\r\n\r\n");
  return buf_str(b);
}

static void small_chunks_pass_and_large_lines_do_not(void) {
  struct buf b;
  check_status(chunks(&b, 50000, "", "1", "x"), 0, 64 * 1024);
  buf_fini(&b);
  check_status(chunks(&b, 50000, ";aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1", "x"), 400, 64 * 1024);
  buf_fini(&b);
  check_status(chunks(&b, 5000, ";aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "20", "01234567890123456789012345678901"), 0,
               64 * 1024);
  buf_fini(&b);
}

static void a_whole_head_takes_little_room(void) {
  static uint8_t first[4096];
  const char head[] = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
  struct arena a;
  struct request r;
  struct http_parser p;
  struct str span;
  arena_init(&a, first, sizeof first);
  http_parser_init_request(&p, &a, &http_limits_default, &r);
  CHECK(a.p == first && !http_parser_started(&p));
  const uint8_t *data = (const uint8_t *)head;
  size_t n = sizeof head - 1;
  CHECK(http_parser_next(&p, &data, &n, &span) == PARSE_HEAD && n == 0);
  CHECK(http_parser_started(&p) && a.used == 0);
  enum { SPARE = 8, FIELDS = 2 }; /* the fields, and room for ours */
  size_t taken = (sizeof head - 1 + 15) / 16 * 16 + (FIELDS + SPARE) * sizeof(struct header);
  CHECK((size_t)(a.p - first) == taken);
  CHECK(http_parser_next(&p, &data, &n, &span) == PARSE_END);
  CHECK(http_parser_next(&p, &data, &n, &span) == PARSE_END);
  CHECK((size_t)(a.p - first) == taken);
  arena_reset(&a);
}

int main(void) {
  RUN(reads_requests);
  RUN(the_target_wins_over_host);
  RUN(persistence_is_as_9_3_says);
  RUN(reads_bodies);
  RUN(refuses_unsure_framing);
  RUN(what_some_read_as_framing_is_refused);
  RUN(refuses_bad_bytes);
  RUN(refuses_bad_request_lines);
  RUN(refuses_bad_hosts);
  RUN(refuses_bad_chunks);
  RUN(trailers_never_frame);
  RUN(reads_replies);
  RUN(replies_without_a_body);
  RUN(refuses_bad_replies);
  RUN(long_targets);
  RUN(large_heads);
  RUN(many_fields);
  RUN(limits_to_the_byte);
  RUN(chunk_lines_are_bounded);
  RUN(small_chunks_pass_and_large_lines_do_not);
  RUN(a_whole_head_takes_little_room);
  return 0;
}
