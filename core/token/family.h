/* family.h: slots made at run time, one a key: tokens.tenant[key]. Bounded; the one idle longest is dropped for a new one when all places are taken, and
 * each is dropped after an idle time. Process-wide; any thread. */
#ifndef JETON_TOKEN_FAMILY_H
#define JETON_TOKEN_FAMILY_H

#include <stdint.h>

#include "base/str.h"
#include "token/slot.h"

enum { FAMILY_KEY_MAX = 256, FAMILY_DIGEST = 32, FAMILY_MARK_SIZE = 9 /* eight digits and the end */ };
struct token_family;
/* Refcounted, survives reloads, found by name and made by the keeper: use keeper_adopt_family. One made with family_new alone has slots that nobody fetches
 * for. */
struct token_family *family_new(struct str name);
struct token_family *family_ref(struct token_family *f);
void family_unref(struct token_family *f);
const char *family_name(const struct token_family *f);
void family_configure(struct token_family *f, unsigned max,
                      int64_t idle_ms); /* max at least 1. A lower one takes effect as places are needed. */
/* slot_bind for its slots, those there are and those to come. */
void family_bind(struct token_family *f, const struct token_bond *bond);
/* slot_set_traits for the same. */
void family_set_traits(struct token_family *f, unsigned traits);
/* The slot of that key, made when new (its first fetch starts when someone waits for it or wants it). A new reference. NULL: all places are taken by slots
 * in use, the key is empty or too long, or the family is closed. In use is what anybody but family and keeper holds a reference to: where a script's garbage may
 * hold some, collect it and try once more. */
struct slot *family_get(struct token_family *f, struct str key, int64_t now_boot_ms);
/* The same with more to a place than its key. What a token is fetched with is a part of whose it is: so one key with two data is two places, and nobody gets a token by
 * its key alone that was fetched with somebody else's data. */
struct family_place {
  struct str key, shown;         /* slot_new_of */
  uint8_t digest[FAMILY_DIGEST]; /* of data: the same for the same, and for nothing else; zeros: there is none */
  struct slot_data *data;        /* borrowed, or NULL; a place that is there has its own */
};
struct slot *family_place(struct token_family *f, const struct family_place *p, int64_t now_boot_ms);
/* Eight digits that tell one text from another where its bytes must not be shown, as long as this process lives: nothing can be guessed from them. */
void family_mark(const struct token_family *f, struct str text, char out[FAMILY_MARK_SIZE]);
unsigned family_size(struct token_family *f);
unsigned family_max(struct token_family *f); /* as family_configure set it */
/* Those that are there at this moment, the one used longest ago first. fn runs without the family's mutex: telling of a hundred thousand keys takes a while, in
 * which requests go on. */
void family_each(struct token_family *f, void (*fn)(void *arg, struct slot *s), void *arg);
void family_drop_idle(struct token_family *f, int64_t now_boot_ms); /* the keeper does, now and then */

#endif
