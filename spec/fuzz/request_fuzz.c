/* request_fuzz.c: requests in any pieces; and what was accepted, written anew, must be read again as the same request.
 * Input: a byte for the cut, the request. Build with -fsanitize=fuzzer,address; seeds in seeds/request. */
#include "fuzz.h"
#include "http/writer.h"
#include "net/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_request(const struct request *r) {
  fuzz_check_fields(&r->headers);
  fuzz_check_fields(&r->trailers);
  CHECK(r->authority.p == NULL || host_valid(r->authority));
  CHECK(r->version == HTTP_1_0 || r->authority.p != NULL);
  CHECK(!r->is_connect || (r->framing != FRAMING_CHUNKED && r->content_length == 0));
  CHECK(r->version == HTTP_1_1 || r->framing != FRAMING_CHUNKED);
  CHECK(r->framing != FRAMING_UNTIL_CLOSE);
  CHECK(r->is_connect || r->path.p[0] == '/' || str_eq(r->path, STR("*")));
  for (unsigned i = 0; i < r->trailers.n; i++) CHECK(trailer_allowed(r->trailers.v[i].name));
}

/* Through the writer and back: the same method, path, host, framing and end-to-end fields. */
static void check_written(struct request *r) {
  struct buf out;
  struct feed g = {.response = false};
  headers_strip_hop_by_hop(&r->headers);
  struct request_head h = {.method = r->method,
                           .path = r->path,
                           .query = r->query,
                           .host = r->authority,
                           .headers = &r->headers,
                           .framing = {r->framing, r->content_length},
                           .keep_alive = r->keep_alive,
                           .expect_continue = r->expect_continue,
                           .te_trailers = headers_has_token(&r->headers, H_TE, STR("trailers")),
                           .upgrade = r->upgrade_protocol};
  if (r->is_connect || r->authority.p == NULL) return; /* not forwarded in this form */
  buf_init(&out);
  out.sensitive = true;
  CHECK(write_request_head(&out, &h) == 0);
  feed_all(&g, buf_str(&out), out.n, out.n);
  CHECK(fuzz_head_was_read(&g));
  CHECK(str_eq(g.request.method, r->method) && str_eq(g.request.path, r->path) && str_eq(g.request.query, r->query));
  CHECK((g.request.query.p == NULL) == (r->query.p == NULL) && str_eq(g.request.authority, r->authority));
  CHECK(g.request.framing == r->framing && g.request.content_length == r->content_length);
  CHECK(g.request.keep_alive == r->keep_alive || r->upgrade);
  feed_done(&g);
  buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (n < 2) return 0;
  struct str in = {(const char *)data + 1, n - 1};
  struct feed f = {.limits = &fuzz_limits};
  fuzz_every_way(&f, in, 1 + data[0] % in.n);
  if (fuzz_head_was_read(&f)) {
    check_request(&f.request);
    check_written(&f.request);
  }
  feed_done(&f);
  return 0;
}
