/* demo.c: finds examples/demo.lua, or takes the policy of the command line, tells it where the embedded servers are, and runs it like any policy. One of the command
 * line gets visitors, too. Main thread. */
#include "ops/demo.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/address.h"
#include "ops/control.h"
#include "ops/control_client.h"
#include "ops/demo_servers.h"
#include "ops/demo_visitors.h"
#include "ops/exits.h"
#include "ops/listeners.h"
#include "ops/process.h"
#include "policy/modules.h"

enum { PATH_SIZE = PATH_MAX };
static const char USUAL[] = "127.0.0.1:8080";

/* Beside the library's scripts: scripts/ and examples/ in the source tree, share/jeton/examples where it is installed. */
static bool find_policy(char out[PATH_SIZE]) {
  static const char *const places[] = {"/../examples/demo.lua", "/examples/demo.lua"};
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof path, "%s%s", scripts_dir(), places[i]);
    if (n > 0 && n < PATH_SIZE && realpath(path, out) != NULL) return true;
  }
  (void)snprintf(out, PATH_SIZE, "%s%s", scripts_dir(), places[0]);
  return false;
}

static const char *usual_or_free_address(void) {
  union address a;
  if (address_parse(str_of(USUAL), &a) == 0 && !address_taken(&a)) return USUAL;
  return "127.0.0.1:0";
}

/* The default path, unless another jeton answers there. */
static void choose_control(char *out, size_t n) {
  control_default_path(out, n);
  struct buf body;
  buf_init(&body);
  if (control_ask(out, "GET", "/health", &body) > 0) (void)snprintf(out, n, "/tmp/jeton-demo-%ld.sock", (long)getpid());
  buf_fini(&body);
}

static void tell_how_to_try(const char *url) {
  bool file = strncmp(url, "unix:", 5) == 0;
  (void)printf(
      "\n"
      "  Try it, as often as you like. Each token lives %d seconds, and no request ever meets an expired one:\n"
      "\n"
      "      curl -i %s%s%s/hello\n"
      "\n"
      "  The policy is examples/demo.lua. Ctrl-C ends the demo.\n"
      "\n",
      DEMO_TOKEN_MS / 1000, file ? "--unix-socket " : "", file ? url + 5 : url, file ? " http://localhost" : "");
  (void)fflush(stdout);
}

struct demo {
  const char *policy; /* of the command line, or NULL */
  struct demo_visitors *visitors;
};

static void on_ready(void *arg, const char *url) {
  struct demo *d = arg;
  if (d->policy == NULL) {
    tell_how_to_try(url);
    return;
  }
  (void)printf("\n  %s is at %s, with visitors that ask 200 times a second. Ctrl-C ends the demo.\n\n", d->policy, url);
  (void)fflush(stdout);
  d->visitors = demo_visitors_start(url);
}

int demo_run(const struct demo_options *o) {
  char policy[PATH_SIZE], control[256], issuer[DEMO_URL_SIZE], upstream[DEMO_URL_SIZE];
  struct demo demo = {.policy = o->policy};
  if (o->policy == NULL && !find_policy(policy)) {
    (void)fprintf(stderr, "jeton: the demo's policy is not where it should be: %s\n", policy);
    return EXIT_NOINPUT;
  }
  struct demo_servers *servers = demo_servers_start(issuer, upstream);
  if (servers == NULL) {
    (void)fputs("jeton: the demo's servers cannot listen on 127.0.0.1\n", stderr);
    return EXIT_UNAVAILABLE;
  }
  (void)setenv("JETON_DEMO_ISSUER", issuer, 1);
  (void)setenv("JETON_DEMO_UPSTREAM", upstream, 1);
  choose_control(control, sizeof control);
  const char *address = usual_or_free_address();
  struct process_options p = {
      .policy_path = o->policy != NULL ? o->policy : policy,
      .overrides = {.listen = o->listen != NULL ? o->listen : &address, .nlisten = o->listen != NULL ? o->nlisten : 1},
      .control_path = o->control_path != NULL ? o->control_path : control,
      .on_ready = on_ready,
      .arg = &demo};
  int code = process_run(&p);
  demo_visitors_stop(demo.visitors);
  demo_servers_stop(servers);
  return code;
}
