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

enum { TOKEN_FIELDS_MAX = 16, TOKEN_BYTES_MAX = 64 * 1024 /* value, names and fields together */ };

struct token_field {
  struct str name, bytes;
};
struct token {
  atomic_uint refs; /* the last release (acq_rel) wipes and frees, on any thread */
  /* immutable once published */
  uint64_t generation; /* counts up per slot, from 1 */
  int64_t obtained_at; /* CLOCK_BOOTTIME ms when its fetch was sent */
  int64_t expires_at;  /* CLOCK_BOOTTIME ms, leeway already taken off */
  int64_t renew_by; /* the same, or sooner: what its refresh needs ends then. For the schedule; the token serves on */
  size_t size;      /* of the whole allocation */
  struct str value;
  unsigned nfields;
  struct token_field fields[];
};

/* Copies; one reference. NULL when over the maxima. The numbers are zero: the publisher sets them before it publishes. */
struct token *token_new(struct str value, const struct token_field *fields, unsigned nfields);
struct token *token_ref(struct token *t);
void token_unref(struct token *t); /* NULL is fine */
/* The value (name.p == NULL) or a field; .p NULL when there is no such field. */
struct str token_bytes(const struct token *t, struct str name);

#endif
