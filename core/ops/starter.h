/* starter.h: the policy that `jeton init` writes. */
#ifndef JETON_OPS_STARTER_H
#define JETON_OPS_STARTER_H

extern const char starter_policy[];

#endif
