/* mask.h: finds in a text the secrets that this thread has sent somewhere, and puts *** in their place: what an issuer says of a failure may repeat them.
 *
 * A mask knows its secrets by fingerprints only, so it holds no byte of them, and may outlive them. One belongs to a thread; it is made when it is first asked
 * for. */
#ifndef JETON_BASE_MASK_H
#define JETON_BASE_MASK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"

struct mask;
struct mask *mask_of_thread(void);
void mask_end_thread(void); /* gives this thread's mask back, if it has one */

struct mask *mask_new(void);
void mask_free(struct mask *m);
/* From now on the value is found: as it is, form-encoded, in hex, in base64 and base64url, alone or within something longer (the pair of Basic), and under escapes of
 * percent-encoding, JSON, C and HTML, up to four layers of them. The
 * MASK_VALUES added last, at least, are known. One of less than four bytes is not: it would be found in any text. */
enum { MASK_VALUES = 128 };
void mask_add(struct mask *m, struct str value);
/* Appends text to out, *** in place of each such value and of a longer value's beginning where it was cut. False, and out untouched: there is none. */
bool mask_apply(const struct mask *m, struct str text, struct buf *out);
/* mask_apply in place with the thread's own mask: of a text in a buffer of that size. */
void mask_text(char *text, size_t size);
bool mask_is_empty(void); /* of this thread */

#endif
