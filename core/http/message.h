/* message.h: what a request and a response are to everybody behind a parser, whichever protocol brought them.
 *
 * Slices point into the message's arena, which belongs to whoever asked for the parsing. Pure functions; any thread. */
#ifndef JETON_HTTP_MESSAGE_H
#define JETON_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "http/headers.h"

/* In the order of their age: compare with <, and never with a number. */
enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2 };
/* Whether a connection to a server, or from a client, may speak HTTP/2. */
enum http2_mode {
  HTTP2_OFF,
  HTTP2_AUTO, /* over TLS: as ALPN decides. Never said of a plain connection. */
  HTTP2_ONLY  /* over TLS: or there is no connection; over a plain one: with prior knowledge (RFC 9113 section 3.3) */
};
/* Of upstreams, forward targets and calls of scripts, where nothing else is said; why so: docs/performance.md. */
#define HTTP2_USUAL HTTP2_AUTO
/* What was said of servers with and without TLS, for one of them. */
static inline enum http2_mode http2_for(enum http2_mode said, bool tls) {
  return tls || said == HTTP2_ONLY ? said : HTTP2_OFF;
}
/* For whoever says HTTP2_AUTO where there is no TLS. */
#define HTTP2_NOT_AUTO                                                                                            \
  "\"auto\" has no use over http://, since nothing tells there what a server speaks: write true for HTTP/2 with " \
  "prior "                                                                                                        \
  "knowledge, or false"
enum http_framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_UNTIL_CLOSE };

struct request {
  struct str method; /* upper-case token as sent */
  struct str target; /* as it was sent; the client's bytes */
  struct str path;   /* begins with "/" (absolute-form's empty path: "/"), "*" for OPTIONS *, "" for CONNECT */
  struct str query;  /* without "?"; .p NULL when there is no "?" */
  struct str
      authority; /* host[:port]: from an absolute-form target or CONNECT, else from Host (RFC 9112 section 3.2.2); valid by host_split;
                             .p NULL: a 1.0 client that sent no Host */
  struct headers headers;
  struct headers trailers;
  uint64_t content_length; /* with FRAMING_LENGTH */
  enum http_framing framing;
  enum http_version version;
  bool keep_alive, expect_continue, absolute_form, is_connect, is_head;
  /* The scheme is https: of a target in absolute form, or as a request of HTTP/2 says it, whose target is a path all the same. */
  bool https;
  /* Connection: upgrade with an Upgrade field, on 1.1; never for h2c (RFC 9113 section 3.1 took it back), nor for a WebSocket with a body */
  bool upgrade;
  struct str upgrade_protocol; /* with `upgrade`: the Upgrade field's value */
};
struct response {
  int status;
  struct str reason;
  struct headers headers;
  struct headers trailers;
  uint64_t content_length;   /* with FRAMING_LENGTH, or when has_length */
  enum http_framing framing; /* of what follows on this connection: FRAMING_NONE for HEAD, 1xx, 204, 304, CONNECT 2xx */
  bool has_length;           /* a Content-Length was there: to be passed on for HEAD and 304 (RFC 9110 section 8.6) */
  enum http_version version;
  /* the connection can serve another request: always false when the body ends with it, for 101 and for tunnels */
  bool keep_alive;
};

struct http_limits {
  uint32_t request_line;   /* bytes of method, target and version: 414 above */
  uint32_t head;           /* bytes of the whole head: 431 above */
  uint32_t headers;        /* fields: 431 above */
  uint32_t chunk_line;     /* bytes of one chunk-size line with its extensions: 400 above */
  uint32_t chunk_overhead; /* bytes of chunk lines that are not earned by data, 16 a line being free: 400 above */
};
extern const struct http_limits http_limits_default;

/* What was wrong: the status to answer a request with (0 for responses: always 502) and a sentence with the rule. */
struct http_fault {
  int status;
  const char *text; /* static: "bare LF in the head (RFC 9112 section 2.2)" */
  /* Nothing was wrong by our own rules, and yet llhttp reads it otherwise (http/reading.h): to be counted and looked into. */
  bool disagreed;
};

/* How the body behind the head is framed on the wire we write to. */
struct framing {
  enum http_framing kind;
  uint64_t length;
};

struct parent;         /* http/parent.h */
struct secret_context; /* token/secret.h */

/* A request on its way to an upstream, without its body. Slices and pointers are borrowed. */
struct request_head {
  struct str method;
  struct str path;  /* origin form: path and, behind "?", query; or authority / absolute form as given in `target` */
  struct str query; /* .p NULL: no "?" */
  struct secret *query_secret; /* not NULL: a query with secrets, in place of `query` */
  struct str host;             /* the Host field's value */
  /* Host, framing, Connection, TE, Upgrade, Expect, Keep-Alive and Proxy-* fields in it are ignored: the first six are written from here */
  const struct headers *headers;
  struct secret_context *secrets; /* how secret values among them become bytes; NULL: there are none */
  struct framing framing;
  bool body_secret; /* the body at hand holds secrets: no copy of it that waits may be left behind */
  bool keep_alive;  /* false: `Connection: close` */
  bool te_trailers;
  bool expect_continue;
  struct str
      absolute; /* "http://host:port" of a target in absolute form (RFC 9112 section 3.2.2); .p NULL: origin form */
  struct parent *parent; /* whose credentials it carries; NULL: nobody's */
  struct str upgrade;    /* .p non-NULL: `Connection: upgrade` and `Upgrade: …` */
};

/* RFC 9110 section 6.5.1: may this field stand in a trailer section that we forward? */
bool trailer_allowed(struct str name);
const char *status_phrase(int status); /* "Not Found"; "" when unknown */
/* Bytes follow the head. Framing may say so, too, where there are none: Content-Length: 0. */
static inline bool request_has_body(const struct request *r) {
  return r->framing == FRAMING_CHUNKED || r->content_length > 0;
}
/* As in Via (RFC 9110 section 7.6.3), and as scripts call it: "1.0", "1.1", "2". */
struct str http_version_text(enum http_version v);
bool method_idempotent(struct str method); /* RFC 9110 section 9.2.2: may be sent a second time */

#endif
