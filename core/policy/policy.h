/* policy.h: an immutable, refcounted snapshot of what a policy's table says, made once by control and shared by all threads.
 *
 * Functions are not in it: they belong to a VM (policy/binding.h). The source of the file and of every module it required is kept, so that
 * every VM runs the same bytes, whatever happens to the files meanwhile. */
#ifndef JETON_POLICY_POLICY_H
#define JETON_POLICY_POLICY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/file_stamp.h"
#include "base/log.h"
#include "base/str.h"
#include "http/forwarded.h"
#include "http/message.h"
#include "http/parent.h"
#include "net/address.h"
#include "net/keepalive.h"
#include "net/range.h"
#include "net/tls.h"
#include "net/url.h"
#include "policy/hooks.h"
#include "policy/serving.h"
#include "token/schedule.h"
#include "token/secret.h"

struct listen_conf {
  const char *text; /* as the user wrote it */
  union address address;
  uint64_t digest;        /* of the address as text: finds the same among many */
  struct tls_server *tls; /* NULL: plain */
  /* the policy's, unless the listener says otherwise */
  bool half_close;
  struct keepalive tcp_keepalive;
  bool http2; /* beside HTTP/1.1: by its preface, or by ALPN */
};

/* Defaults stand in the tables of keys (keys*.c), and for people in docs/reference.md. */
struct timeouts_conf { /* milliseconds; 0: none */
  uint64_t handshake;  /* TLS of a client */
  uint64_t head;       /* first byte to the end of a request head */
  uint64_t body;       /* a client's silence within a request body, see proxy/pace.h */
  uint64_t idle;       /* a kept-alive client connection */
  uint64_t connect;    /* DNS, connect and TLS to an upstream */
  uint64_t first_byte; /* request sent to the reply's first byte */
  uint64_t response;   /* between reads of a reply's body */
  uint64_t send;       /* a peer that takes nothing of what is queued for it */
  uint64_t exchange;   /* the whole of one exchange, tunnels aside */
  uint64_t tunnel;     /* a tunnel with no byte either way */
  uint64_t half_close; /* what a reply may still take when its client has sent FIN, and that is no reason to end it */
  uint64_t drain;      /* SIGTERM to the end */
  uint64_t pool;       /* an idle upstream connection */
  uint64_t prove;      /* jeton run --prove: the start to every token's first value */
};
struct limits_conf {
  struct http_limits http;
  uint64_t body;                    /* largest request body: 0 none */
  uint64_t body_rate;               /* bytes a second that a client must sustain within a body */
  uint64_t script_body;             /* largest body that req:body() or res:body() gathers */
  uint64_t replay_buffer;           /* bytes of a request body that are kept for another try */
  uint32_t retries;                 /* of one request, by req:retry */
  uint64_t memory;                  /* bytes of a VM */
  int64_t script_time_us;           /* of the processor, for one run of a script */
  uint32_t connections;             /* of a worker's share of the process: 0 means from RLIMIT_NOFILE */
  uint32_t connections_per_address; /* of one client, over all workers: 0 none */
  uint32_t handshakes;              /* of clients, under way in one worker */
  uint32_t waiters;                 /* per token */
  uint32_t pipelined;               /* requests served in a row without a pause to other connections */
  uint32_t streams;                 /* of HTTP/2, under way on one connection of a client */
  uint64_t buffered;                /* bytes in all write queues of a worker */
};

struct upstream_conf {
  const char *name; /* "default" for `upstream` */
  struct url *urls; /* at least one */
  size_t nurls;
  struct tls_client *tls;        /* NULL when no URL is https */
  const char *insecure;          /* the name under which the policy turned verification off; NULL: it is on */
  struct timeouts_conf timeouts; /* the policy's, with the upstream's own on top */
  unsigned pool_idle;            /* kept connections a worker */
  uint64_t pool_age_ms;          /* how old a connection may grow; 0: any */
  struct keepalive tcp_keepalive;
  struct parents *parents; /* whom connections go through; NULL: nobody */
  enum http2_mode http2;   /* of one URL: http2_for */
  bool preserve_host;      /* Host as the client sent it; else the upstream's */
  bool rewrite_location;   /* a Location that names the upstream is said as its clients know it */
  bool has_base;           /* a URL of it has a path, which requests may not leave */
};
struct forward_conf {           /* jeton as a forward proxy */
  struct audience *hosts;       /* targets of requests with an absolute URL; NULL: none */
  struct audience *connect;     /* targets of CONNECT, as if they were https; NULL: CONNECT is refused */
  struct address_range *allows; /* private addresses that a listed name may lead to */
  size_t nallows;
  bool any_tls;              /* one of `hosts` may be reached over https */
  struct upstream_conf conf; /* of connections to targets: name "forward", the policy's timeouts, TLS; no URLs */
};
struct token_conf {
  const char *name;
  bool family;
  bool has_fetch;      /* also when it is made of a secret */
  bool releases;       /* it has a release function */
  bool from_secret;    /* its value is the secret that stands in the policy: `secret`, or in the place of its table */
  uint64_t made_of[2]; /* a digest of what its fetch is made of: `version`, or its source text */
  struct schedule schedule;
  int64_t wait_ms; /* how long a request waits for it */
  int64_t fetch_timeout_ms;
  enum token_missing missing;
  uint16_t reject_on[8]; /* statuses of an upstream that refuses it */
  unsigned nreject_on;
  bool has_reject_on;        /* a function says which replies do */
  struct audience *audience; /* hosts, or the policy's upstreams */
  bool reveal;
  bool rotates;           /* its fetch spends what the last one brought */
  bool counts_for_ready;  /* the process is not ready without it */
  unsigned family_max;    /* keys */
  int64_t family_idle_ms; /* of a key that nobody uses */
};
struct source {      /* one file's text */
  const char *name;  /* the file's name without its directory, "policy.lua"; or a module's, "jeton.oauth2" */
  const char *chunk; /* what Lua's messages call it: as `name`, or "jeton/oauth2.lua" */
  const char *path;  /* as it was opened */
  struct str text;
};
struct policy_login;
struct policy_file { /* one that was read as the policy was loaded, or a place where a module was searched for */
  const char *path;
  struct file_stamp seen; /* zero: nothing was there */
};

/* Written by control while it loads, and immutable once a second thread has it, but for refs and serving. */
struct policy {
  atomic_uint refs;
  struct serving serving; /* counts the holders that may need its tokens, see policy/serving.h */
  uint64_t number;        /* counts loads, from 1 */
  struct source *sources; /* [0]: the policy's own */
  size_t nsources;
  struct policy_file *files; /* [0]: the policy's own */
  size_t nfiles;
  struct listen_conf *listens;
  size_t nlistens;
  struct upstream_conf *upstreams; /* [0] is the default one, name "default", when there is one */
  size_t nupstreams;
  bool has_default;
  struct forward_conf *forward; /* NULL: not a forward proxy */
  struct token_conf *tokens;
  size_t ntokens;
  const char **tasks; /* names */
  size_t ntasks;
  unsigned workers; /* 0: the processors this process may use */
  struct timeouts_conf timeouts;
  struct limits_conf limits;
  struct log_settings log;
  bool access_log;
  const char *access_path; /* NULL: standard output */
  enum forwarded_mode forwarded;
  bool via;
  bool half_close; /* a client's FIN does not end its exchange */
  struct keepalive tcp_keepalive;
  bool hooks[HOOK_COUNT];     /* which it has */
  struct policy_login *login; /* of the command line; NULL: the policy is what its file says */
  struct arena *memory;       /* all of the above lives here */
};

/* An empty one, zeroed, with one reference; keys_defaults sets the defaults. */
struct policy *policy_new(void);
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p);
/* A worker's serving_leave: sends the keeper its mail when nothing serves under p any more. The caller's own reference stays the caller's. */
void policy_leave(struct policy *p);
/* NULL: no such. A family and a single token of one name are two. */
const struct token_conf *policy_token(const struct policy *p, const char *name, bool family);
const struct upstream_conf *policy_upstream(const struct policy *p, struct str name); /* NULL: no such */

#endif
