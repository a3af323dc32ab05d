/* runtime.c: see runtime.h. */
#include "proxy/runtime.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "http/services.h"

static char *host_field(const struct url *u) {
  char field[URL_HOST_SIZE];
  url_host_field(u, field);
  return must_strdup(field);
}

static struct parent *parent_of(const struct upstream_conf *u, const struct url *url) {
  return url->unix_path.p != NULL ? NULL : parents_for(u->parents, url->tls, url->host, url->port);
}

static void make_upstreams(struct runtime *r, struct origins *all) {
  const struct policy *p = r->policy;
  r->upstreams = must_calloc(p->nupstreams + 1, sizeof *r->upstreams);
  for (size_t i = 0; i < p->nupstreams; i++) {
    struct upstream *u = &r->upstreams[i];
    u->conf = &p->upstreams[i];
    u->origins = must_calloc(u->conf->nurls, sizeof *u->origins);
    u->hosts = must_calloc(u->conf->nurls, sizeof *u->hosts);
    for (size_t j = 0; j < u->conf->nurls; j++) {
      const struct url *url = &u->conf->urls[j];
      struct origin_settings s = {.tls = url->tls,
                                  .host = url->host,
                                  .port = url->port,
                                  .parent = parent_of(u->conf, url),
                                  .client = url->tls ? u->conf->tls : NULL,
                                  .keepalive = u->conf->tcp_keepalive,
                                  .http2 = http2_for(u->conf->http2, url->tls)};
      char path[108];
      if (url->unix_path.p != NULL) {
        snprintf(path, sizeof path, "%.*s", STR_FMT(url->unix_path));
        s.unix_path = path;
      }
      u->origins[j] = origin_get(all, &s);
      u->hosts[j] = host_field(url);
    }
  }
}

struct runtime *runtime_new(struct policy *p, const struct token_set *tokens, struct services *services,
                            lua_CFunction open, char *err, size_t errsize) {
  struct runtime *r = must_calloc(1, sizeof *r);
  r->refs = 1;
  r->policy = policy_ref(p);
  serving_join(&p->serving);
  token_set_copy(&r->tokens, tokens);
  make_upstreams(r, services->origins);
  struct vm_settings s = {
      .role = VM_WORKER, .memory_max = p->limits.memory, .budget_us = p->limits.script_time_us, .services = services};
  const char *message = "out of memory";
  r->vm = vm_new(&s);
  int rc = r->vm == NULL ? ERR_MEMORY : vm_call(r->vm, open, NULL, &message);
  if (rc == 0) rc = binding_init(&r->binding, r->vm, p, &message);
  r->bound = rc == 0; /* from here on there are references to give back */
  if (rc == 0) rc = binding_tokens(&r->binding, r->vm, p, &r->tokens);
  if (rc == 0) return r;
  snprintf(err, errsize, "%s", message);
  runtime_unref(r);
  return NULL;
}

struct runtime *runtime_ref(struct runtime *r) {
  r->refs++;
  return r;
}

void runtime_unref(struct runtime *r) {
  assert(r->refs > 0);
  if (--r->refs > 0) return;
  if (r->bound) binding_fini(&r->binding);
  if (r->vm != NULL) {
    vm_cancel_tasks(r->vm);
    vm_unref(r->vm);
  }
  for (size_t i = 0; i < r->policy->nupstreams; i++) {
    for (size_t j = 0; j < r->upstreams[i].conf->nurls; j++) {
      origin_unref(r->upstreams[i].origins[j]);
      free(r->upstreams[i].hosts[j]);
    }
    free(r->upstreams[i].hosts);
    free(r->upstreams[i].origins);
  }
  free(r->upstreams);
  token_set_fini(&r->tokens);
  policy_leave(r->policy);
  policy_unref(r->policy);
  free(r);
}

struct upstream *runtime_upstream(const struct runtime *r, struct str name) {
  const struct upstream_conf *conf = policy_upstream(r->policy, name);
  return conf != NULL ? &r->upstreams[conf - r->policy->upstreams] : NULL;
}

static struct origin *choose(struct upstream *u, size_t i, const struct url **url, struct str *host) {
  *url = &u->conf->urls[i];
  *host = str_of(u->hosts[i]);
  return u->origins[i];
}

struct origin *upstream_next(struct upstream *u, bool can_move, const struct url **url, struct str *host) {
  size_t n = u->conf->nurls, first = u->turn++ % n;
  for (size_t i = 0; n > 1 && i < n; i++) {
    size_t at = (first + i) % n;
    if (origin_may_serve(u->origins[at], can_move)) return choose(u, at, url, host);
  }
  return choose(u, first, url, host); /* one has to be asked */
}

struct origin *upstream_other(struct upstream *u, const struct origin *failed, const struct url **url,
                              struct str *host) {
  size_t n = u->conf->nurls;
  for (size_t i = 0; i < n; i++) {
    size_t at = (u->turn + i) % n;
    if (u->origins[at] != failed && origin_serves(u->origins[at])) return choose(u, at, url, host);
  }
  return NULL;
}

const struct token_conf *runtime_token_conf(const struct runtime *r, const struct slot *s) {
  const char *name = slot_token_name(s);
  for (size_t i = 0; i < r->policy->ntokens; i++)
    if (strcmp(r->policy->tokens[i].name, name) == 0) return &r->policy->tokens[i];
  return NULL;
}
