/* reference.c: see reference.h. */
#include "net/reference.h"

#include <stdbool.h>

static struct str from(struct str s, size_t at) { return (struct str){s.p + at, s.n - at}; }

/* Up to the first of these characters, or to the end. */
static size_t up_to(struct str s, const char *marks) {
  size_t n = 0;
  while (n < s.n && (s.p[n] == '\0' || strchr(marks, s.p[n]) == NULL)) n++;
  return n;
}

static bool is_scheme(struct str s) {
  for (size_t i = 0; i < s.n; i++) {
    char c = char_lower(s.p[i]);
    bool letter = c >= 'a' && c <= 'z';
    bool later = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
    if (!letter && (i == 0 || !later)) return false;
  }
  return s.n > 0;
}

void reference_split(struct str s, struct reference *out) {
  *out = (struct reference){0};
  size_t n = up_to(s, ":/?#");
  if (n < s.n && s.p[n] == ':' && is_scheme((struct str){s.p, n})) {
    out->scheme = (struct str){s.p, n};
    s = from(s, n + 1);
  }
  if (str_starts(s, STR("//"))) {
    s = from(s, 2);
    out->authority = (struct str){s.p, up_to(s, "/?#")};
    s = from(s, out->authority.n);
  }
  out->path = (struct str){s.p, up_to(s, "?#")};
  s = from(s, out->path.n);
  if (s.n > 0 && s.p[0] == '?') {
    s = from(s, 1);
    out->query = (struct str){s.p, up_to(s, "#")};
    s = from(s, out->query.n);
  }
  if (s.n > 0) out->fragment = from(s, 1);
}

size_t reference_remove_dots(char *path, size_t n) {
  size_t out = 0;
  for (size_t at = 0; at < n;) {
    size_t end = at + 1;
    while (end < n && path[end] != '/') end++;
    struct str segment = {path + at, end - at};
    bool last = end == n;
    if (str_eq(segment, STR("/.."))) {
      while (out > 0 && path[--out] != '/') continue;
      if (last) path[out++] = '/';
    } else if (str_eq(segment, STR("/."))) {
      if (last) path[out++] = '/';
    } else {
      memmove(path + out, segment.p, segment.n);
      out += segment.n;
    }
    at = end;
  }
  return out;
}

struct writer {
  char *out;
  size_t n;
};

static void put(struct writer *w, struct str s) {
  if (s.n > 0) memcpy(w->out + w->n, s.p, s.n);
  w->n += s.n;
}

/* Section 5.2.3: what stands before the last "/" of the base, and the path. */
static void put_path(struct writer *w, const struct reference *base, const struct reference *to) {
  size_t start = w->n;
  struct str path = to->path;
  if (to->scheme.p == NULL && to->authority.p == NULL && (path.n == 0 || path.p[0] != '/')) {
    struct str dir = base->path;
    while (path.n > 0 && dir.n > 0 && dir.p[dir.n - 1] != '/') dir.n--;
    if (path.n > 0 && dir.n == 0 && base->authority.p != NULL) dir = STR("/");
    put(w, dir);
  }
  put(w, path);
  if (w->n > start && w->out[start] == '/') w->n = start + reference_remove_dots(w->out + start, w->n - start);
}

size_t reference_join(struct str base, struct str to, char *out) {
  struct reference b, t;
  struct writer w = {out, 0};
  reference_split(base, &b);
  reference_split(to, &t);
  struct str scheme = t.scheme.p != NULL ? t.scheme : b.scheme;
  struct str authority = t.scheme.p != NULL || t.authority.p != NULL ? t.authority : b.authority;
  bool same_document = t.scheme.p == NULL && t.authority.p == NULL && t.path.n == 0;
  struct str query = same_document && t.query.p == NULL ? b.query : t.query;
  put(&w, scheme);
  put(&w, STR(":"));
  if (authority.p != NULL) {
    put(&w, STR("//"));
    put(&w, authority);
  }
  put_path(&w, &b, &t);
  if (query.p != NULL) {
    put(&w, STR("?"));
    put(&w, query);
  }
  if (t.fragment.p != NULL) {
    put(&w, STR("#"));
    put(&w, t.fragment);
  }
  return w.n;
}
