/* family_internal.h: functions of families for the keeper alone. */
#ifndef JETON_TOKEN_FAMILY_INTERNAL_H
#define JETON_TOKEN_FAMILY_INTERNAL_H

#include "token/family.h"
#include "token/slot_internal.h"

/* How new slots are attached from now on; those there are get its schedule. So a slot made on a worker's thread finds all it needs of the
 * keeper under the family's mutex, and the keeper hears of it by the slot's first mail. */
void family_attach(struct token_family *f, const struct slot_home *home);
/* Its slots, and those that are made from now on, are leaving, until family_attach. */
void family_leave(struct token_family *f);
/* No slot is made from now on. fn gets those there are, without the mutex, and is to close them. */
void family_close(struct token_family *f, void (*fn)(void *arg, struct slot *s), void *arg);
int64_t family_sweep_ms(struct token_family *f); /* how often to call family_drop_idle */

#endif
