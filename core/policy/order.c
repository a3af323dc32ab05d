/* order.c: see order.h. */
#include "policy/order.h"

static void on_order(struct mail *m) {
  struct order *o = CONTAINER_OF(m, struct order, mail);
  o->carry_out(o->receiver, o);
}

static void on_answer(struct mail *m) {
  struct order *o = CONTAINER_OF(m, struct order, mail);
  o->done(o);
}

void order_post(struct order *o, struct mailbox *inbox, void (*carry_out)(void *receiver, struct order *o),
                void *receiver) {
  o->receiver = receiver;
  o->carry_out = carry_out;
  o->status = 0;
  o->message[0] = '\0';
  mail_init(&o->mail, on_order);
  mailbox_post(inbox, &o->mail);
}

void order_answer(struct order *o, int status) {
  o->status = status;
  if (status == 0) o->message[0] = '\0';
  o->mail.deliver = on_answer;
  mailbox_post(o->reply_to, &o->mail);
}
