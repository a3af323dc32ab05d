/* tls_choice.h: a script's tls = { … } and the client settings made of it, kept for each VM: reading a CA bundle is work for the thread pool. */
#ifndef JETON_LUA_TLS_CHOICE_H
#define JETON_LUA_TLS_CHOICE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "net/tls.h"

#define TLS_CHOICE_INSECURE "certificates are not verified (%s): secrets may go to anyone"

enum { TLS_PINS_MAX = 16, TLS_CHOICES_MAX = 64 };
struct tls_choice {                    /* zeroed: the defaults */
  struct tls_client_settings settings; /* its strings are malloc'd and ours */
  char *pins[TLS_PINS_MAX];
  char *key; /* names these settings in the cache */
  bool own;  /* the script said something */
};
/* Reads the table at idx (or nil). Raises; what was read by then is freed by tls_choice_fini. */
void tls_choice_read(lua_State *L, int idx, struct tls_choice *c);
void tls_choice_fini(struct tls_choice *c);
/* A reference to what this VM has for these settings, or NULL. Files are read once a VM, and again when they change. */
struct tls_client *tls_choice_known(lua_State *L, const struct tls_choice *c);
/* Takes a reference of its own. Settings may be made of what a request says: beyond TLS_CHOICES_MAX of them all others are forgotten. */
void tls_choice_keep(lua_State *L, const struct tls_choice *c, struct tls_client *client);

#endif
