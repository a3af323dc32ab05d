/* named.c: a list under a mutex. Names are few and are looked up while a policy's file runs, never while a request is served. Any thread. */
#include "base/named.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/must.h"

enum { NAME_MAX_BYTES = 64 };

struct registry {
  pthread_mutex_t mutex; /* guards the list and the counts of what is in it */
  struct link all;
};

struct registry *registry_new(void) {
  struct registry *r = must_calloc(1, sizeof *r);
  pthread_mutex_init(&r->mutex, NULL);
  list_init(&r->all);
  return r;
}

void registry_free(struct registry *r) {
  assert(list_empty(&r->all));
  pthread_mutex_destroy(&r->mutex);
  free(r);
}

static bool name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         (c != '\0' && strchr("_.:/-", c) != NULL);
}

bool named_valid(struct str name) {
  for (size_t i = 0; i < name.n; i++) {
    if (!name_byte(name.p[i])) return false;
  }
  return name.n > 0 && name.n <= NAME_MAX_BYTES;
}

static struct named *find(struct registry *r, const struct named_kind *kind, struct str name) {
  for (struct link *l = r->all.next; l != &r->all; l = l->next) {
    struct named *n = CONTAINER_OF(l, struct named, link);
    if (n->kind == kind && str_eq(str_of(n->name), name)) return n;
  }
  return NULL;
}

static struct named *add(struct registry *r, const struct named_kind *kind, struct str name, const void *settings) {
  struct named *n = kind->make(settings);
  n->kind = kind;
  n->registry = r;
  n->refs = 0;
  n->name = must_dup(name);
  list_push(&r->all, &n->link);
  return n;
}

struct named *named_get(struct registry *r, const struct named_kind *kind, struct str name, const void *settings) {
  assert(named_valid(name));
  pthread_mutex_lock(&r->mutex);
  struct named *n = find(r, kind, name);
  if (n == NULL) n = add(r, kind, name, settings);
  n->refs++;
  pthread_mutex_unlock(&r->mutex);
  return n;
}

struct named *named_ref(struct named *n) {
  pthread_mutex_lock(&n->registry->mutex);
  n->refs++;
  pthread_mutex_unlock(&n->registry->mutex);
  return n;
}

void named_release(struct named *n) {
  pthread_mutex_lock(&n->registry->mutex);
  list_remove(&n->link);
  pthread_mutex_unlock(&n->registry->mutex);
}

void named_unref(struct named *n) {
  struct registry *r = n->registry;
  pthread_mutex_lock(&r->mutex);
  assert(n->refs > 0);
  if (--n->refs == 0) {
    list_remove(&n->link);
    free(n->name);
    n->kind->free(n);
  }
  pthread_mutex_unlock(&r->mutex);
}

void registry_each(struct registry *r, const struct named_kind *kind, void (*fn)(void *arg, struct named *n),
                   void *arg) {
  pthread_mutex_lock(&r->mutex);
  for (struct link *l = r->all.next; l != &r->all; l = l->next) {
    struct named *n = CONTAINER_OF(l, struct named, link);
    if (n->kind == kind) fn(arg, n);
  }
  pthread_mutex_unlock(&r->mutex);
}
