/* mask.c: see mask.h.
 *
 * A fingerprint is the text read as a number of base `base` modulo 2^61 - 1, with a base that is drawn for each mask: two texts share one by an accident of 2^-50 or
 * so, and the number of a window that slides over a text follows from the one before in two multiplications (Karp and Rabin). So a text is passed over once for each
 * length that there is. A table of the bytes themselves was the other way: it would keep replaced tokens in memory for as long as it remembers them.
 *
 * Fingerprints are of three kinds. WHOLE marks what it matches. BEGIN is of a long value's first bytes, and marks the rest of the word too: a message may be
 * cut in the middle of a secret. CODED is of the part of a base64 text that does not depend on what stands around the value, and marks the whole word.
 *
 * Escapes (percent, JSON's and C's, HTML's) have too many dialects, one within the other, to be fingerprints: so the text is searched as it is, and once more for
 * each layer of escapes that can be taken off. What is found there marks the bytes that it was written with.
 *
 * What is remembered comes in two generations: when the younger is full it becomes the older one, and what was there is forgotten. One thread. */
#include "base/mask.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/json.h"
#include "base/must.h"
#include "base/rand.h"
#include "base/secmem.h"

enum {
  FORMS = 32,                       /* fingerprints of one value, at the most */
  PLACES = 2 * MASK_VALUES * FORMS, /* of a generation's table; a power of two */
  VALUE_MIN = 4,                    /* below, a value says too little, and would be found in any text */
  CODED_MIN = 5,                    /* a shorter piece of base64 says too little */
  LAYERS = 4,                       /* of escapes that are taken off */
  ENTITY_MAX = 10,                  /* bytes of an HTML entity */
  BEGIN_OF = 16,
  BEGIN = 12, /* a value of 16 bytes and more is found by its first 12 */
  VALUE_MAX = 64 * 1024
};
enum kind { WHOLE, BEGIN_ONLY, CODED };
static const uint64_t PRIME = ((uint64_t)1 << 61) - 1;

struct print {
  uint64_t of; /* 0: an empty place */
  uint32_t n;
  uint8_t kind;
};
struct length { /* of prints, and how they came to be remembered: there are few */
  uint32_t n;
};
struct generation {
  struct print *places;
  unsigned count;
  struct length *lengths;
  unsigned nlengths;
};
struct mask {
  uint64_t base;
  struct generation young, old;
};

static _Thread_local struct mask *of_thread;

/* --- numbers --- */

static uint64_t reduce(uint64_t x) { return x >= PRIME ? x - PRIME : x; }

static uint64_t multiply(uint64_t a, uint64_t b) {
  __extension__ typedef unsigned __int128 wide;
  wide product = (wide)a * b;
  return reduce(((uint64_t)product & PRIME) + (uint64_t)(product >> 61));
}

static uint64_t push(const struct mask *m, uint64_t print, char c) {
  return reduce(multiply(print, m->base) + (unsigned char)c + 1);
}

static uint64_t print_of(const struct mask *m, struct str s) {
  uint64_t print = 0;
  for (size_t i = 0; i < s.n; i++) print = push(m, print, s.p[i]);
  return print;
}

static uint64_t power(const struct mask *m, size_t n) {
  uint64_t result = 1;
  for (uint64_t b = m->base; n > 0; n >>= 1, b = multiply(b, b))
    if (n & 1) result = multiply(result, b);
  return result;
}

/* --- what is remembered --- */

static void generation_init(struct generation *g) {
  *g = (struct generation){.places = must_calloc(PLACES, sizeof *g->places)};
}

static void generation_fini(struct generation *g) {
  free(g->places);
  free(g->lengths);
}

static struct print *find(const struct generation *g, uint64_t print, size_t n) {
  size_t at = (size_t)(print % PLACES);
  while (g->places[at].of != 0 && (g->places[at].of != print || g->places[at].n != n)) at = (at + 1) % PLACES;
  return &g->places[at];
}

static void note_length(struct generation *g, uint32_t n) {
  for (unsigned i = 0; i < g->nlengths; i++)
    if (g->lengths[i].n == n) return;
  g->lengths = must_realloc(g->lengths, (g->nlengths + 1) * sizeof *g->lengths);
  g->lengths[g->nlengths++].n = n;
}

static void remember(struct mask *m, struct str s, enum kind kind) {
  uint64_t print = print_of(m, s);
  if (s.n == 0 || print == 0) return;
  struct print *p = find(&m->young, print, s.n);
  if (p->of != 0) return;
  if (m->young.count >= MASK_VALUES * FORMS) {
    generation_fini(&m->old);
    m->old = m->young;
    generation_init(&m->young);
    p = find(&m->young, print, s.n);
  }
  *p = (struct print){print, (uint32_t)s.n, (uint8_t)kind};
  m->young.count++;
  note_length(&m->young, (uint32_t)s.n);
}

/* --- the forms of a value --- */

/* Base64 of `before` unknown bytes and then s: the letters that s alone decides. */
static void add_coded(struct mask *m, enum base64_form form, struct str s, size_t before) {
  size_t n = before + s.n, room = base64_room(n);
  char *bytes = secmem_alloc(n), *text = secmem_alloc(room);
  memcpy(bytes + before, s.p, s.n);
  (void)base64_encode(form, bytes, n, text);
  size_t from = (8 * before + 5) / 6, to = 8 * n / 6;
  if (to >= from + CODED_MIN) remember(m, (struct str){text + from, to - from}, CODED);
  secmem_free(bytes, n);
  secmem_free(text, room);
}

static void add_text(struct mask *m, struct str s) {
  remember(m, s, WHOLE);
  if (s.n >= BEGIN_OF) remember(m, (struct str){s.p, BEGIN}, BEGIN_ONLY);
}

static void add_everywhere(struct mask *m, struct str s) {
  add_text(m, s);
  for (size_t before = 0; before < BASE64_GROUP; before++) {
    add_coded(m, BASE64_PADDED, s, before);
    add_coded(m, BASE64_URL, s, before);
  }
}

struct form { /* how percent-encoding is written, which has its dialects */
  const char *plain, *digits;
  bool plus; /* for a space */
};

static void add_form(struct buf *b, struct str s, const struct form *f) {
  for (size_t i = 0; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];
    char escape[3] = {'%', f->digits[c >> 4], f->digits[c & 15]};
    if ((c < 0x80 && isalnum(c)) || (c != '\0' && strchr(f->plain, c) != NULL))
      buf_add(b, &c, 1);
    else if (c == ' ' && f->plus)
      buf_addz(b, "+");
    else
      buf_add(b, escape, 3);
  }
}

static void add_json(struct buf *b, struct str s, bool solidus) {
  char escape[JSON_ESCAPE_MAX];
  for (size_t i = 0; i < s.n; i++) {
    if (solidus && s.p[i] == '/')
      buf_addz(b, "\\/");
    else
      buf_add(b, escape, json_escape_byte((unsigned char)s.p[i], escape));
  }
}

static void add_hex(struct buf *b, struct str s, const char *digits) {
  for (size_t i = 0; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];
    char pair[2] = {digits[c >> 4], digits[c & 15]};
    buf_add(b, pair, 2);
  }
}

void mask_add(struct mask *m, struct str value) {
  static const struct form forms[] = {
      {"*-._", "0123456789ABCDEF", true}, {"*-._", "0123456789abcdef", true}, {"-._~", "0123456789ABCDEF", false}};
  if (value.n < VALUE_MIN || value.n > VALUE_MAX) return;
  if (find(&m->young, print_of(m, value), value.n)->of != 0) return; /* sent before, as most are */
  add_everywhere(m, value);
  struct buf b;
  buf_init(&b);
  b.sensitive = true;
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    buf_reset(&b);
    add_form(&b, value, &forms[i]);
    if (i == 0 && !str_eq(buf_str(&b), value))
      add_everywhere(m, buf_str(&b)); /* Basic is of form-encoded text, RFC 6749 section 2.3.1 */
    if (i > 0) add_text(m, buf_str(&b));
  }
  for (int solidus = 0; solidus < 2; solidus++) {
    buf_reset(&b);
    add_json(&b, value, solidus);
    add_text(m, buf_str(&b));
  }
  for (int upper = 0; upper < 2; upper++) {
    buf_reset(&b);
    add_hex(&b, value, upper ? "0123456789ABCDEF" : "0123456789abcdef");
    add_text(m, buf_str(&b));
  }
  buf_fini(&b);
}

/* --- finding them --- */

static bool is_coded(char c) {
  return (unsigned char)c < 0x80 && (isalnum((unsigned char)c) || strchr("+/-_=.~%", c) != NULL) && c != '\0';
}

static void mark(struct str text, uint8_t *marked, size_t at, const struct print *p) {
  size_t from = at, to = at + p->n;
  while (p->kind == CODED && from > 0 && is_coded(text.p[from - 1]) && text.p[from - 1] != '=') from--;
  while (p->kind != WHOLE && to < text.n && is_coded(text.p[to])) to++;
  memset(marked + from, 1, to - from);
}

static bool mark_length(const struct mask *m, const struct generation *g, size_t n, struct str text, uint8_t *marked) {
  bool any = false;
  if (n > text.n) return false;
  uint64_t print = print_of(m, (struct str){text.p, n}), first = power(m, n);
  for (size_t at = 0;; at++) {
    const struct print *p = find(g, print, n);
    if (p->of != 0) {
      mark(text, marked, at, p);
      any = true;
    }
    if (at + n == text.n) return any;
    uint64_t leaves = multiply(first, (uint64_t)(unsigned char)text.p[at] + 1);
    print = reduce(push(m, print, text.p[at + n]) + PRIME - leaves);
  }
}

static bool mark_all(const struct mask *m, const struct generation *g, struct str text, uint8_t *marked) {
  bool any = false;
  for (unsigned i = 0; i < g->nlengths; i++) any = mark_length(m, g, g->lengths[i].n, text, marked) || any;
  return any;
}

static bool mark_both(const struct mask *m, struct str text, uint8_t *marked) {
  bool young = mark_all(m, &m->young, text, marked), old = mark_all(m, &m->old, text, marked);
  return young || old;
}

/* --- layers of escapes --- */

struct layer { /* a text without one layer of escapes: where each byte of it stands in the first text */
  struct buf text;
  uint32_t *from, *to;
};

static bool read_digits(const char *p, size_t n, unsigned base, uint32_t *code) {
  static const char digits[] = "0123456789abcdef";
  *code = 0;
  for (size_t i = 0; i < n; i++) {
    const char *at = p[i] != '\0' ? strchr(digits, char_lower(p[i])) : NULL;
    if (at == NULL || at - digits >= (ptrdiff_t)base || *code > 0xffff) return false;
    *code = *code * base + (uint32_t)(at - digits);
  }
  return n > 0;
}

static size_t read_entity(struct str s, uint32_t *code) {
  static const struct {
    const char *name;
    char is;
  } names[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
  const char *end = memchr(s.p, ';', s.n < ENTITY_MAX ? s.n : ENTITY_MAX);
  if (end == NULL || end < s.p + 2) return 0;
  struct str name = {s.p + 1, (size_t)(end - s.p - 1)};
  bool hex = name.n > 1 && (name.p[1] == 'x' || name.p[1] == 'X');
  if (name.p[0] == '#' && read_digits(name.p + (hex ? 2 : 1), name.n - (hex ? 2 : 1), hex ? 16 : 10, code))
    return name.n + 2;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    *code = (unsigned char)names[i].is;
    if (str_eq(name, str_of(names[i].name))) return name.n + 2;
  }
  return 0;
}

/* The escape that s begins with: its length, and the byte or character; 0: it is none. */
static size_t read_escape(struct str s, uint32_t *code) {
  if (s.p[0] == '%') return s.n >= 3 && read_digits(s.p + 1, 2, 16, code) ? 3 : 0;
  if (s.p[0] == '&') return read_entity(s, code);
  if (s.p[0] != '\\' || s.n < 2) return 0;
  if (s.p[1] == 'u') return s.n >= 6 && read_digits(s.p + 2, 4, 16, code) ? 6 : 0;
  if (s.p[1] == 'x') return s.n >= 4 && read_digits(s.p + 2, 2, 16, code) ? 4 : 0;
  *code = (unsigned char)s.p[1];
  return strchr("\"'/\\", s.p[1]) != NULL && s.p[1] != '\0' ? 2 : 0;
}

static void put_byte(struct layer *to, unsigned char c, uint32_t from, uint32_t end) {
  to->from[to->text.n] = from;
  to->to[to->text.n] = end;
  buf_add(&to->text, &c, 1);
}

/* `percent`: the code is a byte; of other escapes it is a character. No escape is shorter than its character in UTF-8. */
static void put_code(struct layer *to, uint32_t code, bool percent, uint32_t from, uint32_t end) {
  if (code < 0x80 || percent) {
    put_byte(to, (unsigned char)code, from, end);
  } else if (code < 0x800) {
    put_byte(to, (unsigned char)(0xc0 | code >> 6), from, end);
    put_byte(to, (unsigned char)(0x80 | (code & 63)), from, end);
  } else {
    put_byte(to, (unsigned char)(0xe0 | (code >> 12 & 15)), from, end);
    put_byte(to, (unsigned char)(0x80 | (code >> 6 & 63)), from, end);
    put_byte(to, (unsigned char)(0x80 | (code & 63)), from, end);
  }
}

/* Takes a layer off. False: there is none. */
static bool take_off(const struct layer *of, struct layer *to) {
  struct str s = buf_str(&of->text);
  bool any = false;
  buf_reset(&to->text);
  for (size_t i = 0; i < s.n;) {
    uint32_t code = 0;
    size_t n = read_escape((struct str){s.p + i, s.n - i}, &code);
    any = any || n > 0;
    size_t last = n > 0 ? i + n - 1 : i;
    if (n > 0)
      put_code(to, code, s.p[i] == '%', of->from[i], of->to[last]);
    else
      put_byte(to, (unsigned char)s.p[i], of->from[i], of->to[i]);
    i = last + 1;
  }
  return any;
}

static void layer_init(struct layer *l, size_t n) {
  buf_init(&l->text);
  l->text.sensitive = true;
  l->from = must_malloc(n * sizeof *l->from);
  l->to = must_malloc(n * sizeof *l->to);
}

static void layer_fini(struct layer *l) {
  buf_fini(&l->text);
  free(l->from);
  free(l->to);
}

static bool may_be_escaped(struct str s) {
  return memchr(s.p, '%', s.n) != NULL || memchr(s.p, '\\', s.n) != NULL || memchr(s.p, '&', s.n) != NULL;
}

static bool mark_layers(const struct mask *m, struct str text, uint8_t *marked) {
  if (!may_be_escaped(text)) return false;
  struct layer layers[2];
  uint8_t *found = must_malloc(text.n);
  bool any = false;
  for (int i = 0; i < 2; i++) layer_init(&layers[i], text.n);
  for (uint32_t i = 0; i < text.n; i++) put_byte(&layers[0], (unsigned char)text.p[i], i, i + 1);
  for (int i = 0; i < LAYERS && take_off(&layers[i % 2], &layers[(i + 1) % 2]); i++) {
    const struct layer *l = &layers[(i + 1) % 2];
    memset(found, 0, l->text.n);
    any = mark_both(m, buf_str(&l->text), found) || any;
    for (size_t at = 0; at < l->text.n; at++)
      if (found[at] != 0) memset(marked + l->from[at], 1, l->to[at] - l->from[at]);
  }
  for (int i = 0; i < 2; i++) layer_fini(&layers[i]);
  free(found);
  return any;
}

bool mask_apply(const struct mask *m, struct str text, struct buf *out) {
  if (text.n == 0) return false;
  uint8_t *marked = must_calloc(text.n, 1);
  bool plain = mark_both(m, text, marked), escaped = mark_layers(m, text, marked);
  bool any = (plain || escaped) && memchr(marked, 1, text.n) != NULL;
  for (size_t i = 0; any && i < text.n; i++) {
    if (marked[i] == 0)
      buf_add(out, text.p + i, 1);
    else if (i == 0 || marked[i - 1] == 0)
      buf_addz(out, "***");
  }
  free(marked);
  return any;
}

/* --- masks --- */

struct mask *mask_new(void) {
  struct mask *m = must_calloc(1, sizeof *m);
  random_bytes(&m->base, sizeof m->base);
  m->base = 256 + m->base % (PRIME - 512);
  generation_init(&m->young);
  return m;
}

void mask_free(struct mask *m) {
  if (m == NULL) return;
  generation_fini(&m->young);
  generation_fini(&m->old);
  free(m);
}

struct mask *mask_of_thread(void) {
  if (of_thread == NULL) of_thread = mask_new();
  return of_thread;
}

void mask_end_thread(void) {
  mask_free(of_thread);
  of_thread = NULL;
}

bool mask_is_empty(void) { return of_thread == NULL; }

void mask_text(char *text, size_t size) {
  struct buf b;
  if (of_thread == NULL || size == 0) return;
  buf_init(&b);
  if (mask_apply(of_thread, str_of(text), &b)) {
    size_t n = b.n < size - 1 ? b.n : size - 1;
    memcpy(text, b.p, n);
    text[n] = '\0';
  }
  buf_fini(&b);
}
