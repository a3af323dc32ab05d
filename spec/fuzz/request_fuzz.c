/* request_fuzz.c: requests in any pieces; and what was accepted, written anew, must be read again as the same request.
 * Input: a byte for the cut, the request. Build with -fsanitize=fuzzer,address; seeds in seeds/request. */
#include "fuzz.h"
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

static void check_written(struct request *r) {
  struct feed g = {.response = false};
  if (!fuzz_request_again(r, &g)) return;
  CHECK(g.request.keep_alive == r->keep_alive || r->upgrade);
  feed_done(&g);
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
