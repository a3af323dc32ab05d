/* keys_tls.c: the key `tls` of upstreams, of `forward` and of listeners.
 *
 * Two steps. The table is read inside of Lua, and a job keeps its settings. The files are read afterwards, outside of Lua: that may take long, and a
 * configuration that is half made must not leak when Lua raises. All jobs run even when one fails, so a report has the problems of every file. Upstreams with
 * nothing but defaults share one configuration, since reading the system's bundle of authorities takes 20 ms. Control's thread. */
#include "policy/keys.h"

#define AT(type, member) offsetof(struct type, member)

struct tls_job {
  struct tls_job *next; /* the one before it */
  const char *path;
  unsigned line;
  bool server, plain; /* plain: every setting is its default */
  size_t index;       /* in policy->upstreams, or KEYS_FORWARD; or in policy->listens */
  struct tls_client_settings client;
  struct tls_server_settings listen;
};

static const struct choice versions[] = {{"1.2", TLS_1_2}, {"1.3", TLS_1_3}, {0}};
_Static_assert(sizeof(enum tls_version) == sizeof(unsigned), "FIELD_CHOICE writes an unsigned");

/* --- upstreams --- */

struct upstream_tls { /* the table as it is written */
  struct tls_client_settings to;
  bool verify;
  const char *insecure;
};

static bool pin_valid(struct str pin) { /* "sha256/" and the base64 of 32 bytes */
  if (!str_starts(pin, STR("sha256/")) || pin.n != 7 + 44 || pin.p[pin.n - 1] != '=') return false;
  for (size_t i = 7; i < pin.n - 1; i++) {
    char c = pin.p[i];
    bool digit = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
    if (!digit) return false;
  }
  return true;
}

static void read_pins(struct schema *s, const struct path *at, int value, void *to) {
  struct tls_client_settings *settings = to;
  static const char expected[] = "\"sha256/\" and 44 characters of base64";
  if (!schema_is_table(s, at, value, "a list of pins")) return;
  schema_check_keys(s, at, value, NULL, true);
  size_t n = lua_rawlen(s->L, value);
  const char **pins = arena_alloc(s->arena, (n + 1) * sizeof *pins);
  settings->pins = pins;
  for (size_t i = 1; i <= n; i++) {
    struct path child = {at, {NULL, 0}, i};
    struct str pin;
    lua_rawgeti(s->L, value, (lua_Integer)i);
    if (schema_string(s, &child, lua_gettop(s->L), expected, &pin)) {
      if (pin_valid(pin)) {
        pins[settings->npins++] = pin.p;
      } else {
        schema_expected(s, &child, lua_gettop(s->L), expected, NULL);
      }
    }
    lua_pop(s->L, 1);
  }
  if (n == 0) schema_problem(s, at, "expected at least one pin, got an empty list");
}

static const struct field upstream_fields[] = {
    {"ca", FIELD_FILE, AT(upstream_tls, to.ca), NULL, 0, 0, {0}},
    {"cert", FIELD_FILE, AT(upstream_tls, to.cert), NULL, 0, 0, {0}},
    {"key", FIELD_FILE, AT(upstream_tls, to.key), NULL, 0, 0, {0}},
    {"server_name", FIELD_STRING, AT(upstream_tls, to.server_name), NULL, 0, 0, {0}},
    {"verify", FIELD_BOOLEAN, AT(upstream_tls, verify), "true", 0, 0, {0}},
    {"insecure", FIELD_STRING, AT(upstream_tls, insecure), NULL, 0, 0, {0}},
    {"min_version", FIELD_CHOICE, AT(upstream_tls, to.min_version), "1.2", 0, 0, {.choices = versions}},
    {"max_version", FIELD_CHOICE, AT(upstream_tls, to.max_version), "1.3", 0, 0, {.choices = versions}},
    {"pins", FIELD_CUSTOM, AT(upstream_tls, to), NULL, 0, 0, {.read = read_pins}},
    {0}};

static struct upstream_conf *upstream_at(const struct schema *s, size_t index) {
  return index == KEYS_FORWARD ? &s->policy->forward->conf : &s->policy->upstreams[index];
}

static struct tls_job *add_job(struct schema *s, const struct path *at, size_t index, bool server) {
  struct tls_job *job = arena_alloc(s->arena, sizeof *job);
  *job = (struct tls_job){.next = s->tls_jobs,
                          .path = path_text(s->arena, at).p,
                          .line = schema_line(s, at),
                          .server = server,
                          .index = index,
                          .client.min_version = TLS_1_2,
                          .listen.min_version = TLS_1_2};
  s->tls_jobs = job;
  return job;
}

void keys_tls_default(struct schema *s, const struct path *at, size_t upstream) {
  add_job(s, at, upstream, false)->plain = true;
}

/* Both halves of a pair of files, or neither. */
static void check_pair(struct schema *s, const struct path *at, const char *cert, const char *key) {
  if (cert != NULL && key == NULL) schema_problem(s, at, "expected a key beside cert, got nothing");
  if (key != NULL && cert == NULL) schema_problem(s, at, "expected a cert beside key, got nothing");
}

/* False: no version is left. */
static bool check_versions(struct schema *s, const struct path *at, enum tls_version min, enum tls_version max) {
  struct path key = {at, STR("max_version"), 0};
  if (min <= max) return true;
  schema_problem(s, &key, "expected \"1.3\" beside min_version = \"1.3\", got \"1.2\"");
  return false;
}

static void check_name(struct schema *s, const struct path *at, const char *server_name, size_t upstream) {
  struct path name = {at, STR("server_name"), 0};
  if (upstream == KEYS_FORWARD && server_name != NULL)
    schema_problem(s, &name, "has no use here: the name that is asked for and verified is the target's");
}

static void check_verify(struct schema *s, const struct path *at, const struct upstream_tls *t) {
  struct path verify = {at, STR("verify"), 0}, insecure = {at, STR("insecure"), 0}, ca = {at, STR("ca"), 0};
  const char *name = t->insecure;
  if (!t->verify && name == NULL)
    schema_problem(s, &verify,
                   "expected an insecure = \"NAME\" beside verify = false, to say on purpose what is not verified");
  if (t->verify && name != NULL) schema_problem(s, &insecure, "only has a meaning beside verify = false");
  if (t->verify || name == NULL) return;
  if (t->to.ca != NULL) schema_problem(s, &ca, "has no use beside verify = false: nobody is asked who signed");
  struct str quoted = path_quote(s->arena, str_of(name));
  schema_warning(s, &insecure, "certificates are not verified (%.*s): tokens may go to anyone", STR_FMT(quoted));
}

void keys_tls_upstream(struct schema *s, const struct path *at, int value, size_t upstream) {
  struct upstream_tls t = {0};
  schema_defaults(upstream_fields, &t);
  schema_read(s, at, value, upstream_fields, &t, false);
  check_pair(s, at, t.to.cert, t.to.key);
  if (t.to.cert == NULL || t.to.key == NULL) t.to.cert = t.to.key = NULL; /* half a pair is not read */
  check_verify(s, at, &t);
  check_name(s, at, t.to.server_name, upstream);
  t.to.insecure = t.verify ? NULL : t.insecure;
  upstream_at(s, upstream)->insecure = t.verify ? NULL : t.insecure;
  /* Its files are read all the same. */
  if (!check_versions(s, at, t.to.min_version, t.to.max_version)) t.to.max_version = TLS_1_3;
  add_job(s, at, upstream, false)->client = t.to;
}

/* --- listeners --- */

static const struct field certificate_fields[] = {
    {"cert", FIELD_FILE, AT(tls_certificate_settings, cert), NULL, 0, 0, {0}},
    {"key", FIELD_FILE, AT(tls_certificate_settings, key), NULL, 0, 0, {0}},
    {0}};

static void read_certificates(struct schema *s, const struct path *at, int value, void *to) {
  struct tls_server_settings *settings = to;
  if (!schema_is_table(s, at, value, "a list of { cert = FILE, key = FILE }")) return;
  schema_check_keys(s, at, value, NULL, true);
  size_t n = lua_rawlen(s->L, value);
  struct tls_certificate_settings *list = arena_alloc(s->arena, (n + 1) * sizeof *list);
  settings->certificates = list;
  for (size_t i = 1; i <= n; i++) {
    struct path child = {at, {NULL, 0}, i};
    struct tls_certificate_settings *c = &list[settings->ncertificates];
    *c = (struct tls_certificate_settings){0};
    lua_rawgeti(s->L, value, (lua_Integer)i);
    schema_read(s, &child, lua_gettop(s->L), certificate_fields, c, false);
    bool empty = c->cert == NULL && c->key == NULL && lua_istable(s->L, -1);
    if (empty) schema_problem(s, &child, "expected { cert = FILE, key = FILE }");
    check_pair(s, &child, c->cert, c->key);
    if (c->cert != NULL && c->key != NULL) settings->ncertificates++; /* half a pair is not read */
    lua_pop(s->L, 1);
  }
}

static const struct field listen_fields[] = {
    {"certificates", FIELD_CUSTOM, 0, NULL, 0, 0, {.read = read_certificates}},
    {"client_ca", FIELD_FILE, AT(tls_server_settings, client_ca), NULL, 0, 0, {0}},
    {"client_required", FIELD_BOOLEAN, AT(tls_server_settings, client_required), "false", 0, 0, {0}},
    {"min_version", FIELD_CHOICE, AT(tls_server_settings, min_version), "1.2", 0, 0, {.choices = versions}},
    {"max_version", FIELD_CHOICE, AT(tls_server_settings, max_version), "1.3", 0, 0, {.choices = versions}},
    {0}};

void keys_tls_listen(struct schema *s, const struct path *at, int value, size_t listen) {
  struct tls_server_settings t = {0};
  unsigned before = s->nproblems;
  schema_defaults(listen_fields, &t);
  schema_read(s, at, value, listen_fields, &t, false);
  struct path required = {at, STR("client_required"), 0}, certificates = {at, STR("certificates"), 0};
  if (t.client_required && t.client_ca == NULL)
    schema_problem(s, &required, "expected a client_ca beside it, got nothing");
  if (t.ncertificates == 0 && s->nproblems == before)
    schema_problem(s, &certificates, "expected a list of { cert = FILE, key = FILE }, got nothing");
  if (!check_versions(s, at, t.min_version, t.max_version)) t.max_version = TLS_1_3;
  if (t.ncertificates > 0) add_job(s, at, listen, true)->listen = t;
}

/* --- the files --- */

static void unref_client(void *c) { tls_client_unref(c); }
static void unref_server(void *c) { tls_server_unref(c); }

enum { WHY_MAX = 512 };

struct note {
  struct schema *schema;
  const struct tls_job *job;
  const char *first; /* of the problems: why the configuration could not be made */
  bool told;         /* that one */
};
static void on_note(void *arg, const char *text) {
  const struct note *n = arg;
  schema_warning_at(n->schema, n->job->line, n->job->path, text);
}
static void on_problem(void *arg, const char *text) {
  struct note *n = arg;
  n->told |= strcmp(text, n->first) == 0;
  schema_problem_at(n->schema, n->job->line, n->job->path, text);
}

/* A configuration is refused at the first file that is of no use; the report lists all of them. */
static void tell_problems(struct schema *s, const struct tls_job *job, const char *why) {
  struct note note = {.schema = s, .job = job, .first = why};
  if (job->server) {
    tls_server_problems(&job->listen, on_problem, &note);
  } else {
    tls_client_problems(&job->client, on_problem, &note);
  }
  if (!note.told) schema_problem_at(s, job->line, job->path, why);
}

static enum tls_notes which_notes(const struct schema *s) {
  return s->overrides != NULL && s->overrides->thorough ? TLS_NOTES_THOROUGH : TLS_NOTES_USUAL;
}

static struct tls_client *make_client(struct schema *s, const struct tls_job *job) {
  char why[WHY_MAX] = "";
  struct note note = {.schema = s, .job = job};
  struct tls_client *c = tls_client_new(&job->client, why, sizeof why);
  if (c != NULL) {
    arena_defer(s->arena, unref_client, c);
    tls_client_notes(c, which_notes(s), on_note, &note);
  } else {
    tell_problems(s, job, why);
  }
  return c;
}

static void make_server(struct schema *s, const struct tls_job *job) {
  char why[WHY_MAX] = "";
  struct note note = {.schema = s, .job = job};
  struct tls_server *c = tls_server_new(&job->listen, why, sizeof why);
  s->policy->listens[job->index].tls = c;
  if (c != NULL) {
    arena_defer(s->arena, unref_server, c);
    tls_server_notes(c, which_notes(s), on_note, &note);
  } else {
    tell_problems(s, job, why);
  }
}

void keys_make_tls(struct schema *s) {
  struct tls_client *plain = NULL; /* shared: the system's bundle takes long to read */
  bool plain_failed = false;
  for (const struct tls_job *job = s->tls_jobs; job != NULL; job = job->next) {
    if (job->server) {
      make_server(s, job);
    } else if (!job->plain) {
      upstream_at(s, job->index)->tls = make_client(s, job);
    } else if (!plain_failed) {
      if (plain == NULL) plain = make_client(s, job);
      plain_failed = plain == NULL;
      upstream_at(s, job->index)->tls = plain;
    }
  }
}

const struct field_place *keys_tls_places(void) {
  static const struct field_place places[] = {{"upstream.tls", upstream_fields},
                                              {"a listener's tls", listen_fields},
                                              {"the entries of tls.certificates", certificate_fields},
                                              {0}};
  return places;
}
