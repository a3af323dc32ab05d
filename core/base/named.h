/* named.h: objects of the process that policies name, such as a store that all workers share: every caller that asks for the same kind and name gets the same
 * object.
 *
 * An object lives while it has a reference. The VMs of a policy hold what the policy's file names until they close, and a reload makes the new VMs before the
 * old ones go: so a named object survives every reload to a policy that names it too, and goes with the last one that does. Any thread. */
#ifndef JETON_BASE_NAMED_H
#define JETON_BASE_NAMED_H

#include <stdbool.h>

#include "base/list.h"
#include "base/str.h"

struct named;
struct named_kind {
  const char *what; /* "jeton.shared" */
  /* Both run under the registry's mutex and call nothing of it. */
  struct named *(*make)(const void *settings); /* never NULL */
  void (*free)(struct named *n);               /* called when the last reference has gone */
};
struct registry;
struct named {                   /* embedded in the object */
  const struct named_kind *kind; /* this, the name and the registry: set by named_get, immutable */
  char *name;
  struct registry *registry;
  struct link link; /* guarded by the registry's mutex, as is the count */
  unsigned refs;
};

struct registry *registry_new(void);
void registry_free(struct registry *r); /* when nothing is in it any more */

/* 1 to 64 letters, digits, and any of "_.:/-": it stands in logs, status and metrics as it is. */
bool named_valid(struct str name);
/* The one there is, or one made with `settings`. A new reference. */
struct named *named_get(struct registry *r, const struct named_kind *kind, struct str name, const void *settings);
struct named *named_ref(struct named *n);
void named_unref(struct named *n);
/* Frees its name: the next caller that asks for the name gets a new object, and holders of this one keep it. Does nothing when the name is free already. */
void named_release(struct named *n);
/* fn runs under the registry's mutex: it neither gets nor gives back anything. In the order in which they were made. */
void registry_each(struct registry *r, const struct named_kind *kind, void (*fn)(void *arg, struct named *n),
                   void *arg);

#endif
