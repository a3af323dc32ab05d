/* library_run.h: runs a script as a task of a real VM on a real loop, beside the server of library_server.h. One test program includes it once. */
#ifndef JETON_SPEC_LIBRARY_RUN_H
#define JETON_SPEC_LIBRARY_RUN_H

#include <ftw.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/named.h"
#include "check.h"
#include "http/services.h"
#include "library_server.h"
#include "lua/l_fetch.h"
#include "lua/l_token.h"
#include "lua/vm.h"
#include "token/terms.h"

static struct registry *names;
static struct services services;
static struct test_server server;
static char dir[64];

struct run {
  const char *script;
  struct vm *vm;
  int fn;
  bool over;
  int status;
  char message[512];
  struct slot *slot;           /* given to the script as a token, or NULL */
  struct token_family *family; /* the same */
  struct token_terms terms;    /* of either */
  struct fetch_result result;  /* with `fetch`: what l_fetch_read made of the results */
  struct buf hold;
  bool fetch;
};

static inline int l_compile(lua_State *L) {
  struct run *r = lua_touserdata(L, 1);
  if (luaL_loadbuffer(L, r->script, strlen(r->script), "=test") != LUA_OK) return lua_error(L);
  r->fn = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

/* port, directory, token or family */
static inline int push_arguments(lua_State *L, void *arg) {
  struct run *r = arg;
  lua_pushinteger(L, server.port);
  lua_pushstring(L, dir);
  if (r->slot != NULL)
    l_token_push(L, &r->terms, r->slot);
  else if (r->family != NULL)
    l_family_push(L, "tenant", &r->terms, r->family);
  else
    lua_pushnil(L);
  return 3;
}

static inline void on_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct run *r = arg;
  r->over = true;
  r->status = status;
  (void)snprintf(r->message, sizeof r->message, "%s", message != NULL ? message : "");
  if (status == 0 && r->fetch) l_fetch_read(L, nresults, r->fn, r->slot, &r->result, &r->hold);
}

static inline struct vm *new_vm(void) {
  struct vm_settings s = {
      .role = VM_KEEPER, .memory_max = 64 << 20, .budget_us = 5 * 1000 * 1000, .wipe = true, .services = &services};
  struct vm *vm = vm_new(&s);
  CHECK(vm != NULL);
  return vm;
}

static inline void run_script(struct run *r) {
  const char *message = NULL;
  r->vm = new_vm();
  if (vm_call(r->vm, l_compile, r, &message) != 0) {
    (void)fprintf(stderr, "%s\n", message);
    exit(1);
  }
  task_start(r->vm, r->fn, push_arguments, on_done, r, NULL);
  while (!r->over) (void)uv_run(&services.loop, UV_RUN_ONCE);
  vm_cancel_tasks(r->vm);
  vm_unref(r->vm);
}

/* The script has to end well. */
static inline void passes(const char *script) {
  struct run r = {.script = script};
  run_script(&r);
  if (r.status != 0) (void)fprintf(stderr, "%s\n", r.message);
  CHECK(r.status == 0);
}

static inline int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *at) {
  (void)st, (void)flag, (void)at;
  return remove(path);
}

static inline void library_begin(void) {
  (void)signal(SIGPIPE, SIG_IGN);
  (void)snprintf(dir, sizeof dir, "/tmp/library_test.XXXXXX");
  CHECK(mkdtemp(dir) != NULL);
  names = registry_new();
  CHECK(services_init(&services, names) == 0);
  test_server_start(&server, &services.loop);
}

static inline void library_end(void) {
  test_server_stop(&server);
  services_close(&services);
  registry_free(names);
  CHECK(nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

#endif
