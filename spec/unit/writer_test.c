/* writer_test.c: heads as they go out, byte for byte. */
#include "http/writer.h"

#include "base/err.h"
#include "check.h"
#include "token/secret.h"

static struct arena arena;
static struct headers list;
static struct buf out;

static void begin(void) {
  arena_init(&arena, NULL, 0);
  headers_init(&list, &arena);
  buf_init(&out);
  out.sensitive = true;
}
static void end(void) {
  buf_fini(&out);
  arena_reset(&arena);
}
static void add(const char *name, const char *value) { headers_add(&list, str_of(name), str_of(value)); }

static bool wrote(const char *expected) {
  bool same = strcmp(buf_z(&out), expected) == 0;
  if (!same) fprintf(stderr, "wrote:\n%s\nexpected:\n%s\n", buf_z(&out), expected);
  buf_reset(&out);
  return same;
}

static struct request_head get(void) {
  return (struct request_head){
      .method = STR("GET"), .path = STR("/a"), .host = STR("h:1"), .headers = &list, .keep_alive = true};
}

static void writes_a_request(void) {
  begin();
  struct request_head h = get();
  add("x-lower", "1"), add("X-UPPER", ""), add("X-Mid", "a, b");
  CHECK(write_request_head(&out, &h) == 0);
  CHECK(wrote("GET /a HTTP/1.1\r\nHost: h:1\r\nx-lower: 1\r\nX-UPPER: \r\nX-Mid: a, b\r\n\r\n"));
  h.path = STR(""), h.query = STR("q=1");
  headers_remove(&list, STR("x-upper"));
  CHECK(write_request_head(&out, &h) == 0);
  CHECK(wrote("GET /?q=1 HTTP/1.1\r\nHost: h:1\r\nx-lower: 1\r\nX-Mid: a, b\r\n\r\n"));
  h.query = STR("");
  buf_addz(&out, "before|");
  CHECK(write_request_head(&out, &h) == 0);
  CHECK(wrote("before|GET /? HTTP/1.1\r\nHost: h:1\r\nx-lower: 1\r\nX-Mid: a, b\r\n\r\n"));
  end();
}

/* As the parser does it: the fields are slices of `section`, which ends with its empty line. */
static void take(const char *section) {
  struct headcheck_field lines[8];
  struct headcheck check;
  size_t used;
  headcheck_init(&check, HEADCHECK_TRAILERS, &(struct headcheck_limits){0, 8, 1000});
  headcheck_table(&check, lines, 8);
  CHECK(headcheck_feed(&check, (const uint8_t *)section, strlen(section), &used) == HEADCHECK_DONE);
  headers_take(&list, section, &check);
}

static void lines_go_out_as_they_came_unless_they_were_changed(void) {
  static const char section[] = "A: 1\r\nHost: x\r\nB:2\r\nC:  3\r\nD:\t4\r\nE: 5 \r\nF:\r\nG: \r\n\r\n";
  static const char both[] = "A: 1\r\nTE: trailers, x\r\nKeep-Alive: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n";
  begin();
  take(section);
  struct request_head h = get();
  CHECK(write_request_head(&out, &h) == 0);
  CHECK(wrote("GET /a HTTP/1.1\r\nHost: h:1\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: \r\nG: \r\n\r\n"));
  headers_init(&list, &arena);
  take(both);
  headers_strip_hop_by_hop(&list);
  headers_set(&list, STR("b"), STR("22"));
  headers_add(&list, STR("E"), STR("5"));
  struct response_head r = {.status = 204, .headers = &list, .no_body = true, .keep_alive = true, .client = HTTP_1_1};
  write_response_head(&out, &r);
  CHECK(wrote("HTTP/1.1 204 No Content\r\nA: 1\r\nTE: trailers\r\nb: 22\r\nC: 3\r\nD: 4\r\nE: 5\r\n\r\n"));
  headers_remove(&list, STR("C"));
  CHECK(write_request_head(&out, &h) == 0);
  CHECK(wrote("GET /a HTTP/1.1\r\nHost: h:1\r\nA: 1\r\nb: 22\r\nD: 4\r\nE: 5\r\n\r\n"));
  end();
}

static void only_our_own_hop_by_hop_fields_go_out(void) {
  begin();
  add("Host", "evil"), add("hOST", "evil"), add("Content-Length", "9"), add("transfer-encoding", "chunked"),
      add("Connection", "x"), add("TE", "y");
  add("Upgrade", "z"), add("Keep-Alive", "1"), add("Proxy-Connection", "1"), add("Proxy-Authorization", "1"),
      add("Proxy-Authenticate", "1"), add("Expect", "1"), add("A", "b");
  struct request_head h = get();
  CHECK(write_request_head(&out, &h) == 0 && wrote("GET /a HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\r\n"));
  h.framing = (struct framing){FRAMING_LENGTH, UINT64_MAX};
  h.expect_continue = true;
  CHECK(write_request_head(&out, &h) == 0);
  CHECK(wrote(
      "GET /a HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 18446744073709551615\r\nExpect: 100-continue\r\n\r\n"));
  struct response_head r = {
      .status = 200, .headers = &list, .framing = {FRAMING_LENGTH, 0}, .keep_alive = true, .client = HTTP_1_1};
  headers_remove(&list, STR("Host")), headers_remove(&list, STR("TE")), headers_remove(&list, STR("Expect"));
  write_response_head(&out, &r); /* a challenge of our own is for this hop: RFC 9110 section 11.7.1 */
  CHECK(wrote("HTTP/1.1 200 OK\r\nProxy-Authenticate: 1\r\nA: b\r\nContent-Length: 0\r\n\r\n"));
  end();
}

static void names_its_own_connection_options(void) {
  static const struct {
    bool keep, te;
    const char *upgrade, *expected;
  } cases[] = {{false, false, NULL, "Connection: close\r\n"},
               {false, true, NULL, "Connection: close, TE\r\nTE: trailers\r\n"},
               {true, true, NULL, "Connection: TE\r\nTE: trailers\r\n"},
               {true, false, "websocket", "Connection: upgrade\r\nUpgrade: websocket\r\n"},
               {true, true, "x", "Connection: upgrade, TE\r\nTE: trailers\r\nUpgrade: x\r\n"}};
  begin();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct request_head h = get();
    h.keep_alive = cases[i].keep, h.te_trailers = cases[i].te, h.upgrade = str_of(cases[i].upgrade);
    h.framing.kind = FRAMING_CHUNKED;
    CHECK(write_request_head(&out, &h) == 0);
    char expected[256];
    snprintf(expected, sizeof expected, "GET /a HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: chunked\r\n%s\r\n",
             cases[i].expected);
    CHECK(wrote(expected));
  }
  end();
}

static void secrets_become_bytes_here(void) {
  begin();
  struct secret *s = secret_literal(STR("Bearer t"));
  struct secret_context ctx = {.any_target = true};
  struct request_head h = get();
  h.secrets = &ctx;
  headers_set_secret(&list, STR("Authorization"), s);
  add("Z", "z");
  CHECK(write_request_head(&out, &h) == 0 && ctx.header_safe);
  CHECK(wrote("GET /a HTTP/1.1\r\nHost: h:1\r\nAuthorization: Bearer t\r\nZ: z\r\n\r\n"));
  secret_unref(s);
  end();
}

static void a_failed_secret_leaves_nothing(void) {
  begin();
  struct secret *good = secret_literal(STR("hush-hush")), *bad = secret_literal(STR("a\r\nB: c"));
  struct secret_context ctx = {.any_target = true};
  struct request_head h = get();
  h.secrets = &ctx;
  headers_set_secret(&list, STR("X-Good"), good);
  headers_set_secret(&list, STR("X-Bad"), bad);
  buf_addz(&out, "before");
  memset(buf_reserve(&out, 1000), 0, 1000);
  CHECK(write_request_head(&out, &h) == ERR_SECRET_BYTES);
  CHECK(out.n == 6 && memcmp(out.p, "before", 6) == 0);
  for (size_t i = out.n; i < 1000; i++) CHECK(out.p[i] == 0);
  secret_unref(good), secret_unref(bad);
  end();
}

static void a_start_line_cannot_be_broken(void) {
  begin();
  static const char *const bad[] = {"/a b", "/a\r\nX: y", "/a\n", "/\xc3\xa9", "/\x7f"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct request_head path = get(), query = get(), host = get(), method = get(), upgrade = get();
    path.path = query.query = host.host = method.method = str_of(bad[i]);
    CHECK(write_request_head(&out, &path) == ERR_PROTOCOL && write_request_head(&out, &query) == ERR_PROTOCOL);
    CHECK(write_request_head(&out, &host) == ERR_PROTOCOL && write_request_head(&out, &method) == ERR_PROTOCOL);
    upgrade.upgrade = STR("a\r\nb");
    CHECK(write_request_head(&out, &upgrade) == ERR_PROTOCOL && out.n == 0);
  }
  struct request_head none = get();
  none.host = STR("");
  CHECK(write_request_head(&out, &none) == ERR_PROTOCOL);
  end();
}

static void frames_responses(void) {
  static const struct {
    int status;
    struct framing f;
    bool no_body, keep;
    enum http_version client;
    const char *expected;
  } cases[] = {
      {200, {FRAMING_LENGTH, 5}, false, true, HTTP_1_1, "200 OK\r\nContent-Length: 5\r\n"},
      {200, {FRAMING_LENGTH, 5}, false, false, HTTP_1_1, "200 OK\r\nContent-Length: 5\r\nConnection: close\r\n"},
      {200, {FRAMING_LENGTH, 5}, false, true, HTTP_1_0, "200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n"},
      {200, {FRAMING_CHUNKED, 0}, false, true, HTTP_1_1, "200 OK\r\nTransfer-Encoding: chunked\r\n"},
      {200, {FRAMING_CHUNKED, 0}, false, true, HTTP_1_0, "200 OK\r\nConnection: close\r\n"},
      {200, {FRAMING_UNTIL_CLOSE, 0}, false, true, HTTP_1_1, "200 OK\r\nConnection: close\r\n"},
      {200, {FRAMING_NONE, 0}, false, true, HTTP_1_1, "200 OK\r\nContent-Length: 0\r\n"},
      {200, {FRAMING_LENGTH, 7}, true, true, HTTP_1_1, "200 OK\r\nContent-Length: 7\r\n"},
      {200, {FRAMING_CHUNKED, 0}, true, true, HTTP_1_1, "200 OK\r\n"},
      {304, {FRAMING_LENGTH, 7}, true, true, HTTP_1_1, "304 Not Modified\r\nContent-Length: 7\r\n"},
      {204, {FRAMING_LENGTH, 7}, true, true, HTTP_1_1, "204 No Content\r\n"},
      {204, {FRAMING_NONE, 0}, true, false, HTTP_1_1, "204 No Content\r\nConnection: close\r\n"},
      {100, {FRAMING_NONE, 0}, true, true, HTTP_1_1, "100 Continue\r\n"},
      {103, {FRAMING_LENGTH, 7}, true, false, HTTP_1_1, "103 Early Hints\r\n"},
      {499, {FRAMING_LENGTH, 0}, false, true, HTTP_1_1, "499 \r\nContent-Length: 0\r\n"}};
  begin();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct response_head h = {.status = cases[i].status,
                              .headers = &list,
                              .framing = cases[i].f,
                              .no_body = cases[i].no_body,
                              .keep_alive = cases[i].keep,
                              .client = cases[i].client};
    write_response_head(&out, &h);
    char expected[256];
    snprintf(expected, sizeof expected, "HTTP/1.1 %s\r\n", cases[i].expected);
    CHECK(wrote(expected));
  }
  end();
}

static void writes_reasons_and_upgrades(void) {
  begin();
  struct response_head h = {.status = 200,
                            .reason = STR("Fine by me"),
                            .headers = &list,
                            .framing = {FRAMING_LENGTH, 0},
                            .keep_alive = true,
                            .client = HTTP_1_1};
  write_response_head(&out, &h);
  CHECK(wrote("HTTP/1.1 200 Fine by me\r\nContent-Length: 0\r\n\r\n"));
  h.reason = STR("a\r\nB: c");
  write_response_head(&out, &h);
  CHECK(wrote("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  h = (struct response_head){.status = 101,
                             .headers = &list,
                             .no_body = true,
                             .keep_alive = true,
                             .client = HTTP_1_1,
                             .upgrade = STR("websocket")};
  write_response_head(&out, &h);
  CHECK(wrote("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
  h.status = 426;
  write_response_head(&out, &h);
  CHECK(wrote("HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
  h.keep_alive = false;
  write_response_head(&out, &h);
  CHECK(wrote("HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"));
  end();
}

static void writes_chunk_lines(void) {
  char line[CHUNK_LINE_MAX];
  CHECK(write_chunk_line(line, 1) == 3 && memcmp(line, "1\r\n", 3) == 0);
  CHECK(write_chunk_line(line, 0xabc) == 5 && memcmp(line, "abc\r\n", 5) == 0);
  CHECK(write_chunk_line(line, SIZE_MAX) == 18 && memcmp(line, "ffffffffffffffff\r\n", 18) == 0);
}

static void ends_chunks_with_the_allowed_trailers(void) {
  begin();
  write_chunk_end(&out, NULL);
  CHECK(wrote("0\r\n\r\n"));
  add("X-Sum", "1"), add("Content-Length", "5"), add("Authorization", "x"), add("Y", "2");
  write_chunk_end(&out, &list);
  CHECK(wrote("0\r\nX-Sum: 1\r\nY: 2\r\n\r\n"));
  end();
}

static void knows_which_trailers_may_pass(void) {
  CHECK(trailer_allowed(STR("X-Checksum")) && trailer_allowed(STR("Grpc-Status")) && trailer_allowed(STR("ETag")) &&
        trailer_allowed(STR("hosts")));
  static const char *const bad[] = {
      "Host",       "content-length",  "Transfer-Encoding", "Transfer_Encoding", "AUTHORIZATION", "Cookie",
      "Set-Cookie", "X-Forwarded-For", "x_forwarded_for",   "Cache-Control",     "Content-Type",  "TE",
      "Trailer",    "Connection",      "Upgrade",           "If-Match"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!trailer_allowed(str_of(bad[i])));
}

static void knows_phrases(void) {
  CHECK(strcmp(status_phrase(404), "Not Found") == 0 && strcmp(status_phrase(599), "") == 0);
}

int main(void) {
  RUN(writes_a_request);
  RUN(lines_go_out_as_they_came_unless_they_were_changed);
  RUN(only_our_own_hop_by_hop_fields_go_out);
  RUN(names_its_own_connection_options);
  RUN(secrets_become_bytes_here);
  RUN(a_failed_secret_leaves_nothing);
  RUN(a_start_line_cannot_be_broken);
  RUN(frames_responses);
  RUN(writes_reasons_and_upgrades);
  RUN(writes_chunk_lines);
  RUN(ends_chunks_with_the_allowed_trailers);
  RUN(knows_which_trailers_may_pass);
  RUN(knows_phrases);
  return 0;
}
