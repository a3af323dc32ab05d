/* path.h: where a value stands in a policy's table, and how names and values are shown in messages. */
#ifndef JETON_POLICY_PATH_H
#define JETON_POLICY_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"

/* One step, on the stack of the function that reads the table; NULL is the table itself. */
struct path {
  const struct path *parent;
  struct str key; /* .p NULL: a place in a list */
  size_t index;   /* from 1 */
};

enum { SHOWN_MAX = 60 }; /* bytes of a value or key that a message shows */

/* "tokens.api.hosts[2]", "upstreams[\"a b\"].tls"; "" for NULL. */
struct str path_text(struct arena *a, const struct path *at);
/* In double quotes, control bytes and quotes escaped, cut at SHOWN_MAX bytes. */
struct str path_quote(struct arena *a, struct str s);
bool path_is_name(struct str s); /* [A-Za-z_][A-Za-z0-9_]* */

#endif
