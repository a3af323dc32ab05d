/* l_exchange.h: `req` and `res`, what hooks are given. A userdata holds the exchange and the serial number it had: exchanges are never given back
 * to the system while a VM lives, so a stale handle is found out by comparing numbers, and raises an error that says so. */
#ifndef JETON_PROXY_L_EXCHANGE_H
#define JETON_PROXY_L_EXCHANGE_H

#include <lua.h>
#include <stdint.h>

#include "base/str.h"
#include "policy/hooks.h"

struct exchange;
struct exchange_handle {
  struct exchange *exchange;
  uint64_t serial;
};

int l_exchange_open(lua_State *L); /* makes the metatables; pushes nothing */
/* task_push_fn, arg: struct exchange. */
int l_exchange_push_request(lua_State *L, void *arg);          /* req, tokens */
int l_exchange_push_response(lua_State *L, void *arg);         /* res, req, tokens */
void l_exchange_push_reply(lua_State *L, struct exchange *ex); /* res alone, for reject_on: to be looked at */
int l_exchange_push_error(lua_State *L, void *arg);            /* req, err {status, code, message, retry_after} */
int l_exchange_push_log(lua_State *L, void *arg);              /* entry */
/* Sets in the entry on top what only the end tells. May raise. */
void l_exchange_complete_log(lua_State *L, uint64_t received, uint64_t sent, int64_t started_us);

/* Raises while reject_on runs: `what` is for on_response. */
void l_exchange_refuse_in_judge(lua_State *L, const struct exchange *ex, const char *what);

/* What req:body() or res:body() returns. arg: struct body_wait. */
int body_wait_push(lua_State *L, void *arg);

/* What is wrong with what the hook returned, its results being the top of L; NULL: nothing. In the exchange's arena. Does not raise. */
const char *l_exchange_wrong_result(lua_State *L, int nresults, struct exchange *ex, enum hook hook);
/* The exchange, or an error that says that `what` is over. */
struct exchange *exchange_handle_check(lua_State *L, const struct exchange_handle *h, const char *what);
/* The exchange of the `req` at 1; raises when it is none, or over. */
struct exchange *exchange_check_request(lua_State *L);
/* Raises when n bytes more would be too many in the exchange's arena. */
void exchange_charge(lua_State *L, const struct exchange *ex, size_t n);
/* The string at idx, copied into the exchange's arena; raises when it grows out of bounds. */
struct str exchange_dup(lua_State *L, struct exchange *ex, int idx);

#endif
