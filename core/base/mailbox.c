/* mailbox.c: see mailbox.h.
 *
 * A mail is in `posted`, in `taken`, or in neither, and m->in says so; both lists and m->in change under the lock only.
 * One wake-up takes what has been posted so far and delivers it mail by mail, the lock given up around each
 * deliver; what is posted meanwhile waits for the next wake-up, so that two threads that answer each other do not starve the loop.
 * Since both taking and cancelling happen on the mailbox's own thread, a mail is either still in a list when it is cancelled or
 * its deliver has begun: there is no third case. */
#include "base/mailbox.h"

#include <assert.h>
#include <stdlib.h>

static void lock(struct mailbox *mb) {
  if (pthread_mutex_lock(&mb->lock) != 0) abort();
}
static void unlock(struct mailbox *mb) {
  if (pthread_mutex_unlock(&mb->lock) != 0) abort();
}

static struct mail *take(struct mailbox *mb) {
  lock(mb);
  struct link *l = list_pop(&mb->taken);
  struct mail *m = l != NULL ? CONTAINER_OF(l, struct mail, link) : NULL;
  if (m != NULL) m->in = NULL;
  unlock(mb);
  return m;
}

static void on_wake(uv_async_t *async) {
  struct mailbox *mb = CONTAINER_OF(async, struct mailbox, async);
  lock(mb);
  list_splice(&mb->taken, &mb->posted);
  unlock(mb);
  struct mail *m;
  /* deliver may close the mailbox; its memory lasts at least until the close callback, which is later. */
  while (!uv_is_closing((uv_handle_t *)&mb->async) && (m = take(mb)) != NULL) m->deliver(m);
}

static void on_closed(uv_handle_t *h) { pthread_mutex_destroy(&CONTAINER_OF(h, struct mailbox, async)->lock); }

int mailbox_init(struct mailbox *mb, uv_loop_t *loop) {
  list_init(&mb->posted);
  list_init(&mb->taken);
  int rc = pthread_mutex_init(&mb->lock, NULL);
  if (rc != 0) return uv_translate_sys_error(rc);
  rc = uv_async_init(loop, &mb->async, on_wake);
  if (rc != 0) pthread_mutex_destroy(&mb->lock);
  return rc;
}

void mailbox_close(struct mailbox *mb) { uv_close((uv_handle_t *)&mb->async, on_closed); }

void mail_init(struct mail *m, void (*deliver)(struct mail *)) {
  list_init(&m->link);
  m->in = NULL;
  m->deliver = deliver;
}

void mailbox_post(struct mailbox *mb, struct mail *m) {
  lock(mb);
  assert(m->in == NULL);
  m->in = mb;
  list_push(&mb->posted, &m->link);
  /* Inside the lock: once it is given up, the mail may be delivered and the mailbox closed by its owner. */
  uv_async_send(&mb->async);
  unlock(mb);
}

bool mailbox_cancel(struct mailbox *mb, struct mail *m) {
  lock(mb);
  bool posted = m->in == mb;
  if (posted) {
    list_remove(&m->link);
    m->in = NULL;
  }
  unlock(mb);
  return posted;
}
