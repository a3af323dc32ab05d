/* secret.c: making, sharing and describing secrets; turning them into bytes is in secret_expand.c.
 *
 * "Bearer " .. token is made once a request, so a join is one small allocation with its texts inside, and joining joins copies rows instead of building
 * trees. A free list per thread was considered and not built: malloc's own is per thread already, and the test prints its cost. Any thread: nodes are
 * immutable, their counts atomic. */
#include "token/secret.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/secmem.h"
#include "token/secret_internal.h"

struct secret *secret_node_new(enum secret_kind kind, size_t extra) {
  struct secret *s = must_malloc(sizeof *s + extra);
  atomic_init(&s->refs, 1);
  s->kind = (uint8_t)kind;
  s->depth = 0;
  s->parts = 1;
  s->size = 0;
  return s;
}

size_t secret_size(const struct secret *s) { return s->size; }

struct secret *secret_ref(struct secret *s) {
  atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
  return s;
}

static void node_free(struct secret *s) {
  switch ((enum secret_kind)s->kind) {
    case SECRET_ROW:
      for (unsigned i = 0; i < s->u.row.n; i++) secret_unref(s->u.row.v[i].of);
      break;
    case SECRET_STORED:
      secmem_free(s->u.stored.bytes.p, s->u.stored.bytes.n);
      free(s->u.stored.label);
      audience_unref(s->u.stored.audience);
      token_bond_fini(&s->u.stored.bond);
      break;
    case SECRET_SOURCE:
      s->u.source.ops->free(s->u.source.data);
      free(s->u.source.label);
      break;
    case SECRET_TOKEN:
      slot_reader_fini(&s->u.token.reader);
      audience_unref(s->u.token.audience);
      break;
    case SECRET_ENCODED: secret_unref(s->u.encoded.of); break;
    case SECRET_COMPUTED: secret_computed_free(s->u.computed); break;
  }
  free(s);
}

void secret_unref(struct secret *s) {
  if (s == NULL) return;
  unsigned before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
  assert(before > 0);
  if (before == 1) node_free(s);
}

/* --- rows --- */

/* The pieces that s is made of: its own, or itself as the only one, in *self. */
static const struct secret_piece *pieces_of(struct secret *s, struct secret_piece *self, unsigned *n) {
  if (s->kind == SECRET_ROW) {
    *n = s->u.row.n;
    return s->u.row.v;
  }
  *self = (struct secret_piece){s, {NULL, 0}};
  *n = 1;
  return self;
}

struct sums { /* of a row to be made */
  size_t text, size;
  unsigned parts, depth;
};

static void sum_pieces(struct sums *sum, const struct secret_piece *v, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    const struct secret *of = v[i].of;
    sum->text += v[i].text.n;
    sum->size += of != NULL ? of->size : v[i].text.n;
    sum->parts += of != NULL ? of->parts : 1;
    if (of != NULL && of->depth > sum->depth) sum->depth = of->depth;
  }
}

static void copy_pieces(struct secret_row *row, char **text, const struct secret_piece *v, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    struct secret_piece *to = &row->v[row->n++];
    to->of = v[i].of != NULL ? secret_ref(v[i].of) : NULL;
    to->text = (struct str){*text, v[i].text.n};
    if (v[i].text.n > 0) memcpy(*text, v[i].text.p, v[i].text.n);
    *text += v[i].text.n;
  }
}

static struct secret *row_new(const struct secret_piece *a, unsigned na, const struct secret_piece *b, unsigned nb) {
  struct sums sum = {0};
  sum_pieces(&sum, a, na);
  sum_pieces(&sum, b, nb);
  if (sum.parts > SECRET_PARTS_MAX || sum.size > SECRET_BYTES_MAX) return NULL;
  size_t table = (na + nb) * sizeof(struct secret_piece);
  struct secret *s = secret_node_new(SECRET_ROW, table + sum.text);
  s->depth = (uint8_t)sum.depth;
  s->parts = (uint16_t)sum.parts;
  s->size = (uint32_t)sum.size;
  s->u.row.n = 0;
  s->u.row.v = (struct secret_piece *)(void *)(s + 1);
  char *text = (char *)(s + 1) + table;
  copy_pieces(&s->u.row, &text, a, na);
  copy_pieces(&s->u.row, &text, b, nb);
  return s;
}

struct secret *secret_literal(struct str text) {
  struct secret_piece piece = {NULL, text};
  return row_new(&piece, 1, NULL, 0);
}

struct secret *secret_join(struct secret *a, struct secret *b) {
  if (a == NULL || b == NULL) return NULL;
  struct secret_piece self_a, self_b;
  unsigned na, nb;
  const struct secret_piece *va = pieces_of(a, &self_a, &na), *vb = pieces_of(b, &self_b, &nb);
  return row_new(va, na, vb, nb);
}

struct secret *secret_join_text(struct secret *s, struct str text, bool text_first) {
  if (s == NULL) return NULL;
  struct secret_piece self, piece = {NULL, text};
  unsigned n;
  const struct secret_piece *v = pieces_of(s, &self, &n);
  return text_first ? row_new(&piece, 1, v, n) : row_new(v, n, &piece, 1);
}

/* --- the other kinds --- */

struct secret *secret_bytes(struct str bytes, const char *label, struct audience *a) {
  if (bytes.n > SECRET_BYTES_MAX) return NULL;
  struct secret *s = secret_node_new(SECRET_STORED, 0);
  s->size = (uint32_t)bytes.n;
  char *copy = NULL;
  if (bytes.n > 0) {
    copy = secmem_alloc(bytes.n);
    memcpy(copy, bytes.p, bytes.n);
  }
  s->u.stored = (struct secret_stored_node){.bytes = {copy, bytes.n},
                                            .label = must_strdup(label != NULL ? label : "secret"),
                                            .audience = a != NULL ? audience_ref(a) : NULL};
  return s;
}

struct secret *secret_bytes_of_token(struct str bytes, const char *label, struct audience *servers,
                                     const struct token_bond *bond, const void *owner) {
  struct secret *s = secret_bytes(bytes, label, servers);
  if (s == NULL) return NULL;
  s->u.stored.of_token = true;
  token_bond_copy(&s->u.stored.bond, bond);
  s->u.stored.owner = owner;
  return s;
}

struct secret *secret_source(const struct secret_source_ops *ops, void *data, const char *label) {
  struct secret *s = secret_node_new(SECRET_SOURCE, 0);
  s->u.source = (struct secret_source_node){ops, data, must_strdup(label)};
  return s;
}

struct secret *secret_token(struct slot *slot, struct str field, struct audience *a, int missing_policy) {
  struct secret *s = secret_node_new(SECRET_TOKEN, field.n);
  struct secret_token_node *t = &s->u.token;
  slot_reader_init(&t->reader, slot);
  t->field = (struct str){NULL, 0};
  if (field.p != NULL) {
    if (field.n > 0) memcpy(s + 1, field.p, field.n);
    t->field = (struct str){(char *)(s + 1), field.n};
  }
  t->audience = a != NULL ? audience_ref(a) : NULL;
  t->missing = (enum token_missing)missing_policy;
  t->open = false;
  return s;
}

struct secret *secret_token_open(struct slot *slot, struct str field, struct audience *a, int missing_policy) {
  struct secret *s = secret_token(slot, field, a, missing_policy);
  s->u.token.open = true;
  return s;
}

struct secret *secret_encode(struct secret *of, enum secret_encoding e) {
  if (of == NULL || of->depth >= SECRET_DEPTH_MAX) return NULL;
  struct secret *s = secret_node_new(SECRET_ENCODED, 0);
  s->depth = (uint8_t)(of->depth + 1);
  s->parts = of->parts;
  s->size = of->size;
  s->u.encoded = (struct secret_encoded_node){secret_ref(of), e};
  return s;
}

/* --- describing it without its bytes --- */

static void describe_text(struct str text, struct buf *out) {
  for (size_t i = 0; i < text.n; i++) {
    unsigned char c = (unsigned char)text.p[i];
    buf_add(out, c < ' ' || c == 0x7f ? "?" : (const char *)&text.p[i], 1);
  }
}

static void describe_token(const struct secret_token_node *t, struct buf *out) {
  buf_addf(out, "<token %s", slot_name(t->reader.slot));
  if (t->field.p != NULL) {
    buf_addz(out, ".");
    describe_text(t->field, out);
  }
  buf_addz(out, ">");
}

static void describe_encoded(const struct secret_encoded_node *e, struct buf *out) {
  static const char *const names[] = {"base64", "base64url", "form", "json", "hex", "url", "cookie"};
  buf_addf(out, "%s(", names[e->encoding]);
  secret_describe(e->of, out);
  buf_addz(out, ")");
}

void secret_describe(const struct secret *s, struct buf *out) {
  switch ((enum secret_kind)s->kind) {
    case SECRET_ROW:
      for (unsigned i = 0; i < s->u.row.n; i++) {
        const struct secret_piece *p = &s->u.row.v[i];
        if (p->of != NULL)
          secret_describe(p->of, out);
        else
          describe_text(p->text, out);
      }
      break;
    case SECRET_STORED: buf_addf(out, "<secret %s>", s->u.stored.label); break;
    case SECRET_SOURCE: buf_addf(out, "<secret %s>", s->u.source.label); break;
    case SECRET_TOKEN: describe_token(&s->u.token, out); break;
    case SECRET_ENCODED: describe_encoded(&s->u.encoded, out); break;
    case SECRET_COMPUTED: buf_addf(out, "<secret %s>", s->u.computed->label); break;
  }
}

int secret_each_token(struct secret *s, int (*fn)(void *arg, const struct secret_token_view *t), void *arg) {
  int rc = 0;
  if (s->kind == SECRET_ROW) {
    for (unsigned i = 0; i < s->u.row.n && rc == 0; i++) {
      if (s->u.row.v[i].of != NULL) rc = secret_each_token(s->u.row.v[i].of, fn, arg);
    }
  } else if (s->kind == SECRET_ENCODED) {
    rc = secret_each_token(s->u.encoded.of, fn, arg);
  } else if (s->kind == SECRET_TOKEN) {
    struct secret_token_view view = {&s->u.token.reader, s->u.token.audience, s->u.token.missing, s->u.token.field};
    rc = fn(arg, &view);
  }
  return rc;
}

void secret_note_provenance(const struct secret *s, struct provenance **to) {
  if (s->kind == SECRET_ROW) {
    for (unsigned i = 0; i < s->u.row.n; i++)
      if (s->u.row.v[i].of != NULL) secret_note_provenance(s->u.row.v[i].of, to);
  } else if (s->kind == SECRET_ENCODED) {
    secret_note_provenance(s->u.encoded.of, to);
  } else if (s->kind == SECRET_SOURCE && s->u.source.ops->note != NULL) {
    s->u.source.ops->note(s->u.source.data, to);
  }
}

static int set_home(void *arg, const struct secret_token_view *t) {
  if (t->reader->home == NULL) slot_reader_at_home(t->reader, arg);
  return 0;
}

void secret_at_home(struct secret *s, struct mailbox *home) { (void)secret_each_token(s, set_home, home); }
