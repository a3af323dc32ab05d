/* keys.c: the top level of a policy, its timeouts, limits and logs, and what the keys must be to one another.
 *
 * A key is a line in a table of fields: its name, its kind, where it goes, its default as a user would write it, its range. schema.c reads a value by such a line, says what
 * is wrong with it, and knows from the same tables which names are near a misspelt one. So a new key needs its line, its place in policy.h, and a row in
 * docs/reference.md and scripts/jeton/types/policy.lua, which a spec compares. A key with a shape of its own has a reader (FIELD_CUSTOM). Hooks come from
 * policy/hooks.h. Control's thread. */
#include "policy/keys.h"

#include <lauxlib.h>

#include "policy/hint.h"

#define AT(type, member) offsetof(struct type, member)

static const struct field timeout_fields[] = {
    {"handshake", FIELD_DURATION, AT(timeouts_conf, handshake), "10s", 0, 0, {0}},
    {"head", FIELD_DURATION, AT(timeouts_conf, head), "10s", 0, 0, {0}},
    {"body", FIELD_DURATION, AT(timeouts_conf, body), "30s", 0, 0, {0}},
    {"idle", FIELD_DURATION, AT(timeouts_conf, idle), "75s", 0, 0, {0}},
    {"connect", FIELD_DURATION, AT(timeouts_conf, connect), "5s", 0, 0, {0}},
    {"first_byte", FIELD_DURATION, AT(timeouts_conf, first_byte), "60s", 0, 0, {0}},
    {"response", FIELD_DURATION, AT(timeouts_conf, response), "60s", 0, 0, {0}},
    {"send", FIELD_DURATION, AT(timeouts_conf, send), "60s", 0, 0, {0}},
    {"exchange", FIELD_DURATION, AT(timeouts_conf, exchange), "0", 0, 0, {0}},
    {"tunnel", FIELD_DURATION, AT(timeouts_conf, tunnel), "1h", 0, 0, {0}},
    {"half_close", FIELD_DURATION, AT(timeouts_conf, half_close), "60s", 0, 0, {0}},
    {"drain", FIELD_DURATION, AT(timeouts_conf, drain), "30s", 0, 0, {0}},
    {"pool", FIELD_DURATION, AT(timeouts_conf, pool), "60s", 0, 0, {0}},
    {"prove", FIELD_DURATION, AT(timeouts_conf, prove), "30s", 0, 0, {0}},
    {0}};

/* The first five have their defaults from http_limits_default. */
static const struct field limit_fields[] = {
    {"request_line", FIELD_SIZE32, AT(limits_conf, http.request_line), NULL, 256, 1 << 20, {0}},
    {"head", FIELD_SIZE32, AT(limits_conf, http.head), NULL, 1024, 1 << 20, {0}},
    {"headers", FIELD_COUNT, AT(limits_conf, http.headers), NULL, 1, 10000, {0}},
    {"chunk_line", FIELD_SIZE32, AT(limits_conf, http.chunk_line), NULL, 16, 64 << 10, {0}},
    {"chunk_overhead", FIELD_SIZE32, AT(limits_conf, http.chunk_overhead), NULL, 64, 16 << 20, {0}},
    {"body", FIELD_SIZE, AT(limits_conf, body), "0", 0, 0, {0}},
    {"body_rate", FIELD_SIZE, AT(limits_conf, body_rate), "240", 0, 0, {0}},
    {"script_body", FIELD_SIZE, AT(limits_conf, script_body), "1m", 0, UINT64_C(1) << 30, {0}},
    {"replay_buffer", FIELD_SIZE, AT(limits_conf, replay_buffer), "64k", 0, UINT64_C(1) << 30, {0}},
    {"retries", FIELD_COUNT, AT(limits_conf, retries), "1", 0, 10, {0}},
    {"memory", FIELD_SIZE, AT(limits_conf, memory), "64m", 1 << 20, UINT64_C(64) << 30, {0}},
    {"script_time", FIELD_DURATION_US, AT(limits_conf, script_time_us), "50ms", 1, 60 * 1000, {0}},
    {"connections", FIELD_COUNT, AT(limits_conf, connections), "0", 0, 0, {0}},
    {"connections_per_address", FIELD_COUNT, AT(limits_conf, connections_per_address), "0", 0, 0, {0}},
    {"handshakes", FIELD_COUNT, AT(limits_conf, handshakes), "256", 1, 0, {0}},
    {"waiters", FIELD_COUNT, AT(limits_conf, waiters), "10000", 1, 0, {0}},
    {"pipelined", FIELD_COUNT, AT(limits_conf, pipelined), "64", 1, 0, {0}},
    {"streams", FIELD_COUNT, AT(limits_conf, streams), "100", 1, 65536, {0}},
    {"buffered", FIELD_SIZE, AT(limits_conf, buffered), "64m", 64 << 10, 0, {0}},
    {0}};

static const struct choice log_levels[] = {{"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warn", LOG_WARN},
                                           {"error", LOG_ERROR}, {"off", LOG_OFF},   {0}};
static const struct choice log_formats[] = {{"text", LOG_TEXT}, {"json", LOG_JSON}, {0}};
static const struct choice forwarded_modes[] = {
    {"drop", FORWARDED_DROP}, {"set", FORWARDED_SET}, {"append", FORWARDED_APPEND}, {"off", FORWARDED_OFF}, {0}};
_Static_assert(sizeof(enum log_level) == sizeof(unsigned) && sizeof(enum forwarded_mode) == sizeof(unsigned),
               "FIELD_CHOICE writes an unsigned");

static void read_access(struct schema *s, const struct path *at, int value, void *unused) {
  (void)unused;
  if (s->has_access) {
    schema_problem(s, at, "is the same as log.access: give one of them");
    return;
  }
  s->has_access = true;
  if (lua_type(s->L, value) == LUA_TBOOLEAN) {
    s->policy->access_log = lua_toboolean(s->L, value) != 0;
    return;
  }
  size_t n = 0;
  if (lua_type(s->L, value) == LUA_TSTRING) lua_tolstring(s->L, value, &n);
  struct str name;
  if (n == 0) {
    schema_expected(s, at, value, "true, false or the name of a file", NULL);
  } else if (schema_string(s, at, value, "the name of a file", &name)) {
    s->policy->access_path = schema_file(s, name);
  }
}

static void read_forwarded(struct schema *s, const struct path *at, int value, void *to) {
  static const struct field field = {.key = "forwarded", .kind = FIELD_CHOICE, .of.choices = forwarded_modes};
  if (lua_type(s->L, value) == LUA_TBOOLEAN && !lua_toboolean(s->L, value)) {
    s->policy->forwarded = FORWARDED_OFF;
    return;
  }
  schema_value(s, at, value, &field, to);
}

static void read_task(struct schema *s, const struct path *at, int value, void *unused) {
  (void)unused;
  if (!lua_isfunction(s->L, value)) schema_expected(s, at, value, "a function", NULL);
  s->policy->tasks[s->policy->ntasks++] = at->key.p;
}

static void read_tasks(struct schema *s, const struct path *at, int value, void *unused) {
  if (!schema_is_table(s, at, value, "a table of functions by name")) return;
  s->policy->tasks = arena_alloc(s->arena, (schema_size(s, value) + 1) * sizeof *s->policy->tasks);
  schema_each_name(s, at, value, read_task, unused);
}

/* Its offsets count from the policy's `log`. */
static const struct field log_fields[] = {
    {"level", FIELD_CHOICE, AT(log_settings, level), "info", 0, 0, {.choices = log_levels}},
    {"format", FIELD_CHOICE, AT(log_settings, format), "text", 0, 0, {.choices = log_formats}},
    {"access", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_access}},
    {0}};

/* In the order of reading: listeners and upstreams inherit what stands before them, and log comes before access_log. */
static const struct field top_fields[] = {
    {"half_close", FIELD_BOOLEAN, AT(policy, half_close), "false", 0, 0, {0}},
    {"tcp_keepalive", FIELD_CUSTOM, AT(policy, tcp_keepalive), NULL, 0, 0, {.read = keys_read_keepalive}},
    {"listen", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = keys_read_listen}},
    {"timeouts", FIELD_TABLE, AT(policy, timeouts), NULL, 0, 0, {.fields = timeout_fields}},
    {"limits", FIELD_TABLE, AT(policy, limits), NULL, 0, 0, {.fields = limit_fields}},
    {"upstream", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = keys_read_upstream}},
    {"upstreams", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = keys_read_upstreams}},
    {"forward", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = keys_read_forward}},
    {"workers", FIELD_COUNT, AT(policy, workers), "0", 1, POLICY_WORKERS_MAX, {0}},
    {"log", FIELD_TABLE, AT(policy, log), NULL, 0, 0, {.fields = log_fields}},
    {"access_log", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_access}},
    {"forwarded", FIELD_CUSTOM, AT(policy, forwarded), NULL, 0, 0, {.read = read_forwarded}},
    {"via", FIELD_BOOLEAN, AT(policy, via), "false", 0, 0, {0}},
    {"tokens", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = keys_read_tokens}},
    {"tasks", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_tasks}},
#define XX(name, key) {key, FIELD_FUNCTION, AT(policy, hooks[HOOK_##name]), NULL, 0, 0, {0}},
    HOOKS(XX)
#undef XX
        {0}};

void keys_defaults(struct policy *p) {
  p->limits.http = http_limits_default;
  p->access_log = true;
  p->forwarded = FORWARDED_DROP;
  p->tcp_keepalive = keys_keepalive_default();
  schema_defaults(top_fields, p);
}

bool keys_is_type(struct schema *s, int table, const char *key, int type) {
  lua_pushstring(s->L, key);
  lua_rawget(s->L, table);
  bool is = lua_type(s->L, -1) == type;
  lua_pop(s->L, 1);
  return is;
}

/* The command line takes the place of the policy's own keys: these are not read, so that a policy can be tried where its addresses or certificates do not
 * exist. */
static void apply_overrides(struct schema *s, int table) {
  const struct policy_overrides *o = s->overrides;
  if (o == NULL) return;
  if (o->nlisten > 0) {
    lua_pushstring(s->L, "listen");
    lua_pushnil(s->L);
    lua_rawset(s->L, table);
  }
  if (o->workers > 0) {
    s->policy->workers = o->workers;
    lua_pushstring(s->L, "workers");
    lua_pushnil(s->L);
    lua_rawset(s->L, table);
  }
}

void keys_read(struct schema *s, int table) {
  luaL_checkstack(s->L, 16, "reading a policy");
  static const struct field_place own[] = {
      {"the top level", top_fields}, {"timeouts", timeout_fields}, {"limits", limit_fields}, {"log", log_fields}, {0}};
  const struct field_place *places[] = {
      own, keys_net_places(), keys_tls_places(), keys_token_places(), keys_forward_places(), keys_proxy_places(), NULL};
  apply_overrides(s, table);
  s->places = places;
  schema_read(s, NULL, table, top_fields, s->policy, false);
  s->places = NULL;
  if (s->overrides != NULL && s->overrides->nlisten > 0) keys_override_listen(s); /* which inherit what was read */
  bool not_there = s->overrides != NULL && s->overrides->stdout_is_own && s->policy->access_path == NULL;
  if (not_there) s->policy->access_log = false;
}

static void check_limits(struct schema *s) {
  static const struct path limits = {NULL, {"limits", 6}, 0};
  const struct http_limits *h = &s->policy->limits.http;
  if (h->request_line <= h->head) return;
  struct path at = {&limits, STR("request_line"), 0};
  schema_problem(s, &at, "expected at most limits.head (%s), got %s", hint_write_size(s->arena, h->head),
                 hint_write_size(s->arena, h->request_line));
}

void keys_finish(struct schema *s) {
  const struct policy *p = s->policy;
  static const struct path listen = {NULL, {"listen", 6}, 0}, upstream = {NULL, {"upstream", 8}, 0};
  if (!s->has_listen) schema_problem(s, &listen, "expected an address such as \"127.0.0.1:8080\", got nothing");
  if (!s->has_upstream && !p->hooks[HOOK_REQUEST] && p->forward == NULL)
    schema_problem(s, &upstream,
                   "expected a URL such as \"https://api.example.com\", a forward table, or an on_request that "
                   "responds itself, got nothing");
  check_limits(s);
  keys_finish_tokens(s);
}
