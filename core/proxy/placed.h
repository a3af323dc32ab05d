/* placed.h: secrets that a request carries in other places than a header of their own: parameters of its query, cookies among the client's, the body.
 *
 * What the client sent stays in exchange->request, which is what logs and hooks show; what is placed stands beside it and is written in its stead, with the head,
 * under the head's checks (audience, end, generation). The worker's thread. */
#ifndef JETON_PROXY_PLACED_H
#define JETON_PROXY_PLACED_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/str.h"
#include "token/secret.h"

struct exchange;
struct headers;
struct request;

struct placed_item {
  struct placed_item *next;
  struct str name;       /* as the server reads it */
  struct secret *secret; /* of a cookie: NULL where `text` is its value */
  struct str text;
};
/* In the exchange's arena, as is all that it leads to. It never changes: each function that places a secret makes another, so what a try does is gone with its pointer. */
struct placed {
  struct placed_item *query, *cookies; /* in the order in which they were placed, each name once */
  /* the Cookie field that the cookies are in: what it had before, and what it has now; made NULL: there is none */
  struct str cookie_text;
  struct secret *cookie_secret, *cookie_made;
};

/* Where: in the request itself, or in what goes out in this try (try.h). */
struct placed_in {
  struct arena *arena;
  struct request *request;
  struct placed **placed;
};
struct placed_in placed_of_request(struct exchange *ex);
struct placed_in placed_of_try(struct exchange *ex); /* the same where there is none */

/* A parameter of that name goes out with this value, behind all others, and none of the client's does. NULL: it is placed no more. False: that is more than a
 * secret may hold (secret.h), and the request cannot go out. */
bool placed_query_set(struct placed_in in, struct str name, struct secret *secret);
/* The same of a cookie; text.p: a value that is no secret. Both NULL: none goes out, of the client's neither. */
bool placed_cookie_set(struct placed_in in, struct str name, struct secret *secret, struct str text);
/* The query that goes out, or NULL: it is request.query. Borrowed: as long as the exchange. */
struct secret *placed_query(struct placed_in in);

/* Every secret of what goes out, wherever it stands; stops at and returns what fn returns when that is not 0. */
int placed_each_secret(struct exchange *ex, int (*fn)(void *arg, struct secret *s), void *arg);
static inline bool placed_any(const struct placed *p) { return p != NULL && (p->query != NULL || p->cookies != NULL); }
/* A server that redirects, or pages, likes to repeat the query that it was asked with: the parameters that were placed are taken out of the URLs in its head,
 * and out of those that are parameters of one. hs: of the reply, or of an interim one. */
void placed_hide(struct exchange *ex, struct headers *hs);

/* The query without the parameters of that name, whichever way that is encoded; .p NULL: nothing is left. The same slice where there were none. */
struct str query_without(struct arena *a, struct str query, struct str name);
/* The value of a Cookie field without the cookies of that name. */
struct str cookies_without(struct arena *a, struct str cookies, struct str name);

#endif
