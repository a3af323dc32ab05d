/* token.h: one published token: an immutable value with named extra fields and its expiry.
 *
 * Made by the keeper (or slot_set), shared by all threads, never changed after it is published. The last unref wipes it.
 * All bytes live in secret memory (base/secmem.h). */
#ifndef JETON_TOKEN_TOKEN_H
#define JETON_TOKEN_TOKEN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "token/audience.h"

enum { TOKEN_FIELDS_MAX = 16, TOKEN_BYTES_MAX = 64 * 1024 /* value, names and fields together */ };

/* What a value is bound to, whatever becomes of the policy. Embedded; audience is a reference of its holder's. */
struct token_bond {
  struct audience *audience; /* who may receive it at the most; NULL: no bound but the handle's */
  bool sealed;               /* made of a token that may not be revealed: so it may not be, either */
  uint64_t made_of[2];       /* digest of what its fetch is made of; zero: nothing is known */
  unsigned epoch;            /* of its slot: counts the times that any of this changed there */
};
void token_bond_copy(struct token_bond *to, const struct token_bond *from);   /* a reference of its own */
void token_bond_fini(struct token_bond *b);                                   /* zeroed is fine */
bool token_bond_same(const struct token_bond *a, const struct token_bond *b); /* but for the epoch */
static inline bool token_bond_made_alike(const struct token_bond *a, const struct token_bond *b) {
  return a->made_of[0] == b->made_of[0] && a->made_of[1] == b->made_of[1];
}
/* The narrowest of both: the audience is what both allow, and sealed is as strict as either. */
void token_bond_narrow(struct token_bond *b, struct audience *audience, bool sealed);

#define TOKEN_LASTS INT64_MAX

struct token_field {
  struct str name, bytes;
};
struct token {
  atomic_uint refs; /* the last release (acq_rel) wipes and frees, on any thread */
  /* immutable once published */
  uint64_t generation; /* counts up per slot, from 1 */
  int64_t obtained_at; /* CLOCK_BOOTTIME ms when its fetch was sent */
  int64_t expires_at;  /* CLOCK_BOOTTIME ms, leeway already taken off; TOKEN_LASTS: it does not end */
  int64_t renew_by; /* the same, or sooner: what its refresh needs ends then. For the schedule; the token serves on */
  struct token_bond bond;
  struct audience
      *asked;  /* the servers that its fetch sent requests to: a reference, or NULL: it was no fetch's, or asked none */
  size_t size; /* of the whole allocation */
  struct str value;
  unsigned nfields;
  struct token_field fields[];
};

/* Copies; one reference. NULL when over the maxima. The numbers, the bond and `asked` are zero: the publisher sets them before it publishes. */
struct token *token_new(struct str value, const struct token_field *fields, unsigned nfields);
struct token *token_ref(struct token *t);
void token_unref(struct token *t); /* NULL is fine */
/* The value (name.p == NULL) or a field; .p NULL when there is no such field. */
struct str token_bytes(const struct token *t, struct str name);

#endif
