/* grpc.c: see grpc.h. */
#include "proxy/grpc.h"

#include "base/err.h"
#include "proxy/steps.h"

static const struct str GRPC_TYPE = {"application/grpc", 16};

/* Behind the type nothing, a subtype's suffix or parameters; "application/grpc-web" is none of these. */
static bool type_is_grpc(struct str type) {
  if (type.n < GRPC_TYPE.n || !str_ieq((struct str){type.p, GRPC_TYPE.n}, GRPC_TYPE)) return false;
  struct str behind = {type.p + GRPC_TYPE.n, type.n - GRPC_TYPE.n};
  if (behind.n > 0 && behind.p[0] == '+') return true;
  behind = str_trim(behind);
  return behind.n == 0 || behind.p[0] == ';';
}

bool grpc_call(const struct exchange *ex) {
  if (!str_eq(ex->request.method, STR("POST"))) return false; /* above all no CONNECT, to which 200 is a tunnel */
  const struct header *h = headers_find(&ex->request.headers, STR("Content-Type"));
  return h != NULL && type_is_grpc(h->value);
}

int grpc_response_status(const struct exchange *ex) {
  const struct response *r = &ex->response;
  int status = r->status;
  bool alone = r->framing == FRAMING_NONE || (r->framing == FRAMING_LENGTH && r->content_length == 0);
  if (status != 200 || !alone || !grpc_call(ex)) return status;
  const struct header *h = headers_find(&ex->response.headers, STR("grpc-status"));
  unsigned long long said;
  if (h == NULL || !str_to_u64(h->value, &said)) return status;
  return said == GRPC_UNAUTHENTICATED ? 401 : said == GRPC_PERMISSION_DENIED ? 403 : status;
}

static enum grpc_status bad_gateway(int code) {
  switch (code) {
    case UV_ECANCELED:
      return GRPC_CANCELLED; /* by the upstream, with RST_STREAM */
    /* A reply that could not be read came from a server that was there, and may have acted: no invitation to send the call again. */
    case ERR_PROTOCOL:
    case ERR_AMBIGUOUS: return GRPC_INTERNAL;
    default: return GRPC_UNAVAILABLE;
  }
}

/* By what failed, where that says more than the status; else by the status. gRPC's own table of statuses is for clients that meet a reply which is not
 * gRPC: where it gives all of a kind one status, we know which of them it is. */
enum grpc_status grpc_status_of(int status, int code) {
  switch (code) {
    case ERR_TOKEN_AUDIENCE:
    case ERR_FORBIDDEN: return GRPC_PERMISSION_DENIED;
    case ERR_CONFIG: return GRPC_UNIMPLEMENTED; /* no upstream for this call */
    default: break;
  }
  switch (status) {
    case 401: return GRPC_UNAUTHENTICATED;
    case 403: return GRPC_PERMISSION_DENIED;
    case 404:
    case 405:
    case 501: return GRPC_UNIMPLEMENTED;
    case 408:
    case 504: return GRPC_DEADLINE_EXCEEDED;
    case 413:
    case 431: return GRPC_RESOURCE_EXHAUSTED;
    case 400:
    case 500: return GRPC_INTERNAL;
    case 502: return bad_gateway(code);
    case 429:
    case 503: return GRPC_UNAVAILABLE;
    default: return GRPC_UNKNOWN;
  }
}

void grpc_message_encode(struct buf *out, struct str text) {
  static const char hex[] = "0123456789ABCDEF";
  for (size_t i = 0; i < text.n; i++) {
    unsigned char c = (unsigned char)text.p[i];
    if (c >= 0x20 && c < 0x7f && c != '%') {
      buf_add(out, &c, 1);
      continue;
    }
    char escape[3] = {'%', hex[c >> 4], hex[c & 15]};
    buf_add(out, escape, sizeof escape);
  }
}

/* What the text reply says (reply.c): a sentence if there is one for the client, and the id to find the log line by. */
static struct str message(struct exchange *ex) {
  const struct failure *f = &ex->failure;
  struct arena *a = &ex->arena;
  const char *said = f->told != NULL ? f->told : status_phrase(f->status);
  struct buf encoded;
  buf_init(&encoded);
  grpc_message_encode(&encoded, arena_printf(a, "%s (request %016llx)", said, (unsigned long long)ex->id));
  struct str kept = arena_dup(a, buf_str(&encoded));
  buf_fini(&encoded);
  return kept;
}

void grpc_error_reply(struct exchange *ex) {
  struct failure *f = &ex->failure;
  struct arena *a = &ex->arena;
  f->grpc = (int)grpc_status_of(f->status, f->code);
  reply_local(ex, 200, STR(""));
  struct headers *h = &ex->response.headers;
  headers_add(h, STR("Content-Type"), GRPC_TYPE);
  headers_add(h, STR("grpc-status"), arena_printf(a, "%d", f->grpc));
  headers_add(h, STR("grpc-message"), message(ex));
  if (f->status != 503) return;
  unsigned wait = failure_retry_after(f);
  headers_add(h, STR("Retry-After"), arena_printf(a, "%u", wait));
  headers_add(h, STR("grpc-retry-pushback-ms"),
              arena_printf(a, "%u000", wait)); /* gRPC proposal A6: a client that retries waits so long */
}
