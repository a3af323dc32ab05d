/* schema.c: the engine behind the tables of fields in keys*.c. One function a kind of value; problems.c keeps and reports the problems.
 *
 * A wrong value is a problem and leaves the struct as it was, with its default, and reading goes on: so one run reports everything that is wrong. Lists and
 * tables of names are gone through here, their readers see one value at a time. Only known keys nest, so a script cannot make C's stack or Lua's overflow by
 * nesting. Runs on the thread that loads a policy, inside vm_call. */
#include "policy/schema.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/units.h"
#include "policy/hint.h"

static void *member(void *base, const struct field *f) { return (char *)base + f->offset; }

/* Limits of a whole table of fields: a script cannot make the stack overflow by nesting, since only known keys nest. */
static void room(struct schema *s) { luaL_checkstack(s->L, 8, "too many nested tables"); }

/* --- one function a kind --- */

static void expected_range(struct schema *s, const struct path *at, int value, const char *what, const char *low,
                           const char *high) {
  struct str text = high == NULL ? arena_printf(s->arena, "%s of at least %s", what, low)
                                 : arena_printf(s->arena, "%s from %s to %s", what, low, high);
  schema_expected(s, at, value, text.p, NULL);
}

static void read_boolean(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  if (lua_type(s->L, value) == LUA_TBOOLEAN) {
    *(bool *)member(base, f) = lua_toboolean(s->L, value) != 0;
    return;
  }
  const char *text = lua_type(s->L, value) == LUA_TSTRING ? lua_tostring(s->L, value) : "";
  bool word = strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
  schema_expected(s, at, value, "true or false", word ? arena_printf(s->arena, "%s", text).p : NULL);
}

static void read_count(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  int whole = 0;
  uint64_t max = f->max != 0 ? f->max : UINT32_MAX;
  lua_Integer n = lua_tointegerx(s->L, value, &whole);
  bool in_range = whole != 0 && n >= 0 && (uint64_t)n >= f->min && (uint64_t)n <= max;
  if (in_range && lua_type(s->L, value) == LUA_TNUMBER) {
    *(uint32_t *)member(base, f) = (uint32_t)n;
    return;
  }
  char low[24], high[24];
  snprintf(low, sizeof low, "%llu", (unsigned long long)f->min);
  snprintf(high, sizeof high, "%llu", (unsigned long long)max);
  if (in_range) {
    schema_expected(s, at, value, "a whole number", arena_printf(s->arena, "%lld", (long long)n).p); /* "4" */
  } else {
    expected_range(s, at, value, "a whole number", low, f->max != 0 ? high : NULL);
  }
}

static void read_fraction(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  double n = lua_type(s->L, value) == LUA_TNUMBER ? (double)lua_tonumber(s->L, value) : -1;
  if (n >= (double)f->min && n <= (double)f->max) {
    *(double *)member(base, f) = n;
    return;
  }
  struct str text = arena_printf(s->arena, "a number from %d to %d", (int)f->min, (int)f->max);
  schema_expected(s, at, value, text.p, NULL);
}

static bool to_duration(struct schema *s, int value, uint64_t *ms) {
  int64_t parsed = 0;
  if (lua_type(s->L, value) == LUA_TNUMBER) {
    double seconds = (double)lua_tonumber(s->L, value);
    if (!(seconds >= 0 && seconds < 1e12)) return false;
    *ms = (uint64_t)llround(seconds * 1000);
    return true;
  }
  if (lua_type(s->L, value) != LUA_TSTRING) return false;
  size_t n;
  const char *p = lua_tolstring(s->L, value, &n);
  if (!units_duration_ms((struct str){p, n}, &parsed)) return false;
  *ms = (uint64_t)parsed;
  return true;
}

static void read_duration(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  uint64_t ms, max = f->max != 0 ? f->max : HINT_DURATION_MAX_MS;
  if (!to_duration(s, value, &ms)) {
    schema_expected(s, at, value, "a duration such as 5 (seconds), \"250ms\", \"2s\" or \"5m\"",
                    hint_duration(s, value));
  } else if (ms < f->min || ms > max) {
    expected_range(s, at, value, "a duration", hint_write_duration(s->arena, f->min),
                   hint_write_duration(s->arena, max));
  } else if (f->kind == FIELD_DURATION_US) {
    *(int64_t *)member(base, f) = (int64_t)ms * 1000;
  } else {
    *(uint64_t *)member(base, f) = ms;
  }
}

static bool to_size(struct schema *s, int value, uint64_t *bytes) {
  if (lua_type(s->L, value) == LUA_TNUMBER) {
    int whole = 0;
    lua_Integer n = lua_tointegerx(s->L, value, &whole);
    *bytes = (uint64_t)n;
    return whole != 0 && n >= 0;
  }
  if (lua_type(s->L, value) != LUA_TSTRING) return false;
  size_t n;
  const char *p = lua_tolstring(s->L, value, &n);
  return units_size((struct str){p, n}, bytes);
}

static void read_size(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  bool narrow = f->kind == FIELD_SIZE32;
  uint64_t bytes, max = f->max != 0 ? f->max : narrow ? UINT32_MAX : INT64_MAX;
  if (!to_size(s, value, &bytes)) {
    schema_expected(s, at, value, "a size such as 4096 (bytes), \"64k\" or \"1m\"", hint_size(s, value));
  } else if (bytes < f->min || bytes > max) {
    const char *high = f->max != 0 || narrow ? hint_write_size(s->arena, max) : NULL;
    expected_range(s, at, value, "a size", hint_write_size(s->arena, f->min), high);
  } else if (narrow) {
    *(uint32_t *)member(base, f) = (uint32_t)bytes;
  } else {
    *(uint64_t *)member(base, f) = bytes;
  }
}

static bool choose(const struct choice *choices, const char *name, unsigned *out) {
  for (; choices->name != NULL; choices++) {
    if (strcmp(choices->name, name) != 0) continue;
    *out = choices->value;
    return true;
  }
  return false;
}

static void read_choice(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  unsigned chosen;
  if (lua_type(s->L, value) == LUA_TSTRING && choose(f->of.choices, lua_tostring(s->L, value), &chosen)) {
    *(unsigned *)member(base, f) = chosen;
    return;
  }
  schema_expected(s, at, value, hint_write_choices(s->arena, f->of.choices), hint_choice(s, value, f->of.choices));
}

static void read_string(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  struct str text;
  const char *expected = f->kind == FIELD_FILE ? "the name of a file" : "a string that is not empty";
  if (!schema_string(s, at, value, expected, &text)) return;
  if (text.n == 0) {
    schema_expected(s, at, value, expected, NULL);
    return;
  }
  *(const char **)member(base, f) = f->kind == FIELD_FILE ? schema_file(s, text) : text.p;
}

static void read_function(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  if (lua_type(s->L, value) == LUA_TFUNCTION) {
    *(bool *)member(base, f) = true;
  } else {
    schema_expected(s, at, value, "a function", NULL);
  }
}

/* --- shared by readers --- */

void schema_value(struct schema *s, const struct path *at, int value, const struct field *f, void *base) {
  switch (f->kind) {
    case FIELD_BOOLEAN: read_boolean(s, at, value, f, base); break;
    case FIELD_COUNT: read_count(s, at, value, f, base); break;
    case FIELD_FRACTION: read_fraction(s, at, value, f, base); break;
    case FIELD_DURATION:
    case FIELD_DURATION_US: read_duration(s, at, value, f, base); break;
    case FIELD_SIZE:
    case FIELD_SIZE32: read_size(s, at, value, f, base); break;
    case FIELD_CHOICE: read_choice(s, at, value, f, base); break;
    case FIELD_STRING:
    case FIELD_FILE: read_string(s, at, value, f, base); break;
    case FIELD_FUNCTION: read_function(s, at, value, f, base); break;
    case FIELD_TABLE: schema_read(s, at, value, f->of.fields, member(base, f), false); break;
    case FIELD_CUSTOM: f->of.read(s, at, value, member(base, f)); break;
  }
}

void schema_read(struct schema *s, const struct path *at, int value, const struct field *fields, void *base,
                 bool list) {
  if (!schema_is_table(s, at, value, "a table")) return;
  room(s);
  schema_check_keys(s, at, value, fields, list);
  for (const struct field *f = fields; f->key != NULL; f++) {
    struct path child = {at, str_of(f->key), 0};
    lua_pushstring(s->L, f->key);
    lua_rawget(s->L, value);
    if (!lua_isnil(s->L, -1)) schema_value(s, &child, lua_gettop(s->L), f, base);
    lua_pop(s->L, 1);
  }
}

static void field_default(const struct field *f, void *base) {
  struct str text = str_of(f->fallback);
  int64_t ms = 0;
  uint64_t bytes = 0;
  switch (f->kind) {
    case FIELD_BOOLEAN: *(bool *)member(base, f) = str_eq(text, STR("true")); break;
    case FIELD_COUNT: *(uint32_t *)member(base, f) = (uint32_t)strtoul(f->fallback, NULL, 10); break;
    case FIELD_FRACTION: *(double *)member(base, f) = strtod(f->fallback, NULL); break;
    case FIELD_DURATION:
    case FIELD_DURATION_US:
      units_duration_ms(text, &ms);
      *(int64_t *)member(base, f) = f->kind == FIELD_DURATION ? ms : ms * 1000;
      break;
    case FIELD_SIZE:
      units_size(text, &bytes);
      *(uint64_t *)member(base, f) = bytes;
      break;
    case FIELD_SIZE32:
      units_size(text, &bytes);
      *(uint32_t *)member(base, f) = (uint32_t)bytes;
      break;
    case FIELD_CHOICE: choose(f->of.choices, f->fallback, member(base, f)); break;
    default: break; /* the others have none: NULL, false */
  }
}

void schema_defaults(const struct field *fields, void *base) {
  for (const struct field *f = fields; f->key != NULL; f++) {
    if (f->kind == FIELD_TABLE) schema_defaults(f->of.fields, member(base, f));
    if (f->fallback != NULL) field_default(f, base);
  }
}

bool schema_is_table(struct schema *s, const struct path *at, int value, const char *expected) {
  if (lua_type(s->L, value) == LUA_TTABLE) return true;
  schema_expected(s, at, value, expected, NULL);
  return false;
}

bool schema_borrow(struct schema *s, const struct path *at, int value, const char *expected, struct str *out) {
  if (lua_type(s->L, value) != LUA_TSTRING) {
    schema_expected(s, at, value, expected, NULL);
    return false;
  }
  out->p = lua_tolstring(s->L, value, &out->n);
  if (memchr(out->p, '\0', out->n) == NULL) return true;
  schema_problem(s, at, "expected %s, got a string with a NUL byte in it", expected);
  return false;
}

bool schema_string(struct schema *s, const struct path *at, int value, const char *expected, struct str *out) {
  struct str borrowed;
  if (!schema_borrow(s, at, value, expected, &borrowed)) return false;
  *out = arena_dup(s->arena, borrowed);
  return true;
}

const char *schema_file(struct schema *s, struct str name) {
  if (name.p[0] == '/' || strcmp(s->dir, ".") == 0) return arena_dup(s->arena, name).p;
  return arena_printf(s->arena, "%s/%.*s", s->dir, STR_FMT(name)).p;
}

/* --- keys --- */

enum { FIELDS_MAX = 32 };

static size_t field_names(const struct field *fields, struct str names[FIELDS_MAX]) {
  size_t n = 0;
  for (; fields != NULL && fields->key != NULL && n < FIELDS_MAX; fields++) names[n++] = str_of(fields->key);
  return n;
}

static bool has_field(const struct field *fields, struct str key) {
  for (; fields != NULL && fields->key != NULL; fields++)
    if (str_eq(str_of(fields->key), key)) return true;
  return false;
}

/* The other tables that have such a key: "timeouts or upstream.timeouts". Empty: none. */
static struct str places_of(struct schema *s, const struct field *here, struct str key) {
  struct str found = STR("");
  for (const struct field_place *const *list = s->places; list != NULL && *list != NULL; list++)
    for (const struct field_place *place = *list; place->name != NULL; place++)
      if (place->fields != here && has_field(place->fields, key))
        found = arena_printf(s->arena, "%.*s%s%s", STR_FMT(found), found.n > 0 ? " or " : "", place->name);
  return found;
}

static void unknown_key(struct schema *s, const struct path *at, struct str key, const struct field *fields) {
  struct str names[FIELDS_MAX] = {{NULL, 0}};
  size_t n = field_names(fields, names);
  struct path child = {at, key, 0};
  struct str near = schema_nearest(key, names, n), elsewhere = places_of(s, fields, key);
  if (elsewhere.n > 0 && (near.p == NULL || str_distance(near, key) > 1)) {
    schema_problem(s, &child, "unknown key here (it is a key of %.*s)", STR_FMT(elsewhere));
    return;
  }
  if (near.p != NULL) {
    schema_problem(s, &child, "unknown key (did you mean \"%.*s\"?)", STR_FMT(near));
    return;
  }
  struct str known = STR("");
  for (size_t i = 0; i < n; i++)
    known = arena_printf(s->arena, "%.*s%s%.*s", STR_FMT(known), i > 0 ? ", " : "", STR_FMT(names[i]));
  if (n > 0) {
    schema_problem(s, &child, "unknown key (known here: %.*s)", STR_FMT(known));
  } else {
    schema_problem(s, &child, "expected a list, got a value with a key");
  }
}

/* The key at -2 (its value at -1). */
static void check_key(struct schema *s, const struct path *at, const struct field *fields, bool list,
                      lua_Unsigned length) {
  if (lua_type(s->L, -2) == LUA_TSTRING) {
    struct str key;
    key.p = lua_tolstring(s->L, -2, &key.n);
    if (!has_field(fields, key)) unknown_key(s, at, key, fields);
    return;
  }
  bool whole = lua_isinteger(s->L, -2) != 0;
  lua_Integer index = whole ? lua_tointeger(s->L, -2) : 0;
  if (list && index >= 1 && (lua_Unsigned)index <= length) return;
  if (!whole || index < 1) {
    schema_problem(s, at, "expected names as keys, got %s", hint_type(s, lua_gettop(s->L) - 1));
    return;
  }
  struct path child = {at, {NULL, 0}, (size_t)index};
  if (list) {
    schema_problem(s, &child, "expected a list without gaps");
  } else {
    schema_problem(s, &child, "expected a key, as in key = value");
  }
}

void schema_check_keys(struct schema *s, const struct path *at, int value, const struct field *fields, bool list) {
  lua_Unsigned length = lua_rawlen(s->L, value);
  lua_pushnil(s->L);
  while (lua_next(s->L, value) != 0) {
    check_key(s, at, fields, list, length);
    lua_pop(s->L, 1);
  }
}

static int by_text(const void *a, const void *b) {
  const struct str *x = a, *y = b;
  int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
  return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

size_t schema_size(struct schema *s, int value) {
  room(s);
  size_t n = 0;
  lua_pushnil(s->L);
  for (; lua_next(s->L, value) != 0; lua_pop(s->L, 1)) n++;
  return n;
}

size_t schema_names(struct schema *s, const struct path *at, int value, struct str **names) {
  size_t n = 0;
  *names = arena_alloc(s->arena, (schema_size(s, value) + 1) * sizeof **names);
  lua_pushnil(s->L);
  for (; lua_next(s->L, value) != 0; lua_pop(s->L, 1)) {
    if (lua_type(s->L, -2) != LUA_TSTRING) {
      check_key(s, at, NULL, false, 0);
      continue;
    }
    struct str key;
    key.p = lua_tolstring(s->L, -2, &key.n);
    (*names)[n++] = arena_dup(s->arena, key);
  }
  if (n > 1) qsort(*names, n, sizeof **names, by_text);
  return n;
}

void schema_each_item(struct schema *s, const struct path *at, int value, schema_each_fn fn, void *arg) {
  room(s);
  schema_check_keys(s, at, value, NULL, true);
  size_t n = lua_rawlen(s->L, value);
  for (size_t i = 1; i <= n; i++) {
    struct path child = {at, {NULL, 0}, i};
    lua_rawgeti(s->L, value, (lua_Integer)i);
    fn(s, &child, lua_gettop(s->L), arg);
    lua_pop(s->L, 1);
  }
}

void schema_each_name(struct schema *s, const struct path *at, int value, schema_each_fn fn, void *arg) {
  struct str *names;
  size_t n = schema_names(s, at, value, &names);
  for (size_t i = 0; i < n; i++) {
    struct path child = {at, names[i], 0};
    if (!path_is_name(names[i])) {
      schema_problem(s, &child, "expected a name made of letters, digits and '_'");
      continue;
    }
    lua_pushlstring(s->L, names[i].p, names[i].n);
    lua_rawget(s->L, value);
    fn(s, &child, lua_gettop(s->L), arg);
    lua_pop(s->L, 1);
  }
}
