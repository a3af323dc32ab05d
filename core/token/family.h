/* family.h: slots made at run time, one a key: tokens.tenant[key]. Bounded; the one idle longest is dropped for a new one when all places are taken, and
 * each is dropped after an idle time. Process-wide; any thread. */
#ifndef JETON_TOKEN_FAMILY_H
#define JETON_TOKEN_FAMILY_H

#include <stdint.h>

#include "base/str.h"
#include "token/slot.h"

enum { FAMILY_KEY_MAX = 256 };
struct keeper;
struct token_family;
struct token_family *family_new(struct str name); /* refcounted, survives reloads, found by name by who holds it */
struct token_family *family_ref(struct token_family *f);
void family_unref(struct token_family *f);
void family_configure(struct token_family *f, unsigned max, int64_t idle_ms);
/* The slot of that key, made when new (its first fetch starts when someone waits for it). A new reference; NULL: all places are taken by slots in use, or the key is too long. */
struct slot *family_get(struct token_family *f, struct str key, int64_t now_boot_ms);
unsigned family_size(struct token_family *f);
void family_each(struct token_family *f, void (*fn)(void *arg, struct slot *s), void *arg);
void family_drop_idle(struct token_family *f, int64_t now_boot_ms); /* keeper's thread, now and then */

#endif
