/* redirect.c: see http_redirect.h. Pure functions: any thread. */
#include "http/redirect.h"

#include "net/reference.h"

bool http_is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool http_same_origin(const struct url *a, const struct url *b) {
  return a->tls == b->tls && a->port == b->port && str_ieq(a->host, b->host) && str_eq(a->unix_path, b->unix_path);
}

struct str http_redirect_method(int status, struct str method) {
  bool get =
      status == 303 ? !str_eq(method, STR("HEAD")) : (status == 301 || status == 302) && str_eq(method, STR("POST"));
  return get ? STR("GET") : method;
}

/* The target is relative: same origin, path and query from base and s. */
static const char *resolve_path(struct arena *a, const struct url *base, struct str s, struct url *out) {
  *out = *base;
  const char *mark = s.n > 0 ? memchr(s.p, '?', s.n) : NULL;
  struct str path = {s.p, mark != NULL ? (size_t)(mark - s.p) : s.n};
  out->query = mark != NULL ? (struct str){mark + 1, s.n - path.n - 1} : (struct str){0};
  if (path.n == 0) {
    if (mark == NULL) out->query = base->query;
    return NULL;
  }
  struct str dir = base->path;
  while (dir.n > 0 && dir.p[dir.n - 1] != '/') dir.n--;
  if (dir.n == 0) dir = STR("/");
  struct str whole = path.p[0] == '/' ? arena_dup(a, path) : arena_printf(a, "%.*s%.*s", STR_FMT(dir), STR_FMT(path));
  out->path = (struct str){whole.p, reference_remove_dots((char *)(uintptr_t)whole.p, whole.n)};
  return NULL;
}

static bool has_scheme(struct str s) {
  for (size_t i = 0; i < s.n && s.p[i] != '/' && s.p[i] != '?'; i++)
    if (s.p[i] == ':') return true;
  return false;
}

const char *http_resolve(struct arena *a, const struct url *base, struct str location, struct url *out) {
  struct str s = arena_dup(a, str_trim(location));
  const char *fragment = s.n > 0 ? memchr(s.p, '#', s.n) : NULL;
  if (fragment != NULL) s.n = (size_t)(fragment - s.p);
  for (size_t i = 0; i < s.n; i++)
    if (s.p[i] <= ' ' || s.p[i] >= 0x7f) return "a byte in Location that may not stand in a URL";
  if (str_starts(s, STR("//")))
    s = arena_printf(a, "%s:%.*s", base->tls ? "https" : "http", STR_FMT(s));
  else if (!has_scheme(s))
    return resolve_path(a, base, s, out);
  if (!str_starts(s, STR("http://")) && !str_starts(s, STR("https://")))
    return "a Location that is neither http nor https";
  return url_parse(s, out);
}
