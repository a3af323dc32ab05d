/* demo.c: finds examples/demo.lua, or takes the policy of the command line, gives it the addresses of the embedded servers, and runs it like any policy. One of
 * the command line gets visitors, too. Main thread. */
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
#include "ops/own_dir.h"
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

static bool is_default_control(const char *path) {
  char usual[256];
  control_default_path(usual, sizeof usual);
  return strcmp(path, usual) == 0;
}

enum control_choice { CONTROL_USUAL, CONTROL_IN_OWN_DIR, CONTROL_NONE };

/* The default path, unless another jeton answers there. */
static enum control_choice choose_control(char *out, size_t n) {
  control_default_path(out, n);
  struct buf body;
  buf_init(&body);
  unsigned stranger;
  bool taken = control_ask(out, "GET", "/health", &body, &stranger) > 0 || stranger != CONTROL_OWN;
  buf_fini(&body);
  if (!taken) return CONTROL_USUAL;
  return own_dir_make("demo.sock", out, n) ? CONTROL_IN_OWN_DIR : CONTROL_NONE;
}

struct demo {
  const char *program, *policy, *control;
  bool own_policy, own_control; /* of the command line; the demo's choice, which commands have to be told */
  struct demo_visitors *visitors;
};

static void tell_how_to_try(const struct demo *d, const char *url) {
  bool file = strncmp(url, "unix:", 5) == 0;
  const char *option = d->own_control ? " --control " : "", *path = d->own_control ? d->control : "";
  (void)printf(
      "\n"
      "  An issuer of tokens that live %d seconds, an upstream that refuses a request without a valid one, and\n"
      "  jeton between them. In another terminal, as often as you like; no request meets an expired token:\n"
      "\n"
      "      curl -i %s%s%s/hello\n"
      "\n"
      "  What it does meanwhile, and a refresh by hand:\n"
      "\n"
      "      %s status%s%s\n"
      "      %s refresh api%s%s\n"
      "\n"
      "  The policy is %s. Ctrl-C ends the demo.\n"
      "\n",
      DEMO_TOKEN_MS / 1000, file ? "--unix-socket " : "", file ? url + 5 : url, file ? " http://localhost" : "",
      d->program, option, path, d->program, option, path, d->policy);
}

static void on_ready(void *arg, const char *url) {
  struct demo *d = arg;
  if (d->own_policy) {
    (void)printf(
        "\n  %s is at %s, with visitors that ask 200 times a second; a line every five seconds says how long\n"
        "  they waited. Ctrl-C ends the demo.\n\n",
        d->policy, url);
  } else {
    tell_how_to_try(d, url);
  }
  (void)fflush(stdout);
  if (d->own_policy) d->visitors = demo_visitors_start(url);
}

int demo_run(const struct demo_options *o) {
  char policy[PATH_SIZE], control[256], issuer[DEMO_URL_SIZE], upstream[DEMO_URL_SIZE];
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
  enum control_choice choice = o->control_path == NULL ? choose_control(control, sizeof control) : CONTROL_USUAL;
  if (choice == CONTROL_NONE) {
    demo_servers_stop(servers);
    return EXIT_CANTCREAT;
  }
  const char *address = usual_or_free_address();
  struct demo demo = {.program = o->program,
                      .policy = o->policy != NULL ? o->policy : policy,
                      .control = o->control_path != NULL ? o->control_path : control,
                      .own_policy = o->policy != NULL};
  demo.own_control = !is_default_control(demo.control);
  struct process_options p = {.policy_path = demo.policy,
                              .overrides = {.listen = o->listen != NULL ? o->listen : &address,
                                            .nlisten = o->listen != NULL ? o->nlisten : 1,
                                            .stdout_is_own = demo.own_policy},
                              .control_path = demo.control,
                              .control_in_own_dir = choice == CONTROL_IN_OWN_DIR,
                              .on_ready = on_ready,
                              .arg = &demo};
  int code = process_run(&p);
  if (choice == CONTROL_IN_OWN_DIR) own_dir_remove(control);
  demo_visitors_stop(demo.visitors);
  demo_servers_stop(servers);
  return code;
}
