/* secret.h: an opaque value that a script can hold, join and hand on, but not read.
 *
 * A secret is an immutable, refcounted tree: literal text, a token of a slot, bytes from a file, variable or command, joins of these, and encodings
 * of them (base64, percent-encoding, JSON string). It becomes bytes only in secret_expand, which is called while a request is
 * serialised: there the token's expiry is checked on CLOCK_BOOTTIME and the audience against scheme, host and port of the target.
 * References may be taken in any thread; expanding happens in one (readers belong to the VM that made them). */
#ifndef JETON_TOKEN_SECRET_H
#define JETON_TOKEN_SECRET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "token/slot.h"

struct secret;

/* Who may receive a secret: scheme, host and port. Refcounted, immutable. An empty one allows nobody. */
struct audience;
struct audience *audience_new(void);
void audience_add(struct audience *a, bool tls, struct str host, uint16_t port); /* host lower-cased; only before it is shared */
/* host without port or scheme: "api.example.com" allows https on 443 and, as given by an upstream of the policy, its port and scheme; see audience_add_host */
void audience_add_host(struct audience *a, struct str host_and_port); /* "h": https on any port; "h:p": https on that port; "http://h[:p]": plain */
bool audience_allows(const struct audience *a, bool tls, struct str host, uint16_t port);
struct audience *audience_ref(struct audience *a);
void audience_unref(struct audience *a);

struct secret *secret_literal(struct str text);                    /* copies */
struct secret *secret_bytes(struct str bytes, const char *label, struct audience *a); /* copies into secret memory; label for tostring. audience NULL: any */
/* The reader (and the slot, audience behind it) is kept alive by the secret. field.p NULL: the value. */
struct secret *secret_token(struct slot *s, struct str field, struct audience *a, int missing_policy);
struct secret *secret_join(struct secret *a, struct secret *b);    /* takes its own references */
enum secret_encoding { SECRET_BASE64, SECRET_BASE64URL, SECRET_FORM /* application/x-www-form-urlencoded */, SECRET_JSON /* without quotes */ };
struct secret *secret_encode(struct secret *s, enum secret_encoding e);
struct secret *secret_ref(struct secret *s);
void secret_unref(struct secret *s);
/* "Bearer <token api>": what tostring shows. */
void secret_describe(const struct secret *s, struct buf *out);

/* Every token in it, in order; stops and returns fn's value when that is not 0. */
enum token_missing { MISSING_WAIT, MISSING_FAIL, MISSING_PASS };
struct secret_token_view {
  struct slot_reader *reader;
  const struct audience *audience;
  enum token_missing missing;
};
int secret_each_token(struct secret *s, int (*fn)(void *arg, const struct secret_token_view *t), void *arg);

enum { SECRET_USED_MAX = 8 };
struct secret_context {
  /* the target */
  bool tls;
  struct str host;
  uint16_t port;
  bool any_target;  /* crypto keys and other uses inside the process: audience is not asked */
  bool header_safe; /* refuse CR, LF, NUL (ERR_SECRET_BYTES) */
  /* what was expanded: for rejection by generation */
  struct { struct slot *slot; uint64_t generation; } used[SECRET_USED_MAX]; /* borrowed: alive as long as the secrets */
  unsigned nused;
};
/* Appends the bytes to out, which must be `sensitive`. Returns 0, ERR_TOKEN_MISSING, ERR_TOKEN_EXPIRED, ERR_TOKEN_AUDIENCE, ERR_SECRET_BYTES:
 * out is then as before, wiped behind. */
int secret_expand(struct secret *s, struct secret_context *ctx, struct buf *out);

#endif
