/* hint.c: hints in messages: the value that was found, and the one that was probably meant.
 *
 * Messages are read by people and kept in logs, so a value is shown only where no secret can be meant to stand: not under a key whose name suggests one, not
 * directly in `tokens`, no URL that carries more than host and path, and never a userdata. Elsewhere the message names the type alone. Runs on the thread that
 * loads the policy; texts lie in its arena. */
#include "policy/hint.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/units.h"

/* --- what is shown --- */

static const char *const secret_words[] = {"secret", "passw",  "passphrase", "key",    "token", "value",
                                           "auth",   "bearer", "credential", "cookie", "jwt",   "private"};

static bool contains_word(struct str s, struct str word) {
  for (size_t i = 0; i + word.n <= s.n; i++) {
    size_t n = 0;
    while (n < word.n && char_lower(s.p[i + n]) == word.p[n]) n++;
    if (n == word.n) return true;
  }
  return false;
}

static bool names_secret(struct str key) {
  for (size_t i = 0; i < sizeof secret_words / sizeof *secret_words; i++)
    if (contains_word(key, str_of(secret_words[i]))) return true;
  return false;
}

/* forward.private: its word is that of keys, its values are addresses. */
static bool is_ranges(const struct path *at) {
  return at != NULL && at->parent != NULL && at->parent->parent == NULL && str_eq(at->key, STR("private")) &&
         str_eq(at->parent->key, STR("forward"));
}

bool hint_hidden(struct schema *s, const struct path *at, int value) {
  while (at != NULL && at->key.p == NULL) at = at->parent; /* a place in a list: the list's name counts */
  if (is_ranges(at)) return false;
  if (at != NULL && (names_secret(at->key) || (at->parent != NULL && str_eq(at->parent->key, STR("tokens"))))) {
    bool table = at->parent == NULL && lua_type(s->L, value) == LUA_TTABLE; /* nothing of a table is ever shown */
    return !table;
  }
  if (lua_type(s->L, value) != LUA_TSTRING) return false;
  size_t n;
  const char *text = lua_tolstring(s->L, value, &n); /* it is a string: nothing is converted */
  return memchr(text, '@', n) != NULL || memchr(text, '?', n) != NULL;
}

static const char *userdata_name(struct schema *s, int value) {
  const char *name = "userdata";
  if (!lua_getmetatable(s->L, value)) return "a userdata";
  lua_pushstring(s->L, "__name");
  lua_rawget(s->L, -2);
  if (lua_type(s->L, -1) == LUA_TSTRING) name = lua_tostring(s->L, -1);
  bool secret = contains_word(str_of(name), STR("secret"));
  const char *text = secret ? "an opaque secret" : arena_printf(s->arena, "a userdata (%s)", name).p;
  lua_pop(s->L, 2);
  return text;
}

const char *hint_type(struct schema *s, int value) {
  switch (lua_type(s->L, value)) {
    case LUA_TNIL: return "nothing";
    case LUA_TBOOLEAN: return "a boolean";
    case LUA_TNUMBER: return "a number";
    case LUA_TSTRING: return "a string";
    case LUA_TTABLE: return "a table";
    case LUA_TFUNCTION: return "a function";
    case LUA_TTHREAD: return "a coroutine";
    default: return userdata_name(s, value);
  }
}

const char *hint_quoted(struct schema *s, struct str text) { return path_quote(s->arena, text).p; }

const char *hint_value(struct schema *s, const struct path *at, int value) {
  if (hint_hidden(s, at, value)) return hint_type(s, value);
  if (lua_isinteger(s->L, value)) return arena_printf(s->arena, "%lld", (long long)lua_tointeger(s->L, value)).p;
  if (lua_type(s->L, value) == LUA_TNUMBER) return arena_printf(s->arena, "%.14g", (double)lua_tonumber(s->L, value)).p;
  if (lua_type(s->L, value) == LUA_TBOOLEAN) return lua_toboolean(s->L, value) ? "true" : "false";
  if (lua_type(s->L, value) != LUA_TSTRING) return hint_type(s, value);
  struct str text;
  text.p = lua_tolstring(s->L, value, &text.n);
  return hint_quoted(s, text);
}

/* --- units written out --- */

struct scale {
  const char *unit;
  uint64_t factor;
};

static const char *write_scaled(struct arena *a, uint64_t n, const struct scale *scale) {
  while (scale->factor > 1 && (n == 0 || n % scale->factor != 0)) scale++;
  return arena_printf(a, "%" PRIu64 "%s", n / scale->factor, scale->unit).p;
}

const char *hint_write_duration(struct arena *a, uint64_t ms) {
  static const struct scale scales[] = {{"d", 24 * 3600000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
  return ms == 0 ? "0" : write_scaled(a, ms, scales);
}

const char *hint_write_size(struct arena *a, uint64_t bytes) {
  static const struct scale scales[] = {{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1}};
  return write_scaled(a, bytes, scales);
}

const char *hint_write_choices(struct arena *a, const struct choice *choices) {
  struct str text = STR("");
  for (const struct choice *c = choices; c->name != NULL; c++) {
    const char *between = c == choices ? "" : c[1].name == NULL ? " or " : ", ";
    text = arena_printf(a, "%.*s%s\"%s\"", STR_FMT(text), between, c->name);
  }
  return text.p;
}

/* --- what was meant --- */

struct spelling {
  const char *unit;
  const char *words; /* with a space around each */
};
static const struct spelling durations[] = {{"ms", " msec msecs millis millisecond milliseconds "},
                                            {"s", " sec secs second seconds "},
                                            {"m", " min mins minute minutes "},
                                            {"h", " hr hrs hour hours "},
                                            {"d", " day days "},
                                            {NULL, NULL}};
static const struct spelling sizes[] = {{"", " byte bytes "},
                                        {"k", " kib kilobyte kilobytes kibibyte kibibytes "},
                                        {"m", " mib megabyte megabytes mebibyte mebibytes "},
                                        {"g", " gib gigabyte gigabytes gibibyte gibibytes "},
                                        {NULL, NULL}};

enum { WORD_MAX = 16 };

/* " Sec" -> " sec " into out; false when it cannot be a unit. */
static bool spaced(struct str word, char out[WORD_MAX + 3]) {
  word = str_trim(word);
  if (word.n == 0 || word.n > WORD_MAX) return false;
  size_t n = 0;
  out[n++] = ' ';
  for (size_t i = 0; i < word.n; i++) out[n++] = char_lower(word.p[i]);
  out[n++] = ' ';
  out[n] = '\0';
  return true;
}

/* The number and, in *unit, our name for the unit behind it. */
static bool split_units(struct str text, const struct spelling *spellings, struct str *number, struct str *unit) {
  char word[WORD_MAX + 3];
  text = str_trim(text);
  size_t n = 0;
  while (n < text.n && ((text.p[n] >= '0' && text.p[n] <= '9') || text.p[n] == '.')) n++;
  *number = (struct str){text.p, n};
  *unit = str_trim((struct str){text.p + n, text.n - n}); /* our own, with a space before it */
  if (n == 0) return false;
  if (unit->n == 0) return true;
  if (!spaced(*unit, word)) return false;
  for (const struct spelling *s = spellings; s->unit != NULL; s++)
    if (strstr(s->words, word) != NULL) *unit = str_of(s->unit);
  return true;
}

static const char *guess_units(struct schema *s, int value, const struct spelling *spellings) {
  struct str text, number, unit;
  if (lua_type(s->L, value) != LUA_TSTRING) return NULL;
  text.p = lua_tolstring(s->L, value, &text.n);
  if (text.n > SHOWN_MAX || memchr(text.p, '\0', text.n) != NULL) return NULL;
  if (!split_units(text, spellings, &number, &unit)) return NULL;
  struct str guess = arena_printf(s->arena, "%.*s%.*s", STR_FMT(number), STR_FMT(unit));
  int64_t ms;
  uint64_t bytes;
  bool good = spellings == durations ? units_duration_ms(guess, &ms) : units_size(guess, &bytes);
  return good ? hint_quoted(s, guess) : NULL;
}

const char *hint_duration(struct schema *s, int value) { return guess_units(s, value, durations); }
const char *hint_size(struct schema *s, int value) { return guess_units(s, value, sizes); }

struct str schema_nearest(struct str name, const struct str *names, size_t n) {
  struct str best = {NULL, 0};
  unsigned least = UINT32_MAX;
  for (size_t i = 0; i < n; i++) {
    unsigned distance = str_distance(name, names[i]);
    bool near = distance <= 1 || (distance == 2 && name.n > 3) || (size_t)distance * 3 <= name.n;
    if (near && distance < name.n && distance < least) {
      least = distance;
      best = names[i];
    }
  }
  return best;
}

enum { CHOICES_MAX = 16 };

const char *hint_choice(struct schema *s, int value, const struct choice *choices) {
  struct str names[CHOICES_MAX];
  size_t n = 0;
  const char *shown = hint_value(s, NULL, value);
  for (; choices->name != NULL && n < CHOICES_MAX; choices++) {
    if (strcmp(choices->name, shown) == 0) return hint_quoted(s, str_of(choices->name)); /* a number for "1.2" */
    names[n++] = str_of(choices->name);
  }
  if (lua_type(s->L, value) != LUA_TSTRING) return NULL;
  struct str text;
  text.p = lua_tolstring(s->L, value, &text.n);
  if (text.n > SHOWN_MAX) return NULL;
  struct str near = schema_nearest(text, names, n);
  return near.p != NULL ? hint_quoted(s, near) : NULL;
}
