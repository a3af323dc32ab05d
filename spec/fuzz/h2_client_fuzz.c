/* h2_client_fuzz.c: a server's bytes into a session that has sent requests, its field blocks and the judge; see h2_fuzz.h. The second byte of the input says which requests: two
 * bits for each of four. Seeds by spec/fuzz/seeds/h2. */
#include "h2_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { REQUESTS = 4 };
static const char zeros[100000];

/* Fails when the peer allows no stream (any more), which is for it to say. */
static void ask(unsigned kind) {
  static const char *const methods[] = {"GET", "HEAD", "POST", "GET"};
  struct h2_stream *st = fuzz_stream_new();
  struct fuzz_stream *f = fuzz_of(st);
  struct h2_fields out;
  struct headers fields;
  struct buf secrets;
  f->method = str_of(methods[kind]);
  headers_init(&fields, &f->arena);
  headers_add(&fields, STR("accept"), STR("*/*"));
  struct request_head head = {.method = f->method,
                              .path = STR("/a"),
                              .host = STR("example.com"),
                              .headers = &fields,
                              .framing = {kind == 2 ? FRAMING_LENGTH : FRAMING_NONE, kind == 2 ? sizeof zeros : 0}};
  h2_fields_init(&out, &f->arena);
  buf_init(&secrets);
  secrets.sensitive = true;
  CHECK(h2_fields_request(&out, &head, false, &secrets) == 0);
  int rc = h2_stream_open(&fuzz.session, st, &out, kind != 2);
  buf_fini(&secrets);
  if (rc != 0) {
    CHECK(rc == UV_EAGAIN || rc == UV_ECONNRESET);
    fuzz_stream_free(f);
  } else if (kind == 2) {
    h2_stream_body(st, (struct str){zeros, sizeof zeros});
    h2_stream_end(st, NULL);
  }
}

static enum h2_error block_end(struct h2_stream *st, enum h2_block_kind kind, bool ends) {
  struct fuzz_stream *f = fuzz_of(st);
  CHECK(f->in_block);
  f->in_block = false;
  struct http_fault fault =
      kind == H2_HEAD ? h2_block_response(&f->block, &f->reply, f->method, ends) : h2_block_trailers(&f->block);
  if (fault.text != NULL) return H2_PROTOCOL_ERROR;
  if (ends && kind == H2_HEAD) f->told_end = true;
  if (kind == H2_TRAILERS) {
    fuzz_check_fields(&f->reply.trailers);
    return H2_NO_ERROR;
  }
  f->head = f->reply.status >= 200;
  if (f->head && !ends) st->receiving = H2_RECV_BODY;
  CHECK(f->head || !ends);
  fuzz_check_response(&f->reply, f->method);
  return H2_NO_ERROR;
}

static void on_settings(struct h2_session *s) { CHECK(s == &fuzz.session); }
static void on_goaway(struct h2_session *s, enum h2_error code) {
  (void)code;
  CHECK(h2_session_streams(s) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static const struct h2_events events = {
      .block_end = block_end, .settings = on_settings, .goaway = on_goaway, FUZZ_EVENTS};
  static const struct h2_settings settings = {.side = H2_CLIENT, .header_list = 1500, .sensitive = true};
  if (n < 2) return 0;
  fuzz_begin(data[0], data[1], &settings, &events);
  for (unsigned i = 0; i < REQUESTS; i++) ask(data[1] >> 2 * i & 3);
  if ((data[0] & PLAY_RECORDS) != 0) fuzz_feed_pieces((const uint8_t *)"\0\0\0\4\0\0\0\0\0", 9);
  fuzz_play(data + 2, n - 2);
  for (unsigned i = 0; i < REQUESTS; i++) ask(i); /* whatever has become of it */
  fuzz_end();
  return 0;
}
