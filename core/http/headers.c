/* headers.c: the ordered list of fields of one message, in the exchange's arena.
 *
 * Why an array and not a hash: a head has a dozen fields, order matters, and the fields that the proxy acts upon are found by an id that is made once, when the
 * field is added. Removing marks a field (name.p NULL), so pointers and order stay. The array doubles in the arena; what it leaves behind goes
 * with the exchange, at most as much again. Owned by the exchange's thread. */
#include "http/headers.h"

#include "http/headcheck.h"
#include "token/secret.h"

enum { FIRST_CAP = 32 };

static inline char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

/* name.n == the literal's length is known; `low` is lower-case. */
static inline bool is(struct str name, const char *low) {
  for (size_t i = 0; i < name.n; i++)
    if (lower(name.p[i]) != low[i]) return false;
  return true;
}

static enum header_id id_of_short(struct str s) {
  switch (s.n) {
    case 2: return is(s, "te") ? H_TE : H_OTHER;
    case 3: return is(s, "via") ? H_VIA : H_OTHER;
    case 4: return is(s, "host") ? H_HOST : is(s, "date") ? H_DATE : H_OTHER;
    case 6:
      if (is(s, "accept")) return H_ACCEPT;
      if (is(s, "cookie")) return H_COOKIE;
      if (is(s, "server")) return H_SERVER;
      return is(s, "expect") ? H_EXPECT : H_OTHER;
    case 7: return is(s, "upgrade") ? H_UPGRADE : is(s, "trailer") ? H_TRAILER : H_OTHER;
    case 9: return is(s, "forwarded") ? H_FORWARDED : H_OTHER;
    case 10: return is(s, "connection") ? H_CONNECTION : is(s, "keep-alive") ? H_KEEP_ALIVE : H_OTHER;
    default: return H_OTHER;
  }
}

enum header_id header_id(struct str s) {
  switch (s.n) {
    case 13: return is(s, "authorization") ? H_AUTHORIZATION : H_OTHER;
    case 14: return is(s, "content-length") ? H_CONTENT_LENGTH : H_OTHER;
    case 15: return is(s, "x-forwarded-for") ? H_X_FORWARDED_FOR : H_OTHER;
    case 16:
      if (is(s, "x-forwarded-host")) return H_X_FORWARDED_HOST;
      return is(s, "proxy-connection") ? H_PROXY_CONNECTION : H_OTHER;
    case 17:
      if (is(s, "x-forwarded-proto")) return H_X_FORWARDED_PROTO;
      return is(s, "transfer-encoding") ? H_TRANSFER_ENCODING : H_OTHER;
    case 18: return is(s, "proxy-authenticate") ? H_PROXY_AUTHENTICATE : H_OTHER;
    case 19: return is(s, "proxy-authorization") ? H_PROXY_AUTHORIZATION : H_OTHER;
    default: return id_of_short(s);
  }
}

static inline bool names(const struct header *f, enum header_id id, struct str name) {
  if (f->id != id || f->name.p == NULL) return false;
  return id != H_OTHER || str_ieq(f->name, name);
}

static void drop(struct header *f) {
  f->name = (struct str){NULL, 0};
  f->value = (struct str){NULL, 0};
  f->secret = NULL; /* the arena's deferred unref stays */
}

/* The first field of that name from index i on, or NULL. */
static struct header *find_from(const struct headers *h, unsigned i, enum header_id id, struct str name) {
  for (; i < h->n; i++)
    if (names(&h->v[i], id, name)) return &h->v[i];
  return NULL;
}

static unsigned remove_from(struct headers *h, unsigned i, enum header_id id, struct str name) {
  unsigned removed = 0;
  for (; i < h->n; i++) {
    if (!names(&h->v[i], id, name)) continue;
    drop(&h->v[i]);
    removed++;
  }
  return removed;
}

static struct header *grow(struct headers *h) {
  if (h->n == h->cap) {
    unsigned cap = h->cap == 0 ? FIRST_CAP : h->cap * 2;
    struct header *v = arena_alloc(h->arena, cap * sizeof *v);
    if (h->n > 0) memcpy(v, h->v, h->n * sizeof *v);
    h->v = v;
    h->cap = cap;
  }
  return &h->v[h->n++];
}

/* The one field of that name: the first of them, or a new one at the end. */
static struct header *sole(struct headers *h, struct str name) {
  enum header_id id = header_id(name);
  struct header *f = find_from(h, 0, id, name);
  if (f != NULL) {
    remove_from(h, (unsigned)(f - h->v) + 1, id, name);
  } else {
    f = grow(h);
  }
  *f = (struct header){.name = name, .id = (uint8_t)id};
  return f;
}

static void unref_secret(void *s) { secret_unref(s); }

void headers_init(struct headers *h, struct arena *a) { *h = (struct headers){.arena = a}; }

void headers_add(struct headers *h, struct str name, struct str value) {
  *grow(h) = (struct header){.name = name, .value = value, .id = (uint8_t)header_id(name)};
}

struct header *headers_find(const struct headers *h, struct str name) {
  return find_from(h, 0, header_id(name), name);
}

struct header *headers_find_id(const struct headers *h, enum header_id id) {
  for (unsigned i = 0; i < h->n; i++)
    if (h->v[i].id == id && h->v[i].name.p != NULL) return &h->v[i];
  return NULL;
}

void headers_set(struct headers *h, struct str name, struct str value) { sole(h, name)->value = value; }

void headers_set_secret(struct headers *h, struct str name, struct secret *s) {
  struct header *f = sole(h, name);
  f->value = STR("");
  f->secret = secret_ref(s);
  arena_defer(h->arena, unref_secret, s);
}

unsigned headers_remove(struct headers *h, struct str name) { return remove_from(h, 0, header_id(name), name); }

unsigned headers_remove_id(struct headers *h, enum header_id id) {
  unsigned removed = 0;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].id != id || h->v[i].name.p == NULL) continue;
    drop(&h->v[i]);
    removed++;
  }
  return removed;
}

static inline char dashed(char c) { return c == '_' ? '-' : lower(c); }

static bool is_twin(struct str a, struct str b) {
  bool same = true;
  if (a.n != b.n) return false;
  for (size_t i = 0; i < a.n; i++) {
    if (dashed(a.p[i]) != dashed(b.p[i])) return false;
    if (lower(a.p[i]) != lower(b.p[i])) same = false;
  }
  return !same;
}

unsigned headers_remove_twins(struct headers *h, struct str name) {
  unsigned removed = 0;
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
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].id != H_CONNECTION || h->v[i].name.p == NULL) continue;
    struct str list = h->v[i].value, member;
    while (list_next(&list, &member)) {
      enum header_id id = header_id(member);
      if (member.n > 0 && id != H_CONNECTION && id != H_TE) remove_from(h, 0, id, member);
    }
  }
}

void headers_strip_hop_by_hop(struct headers *h) {
  bool trailers = headers_has_token(h, H_TE, STR("trailers"));
  strip_named(h);
  for (unsigned i = 0; i < h->n; i++) {
    struct header *f = &h->v[i];
    if (f->name.p == NULL) continue;
    switch (f->id) {
      case H_TE:
        if (trailers) {
          f->value = STR("trailers");
          trailers = false;
          break;
        }
        drop(f);
        break;
      case H_CONNECTION:
      case H_KEEP_ALIVE:
      case H_PROXY_CONNECTION:
      case H_PROXY_AUTHENTICATE:
      case H_PROXY_AUTHORIZATION:
      case H_TRANSFER_ENCODING:
      case H_UPGRADE: drop(f); break;
      default: break;
    }
  }
}

bool header_name_valid(struct str name) { return name.n > 0 && chars_are(name, CHAR_TOKEN); }

bool header_value_valid(struct str value) {
  return value.n == 0 || value_span((const uint8_t *)value.p, value.n) == value.n;
}
