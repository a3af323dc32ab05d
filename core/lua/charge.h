/* charge.h: memory that C holds on behalf of a VM's scripts, outside of the state's allocator: bodies of jeton.http, output of commands, files under way, secrets.
 *
 * All of a VM's charges together may be as much as its memory cap (limits.memory), counted apart from what is inside: so a VM costs twice its cap at the most.
 * What is charged outlives the VM at times, and a file is read on a pool thread, so the account is refcounted and its numbers are atomic. */
#ifndef JETON_LUA_CHARGE_H
#define JETON_LUA_CHARGE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands for the fixed costs of a call under way, so that their number is bounded, too. */
enum {
  CHARGE_CALL = 16 * 1024,   /* of jeton.http: the op and the connection's buffers */
  CHARGE_CHILD = 256 * 1024, /* a process, its pipes, and what the system keeps of it */
  CHARGE_FILE = 4 * 1024,
  CHARGE_WATCH = 16 * 1024 /* less is kept, but any event in its directory costs each of them a stat */
};

struct account;
/* max: bytes; 0: no bound. One reference; any thread from then on. */
struct account *account_new(uint64_t max);
void account_limit(struct account *a, uint64_t max);
void account_unref(struct account *a);
bool account_take(struct account *a, size_t n); /* false: over the bound, and nothing was taken */
void account_give(struct account *a, size_t n);

/* Embedded in an op, zeroed before its first charge. One thread at a time. */
struct charge {
  struct account *account; /* a reference while something is charged */
  size_t n;
};
/* On the VM's thread: takes n bytes more, after a collection if need be. False: there is no room. */
bool charge_begin(lua_State *L, struct charge *c, size_t n);
/* The same, or raises "not enough memory". */
void charge_must(lua_State *L, struct charge *c, size_t n);
/* Takes n bytes more of what has begun; any thread. */
bool charge_more(struct charge *c, size_t n);
size_t charge_room(const struct charge *c);   /* how many more there is room for at this moment */
void charge_keep(struct charge *c, size_t n); /* gives back all but n */
void charge_end(struct charge *c);

#endif
