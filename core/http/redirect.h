/* redirect.h: where a Location leads (RFC 9110 section 10.2.2, RFC 3986 section 5.2). Pure. */
#ifndef JETON_HTTP_REDIRECT_H
#define JETON_HTTP_REDIRECT_H

#include <stdbool.h>

#include "base/arena.h"
#include "net/url.h"

bool http_is_redirect(int status); /* 301, 302, 303, 307, 308 */
/* Resolves location against base; text in the arena. NULL, or a sentence that says what is wrong. */
const char *http_resolve(struct arena *a, const struct url *base, struct str location, struct url *out);
bool http_same_origin(const struct url *a, const struct url *b);
/* Another method for the next request: GET for 303, and as every client does for a POST answered 301 or 302. */
struct str http_redirect_method(int status, struct str method);

#endif
