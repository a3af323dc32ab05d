/* parent.h: a parent proxy, which stands between jeton and the servers that it is asked for: whom a policy, or a script's call, names by `proxy`.
 *
 * What goes through it is a tunnel (CONNECT, http/connect.h), in which jeton speaks to the server as ever, TLS included. So the parent sees neither tokens nor bodies,
 * and hosts are judged by the server, not by it. Only a request over plain http that carries no secret may be handed to the parent to be read (in absolute form, RFC
 * 9112 section 3.2.2), since many parents make tunnels to port 443 alone.
 *
 * Immutable and refcounted: any thread may have it. Its credentials are an opaque secret, whose bytes are asked for each time that they are sent, behind a mutex, since
 * those of a file may have been replaced meanwhile. */
#ifndef JETON_HTTP_PARENT_H
#define JETON_HTTP_PARENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

struct parent;
struct secret; /* token/secret.h */

/* Reads "http://host:port", with "user:password@" before the host if the parent wants them. credentials: what stands in place of these, as of parent_basic, and the text
 * has none then; NULL: the text's own, or none. NULL with a static sentence in *why that holds nothing of the text. */
struct parent *parent_parse(struct str text, struct secret *credentials, const char **why);
/* "Basic …" (RFC 7617), a new reference. NULL: too large. password NULL: an empty one. */
struct secret *parent_basic(struct str user, struct secret *password);
struct parent *parent_ref(struct parent *p);
void parent_unref(struct parent *p); /* NULL is fine */
const char *parent_host(const struct parent *p);
uint16_t parent_port(const struct parent *p);
const char *parent_where(const struct parent *p); /* for people: "http://proxy:3128" */
bool parent_has_credentials(const struct parent *p);
/* 0, or why the credentials had no bytes when it was made. */
int parent_error(const struct parent *p);
/* Before anybody else has it: its credentials are the bytes that they have now. For a secret that belongs to a VM, which may end before the parent does. 0, or why there are none. */
int parent_fix(struct parent *p);
/* What a 407 of one means that has credentials, and of one that has none. */
#define PARENT_REFUSES "it does not take the user and password that it was given"
#define PARENT_WANTS "it wants a user and a password, and was given none"
/* One machine, asked by one user: connections through the one serve for the other. Both may be NULL. */
bool parent_same(const struct parent *a, const struct parent *b);
/* Appends "Proxy-Authorization: …\r\n" to out, which must be `sensitive`, if it has credentials. 0, or secret_expand's error, and then out is as before. */
int parent_add_authorization(struct parent *p, struct buf *out);

/* --- which one for which server --- */

struct parents;                                /* immutable, refcounted */
struct parents *parents_one(struct parent *p); /* for all; takes its own reference */
int parents_fix(struct parents *p);            /* parent_fix of all of them */
/* As the environment says (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY). NULL with a sentence in `why`: one of them is none. */
struct parents *parents_of_environment(char *why, size_t size);
struct parents *parents_ref(struct parents *p);
void parents_unref(struct parents *p); /* NULL is fine */
/* Borrowed; NULL: that server is asked directly. p NULL: all are. */
struct parent *parents_for(const struct parents *p, bool tls, struct str host, uint16_t port);
bool parents_from_environment(const struct parents *p);
const char *parents_where(const struct parents *p); /* "http://proxy:3128", or "environment" */

#endif
