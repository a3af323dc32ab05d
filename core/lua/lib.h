/* lib.h: the parts of the table `jeton`, a file each, as in Lua's own lualib.h. library.c puts the table together.
 *
 * An l_NAME_open pushes the table of that part and returns 1; it raises when that cannot be made. The others are functions of `jeton` itself. A part that
 * offers more to other files has a header of its own (l_secret.h, l_json.h, l_channel.h). The VM's thread. */
#ifndef JETON_LUA_LIB_H
#define JETON_LUA_LIB_H

#include <lua.h>

/* RFC 4648 base64 and base64url; an encoding of an opaque secret stays opaque. */
int l_base64_open(lua_State *L);
/* Hashes, HMAC, signatures and random bytes; keys may be opaque secrets. */
int l_crypto_open(lua_State *L);
/* jeton.env(name), jeton.env.NAME: this process's environment, read only. */
int l_env_open(lua_State *L);
/* read, write, writable, stat, exists, remove, watch, lock. */
int l_file_open(lua_State *L);
/* jeton.file.watch(path, fn) and jeton.file.lock(path, { timeout = }), for l_file.c. */
int l_file_watch(lua_State *L);
int l_file_lock(lua_State *L);
/* request, and get, head, post, put, patch, delete. */
int l_http_open(lua_State *L);
/* encode, decode, array, null. */
int l_json_open(lua_State *L);
/* jeton.log(message), jeton.log.debug|info|warn|error(message, fields). */
int l_log_open(lua_State *L);
/* file, env, exec, value. In secret_source.c. */
int l_secret_open(lua_State *L);
/* A table that can be called: waits for the first of several channels; and `seed`. */
int l_select_open(lua_State *L);
/* parse. */
int l_time_open(lua_State *L);
/* escape, unescape, query, parse, join. */
int l_url_open(lua_State *L);

/* jeton.channel(name, capacity): messages between tasks, hooks and fetches in any thread. */
int l_channel(lua_State *L);
/* jeton.every(seconds, fn) */
int l_every(lua_State *L);
/* jeton.exec{ argv…, stdin =, env =, cwd =, timeout =, limits = { stdout =, stderr = } }: awaits the end of a child process. */
int l_exec(lua_State *L);
/* jeton.shared(name, { max = size }): values that all workers share. */
int l_shared(lua_State *L);
/* jeton.sleep(seconds) */
int l_sleep(lua_State *L);
/* jeton.spawn(fn, …) */
int l_spawn(lua_State *L);

#endif
