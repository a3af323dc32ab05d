/* cli_test.c: exit codes of the command line, of what needs no running process. */
#include "ops/cli.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "ops/exits.h"

enum { WORDS_MAX = 8 };

/* Runs "jeton <words…>", separated by single spaces. */
static int run(const char *line) {
  char text[256];
  char *argv[WORDS_MAX + 2] = {"jeton"};
  int argc = 1;
  (void)snprintf(text, sizeof text, "%s", line);
  for (char *save = NULL, *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) argv[argc++] = w;
  return cli_main(argc, argv);
}

static void help_and_version_are_good(void) {
  CHECK(run("--help") == EXIT_GOOD);
  CHECK(run("-h") == EXIT_GOOD);
  CHECK(run("run --help") == EXIT_GOOD);
  CHECK(run("--version") == EXIT_GOOD);
}

static void mistakes_are_usage_errors(void) {
  static const char *const lines[] = {"",
                                      "stauts",
                                      "run",
                                      "run a.lua b.lua",
                                      "run a.lua --wach",
                                      "run a.lua --workers",
                                      "run a.lua --workers=0",
                                      "run a.lua --workers many",
                                      "run a.lua --listen localhost",
                                      "run a.lua --watch=yes",
                                      "run a.lua --json",
                                      "check a.lua --watch",
                                      "status extra",
                                      "refresh",
                                      "run a.lua --version"};
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) CHECK(run(lines[i]) == EXIT_USAGE);
}

static void a_missing_policy_is_no_input(void) {
  CHECK(run("check /nonexistent/policy.lua") == EXIT_NOINPUT);
  CHECK(run("run /nonexistent/policy.lua") == EXIT_NOINPUT);
}

static void nobody_at_the_control_path_is_unavailable(void) {
  static const char *const lines[] = {"status", "reload", "reload --prove", "refresh api", "stop"};
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    char line[128];
    (void)snprintf(line, sizeof line, "%s --control /nonexistent/jeton.sock", lines[i]);
    CHECK(run(line) == EXIT_UNAVAILABLE);
  }
}

/* The one thing in the starter that this machine lacks: the secret's file. */
static void point_secret_to(const char *path, const char *secret) {
  char text[8192];
  FILE *f = fopen(path, "r");
  CHECK(f != NULL);
  size_t n = fread(text, 1, sizeof text - 1, f);
  text[n] = '\0';
  CHECK(fclose(f) == 0);
  char *at = strstr(text, "/run/secrets/my-client");
  CHECK(at != NULL);
  f = fopen(path, "w");
  CHECK(f != NULL);
  CHECK(fprintf(f, "%.*s%s%s", (int)(at - text), text, secret, at + strlen("/run/secrets/my-client")) > 0);
  CHECK(fclose(f) == 0);
}

static void init_writes_a_policy_once_and_it_is_valid(void) {
  char path[64], secret[64], line[80];
  (void)snprintf(path, sizeof path, "/tmp/cli_test.%ld.lua", (long)getpid());
  (void)snprintf(secret, sizeof secret, "/tmp/cli_test.%ld.secret", (long)getpid());
  (void)snprintf(line, sizeof line, "init %s", path);
  CHECK(run(line) == EXIT_GOOD);
  CHECK(run(line) == EXIT_CANTCREAT);
  int fd = open(secret, O_WRONLY | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0 && write(fd, "s", 1) == 1 && close(fd) == 0);
  point_secret_to(path, secret);
  (void)snprintf(line, sizeof line, "check %s", path);
  CHECK(run(line) == EXIT_GOOD);
  CHECK(unlink(path) == 0 && unlink(secret) == 0);
}

static void a_broken_policy_is_a_configuration_error(void) {
  char path[64], line[80];
  (void)snprintf(path, sizeof path, "/tmp/cli_test.%ld.lua", (long)getpid());
  FILE *f = fopen(path, "w");
  CHECK(f != NULL);
  CHECK(fputs("return { lisen = \"127.0.0.1:0\", upstream = 12 }\n", f) >= 0);
  CHECK(fclose(f) == 0);
  (void)snprintf(line, sizeof line, "check %s", path);
  CHECK(run(line) == EXIT_CONFIG);
  (void)snprintf(line, sizeof line, "run %s", path);
  CHECK(run(line) == EXIT_CONFIG);
  CHECK(unlink(path) == 0);
}

int main(void) {
  RUN(help_and_version_are_good);
  RUN(mistakes_are_usage_errors);
  RUN(a_missing_policy_is_no_input);
  RUN(nobody_at_the_control_path_is_unavailable);
  RUN(init_writes_a_policy_once_and_it_is_valid);
  RUN(a_broken_policy_is_a_configuration_error);
  return 0;
}
