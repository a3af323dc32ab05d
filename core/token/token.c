/* token.c: tokens as one block of secret memory each: the struct, then the bytes that its slices point at.
 *
 * One allocation, so that one wipe catches all: the bytes, and where they were. Any thread; the count of references is the
 * only field that changes after the token is published. */
#include "token/token.h"

#include <assert.h>
#include <string.h>

#include "base/secmem.h"

/* Copies s to *at and moves *at behind it. */
static struct str place(char **at, struct str s) {
  struct str copy = {*at, s.n};
  if (s.n > 0) memcpy(*at, s.p, s.n);
  *at += s.n;
  return copy;
}

/* Bytes of everything, or SIZE_MAX when that is more than a token may hold. Each part is judged alone first: no overflow. */
static size_t total_bytes(struct str value, const struct token_field *fields, unsigned nfields) {
  if (value.n > TOKEN_BYTES_MAX) return SIZE_MAX;
  size_t total = value.n;
  for (unsigned i = 0; i < nfields; i++) {
    if (fields[i].name.n > TOKEN_BYTES_MAX || fields[i].bytes.n > TOKEN_BYTES_MAX) return SIZE_MAX;
    total += fields[i].name.n + fields[i].bytes.n;
  }
  return total <= TOKEN_BYTES_MAX ? total : SIZE_MAX;
}

struct token *token_new(struct str value, const struct token_field *fields, unsigned nfields) {
  if (nfields > TOKEN_FIELDS_MAX) return NULL;
  size_t bytes = total_bytes(value, fields, nfields);
  if (bytes == SIZE_MAX) return NULL;

  size_t head = sizeof(struct token) + nfields * sizeof(struct token_field);
  struct token *t = secmem_alloc(head + bytes);
  atomic_init(&t->refs, 1);
  t->size = head + bytes;
  t->nfields = nfields;
  char *at = (char *)t + head;
  t->value = place(&at, value);
  for (unsigned i = 0; i < nfields; i++) {
    t->fields[i].name = place(&at, fields[i].name);
    t->fields[i].bytes = place(&at, fields[i].bytes);
  }
  return t;
}

/* Relaxed: the caller has a reference already, or holds the slot's mutex; neither needs an order from here. */
struct token *token_ref(struct token *t) {
  unsigned before = atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
  assert(before > 0);
  (void)before;
  return t;
}

void token_bond_copy(struct token_bond *to, const struct token_bond *from) {
  *to = *from;
  if (to->audience != NULL) audience_ref(to->audience);
}

void token_bond_fini(struct token_bond *b) {
  audience_unref(b->audience);
  b->audience = NULL;
}

bool token_bond_same(const struct token_bond *a, const struct token_bond *b) {
  return token_bond_made_alike(a, b) && a->sealed == b->sealed && audience_same(a->audience, b->audience);
}

void token_bond_narrow(struct token_bond *b, struct audience *audience, bool sealed) {
  struct audience *both = audience_both(b->audience, audience);
  audience_unref(b->audience);
  b->audience = both;
  if (sealed) b->sealed = true;
}

/* Release so that every holder's reads come before the wipe, acquire so that the wiper sees that they did. */
void token_unref(struct token *t) {
  if (t == NULL) return;
  unsigned before = atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel);
  assert(before > 0);
  if (before > 1) return;
  token_bond_fini(&t->bond);
  audience_unref(t->asked);
  secmem_free(t, t->size); /* which wipes */
}

struct str token_bytes(const struct token *t, struct str name) {
  if (name.p == NULL) return t->value;
  for (unsigned i = 0; i < t->nfields; i++) {
    if (str_eq(t->fields[i].name, name)) return t->fields[i].bytes;
  }
  return (struct str){NULL, 0};
}
