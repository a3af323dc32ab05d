/* own_dir.c: see own_dir.h. */
#include "ops/own_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIR_SIZE = 80 /* a Unix socket's path has 108 bytes */ };

static bool make_in(const char *where, char dir[DIR_SIZE]) {
  int n = snprintf(dir, DIR_SIZE, "%s/jeton-XXXXXX", where);
  return n > 0 && n < DIR_SIZE && mkdtemp(dir) != NULL;
}

bool own_dir_make(const char *name, char *out, size_t size) {
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  char dir[DIR_SIZE];
  if ((runtime == NULL || runtime[0] != '/' || !make_in(runtime, dir)) && !make_in("/tmp", dir)) {
    (void)fprintf(stderr, "jeton: no directory for a control socket can be made in /tmp: %s\n", strerror(errno));
    return false;
  }
  (void)snprintf(out, size, "%s/%s", dir, name);
  return true;
}

void own_dir_remove(const char *path) {
  char dir[DIR_SIZE];
  const char *slash = strrchr(path, '/');
  (void)unlink(path);
  (void)snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
  (void)rmdir(dir);
}
