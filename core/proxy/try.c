/* try.c: see try.h. */
#include "proxy/try.h"

#include <string.h>

#include "base/err.h"
#include "proxy/exchange.h"
#include "proxy/steps.h"

const char *try_reason_name(enum try_reason r) {
  static const char *const names[] = {"first", "rejected", "stale", "retry"};
  return names[r];
}

struct request *try_request(struct exchange *ex) {
  return ex->try != NULL ? &ex->try->request : &ex->request;
}

static void aim(struct exchange *ex) {
  const struct url *u = ex->url;
  secret_context_aim(&ex->used, u->tls, u->host, u->port, u->unix_path);
}

void try_next(struct exchange *ex, enum try_reason reason) {
  struct try *t = ex->try;
  if (t == NULL) return;
  t->number++;
  t->reason = reason;
  t->again = false;
  t->runs = 0;
}

/* --- the copy --- */

static void copy_fields(struct headers *to, const struct headers *from) {
  *to = *from;
  to->cap = from->n + 8; /* for what a signature adds */
  to->v = arena_alloc(to->arena, to->cap * sizeof *to->v);
  if (from->n > 0) memcpy(to->v, from->v, from->n * sizeof *to->v);
}

/* What never goes to an upstream, or is written from other sources. */
static bool is_not_sent(struct str name) {
  enum header_id id = header_id(name);
  return (header_traits[id] & HEADER_NOT_IN_REQUEST) != 0 && id != H_HOST && id != H_CONTENT_LENGTH;
}

/* How long a body with secrets is depends on its tokens, which are pinned then. What it cannot have is told when the head is written. */
static struct framing framing_of(struct exchange *ex) {
  (void)request_body_expand(&ex->body, &ex->used);
  struct framing f = request_framing(ex);
  request_body_forget(&ex->body);
  return f;
}

void try_show_own(struct exchange *ex) {
  struct headers *hs = &ex->try->request.headers;
  struct framing f = framing_of(ex);
  headers_set(hs, STR("Host"), request_host(ex));
  if (f.kind == FRAMING_LENGTH)
    headers_set(hs, STR("Content-Length"), arena_printf(&ex->arena, "%llu", (unsigned long long)f.length));
  else
    (void)headers_remove_id(hs, H_CONTENT_LENGTH);
}

void try_begin(struct exchange *ex) {
  struct try *t = ex->try;
  if (t == NULL) {
    t = ex->try = arena_alloc(&ex->arena, sizeof *t);
    *t = (struct try){.number = 1};
  }
  t->runs++;
  t->suspended = false;
  t->request = ex->request;
  t->host = ex->host;
  t->placed = ex->placed;
  copy_fields(&t->request.headers, &ex->request.headers);
  (void)headers_remove_where(&t->request.headers, is_not_sent);
  aim(ex);
  pins_begin(&t->pins, &ex->used);
  t->pins.must_have = ex->replayed;
  try_show_own(ex);
}

/* --- its tokens --- */

void try_keep(struct exchange *ex) {
  ex->try->nused = ex->used.nused;
  ex->try->ends_at = ex->used.ends_at;
}

int try_resume(struct exchange *ex) {
  aim(ex);
  ex->used.nused = ex->try->nused;
  ex->used.ends_at = ex->try->ends_at;
  return secret_context_serves(&ex->used) ? 0 : ERR_TOKEN_EXPIRED;
}

void try_fini(struct exchange *ex) {
  if (ex->try != NULL) pins_fini(&ex->try->pins);
}
