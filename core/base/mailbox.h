/* mailbox.h: how threads talk. A mailbox is a list under a mutex with a uv_async_t that wakes its thread.
 *
 * A mail is embedded in the object that it is about; posting allocates nothing and cannot fail. deliver runs on the mailbox's thread, once a post, in order.
 * mailbox_cancel, called on the mailbox's own thread, takes a mail back: after it returns, deliver will not be called for that post. A mail may be posted again
 * from deliver on. */
#ifndef JETON_BASE_MAILBOX_H
#define JETON_BASE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <uv.h>

#include "base/list.h"

struct mailbox {
  uv_async_t async;
  pthread_mutex_t lock;
  struct link posted; /* guarded by lock */
  struct link taken;  /* being delivered; loop's thread, changed under lock */
};

struct mail {
  struct link link;   /* guarded by the mailbox's lock */
  struct mailbox *in; /* the mailbox it is posted to, or NULL; guarded by the same */
  void (*deliver)(struct mail *);
};

int mailbox_init(struct mailbox *mb, uv_loop_t *loop);
void mailbox_close(struct mailbox *mb); /* mails that are still in it are never delivered; loop's thread */
void mail_init(struct mail *m, void (*deliver)(struct mail *));
void mailbox_post(struct mailbox *mb, struct mail *m);   /* any thread */
bool mailbox_cancel(struct mailbox *mb, struct mail *m); /* true: it was posted and is now taken back */

#endif
