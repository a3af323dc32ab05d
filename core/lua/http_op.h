/* http_op.h: one call of jeton.http under way. l_http.c makes it from the script's arguments, http_op.c runs it, http_response.c gives the outcome to Lua. */
#ifndef JETON_LUA_HTTP_OP_H
#define JETON_LUA_HTTP_OP_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/arena.h"
#include "base/buf.h"
#include "http/call.h"
#include "http/coding.h"
#include "http/headers.h"
#include "lua/charge.h"
#include "lua/parts.h"
#include "lua/secret_source.h"
#include "lua/tls_choice.h"
#include "lua/vm.h"
#include "net/url.h"
#include "token/secret.h"

enum { HTTP_TIMEOUT_MS = 30 * 1000, HTTP_REPLY_MAX = 1024 * 1024, HTTP_REDIRECTS_MAX = 20 };

struct http_op {
  struct await await;
  uv_timer_t timer; /* 0 ms: the start, from the loop; then the deadline of the whole call */
  uv_work_t work;   /* reading TLS files; then undoing the reply's coding */
  struct services *services;
  struct arena arena;
  struct call call;
  struct origin *origin;
  /* the request; text is in the arena */
  struct str method;
  struct url url;
  struct str host;             /* the Host field, given by the script; .p NULL: the URL's */
  struct secret *query_secret; /* the query, when it has secrets: in place of the URL's */
  struct headers headers;
  struct parts body;
  struct secret *body_secret;     /* when the body has secrets: expanded anew for each head */
  struct buf body_bytes;          /* sensitive */
  struct secret_context target;   /* of the secrets among fields and body: made for each head */
  char host_field[URL_HOST_SIZE]; /* the URL's */
  bool has_body, credentials;     /* credentials: Authorization, Cookie, a secret header, or TLS settings of its own */
  unsigned redirects;
  enum http2_mode http2; /* of one URL, since it may redirect: http2_for */
  uint64_t timeout_ms, reply_max;
  struct parents *parents; /* through whom; NULL: nobody */
  struct tls_choice tls;
  struct tls_client *client; /* a reference, or NULL until it is needed */
  bool client_is_new;        /* made by this call: to be put into the VM's cache */
  struct secret_gate_waiter gate;
  struct provenance **provenance; /* of a fetch, for what it is made with, once the gate is open; NULL: that is noted */
  /* state */
  bool gated, started, calling, working, ended;
  unsigned holders; /* the timer and the work under way: the memory goes when both are over */
  /* the outcome */
  enum coding coding;   /* of the reply */
  struct buf reply;     /* sensitive; as it came, until its coding is undone */
  struct charge charge; /* of request and reply */
  struct buf plain;     /* sensitive; where that is done */
  int error;
  char reason[256];
  char tls_error[256];
  _Alignas(16) uint8_t first[2048];
};

/* A new op, for guard_new; everything that raises is done by then. */
void http_op_init(struct http_op *op, struct services *services);
void http_op_unmake(void *p); /* not begun: frees it */
/* Hands the op from its guard (at that index) to the loop, and yields. The value to return from the C function. */
int http_op_await(lua_State *L, int guard, struct http_op *op);
/* "POST https://api.example.com:8443": the part of a request that messages show. */
void http_op_where(const struct http_op *op, char *out, size_t size);

/* Pushes the response, or nil, message, code. */
int http_response_push(lua_State *L, struct http_op *op);
/* Pushes headers as a response has them. fields: n of them, each a name and a value. */
void http_headers_push(lua_State *L, const struct str *fields, unsigned n);

#endif
