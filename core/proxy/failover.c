/* failover.c: see failover.h. The standing of a server is its origin's, so all policies and names that lead there share it, and it outlives a reload. */
#include "proxy/failover.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proxy/exchange.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/worker_state.h"

enum { SILENCE_US = 1000 * 1000 }; /* of a server, before it counts that somebody gave up waiting for it */

static bool several(const struct exchange *ex) { return ex->upstream != NULL && ex->upstream->conf->nurls > 1; }

static void tell(const struct exchange *ex, enum standing_news news) {
  char where[URL_WHERE_SIZE];
  if (news == STANDING_AS_BEFORE) return;
  url_where(ex->url, where, sizeof where);
  if (news == STANDING_WENT_OUT)
    log_warn("upstream %s (%s): %d failures in a row, it is passed over for a while", ex->upstream->conf->name, where,
             STANDING_MOST);
  else
    log_info("upstream %s (%s): it serves again", ex->upstream->conf->name, where);
}

/* Else it is an error of ours, or the policy's. */
static bool is_the_servers(int status) {
  switch (status) {
    case UV_ETIMEDOUT:
    case UV_ECONNRESET:
    case UV_ECONNABORTED:
    case UV_ECANCELED:
    case UV_EPIPE:
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
    case ERR_PROTOCOL:
    case ERR_AMBIGUOUS:
    case ERR_TRUNCATED:
    case ERR_TLS: return true;
    default: return false;
  }
}

static bool means_failure(int status) { return status == 502 || status == 503 || status == 504; }

static bool may_be_sent_twice(const struct exchange *ex) {
  return method_idempotent(ex->request.method) && request_body_repeatable(&ex->body);
}

/* To another URL that serves, if there is one. */
static bool move(struct exchange *ex) {
  if (ex->moves > 0 || !may_be_sent_twice(ex)) return false;
  struct origin *other = upstream_other(ex->upstream, ex->origin, &ex->url, &ex->host_field);
  if (other == NULL) return false;
  ex->origin = other;
  ex->moves++;
  request_body_hold(&ex->body);
  try_next(ex, TRY_RETRY);
  COUNT(ex->worker, failovers, 1);
  return true;
}

bool failover_after_error(struct exchange *ex, int status) {
  if (!several(ex)) return false;
  enum call_phase phase = ex->call.phase;
  if (phase == CALL_CONNECT) {
    if (++ex->failed_dials >= ex->upstream->conf->nurls) return false;
    ex->origin = upstream_next(ex->upstream, may_be_sent_twice(ex), &ex->url, &ex->host_field);
    if (ex->try != NULL) ex->try->again = false; /* nothing was sent: the same try, of another call */
    exchange_resume(ex, STEP_TOKEN);
    return true;
  }
  if (!is_the_servers(status)) return false;
  bool behind_head = phase >= CALL_BODY;
  tell(ex, origin_failed(ex->origin, behind_head));
  if (behind_head || !move(ex)) return false;
  exchange_resume(ex, STEP_TOKEN);
  return true;
}

bool failover_instead(struct exchange *ex) {
  if (!several(ex)) return false;
  if (!means_failure(ex->response.status)) {
    tell(ex, origin_served(ex->origin, false));
    return false;
  }
  tell(ex, origin_failed(ex->origin, false));
  return move(ex);
}

void failover_served(struct exchange *ex) {
  if (several(ex) && !means_failure(ex->call.response.status)) tell(ex, origin_served(ex->origin, true));
}

void failover_given_up(struct exchange *ex) {
  const struct call *c = &ex->call;
  if (!several(ex) || !call_running(c) || c->phase != CALL_WAIT || c->got_bytes) return;
  if (clock_mono_us() - ex->started_us >= SILENCE_US) tell(ex, origin_failed(ex->origin, false));
}
