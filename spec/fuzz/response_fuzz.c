/* response_fuzz.c: replies to GET, HEAD and CONNECT in any pieces; and what was accepted, written anew, must be read again with the same framing.
 * Input: a byte for the method, a byte for the cut, the reply. Build with -fsanitize=fuzzer,address; seeds in seeds/response. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_response(const struct response *r, const char *method) {
  bool head = strcmp(method, "HEAD") == 0, connect = strcmp(method, "CONNECT") == 0;
  bool tunnel = r->status == 101 || (connect && r->status / 100 == 2);
  fuzz_check_fields(&r->headers);
  fuzz_check_fields(&r->trailers);
  CHECK(r->status >= 100 && r->status <= 599);
  if (tunnel || head || r->status < 200 || r->status == 204 || r->status == 304)
    CHECK(r->framing == FRAMING_NONE);
  else
    CHECK(r->framing != FRAMING_NONE);
  if (tunnel || r->framing == FRAMING_UNTIL_CLOSE) CHECK(!r->keep_alive);
  CHECK(r->version == HTTP_1_1 || r->framing != FRAMING_CHUNKED);
}

static void check_written(struct response *r, const char *method) {
  struct feed g = {.response = true, .method = method};
  fuzz_response_again(r, &g);
  CHECK(str_eq(g.reply.reason, r->reason) && g.reply.framing == r->framing);
  CHECK(g.reply.keep_alive == r->keep_alive || r->status < 200);
  feed_done(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static const char *const methods[] = {"GET", "HEAD", "CONNECT"};
  if (n < 3) return 0;
  struct str in = {(const char *)data + 2, n - 2};
  struct feed f = {.response = true, .method = methods[data[0] % 3], .limits = &fuzz_limits};
  fuzz_every_way(&f, in, 1 + data[1] % in.n);
  if (fuzz_head_was_read(&f)) {
    check_response(&f.reply, f.method);
    check_written(&f.reply, f.method);
  }
  feed_done(&f);
  return 0;
}
