/* starter.h: the policies that `jeton init` writes: files in scripts/starters, one for each kind of login. */
#ifndef JETON_OPS_STARTER_H
#define JETON_OPS_STARTER_H

#include "base/buf.h"

#define STARTER_USUAL "oauth2"

/* Appends the text of the policy of that name to `out`. 0, or a negative code: UV_ENOENT when there is none of that name. */
int starter_read(const char *name, struct buf *out);
/* Appends "aws, gcp, oauth2": the names that there are, in their order. Nothing when the scripts are not where they should be. */
void starter_list(struct buf *out);

#endif
