/* status.h: the answers of `jeton status` and GET /status. Facts only: no secret is among them, and none can be reached from here. */
#ifndef JETON_OPS_STATUS_H
#define JETON_OPS_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "ops/certificates.h"
#include "ops/listeners.h"
#include "ops/reload.h"
#include "policy/policy.h"
#include "proxy/worker.h"

struct registry;
struct status_view { /* borrowed for the call */
  const char *path;  /* of the policy's file */
  int64_t uptime_ms;
  bool stopping;
  const struct policy *policy; /* NULL: none is active yet */
  const struct token_set *tokens;
  const struct listeners *listeners;
  struct worker *const *workers;
  unsigned nworkers;
  struct reload_facts reload;
  struct registry *names;
  struct certificates_facts certificates;
};
/* Whether it is ready, and if not why: readiness.h. Returns it. */
bool status_ready_json(const struct status_view *v, struct buf *out);
bool status_ready_text(const struct status_view *v, struct buf *out);
void status_json(const struct status_view *v, struct buf *out);
void status_text(const struct status_view *v, struct buf *out);

#endif
