/* keys_token.c: the tokens of a policy: how each is fetched, kept fresh and waited for, and which hosts may receive it.
 *
 * The hosts are decided when everything has been read (keys_finish_tokens): a token that names no hosts goes to the policy's upstreams, and all such tokens
 * share one audience. An audience is complete before the policy is shared, and immutable from then on. Control's thread. */
#include "policy/hint.h"
#include "policy/keys.h"

#include "base/units.h"
#include "lua/l_secret.h"
#include "policy/made_of.h"

#define AT(member) offsetof(struct token_conf, member)

static const struct choice missing_choices[] = {
    {"wait", MISSING_WAIT}, {"fail", MISSING_FAIL}, {"pass", MISSING_PASS}, {0}};
_Static_assert(sizeof(enum token_missing) == sizeof(unsigned), "FIELD_CHOICE writes an unsigned");

/* A fraction of the life, or a duration before its end. */
static void read_refresh_at(struct schema *s, const struct path *at, int value, void *to) {
  static const char expected[] = "a fraction of the life between 0 and 1, or a duration before its end such as \"60s\"";
  struct schedule *schedule = to;
  if (lua_type(s->L, value) == LUA_TNUMBER) {
    double n = (double)lua_tonumber(s->L, value);
    if (n > 0 && n < 1) {
      schedule->refresh_fraction = n;
      return;
    }
    const char *guess = n >= 1 && n < 1e6 ? arena_printf(s->arena, "\"%.6gs\"", n).p : NULL;
    schema_expected(s, at, value, expected, guess);
    return;
  }
  struct str text;
  int64_t ms;
  if (!schema_borrow(s, at, value, expected, &text)) return;
  if (units_duration_ms(text, &ms) && ms > 0) {
    schedule->refresh_before_ms = ms;
  } else {
    schema_expected(s, at, value, expected, hint_duration(s, value));
  }
}

static void read_reject_on(struct schema *s, const struct path *at, int value, void *to) {
  static const char expected[] = "a status from 400 to 599";
  struct token_conf *t = to;
  size_t max = sizeof t->reject_on / sizeof *t->reject_on;
  if (lua_type(s->L, value) == LUA_TFUNCTION) {
    t->has_reject_on = true;
    t->nreject_on = 0;
    return;
  }
  if (!schema_is_table(s, at, value, "a list of statuses such as { 401 }, or a function of the reply")) return;
  schema_check_keys(s, at, value, NULL, true);
  size_t n = lua_rawlen(s->L, value);
  if (n > max) {
    schema_problem(s, at, "expected at most %zu statuses, got %zu", max, n);
    return;
  }
  t->nreject_on = 0;
  for (size_t i = 1; i <= n; i++) {
    struct path child = {at, {NULL, 0}, i};
    lua_rawgeti(s->L, value, (lua_Integer)i);
    lua_Integer status = lua_isinteger(s->L, -1) ? lua_tointeger(s->L, -1) : 0;
    if (status < 400 || status > 599) schema_expected(s, &child, lua_gettop(s->L), expected, NULL);
    t->reject_on[t->nreject_on++] = (uint16_t)status;
    lua_pop(s->L, 1);
  }
}

static void unref_audience(void *a) { audience_unref(a); }

static struct audience *new_audience(struct schema *s) {
  struct audience *a = audience_new();
  arena_defer(s->arena, unref_audience, a);
  return a;
}

static bool host_allowed(struct str text) {
  struct str host;
  uint16_t port;
  if (str_starts(text, STR("http://"))) text = (struct str){text.p + 7, text.n - 7};
  return host_split(text, &host, &port);
}

static const char *host_guess(struct schema *s, struct str text) {
  struct url url;
  if (text.n > SHOWN_MAX || url_parse(text, &url) != NULL || url.unix_path.p != NULL) return NULL;
  const char *end = url.path.n > 0 ? url.path.p : text.p + text.n;
  const char *from = text.p + (url.tls ? 8 : 0); /* https is what a host alone means */
  return end > from ? hint_quoted(s, (struct str){from, (size_t)(end - from)}) : NULL;
}

/* "exec:/usr/bin/x" and "file:/run/x": true when it is one of these, right or wrong. */
static bool read_place(struct schema *s, const struct path *at, int value, struct str text, struct audience *a) {
  bool command = str_starts(text, STR("exec:"));
  if (!command && !str_starts(text, STR("file:"))) return false;
  struct str path = {text.p + 5, text.n - 5};
  if (path.n < 2 || path.p[0] != '/') {
    schema_expected(s, at, value,
                    command ? "the command's absolute path behind exec:, such as \"exec:/usr/bin/login\""
                            : "the file's absolute path behind file:, such as \"file:/run/tokens/api\"",
                    NULL);
  } else if (command) {
    audience_add_command(a, path);
  } else {
    audience_add_file(a, path);
  }
  return true;
}

static void read_host(struct schema *s, const struct path *at, int value, void *audience) {
  struct audience *a = audience;
  static const char expected[] =
      "a host such as \"api.example.com\", \"api.example.com:8443\", \"http://10.0.0.7:9000\" or "
      "\"unix:/run/api.sock\", a command such as \"exec:/usr/bin/login\" or a file such as \"file:/run/tokens/api\"";
  struct str text;
  struct url url;
  if (!schema_borrow(s, at, value, expected, &text)) return;
  if (read_place(s, at, value, text, a)) return;
  if (url_parse(text, &url) == NULL && url.unix_path.p != NULL && url.path.n == 0) {
    audience_add_unix(a, url.unix_path);
  } else if (host_allowed(text)) {
    audience_add_host(a, text);
  } else {
    schema_expected(s, at, value, expected, host_guess(s, text));
  }
}

static void read_hosts(struct schema *s, const struct path *at, int value, void *to) {
  if (!schema_is_table(s, at, value, "a list of hosts such as { \"api.example.com\" }")) return;
  struct audience *a = new_audience(s);
  *(struct audience **)to = a;
  schema_each_item(s, at, value, read_host, a);
  if (lua_rawlen(s->L, value) == 0) schema_problem(s, at, "expected at least one host, got an empty list");
}

/* Offsets from the token's `schedule`. */
static const struct field backoff_fields[] = {
    {"min", FIELD_DURATION, offsetof(struct schedule, backoff_min_ms), "200ms", 1, 0, {0}},
    {"max", FIELD_DURATION, offsetof(struct schedule, backoff_max_ms), "30s", 1, 0, {0}},
    {0}};

/* What is in it is read by made_of, once it is known whether there is a fetch. */
static void read_version(struct schema *s, const struct path *at, int value, void *to) {
  struct token_conf *t = to;
  const char *wrong = made_of_value(s->policy, s->L, value, t->made_of);
  if (wrong != NULL) schema_problem(s, at, "expected a string, a number, or a table of them, got %s", wrong);
}

static bool is_secret(struct schema *s, int value) {
  return lua_type(s->L, value) == LUA_TUSERDATA && l_secret_test(s->L, value) != NULL;
}

static void take_secret(struct schema *s, int value, struct token_conf *t) {
  t->has_fetch = t->from_secret = true;
  (void)made_of_value(s->policy, s->L, value, t->made_of);
}

static void read_secret(struct schema *s, const struct path *at, int value, void *to) {
  if (is_secret(s, value))
    take_secret(s, value, to);
  else
    schema_expected(s, at, value, "a secret such as jeton.secret.file \"/run/secrets/api\"", NULL);
}

static const struct field token_fields[] = {
    {"fetch", FIELD_FUNCTION, AT(has_fetch), NULL, 0, 0, {0}},
    {"release", FIELD_FUNCTION, AT(releases), NULL, 0, 0, {0}},
    {"secret", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_secret}},
    {"version", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_version}},
    {"refresh_at", FIELD_CUSTOM, AT(schedule), NULL, 0, 0, {.read = read_refresh_at}},
    {"jitter", FIELD_FRACTION, AT(schedule.jitter), "0.1", 0, 1, {0}},
    {"leeway", FIELD_DURATION, AT(schedule.leeway_ms), "1s", 0, 0, {0}},
    {"wait", FIELD_DURATION, AT(wait_ms), "2s", 0, 0, {0}},
    {"missing", FIELD_CHOICE, AT(missing), "wait", 0, 0, {.choices = missing_choices}},
    {"reject_on", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_reject_on}},
    {"hosts", FIELD_CUSTOM, AT(audience), NULL, 0, 0, {.read = read_hosts}},
    {"reveal", FIELD_BOOLEAN, AT(reveal), "false", 0, 0, {0}},
    {"rotates", FIELD_BOOLEAN, AT(rotates), "false", 0, 0, {0}},
    {"ready", FIELD_BOOLEAN, AT(counts_for_ready), "true", 0, 0, {0}},
    {"timeout", FIELD_DURATION, AT(fetch_timeout_ms), "30s", 1, 0, {0}},
    {"backoff", FIELD_TABLE, AT(schedule), NULL, 0, 0, {.fields = backoff_fields}},
    {"family", FIELD_BOOLEAN, AT(family), "false", 0, 0, {0}},
    {"max", FIELD_COUNT, AT(family_max), "1024", 1, 1 << 20, {0}},
    {"idle", FIELD_DURATION, AT(family_idle_ms), "10m", 1, 0, {0}},
    {0}};

/* It is read, and does not end: what plans a fetch has no meaning. */
static void check_secret(struct schema *s, const struct path *at, int value) {
  static const char *const of_fetch[] = {"refresh_at", "jitter", "leeway", "rotates", "timeout", "backoff", "release"};
  for (size_t i = 0; i < sizeof of_fetch / sizeof *of_fetch; i++) {
    struct path child = {at, str_of(of_fetch[i]), 0};
    if (!keys_is_type(s, value, of_fetch[i], LUA_TNIL))
      schema_problem(s, &child, "has no meaning beside secret, which does not end and is read when its source changes");
  }
  struct path fetch = {at, STR("fetch"), 0}, family = {at, STR("family"), 0};
  if (!keys_is_type(s, value, "fetch", LUA_TNIL))
    schema_problem(s, &fetch, "expected either secret or fetch, got both");
  if (!keys_is_type(s, value, "family", LUA_TNIL))
    schema_problem(
        s, &family,
        "a secret is one for all keys: write fetch = function(ctx) return { value = jeton.secret.file(\"/etc/"
        "keys/\" .. ctx.key), expires_in = 3600 } end instead of secret");
}

static void check_token(struct schema *s, const struct path *at, int value, const struct token_conf *t) {
  struct path backoff = {at, STR("backoff"), 0};
  if (t->schedule.backoff_min_ms > t->schedule.backoff_max_ms)
    schema_problem(s, &backoff, "expected min not above max, got %s and %s",
                   hint_write_duration(s->arena, (uint64_t)t->schedule.backoff_min_ms),
                   hint_write_duration(s->arena, (uint64_t)t->schedule.backoff_max_ms));
  static const char *const of_family[] = {"max", "idle"};
  for (size_t i = 0; i < 2 && !t->family; i++) {
    struct path child = {at, str_of(of_family[i]), 0};
    if (!keys_is_type(s, value, of_family[i], LUA_TNIL))
      schema_problem(s, &child, "only has a meaning beside family = true");
  }
}

static void read_token(struct schema *s, const struct path *at, int value, void *unused) {
  (void)unused;
  struct token_conf *t = &s->policy->tokens[s->policy->ntokens++];
  *t = (struct token_conf){.name = at->key.p, .schedule = schedule_default, .reject_on = {401}, .nreject_on = 1};
  schema_defaults(token_fields, t);
  if (is_secret(s, value)) {
    take_secret(s, value, t);
    return;
  }
  if (!schema_is_table(s, at, value, "a table with a fetch function, or a secret such as jeton.secret.file \"PATH\""))
    return;
  schema_read(s, at, value, token_fields, t, false);
  if (!keys_is_type(s, value, "secret", LUA_TNIL)) {
    check_secret(s, at, value);
    return;
  }
  if (t->has_fetch && keys_is_type(s, value, "version", LUA_TNIL)) {
    lua_pushliteral(s->L, "fetch");
    lua_rawget(s->L, value);
    (void)made_of_value(s->policy, s->L, lua_gettop(s->L), t->made_of);
    lua_pop(s->L, 1);
  }
  check_token(s, at, value, t);
}

void keys_read_tokens(struct schema *s, const struct path *at, int value, void *unused) {
  struct policy *p = s->policy;
  if (!schema_is_table(s, at, value, "a table of tokens by name")) return;
  p->tokens = arena_alloc(s->arena, (schema_size(s, value) + 1) * sizeof *p->tokens);
  schema_each_name(s, at, value, read_token, unused);
}

static struct audience *upstreams_audience(struct schema *s) {
  struct audience *a = new_audience(s);
  const struct policy *p = s->policy;
  for (size_t i = 0; i < p->nupstreams; i++)
    for (size_t k = 0; k < p->upstreams[i].nurls; k++) {
      const struct url *url = &p->upstreams[i].urls[k];
      if (url->unix_path.p != NULL)
        audience_add_unix(a, url->unix_path);
      else
        audience_add(a, url->tls, url->host, url->port);
    }
  return a;
}

/* The hosts of `forward` are those that clients may reach, not those that may be trusted with a token. */
static void missing_hosts(struct schema *s, const struct path *at) {
  struct path hosts = {at, STR("hosts"), 0};
  schema_problem(s, &hosts,
                 "expected a list of hosts such as { \"api.example.com\" }, got nothing: without an upstream, who may "
                 "receive the token must be said");
}

void keys_finish_tokens(struct schema *s) {
  struct policy *p = s->policy;
  static const struct path tokens = {NULL, {"tokens", 6}, 0};
  struct audience *all = NULL; /* shared by the tokens that name no host */
  for (size_t i = 0; i < p->ntokens; i++) {
    struct token_conf *t = &p->tokens[i];
    if (t->audience != NULL && audience_has_servers(t->audience)) continue;
    if (all == NULL) all = upstreams_audience(s);
    if (t->audience != NULL) /* commands and files beside the usual servers */
      audience_add_all(t->audience, all);
    else
      t->audience = all;
    struct path at = {&tokens, str_of(t->name), 0};
    if (p->nupstreams == 0 && p->forward != NULL)
      missing_hosts(s, &at);
    else if (p->nupstreams == 0 && p->hooks[HOOK_REQUEST])
      schema_warning(s, &at, "nobody may receive it: the policy has no upstream, and the token no hosts");
  }
}

const struct field_place *keys_token_places(void) {
  static const struct field_place places[] = {
      {"tokens.NAME", token_fields}, {"tokens.NAME.backoff", backoff_fields}, {0}};
  return places;
}
