/* secret_expand.c: the one way from a secret to its bytes.
 *
 * Bytes go straight from the token's memory into the request's buffer. Encodings are stages that bytes stream through: each holds a few bytes on
 * the stack, wiped when it is left, so a secret never has a copy that nobody wipes. Invariants:
 *  - no byte of a token is put before its audiences (the handle's, which is its policy's word, and the token's own bond) and its expiry have been checked, at this
 *    call, by this clock;
 *  - a failed expansion leaves `out` and the context as they were, and nothing behind out's end;
 *  - the work done is bounded by SECRET_PARTS_MAX, SECRET_DEPTH_MAX and SECRET_BYTES_MAX, whatever the script built.
 * The thread that owns the tree's readers. */
#include <assert.h>
#include <string.h>

#include "base/base64.h"
#include "base/chars.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/percent.h"
#include "base/secmem.h"
#include "token/secret_internal.h"

/* The next place that bytes go to. put returns 0 or an error, after which nothing more is put. */
struct stage {
  int (*put)(struct stage *s, const char *p, size_t n);
};

struct expansion { /* one call of secret_expand */
  struct secret_context *ctx;
  int64_t now; /* read when the first token is met; -1: not yet */
};

/* --- stages --- */

struct buf_stage {
  struct stage stage;
  struct buf *out;
  size_t room;
};

static int put_buf(struct stage *s, const char *p, size_t n) {
  struct buf_stage *b = (struct buf_stage *)(void *)s;
  if (n > b->room) return ERR_LIMIT;
  b->room -= n;
  buf_add(b->out, p, n);
  return 0;
}

enum { ESCAPE_MAX = JSON_ESCAPE_MAX };
struct escape_stage { /* percent-encoding and JSON: each byte by itself */
  struct stage stage;
  struct stage *next;
  unsigned (*escape)(unsigned char c, char out[ESCAPE_MAX]);
};

static unsigned escape_hex(unsigned char c, char out[ESCAPE_MAX]) {
  static const char digits[] = "0123456789abcdef";
  out[0] = digits[c >> 4];
  out[1] = digits[c & 15];
  return 2;
}

static int put_escaped(struct stage *s, const char *p, size_t n) {
  struct escape_stage *e = (struct escape_stage *)(void *)s;
  char chunk[128];
  size_t filled = 0;
  int rc = 0;
  for (size_t i = 0; i < n && rc == 0; i++) {
    filled += e->escape((unsigned char)p[i], chunk + filled);
    if (filled <= sizeof chunk - ESCAPE_MAX && i + 1 < n) continue;
    rc = e->next->put(e->next, chunk, filled);
    filled = 0;
  }
  secmem_wipe(chunk, sizeof chunk);
  return rc;
}

struct cookie_stage { /* refuses what would end a cookie's value, or what its receiver may read in a way of its own */
  struct stage stage;
  struct stage *next;
};

static int put_cookie(struct stage *s, const char *p, size_t n) {
  struct cookie_stage *c = (struct cookie_stage *)(void *)s;
  for (size_t i = 0; i < n; i++)
    if (!char_in_cookie(p[i])) return ERR_SECRET_BYTES;
  return c->next->put(c->next, p, n);
}

struct base64_stage {
  struct stage stage;
  struct stage *next;
  enum base64_form form;
  unsigned nheld;
  unsigned char held[BASE64_GROUP]; /* groups go over the borders of parts */
};

static int put_base64(struct stage *s, const char *p, size_t n) {
  struct base64_stage *b = (struct base64_stage *)(void *)s;
  char chunk[32 * BASE64_GROUP_TEXT];
  size_t filled = 0;
  int rc = 0;
  for (size_t i = 0; i < n && rc == 0; i++) {
    b->held[b->nheld++] = (unsigned char)p[i];
    if (b->nheld == BASE64_GROUP) {
      filled += base64_encode(b->form, b->held, BASE64_GROUP, chunk + filled);
      b->nheld = 0;
    }
    if (filled == sizeof chunk || (i + 1 == n && filled > 0)) {
      rc = b->next->put(b->next, chunk, filled);
      filled = 0;
    }
  }
  secmem_wipe(chunk, sizeof chunk);
  return rc;
}

static int finish_base64(struct base64_stage *b) {
  char group[BASE64_GROUP_TEXT];
  size_t n = base64_encode(b->form, b->held, b->nheld, group);
  int rc = n > 0 ? b->next->put(b->next, group, n) : 0;
  secmem_wipe(group, sizeof group);
  return rc;
}

/* --- the walk --- */

static int expand(struct secret *s, struct expansion *x, struct stage *to);

static int put_secret(const struct expansion *x, struct stage *to, struct str bytes) {
  if (x->ctx->mask != NULL) mask_add(x->ctx->mask, bytes);
  return to->put(to, bytes.p, bytes.n);
}

static bool may_receive(const struct secret_context *ctx, const struct audience *a) {
  if (ctx->any_target) return true;
  if (ctx->place == SECRET_TO_COMMAND) return audience_allows_command(a, ctx->path);
  if (ctx->place == SECRET_TO_FILE) return audience_allows_file(a, ctx->path);
  if (ctx->place == SECRET_TO_SCRIPT) return false;
  if (ctx->unix_path.p != NULL) return audience_allows_unix(a, ctx->unix_path);
  return audience_allows(a, ctx->tls, ctx->host, ctx->port);
}

/* Each slot once: a value and a field of one request are of one generation. ERR_TOKEN_EXPIRED: a publish came between two of them, the earlier one is
 * out of date. ERR_LIMIT: there is no place left, and a 401 could not be reported to that slot. */
static int note_used(struct secret_context *ctx, struct slot *slot, uint64_t generation) {
  for (unsigned i = 0; i < ctx->nused; i++) {
    if (ctx->used[i].slot == slot) return ctx->used[i].generation == generation ? 0 : ERR_TOKEN_EXPIRED;
  }
  if (ctx->nused == SECRET_USED_MAX) return ERR_LIMIT;
  ctx->used[ctx->nused].slot = slot;
  ctx->used[ctx->nused++].generation = generation;
  return 0;
}

static void note_end(struct secret_context *ctx, int64_t expires_at) {
  if (expires_at != TOKEN_LASTS && (ctx->ends_at == 0 || expires_at < ctx->ends_at)) ctx->ends_at = expires_at;
}

int secret_context_use(struct secret_context *ctx, struct slot *slot, const struct token *t) {
  int rc = note_used(ctx, slot, t->generation);
  if (rc == 0) note_end(ctx, t->expires_at);
  return rc;
}

bool secret_context_serves(const struct secret_context *ctx) {
  for (unsigned i = 0; i < ctx->nused; i++)
    if (!slot_serves(ctx->used[i].slot, ctx->used[i].generation)) return false;
  return true;
}

/* Is it bound so that the target may have it? The handle's own audience is asked as well, by the caller. Most often the two are one: a token of this policy. */
static bool bond_allows(const struct secret_context *ctx, const struct token_bond *b, const struct audience *handles) {
  if (b->audience == NULL || b->audience == handles) return true;
  return may_receive(ctx, b->audience);
}

/* A place that is no server gets a token that may be revealed. */
static bool is_open(const struct secret_context *ctx, bool open, const struct token_bond *b) {
  return ctx->place != SECRET_TO_SERVER && open && !b->sealed;
}

static struct token *token_for(struct slot_reader *r, const struct audience *handles, const struct secret_context *ctx,
                               int64_t now, bool *outdated) {
  struct token *token = slot_read(r, now);
  *outdated = false;
  if (token != NULL && bond_allows(ctx, &token->bond, handles)) return token;
  struct token *older = slot_read_older(r, now);
  if (older != NULL && bond_allows(ctx, &older->bond, handles)) return older;
  *outdated = token != NULL && slot_outdated(r->slot, token->bond.epoch);
  return NULL;
}

struct token *secret_token_for(const struct secret_token_view *t, const struct secret_context *ctx, int64_t now,
                               bool *outdated) {
  return token_for(t->reader, t->audience, ctx, now, outdated);
}

static int find_token(struct secret_token_node *t, struct expansion *x, struct token **out) {
  const struct secret_context *ctx = x->ctx;
  bool had_one = t->reader.token != NULL || t->reader.seen == SLOT_UNSEEN, outdated;
  *out = slot_read(&t->reader, x->now);
  if (*out == NULL && ctx->place != SECRET_TO_SERVER && t->open) return had_one ? ERR_TOKEN_EXPIRED : ERR_TOKEN_MISSING;
  if (*out != NULL && is_open(ctx, t->open, &(*out)->bond)) return 0;
  if (!ctx->any_target && (t->audience == NULL || !may_receive(ctx, t->audience))) return ERR_TOKEN_AUDIENCE;
  bool there = *out != NULL;
  *out = token_for(&t->reader, t->audience, ctx, x->now, &outdated);
  if (*out != NULL) return 0;
  if (there && !outdated) return ERR_TOKEN_AUDIENCE;
  return had_one ? ERR_TOKEN_EXPIRED : ERR_TOKEN_MISSING;
}

static int expand_token(struct secret_token_node *t, struct expansion *x, struct stage *to) {
  struct token *token;
  if (x->now < 0) x->now = x->ctx->clock != NULL ? x->ctx->clock() : clock_boot_ms();
  int found = find_token(t, x, &token);
  if (found != 0) return found;
  assert(x->now < token->expires_at);
  note_end(x->ctx, token->expires_at);
  if (x->ctx->bond != NULL) {
    token_bond_narrow(x->ctx->bond, t->audience, !t->open);
    token_bond_narrow(x->ctx->bond, token->bond.audience, token->bond.sealed);
  }
  struct str bytes = token_bytes(token, t->field);
  if (bytes.p == NULL) return ERR_TOKEN_MISSING;
  int rc = note_used(x->ctx, t->reader.slot, token->generation);
  if (rc == 0 && x->ctx->taint != NULL) {
    secret_taint_token(x->ctx->taint, t, token);
    rc = secret_taint_use(x->ctx->taint, t->reader.slot, token->generation);
  }
  return rc == 0 ? put_secret(x, to, bytes) : rc;
}

/* Bytes of a token: a server gets them unless `audience` says otherwise, any other place as it gets the token. */
static bool may_have_stored(const struct secret_stored_node *b, const struct secret_context *ctx) {
  if (ctx->any_target) return true;
  if (ctx->place == SECRET_TO_SERVER) return b->audience == NULL || may_receive(ctx, b->audience);
  if (!b->of_token) return true;
  return !b->bond.sealed || (b->bond.audience != NULL && may_receive(ctx, b->bond.audience));
}

static int expand_stored(const struct secret_stored_node *b, struct expansion *x, struct stage *to) {
  if (!may_have_stored(b, x->ctx)) return ERR_TOKEN_AUDIENCE;
  if (b->of_token && x->ctx->bond != NULL && (b->owner == NULL || b->owner != x->ctx->owner))
    token_bond_narrow(x->ctx->bond, b->bond.audience, b->bond.sealed);
  if (x->ctx->taint != NULL) secret_taint_stored(x->ctx->taint, b);
  return put_secret(x, to, b->bytes);
}

static bool may_have_computed(const struct secret_taint *from, const struct secret_context *ctx) {
  if (ctx->any_target) return true;
  if (ctx->place == SECRET_TO_SERVER) return from->audience == NULL || may_receive(ctx, from->audience);
  if (!from->bond.sealed) return true;
  return from->bond.audience != NULL && may_receive(ctx, from->bond.audience);
}

/* In the order of a token's checks. It is no younger than the tokens in it: one of them may have ended, or been refused, since. */
static int expand_computed(const struct secret_computed_node *c, struct expansion *x, struct stage *to) {
  const struct secret_taint *from = &c->from;
  struct secret_context *ctx = x->ctx;
  if (x->now < 0) x->now = ctx->clock != NULL ? ctx->clock() : clock_boot_ms();
  if (!may_have_computed(from, ctx)) return ERR_TOKEN_AUDIENCE;
  if (from->ends_at != 0 && (ctx->ends_at == 0 || from->ends_at < ctx->ends_at)) ctx->ends_at = from->ends_at;
  if (secret_taint_over(from, x->now)) return ERR_TOKEN_EXPIRED;
  if (from->of_token && ctx->bond != NULL) token_bond_narrow(ctx->bond, from->bond.audience, from->bond.sealed);
  int rc = ctx->taint != NULL ? secret_taint_computed(ctx->taint, from) : 0;
  for (unsigned i = 0; i < from->nuses && rc == 0; i++)
    rc = note_used(ctx, from->uses[i].slot, from->uses[i].generation);
  return rc == 0 ? put_secret(x, to, c->bytes) : rc;
}

static int expand_source(const struct secret_source_node *source, struct expansion *x, struct stage *to) {
  struct str bytes = {NULL, 0};
  int rc = source->ops->read(source->data, &bytes);
  if (rc == 0) rc = put_secret(x, to, bytes);
  if (source->ops->done != NULL) source->ops->done(source->data);
  return rc;
}

static int expand_row(const struct secret_row *row, struct expansion *x, struct stage *to) {
  int rc = 0;
  for (unsigned i = 0; i < row->n && rc == 0; i++) {
    const struct secret_piece *p = &row->v[i];
    rc = p->of != NULL ? expand(p->of, x, to) : to->put(to, p->text.p, p->text.n);
  }
  return rc;
}

static int expand_encoded(const struct secret_encoded_node *e, struct expansion *x, struct stage *to) {
  static unsigned (*const escapes[])(unsigned char c, char out[ESCAPE_MAX]) = {[SECRET_FORM] = percent_escape_form_byte,
                                                                               [SECRET_JSON] = json_escape_byte,
                                                                               [SECRET_HEX] = escape_hex,
                                                                               [SECRET_URL] = percent_escape_byte};
  if (e->encoding == SECRET_COOKIE) {
    struct cookie_stage cookie = {{put_cookie}, to};
    return expand(e->of, x, &cookie.stage);
  }
  if (e->encoding != SECRET_BASE64 && e->encoding != SECRET_BASE64URL) {
    struct escape_stage escape = {{put_escaped}, to, escapes[e->encoding]};
    return expand(e->of, x, &escape.stage);
  }
  struct base64_stage base64 = {{put_base64}, to, e->encoding == SECRET_BASE64 ? BASE64_PADDED : BASE64_URL, 0, {0}};
  int rc = expand(e->of, x, &base64.stage);
  if (rc == 0) rc = finish_base64(&base64);
  secmem_wipe(&base64, sizeof base64);
  return rc;
}

static int expand(struct secret *s, struct expansion *x, struct stage *to) {
  switch ((enum secret_kind)s->kind) {
    case SECRET_ROW: return expand_row(&s->u.row, x, to);
    case SECRET_STORED: return expand_stored(&s->u.stored, x, to);
    case SECRET_SOURCE: return expand_source(&s->u.source, x, to);
    case SECRET_TOKEN: return expand_token(&s->u.token, x, to);
    case SECRET_ENCODED: return expand_encoded(&s->u.encoded, x, to);
    case SECRET_COMPUTED: return expand_computed(s->u.computed, x, to);
  }
  assert(false);
  return ERR_TOKEN_MISSING;
}

/* A value with CR, LF or NUL would end the field, or the head: a request of somebody else's making could follow. Any other control byte, DEL
 * included, makes the head invalid (RFC 9110 section 5.5), and its receiver may refuse it or read it in a way of its own. */
static bool fits_a_header(const uint8_t *p, size_t n) { return chars_span(p, n, 0, CHAR_VALUE) == n; }

int secret_expand(struct secret *s, struct secret_context *ctx, struct buf *out) {
  assert(out->sensitive);
  size_t start = out->n;
  unsigned used = ctx->nused;
  struct expansion x = {ctx, -1};
  struct buf_stage to = {{put_buf}, out, SECRET_BYTES_MAX};
  int rc = expand(s, &x, &to.stage);
  if (rc == 0 && ctx->header_safe && out->n > start && !fits_a_header(out->p + start, out->n - start))
    rc = ERR_SECRET_BYTES;
  if (rc != 0) {
    if (out->n > start) secmem_wipe(out->p + start, out->n - start);
    out->n = start;
    ctx->nused = used;
  }
  return rc;
}

bool secret_head_again(struct secret_head *h, int rc) {
  if (rc == 0) return false;
  secmem_wipe(h->out->p + h->before, h->out->n - h->before);
  h->out->n = h->before;
  if (h->ctx != NULL) h->ctx->nused = h->nused;
  bool again = rc == ERR_TOKEN_EXPIRED && !h->second;
  h->second = true;
  return again;
}
