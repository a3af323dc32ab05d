/* keys.h: the keys of a policy's table, a file a group: keys.c the top level, keys_net.c listeners and upstreams, keys_forward.c the targets of `forward`,
 * keys_tls.c TLS of all three, keys_proxy.c parent proxies, keys_token.c tokens. */
#ifndef JETON_POLICY_KEYS_H
#define JETON_POLICY_KEYS_H

#include "policy/schema.h"

/* Sets the defaults of keys that always have a value. */
void keys_defaults(struct policy *p);
/* Reads the table at the absolute index into s->policy. Inside vm_call. */
void keys_read(struct schema *s, int table);
/* Checks the keys against one another, and decides which hosts may receive each token. Outside of Lua, once, after keys_read. */
void keys_finish(struct schema *s);
/* Reads certificates, keys and CA files and makes the TLS configurations. Outside of Lua, after keys_finish. */
void keys_make_tls(struct schema *s);

/* Between the files of this group. */
void keys_read_listen(struct schema *s, const struct path *at, int value, void *unused);
void keys_read_upstream(struct schema *s, const struct path *at, int value, void *unused);
void keys_read_upstreams(struct schema *s, const struct path *at, int value, void *unused);
void keys_read_forward(struct schema *s, const struct path *at, int value, void *unused);
void keys_read_tokens(struct schema *s, const struct path *at, int value, void *unused);
void keys_read_keepalive(struct schema *s, const struct path *at, int value, void *to);
void keys_read_proxy(struct schema *s, const struct path *at, int value, void *to); /* to: a struct parents * */
void keys_read_http2(struct schema *s, const struct path *at, int value, void *to); /* to: an enum http2_mode */
struct keepalive keys_keepalive_default(void);
void keys_override_listen(struct schema *s);
void keys_finish_tokens(struct schema *s);
/* The key `tls` of one; KEYS_FORWARD stands for the targets of `forward`. */
#define KEYS_FORWARD SIZE_MAX
void keys_tls_upstream(struct schema *s, const struct path *at, int value, size_t upstream);
void keys_tls_default(struct schema *s, const struct path *at, size_t upstream); /* an https upstream without the key */
void keys_tls_listen(struct schema *s, const struct path *at, int value, size_t listen);
/* The tables of keys of that file. */
const struct field_place *keys_net_places(void);
const struct field_place *keys_tls_places(void);
const struct field_place *keys_forward_places(void);
const struct field_place *keys_proxy_places(void);
const struct field_place *keys_token_places(void);
void keys_upstream_defaults(struct upstream_conf *u); /* what is kept, and HTTP/2, unless an upstream says otherwise */
bool keys_is_type(struct schema *s, int table, const char *key, int type); /* the key's value has this Lua type */

#endif
