/* headers.h: an ordered list of header fields (RFC 9110 section 5). Names and values are slices into the exchange's
 * arena. A field whose value is a secret has no bytes here: they are made while the head is written. */
#ifndef JETON_HTTP_HEADERS_H
#define JETON_HTTP_HEADERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "http/headcheck.h"

struct secret; /* token/secret.h */

/* The names that the proxy itself acts upon; everything else is H_OTHER and compared by bytes. */
enum header_id {
  H_OTHER,
  H_HOST,
  H_CONNECTION,
  H_KEEP_ALIVE,
  H_PROXY_CONNECTION,
  H_PROXY_AUTHENTICATE,
  H_PROXY_AUTHORIZATION,
  H_TE,
  H_TRAILER,
  H_TRANSFER_ENCODING,
  H_UPGRADE,
  H_CONTENT_LENGTH,
  H_EXPECT,
  H_AUTHORIZATION,
  H_FORWARDED,
  H_X_FORWARDED_FOR,
  H_X_FORWARDED_PROTO,
  H_X_FORWARDED_HOST,
  H_VIA,
  H_DATE,
  H_SERVER,
  H_COOKIE,
  H_ACCEPT,
  H_COUNT
};
enum header_id header_id(struct str name); /* case-insensitive */

/* Whose business a field is: header_traits[id] is a set of these. H_OTHER has none. */
enum {
  /* Belongs to one hop: taken out of what is forwarded (RFC 9110 section 7.6.1). */
  HEADER_HOP = 1,
  /* Frames a message or speaks for one hop: a script may not set it. */
  HEADER_OURS = 2,
  /* write_request_head passes it over: it writes such a field from its arguments, or the field may not go to an upstream. */
  HEADER_NOT_IN_REQUEST = 4,
  /* The same for write_response_head. */
  HEADER_NOT_IN_REPLY = 8,
  /* Says who asks: a script's call does not follow a redirect to another host with it. */
  HEADER_CREDENTIAL = 16
};
extern const uint8_t header_traits[H_COUNT];
_Static_assert(H_COUNT <= 32, "ids fit a mask");

struct header {
  struct str name; /* as the peer or the script wrote it; name.p == NULL: deleted */
  struct str value;
  struct secret *secret; /* owned by the list's arena (unref'd through arena_defer); NULL: plain */
  uint8_t id;
  /* The bytes from name.p on are name ": " value CRLF, as the field came: the writer takes the line as it is. Whoever gives the field another name or value
   * clears it. */
  bool whole_line;
};
struct headers {
  struct header *v;
  unsigned n, cap;
  uint32_t ids; /* 1 << id of every field that was ever in the list: what is not there need not be looked for */
  bool secrets; /* a field has, or had, a secret */
  bool odd;     /* a name may hold "_" or "--": else no field is the twin of a name without */
  struct arena *arena;
};

void headers_init(struct headers *h, struct arena *a);
/* Adds the lines of a section that headcheck has let through and noted; `section` is its first byte, in the arena. */
void headers_take(struct headers *h, const char *section, const struct headcheck *lines);
static inline bool headers_may_have(const struct headers *h, enum header_id id) { return (h->ids >> id & 1) != 0; }
/* The slices are not copied: they must live as long as the arena. */
void headers_add(struct headers *h, struct str name, struct str value);
/* The same of slices that lie as a line: name ": " value CRLF. id: header_id(name). */
void headers_add_line(struct headers *h, enum header_id id, struct str name, struct str value);
struct header *headers_find(const struct headers *h, struct str name); /* the first, or NULL */
struct header *headers_find_id(const struct headers *h, enum header_id id);
/* Replaces all fields of that name by one at the place of the first (or at the end). */
void headers_set(struct headers *h, struct str name, struct str value);
/* As headers_set; takes a reference of its own, given back when the arena is reset: the caller keeps theirs. The field's value is "". */
void headers_set_secret(struct headers *h, struct str name, struct secret *s);
unsigned headers_remove(struct headers *h, struct str name); /* how many there were */
unsigned headers_remove_id(struct headers *h, enum header_id id);
unsigned headers_remove_where(struct headers *h, bool (*goes)(struct str name));
/* Removes the fields that a server which reads "_" as "-", or several of them as one, would take for `name`, but not those of that very name: a
 * client's X_Auth beside the X-Auth that we set (CVE-2025-64484), or Transfer--Encoding. Returns how many there were.
 * plain_name: `name` itself has no "_" and no "--", as none has that the proxy acts upon; then nothing is looked for unless some field is odd. */
unsigned headers_remove_twins(struct headers *h, struct str name, bool plain_name);
/* The combined value, "a, b" (RFC 9110 section 5.3), secrets left out; .p NULL when there is none. One field: its own slice, no copy. */
struct str headers_join(const struct headers *h, struct str name);
/* The next member of a comma list: trimmed, taken off *list; commas inside quoted strings are part of a member. False at the end; empty members are
 * returned as they are, with n 0. Start with *list being a field's value. */
bool list_next(struct str *list, struct str *member);
bool headers_has_token(const struct headers *h, enum header_id id,
                       struct str token); /* in a comma list, case-insensitive */
/* Removes Connection, what it names, and the fixed hop-by-hop fields (RFC 9110 section 7.6.1), and with them Proxy-Authorization and
 * Proxy-Authenticate, which end here. `TE: trailers` stays. Call it before anything of ours is set. */
void headers_strip_hop_by_hop(struct headers *h);

/* Field syntax (RFC 9110 section 5.1, 5.5): what a script may set. */
bool header_name_valid(struct str name);
bool header_value_valid(struct str value);

#endif
