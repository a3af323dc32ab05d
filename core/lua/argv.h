/* argv.h: the command line and environment of a child process, read from a script's table. */
#ifndef JETON_LUA_ARGV_H
#define JETON_LUA_ARGV_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct argv { /* zeroed: empty */
  char **v;   /* NULL-terminated, each malloc'd */
  size_t n, bytes;
  bool too_long; /* for any command: what came after that was left out */
};
/* The list part of the table at idx. Raises when it is empty or an entry is not a string: secrets too, since /proc shows them to every user.
 * *a then holds the entries read so far: the caller's guard frees it. */
void argv_read(lua_State *L, int idx, struct argv *a, const char *what);
/* This process's environment, for that command, with the table at idx on top: a string or a secret sets, false removes. May raise. 0, or secret_expand's error. */
int argv_read_env(lua_State *L, int idx, struct str command, struct argv *a, const char *what);
void argv_fini(struct argv *a); /* wipes */

#endif
