/* services.c: makes the parts of a thread in the order in which they depend on each other, and takes them down in the reverse order.
 *
 * Invariant: after services_close the loop has no handle left (asserted), so nothing can call back into memory that is gone.
 * Owned by the thread that runs the loop. */
#include "http/services.h"

#include <assert.h>
#include <stdbool.h>

#include "base/mask.h"
#include "http/h2_upstream.h"
#include "http/origin.h"
#include "net/resolver.h"

int services_init(struct services *s, struct registry *names) {
  int status = uv_loop_init(&s->loop);
  if (status != 0) return status;
  status = mailbox_init(&s->mailbox, &s->loop);
  if (status != 0) {
    (void)uv_loop_close(&s->loop);
    return status;
  }
  net_init(&s->net, &s->loop);
  wheel_init(&s->wheel, &s->loop);
  s->resolver = resolver_new(names, &s->loop, &s->mailbox, &s->wheel);
  laters_init(&s->laters, &s->loop);
  s->origins = origins_new(&s->net, &s->wheel, s->resolver, &s->laters, &h2_upstream_protocol);
  s->names = names;
  s->saves = NULL;
  s->keepalive = (struct keepalive){0};
  return 0;
}

static void on_part_closed(void *arg) { *(bool *)arg = true; }

static void run_until(uv_loop_t *loop, const bool *closed) {
  while (!*closed) (void)uv_run(loop, UV_RUN_ONCE);
}

void services_close(struct services *s) {
  bool closed = false;
  origins_close(s->origins, on_part_closed, &closed);
  run_until(&s->loop, &closed);
  closed = false;
  resolver_close(s->resolver, on_part_closed, &closed);
  run_until(&s->loop, &closed);
  laters_close(&s->laters);
  wheel_close(&s->wheel);
  mailbox_close(&s->mailbox);
  (void)uv_run(&s->loop, UV_RUN_DEFAULT);
  int status = uv_loop_close(&s->loop);
  assert(status == 0);
  (void)status;
  net_fini(&s->net);
  mask_end_thread();
}
