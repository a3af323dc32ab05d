/* keys_proxy.c: the key `proxy` of upstreams and of `forward`: through whom servers are reached. Runs on control's thread.
 *
 * What comes of it is in the snapshot that all threads share, its password included, whose bytes are asked for when they are sent: one of a file that has been replaced is
 * the new one then. A password that a command prints is the VM's that runs the command, which control's does not, so it cannot stand here. The environment is read at each load. */
#include "policy/keys.h"

#include "base/err.h"
#include "lua/l_secret.h"
#include "policy/hint.h"
#include "token/secret.h"

#define AT(member) offsetof(struct said_proxy, member)

static const char EXPECTED[] =
    "\"http://HOST:PORT\", \"environment\", false, or a table such as { url = \"http://HOST:PORT\", user = \"jeton\", "
    "password "
    "= jeton.secret.file \"/run/secrets/proxy\" }";

struct said_proxy {
  const char *url, *user;
  struct secret *password; /* a reference */
};

static void unref_secret(void *s) { secret_unref(s); }
static void unref_parents(void *p) { parents_unref(p); }

/* Text, or a secret. */
static void read_password(struct schema *s, const struct path *at, int value, void *to) {
  struct secret **out = to;
  struct secret *secret = l_secret_test(s->L, value);
  struct str text;
  if (secret != NULL)
    *out = secret_ref(secret);
  else if (schema_borrow(s, at, value, "a string or a secret", &text))
    *out = secret_bytes(text, "password", NULL);
  if (*out != NULL) arena_defer(s->arena, unref_secret, *out);
}

static const struct field proxy_fields[] = {
    {"url", FIELD_STRING, AT(url), NULL, 0, 0, {0}},
    {"user", FIELD_STRING, AT(user), NULL, 0, 0, {0}},
    {"password", FIELD_CUSTOM, AT(password), NULL, 0, 0, {.read = read_password}},
    {0}};

/* Takes over p. */
static void keep(struct schema *s, struct parents *p, struct parents **to) {
  arena_defer(s->arena, unref_parents, p);
  *to = p;
}

static void keep_parent(struct schema *s, const struct path *at, struct str url, struct secret *credentials,
                        struct parents **to) {
  const char *why;
  struct parent *p = parent_parse(url, credentials, &why);
  if (p == NULL) {
    schema_problem(s, at, "%s", why);
    return;
  }
  if (parent_error(p) == 0)
    keep(s, parents_one(p), to);
  else if (s->nproblems == 0)
    schema_problem(s, at,
                   "the password cannot be read: %s (what a command prints cannot stand here: let it write a file, for "
                   "jeton.secret.file)",
                   err_text(parent_error(p)));
  parent_unref(p);
}

static void read_proxy_table(struct schema *s, const struct path *at, int value, struct parents **to) {
  struct said_proxy said = {0};
  const unsigned before = s->nproblems;
  schema_read(s, at, value, proxy_fields, &said, false);
  if (s->nproblems > before) return;
  struct str user = str_of(said.user);
  if (said.url == NULL) {
    schema_problem(s, at, "expected url in it, such as \"http://proxy.example.com:3128\"");
  } else if (user.p == NULL && said.password != NULL) {
    schema_problem(s, at, "a password without a user");
  } else if (user.p != NULL && memchr(user.p, ':', user.n) != NULL) {
    schema_problem(s, at, "a user with a colon (RFC 7617 section 2)");
  } else {
    struct secret *basic = user.p != NULL ? parent_basic(user, said.password) : NULL;
    keep_parent(s, at, str_of(said.url), basic, to);
    secret_unref(basic);
  }
}

static void read_environment(struct schema *s, const struct path *at, struct parents **to) {
  char why[300];
  struct parents *p = parents_of_environment(why, sizeof why);
  if (p != NULL)
    keep(s, p, to);
  else
    schema_problem(s, at, "%s", why);
}

void keys_read_proxy(struct schema *s, const struct path *at, int value, void *to) {
  struct str text;
  if (lua_isboolean(s->L, value) && !lua_toboolean(s->L, value)) return;
  if (lua_istable(s->L, value)) {
    read_proxy_table(s, at, value, to);
  } else if (schema_borrow(s, at, value, EXPECTED, &text)) {
    if (str_eq(text, STR("environment")))
      read_environment(s, at, to);
    else
      keep_parent(s, at, text, NULL, to);
  }
}

const struct field_place *keys_proxy_places(void) {
  static const struct field_place places[] = {{"upstream.proxy", proxy_fields}, {0}};
  return places;
}
