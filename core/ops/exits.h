/* exits.h: exit codes, as sysexits.h numbers them, and how our errors map to them. */
#ifndef JETON_OPS_EXITS_H
#define JETON_OPS_EXITS_H

enum exit_code {
  EXIT_GOOD = 0,
  EXIT_USAGE = 64,       /* the command line */
  EXIT_NOINPUT = 66,     /* the policy's file cannot be read */
  EXIT_UNAVAILABLE = 69, /* no running jeton answers; an address is in use */
  EXIT_SOFTWARE = 70,    /* the other side failed: a refresh, a protocol error */
  EXIT_OSERR = 71,       /* no thread, no memory */
  EXIT_CANTCREAT = 73,   /* a file exists already, or cannot be made */
  EXIT_NOPERM = 77,
  EXIT_CONFIG = 78 /* the policy is not valid */
};
int exit_for(int err); /* for a negative code of base/err.h */

#endif
