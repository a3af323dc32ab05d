/* watch_test.c: what counts as a change of a watched file, with real files and a real loop. */
#include "ops/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static char dir[64];
static unsigned changes;

static const char *in_dir(const char *name) {
  static char paths[4][128];
  static unsigned turn;
  char *p = paths[turn++ % 4];
  (void)snprintf(p, sizeof paths[0], "%s/%s", dir, name);
  return p;
}

static void put(const char *path, const char *text) {
  FILE *f = fopen(path, "w");
  CHECK(f != NULL);
  CHECK(fputs(text, f) >= 0);
  CHECK(fclose(f) == 0);
}

static void on_changed(void *arg) {
  (void)arg;
  changes++;
}

static void on_over(uv_timer_t *t) {
  uv_stop(t->loop);
  uv_close((uv_handle_t *)t, NULL);
}

static void run_for(uv_loop_t *loop, uint64_t ms) {
  uv_timer_t t;
  uv_update_time(loop); /* the loop's clock stood still meanwhile */
  CHECK(uv_timer_init(loop, &t) == 0);
  CHECK(uv_timer_start(&t, on_over, ms, 0) == 0);
  (void)uv_run(loop, UV_RUN_DEFAULT);
  (void)uv_run(loop, UV_RUN_NOWAIT);
}

/* Until so many changes are told, however busy the machine is, and some time more, in which there is to be none. */
static void run_until(uv_loop_t *loop, unsigned expected) {
  for (int i = 0; i < 200 && changes < expected; i++) run_for(loop, WATCH_DEBOUNCE_MS / 2);
  run_for(loop, 2 * WATCH_DEBOUNCE_MS);
  CHECK(changes == expected);
}

/* Runs `act` with policy.lua and beside.lua watched; so many changes are told. */
static void expect_changes(unsigned expected, void (*act)(void)) {
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  put(in_dir("policy.lua"), "return 1");
  put(in_dir("beside.lua"), "return 1");
  struct watch *w = watch_new(&loop, on_changed, NULL);
  const struct watched_path paths[] = {{.path = in_dir("policy.lua")}, {.path = in_dir("beside.lua")}};
  CHECK(watch_set(w, paths, 2) == 0);
  run_for(&loop, 2 * WATCH_DEBOUNCE_MS);
  changes = 0;
  act();
  run_until(&loop, expected);
  watch_close(w);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static void write_in_place(void) { put(in_dir("policy.lua"), "return 22"); }
static void replace(void) {
  put(in_dir("policy.lua.new"), "return 333");
  CHECK(rename(in_dir("policy.lua.new"), in_dir("policy.lua")) == 0);
}
static void replace_twice(void) {
  replace();
  replace();
}
static void change_both(void) {
  put(in_dir("policy.lua"), "return 4444");
  put(in_dir("beside.lua"), "return 4444");
}
static void change_another(void) { put(in_dir("else.lua"), "x"); }
static void read_only(void) {
  char text[64];
  FILE *f = fopen(in_dir("policy.lua"), "r");
  CHECK(f != NULL);
  CHECK(fgets(text, sizeof text, f) != NULL);
  (void)fclose(f);
}
static void remove_only(void) { CHECK(unlink(in_dir("policy.lua")) == 0); }

static void a_write_in_place_is_a_change(void) { expect_changes(1, write_in_place); }
static void a_replaced_file_is_one_change(void) { expect_changes(1, replace_twice); }
static void two_files_at_once_are_one_change(void) { expect_changes(1, change_both); }
static void another_file_is_none(void) { expect_changes(0, change_another); }
static void reading_is_none(void) { expect_changes(0, read_only); }
static void a_missing_file_is_none_until_it_returns(void) { expect_changes(0, remove_only); }

static void on_write(uv_timer_t *t) {
  (void)t;
  put(in_dir("log"), "a line");
}
static void a_folder_that_never_rests_hides_no_change(void) {
  uv_loop_t loop;
  uv_timer_t writer;
  CHECK(uv_loop_init(&loop) == 0);
  put(in_dir("policy.lua"), "return 1");
  struct watch *w = watch_new(&loop, on_changed, NULL);
  const struct watched_path paths[] = {{.path = in_dir("policy.lua")}};
  CHECK(watch_set(w, paths, 1) == 0);
  run_for(&loop, 2 * WATCH_DEBOUNCE_MS);
  changes = 0;
  CHECK(uv_timer_init(&loop, &writer) == 0);
  CHECK(uv_timer_start(&writer, on_write, 0, WATCH_DEBOUNCE_MS / 10) == 0);
  put(in_dir("policy.lua"), "return 22");
  for (int i = 0; i < 20 && changes == 0; i++) run_for(&loop, WATCH_PATIENCE_MS);
  CHECK(changes == 1);
  uv_close((uv_handle_t *)&writer, NULL);
  watch_close(w);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static void swap_link(void) {
  CHECK(symlink("b", in_dir("data.new")) == 0);
  CHECK(rename(in_dir("data.new"), in_dir("data")) == 0);
}

static void a_swapped_link_is_a_change(void) {
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  CHECK(mkdir(in_dir("a"), 0700) == 0 && mkdir(in_dir("b"), 0700) == 0);
  put(in_dir("a/p.lua"), "return 1");
  put(in_dir("b/p.lua"), "return 2");
  CHECK(symlink("a", in_dir("data")) == 0);
  CHECK(symlink("data/p.lua", in_dir("p.lua")) == 0);
  struct watch *w = watch_new(&loop, on_changed, NULL);
  const struct watched_path paths[] = {{.path = in_dir("p.lua")}};
  CHECK(watch_set(w, paths, 1) == 0);
  run_for(&loop, 2 * WATCH_DEBOUNCE_MS);
  changes = 0;
  swap_link();
  run_until(&loop, 1);
  watch_close(w);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static void a_new_set_does_not_lose_a_change(void) {
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  put(in_dir("policy.lua"), "return 1");
  struct watch *w = watch_new(&loop, on_changed, NULL);
  const struct watched_path paths[] = {{.path = in_dir("policy.lua")}};
  CHECK(watch_set(w, paths, 1) == 0);
  changes = 0;
  put(in_dir("policy.lua"), "return 55555");
  CHECK(watch_set(w, paths, 1) == 0);
  run_until(&loop, 1);
  watch_close(w);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static struct file_stamp stamp_of(const char *path) {
  struct stat st;
  CHECK(stat(path, &st) == 0);
  return file_stamp_of(&st);
}

/* The order that a busy machine made of a reload: the file is read, changes, and only then is watched. */
static void a_change_between_reading_and_watching_is_told(void) {
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  put(in_dir("policy.lua"), "return 1");
  put(in_dir("beside.lua"), "return 1");
  struct file_stamp read = stamp_of(in_dir("policy.lua")), other = stamp_of(in_dir("beside.lua"));
  struct watch *w = watch_new(&loop, on_changed, NULL);
  const struct watched_path paths[] = {{in_dir("policy.lua"), &read}, {in_dir("beside.lua"), &other}};
  changes = 0;
  CHECK(watch_set(w, &paths[1], 1) == 0);
  run_until(&loop, 0); /* what did not change is not told */
  put(in_dir("policy.lua"), "return 22");
  CHECK(watch_set(w, paths, 2) == 0);
  run_until(&loop, 1);
  CHECK(watch_set(w, paths, 2) == 0); /* what was told is known, though the stamp is that of the reader */
  run_until(&loop, 1);
  watch_close(w);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static void a_file_that_was_missing_is_a_change_when_it_comes_in_a_new_folder_too(void) {
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  put(in_dir("policy.lua"), "return 1");
  const struct file_stamp nothing = {0};
  struct watch *w = watch_new(&loop, on_changed, NULL);
  const struct watched_path paths[] = {{.path = in_dir("policy.lua")}, {in_dir("lib/new.lua"), &nothing}};
  CHECK(watch_set(w, paths, 2) == UV_ENOENT);
  changes = 0;
  run_for(&loop, 2 * WATCH_DEBOUNCE_MS);
  CHECK(changes == 0);
  CHECK(mkdir(in_dir("lib"), 0700) == 0);
  run_until(&loop, 0);
  put(in_dir("lib/new.lua"), "return 1");
  run_until(&loop, 1);
  watch_close(w);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

static void remove_dir(void) {
  static const char *const names[] = {"policy.lua", "beside.lua", "else.lua",    "a/p.lua", "b/p.lua",
                                      "data",       "p.lua",      "lib/new.lua", "log"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) (void)unlink(in_dir(names[i]));
  (void)rmdir(in_dir("a"));
  (void)rmdir(in_dir("b"));
  (void)rmdir(in_dir("lib"));
  CHECK(rmdir(dir) == 0); /* nothing is left behind */
}

int main(void) {
  (void)snprintf(dir, sizeof dir, "/tmp/watch_test.XXXXXX");
  CHECK(mkdtemp(dir) != NULL);
  RUN(a_write_in_place_is_a_change);
  RUN(a_replaced_file_is_one_change);
  RUN(two_files_at_once_are_one_change);
  RUN(another_file_is_none);
  RUN(reading_is_none);
  RUN(a_missing_file_is_none_until_it_returns);
  RUN(a_folder_that_never_rests_hides_no_change);
  RUN(a_swapped_link_is_a_change);
  RUN(a_new_set_does_not_lose_a_change);
  RUN(a_change_between_reading_and_watching_is_told);
  RUN(a_file_that_was_missing_is_a_change_when_it_comes_in_a_new_folder_too);
  remove_dir();
  return 0;
}
