/* grpc_test.c: which gRPC status a failure is, and what grpc-message may hold. The replies themselves: spec/proxy/grpc_errors_spec.lua. */
#include "proxy/grpc.h"

#include <uv.h>

#include "base/err.h"
#include "check.h"

static bool is(struct buf *b, const char *text) {
  bool same = str_eq(buf_str(b), str_of(text));
  if (!same) fprintf(stderr, "%.*s\n", STR_FMT(buf_str(b)));
  buf_reset(b);
  return same;
}

int main(void) {
  CHECK(grpc_status_of(503, ERR_TOKEN_MISSING) == 14);
  CHECK(grpc_status_of(503, ERR_LIMIT) == 14);
  CHECK(grpc_status_of(503, UV_ECANCELED) == 14); /* a token that was removed */
  CHECK(grpc_status_of(502, UV_ECONNREFUSED) == 14);
  CHECK(grpc_status_of(502, UV_ECONNRESET) == 14);
  CHECK(grpc_status_of(502, ERR_TLS) == 14);
  CHECK(grpc_status_of(502, ERR_TRUNCATED) == 14);
  CHECK(grpc_status_of(502, UV_ECANCELED) == 1);
  CHECK(grpc_status_of(502, ERR_PROTOCOL) == 13);
  CHECK(grpc_status_of(502, ERR_AMBIGUOUS) == 13);
  CHECK(grpc_status_of(504, UV_ETIMEDOUT) == 4);
  CHECK(grpc_status_of(408, ERR_PROTOCOL) == 4);
  CHECK(grpc_status_of(403, ERR_FORBIDDEN) == 7);
  CHECK(grpc_status_of(500, ERR_TOKEN_AUDIENCE) == 7);
  CHECK(grpc_status_of(401, ERR_FORBIDDEN) == 7);
  CHECK(grpc_status_of(401, 0) == 16);
  CHECK(grpc_status_of(413, ERR_LIMIT) == 8);
  CHECK(grpc_status_of(431, ERR_PROTOCOL) == 8);
  CHECK(grpc_status_of(500, ERR_SCRIPT) == 13);
  CHECK(grpc_status_of(500, ERR_BUDGET) == 13);
  CHECK(grpc_status_of(500, ERR_MEMORY) == 13);
  CHECK(grpc_status_of(500, ERR_SECRET_BYTES) == 13);
  CHECK(grpc_status_of(400, ERR_PROTOCOL) == 13);
  CHECK(grpc_status_of(500, ERR_CONFIG) == 12);
  CHECK(grpc_status_of(404, 0) == 12);
  CHECK(grpc_status_of(429, 0) == 14);
  CHECK(grpc_status_of(418, 0) == 2);

  struct buf b;
  buf_init(&b);
  grpc_message_encode(&b, STR("there is no valid token (request 00ff)"));
  CHECK(is(&b, "there is no valid token (request 00ff)"));
  grpc_message_encode(&b, STR("100% ~ \"\\\" \t\r\n\x7f \xc3\xa9"));
  CHECK(is(&b, "100%25 ~ \"\\\" %09%0D%0A%7F %C3%A9"));
  grpc_message_encode(&b, (struct str){"\0", 1});
  CHECK(is(&b, "%00"));
  buf_fini(&b);
  return 0;
}
