/* modules.h: `require` for policies, and the texts of the files.
 *
 * A name is searched for beside the policy's file, then in the scripts shipped with jeton; "a.b" is a/b.lua or a/b/init.lua. While the control VM loads a
 * policy, each file that is read is kept in policy->sources; every other VM is served from there and reads no file. Only Lua source is loaded, never a C module
 * or bytecode. */
#ifndef JETON_POLICY_MODULES_H
#define JETON_POLICY_MODULES_H

#include <lua.h>

#include "policy/policy.h"

/* The directory of the shipped scripts: JETON_SCRIPTS of the environment; else the directory compiled in, when it is there; else beside the executable's parent
 * directories. Static storage. Any thread. */
const char *scripts_dir(void);

/* Appends the file to the policy's sources: 0 or a libuv error (UV_E2BIG above SOURCE_MAX). It is among policy->files in any case, of which FILES_MAX are
 * kept: the four places of each module. */
enum { SOURCE_MAX = 4 * 1024 * 1024, SOURCES_MAX = 256, FILES_MAX = 4 * SOURCES_MAX };
int source_add(struct policy *p, const char *name, const char *chunk, const char *path);
/* NULL, or what is wrong with the text before Lua is asked: bytecode. */
const char *source_wrong(const struct source *s);
/* Pushes the text as a function, or an error message; Lua's status. */
int source_push(lua_State *L, const struct source *s);

/* Sets the global `require`, inside vm_call. It keeps a reference to the policy. dir: the directory to search first; the files found are kept in the policy.
 * NULL: only files that the policy has kept. */
void modules_open(lua_State *L, struct policy *p, const char *dir);

/* Inside vm_call, with what the policy's file returned on the top: with jeton login, replaces it by what jeton.login makes of it. */
void modules_login(lua_State *L, const struct policy *p);

#endif
