/* shared.h: values by key that all threads of the process share: counters, flags, short texts. Bounded in bytes: the values used longest ago make room for new
 * ones. Any thread may call anything here.
 *
 * Times are CLOCK_BOOTTIME milliseconds that the caller gives: clocks that are set do not touch a value's life, and time spent suspended counts. */
#ifndef JETON_BASE_SHARED_H
#define JETON_BASE_SHARED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/named.h"
#include "base/str.h"

enum { SHARED_KEY_MAX = 256, SHARED_BYTES_MIN = 4096 };
#define SHARED_BYTES_MAX ((uint64_t)16 << 30)
#define SHARED_FOR_EVER INT64_MAX

enum shared_type { SHARED_BOOLEAN, SHARED_INTEGER, SHARED_NUMBER, SHARED_STRING };
struct shared_value {
  enum shared_type type;
  union {
    bool boolean;
    int64_t integer;
    double number;
    struct str string; /* borrowed */
  } as;
};
enum shared_outcome {
  SHARED_DONE,
  SHARED_REFUSED,   /* add: there is one. cas: it is another. delete: there is none. Nothing has changed */
  SHARED_TOO_LARGE, /* it would fill the whole store */
  SHARED_NO_NUMBER, /* incr of a value that is no number */
};

struct shared;
/* For named_get, with a uint64_t: the most bytes, between SHARED_BYTES_MIN and SHARED_BYTES_MAX. Entries count with their cost, about 100 bytes each and their
 * key and text. A write may be above it for a moment. The table of keys comes on top: a 32nd of it. */
extern const struct named_kind shared_kind;
struct shared *shared_of(struct named *n);

/* Settings get a version number when a VM asks for the store with them, and come into force by the first use of that VM. The highest version in force wins. So
 * a policy that is loaded but never used changes nothing, and the last requests of an old policy do not bring back its settings. A lower max takes effect as
 * entries are written. */
uint64_t shared_version(struct shared *s);
void shared_configure(struct shared *s, uint64_t version, uint64_t max);

/* Keys have 1 to SHARED_KEY_MAX bytes. `until` is when the value ends, or SHARED_FOR_EVER. */
/* False: there is none. A string's bytes are copied to `room` when `size` suffices; if v->as.string.n is above it they are not. */
bool shared_get(struct shared *s, struct str key, int64_t now, struct shared_value *v, char *room, size_t size);
enum shared_outcome shared_set(struct shared *s, struct str key, const struct shared_value *v, int64_t until,
                               int64_t now);
enum shared_outcome shared_add(struct shared *s, struct str key, const struct shared_value *v, int64_t until,
                               int64_t now);
/* Adds *v to the number under the key, or to 0, and sets *v to the sum. Integers stay integers and wrap as Lua's do. `until` is for a value that this call
 * makes: one that is there keeps its own. */
enum shared_outcome shared_incr(struct shared *s, struct str key, struct shared_value *v, int64_t until, int64_t now);
/* Puts `to` where `from` is; a NULL stands for no value on either side. Numbers compare as in Lua: 1 is 1.0. */
enum shared_outcome shared_cas(struct shared *s, struct str key, const struct shared_value *from,
                               const struct shared_value *to, int64_t until, int64_t now);
enum shared_outcome shared_delete(struct shared *s, struct str key, int64_t now);
/* Up to `limit` keys, in no order, those written meanwhile perhaps among them. fn runs under a lock: it calls nothing of the store. */
void shared_keys(struct shared *s, int64_t now, unsigned limit, void (*fn)(void *arg, struct str key), void *arg);

struct shared_facts {
  uint64_t entries, bytes, max, evictions; /* entries: some may have ended and still be there */
};
void shared_facts(struct shared *s, struct shared_facts *out);

#endif
