/* h2_request.c: the head of a request to a server, as a list of fields (h2_fields.h).
 *
 * What writer.c is for HTTP/1.1: pseudo-fields and framing are made here, once, from struct request_head, and what the message holds under those names is passed over. Secrets
 * become bytes here, in one buffer for all of them that grows while they do, so their fields hold offsets (`SECRET_HERE`) until the last one is in it. The library makes names
 * lower case (RFC 9113 section 8.2.1); values lose the space around them here, which a server would take for a malformed message.
 *
 * Nothing that says who asks goes into the compression's table, where its length could be probed for by what others send on the same connection (RFC 7541 section 7.1). Pure but for
 * `secrets` and the list; any thread. */
#include <string.h>

#include "base/err.h"
#include "http/h2_fields.h"
#include "http/writer.h"
#include "token/secret.h"

enum {
  SECRET_HERE = 0x80
}; /* among the flags of a field, and none of the library's: the value is an offset into `secrets` */

static struct str path_of(const struct request_head *h, struct h2_fields *f) {
  struct str path = h->path.n > 0 ? h->path : STR("/");
  if (h->query.p == NULL) return path;
  char *p = arena_alloc(f->arena, path.n + 1 + h->query.n);
  memcpy(p, path.p, path.n);
  p[path.n] = '?';
  if (h->query.n > 0) memcpy(p + path.n + 1, h->query.p, h->query.n);
  return (struct str){p, path.n + 1 + h->query.n};
}

static int add_secret(struct h2_fields *f, const struct header *h, struct secret_context *ctx, struct buf *secrets) {
  size_t at = secrets->n;
  int rc = secret_expand(h->secret, ctx, secrets);
  if (rc != 0) return rc;
  h2_fields_add(f, h->name, (struct str){(const char *)at, secrets->n - at}, false);
  f->v[f->n - 1].flags |= SECRET_HERE;
  return 0;
}

/* Where another's requests on the same connection could probe for it, it would be by its length in the table. */
static int add_secret_path(struct h2_fields *f, const struct request_head *h, struct buf *secrets) {
  size_t at = secrets->n;
  buf_adds(secrets, h->path.n > 0 ? h->path : STR("/"));
  buf_addz(secrets, "?");
  int rc = write_secret_query(secrets, h);
  if (rc != 0) return rc;
  h2_fields_add(f, STR(":path"), (struct str){(const char *)at, secrets->n - at}, false);
  f->v[f->n - 1].flags |= SECRET_HERE;
  return 0;
}

static bool says_who_asks(const struct header *h) { return (header_traits[h->id] & HEADER_CREDENTIAL) != 0; }

static int add_fields(struct h2_fields *f, const struct headers *hs, struct secret_context *ctx, struct buf *secrets) {
  for (unsigned i = 0; i < hs->n; i++) {
    const struct header *h = &hs->v[i];
    if (h->name.p == NULL || (header_traits[h->id] & HEADER_NOT_IN_REQUEST) != 0) continue;
    if (h->secret == NULL) {
      h2_fields_add(f, h->name, str_trim(h->value), !says_who_asks(h));
    } else if (ctx != NULL) {
      int rc = add_secret(f, h, ctx, secrets);
      if (rc != 0) return rc;
    }
  }
  return 0;
}

static int add_start(struct h2_fields *f, const struct request_head *h, bool tls, struct buf *secrets) {
  h2_fields_add(f, STR(":method"), h->method, true);
  h2_fields_add(f, STR(":scheme"), tls ? STR("https") : STR("http"), true);
  h2_fields_add(f, STR(":authority"), h->host, true);
  if (h->query_secret != NULL) return add_secret_path(f, h, secrets);
  h2_fields_add(f, STR(":path"), path_of(h, f), true);
  return 0;
}

/* RFC 9113 sections 8.1.1 and 8.2.2: of what frames a message or is said of one hop this is left. */
static void add_framing(struct h2_fields *f, const struct request_head *h) {
  if (h->framing.kind == FRAMING_LENGTH) h2_fields_add_number(f, STR("content-length"), h->framing.length);
  if (h->te_trailers) h2_fields_add(f, STR("te"), STR("trailers"), true);
  if (h->expect_continue) h2_fields_add(f, STR("expect"), STR("100-continue"), true);
}

static void point_at_secrets(struct h2_fields *f, const struct buf *secrets) {
  for (size_t i = 0; i < f->n; i++) {
    nghttp2_nv *v = &f->v[i];
    if ((v->flags & SECRET_HERE) == 0) continue;
    struct str value = str_trim((struct str){(const char *)secrets->p + (size_t)v->value, v->valuelen});
    v->value = (uint8_t *)(uintptr_t)value.p;
    v->valuelen = value.n;
    v->flags &= (uint8_t)~SECRET_HERE;
  }
}

int h2_fields_request(struct h2_fields *f, const struct request_head *h, bool tls, struct buf *secrets) {
  int rc;
  if (!request_start_safe(h)) return ERR_PROTOCOL;
  struct secret_head all = secret_head_begin(secrets, h->secrets);
  do {
    f->n = 0;
    rc = add_start(f, h, tls, secrets);
    if (rc == 0) rc = add_fields(f, h->headers, h->secrets, secrets);
  } while (secret_head_again(&all, rc));
  if (rc != 0) return rc;
  add_framing(f, h);
  point_at_secrets(f, secrets);
  return 0;
}
