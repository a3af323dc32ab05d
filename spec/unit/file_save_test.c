/* file_save_test.c: what is written must not be lost: in place of another file, in place, and where neither can be. */
#include "base/file_save.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static char dir[64], path[512], content[512];

static void put(const char *text) {
  FILE *f = fopen(path, "w");
  CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}
static const char *got(void) {
  FILE *f = fopen(path, "r");
  if (f == NULL) return NULL;
  size_t n = fread(content, 1, sizeof content - 1, f);
  content[n] = '\0';
  CHECK(fclose(f) == 0);
  return content;
}
static struct stat facts(void) {
  struct stat st;
  CHECK(stat(path, &st) == 0);
  return st;
}
static void in_dir(const char *name) { (void)snprintf(path, sizeof path, "%s/%s", dir, name); }
/* Nothing fits beside it: as with a file that is mounted by itself, only the file can be written. */
static void lone(void) {
  char name[251];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  in_dir(name);
}
static int save(const char *text) { return file_save(path, text, strlen(text), 0600); }
static unsigned entries(void) {
  char command[128];
  unsigned n = 0;
  (void)snprintf(command, sizeof command, "ls -A %s | wc -l", dir);
  FILE *f = popen(command, "r");
  CHECK(f != NULL && fscanf(f, "%u", &n) == 1);
  (void)pclose(f);
  return n;
}

static void a_file_is_replaced_whole(void) {
  in_dir("a");
  CHECK(file_try_save(path) == 0 && got() == NULL);
  CHECK(save("one") == 0 && strcmp(got(), "one") == 0 && (facts().st_mode & 07777) == 0600);
  struct stat before = facts();
  CHECK(file_try_save(path) == 0 && strcmp(got(), "one") == 0);
  CHECK(save("two") == 0 && strcmp(got(), "two") == 0 && facts().st_ino != before.st_ino);
  CHECK(entries() == 1 && unlink(path) == 0);
}

static void a_link_stays_a_link(void) {
  char target[600];
  in_dir("link");
  (void)snprintf(target, sizeof target, "%s/target", dir);
  FILE *f = fopen(target, "w");
  CHECK(f != NULL && fclose(f) == 0 && symlink(target, path) == 0);
  CHECK(save("new") == 0 && strcmp(got(), "new") == 0);
  struct stat st;
  CHECK(lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && stat(target, &st) == 0 && st.st_size == 3);
  CHECK(unlink(path) == 0 && unlink(target) == 0);
}

static void in_place_it_grows_and_shrinks(void) {
  lone();
  put("old content");
  struct stat before = facts();
  CHECK(file_try_save(path) == 0 && strcmp(got(), "old content") == 0);
  CHECK(save("a content that is longer than the old one") == 0);
  CHECK(strcmp(got(), "a content that is longer than the old one") == 0);
  CHECK(save("short") == 0 && strcmp(got(), "short") == 0 && save("") == 0 && strcmp(got(), "") == 0);
  CHECK(facts().st_ino == before.st_ino && (facts().st_mode & 07777) == 0600);
  CHECK(unlink(path) == 0);
}

/* Files of this process may not grow beyond that: what a full disk is to others. */
static void with_room_for(rlim_t bytes, void (*fn)(void)) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {bytes, bytes};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(1);
    fn();
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
static void fails_and_keeps(void) {
  char text[101];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  if (save(text) != -EFBIG) _exit(2);
}
static void where_there_is_no_room_the_old_content_stays(void) {
  lone();
  put("the old token");
  with_room_for(50, fails_and_keeps);
  CHECK(strcmp(got(), "the old token") == 0);
  CHECK(unlink(path) == 0);
  in_dir("b");
  put("the old token");
  with_room_for(50, fails_and_keeps);
  CHECK(strcmp(got(), "the old token") == 0 && entries() == 1);
  CHECK(unlink(path) == 0);
}
static void fits_where_the_old_one_is(void) {
  if (save("the new one") != 0) _exit(2);
}
static void no_room_for_a_file_more_is_room_in_place(void) {
  lone();
  put("the old token");
  with_room_for(13, fits_where_the_old_one_is);
  CHECK(strcmp(got(), "the new one") == 0);
  CHECK(unlink(path) == 0);
}

static void what_cannot_be_written_says_why(void) {
  in_dir("no/such");
  CHECK(file_try_save(path) == -ENOENT && save("x") == -ENOENT);
  (void)snprintf(path, sizeof path, "%s", dir);
  CHECK(file_try_save(path) == -EISDIR && save("x") == -EISDIR);
  lone();
  CHECK(file_try_save(path) == -ENAMETOOLONG && save("x") == -ENAMETOOLONG);
  CHECK(entries() == 0);
}

/* Where this may mount at all. */
static void a_file_that_is_mounted_by_itself_is_written_in_place(void) {
  char source[600];
  (void)snprintf(source, sizeof source, "%s/source", dir);
  in_dir("mounted");
  put("old");
  FILE *f = fopen(source, "w");
  CHECK(f != NULL && fputs("mounted old", f) >= 0 && fclose(f) == 0);
  if (mount(source, path, NULL, MS_BIND, NULL) == 0) {
    CHECK(file_try_save(path) == 0 && save("new") == 0 && strcmp(got(), "new") == 0);
    CHECK(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
    CHECK(file_try_save(path) == -EROFS && save("newer") == -EROFS && strcmp(got(), "new") == 0);
    CHECK(umount(path) == 0);
  } else {
    printf("   (may not mount: %s)\n", strerror(errno));
  }
  CHECK(unlink(path) == 0 && unlink(source) == 0);
}

int main(void) {
  (void)snprintf(dir, sizeof dir, "/tmp/file_save_test.XXXXXX");
  CHECK(mkdtemp(dir) != NULL);
  RUN(a_file_is_replaced_whole);
  RUN(a_link_stays_a_link);
  RUN(in_place_it_grows_and_shrinks);
  RUN(where_there_is_no_room_the_old_content_stays);
  RUN(no_room_for_a_file_more_is_room_in_place);
  RUN(what_cannot_be_written_says_why);
  RUN(a_file_that_is_mounted_by_itself_is_written_in_place);
  CHECK(rmdir(dir) == 0);
  return 0;
}
