/* h2_fields.c: see h2_fields.h.
 *
 * The library has checked names, values and the order of pseudo-fields by its own rules, and so do we: what one of the two refuses is refused. What it leaves: limits, Host beside
 * :authority, crumbs of cookies, te, and all that judge.c knows.
 *
 * Lines are laid behind one another in pieces of the arena ("name: value" CRLF), which makes a head that goes on by HTTP/1.1 one copy. Host is made of
 * :authority in front of all fields, so hooks see what they see of HTTP/1.1. */
#include "http/h2_fields.h"

#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "http/judge.h"

#define FINE ((struct http_fault){.text = NULL})
static struct http_fault malformed(const char *text) { return (struct http_fault){.text = text}; }

enum { ROOM = 1024, FIELD_COST = 32 /* RFC 9113 section 6.5.2 */, FAR_BEYOND = 16 /* times a head's limit */ };
enum { P_METHOD = 1, P_SCHEME = 2, P_AUTHORITY = 4, P_PATH = 8, P_STATUS = 16 };

/* --- in --- */

void h2_block_begin(struct h2_block *b, struct arena *a, const struct http_limits *l, bool response,
                    enum h2_block_kind kind, struct headers *to) {
  *b = (struct h2_block){.arena = a, .limits = l, .to = to, .response = response, .kind = kind};
  headers_init(to, a);
}

static enum h2_error note(struct h2_block *b, struct http_fault fault) {
  if (b->fault.text == NULL) b->fault = fault;
  return fault.status == 0 ? H2_PROTOCOL_ERROR : H2_NO_ERROR;
}

/* What stands in a start line of HTTP/1.1 is none of its fields, so that limits.headers is the same for both; :authority stands for Host. */
static bool counts_as_field(struct str name) {
  return name.n == 0 || name.p[0] != ':' || str_eq(name, STR(":authority"));
}

/* Counts it. False: it is over a limit, and not kept. */
static bool within_limits(struct h2_block *b, struct str name, struct str value) {
  const struct http_limits *l = b->limits;
  b->size += name.n + value.n + FIELD_COST;
  if (counts_as_field(name)) b->fields++;
  if (b->size <= l->head && b->fields <= l->headers) return true;
  (void)note(b, (struct http_fault){.status = 431, .text = "the head is over the limit (RFC 6585 section 5)"});
  return false;
}

static uint8_t *room_for(struct h2_block *b, size_t n) {
  if ((size_t)(b->room_end - b->room) < n) {
    size_t size = n > ROOM ? n : ROOM;
    b->room = arena_alloc(b->arena, size);
    b->room_end = b->room + size;
  }
  uint8_t *p = b->room;
  b->room += n;
  return p;
}

static void add_line(struct h2_block *b, enum header_id id, struct str name, struct str value) {
  uint8_t *p = room_for(b, name.n + value.n + 4), *v = p + name.n + 2;
  memcpy(p, name.p, name.n);
  memcpy(v - 2, ": ", 2);
  memcpy(v, value.p, value.n);
  memcpy(v + value.n, "\r\n", 2);
  headers_add_line(b->to, id, (struct str){(char *)p, name.n}, (struct str){(char *)v, value.n});
}

static struct str keep(struct h2_block *b, struct str s) {
  uint8_t *p = room_for(b, s.n);
  memcpy(p, s.p, s.n);
  return (struct str){(char *)p, s.n};
}

static enum h2_error pseudo_field(struct h2_block *b, struct str name, struct str value) {
  static const struct {
    struct str name;
    uint8_t bit;
    bool response;
    size_t at;
  } known[] = {{{":method", 7}, P_METHOD, false, offsetof(struct h2_block, method)},
               {{":scheme", 7}, P_SCHEME, false, offsetof(struct h2_block, scheme)},
               {{":authority", 10}, P_AUTHORITY, false, offsetof(struct h2_block, authority)},
               {{":path", 5}, P_PATH, false, offsetof(struct h2_block, path)},
               {{":status", 7}, P_STATUS, true, offsetof(struct h2_block, status)}};
  if (b->kind == H2_TRAILERS) return note(b, malformed("a pseudo-field among trailers (RFC 9113 section 8.1)"));
  if (b->to->n > 0) return note(b, malformed("a pseudo-field behind a field (RFC 9113 section 8.3)"));
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (known[i].response != b->response || !str_eq(known[i].name, name)) continue;
    if ((b->pseudo & known[i].bit) != 0) return note(b, malformed("a pseudo-field twice (RFC 9113 section 8.3)"));
    b->pseudo |= known[i].bit;
    *(struct str *)(void *)((char *)b + known[i].at) = keep(b, value);
    return H2_NO_ERROR;
  }
  return note(b, malformed("a pseudo-field that is not known (RFC 9113 section 8.3)"));
}

static bool has_upper_case(struct str s) {
  for (size_t i = 0; i < s.n; i++)
    if (s.p[i] >= 'A' && s.p[i] <= 'Z') return true;
  return false;
}

static bool name_fine(struct str name) {
  if (name.n == 0) return false;
  return chars_all(name, CHAR_NAME_LOW) || (chars_all(name, CHAR_TOKEN) && !has_upper_case(name));
}

static bool value_fine(struct str v) {
  bool padded = v.n > 0 && (v.p[0] == ' ' || v.p[0] == '\t' || v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t');
  return !padded && chars_all(v, CHAR_VALUE);
}

/* RFC 9113 section 8.2.2 */
static bool of_a_connection(enum header_id id, struct str value) {
  switch (id) {
    case H_CONNECTION:
    case H_KEEP_ALIVE:
    case H_PROXY_CONNECTION:
    case H_TRANSFER_ENCODING:
    case H_UPGRADE: return true;
    case H_TE: return !str_ieq(value, STR("trailers"));
    default: return false;
  }
}

enum h2_error h2_block_field(struct h2_block *b, struct str name, struct str value) {
  if (!within_limits(b, name, value))
    return b->size > (uint64_t)b->limits->head * FAR_BEYOND ? H2_ENHANCE_YOUR_CALM : H2_NO_ERROR;
  if (name.n > 0 && name.p[0] == ':') return pseudo_field(b, name, value);
  if (!name_fine(name)) return note(b, malformed("a field's name (RFC 9113 section 8.2.1)"));
  if (!value_fine(value)) return note(b, malformed("a field's value (RFC 9113 section 8.2.1)"));
  enum header_id id = header_id(name);
  if (of_a_connection(id, value)) return note(b, malformed("a field of one connection (RFC 9113 section 8.2.2)"));
  add_line(b, id, name, value);
  if (id == H_COOKIE) b->cookies++;
  return H2_NO_ERROR;
}

/* RFC 9113 section 8.2.3: in the place of the first. */
static void join_cookies(struct h2_block *b) {
  struct headers *h = b->to;
  struct header *first = NULL;
  size_t n = 0;
  for (unsigned i = 0; i < h->n; i++)
    if (h->v[i].id == H_COOKIE) n += h->v[i].value.n + 2;
  char *p = arena_alloc(h->arena, n), *to = p;
  for (unsigned i = 0; i < h->n; i++) {
    struct header *f = &h->v[i];
    if (f->id != H_COOKIE) continue;
    if (first != NULL) {
      memcpy(to, "; ", 2);
      to += 2;
    }
    memcpy(to, f->value.p, f->value.n);
    to += f->value.n;
    if (first == NULL)
      first = f;
    else
      *f = (struct header){.id = H_COOKIE};
  }
  first->value = (struct str){p, (size_t)(to - p)};
  first->whole_line = false;
}

/* --- requests --- */

static struct http_fault request_pseudo(const struct h2_block *b) {
  bool connect = str_eq(b->method, STR("CONNECT"));
  uint8_t all = P_METHOD | P_SCHEME | P_PATH;
  if (connect) {
    bool fine = b->pseudo == (P_METHOD | P_AUTHORITY);
    return fine ? FINE : malformed("CONNECT has :method and :authority, and no other (RFC 9113 section 8.5)");
  }
  if ((b->pseudo & all) != all)
    return malformed("a request without :method, :scheme or :path (RFC 9113 section 8.3.1)");
  if (b->path.n == 0) return malformed("an empty :path (RFC 9113 section 8.3.1)");
  if (b->path.p[0] != '/' && !(b->path.n == 1 && b->path.p[0] == '*' && str_eq(b->method, STR("OPTIONS"))))
    return malformed(":path is neither a path nor the \"*\" of OPTIONS (RFC 9113 section 8.3.1)");
  if (!str_ieq(b->scheme, STR("http")) && !str_ieq(b->scheme, STR("https")))
    return (struct http_fault){.status = 400, .text = "a :scheme other than http and https (RFC 9113 section 8.3.1)"};
  return FINE;
}

/* Host is what HTTP/1.1 says of it, and stands in front. */
static struct http_fault request_host(struct h2_block *b) {
  struct headers *h = b->to;
  const struct header *host = headers_find_id(h, H_HOST);
  bool said = (b->pseudo & P_AUTHORITY) != 0;
  if (said && host != NULL && !str_ieq(host->value, b->authority))
    return malformed("Host differs from :authority (RFC 9113 section 8.3.1)");
  if (said && memchr(b->authority.p, '@', b->authority.n) != NULL)
    return malformed("userinfo in :authority (RFC 9113 section 8.3.1)");
  if (said && host == NULL) {
    add_line(b, H_HOST, STR("host"), b->authority);
    struct header line = h->v[h->n - 1];
    memmove(h->v + 1, h->v, (h->n - 1) * sizeof *h->v);
    h->v[0] = line;
  }
  return FINE;
}

static struct http_fault request_length(struct request *r, bool ends) {
  if (ends && r->framing == FRAMING_LENGTH && r->content_length > 0)
    return malformed("a Content-Length, and no body (RFC 9113 section 8.1.1)");
  if (!ends && r->framing == FRAMING_NONE) r->framing = FRAMING_CHUNKED; /* a body whose length is not known */
  return FINE;
}

struct http_fault h2_block_request(struct h2_block *b, struct request *r, bool ends) {
  struct http_fault wrong = b->fault;
  if (wrong.text != NULL) return wrong;
  wrong = request_pseudo(b);
  if (wrong.text != NULL) return wrong;
  r->version = HTTP_2;
  r->target = str_eq(b->method, STR("CONNECT")) ? b->authority : b->path;
  r->method = b->method;
  r->https = str_ieq(b->scheme, STR("https"));
  if (r->target.n > b->limits->request_line)
    return (struct http_fault){.status = 414, .text = "the target is over the limit (RFC 9110 section 15.5.15)"};
  if (!chars_all(r->target, CHAR_TARGET) || !chars_all(b->method, CHAR_TOKEN) || b->method.n == 0)
    return malformed("a byte that may not stand there in :method, :path or :authority (RFC 9113 section 8.3.1)");
  if (b->cookies > 1) join_cookies(b);
  wrong = request_host(b);
  if (wrong.text == NULL) wrong = request_start(r);
  if (wrong.text == NULL) wrong = request_fields(r);
  if (wrong.text != NULL) return wrong;
  r->keep_alive = false; /* nothing to keep: this message has no say over the connection */
  r->upgrade = false;
  return r->is_connect ? FINE : request_length(r, ends);
}

/* --- replies --- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct http_fault h2_block_response(struct h2_block *b, struct response *r, struct str method, bool ends) {
  struct str s = b->status;
  if (b->fault.text != NULL) return b->fault;
  if (s.n != 3 || s.p[0] < '1' || s.p[0] > '5' || !is_digit(s.p[1]) || !is_digit(s.p[2]))
    return malformed("a reply without a :status of three digits (RFC 9113 section 8.3.2)");
  r->status = (s.p[0] - '0') * 100 + (s.p[1] - '0') * 10 + (s.p[2] - '0');
  r->reason = (struct str){NULL, 0};
  r->version = HTTP_2;
  if (r->status == 101) return malformed("101 (RFC 9113 section 8.6)");
  if (r->status < 200 && ends) return malformed("an interim reply that ends the stream (RFC 9113 section 8.1)");
  struct http_fault wrong = response_fields(r, str_eq(method, STR("HEAD")), str_eq(method, STR("CONNECT")));
  if (wrong.text != NULL) return wrong;
  if (ends && r->framing == FRAMING_LENGTH && r->content_length > 0)
    return malformed("a Content-Length, and no body (RFC 9113 section 8.1.1)");
  if (ends && r->framing != FRAMING_NONE) {
    r->framing = FRAMING_LENGTH;
    r->content_length = 0;
  } else if (r->framing == FRAMING_UNTIL_CLOSE) {
    r->framing = FRAMING_CHUNKED; /* a body whose length is not known */
  }
  r->keep_alive = true;
  return FINE;
}

struct http_fault h2_block_trailers(struct h2_block *b) {
  return b->fault;
}

/* --- out --- */

void h2_fields_init(struct h2_fields *f, struct arena *a) { *f = (struct h2_fields){.arena = a}; }

void h2_fields_add(struct h2_fields *f, struct str name, struct str value, bool index) {
  if (f->n == f->cap) {
    size_t cap = f->cap == 0 ? 16 : f->cap * 2;
    nghttp2_nv *v = arena_alloc(f->arena, cap * sizeof *v);
    if (f->n > 0) memcpy(v, f->v, f->n * sizeof *v);
    f->v = v;
    f->cap = cap;
  }
  /* The library copies names to make them lower case, and values with them. */
  unsigned borrowed = chars_all(name, CHAR_NAME_LOW) || name.p[0] == ':'
                          ? NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
                          : NGHTTP2_NV_FLAG_NO_COPY_VALUE;
  f->v[f->n++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                              .value = (uint8_t *)(uintptr_t)value.p,
                              .namelen = name.n,
                              .valuelen = value.n,
                              .flags = (uint8_t)(borrowed | (index ? 0 : NGHTTP2_NV_FLAG_NO_INDEX))};
}

void h2_fields_must_last(struct h2_fields *f) {
  for (size_t i = 0; i < f->n; i++)
    f->v[i].flags &= (uint8_t) ~(NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE);
}

void h2_fields_add_number(struct h2_fields *f, struct str name, uint64_t n) {
  enum { DIGITS = 20 };
  char *end = (char *)arena_alloc(f->arena, DIGITS) + DIGITS, *p = end;
  do *--p = (char)('0' + n % 10);
  while ((n /= 10) > 0);
  h2_fields_add(f, name, (struct str){p, (size_t)(end - p)}, true);
}

void h2_fields_response(struct h2_fields *f, int status, const struct headers *fields, bool has_length,
                        uint64_t length) {
  char *digits = arena_alloc(f->arena, 3);
  digits[0] = (char)('0' + status / 100);
  digits[1] = (char)('0' + status / 10 % 10);
  digits[2] = (char)('0' + status % 10);
  h2_fields_add(f, STR(":status"), (struct str){digits, 3}, true);
  for (unsigned i = 0; i < fields->n; i++) {
    const struct header *h = &fields->v[i];
    if (h->name.p == NULL || h->secret != NULL || (header_traits[h->id] & HEADER_NOT_IN_REPLY) != 0) continue;
    h2_fields_add(f, h->name, str_trim(h->value), true); /* white space around it would make it malformed */
  }
  if (has_length) h2_fields_add_number(f, STR("content-length"), length);
}

bool h2_fields_trailers(struct h2_fields *f, const struct headers *trailers) {
  for (unsigned i = 0; trailers != NULL && i < trailers->n; i++) {
    const struct header *h = &trailers->v[i];
    if (h->name.p != NULL && h->secret == NULL && trailer_allowed(h->name))
      h2_fields_add(f, h->name, str_trim(h->value), true);
  }
  return f->n > 0;
}

struct h2_fields *h2_fields_keep(const struct h2_fields *f) {
  size_t bytes = 0;
  for (size_t i = 0; i < f->n; i++) bytes += f->v[i].namelen + f->v[i].valuelen;
  struct h2_fields *kept = must_malloc(sizeof *kept + f->n * sizeof *kept->v + bytes);
  *kept = (struct h2_fields){.v = (nghttp2_nv *)(void *)(kept + 1), .n = f->n, .cap = f->n};
  uint8_t *p = (uint8_t *)(kept->v + f->n);
  for (size_t i = 0; i < f->n; i++) {
    nghttp2_nv *to = &kept->v[i];
    *to = f->v[i];
    to->name = memcpy(p, f->v[i].name, to->namelen);
    p += to->namelen;
    to->value = memcpy(p, f->v[i].value, to->valuelen);
    p += to->valuelen;
  }
  h2_fields_must_last(kept);
  return kept;
}
