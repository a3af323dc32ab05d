/* headers.c: the ordered list of fields of one message, in the exchange's arena.
 *
 * Why an array and not a hash: a head has a dozen fields, order matters, and the fields that the proxy acts upon are found by an id that is made once, when the
 * field is added. Removing marks a field (name.p NULL), so pointers and order stay. The array doubles in the arena; what it leaves behind goes
 * with the exchange, at most as much again. Owned by the exchange's thread. */
#include "http/headers.h"

#include "token/secret.h"

enum { FIRST_CAP = 16, SPARE = 8 /* for what a proxy and its scripts add */ };

/* --- names to ids --- */

/* A perfect hash of length and first letter: each known name has a place of its own, so one comparison decides. Two names in one place are an
 * initialiser that overrides another, which does not compile; other factors are found by trying. */
enum { NAME_SLOTS = 64, KNOWN_MAX = 19, KNOWN_SIZE = 32 /* a power of two: found by a shift */ };
#define NAME_SLOT(n, first) (((n) + (first)*5u) % NAME_SLOTS)

static const struct known_name {
  uint8_t n, id;
  char low[KNOWN_SIZE - 2];
} known_names[NAME_SLOTS] = {
#define KNOWN(id, first, low) [NAME_SLOT(sizeof(low) - 1, first)] = {sizeof(low) - 1, id, low}
    KNOWN(H_TE, 't', "te"),
    KNOWN(H_VIA, 'v', "via"),
    KNOWN(H_HOST, 'h', "host"),
    KNOWN(H_DATE, 'd', "date"),
    KNOWN(H_ACCEPT, 'a', "accept"),
    KNOWN(H_COOKIE, 'c', "cookie"),
    KNOWN(H_SERVER, 's', "server"),
    KNOWN(H_EXPECT, 'e', "expect"),
    KNOWN(H_UPGRADE, 'u', "upgrade"),
    KNOWN(H_TRAILER, 't', "trailer"),
    KNOWN(H_FORWARDED, 'f', "forwarded"),
    KNOWN(H_CONNECTION, 'c', "connection"),
    KNOWN(H_KEEP_ALIVE, 'k', "keep-alive"),
    KNOWN(H_AUTHORIZATION, 'a', "authorization"),
    KNOWN(H_CONTENT_LENGTH, 'c', "content-length"),
    KNOWN(H_X_FORWARDED_FOR, 'x', "x-forwarded-for"),
    KNOWN(H_X_FORWARDED_HOST, 'x', "x-forwarded-host"),
    KNOWN(H_PROXY_CONNECTION, 'p', "proxy-connection"),
    KNOWN(H_X_FORWARDED_PROTO, 'x', "x-forwarded-proto"),
    KNOWN(H_TRANSFER_ENCODING, 't', "transfer-encoding"),
    KNOWN(H_PROXY_AUTHENTICATE, 'p', "proxy-authenticate"),
    KNOWN(H_PROXY_AUTHORIZATION, 'p', "proxy-authorization"),
#undef KNOWN
};

#define FRAMES (HEADER_OURS | HEADER_NOT_IN_REQUEST | HEADER_NOT_IN_REPLY)
const uint8_t header_traits[H_COUNT] = {
    [H_HOST] = HEADER_NOT_IN_REQUEST,
    [H_CONTENT_LENGTH] = FRAMES,
    [H_TRANSFER_ENCODING] = FRAMES | HEADER_HOP,
    [H_CONNECTION] = FRAMES | HEADER_HOP,
    [H_UPGRADE] = FRAMES | HEADER_HOP,
    [H_KEEP_ALIVE] = FRAMES | HEADER_HOP,
    [H_PROXY_CONNECTION] = FRAMES | HEADER_HOP,
    [H_TE] = HEADER_OURS | HEADER_NOT_IN_REQUEST | HEADER_HOP,
    [H_TRAILER] = HEADER_OURS,
    [H_EXPECT] = HEADER_OURS | HEADER_NOT_IN_REQUEST,
    [H_PROXY_AUTHORIZATION] = HEADER_NOT_IN_REQUEST | HEADER_NOT_IN_REPLY | HEADER_HOP | HEADER_CREDENTIAL,
    [H_PROXY_AUTHENTICATE] =
        HEADER_NOT_IN_REQUEST | HEADER_HOP, /* in a reply it may be our own (RFC 9110 section 11.7.1) */
    [H_AUTHORIZATION] = HEADER_CREDENTIAL,
    [H_COOKIE] = HEADER_CREDENTIAL,
};
#undef FRAMES

/* low holds small letters and "-". Where it has a letter (bit 0x40), the bit that makes a letter small does not count. A word at a time, the last one over
 * bytes of which some have been looked at. */
static inline bool equal8(const char *p, const char *low) {
  uint64_t a, b;
  memcpy(&a, p, sizeof a);
  memcpy(&b, low, sizeof b);
  return (a | (b & 0x4040404040404040u) >> 1) == b;
}
static inline bool equal4(const char *p, const char *low) {
  uint32_t a, b;
  memcpy(&a, p, sizeof a);
  memcpy(&b, low, sizeof b);
  return (a | (b & 0x40404040u) >> 1) == b;
}
static inline bool equal_low(const char *p, const char *low, size_t n) {
  if (n < 4) {
    for (size_t i = 0; i < n; i++)
      if ((p[i] | (low[i] & 0x40) >> 1) != low[i]) return false;
    return true;
  }
  if (n < 8) return equal4(p, low) && equal4(p + n - 4, low + n - 4);
  if (n > 16 && !equal8(p + 8, low + 8)) return false;
  return equal8(p, low) && equal8(p + n - 8, low + n - 8);
}
_Static_assert(KNOWN_MAX <= 24, "three words cover every name");

/* name.n > 0 */
static inline enum header_id id_of_some(struct str name) {
  const struct known_name *k = &known_names[NAME_SLOT(name.n, (uint8_t)name.p[0] | 0x20u)];
  return k->n == name.n && equal_low(name.p, k->low, name.n) ? (enum header_id)k->id : H_OTHER;
}
static inline enum header_id id_of(struct str name) { return name.n > 0 ? id_of_some(name) : H_OTHER; }

enum header_id header_id(struct str name) { return id_of(name); }

static inline bool names(const struct header *f, enum header_id id, struct str name) {
  if (f->id != id || f->name.p == NULL) return false;
  return id != H_OTHER || str_ieq(f->name, name);
}

static void drop(struct header *f) {
  f->name = (struct str){NULL, 0};
  f->value = (struct str){NULL, 0};
  f->secret = NULL; /* the arena's deferred unref stays */
  f->whole_line = false;
}

/* The first field of that name from index i on, or NULL. */
static struct header *find_from(const struct headers *h, unsigned i, enum header_id id, struct str name) {
  if (!headers_may_have(h, id)) return NULL;
  for (; i < h->n; i++)
    if (names(&h->v[i], id, name)) return &h->v[i];
  return NULL;
}

static unsigned remove_from(struct headers *h, unsigned i, enum header_id id, struct str name) {
  unsigned removed = 0;
  if (!headers_may_have(h, id)) return 0;
  for (; i < h->n; i++) {
    if (!names(&h->v[i], id, name)) continue;
    drop(&h->v[i]);
    removed++;
  }
  return removed;
}

static void make_room(struct headers *h, unsigned cap) {
  struct header *v = arena_alloc(h->arena, cap * sizeof *v);
  if (h->n > 0) memcpy(v, h->v, h->n * sizeof *v);
  h->v = v;
  h->cap = cap;
}

static inline struct header *grow(struct headers *h, enum header_id id) {
  if (h->n == h->cap) make_room(h, h->cap == 0 ? FIRST_CAP : h->cap * 2);
  h->ids |= 1u << id;
  return &h->v[h->n++];
}

static inline void note_name(struct headers *h, enum header_id id, struct str name) {
  if (id == H_OTHER && !h->odd) h->odd = chars_odd(name); /* no known name is */
}

/* The one field of that name: the first of them, or a new one at the end. */
static struct header *sole(struct headers *h, struct str name) {
  enum header_id id = header_id(name);
  struct header *f = find_from(h, 0, id, name);
  if (f != NULL) {
    remove_from(h, (unsigned)(f - h->v) + 1, id, name);
  } else {
    f = grow(h, id);
    note_name(h, id, name);
  }
  *f = (struct header){.name = name, .id = (uint8_t)id};
  return f;
}

static void unref_secret(void *s) { secret_unref(s); }

void headers_init(struct headers *h, struct arena *a) { *h = (struct headers){.arena = a}; }

/* Of the bytes that may stand in a value (CHAR_VALUE): SP and HTAB. */
static inline bool is_white(char c) { return (uint8_t)c <= ' '; }

/* What is left of p … end without white space at either side. */
static struct str trimmed(const char *p, const char *end) {
  while (p < end && is_white(*p)) p++;
  while (end > p && is_white(end[-1])) end--;
  return (struct str){p, (size_t)(end - p)};
}

/* One SP in front of the value, as nearly every line has it, and no other white space around. end: its CR. */
static inline bool is_usual(const char *value, const char *end) {
  return value[0] == ' ' && !is_white(value[1]) && !is_white(end[-1]);
}

void headers_take(struct headers *h, const char *section, const struct headcheck *lines) {
  if (lines->fields == 0) return;
  if (h->cap - h->n < lines->fields) make_room(h, h->n + lines->fields + SPARE);
  const struct headcheck_field *at = lines->table, *const end = at + lines->fields;
  struct header *to = h->v + h->n;
  uint32_t ids = 0;
  for (; at < end; at++, to++) {
    struct str name = {section + at->name, at->value - at->name - 1};
    enum header_id id = id_of_some(name);
    ids |= 1u << id;
    const char *value = section + at->value, *cr = section + at->end;
    bool usual = is_usual(value, cr);
    struct str inner = usual ? (struct str){value + 1, (size_t)(cr - value - 1)} : trimmed(value, cr);
    *to = (struct header){name, inner, NULL, (uint8_t)id, usual};
  }
  h->n += lines->fields;
  h->ids |= ids;
  h->odd = h->odd || lines->odd;
}

void headers_add(struct headers *h, struct str name, struct str value) {
  enum header_id id = id_of(name);
  *grow(h, id) = (struct header){.name = name, .value = value, .id = (uint8_t)id};
  note_name(h, id, name);
}

void headers_add_line(struct headers *h, enum header_id id, struct str name, struct str value) {
  *grow(h, id) = (struct header){.name = name, .value = value, .id = (uint8_t)id, .whole_line = true};
  note_name(h, id, name);
}

struct header *headers_find(const struct headers *h, struct str name) {
  return find_from(h, 0, header_id(name), name);
}

struct header *headers_find_id(const struct headers *h, enum header_id id) {
  if (!headers_may_have(h, id)) return NULL;
  for (unsigned i = 0; i < h->n; i++)
    if (h->v[i].id == id && h->v[i].name.p != NULL) return &h->v[i];
  return NULL;
}

void headers_set(struct headers *h, struct str name, struct str value) { sole(h, name)->value = value; }

void headers_set_secret(struct headers *h, struct str name, struct secret *s) {
  struct header *f = sole(h, name);
  f->value = STR("");
  f->secret = secret_ref(s);
  h->secrets = true;
  arena_defer(h->arena, unref_secret, s);
}

unsigned headers_remove(struct headers *h, struct str name) { return remove_from(h, 0, header_id(name), name); }

unsigned headers_remove_id(struct headers *h, enum header_id id) {
  unsigned removed = 0;
  if (!headers_may_have(h, id)) return 0;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].id != id || h->v[i].name.p == NULL) continue;
    drop(&h->v[i]);
    removed++;
  }
  return removed;
}

unsigned headers_remove_where(struct headers *h, bool (*goes)(struct str name)) {
  unsigned removed = 0;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].name.p == NULL || !goes(h->v[i].name)) continue;
    drop(&h->v[i]);
    removed++;
  }
  return removed;
}

static inline char dashed(char c) { return c == '_' ? '-' : char_lower(c); }

/* Behind the byte at i, and behind further delimiters if it is one. */
static inline size_t past(struct str s, size_t i) {
  if (dashed(s.p[i]) == '-')
    while (i + 1 < s.n && dashed(s.p[i + 1]) == '-') i++;
  return i + 1;
}

/* Reads like `name` to one who takes "_" for "-", or several of them for one, and is another name. */
static bool is_twin(struct str a, struct str name) {
  size_t i = 0, j = 0;
  while (i < a.n && j < name.n && dashed(a.p[i]) == dashed(name.p[j])) {
    i = past(a, i);
    j = past(name, j);
  }
  return i == a.n && j == name.n && !str_ieq(a, name);
}

unsigned headers_remove_twins(struct headers *h, struct str name, bool plain_name) {
  unsigned removed = 0;
  if (!h->odd && (plain_name || id_of(name) != H_OTHER || !chars_odd(name))) return 0;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].name.p == NULL || !is_twin(h->v[i].name, name)) continue;
    drop(&h->v[i]);
    removed++;
  }
  return removed;
}

static void join(const struct headers *h, enum header_id id, struct str name, char *out) {
  bool first = true;
  for (unsigned i = 0; i < h->n; i++) {
    const struct header *f = &h->v[i];
    if (!names(f, id, name) || f->secret != NULL) continue;
    if (!first) {
      memcpy(out, ", ", 2);
      out += 2;
    }
    first = false;
    if (f->value.n > 0) memcpy(out, f->value.p, f->value.n);
    out += f->value.n;
  }
}

struct str headers_join(const struct headers *h, struct str name) {
  enum header_id id = header_id(name);
  const struct header *only = NULL;
  size_t n = 0;
  unsigned plain = 0, found = 0;
  for (unsigned i = 0; i < h->n; i++) {
    if (!names(&h->v[i], id, name)) continue;
    found++;
    if (h->v[i].secret != NULL) continue;
    only = &h->v[i];
    n += only->value.n + (plain++ > 0 ? 2 : 0);
  }
  if (found == 0) return (struct str){NULL, 0};
  if (plain == 0) return STR("");
  if (plain == 1) return only->value;
  char *out = arena_alloc(h->arena, n + 1);
  join(h, id, name, out);
  out[n] = '\0';
  return (struct str){out, n};
}

bool list_next(struct str *list, struct str *member) {
  if (list->p == NULL) return false;
  size_t n = 0;
  bool quoted = false;
  for (; n < list->n && (quoted || list->p[n] != ','); n++) {
    if (list->p[n] == '"') quoted = !quoted;
    if (quoted && list->p[n] == '\\' && n + 1 < list->n) n++;
  }
  *member = str_trim((struct str){list->p, n});
  bool last = n >= list->n;
  *list = last ? (struct str){NULL, 0} : (struct str){list->p + n + 1, list->n - n - 1};
  return true;
}

bool headers_has_token(const struct headers *h, enum header_id id, struct str token) {
  if (!headers_may_have(h, id)) return false;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].id != id || h->v[i].name.p == NULL) continue;
    struct str list = h->v[i].value, member;
    while (list_next(&list, &member))
      if (str_ieq(member, token)) return true;
  }
  return false;
}

/* What the Connection fields name goes; their own tokens "close" and "keep-alive" name no field that would be kept anyway.
 * TE has a rule of its own: `Connection: TE` is how a client rightly sends it. */
static void strip_named(struct headers *h) {
  if (!headers_may_have(h, H_CONNECTION)) return;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].id != H_CONNECTION || h->v[i].name.p == NULL) continue;
    struct str list = h->v[i].value, member;
    while (list_next(&list, &member)) {
      enum header_id id = header_id(member);
      if (member.n > 0 && id != H_CONNECTION && id != H_TE) remove_from(h, 0, id, member);
    }
  }
}

/* A field with that trait is, or was, in the list. */
static bool has_trait(const struct headers *h, unsigned trait) {
  for (uint32_t ids = h->ids; ids != 0; ids &= ids - 1)
    if (header_traits[__builtin_ctz(ids)] & trait) return true;
  return false;
}

void headers_strip_hop_by_hop(struct headers *h) {
  if (!has_trait(h, HEADER_HOP)) return;
  bool trailers = headers_has_token(h, H_TE, STR("trailers"));
  strip_named(h);
  if (headers_may_have(h, H_UPGRADE)) /* what an offer of h2c brings along, named or not (RFC 7540 section 3.2.1) */
    remove_from(h, 0, H_OTHER, STR("HTTP2-Settings"));
  for (unsigned i = 0; i < h->n; i++) {
    struct header *f = &h->v[i];
    if (f->name.p == NULL || !(header_traits[f->id] & HEADER_HOP)) continue;
    if (f->id == H_TE && trailers) {
      f->value = STR("trailers");
      f->whole_line = false;
      trailers = false; /* one is enough */
    } else {
      drop(f);
    }
  }
}

bool header_name_valid(struct str name) { return name.n > 0 && chars_all(name, CHAR_TOKEN); }

bool header_value_valid(struct str value) { return chars_all(value, CHAR_VALUE); }
