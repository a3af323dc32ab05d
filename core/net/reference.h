/* reference.h: URI references (RFC 3986): their five parts, and where a relative one leads. Text alone: whether a host or a path is one that jeton would ask for is
 * net/url.h's question. Pure; any thread. */
#ifndef JETON_NET_REFERENCE_H
#define JETON_NET_REFERENCE_H

#include <stddef.h>

#include "base/str.h"

struct reference { /* slices; .p NULL: that part is not there. A path always is, and may be empty */
  struct str scheme, authority, path, query, fragment;
};
void reference_split(struct str s, struct reference *out); /* any text has these parts (appendix B) */
/* Section 5.2.2, for a base that has a scheme: into `out`, which has room for base.n + to.n + REFERENCE_MORE. Returns the length. */
enum { REFERENCE_MORE = 2 };
size_t reference_join(struct str base, struct str to, char *out);
/* Section 5.2.4, on a path that begins with "/", in place. Returns the new length, which is not greater. */
size_t reference_remove_dots(char *path, size_t n);

#endif
