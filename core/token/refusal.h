/* refusal.h: a reply that refused a token: what the fetch that follows sees of it. Immutable, refcounted; any thread. */
#ifndef JETON_TOKEN_REFUSAL_H
#define JETON_TOKEN_REFUSAL_H

#include <stdatomic.h>

#include "base/str.h"

enum { REFUSAL_BYTES_MAX = 8 * 1024 /* of names and values: a field that does not fit any more is left out */ };

struct refusal {
  atomic_uint refs;
  int status;
  unsigned n;          /* of fields */
  struct str fields[]; /* name, value, name, … in their order; the bytes are behind them */
};
/* A copy, one reference. fields: n of them, each a name and a value. */
struct refusal *refusal_new(int status, const struct str *fields, unsigned n);
struct refusal *refusal_ref(struct refusal *r);
void refusal_unref(struct refusal *r); /* NULL is fine */

#endif
