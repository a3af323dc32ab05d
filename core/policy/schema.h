/* schema.h: reads a Lua table into a C struct by a table of fields, and gathers what is wrong with it.
 *
 * Used inside vm_call: Lua may raise "not enough memory" at any call, so whatever is made lies in the policy's arena or is deferred there. Access is
 * raw throughout: no metamethod of the script runs. */
#ifndef JETON_POLICY_SCHEMA_H
#define JETON_POLICY_SCHEMA_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "policy/overrides.h"
#include "policy/path.h"
#include "policy/policy.h"
#include "policy/report.h"

struct problem;
struct locator;
struct field_place;
struct schema {
  lua_State *L; /* only valid while the table is read */
  struct policy *policy;
  struct arena *arena;     /* the policy's */
  const char *dir;         /* of the policy's file: what relative file names are relative to */
  struct locator *locator; /* made when the first line is asked for */
  struct problem *problems;
  unsigned nproblems; /* errors; those above PROBLEMS_MAX are counted only */
  const struct policy_overrides *overrides;
  const struct field_place *const
      *places;              /* all tables of a policy, for keys that stand in the wrong one; lists, NULL behind them */
  struct tls_job *tls_jobs; /* keys_tls.c */
  bool is_table;            /* the file returned one */
  bool has_listen, has_upstream, has_access; /* the key was there, right or wrong */
};
enum { PROBLEMS_MAX = 100 };

enum field_kind {
  FIELD_BOOLEAN,     /* bool */
  FIELD_COUNT,       /* unsigned or uint32_t: a whole number in [min, max] */
  FIELD_FRACTION,    /* double: in [min, max] */
  FIELD_DURATION,    /* uint64_t or int64_t, milliseconds */
  FIELD_DURATION_US, /* int64_t, microseconds; [min, max] in milliseconds */
  FIELD_SIZE,        /* uint64_t, bytes */
  FIELD_SIZE32,      /* uint32_t, bytes */
  FIELD_CHOICE,      /* an enum or unsigned; names in `choices` */
  FIELD_STRING,      /* const char *: not empty, without NUL */
  FIELD_FILE,        /* const char *: a file's name; a relative one is put behind the policy's directory */
  FIELD_FUNCTION,    /* bool: it is there */
  FIELD_TABLE,       /* a table of `fields`, whose offsets count from this field's */
  FIELD_CUSTOM       /* `read` */
};

struct choice {
  const char *name;
  unsigned value;
};
/* value: absolute index of a value that is not nil. to: the address at the field's offset. */
typedef void (*field_read_fn)(struct schema *s, const struct path *at, int value, void *to);

struct field {
  const char *key; /* NULL ends the table */
  enum field_kind kind;
  size_t offset;
  const char *fallback; /* the default, as a user would write it; NULL: what the struct holds already */
  uint64_t min, max;    /* max 0: no bound but the type's */
  union {
    const struct choice *choices; /* ended by a NULL name */
    const struct field *fields;
    field_read_fn read;
  } of;
};

/* The place of a table of fields: "timeouts", "tokens.NAME". A NULL name ends a list. */
struct field_place {
  const char *name;
  const struct field *fields;
};

/* Sets the defaults of the fields that have one. */
void schema_defaults(const struct field *fields, void *base);
/* Reads the table at `value`; `base` is the struct. Unknown keys are problems. list: values without a key are allowed (and the caller's). */
void schema_read(struct schema *s, const struct path *at, int value, const struct field *fields, void *base, bool list);
/* One value by one field, for readers of their own. */
void schema_value(struct schema *s, const struct path *at, int value, const struct field *field, void *base);
/* Problems for keys that are not in fields (NULL: no key is allowed) and, without `list`, for values without a key. */
void schema_check_keys(struct schema *s, const struct path *at, int value, const struct field *fields, bool list);
/* How many entries the table has. */
size_t schema_size(struct schema *s, int value);
/* The table's string keys, sorted, copied; other keys are problems. */
size_t schema_names(struct schema *s, const struct path *at, int value, struct str **names);
/* Every value of the list at `value`, in order, its path made from its place; values with a key and gaps are problems. */
typedef void (*schema_each_fn)(struct schema *s, const struct path *at, int value, void *arg);
void schema_each_item(struct schema *s, const struct path *at, int value, schema_each_fn fn, void *arg);
/* Every value of the table at `value` whose keys are names (path_is_name), sorted; its name is at->key, in the arena. Other keys are problems. */
void schema_each_name(struct schema *s, const struct path *at, int value, schema_each_fn fn, void *arg);
bool schema_is_table(struct schema *s, const struct path *at, int value, const char *expected);
/* A string at `value` without NUL, copied; or a problem with `expected`. */
bool schema_string(struct schema *s, const struct path *at, int value, const char *expected, struct str *out);
/* As schema_string, for one that stays the script's: valid while the value is on Lua's stack. */
bool schema_borrow(struct schema *s, const struct path *at, int value, const char *expected, struct str *out);
const char *schema_file(struct schema *s, struct str name);

/* "PATH: expected EXPECTED, got VALUE (did you mean HINT?)". hint NULL: none. Neither value nor hint is shown where a secret may stand. */
void schema_expected(struct schema *s, const struct path *at, int value, const char *expected, const char *hint);
/* "FILE:LINE: PATH: text" and the same as a warning. The line is the nearest known one above. */
void schema_problem(struct schema *s, const struct path *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void schema_warning(struct schema *s, const struct path *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
unsigned schema_line(struct schema *s, const struct path *at);
void schema_problem_at(struct schema *s, unsigned line, const char *path, const char *text);
void schema_warning_at(struct schema *s, unsigned line, const char *path, const char *text);
/* Moves them, by line, into the report. */
void schema_report(struct schema *s, struct report *r);

/* The nearest of n names, or .p NULL when none is near. */
struct str schema_nearest(struct str name, const struct str *names, size_t n);

#endif
