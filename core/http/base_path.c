/* base_path.c: see base_path.h.
 *
 * Servers do not read a path alike. Most take "/" alone for a separator while they remove dot segments, some also "%2f", "\" or "%5c", and some decode more than
 * once; several merge empty segments, and several drop what stands behind ";" in a segment. Each may make more of a path ("/a%2fb" is one step down or
 * two) or less, so no single reading is the worst. Hence a path is walked once for each set of separators that a server may know, and what is left of it once more for
 * each larger set, since there is often a second server behind the first. It leads out if it does in one of these walks. What only makes it lead out more easily is
 * taken for granted in all of them: encoded dots are dots, an empty segment is no step down, and neither a segment's parameters
 * count nor what stands behind an encoded "?", "#" or control character that follows dots.
 *
 * Work is bounded: a path that has ".." and spells its separators in more than two ways beside "/" is taken to lead out without a walk. One that has no ".." is
 * passed over once, and one without two dots or an escape not at all. */
#include "http/base_path.h"

#include "base/buf.h"
#include "base/chars.h"
#include "net/url.h"

/* --- paths --- */

/* What some servers take for "/". */
enum { BACKSLASH = 1, ENCODED_SLASH = 2, ENCODED_BACKSLASH = 4, ENCODED_MORE = 8, ALL_SPELLINGS = 15 };

enum { NESTED_MAX = 3 }; /* how deep the digits of escapes may be escaped; work doubles with each */

static char take_char(struct str s, size_t *i, unsigned *times, unsigned depth);

/* A digit of an escape, which may be escaped itself: for who decodes twice "%25%32%65" is "%2e" first and then a dot. -1: none, and *i stays. */
static int take_digit(struct str s, size_t *i, unsigned *times, unsigned depth) {
  size_t at = *i;
  unsigned more = 0;
  if (at >= s.n || (s.p[at] == '%' && depth == 0)) return -1;
  int digit = hex_value(take_char(s, &at, &more, depth > 0 ? depth - 1 : 0));
  if (digit < 0) return -1;
  *i = at;
  if (more > *times) *times = more;
  return digit;
}

/* The character at *i, decoded as often as it was encoded: *times. %252e is a dot that was encoded twice. */
static char take_char(struct str s, size_t *i, unsigned *times, unsigned depth) {
  char c = s.p[(*i)++];
  size_t at = *i, end = at;
  *times = 0;
  for (unsigned n = 1; c == '%'; n++) { /* what an escape gives may be the "%" of another one */
    unsigned digits = 0;
    int high = take_digit(s, &at, &digits, depth), low = high < 0 ? -1 : take_digit(s, &at, &digits, depth);
    if (low < 0) return '%';
    c = (char)(high << 4 | low);
    end = at;
    *times = n + digits;
  }
  *i = end;
  return c;
}

static unsigned spelling_of(char c, unsigned times) {
  if (c != '/' && c != '\\') return 0;
  if (times > 1) return ENCODED_MORE;
  if (times == 1) return c == '/' ? ENCODED_SLASH : ENCODED_BACKSLASH;
  return c == '/' ? 0 : BACKSLASH;
}

/* What may stand behind dots, encoded, and be gone when they are read: the end of a string in C, white space where names are trimmed, and for a second server that gets the path
 * decoded the beginning of a query or fragment. */
static bool ends_dots(char c) { return (unsigned char)c <= ' ' || c == '?' || c == '#'; }

enum segment_kind { SEGMENT_STAYS, SEGMENT_DOWN, SEGMENT_UP }; /* STAYS: empty, or a single dot */
struct segment {
  struct str text; /* as it is written */
  enum segment_kind kind;
  unsigned spelt; /* the separator behind it, if it is one of the above */
};

/* The next one from *i on, for whoever knows these separators. False at the end. */
static bool next_segment(struct str path, size_t *i, unsigned known, struct segment *out) {
  size_t begin = *i, end = begin, dots = 0;
  bool named = false, parameters = false;
  *out = (struct segment){.spelt = 0};
  if (begin >= path.n) return false;
  while (*i < path.n) {
    unsigned times;
    char c = take_char(path, i, &times, NESTED_MAX);
    unsigned spelling = spelling_of(c, times);
    if (c == '/' && times == 0) break;
    if (spelling & known) {
      out->spelt = spelling;
      break;
    }
    end = *i;
    if (c == ';' || (dots > 0 && ends_dots(c))) parameters = true;
    if (!parameters && c == '.') dots++;
    if (!parameters && c != '.') named = true;
  }
  out->text = (struct str){path.p + begin, end - begin};
  out->kind = named || dots > 2 ? SEGMENT_DOWN : dots == 2 ? SEGMENT_UP : SEGMENT_STAYS;
  return true;
}

/* A server that knows these separators ends above the path's beginning. left: what it makes of the path otherwise. */
static bool leads_out(struct str path, unsigned known, struct buf *left) {
  struct segment s;
  buf_reset(left);
  for (size_t i = 0; next_segment(path, &i, known, &s);) {
    if (s.kind == SEGMENT_DOWN) {
      buf_add(left, "/", 1);
      buf_adds(left, s.text);
    } else if (s.kind == SEGMENT_UP) {
      if (left->n == 0) return true;
      left->n = (size_t)((const uint8_t *)memrchr(left->p, '/', left->n) - left->p);
    }
  }
  return false;
}

/* The same for a server, and for another one behind it that knows more of the separators in `all`. */
static bool leads_out_in_turn(struct str path, unsigned known, unsigned all) {
  struct buf first, second;
  buf_init(&first);
  buf_init(&second);
  bool out = leads_out(path, known, &first);
  for (unsigned more = known + 1; more <= all && !out; more++)
    if ((more & known) == known && (more & all) == more) out = leads_out(buf_str(&first), more, &second);
  buf_fini(&first);
  buf_fini(&second);
  return out;
}

bool base_path_left(struct str path) {
  enum { SPELLINGS_MAX = 2 };
  if (path.n == 0) return false;
  if (memchr(path.p, '%', path.n) == NULL && memmem(path.p, path.n, "..", 2) == NULL) return false;
  struct segment s;
  unsigned all = 0;
  bool up = false;
  for (size_t i = 0; next_segment(path, &i, ALL_SPELLINGS, &s);) {
    up = up || s.kind == SEGMENT_UP;
    all |= s.spelt;
  }
  if (!up) return false;
  if (__builtin_popcount(all) > SPELLINGS_MAX) return true;
  for (unsigned known = 0; known <= all; known++)
    if ((known & all) == known && leads_out_in_turn(path, known, all)) return true;
  return false;
}

/* --- locations --- */

static struct str from(struct str s, size_t n) { return (struct str){s.p + n, s.n - n}; }

/* The bytes of s up to the first of `ends`, or all. */
static size_t length_to(struct str s, const char *ends) {
  size_t n = 0;
  while (n < s.n && strchr(ends, s.p[n]) == NULL) n++;
  return n;
}

static bool same_authority(struct str a, struct str b, bool tls) {
  struct str host_a, host_b;
  uint16_t port_a, port_b, usual = tls ? 443 : 80;
  if (!host_split(a, &host_a, &port_a) || !host_split(b, &host_b, &port_b)) return false;
  return str_ieq(host_a, host_b) && (port_a != 0 ? port_a : usual) == (port_b != 0 ? port_b : usual);
}

/* Takes scheme and authority off a location that names this server, or has none. */
static bool take_server(struct str *s, const struct base_path_server *server) {
  struct str scheme = server->tls ? STR("https:") : STR("http:");
  bool absolute = s->n >= scheme.n && str_ieq((struct str){s->p, scheme.n}, scheme);
  if (absolute) *s = from(*s, scheme.n);
  if (!str_starts(*s, STR("//"))) return !absolute && s->n > 0 && s->p[0] == '/';
  *s = from(*s, 2);
  size_t n = length_to(*s, "/?#");
  if (!same_authority((struct str){s->p, n}, server->authority, server->tls)) return false;
  *s = from(*s, n);
  return true;
}

struct str base_path_location(struct arena *a, struct str location, const struct base_path_server *server) {
  struct str none = {NULL, 0}, s = str_trim(location), base = server->base;
  if (!chars_all(s, CHAR_TARGET) || !take_server(&s, server)) return none;
  if (base.n > 0 && base.p[base.n - 1] == '/') base.n--;
  size_t path = length_to(s, "?#");
  bool below = path >= base.n && str_starts(s, base) && (path == base.n || s.p[base.n] == '/');
  if (!below || base_path_left((struct str){s.p + base.n, path - base.n})) return none;
  s = from(s, base.n);
  path -= base.n;
  /* "//host" and, to browsers, "/\host" would name another server. */
  bool another = path > 1 && (s.p[1] == '/' || s.p[1] == '\\');
  struct str said = arena_printf(a, "%s%.*s", path == 0 ? "/" : another ? "/." : "", STR_FMT(s));
  return str_eq(said, str_trim(location)) ? none : said;
}
