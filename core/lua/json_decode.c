/* json_decode.c: see json_decode.h. Owned by the VM's thread.
 *
 * lua-cjson was here before. It gathers each string in a buffer that nobody wipes when it is freed, and an issuer's reply is made of tokens; it makes a float of each
 * number, and one table of [] and {}, so that what it gave had to be walked twice more. Here a string without escapes goes from the text into Lua at once, and one with
 * escapes by way of a buffer in secret memory.
 *
 * Strict, but for control characters in strings: servers forget to escape those, and there is one way to read them. Recursion is bounded by JSON_DEPTH_MAX. */
#include "lua/json_decode.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lua/guard.h"
#include "lua/vm.h"

static const double EXACT_MAX = 9007199254740992.0; /* 2^53: floats up to here are exact integers */

struct decoder {
  lua_State *L;
  const char *p, *end;
  struct buf *scratch; /* guarded, sensitive */
  void (*mark)(lua_State *L);
  bool too_deep;
};

static bool value(struct decoder *d, unsigned depth);

static char peek(struct decoder *d) { /* behind white space; 0 at the end */
  while (d->p < d->end && (*d->p == ' ' || *d->p == '\t' || *d->p == '\r' || *d->p == '\n')) d->p++;
  return d->p < d->end ? *d->p : '\0';
}

static bool past(struct decoder *d, char c) {
  if (d->p == d->end || peek(d) != c) return false;
  d->p++;
  return true;
}

static bool word(struct decoder *d, const char *text) {
  size_t n = strlen(text);
  if ((size_t)(d->end - d->p) < n || memcmp(d->p, text, n) != 0) return false;
  d->p += n;
  return true;
}

/* --- strings --- */

static int hex4(const struct decoder *d, const char *p) {
  int code = 0;
  if (d->end - p < 4) return -1;
  for (int i = 0; i < 4; i++) {
    char c = p[i], lower = (char)(c | 0x20);
    int digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    if (digit < 0) return -1;
    code = code * 16 + digit;
  }
  return code;
}

static void add_utf8(struct buf *b, unsigned code) {
  char out[4];
  size_t n = 0;
  if (code < 0x80) {
    out[n++] = (char)code;
  } else {
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned first[] = {0, 0xc0, 0xe0, 0xf0};
    out[n++] = (char)(first[more] | code >> (6 * more));
    while (more-- > 0) out[n++] = (char)(0x80 | (code >> (6 * more) & 0x3f));
  }
  buf_add(b, out, n);
}

/* At the "u". A character beyond the first plane is two surrogates (RFC 8259 section 7); one alone is none. */
static bool unicode(struct decoder *d) {
  int code = hex4(d, d->p + 1), low;
  if (code < 0 || (code >= 0xdc00 && code < 0xe000)) return false;
  d->p += 5;
  if (code >= 0xd800 && code < 0xdc00) {
    if (d->end - d->p < 6 || d->p[0] != '\\' || d->p[1] != 'u') return false;
    low = hex4(d, d->p + 2);
    if (low < 0xdc00 || low >= 0xe000) return false;
    d->p += 6;
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  add_utf8(d->scratch, (unsigned)code);
  return true;
}

static bool escape(struct decoder *d) { /* behind the backslash */
  static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
  if (d->p == d->end) return false;
  if (*d->p == 'u') return unicode(d);
  const char *at = *d->p != '\0' ? strchr(names, *d->p) : NULL;
  if (at == NULL) return false;
  buf_add(d->scratch, &bytes[at - names], 1);
  d->p++;
  return true;
}

static const char *plain_end(const struct decoder *d) {
  const char *p = d->p;
  while (p < d->end && *p != '"' && *p != '\\') p++;
  return p;
}

static bool string(struct decoder *d) { /* behind the quote */
  const char *stop = plain_end(d), *begin = d->p;
  if (stop < d->end && *stop == '"') {
    lua_pushlstring(d->L, d->p, (size_t)(stop - d->p));
    d->p = stop + 1;
    vm_burn(d->L, (size_t)(stop - begin) / 8);
    return true;
  }
  buf_reset(d->scratch);
  for (;;) {
    buf_add(d->scratch, d->p, (size_t)(stop - d->p));
    d->p = stop;
    if (d->p == d->end) return false;
    if (*d->p++ == '"') break;
    if (!escape(d)) return false;
    stop = plain_end(d);
  }
  lua_pushlstring(d->L, (const char *)d->scratch->p, d->scratch->n);
  vm_burn(d->L, (size_t)(d->p - begin) / 4);
  return true;
}

/* --- numbers --- */

static size_t digits(const struct decoder *d, const char *p) {
  size_t n = 0;
  while (p + n < d->end && p[n] >= '0' && p[n] <= '9') n++;
  return n;
}

static void push_number(struct decoder *d, const char *from, bool whole) {
  errno = 0;
  long long integer = whole ? strtoll(from, NULL, 10) : 0;
  if (whole && errno == 0) {
    lua_pushinteger(d->L, integer);
    return;
  }
  double number = strtod(from, NULL);
  if (fabs(number) <= EXACT_MAX && floor(number) == number)
    lua_pushinteger(d->L, (lua_Integer)number);
  else
    lua_pushnumber(d->L, number);
}

static bool number(struct decoder *d) {
  const char *from = d->p, *p = from + (*from == '-' ? 1 : 0);
  size_t n = digits(d, p);
  if (n == 0 || (n > 1 && *p == '0')) return false;
  p += n;
  bool whole = true;
  if (p < d->end && *p == '.') {
    n = digits(d, p + 1);
    if (n == 0) return false;
    p += n + 1;
    whole = false;
  }
  if (p < d->end && (*p == 'e' || *p == 'E')) {
    p++;
    if (p < d->end && (*p == '+' || *p == '-')) p++;
    n = digits(d, p);
    if (n == 0) return false;
    p += n;
    whole = false;
  }
  push_number(d, from, whole);
  vm_burn(d->L, (size_t)(p - from) / 8);
  d->p = p;
  return true;
}

/* --- lists and objects --- */

static bool list(struct decoder *d, unsigned depth) { /* behind the bracket */
  lua_newtable(d->L);
  if (past(d, ']')) {
    d->mark(d->L);
    return true;
  }
  for (lua_Integer i = 1; value(d, depth); i++) {
    lua_rawseti(d->L, -2, i);
    if (past(d, ']')) return true;
    if (!past(d, ',')) return false;
  }
  return false;
}

/* Of two members of one name the last one counts. */
static bool object(struct decoder *d, unsigned depth) { /* behind the brace */
  lua_newtable(d->L);
  if (past(d, '}')) return true;
  for (;;) {
    if (!past(d, '"') || !string(d) || !past(d, ':') || !value(d, depth)) return false;
    lua_rawset(d->L, -3);
    if (past(d, '}')) return true;
    if (!past(d, ',')) return false;
  }
}

static bool nest(struct decoder *d, unsigned depth, bool (*read)(struct decoder *d, unsigned depth)) {
  if (depth >= JSON_DEPTH_MAX) {
    d->too_deep = true;
    return false;
  }
  luaL_checkstack(d->L, 6, "JSON nested too deep");
  d->p++;
  return read(d, depth + 1);
}

static bool value(struct decoder *d, unsigned depth) {
  vm_burn(d->L, 1);
  switch (peek(d)) {
    case '"': d->p++; return string(d);
    case '{': return nest(d, depth, object);
    case '[': return nest(d, depth, list);
    case 't': lua_pushboolean(d->L, true); return word(d, "true");
    case 'f': lua_pushboolean(d->L, false); return word(d, "false");
    case 'n': lua_pushlightuserdata(d->L, NULL); return word(d, "null");
    case '\0': return false;
    default: return number(d);
  }
}

size_t json_decode(lua_State *L, struct str text, void (*mark)(lua_State *L)) {
  int top = lua_gettop(L);
  luaL_checkstack(L, 8, "JSON");
  struct decoder d = {.L = L, .p = text.p, .end = text.p + text.n, .scratch = guard_buf(L), .mark = mark};
  bool good = value(&d, 0) && (peek(&d) == '\0' && d.p == d.end);
  guard_close(L, top + 1);
  if (!good) {
    lua_settop(L, top);
    return d.too_deep ? JSON_TOO_DEEP : (size_t)(d.p - text.p) + 1;
  }
  lua_remove(L, top + 1);
  return 0;
}
