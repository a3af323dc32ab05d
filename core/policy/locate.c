/* locate.c: finds the table that a policy returns in the text and notes the line of each key.
 *
 * Understood are `return { … }`, `return call { … }`, and `local M = { … }`, `M.key = …`, `function M.on_request(…)`, `return M`; inside, nested constructors. A
 * constructor among a call's arguments counts as the value of the key that the call is assigned to: `api = oauth2.client_credentials { wait = … }`
 * has the place tokens.api.wait. Two passes over the tokens: the first finds what is returned; when that is a name, the second what is assigned to it.
 *
 * Bounded whatever the text: NESTING_MAX deep, ENTRIES_MAX keys; beyond these nothing more is noted. Any thread. */
#include "policy/locate.h"

#include "policy/lex.h"
#include "policy/path.h"

enum { NESTING_MAX = 32, ENTRIES_MAX = 4096, SUFFIX_MAX = 6 };

struct entry {
  struct entry *next;
  struct str path;
  unsigned line;
};
struct locator {
  struct arena *arena;
  struct entry *entries;
  unsigned count;
  struct lex lex;
  unsigned nesting;
};

/* Whose keys are not known (a computed key): what is below is not noted. */
static const struct path unknown = {NULL, {NULL, 0}, 0};

static void parse_value(struct locator *l, const struct path *at);

static void next(struct locator *l) { lex_next(&l->lex); }
static bool is(const struct locator *l, const char *what) { return lex_is(&l->lex, what); }
static bool ended(const struct locator *l) { return l->lex.kind == TOKEN_END; }
static void give_up(struct locator *l) {
  l->lex.p = l->lex.end;
  next(l);
}

/* The first note of a path stays: of a call's arguments it is the one that was written first. */
static void note(struct locator *l, const struct path *at, unsigned line) {
  if (l->count == ENTRIES_MAX) return;
  for (const struct path *p = at; p != NULL; p = p->parent)
    if (p == &unknown) return;
  struct entry *e = arena_alloc(l->arena, sizeof *e);
  *e = (struct entry){l->entries, path_text(l->arena, at), line};
  l->entries = e;
  l->count++;
}

/* At `function`: to behind its `end`. */
static void skip_function(struct locator *l) {
  unsigned depth = 0;
  do {
    if (is(l, "function") || is(l, "do") || is(l, "if") || is(l, "repeat")) depth++;
    if (is(l, "end") || is(l, "until")) depth--;
    next(l);
  } while (depth > 0 && !ended(l));
}

/* At the bracket that opens; constructors inside count as `at`. */
static void parse_brackets(struct locator *l, const struct path *at, const char *close) {
  next(l);
  while (!ended(l) && !is(l, close)) {
    parse_value(l, at);
    if (!ended(l) && !is(l, close)) next(l); /* a comma; or what is not Lua: always move on */
  }
  next(l);
}

/* At `[` of an entry: to behind its `]` and `=`. Known when the key is one string without escapes. */
static bool take_computed_key(struct locator *l, struct str *key) {
  unsigned depth = 0, tokens = 0;
  bool plain = false;
  do {
    if (is(l, "[")) depth++;
    if (is(l, "]")) depth--;
    if (depth > 0) next(l);
    if (++tokens == 1) {
      plain = l->lex.kind == TOKEN_STRING && memchr(l->lex.text.p, '\\', l->lex.text.n) == NULL;
      *key = l->lex.text;
    }
  } while (depth > 0 && !ended(l));
  next(l);
  if (is(l, "=")) next(l);
  return plain && tokens == 3;
}

/* Takes the key of an entry when it has one. */
static bool take_key(struct locator *l, struct str *key, bool *known) {
  if (is(l, "[")) {
    *known = take_computed_key(l, key);
    return true;
  }
  struct lex back = l->lex;
  *known = l->lex.kind == TOKEN_NAME;
  *key = l->lex.text;
  next(l);
  if (*known && is(l, "=")) {
    next(l);
    return true;
  }
  l->lex = back;
  return false;
}

static void parse_entry(struct locator *l, const struct path *at, size_t *index) {
  unsigned line = l->lex.at;
  struct str key = {NULL, 0};
  bool known = false;
  if (!take_key(l, &key, &known)) {
    struct path child = {at, {NULL, 0}, ++*index};
    note(l, &child, line);
    parse_value(l, &child);
    return;
  }
  struct path child = {at, key, 0};
  if (known) note(l, &child, line);
  parse_value(l, known ? &child : &unknown);
}

/* At `{`. */
static void parse_table(struct locator *l, const struct path *at) {
  size_t index = 0;
  next(l);
  while (!ended(l) && !is(l, "}")) {
    const char *before = l->lex.p;
    if (is(l, ",") || is(l, ";") || is(l, ")") || is(l, "]")) {
      next(l);
      continue;
    }
    parse_entry(l, at, &index);
    if (l->lex.p == before && !ended(l)) next(l); /* not Lua: always move on */
  }
  next(l);
}

static bool ends_value(const struct locator *l, bool operand) {
  if (ended(l) || is(l, ",") || is(l, ";") || is(l, "}") || is(l, ")") || is(l, "]")) return true;
  if (operand && (l->lex.kind == TOKEN_NAME || is(l, "function"))) return true; /* the next statement */
  if (l->lex.kind != TOKEN_KEYWORD) return false;
  return !(is(l, "and") || is(l, "or") || is(l, "not") || is(l, "nil") || is(l, "true") || is(l, "false") ||
           is(l, "function"));
}

/* One expression, to the separator, bracket or statement behind it. */
static void parse_value(struct locator *l, const struct path *at) {
  if (++l->nesting > NESTING_MAX) give_up(l);
  bool operand = false; /* the token before ended an operand */
  while (!ends_value(l, operand)) {
    bool sign = l->lex.kind == TOKEN_SIGN;
    operand = !sign && !is(l, "and") && !is(l, "or") && !is(l, "not");
    if (is(l, "{")) {
      parse_table(l, at);
      operand = true;
    } else if (is(l, "(") || is(l, "[")) {
      parse_brackets(l, at, is(l, "(") ? ")" : "]");
      operand = true;
    } else if (is(l, "function")) {
      skip_function(l);
    } else {
      next(l);
    }
  }
  l->nesting--;
}

/* --- statements --- */

struct depth {
  int blocks, brackets;
};

static void count_depth(const struct locator *l, struct depth *d) {
  if (is(l, "function") || is(l, "do") || is(l, "if") || is(l, "repeat")) d->blocks++;
  if (is(l, "end") || is(l, "until")) d->blocks--;
  if (is(l, "{") || is(l, "(") || is(l, "[")) d->brackets++;
  if (is(l, "}") || is(l, ")") || is(l, "]")) d->brackets--;
}

/* Behind `return`: its table; or the name that it returns. */
static struct str parse_return(struct locator *l) {
  next(l);
  struct lex back = l->lex;
  if (l->lex.kind == TOKEN_NAME) {
    next(l);
    if (ended(l) || is(l, ";")) return back.text;
    l->lex = back;
  }
  parse_value(l, NULL);
  return STR("");
}

static struct str find_return(struct locator *l) {
  struct depth d = {0, 0};
  while (!ended(l)) {
    if (is(l, "return") && d.blocks == 0 && d.brackets == 0) return parse_return(l);
    count_depth(l, &d);
    next(l);
  }
  return STR("");
}

/* Behind the name: `.key`, `["key"]`, … into steps; how many. */
static size_t take_suffix(struct locator *l, struct path steps[SUFFIX_MAX]) {
  size_t n = 0;
  while (n < SUFFIX_MAX && (is(l, ".") || is(l, ":") || is(l, "["))) {
    bool bracket = is(l, "[");
    next(l);
    if (l->lex.kind != (bracket ? TOKEN_STRING : TOKEN_NAME)) return 0;
    steps[n] = (struct path){n > 0 ? &steps[n - 1] : NULL, l->lex.text, 0};
    n++;
    next(l);
    if (bracket) next(l);
  }
  return n;
}

/* At the returned name, at the outermost level: `name.key = value`, or with `defines`, `function name.key(`. */
static void parse_assignment(struct locator *l, bool defines) {
  struct lex back = l->lex;
  unsigned line = l->lex.at;
  struct path steps[SUFFIX_MAX];
  next(l);
  size_t n = take_suffix(l, steps);
  const struct path *at = n > 0 ? &steps[n - 1] : NULL;
  if (is(l, "=") || (defines && is(l, "("))) {
    if (at != NULL) note(l, at, line);
    if (defines) return;
    next(l);
    parse_value(l, at);
    return;
  }
  l->lex = back;
  next(l);
}

static void find_assignments(struct locator *l, struct str name) {
  struct depth d = {0, 0};
  bool after_dot = false, after_function = false;
  while (!ended(l)) {
    bool outermost = d.brackets == 0 && d.blocks == (after_function ? 1 : 0);
    if (outermost && !after_dot && l->lex.kind == TOKEN_NAME && str_eq(l->lex.text, name)) {
      parse_assignment(l, after_function);
      after_dot = after_function = false;
      continue;
    }
    after_dot = is(l, ".") || is(l, ":");
    after_function = is(l, "function");
    count_depth(l, &d);
    next(l);
  }
}

struct locator *locator_new(struct arena *a, struct str text) {
  struct locator *l = arena_alloc(a, sizeof *l);
  *l = (struct locator){.arena = a};
  lex_init(&l->lex, text);
  struct str name = find_return(l);
  if (name.n > 0) {
    l->nesting = 0;
    lex_init(&l->lex, text);
    find_assignments(l, name);
  }
  return l;
}

unsigned locator_line(const struct locator *l, struct str path) {
  unsigned line = 0;
  for (const struct entry *e = l->entries; e != NULL; e = e->next) /* newest first: the last hit was noted first */
    if (str_eq(e->path, path)) line = e->line;
  return line;
}
