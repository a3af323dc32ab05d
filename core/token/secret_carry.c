/* secret_carry.c: a secret that goes to another thread, in a message.
 *
 * Text, bytes that are stored or were computed, and encodings of them never change, so any thread may share them. A token's node holds the reader of the thread that expands it: the
 * copy gets its own. A source (a file, a command) is read on its thread, with handles on that thread's loop: its bytes of now go instead, from secret memory
 * to secret memory. Invariant: nothing that *out leads to is reached by s, unless it is immutable. The thread that owns s. */
#include "base/err.h"
#include "token/secret_internal.h"

static bool is_bound(const struct secret *s) {
  switch ((enum secret_kind)s->kind) {
    case SECRET_ROW:
      for (unsigned i = 0; i < s->u.row.n; i++) {
        const struct secret *of = s->u.row.v[i].of;
        if (of != NULL && is_bound(of)) return true;
      }
      return false;
    case SECRET_STORED:
    case SECRET_COMPUTED: return false;
    case SECRET_SOURCE:
    case SECRET_TOKEN: return true;
    case SECRET_ENCODED: return is_bound(s->u.encoded.of);
  }
  return true;
}

/* Takes over what `made` is: NULL is over the bounds. */
static int give(struct secret *made, struct secret **out) {
  *out = made;
  return made != NULL ? 0 : ERR_LIMIT;
}

static int carry_source(const struct secret_source_node *source, struct secret **out) {
  struct str bytes = {NULL, 0};
  int rc = source->ops->read(source->data, &bytes);
  if (rc == 0) rc = give(secret_bytes(bytes, source->label, NULL), out);
  if (source->ops->done != NULL) source->ops->done(source->data);
  return rc;
}

static int carry_encoded(const struct secret_encoded_node *e, struct secret **out) {
  struct secret *of;
  int rc = secret_carry(e->of, &of);
  if (rc != 0) return rc;
  rc = give(secret_encode(of, e->encoding), out);
  secret_unref(of);
  return rc;
}

/* *row = *row .. piece. */
static int append(struct secret **row, const struct secret_piece *piece) {
  struct secret *carried = NULL, *longer;
  if (piece->of != NULL) {
    int rc = secret_carry(piece->of, &carried);
    if (rc != 0) return rc;
    longer = secret_join(*row, carried);
    secret_unref(carried);
  } else {
    longer = secret_join_text(*row, piece->text, false);
  }
  if (longer == NULL) return ERR_LIMIT;
  secret_unref(*row);
  *row = longer;
  return 0;
}

static int carry_row(const struct secret_row *row, struct secret **out) {
  struct secret *made;
  int rc = row->v[0].of != NULL ? secret_carry(row->v[0].of, &made) : give(secret_literal(row->v[0].text), &made);
  if (rc != 0) return rc;
  for (unsigned i = 1; i < row->n && rc == 0; i++) rc = append(&made, &row->v[i]);
  if (rc == 0)
    *out = made;
  else
    secret_unref(made);
  return rc;
}

int secret_carry(struct secret *s, struct secret **out) {
  *out = NULL;
  if (!is_bound(s)) return give(secret_ref(s), out);
  switch ((enum secret_kind)s->kind) {
    case SECRET_ROW: return carry_row(&s->u.row, out);
    case SECRET_SOURCE: return carry_source(&s->u.source, out);
    case SECRET_TOKEN: {
      const struct secret_token_node *t = &s->u.token;
      return give((t->open ? secret_token_open : secret_token)(t->reader.slot, t->field, t->audience, (int)t->missing),
                  out);
    }
    case SECRET_ENCODED: return carry_encoded(&s->u.encoded, out);
    case SECRET_STORED:
    case SECRET_COMPUTED: break;
  }
  return ERR_LIMIT;
}
