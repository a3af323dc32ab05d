/* base_path.h: the path in an upstream's URL as a boundary: what clients ask for stays below it, and a Location that names the upstream is said as
 * its clients know it. Pure functions; any thread. */
#ifndef JETON_HTTP_BASE_PATH_H
#define JETON_HTTP_BASE_PATH_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/str.h"

/* Whether this path, put behind a base, leads out of it for some server: by dot segments (RFC 3986 section 5.2.4), plain or encoded, between
 * slashes, backslashes or their encodings. */
bool base_path_left(struct str path);

/* An upstream as its own links name it. */
struct base_path_server {
  bool tls;
  struct str authority; /* host[:port], as in Host */
  struct str base;      /* its URL's path: "" or begins with "/" */
};
/* What a client of the proxy asks for to get there, as a path with query and fragment, in the arena. .p NULL: the location is none below that base, or
 * says the same already. location: a Location's value (RFC 9110 section 10.2.2). */
struct str base_path_location(struct arena *a, struct str location, const struct base_path_server *server);

#endif
