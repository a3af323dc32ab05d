/* reload_test.c: the two phases with a real keeper, two real workers and real sockets: what a reload keeps, refuses and gives back. */
#include "ops/reload.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/named.h"
#include "check.h"

enum { NWORKERS = 2 };
static char path[64];

struct fixture {
  struct registry *names;
  struct services services;
  struct keeper_thread *keeper;
  struct worker *workers[NWORKERS];
  struct reload *reload;
  struct policy_overrides overrides;
  struct order stops[NWORKERS];
  struct order stop_keeper;
  unsigned ended;
  int status;
  char text[1024];
  unsigned refused_files; /* that the refused policy read, or looked for */
  char refused_last[256]; /* the path of the last one */
};

static void write_policy(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void write_policy(const char *fmt, ...) {
  FILE *f = fopen(path, "w");
  CHECK(f != NULL);
  va_list ap;
  va_start(ap, fmt);
  CHECK(vfprintf(f, fmt, ap) >= 0);
  va_end(ap);
  CHECK(fclose(f) == 0);
}

static void on_ended(void *ctx, const struct reload_result *result) {
  struct fixture *f = ctx;
  f->ended++;
  f->status = result->status;
  (void)snprintf(f->text, sizeof f->text, "%s", result->text);
  f->refused_files = result->refused != NULL ? (unsigned)result->refused->nfiles : 0;
  if (f->refused_files > 0)
    (void)snprintf(f->refused_last, sizeof f->refused_last, "%s", result->refused->files[f->refused_files - 1].path);
}

static void wait_for(struct fixture *f, unsigned ended) {
  while (f->ended < ended) (void)uv_run(&f->services.loop, UV_RUN_ONCE);
}

static void begin(struct fixture *f) {
  *f = (struct fixture){.names = registry_new()};
  CHECK(services_init(&f->services, f->names) == 0);
  f->keeper = keeper_thread_new(f->names);
  CHECK(f->keeper != NULL && keeper_thread_start(f->keeper) == 0);
  for (unsigned i = 0; i < NWORKERS; i++) {
    f->workers[i] = worker_new(i, NWORKERS, f->names, NULL);
    CHECK(worker_start(f->workers[i]) == 0);
  }
  struct reload_parts parts = {.services = &f->services,
                               .keeper = f->keeper,
                               .workers = f->workers,
                               .nworkers = NWORKERS,
                               .path = path,
                               .overrides = &f->overrides,
                               .ended = on_ended,
                               .ctx = f};
  f->reload = reload_new(&parts);
  struct report report;
  report_init(&report);
  struct policy *p = reload_load(&f->services, path, &f->overrides, &report);
  if (p == NULL) fprintf(stderr, "%s", buf_z(&report.text));
  CHECK(p != NULL);
  report_fini(&report);
  reload_first(f->reload, p);
  wait_for(f, 1);
}

static void again(struct fixture *f, bool prove) {
  unsigned before = f->ended;
  reload_request(f->reload, prove, NULL);
  wait_for(f, before + 1);
}

static unsigned stopped; /* answers of on_stopped; this test has one thread that counts */
static void on_stopped(struct order *o) {
  (void)o;
  stopped++;
}
static void on_keeper_stopped(struct order *o) {
  (void)o;
  stopped++;
}

static void end(struct fixture *f) {
  CHECK(reload_stop(f->reload));
  stopped = 0;
  for (unsigned i = 0; i < NWORKERS; i++) {
    f->stops[i] = (struct order){.reply_to = &f->services.mailbox, .done = on_stopped, .kind = ORDER_STOP};
    worker_post(f->workers[i], &f->stops[i]);
  }
  while (stopped < NWORKERS) (void)uv_run(&f->services.loop, UV_RUN_ONCE);
  for (unsigned i = 0; i < NWORKERS; i++) worker_join(f->workers[i]);
  f->stop_keeper = (struct order){.reply_to = &f->services.mailbox, .done = on_keeper_stopped, .kind = ORDER_STOP};
  keeper_thread_post(f->keeper, &f->stop_keeper);
  while (stopped < NWORKERS + 1) (void)uv_run(&f->services.loop, UV_RUN_ONCE);
  keeper_thread_join(f->keeper);
  reload_free(f->reload);
  services_close(&f->services);
  registry_free(f->names);
  CHECK(unlink(path) == 0);
}

static int try_connect(const union address *a) {
  int fd = socket(a->sa.sa_family, SOCK_STREAM, 0);
  int status = connect(fd, &a->sa, address_len(a));
  (void)close(fd);
  return status;
}

static union address listening(struct fixture *f, size_t i) {
  CHECK(reload_listeners(f->reload)->n > i);
  return reload_listeners(f->reload)->v[i].address;
}

static const char PLAIN[] =
    "return { listen = \"127.0.0.1:0\", upstream = \"http://127.0.0.1:1\", log = { level = \"off\" } }\n";
/* A token whose fetch does not wait; %s: what it returns. */
static const char TOKEN[] =
    "return { listen = \"127.0.0.1:0\", upstream = \"http://127.0.0.1:1\", log = { level = \"off\" },\n"
    "  tokens = { api = { fetch = function() %s end } } }\n";
static const char GOOD_FETCH[] = "return { value = \"v\", expires_in = 600 }";

static void facts(struct fixture *f, struct slot_facts *out) {
  CHECK(reload_tokens(f->reload)->n == 1);
  slot_facts(reload_tokens(f->reload)->slots[0], clock_boot_ms(), out);
}

static void wait_for_token(struct fixture *f) {
  struct slot_facts now;
  do {
    (void)usleep(2000);
    facts(f, &now);
  } while (!now.valid);
}

static void a_kept_listener_keeps_its_port(void) {
  struct fixture f;
  write_policy("%s", PLAIN);
  begin(&f);
  CHECK(f.status == 0);
  union address before = listening(&f, 0);
  CHECK(try_connect(&before) == 0);
  again(&f, false);
  CHECK(f.status == 0);
  union address after = listening(&f, 0);
  CHECK(after.in.sin_port == before.in.sin_port);
  CHECK(try_connect(&after) == 0);
  end(&f);
  CHECK(try_connect(&after) != 0);
}

static void listeners_come_and_go(void) {
  struct fixture f;
  write_policy("%s", PLAIN);
  begin(&f);
  union address tcp = listening(&f, 0);
  write_policy("return { listen = \"unix:%s.sock\", upstream = \"http://127.0.0.1:1\" }\n", path);
  again(&f, false);
  CHECK(f.status == 0);
  union address file = listening(&f, 0);
  CHECK(try_connect(&file) == 0);
  CHECK(try_connect(&tcp) != 0);
  end(&f);
  CHECK(access(file.un.sun_path, F_OK) != 0);
}

static void a_broken_policy_is_refused_and_the_old_one_stays(void) {
  struct fixture f;
  write_policy("%s", PLAIN);
  begin(&f);
  struct policy *before = reload_policy(f.reload);
  union address a = listening(&f, 0);
  write_policy("return {\n  lisen = 1,\n}\n");
  again(&f, false);
  CHECK(f.status == ERR_CONFIG);
  CHECK(strstr(f.text, "lisen") != NULL);
  CHECK(reload_policy(f.reload) == before);
  CHECK(try_connect(&a) == 0);
  CHECK(strstr(reload_facts(f.reload).last_error, "lisen") != NULL);
  write_policy("%s", PLAIN);
  again(&f, false);
  CHECK(f.status == 0);
  CHECK(reload_facts(f.reload).last_error[0] == '\0');
  end(&f);
}

static void an_address_in_use_refuses_everything(void) {
  struct fixture f;
  write_policy("%s", PLAIN);
  begin(&f);
  union address taken;
  CHECK(address_parse(STR("127.0.0.1:0"), &taken) == 0);
  int fd = address_listen(&taken, 1);
  CHECK(fd >= 0);
  struct policy *before = reload_policy(f.reload);
  write_policy(
      "return { listen = { \"127.0.0.1:0\", \"127.0.0.1:%u\" }, upstream = \"http://127.0.0.1:1\", tokens = { new = {} "
      "} }\n",
      (unsigned)ntohs(taken.in.sin_port));
  again(&f, false);
  CHECK(f.status == UV_EADDRINUSE);
  CHECK(reload_policy(f.reload) == before);
  CHECK(reload_listeners(f.reload)->n == 1);
  (void)close(fd);
  again(&f, false);
  CHECK(f.status == 0);
  CHECK(reload_listeners(f.reload)->n == 2);
  end(&f);
}

static void a_reload_keeps_the_token_and_fetches_nothing(void) {
  struct fixture f;
  write_policy(TOKEN, GOOD_FETCH);
  begin(&f);
  wait_for_token(&f);
  struct slot *slot = reload_tokens(f.reload)->slots[0];
  for (int i = 0; i < 5; i++) again(&f, false);
  struct slot_facts now;
  facts(&f, &now);
  CHECK(reload_tokens(f.reload)->slots[0] == slot);
  CHECK(now.generation == 1 && now.fetches == 1);
  end(&f);
}

static void a_proof_that_fails_refuses_the_reload(void) {
  struct fixture f;
  write_policy(TOKEN, GOOD_FETCH);
  begin(&f);
  wait_for_token(&f);
  write_policy(TOKEN, "error \"no such client\"");
  again(&f, true);
  CHECK(f.status == ERR_SCRIPT);
  CHECK(strstr(f.text, "token api") != NULL);
  CHECK(strstr(f.text, "no such client") != NULL);
  write_policy(TOKEN, "return { value = \"v\" }"); /* no lifetime */
  again(&f, true);
  CHECK(f.status == ERR_SCRIPT);
  write_policy(TOKEN, "return { value = \"w\", expires_in = 60 }");
  again(&f, true);
  CHECK(f.status == 0);
  struct slot_facts now;
  facts(&f, &now);
  CHECK(now.generation == 2 && now.fetches == 4); /* what was proved serves, and nothing else is fetched */
  end(&f);
}

/* What a worker's runtime does for as long as it has exchanges. */
static struct policy *serve_on(struct fixture *f) {
  struct policy *p = policy_ref(reload_policy(f->reload));
  serving_join(&p->serving);
  return p;
}
static void serve_no_more(struct policy *p) {
  policy_leave(p);
  policy_unref(p);
}

static bool is_closed(struct slot *s) {
  struct slot_facts now;
  slot_facts(s, clock_boot_ms(), &now);
  return now.state == SLOT_CLOSED;
}
static void wait_for_close(struct slot *s) {
  while (!is_closed(s)) (void)usleep(1000);
}

static struct slot *token_of(struct fixture *f) {
  wait_for_token(f);
  return slot_ref(reload_tokens(f->reload)->slots[0]);
}

static void a_token_that_left_goes_with_the_last_who_serves_under_its_policy(void) {
  struct fixture f;
  write_policy(TOKEN, GOOD_FETCH);
  begin(&f);
  struct slot *slot = token_of(&f);
  struct policy *one = serve_on(&f), *other = serve_on(&f);
  write_policy("%s", PLAIN);
  again(&f, false);
  serve_no_more(one);
  for (int i = 0; i < 100; i++, (void)usleep(2000)) CHECK(!is_closed(slot));
  serve_no_more(other);
  wait_for_close(slot);
  slot_unref(slot);
  end(&f);
}

static void a_token_that_left_goes_at_once_when_nobody_serves(void) {
  struct fixture f;
  write_policy(TOKEN, GOOD_FETCH);
  begin(&f);
  struct slot *slot = token_of(&f);
  write_policy("%s", PLAIN);
  again(&f, false);
  wait_for_close(slot);
  slot_unref(slot);
  end(&f);
}

/* The later policy's function fetches the token, and exchanges of the earlier one may need it. */
static void a_policy_lingers_for_those_before_it(void) {
  struct fixture f;
  write_policy(TOKEN, GOOD_FETCH);
  begin(&f);
  struct slot *slot = token_of(&f);
  struct policy *first = serve_on(&f);
  again(&f, false); /* a second one with that token, which nobody serves under after the next */
  write_policy("%s", PLAIN);
  again(&f, false);
  for (int i = 0; i < 100; i++, (void)usleep(2000)) CHECK(!is_closed(slot));
  serve_no_more(first);
  wait_for_close(slot);
  slot_unref(slot);
  end(&f);
}

static void nobody_is_waited_for_longer_than_a_drain(void) {
  struct fixture f;
  write_policy(
      "return { listen = \"127.0.0.1:0\", upstream = \"http://127.0.0.1:1\", log = { level = \"off\" },\n"
      "  timeouts = { drain = \"50ms\" }, tokens = { api = { fetch = function() %s end } } }\n",
      GOOD_FETCH);
  begin(&f);
  struct slot *slot = token_of(&f);
  struct policy *old = serve_on(&f);
  write_policy("%s", PLAIN);
  again(&f, false);
  wait_for_close(slot);
  serve_no_more(old); /* its mail finds nobody who waits for it */
  slot_unref(slot);
  end(&f);
}

static void the_end_of_a_policy_that_was_discarded_is_of_no_interest(void) {
  struct fixture f;
  write_policy(TOKEN, GOOD_FETCH);
  begin(&f);
  for (int i = 0; i < 5; i++) {
    write_policy(TOKEN, "error \"no such client\""); /* prepared everywhere, and refused by its proof */
    again(&f, true);
    CHECK(f.status == ERR_SCRIPT);
  }
  end(&f);
}

struct asker {
  struct reload_waiter waiter;
  int status;
  bool answered;
};
static void on_answer(struct reload_waiter *w, const struct reload_result *result) {
  struct asker *a = CONTAINER_OF(w, struct asker, waiter);
  a->answered = true;
  a->status = result->status;
}

static void requests_during_a_round_are_one_next_round(void) {
  struct fixture f;
  write_policy("%s", PLAIN);
  begin(&f);
  struct asker first = {.waiter.done = on_answer}, second = {.waiter.done = on_answer},
               third = {.waiter.done = on_answer};
  reload_request(f.reload, false, &first.waiter);
  reload_request(f.reload, false, &second.waiter);
  reload_request(f.reload, false, &third.waiter);
  reload_forget(&third.waiter);
  wait_for(&f, 3);
  CHECK(first.answered && second.answered && !third.answered);
  CHECK(f.ended == 3); /* the first policy, one round, and one more for both others */
  end(&f);
}

static bool unchanged(const struct policy_file *file) {
  struct stat st;
  CHECK(stat(file->path, &st) == 0);
  struct file_stamp now = file_stamp_of(&st);
  return file_stamp_same(&now, &file->seen);
}

/* Whoever watches the files only when the policy is active finds out by this that they have changed since. */
static void a_file_that_changes_while_its_policy_is_taken_is_another_than_was_read(void) {
  struct fixture f;
  write_policy("%s", PLAIN);
  begin(&f);
  const struct policy *p = reload_policy(f.reload);
  CHECK(p->nfiles == 1 && strcmp(p->files[0].path, path) == 0 && unchanged(&p->files[0]));
  uint64_t before = p->number;
  reload_request(f.reload, false, NULL); /* reads the file before it returns */
  write_policy("%s -- and more", PLAIN);
  wait_for(&f, 2);
  p = reload_policy(f.reload);
  CHECK(f.status == 0 && p->number > before && p->nfiles == 1 && !unchanged(&p->files[0]));
  end(&f);
}

static void what_a_refused_policy_read_and_missed_is_known(void) {
  struct fixture f;
  write_policy("%s", PLAIN);
  begin(&f);
  again(&f, false);
  CHECK(f.status == 0 && f.refused_files == 0);
  write_policy("require 'no_such_module'");
  again(&f, false);
  CHECK(f.status != 0 && f.refused_files == 5); /* its own, and two places in each of two folders */
  CHECK(strstr(f.refused_last, "/no_such_module/init.lua") != NULL);
  write_policy("return { listen = \"192.0.2.1:1\", upstream = \"http://127.0.0.1:1\" }"); /* not our address */
  again(&f, false);
  CHECK(f.status != 0 && f.refused_files == 1 && strcmp(f.refused_last, path) == 0);
  end(&f);
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN);
  (void)snprintf(path, sizeof path, "/tmp/reload_test.%ld.lua", (long)getpid());
  RUN(a_kept_listener_keeps_its_port);
  RUN(listeners_come_and_go);
  RUN(a_broken_policy_is_refused_and_the_old_one_stays);
  RUN(an_address_in_use_refuses_everything);
  RUN(a_reload_keeps_the_token_and_fetches_nothing);
  RUN(a_proof_that_fails_refuses_the_reload);
  RUN(a_token_that_left_goes_with_the_last_who_serves_under_its_policy);
  RUN(a_token_that_left_goes_at_once_when_nobody_serves);
  RUN(a_policy_lingers_for_those_before_it);
  RUN(nobody_is_waited_for_longer_than_a_drain);
  RUN(the_end_of_a_policy_that_was_discarded_is_of_no_interest);
  RUN(requests_during_a_round_are_one_next_round);
  RUN(a_file_that_changes_while_its_policy_is_taken_is_another_than_was_read);
  RUN(what_a_refused_policy_read_and_missed_is_known);
  return 0;
}
