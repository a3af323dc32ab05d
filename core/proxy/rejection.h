/* rejection.h: does a reply refuse the tokens that its request used? By reject_on, a list of statuses or a function, and then by what the slots know of this path and client. */
#ifndef JETON_PROXY_REJECTION_H
#define JETON_PROXY_REJECTION_H

#include <stdbool.h>

struct exchange;

/* Tells the slots of ex->used what the reply at hand says of their tokens. True: one of them was refused, and another try with a fresh one may go better. */
bool rejection_judge(struct exchange *ex);

#endif
