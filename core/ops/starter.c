/* starter.c: see starter.h. For the command line; no other thread runs.
 *
 * They are files and no texts in C, so that they are checked as all Lua of the project is, and so that a login is added without a change here. */
#include "ops/starter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "policy/modules.h"

enum { PLACE_SIZE = 4096 };
static const char ENDING[] = ".lua";

/* Letters, digits and '-': no way out of the folder. */
static bool is_name(const char *name) {
  return name[0] != '\0' && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0';
}

int starter_read(const char *name, struct buf *out) {
  char path[PLACE_SIZE];
  if (!is_name(name)) return UV_ENOENT;
  int n = snprintf(path, sizeof path, "%s/starters/%s%s", scripts_dir(), name, ENDING);
  if (n < 0 || (size_t)n >= sizeof path) return UV_ENAMETOOLONG;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t got;
  while ((got = read(fd, buf_reserve(out, PLACE_SIZE), PLACE_SIZE)) > 0) out->n += (size_t)got;
  int rc = got < 0 ? -errno : 0;
  (void)close(fd);
  return rc;
}

static int is_starter(const struct dirent *e) {
  size_t n = strlen(e->d_name);
  return n > sizeof ENDING - 1 && strcmp(e->d_name + n - (sizeof ENDING - 1), ENDING) == 0;
}

void starter_list(struct buf *out) {
  char path[PLACE_SIZE];
  struct dirent **names = NULL;
  int n = snprintf(path, sizeof path, "%s/starters", scripts_dir());
  if (n < 0 || (size_t)n >= sizeof path) return;
  n = scandir(path, &names, is_starter, alphasort);
  for (int i = 0; i < n; i++) {
    buf_addf(out, "%s%.*s", i > 0 ? ", " : "", (int)(strlen(names[i]->d_name) - (sizeof ENDING - 1)), names[i]->d_name);
    free(names[i]);
  }
  free(names);
}
