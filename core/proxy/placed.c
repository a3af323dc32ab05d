/* placed.c: see placed.h.
 *
 * A query is taken apart at "&" alone (WHATWG URL section 5.1), and names are compared decoded: a client that sends api%5Fkey beside the api_key of the policy would have the
 * server choose. The Cookie field is one header with a secret value, made anew each time from what it had before and all cookies that were placed; a script that
 * assigns to it starts over. */
#include "proxy/placed.h"

#include <string.h>

#include "base/buf.h"
#include "base/percent.h"
#include "proxy/exchange.h"
#include "proxy/try.h"

/* --- names in texts --- */

/* Does this text stand for that name, percent-encoded as it may be? */
static bool decodes_to(struct str s, struct str name) {
  size_t at = 0;
  for (size_t i = 0; i < s.n; i++, at++) {
    char c = s.p[i] == '+' ? ' ' : s.p[i];
    if (c == '%' && i + 2 < s.n && hex_value(s.p[i + 1]) >= 0 && hex_value(s.p[i + 2]) >= 0) {
      c = (char)(hex_value(s.p[i + 1]) << 4 | hex_value(s.p[i + 2]));
      i += 2;
    }
    if (at == name.n || name.p[at] != c) return false;
  }
  return at == name.n;
}

static struct str up_to(struct str s, char c) {
  const char *at = s.n > 0 ? memchr(s.p, c, s.n) : NULL;
  return (struct str){s.p, at != NULL ? (size_t)(at - s.p) : s.n};
}

static struct str skip(struct str s, size_t n) { return (struct str){s.p + n, s.n - n}; }

/* The parts of s between `separator`s but for those that `goes` is true of, joined by `glue`. */
static struct str without(struct arena *a, struct str s, char separator, struct str glue,
                          bool (*goes)(struct str part, struct str name), struct str name) {
  bool any = false;
  for (struct str rest = s; !any && rest.p != NULL;) {
    struct str part = up_to(rest, separator);
    any = goes(part, name);
    rest = part.n < rest.n ? skip(rest, part.n + 1) : (struct str){0};
  }
  if (!any) return s;
  char *out = arena_alloc(a, s.n + 1), *to = out;
  bool kept = false;
  for (struct str rest = s; rest.p != NULL;) {
    struct str part = up_to(rest, separator);
    if (!goes(part, name)) {
      if (kept) memcpy(to, glue.p, glue.n), to += glue.n;
      if (glue.n > 1) part = str_trim(part);
      memcpy(to, part.p, part.n);
      to += part.n;
      kept = true;
    }
    rest = up_to(rest, separator).n < rest.n ? skip(rest, up_to(rest, separator).n + 1) : (struct str){0};
  }
  return kept ? (struct str){out, (size_t)(to - out)} : (struct str){0};
}

static bool is_parameter(struct str part, struct str name) { return decodes_to(up_to(part, '='), name); }
static bool is_cookie(struct str part, struct str name) { return str_eq(str_trim(up_to(str_trim(part), '=')), name); }

struct str query_without(struct arena *a, struct str query, struct str name) {
  return without(a, query, '&', STR("&"), is_parameter, name);
}

struct str cookies_without(struct arena *a, struct str cookies, struct str name) {
  return without(a, cookies, ';', STR("; "), is_cookie, name);
}

/* --- what is placed --- */

struct placed_in placed_of_request(struct exchange *ex) {
  return (struct placed_in){&ex->arena, &ex->request, &ex->placed};
}

struct placed_in placed_of_try(struct exchange *ex) {
  if (ex->try == NULL) return placed_of_request(ex);
  return (struct placed_in){&ex->arena, &ex->try->request, &ex->try->placed};
}

static void unref_secret(void *s) { secret_unref(s); }

/* Takes over s. */
static struct secret *keep(struct placed_in in, struct secret *s) {
  if (s != NULL) arena_defer(in.arena, unref_secret, s);
  return s;
}

static struct placed *change(struct placed_in in) {
  struct placed *p = arena_alloc(in.arena, sizeof *p);
  *p = *in.placed != NULL ? **in.placed : (struct placed){0};
  *in.placed = p;
  return p;
}

/* Makes *list a copy of itself without that name. Returns where another goes. */
static struct placed_item **list_without(struct arena *a, struct placed_item **list, struct str name) {
  const struct placed_item *from = *list;
  struct placed_item **end = list;
  for (*end = NULL; from != NULL; from = from->next) {
    if (str_eq(from->name, name)) continue;
    *end = arena_alloc(a, sizeof **end);
    **end = *from;
    (*end)->next = NULL;
    end = &(*end)->next;
  }
  return end;
}

static struct placed_item *item_new(struct placed_in in, struct str name, struct secret *s, struct str text) {
  struct placed_item *i = arena_alloc(in.arena, sizeof *i);
  *i = (struct placed_item){.name = arena_dup(in.arena, name),
                            .secret = s != NULL ? keep(in, secret_ref(s)) : NULL,
                            .text = text.p != NULL ? arena_dup(in.arena, text) : text};
  return i;
}

/* --- the query --- */

static struct str without_all(struct arena *a, struct str query, const struct placed_item *items) {
  for (; items != NULL && query.p != NULL; items = items->next) query = query_without(a, query, items->name);
  return query;
}

/* row = row .. s; takes over both. */
static struct secret *join(struct secret *row, struct secret *s) {
  struct secret *joined = secret_join(row, s);
  secret_unref(row);
  secret_unref(s);
  return joined;
}

static struct secret *join_text(struct secret *row, struct str text) {
  struct secret *joined = secret_join_text(row, text, false);
  secret_unref(row);
  return joined;
}

/* Over secret.h's bounds it comes to nothing, and without it the request would go out as the client sent it: so it is one that nobody may have. */
static struct secret *or_nobodys(struct secret *s) {
  if (s != NULL) return s;
  struct audience *nobody = audience_new();
  s = secret_bytes(STR(""), "query", nobody);
  audience_unref(nobody);
  return s;
}

/* NULL: over secret.h's bounds. */
static struct secret *query_row(struct placed_in in, const struct placed *p) {
  struct str text = without_all(in.arena, in.request->query, p->query);
  struct secret *row = secret_literal(text.p != NULL ? text : STR(""));
  bool first = text.n == 0;
  for (const struct placed_item *i = p->query; i != NULL; i = i->next, first = false) {
    struct secret *name = secret_literal(i->name);
    if (!first) row = join_text(row, STR("&"));
    row = join(row, secret_encode(name, SECRET_URL));
    row = join_text(row, STR("="));
    row = join(row, secret_encode(i->secret, SECRET_URL));
    secret_unref(name);
  }
  return row;
}

bool placed_query_set(struct placed_in in, struct str name, struct secret *secret) {
  if (secret == NULL && !placed_any(*in.placed)) return true;
  struct placed *p = change(in);
  struct placed_item **end = list_without(in.arena, &p->query, name);
  if (secret != NULL) *end = item_new(in, name, secret, (struct str){0});
  struct secret *row = query_row(in, p);
  secret_unref(row);
  return row != NULL;
}

struct secret *placed_query(struct placed_in in) {
  const struct placed *p = *in.placed;
  return p != NULL && p->query != NULL ? keep(in, or_nobodys(query_row(in, p))) : NULL;
}

/* --- cookies --- */

/* All fields of that name, as one (RFC 9113 section 8.2.3). */
static struct str cookie_text(struct placed_in in) {
  const struct headers *hs = &in.request->headers;
  struct str all = {0};
  for (unsigned i = 0; i < hs->n; i++) {
    const struct header *h = &hs->v[i];
    if (h->id != H_COOKIE || h->name.p == NULL || h->secret != NULL) continue;
    all = all.p == NULL ? h->value : arena_printf(in.arena, "%.*s; %.*s", STR_FMT(all), STR_FMT(h->value));
  }
  return all;
}

/* What the field has, when it is not as it was made here: a script has assigned to it since, or it is the client's. */
static void begin_cookies(struct placed_in in, struct placed *p) {
  const struct header *h = headers_find_id(&in.request->headers, H_COOKIE);
  if (h != NULL && h->secret != NULL && h->secret == p->cookie_made) return;
  p->cookies = NULL;
  p->cookie_secret = h != NULL ? h->secret : NULL;
  p->cookie_text = cookie_text(in);
}

static struct secret *cookie_row(struct placed_in in, const struct placed *p) {
  struct secret *row = p->cookie_secret != NULL ? secret_ref(p->cookie_secret)
                                                : secret_literal(p->cookie_text.p != NULL ? p->cookie_text : STR(""));
  bool first = p->cookie_secret == NULL && p->cookie_text.n == 0;
  for (const struct placed_item *i = p->cookies; i != NULL; i = i->next, first = false) {
    row = join_text(row, arena_printf(in.arena, "%s%.*s=", first ? "" : "; ", STR_FMT(i->name)));
    row = i->secret != NULL ? join(row, secret_encode(i->secret, SECRET_COOKIE)) : join_text(row, i->text);
  }
  return row;
}

bool placed_cookie_set(struct placed_in in, struct str name, struct secret *secret, struct str text) {
  struct headers *hs = &in.request->headers;
  struct placed *p = change(in);
  begin_cookies(in, p);
  p->cookie_text = cookies_without(in.arena, p->cookie_text, name);
  struct placed_item **end = list_without(in.arena, &p->cookies, name);
  if (secret != NULL || text.p != NULL) *end = item_new(in, name, secret, text);
  p->cookie_made = NULL;
  if (p->cookies == NULL && p->cookie_secret == NULL) {
    headers_remove_id(hs, H_COOKIE);
    if (p->cookie_text.p != NULL) headers_set(hs, STR("Cookie"), p->cookie_text);
    return true;
  }
  struct secret *row = cookie_row(in, p);
  p->cookie_made = keep(in, or_nobodys(row));
  headers_set_secret(hs, STR("Cookie"), p->cookie_made);
  return row != NULL;
}

/* --- all of them --- */

int placed_each_secret(struct exchange *ex, int (*fn)(void *arg, struct secret *s), void *arg) {
  const struct placed_in in = placed_of_try(ex);
  const struct headers *hs = &in.request->headers;
  const struct placed *p = *in.placed;
  int rc = 0;
  for (unsigned i = 0; hs->secrets && i < hs->n && rc == 0; i++)
    if (hs->v[i].name.p != NULL && hs->v[i].secret != NULL) rc = fn(arg, hs->v[i].secret);
  for (const struct placed_item *i = p != NULL ? p->query : NULL; i != NULL && rc == 0; i = i->next)
    rc = fn(arg, i->secret);
  if (rc == 0 && ex->body.secret != NULL) rc = fn(arg, ex->body.secret);
  return rc;
}

/* --- what comes back --- */

/* A URL in a parameter of a URL, as the way back from a login is: so deep is looked. Each of these returns the same slice where there is nothing to hide. */
enum { HIDE_DEPTH = 3 };
static struct str hide_in(struct arena *a, struct str value, const struct placed_item *items, unsigned depth);

static struct str escaped(struct arena *a, struct str s) {
  char *out = arena_alloc(a, PERCENT_MAX * s.n + 1);
  size_t n = 0;
  for (size_t i = 0; i < s.n; i++) n += percent_escape_byte((unsigned char)s.p[i], out + n);
  return (struct str){out, n};
}

/* Takes over out. */
static struct str keep_text(struct arena *a, struct buf *out) {
  struct str kept = arena_dup(a, buf_str(out));
  buf_fini(out);
  return kept;
}

/* "next=/a?api_key=…", or that encoded, as which it goes on. */
static struct str hide_in_parameter(struct arena *a, struct str part, const struct placed_item *items, unsigned depth) {
  part = hide_in(a, part, items, depth);
  size_t name = up_to(part, '=').n;
  struct str value = name < part.n ? skip(part, name + 1) : part;
  if (up_to(value, '%').n == value.n) return part;
  struct str decoded = {.p = arena_alloc(a, value.n + 1)};
  if (!percent_unescape(value, false, (char *)(uintptr_t)decoded.p, &decoded.n)) return part;
  struct str hidden = hide_in(a, decoded, items, depth);
  if (hidden.p == decoded.p) return part;
  return arena_printf(a, "%.*s%.*s", (int)(part.n - value.n), part.p, STR_FMT(escaped(a, hidden)));
}

static struct str hide_in_query(struct arena *a, struct str query, const struct placed_item *items, unsigned depth) {
  query = without_all(a, query, items);
  if (up_to(query, '?').n == query.n && up_to(query, '%').n == query.n) return query;
  struct buf out;
  bool any = false;
  buf_init(&out);
  for (struct str rest = query; rest.p != NULL;) {
    struct str part = up_to(rest, '&'), hidden = hide_in_parameter(a, part, items, depth);
    any = any || hidden.p != part.p;
    buf_adds(&out, hidden);
    if (part.n < rest.n) buf_addz(&out, "&");
    rest = part.n < rest.n ? skip(rest, part.n + 1) : (struct str){0};
  }
  struct str kept = keep_text(a, &out);
  return any ? kept : query;
}

/* Of a field with URLs in it: each query ends at the URL's fragment, at the ">" of a Link, or with the field. */
static struct str hide_in(struct arena *a, struct str value, const struct placed_item *items, unsigned depth) {
  if (depth == 0 || up_to(value, '?').n == value.n) return value;
  struct buf out;
  bool any = false;
  buf_init(&out);
  for (struct str rest = value; rest.n > 0;) {
    struct str before = up_to(rest, '?');
    buf_adds(&out, before);
    rest = skip(rest, before.n);
    if (rest.n == 0) break;
    struct str query = {rest.p + 1, 0};
    while (query.n + 1 < rest.n && query.p[query.n] != '#' && query.p[query.n] != '>') query.n++;
    rest = skip(rest, query.n + 1);
    struct str kept = hide_in_query(a, query, items, depth - 1);
    any = any || kept.p != query.p;
    if (kept.p == NULL) continue;
    buf_addz(&out, "?");
    buf_adds(&out, kept);
  }
  struct str hidden = keep_text(a, &out);
  return any ? hidden : value;
}

void placed_hide(struct exchange *ex, struct headers *hs) {
  static const struct str names[] = {{"Location", 8}, {"Content-Location", 16}, {"Link", 4}, {"Refresh", 7}};
  const struct placed *p = *placed_of_try(ex).placed;
  if (p == NULL || p->query == NULL) return;
  for (unsigned i = 0; i < hs->n; i++) {
    struct header *h = &hs->v[i];
    for (size_t k = 0; h->name.p != NULL && k < sizeof names / sizeof *names; k++) {
      if (!str_ieq(h->name, names[k])) continue;
      struct str hidden = hide_in(&ex->arena, h->value, p->query, HIDE_DEPTH);
      if (hidden.p == h->value.p) continue;
      h->value = hidden;
      h->whole_line = false;
    }
  }
}
