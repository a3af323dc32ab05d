/* h2_server_fuzz.c: a client's bytes into a session, its field blocks and the judge; see h2_fuzz.h. The second byte of the input, with the stream's number, decides how a request
 * is answered. Seeds by spec/fuzz/seeds/h2. */
#include "h2_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char zeros[40000];

static void say_head(struct fuzz_stream *f, int status, bool ends) {
  struct h2_fields out;
  struct headers fields;
  headers_init(&fields, &f->arena);
  headers_add(&fields, STR("content-type"), STR("text/plain"));
  h2_fields_init(&out, &f->arena);
  h2_fields_response(&out, status, &fields, false, 0);
  if (status < 200)
    h2_stream_interim(&f->st, &out);
  else
    h2_stream_head(&f->st, &out, ends);
}

static void say_body(struct fuzz_stream *f, size_t n) {
  h2_stream_body(&f->st, (struct str){zeros, n});
  h2_stream_flush(&f->st);
}

static struct h2_fields *trailers(struct fuzz_stream *f) {
  struct h2_fields out;
  struct headers fields;
  headers_init(&fields, &f->arena);
  headers_add(&fields, STR("grpc-status"), STR("0"));
  h2_fields_init(&out, &f->arena);
  return h2_fields_trailers(&out, &fields) ? h2_fields_keep(&out) : NULL;
}

static void answer(struct fuzz_stream *f) {
  switch (((unsigned)f->st.id / 2 + fuzz.plan) % 8) {
    case 0: say_head(f, 204, true); break;
    case 1:
      say_head(f, 200, false);
      say_body(f, 100);
      h2_stream_end(&f->st, NULL);
      break;
    case 2:
      say_head(f, 103, false);
      say_head(f, 200, false);
      say_body(f, sizeof zeros);
      say_body(f, sizeof zeros);
      h2_stream_end(&f->st, trailers(f));
      break;
    case 3: /* its user has gone */ fuzz_stream_detach(f, H2_INTERNAL_ERROR); break;
    case 4: /* a reply that does not end */
      say_head(f, 200, false);
      say_body(f, 1000);
      break;
    default: break; /* not answered */
  }
}

static struct h2_stream *opened(struct h2_session *s) {
  CHECK(s == &fuzz.session && s->nstreams <= FUZZ_STREAMS);
  return fuzz_stream_new();
}
static enum h2_error block_end(struct h2_stream *st, enum h2_block_kind kind, bool ends) {
  struct fuzz_stream *f = fuzz_of(st);
  CHECK(f->in_block);
  f->in_block = false;
  struct http_fault fault =
      kind == H2_HEAD ? h2_block_request(&f->block, &f->request, ends) : h2_block_trailers(&f->block);
  if (kind == H2_HEAD) {
    f->head = true;
    if (!ends) st->receiving = H2_RECV_BODY;
  }
  if (ends && kind == H2_HEAD) f->told_end = true;
  if (fault.text != NULL && fault.status == 0) return H2_PROTOCOL_ERROR;
  if (fault.text != NULL) {
    CHECK(fault.status >= 400 && fault.status < 600);
    if (kind == H2_HEAD) say_head(f, fault.status, true);
    return H2_NO_ERROR;
  }
  if (kind == H2_TRAILERS) {
    fuzz_check_fields(&f->request.trailers);
    return H2_NO_ERROR;
  }
  CHECK(!ends || f->request.framing == FRAMING_NONE || f->request.content_length == 0);
  fuzz_check_request(&f->request);
  answer(f);
  return H2_NO_ERROR;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static const struct h2_events events = {.opened = opened, .block_end = block_end, FUZZ_EVENTS};
  static const struct h2_settings settings = {.side = H2_SERVER, .streams = FUZZ_STREAMS, .header_list = 1500};
  if (n < 2) return 0;
  fuzz_begin(data[0], data[1], &settings, &events);
  if ((data[0] & PLAY_RECORDS) != 0)
    fuzz_feed_pieces((const uint8_t *)"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
  fuzz_play(data + 2, n - 2);
  fuzz_end();
  return 0;
}
