/* base64.h: base64 (RFC 4648), here and nowhere else but in the TLS libraries. Any thread. */
#ifndef JETON_BASE_BASE64_H
#define JETON_BASE_BASE64_H

#include <stddef.h>

#include "base/str.h"

enum base64_form {
  BASE64_PADDED, /* section 4: the standard alphabet, padded to groups of four with "=" */
  BASE64_URL     /* section 5: base64url, without padding, as JWS and PKCE write it */
};
enum { BASE64_GROUP = 3, BASE64_GROUP_TEXT = 4 }; /* so many bytes become so many characters */

/* Room for base64_encode of n bytes: four characters for every three bytes begun. n is at most SIZE_MAX / 2. */
size_t base64_room(size_t n);
/* Returns how many characters it has written. Bytes that come in pieces may be encoded piece by piece where all pieces but the last are a multiple of BASE64_GROUP long. */
size_t base64_encode(enum base64_form form, const void *bytes, size_t n, char *out);
/* Takes text with its padding or without, and refuses all else that is not canonical: other characters, white space, and left-over bits that are not zero
 * (section 3.5), so that texts differ in nothing but padding if they decode to the same bytes. out has room for 3 bytes for every 4 characters begun. NULL, or
 * what is wrong (static). */
const char *base64_decode(enum base64_form form, struct str text, char *out, size_t *made);

#endif
