/* tls_path.c: the files under a path of a configuration (a file, or a folder of authorities): to watch them, and to find out whether they have changed. A
 * folder counts with its entries, one level deep, and with itself ("."), which changes when files come and go. Pure but for the file system. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "net/tls_internal.h"

enum { PATH_SIZE = 4096 };

static void each_in_folder(const char *folder, tls_tell_fn tell, void *arg) {
  char path[PATH_SIZE];
  DIR *d = opendir(folder);
  if (d == NULL) return;
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    if (strcmp(e->d_name, "..") == 0) continue;
    if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path) tell(arg, path);
  }
  closedir(d);
}

void tls_path_each(const char *path, tls_tell_fn tell, void *arg) {
  struct stat st;
  tell(arg, path);
  if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) each_in_folder(path, tell, arg);
}

static void stamp_file(void *arg, const char *path) {
  struct stat st;
  uint64_t *sum = arg, one = hash_plain(HASH_START, str_of(path));
  if (stat(path, &st) == 0) {
    int64_t facts[] = {(int64_t)st.st_dev, (int64_t)st.st_ino, st.st_size,        st.st_mtim.tv_sec,
                       st.st_mtim.tv_nsec, st.st_ctim.tv_sec,  st.st_ctim.tv_nsec};
    one = hash_plain(one, (struct str){(const char *)facts, sizeof facts});
  }
  *sum += one; /* a folder may be listed in any order */
}

uint64_t tls_path_stamp(const char *path) {
  uint64_t sum = 0;
  tls_path_each(path, stamp_file, &sum);
  return sum;
}
