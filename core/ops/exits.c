/* exits.c: see exits.h. */
#include "ops/exits.h"

#include <uv.h>

#include "base/err.h"

int exit_for(int err) {
  switch (err) {
    case 0: return EXIT_GOOD;
    case ERR_CONFIG:
    case ERR_SCRIPT:
    case ERR_BUDGET:
    case ERR_MEMORY:
    case ERR_SECRET_SOURCE: return EXIT_CONFIG;
    case UV_EACCES:
    case UV_EPERM: return EXIT_NOPERM;
    case UV_EADDRINUSE:
    case UV_EADDRNOTAVAIL:
    case UV_ENOENT:
    case UV_ECONNREFUSED: return EXIT_UNAVAILABLE;
    case UV_EEXIST:
    case UV_ENOTDIR:
    case UV_EROFS:
    case UV_ENOSPC: return EXIT_CANTCREAT;
    case UV_ENOMEM:
    case UV_EMFILE:
    case UV_ENFILE: return EXIT_OSERR;
    default: return EXIT_SOFTWARE;
  }
}
