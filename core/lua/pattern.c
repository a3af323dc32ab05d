/* pattern.c: Lua patterns as the Lua 5.4 reference manual describes them (6.4.1), by backtracking.
 *
 * The stock functions never come back from a pattern such as ("a?"):rep(99)..("a"):rep(99), nor can a count hook interrupt them. Here every step burns
 * the time budget, which ends a match that takes too long with an error at the script's line. A step: one item tried at one place, one byte passed
 * over by a repetition, or SET_BYTES of a set that is looked through for either. Nothing is owned while matching, so raising anywhere is safe. Recursion is bounded by DEPTH_MAX.
 *
 * The NUL behind every Lua string is relied upon: the byte at pattern_end may be read. Owned by the VM's thread. */
#include "lua/pattern.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "lua/vm.h"
#include "lua/vm_internal.h"

enum {
  CAPTURES_MAX = 32,
  DEPTH_MAX = 200,
  SCAN_STEPS = 4096,
  SEARCH_BYTES = 64 /* of a plain search, a step */,
  SET_BYTES = 16
};
enum { OPEN = -1, POSITION = -2 }; /* in place of a capture's length */

struct capture {
  const char *at;
  ptrdiff_t length;
};
struct matcher {
  lua_State *L;
  struct budget *budget;
  const char *subject, *end;
  const char *pattern_end;
  int depth;
  int ncaptures;
  struct capture captures[CAPTURES_MAX];
};

static const char *match(struct matcher *m, const char *s, const char *p);

static inline unsigned byte_at(const char *s) { return (unsigned char)*s; }

/* --- items that match one byte --- */

/* The end of the item that begins at p. */
static const char *item_end(struct matcher *m, const char *p) {
  const char first = *p++;
  if (first == '%') {
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
    return p + 1;
  }
  if (first != '[') return p;
  if (*p == '^') p++;
  for (bool begun = false;; begun = true) { /* a ']' that comes first stands for itself */
    if (begun && p < m->pattern_end && *p == ']') return p + 1;
    if (p >= m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
    if (*p++ == '%') p++;
  }
}

static bool in_class(unsigned c, unsigned class) {
  bool in;
  switch (class | 0x20u) { /* an upper-case letter is the complement of its lower-case one */
    case 'a': in = isalpha((int)c); break;
    case 'c': in = iscntrl((int)c); break;
    case 'd': in = isdigit((int)c); break;
    case 'g': in = isgraph((int)c); break;
    case 'l': in = islower((int)c); break;
    case 'p': in = ispunct((int)c); break;
    case 's': in = isspace((int)c); break;
    case 'u': in = isupper((int)c); break;
    case 'w': in = isalnum((int)c); break;
    case 'x': in = isxdigit((int)c); break;
    case 'z': in = c == 0; break; /* no longer in the manual, still in Lua 5.4 */
    default: return class == c;
  }
  return class < 'a' ? !in : in;
}

/* Is c in the set from '[' at p to ']' at last? */
static bool in_set(unsigned c, const char *p, const char *last) {
  bool wanted = true;
  if (*++p == '^') {
    wanted = false;
    p++;
  }
  for (; p < last; p++) {
    if (*p == '%') {
      p++;
      if (in_class(c, byte_at(p))) return wanted;
    } else if (p[1] == '-' && p + 2 < last) {
      if (byte_at(p) <= c && c <= byte_at(p + 2)) return wanted;
      p += 2;
    } else if (byte_at(p) == c) {
      return wanted;
    }
  }
  return !wanted;
}

static inline bool item_takes(const struct matcher *m, const char *s, const char *p, const char *item_end_) {
  if (s >= m->end) return false;
  switch (*p) {
    case '.': return true;
    case '%': return in_class(byte_at(s), byte_at(p + 1));
    case '[': return in_set(byte_at(s), p, item_end_ - 1);
    default: return *p == *s;
  }
}

/* The steps of one byte that is held against the item: a set may be as long as any string. */
static inline size_t item_steps(const char *p, const char *after) { return 1 + (size_t)(after - p) / SET_BYTES; }

/* --- repetitions --- */

/* The end of the longest run from s that the item takes. */
static const char *run_end(struct matcher *m, const char *s, const char *p, const char *after) {
  const char *from = s;
  if (*p == '.') return m->end;
  const size_t each = item_steps(p, after), scan = each < SCAN_STEPS ? SCAN_STEPS / each : 1;
  while (item_takes(m, s, p, after)) {
    s++;
    if ((size_t)(s - from) < scan) continue;
    budget_burn(m->L, m->budget, scan * each);
    from = s;
  }
  budget_burn(m->L, m->budget, (size_t)(s - from) * each);
  return s;
}

static const char *match_longest(struct matcher *m, const char *s, const char *p, const char *after) {
  const char *at = run_end(m, s, p, after);
  for (;; at--) {
    const char *end = match(m, at, after + 1);
    if (end != NULL || at == s) return end;
  }
}

static const char *match_shortest(struct matcher *m, const char *s, const char *p, const char *after) {
  for (;; s++) {
    const char *end = match(m, s, after + 1);
    if (end != NULL) return end;
    budget_burn(m->L, m->budget, item_steps(p, after));
    if (!item_takes(m, s, p, after)) return NULL;
  }
}

/* --- captures --- */

static const char *capture_open(struct matcher *m, const char *s, const char *p, ptrdiff_t what) {
  if (m->ncaptures == CAPTURES_MAX) luaL_error(m->L, "too many captures");
  m->captures[m->ncaptures++] = (struct capture){s, what};
  const char *end = match(m, s, p);
  if (end == NULL) m->ncaptures--;
  return end;
}

static const char *capture_close(struct matcher *m, const char *s, const char *p) {
  int i = m->ncaptures - 1;
  while (i >= 0 && m->captures[i].length != OPEN) i--;
  if (i < 0) luaL_error(m->L, "invalid pattern capture");
  m->captures[i].length = s - m->captures[i].at;
  const char *end = match(m, s, p);
  if (end == NULL) m->captures[i].length = OPEN;
  return end;
}

/* %1 to %9: the text of an earlier capture again. */
static const char *match_again(struct matcher *m, const char *s, char digit) {
  int i = digit - '1';
  if (i < 0 || i >= m->ncaptures || m->captures[i].length == OPEN)
    luaL_error(m->L, "invalid capture index %%%d", i + 1);
  ptrdiff_t n = m->captures[i].length;
  if (n < 0 || n > m->end - s || memcmp(m->captures[i].at, s, (size_t)n) != 0) return NULL;
  budget_burn(m->L, m->budget, (size_t)n / 64);
  return s + n;
}

/* --- the other items --- */

/* %bxy; p is at x. */
static const char *match_balanced(struct matcher *m, const char *s, const char *p) {
  if (m->pattern_end - p < 2) luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
  if (s >= m->end || *s != p[0]) return NULL;
  size_t level = 1;
  for (const char *from = s++; s < m->end; s++) {
    if (*s == p[1]) {
      if (--level == 0) return s + 1;
    } else if (*s == p[0]) {
      level++;
    }
    if (s - from < SCAN_STEPS) continue;
    budget_burn(m->L, m->budget, SCAN_STEPS);
    from = s;
  }
  budget_burn(m->L, m->budget, SCAN_STEPS / 4);
  return NULL;
}

/* %f[set]; p is at the set. Returns the set's end when s is at such a frontier. */
static const char *match_frontier(struct matcher *m, const char *s, const char *p) {
  if (*p != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
  const char *after = item_end(m, p);
  budget_burn(m->L, m->budget, 2 * item_steps(p, after));
  unsigned previous = s == m->subject ? 0 : byte_at(s - 1);
  unsigned next = s == m->end ? 0 : byte_at(s);
  return !in_set(previous, p, after - 1) && in_set(next, p, after - 1) ? after : NULL;
}

enum special { NO_SPECIAL, MATCHED, NOT_MATCHED };

/* The items that begin with '%' and are no class: goes on behind them. */
static enum special match_special(struct matcher *m, const char **s, const char **p) {
  const char *next;
  switch ((*p)[1]) {
    case 'b':
      next = match_balanced(m, *s, *p + 2);
      if (next != NULL) *s = next, *p += 4;
      break;
    case 'f':
      next = match_frontier(m, *s, *p + 2);
      if (next != NULL) *p = next;
      break;
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
      next = match_again(m, *s, (*p)[1]);
      if (next != NULL) *s = next, *p += 2;
      break;
    default: return NO_SPECIAL;
  }
  return next != NULL ? MATCHED : NOT_MATCHED;
}

/* --- the pattern --- */

static const char *match_items(struct matcher *m, const char *s, const char *p) {
  while (p != m->pattern_end) {
    budget_burn(m->L, m->budget, 1);
    if (*p == '(') return p[1] == ')' ? capture_open(m, s, p + 2, POSITION) : capture_open(m, s, p + 1, OPEN);
    if (*p == ')') return capture_close(m, s, p + 1);
    if (*p == '$' && p + 1 == m->pattern_end) return s == m->end ? s : NULL;
    if (*p == '%') {
      enum special special = match_special(m, &s, &p);
      if (special == NOT_MATCHED) return NULL;
      if (special == MATCHED) continue;
    }
    const char *after = item_end(m, p);
    if (after - p >= SET_BYTES) budget_burn(m->L, m->budget, item_steps(p, after));
    bool takes = item_takes(m, s, p, after);
    if (!takes && (*after == '*' || *after == '-')) { /* nothing to give back: go on without recursion */
      p = after + 1;
      continue;
    }
    switch (*after) {
      case '*': return match_longest(m, s, p, after);
      case '+': return takes ? match_longest(m, s + 1, p, after) : NULL;
      case '-': return match_shortest(m, s, p, after);
      case '?': {
        const char *end = takes ? match(m, s + 1, after + 1) : NULL;
        if (end != NULL) return end;
        p = after + 1;
        break;
      }
      default:
        if (!takes) return NULL;
        s++;
        p = after;
    }
  }
  return s;
}

/* The end of the match of what is left of the pattern at s, or NULL. */
static const char *match(struct matcher *m, const char *s, const char *p) {
  if (m->depth++ == DEPTH_MAX) luaL_error(m->L, "pattern too complex");
  const char *end = match_items(m, s, p);
  m->depth--;
  return end;
}

static const char *match_at(struct matcher *m, const char *s, const char *p) {
  m->depth = m->ncaptures = 0;
  return match(m, s, p);
}

static void matcher_init(struct matcher *m, lua_State *L, const char *s, size_t ns, const char *p, size_t np) {
  m->L = L;
  m->budget = &vm_at(L)->budget;
  m->subject = s;
  m->end = s + ns;
  m->pattern_end = p + np;
}

/* --- results --- */

/* Capture i, or the whole match from s to e as the first of a pattern that has none. Its length is POSITION for a position. */
static struct capture capture_of(struct matcher *m, int i, const char *s, const char *e) {
  if (i >= m->ncaptures) {
    if (i != 0) luaL_error(m->L, "invalid capture index %%%d", i + 1);
    return (struct capture){s, e - s};
  }
  if (m->captures[i].length == OPEN) luaL_error(m->L, "unfinished capture");
  return m->captures[i];
}

static void push_capture(struct matcher *m, int i, const char *s, const char *e) {
  struct capture c = capture_of(m, i, s, e);
  if (c.length == POSITION)
    lua_pushinteger(m->L, c.at - m->subject + 1);
  else
    lua_pushlstring(m->L, c.at, (size_t)c.length);
}

/* s NULL: without the whole match. */
static int push_captures(struct matcher *m, const char *s, const char *e) {
  int n = m->ncaptures == 0 && s != NULL ? 1 : m->ncaptures;
  luaL_checkstack(m->L, n, "too many captures");
  for (int i = 0; i < n; i++) push_capture(m, i, s, e);
  return n;
}

/* --- find and match --- */

static const char SPECIALS[] = "^$*+?.([%-";

static bool is_special(char c) { return c != '\0' && strchr(SPECIALS, c) != NULL; }

static bool has_specials(const char *p, size_t n) {
  for (const char *end = p + n; p < end; p += strlen(p) + 1) /* a pattern may hold NULs */
    if (strpbrk(p, SPECIALS) != NULL) return true;
  return false;
}

/* The place to begin at, from 0; more than ns when it is behind the end. */
static size_t start_of(lua_State *L, int idx, size_t ns) {
  lua_Integer i = luaL_optinteger(L, idx, 1);
  if (i > 0) return (size_t)i - 1;
  if (i == 0 || i < -(lua_Integer)ns) return 0;
  return ns - (size_t)(-i);
}

static int find_plain(lua_State *L, const char *s, size_t ns, size_t start, const char *p, size_t np) {
  budget_burn(L, &vm_at(L)->budget, (ns - start) / SEARCH_BYTES);
  const char *at = np == 0 ? s + start : memmem(s + start, ns - start, p, np);
  if (at == NULL) return 0;
  lua_pushinteger(L, at - s + 1);
  lua_pushinteger(L, at - s + (lua_Integer)np);
  return 2;
}

/* The first byte of every match, when the pattern says so; -1 when not. */
static int first_byte(const char *p, size_t np) {
  if (np == 0 || is_special(*p) || *p == ')') return -1;
  return np > 1 && strchr("*?-", p[1]) != NULL && p[1] != '\0' ? -1 : (int)byte_at(p);
}

static int find_pattern(lua_State *L, struct matcher *m, const char *s, const char *p, bool find) {
  bool anchored = *p == '^' && p < m->pattern_end;
  if (anchored) p++;
  budget_burn(L, m->budget, (size_t)(m->end - s) / SEARCH_BYTES);
  int first = anchored ? -1 : first_byte(p, (size_t)(m->pattern_end - p));
  do {
    if (first >= 0) s = memchr(s, first, (size_t)(m->end - s));
    if (s == NULL) return 0;
    const char *e = match_at(m, s, p);
    if (e == NULL) continue;
    if (!find) return push_captures(m, s, e);
    lua_pushinteger(L, s - m->subject + 1);
    lua_pushinteger(L, e - m->subject);
    return push_captures(m, NULL, NULL) + 2;
  } while (s++ < m->end && !anchored);
  return 0;
}

static int search(lua_State *L, bool find) {
  size_t ns, np;
  const char *s = luaL_checklstring(L, 1, &ns), *p = luaL_checklstring(L, 2, &np);
  size_t start = start_of(L, 3, ns);
  int n = 0;
  budget_burn(L, &vm_at(L)->budget, np / SEARCH_BYTES);
  if (start <= ns && find && (lua_toboolean(L, 4) || !has_specials(p, np))) {
    n = find_plain(L, s, ns, start, p, np);
  } else if (start <= ns) {
    struct matcher m;
    matcher_init(&m, L, s, ns, p, np);
    n = find_pattern(L, &m, s + start, p, find);
  }
  if (n > 0) return n;
  lua_pushnil(L);
  return 1;
}

static int l_find(lua_State *L) { return search(L, true); }
static int l_match(lua_State *L) { return search(L, false); }

/* --- gmatch --- */

struct walk { /* a userdata; subject and pattern are kept by the closure */
  struct matcher m;
  const char *at, *pattern;
  const char *last; /* the end of the last match: an empty one there is not another */
};

static int l_next_match(lua_State *L) {
  struct walk *w = lua_touserdata(L, lua_upvalueindex(3));
  w->m.L = L;
  for (const char *s = w->at; s <= w->m.end; s++) {
    const char *e = match_at(&w->m, s, w->pattern);
    if (e == NULL || e == w->last) continue;
    w->at = w->last = e;
    return push_captures(&w->m, s, e);
  }
  w->at = w->m.end + 1;
  return 0;
}

static int l_gmatch(lua_State *L) {
  size_t ns, np;
  const char *s = luaL_checklstring(L, 1, &ns), *p = luaL_checklstring(L, 2, &np);
  size_t start = start_of(L, 3, ns);
  if (start > ns) start = ns + 1;
  lua_settop(L, 2);
  struct walk *w = lua_newuserdatauv(L, sizeof *w, 0);
  matcher_init(&w->m, L, s, ns, p, np);
  w->at = s + start;
  w->pattern = p;
  w->last = NULL;
  lua_pushcclosure(L, l_next_match, 3);
  return 1;
}

/* --- gsub --- */

static void add_capture(struct matcher *m, luaL_Buffer *b, int i, const char *s, const char *e) {
  struct capture c = capture_of(m, i, s, e);
  if (c.length != POSITION) {
    luaL_addlstring(b, c.at, (size_t)c.length);
    return;
  }
  lua_pushinteger(m->L, c.at - m->subject + 1);
  luaL_addvalue(b);
}

/* A replacement's text, argument 3, with its %0 to %9 and %% expanded. */
static void add_text(struct matcher *m, luaL_Buffer *b, const char *s, const char *e) {
  size_t n;
  const char *r = lua_tolstring(m->L, 3, &n), *end = r + n;
  budget_burn(m->L, m->budget, n / SEARCH_BYTES);
  for (;;) {
    budget_burn(m->L, m->budget, 1);
    const char *percent = memchr(r, '%', (size_t)(end - r));
    luaL_addlstring(b, r, (size_t)((percent != NULL ? percent : end) - r));
    if (percent == NULL) return;
    char what = percent[1];
    r = percent + 2;
    if (what == '%')
      luaL_addchar(b, '%');
    else if (what == '0')
      luaL_addlstring(b, s, (size_t)(e - s));
    else if (what >= '1' && what <= '9')
      add_capture(m, b, what - '1', s, e);
    else
      luaL_error(m->L, "invalid use of '%%' in replacement string");
  }
}

/* Adds what stands for the match from s to e; false: the match stays as it is. */
static bool add_replacement(struct matcher *m, luaL_Buffer *b, const char *s, const char *e, int type) {
  lua_State *L = m->L;
  if (type == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(m, s, e), 1);
  } else if (type == LUA_TTABLE) {
    push_capture(m, 0, s, e);
    lua_gettable(L, 3);
  } else {
    add_text(m, b, s, e);
    return true;
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s, (size_t)(e - s));
    return false;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  luaL_addvalue(b);
  return true;
}

static int check_replacement(lua_State *L) {
  int type = lua_type(L, 3);
  luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
                   "string/function/table");
  if (type != LUA_TNUMBER) return type;
  lua_tolstring(L, 3, NULL); /* in place */
  return LUA_TSTRING;
}

static int l_gsub(lua_State *L) {
  size_t ns, np;
  const char *s = luaL_checklstring(L, 1, &ns), *p = luaL_checklstring(L, 2, &np), *last = NULL;
  int type = check_replacement(L);
  lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)ns + 1), n = 0;
  struct matcher m;
  luaL_Buffer b;
  matcher_init(&m, L, s, ns, p, np);
  bool anchored = np > 0 && *p == '^', changed = false;
  if (anchored) p++;
  luaL_buffinit(L, &b);
  while (n < max) {
    budget_burn(L, m.budget, 1);
    const char *e = match_at(&m, s, p);
    if (e != NULL && e != last) {
      n++;
      changed = add_replacement(&m, &b, s, e, type) || changed;
      s = last = e;
    } else if (s < m.end) {
      luaL_addchar(&b, *s);
      s++;
    } else {
      break;
    }
    if (anchored) break;
  }
  if (!changed) {
    lua_pushvalue(L, 1);
  } else {
    luaL_addlstring(&b, s, (size_t)(m.end - s));
    luaL_pushresult(&b);
  }
  lua_pushinteger(L, n);
  return 2;
}

static const luaL_Reg functions[] = {
    {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch}, {"gsub", l_gsub}, {NULL, NULL}};

void pattern_open(lua_State *L) { luaL_setfuncs(L, functions, 0); }
