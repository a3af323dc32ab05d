/* status.c: the same facts twice: as JSON for programs, as lines for people.
 *
 * Both go through the same view (status.h), made by the process at that moment, so neither knows where a fact comes from. The JSON has everything; a family of a hundred
 * thousand keys is shown to a person by the keys in trouble, FAMILY_LINES of each kind, and how many more there are. A worker's counters are not listed here
 * but in proxy/worker_counts.h. Control's thread; slots and counters are read as any thread may. */
#include "ops/status.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/shared.h"
#include "base/version.h"
#include "net/url.h"
#include "ops/readiness.h"
#include "token/family.h"

enum { FAMILY_LINES = 20 };

struct count_field {
  const char *name;
  size_t at;
};
static const struct count_field COUNTS[] = {
#define XX(field, kind, help) {#field, offsetof(struct worker_counts, field)},
    WORKER_COUNTS(XX)
#undef XX
};

static unsigned long long count_of(const struct worker_counts *c, const struct count_field *f) {
  uint64_t v;
  memcpy(&v, (const char *)c + f->at, sizeof v);
  return v;
}

/* --- JSON --- */

static void add_text(struct buf *out, const char *key, const char *value) {
  buf_addf(out, "\"%s\":", key);
  json_add_string(out, str_of(value));
}

struct each {
  struct buf *out;
  unsigned n;
};
static void add_slot(void *arg, struct slot *s) {
  struct each *each = arg;
  struct slot_facts f;
  slot_facts(s, clock_boot_ms(), &f);
  buf_addz(each->out, each->n++ > 0 ? ",\n    {" : "\n    {");
  add_text(each->out, "name", slot_name(s));
  buf_addf(each->out, ",\"state\":\"%s\",\"valid\":%s,\"generation\":%llu", slot_state_name(f.state),
           f.valid ? "true" : "false", (unsigned long long)f.generation);
  if (f.lasts)
    buf_addz(each->out, ",\"expires_in\":null");
  else
    buf_addf(each->out, ",\"expires_in\":%.3f", f.expires_in_ms > 0 ? (double)f.expires_in_ms / 1000 : 0.0);
  if (f.next_attempt_ms >= 0) buf_addf(each->out, ",\"next_attempt_in\":%.3f", (double)f.next_attempt_ms / 1000);
  if (f.fetching_ms >= 0)
    buf_addf(each->out, ",\"fetching_for\":%.3f,\"fetch_reason\":\"%s\"", (double)f.fetching_ms / 1000,
             fetch_reason_name(f.reason));
  if (f.permanent_ms >= 0)
    buf_addf(each->out, ",\"permanent_for\":%.3f,\"spent\":%s", (double)f.permanent_ms / 1000,
             f.outlook == OUTLOOK_SPENT ? "true" : "false");
  buf_addf(each->out,
           ",\"fetches\":%llu,\"failures\":%llu,\"rejections\":%llu,\"consecutive_failures\":%u,\"waiters\":%u,",
           (unsigned long long)f.fetches, (unsigned long long)f.failures, (unsigned long long)f.rejections,
           f.consecutive_failures, f.waiters);
  add_text(each->out, "last_error", f.last_error);
  buf_addz(each->out, ",");
  add_text(each->out, "unsaved", f.unsaved);
  buf_addz(each->out, "}");
}

static void each_slot(const struct status_view *v, void (*fn)(void *arg, struct slot *s), void *arg) {
  for (size_t i = 0; i < v->tokens->n; i++) {
    if (v->tokens->slots[i] != NULL) fn(arg, v->tokens->slots[i]);
    if (v->tokens->families[i] != NULL) family_each(v->tokens->families[i], fn, arg);
  }
}

static void add_store(void *arg, struct named *n) {
  struct each *each = arg;
  struct shared_facts f;
  shared_facts(shared_of(n), &f);
  buf_addz(each->out, each->n++ > 0 ? ",\n    {" : "\n    {");
  add_text(each->out, "name", n->name);
  buf_addf(each->out, ",\"entries\":%llu,\"bytes\":%llu,\"max\":%llu,\"evictions\":%llu}",
           (unsigned long long)f.entries, (unsigned long long)f.bytes, (unsigned long long)f.max,
           (unsigned long long)f.evictions);
}

static void add_stores(const struct status_view *v, struct buf *out) {
  struct each each = {.out = out};
  buf_addz(out, ",\n  \"shared\":[");
  registry_each(v->names, &shared_kind, add_store, &each);
  buf_addz(out, "]");
}

static void add_workers(const struct status_view *v, struct buf *out) {
  buf_addz(out, ",\n  \"workers\":[");
  for (unsigned i = 0; i < v->nworkers; i++) {
    struct worker_counts c = {0};
    worker_counts(v->workers[i], &c);
    buf_addf(out, "%s\n    {\"index\":%u", i > 0 ? "," : "", i);
    for (size_t j = 0; j < sizeof COUNTS / sizeof COUNTS[0]; j++)
      buf_addf(out, ",\"%s\":%llu", COUNTS[j].name, count_of(&c, &COUNTS[j]));
    buf_addz(out, ",\"responses\":{");
    for (unsigned j = 1; j < 6; j++)
      buf_addf(out, "%s\"%uxx\":%llu", j > 1 ? "," : "", j, (unsigned long long)c.responses[j]);
    buf_addz(out, "}}");
  }
  buf_addz(out, "]");
}

static void add_listeners(const struct status_view *v, struct buf *out) {
  buf_addz(out, ",\n  \"listeners\":[");
  for (size_t i = 0; i < v->listeners->n; i++) {
    char url[160];
    listener_url(&v->listeners->v[i], url, sizeof url);
    if (i > 0) buf_addz(out, ",");
    json_add_string(out, str_of(url));
  }
  buf_addz(out, "]");
}

static void add_insecure(const struct upstream_conf *u, struct buf *out) {
  if (u->insecure == NULL) return;
  buf_addz(out, ",");
  add_text(out, "insecure", u->insecure);
}

static void add_proxy(const struct upstream_conf *u, struct buf *out) {
  if (u->parents == NULL) return;
  buf_addz(out, ",");
  add_text(out, "proxy", parents_where(u->parents));
}

/* As a policy says it. */
static const char *http2_text(const struct upstream_conf *u) {
  enum http2_mode mode = http2_for(u->http2, u->tls != NULL);
  return mode == HTTP2_AUTO ? "\"auto\"" : mode == HTTP2_ONLY ? "true" : "false";
}

static void add_upstreams(const struct policy *p, struct buf *out) {
  buf_addz(out, ",\n  \"upstreams\":[");
  for (size_t i = 0; i < p->nupstreams; i++) {
    buf_addz(out, i > 0 ? ",{" : "{");
    add_text(out, "name", p->upstreams[i].name);
    buf_addf(out, ",\"addresses\":%zu,\"tls\":%s", p->upstreams[i].nurls,
             p->upstreams[i].tls != NULL ? "true" : "false");
    buf_addf(out, ",\"http2\":%s", http2_text(&p->upstreams[i]));
    add_insecure(&p->upstreams[i], out);
    add_proxy(&p->upstreams[i], out);
    buf_addz(out, "}");
  }
  buf_addz(out, "]");
  const struct forward_conf *f = p->forward;
  if (f == NULL) return;
  buf_addf(out, ",\n  \"forward\":{\"hosts\":%s,\"connect\":%s", f->hosts != NULL ? "true" : "false",
           f->connect != NULL ? "true" : "false");
  add_insecure(&f->conf, out);
  add_proxy(&f->conf, out);
  buf_addz(out, "}");
}

static void add_name(void *arg, const char *name) {
  struct each *each = arg;
  if (each->n++ > 0) buf_addz(each->out, ",");
  json_add_string(each->out, str_of(name));
}

static void add_certificate(void *arg, const char *file, int64_t until) {
  struct each *each = arg;
  buf_addz(each->out, each->n++ > 0 ? ",{" : "{");
  add_text(each->out, "file", file);
  buf_addf(each->out, ",\"expires\":%lld}", (long long)until);
}

static void add_tls(const struct status_view *v, struct buf *out) {
  struct each each = {.out = out};
  buf_addf(out, ",\n  \"tls\":{\"renewed\":%llu,\"failed\":%llu,", (unsigned long long)v->certificates.renewed,
           (unsigned long long)v->certificates.failed);
  add_text(out, "last_error", v->certificates.last_error);
  buf_addz(out, ",\"insecure\":[");
  tls_insecure(add_name, &each);
  buf_addz(out, "],\"certificates\":[");
  each.n = 0;
  certificates_own(add_certificate, &each);
  buf_addz(out, "],\"ending\":[");
  each.n = 0;
  certificates_ending(add_name, &each);
  buf_addz(out, "]}");
}

void status_json(const struct status_view *v, struct buf *out) {
  buf_addz(out, "{");
  add_text(out, "version", JETON_VERSION);
  buf_addf(out, ",\"pid\":%ld,\"uptime\":%.3f,\"stopping\":%s,\n  \"policy\":{", (long)getpid(),
           (double)v->uptime_ms / 1000, v->stopping ? "true" : "false");
  add_text(out, "file", v->path);
  buf_addf(out, ",\"number\":%llu,\"reloads\":%llu,\"refused\":%llu,\"last_reload\":%.3f,",
           (unsigned long long)(v->policy != NULL ? v->policy->number : 0), (unsigned long long)v->reload.done,
           (unsigned long long)v->reload.refused, (double)v->reload.last_at / 1000);
  add_text(out, "last_error", v->reload.last_error);
  buf_addz(out, "},\n  \"tokens\":[");
  struct each each = {.out = out};
  each_slot(v, add_slot, &each);
  buf_addz(out, "]");
  add_stores(v, out);
  add_workers(v, out);
  add_listeners(v, out);
  if (v->policy != NULL) add_upstreams(v->policy, out);
  add_tls(v, out);
  buf_addz(out, "}\n");
}

/* --- readiness --- */

static bool is_ready(const struct status_view *v) { return !v->stopping && readiness_of(v->policy, v->tokens); }

bool status_ready_json(const struct status_view *v, struct buf *out) {
  if (is_ready(v)) {
    buf_addz(out, "{\"ready\":true}\n");
    return true;
  }
  buf_addf(out, "{\"ready\":false,\"policy\":%s,\"stopping\":%s,\"missing\":[", v->policy != NULL ? "true" : "false",
           v->stopping ? "true" : "false");
  readiness_json(v->policy, v->tokens, out);
  buf_addz(out, "]}\n");
  return false;
}

bool status_ready_text(const struct status_view *v, struct buf *out) {
  bool ready = is_ready(v);
  buf_addf(out, "%s%s\n", ready ? "ready" : "not ready",
           v->stopping         ? ": draining"
           : v->policy == NULL ? ": no policy is active yet"
                               : "");
  readiness_say(v->policy, v->tokens, out);
  return ready;
}

/* --- text --- */

/* A moment of the wall clock, `ms` from now. */
static void say_moment(struct buf *out, int64_t ms) {
  time_t at = (time_t)((clock_wall_ms() + ms) / 1000);
  struct tm tm;
  char text[40];
  (void)gmtime_r(&at, &tm);
  (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
  buf_addz(out, text);
}

static void say_permanent(struct buf *out, struct slot *s, const struct slot_facts *f) {
  buf_addf(out, "  %-20s permanent failure since ", "");
  say_moment(out, -f->permanent_ms);
  if (f->outlook == OUTLOOK_SPENT) {
    buf_addz(out, ", since what it needs is spent: not asked again until there is a new one");
  } else if (f->next_attempt_ms >= 0) {
    buf_addz(out, ", asked again at ");
    say_moment(out, f->next_attempt_ms);
    buf_addz(out, " or when its secret, file or policy changes");
  }
  buf_addf(out, "; by hand: jeton refresh %s\n", slot_name(s));
}

static void say_slot(void *arg, struct slot *s) {
  struct buf *out = arg;
  struct slot_facts f;
  slot_facts(s, clock_boot_ms(), &f);
  buf_addf(out, "  %-20s %-10s generation %llu", slot_name(s), slot_state_name(f.state),
           (unsigned long long)f.generation);
  if (f.fetching_ms >= 0)
    buf_addf(out, ", fetching for %lld s (%s)", (long long)(f.fetching_ms / 1000), fetch_reason_name(f.reason));
  if (f.lasts)
    buf_addz(out, ", does not end");
  else if (f.valid)
    buf_addf(out, ", expires in %lld s", (long long)(f.expires_in_ms / 1000));
  if (f.next_attempt_ms >= 0) buf_addf(out, ", next fetch in %lld s", (long long)(f.next_attempt_ms / 1000));
  buf_addf(out, "; %llu fetches, %llu failed, %llu rejected", (unsigned long long)f.fetches,
           (unsigned long long)f.failures, (unsigned long long)f.rejections);
  if (f.waiters > 0) buf_addf(out, ", %u requests wait", f.waiters);
  buf_addz(out, "\n");
  if (f.consecutive_failures > 0)
    buf_addf(out, "  %-20s %u failures in a row, the last: %s\n", "", f.consecutive_failures, f.last_error);
  if (f.permanent_ms >= 0) say_permanent(out, s, &f);
  if (f.unsaved[0] != '\0') buf_addf(out, "  %-20s NOT SAVED, a restart may be locked out: %s\n", "", f.unsaved);
}

/* Of a family with thousands of keys a person wants the ones in trouble, and how many there are. */
struct family_lines {
  struct buf *out;
  unsigned calm, failing; /* shown; the others are counted */
  unsigned more;
};
static void say_key(void *arg, struct slot *s) {
  struct family_lines *lines = arg;
  struct slot_facts f;
  slot_facts(s, clock_boot_ms(), &f);
  unsigned *shown = f.consecutive_failures > 0 || f.unsaved[0] != '\0' ? &lines->failing : &lines->calm;
  if (*shown < FAMILY_LINES) {
    (*shown)++;
    say_slot(lines->out, s);
  } else {
    lines->more++;
  }
}

static void say_tokens(const struct token_set *t, struct buf *out) {
  if (t->n > 0) buf_addz(out, "tokens\n");
  for (size_t i = 0; i < t->n; i++) {
    struct family_lines lines = {.out = out};
    if (t->slots[i] != NULL) say_slot(out, t->slots[i]);
    if (t->families[i] == NULL) continue;
    family_each(t->families[i], say_key, &lines);
    if (lines.more > 0)
      buf_addf(out, "  %s: %u more keys; --json has them all\n", family_name(t->families[i]), lines.more);
  }
}

static void say_store(void *arg, struct named *n) {
  struct shared_facts f;
  shared_facts(shared_of(n), &f);
  buf_addf(arg, "shared     %s: %llu entries, %llu KiB of %llu, %llu evicted\n", n->name, (unsigned long long)f.entries,
           (unsigned long long)(f.bytes >> 10), (unsigned long long)(f.max >> 10), (unsigned long long)f.evictions);
}

static void say_reload(const struct status_view *v, struct buf *out) {
  buf_addf(out, "policy     %s, number %llu; %llu reloads, %llu refused\n", v->path,
           (unsigned long long)(v->policy != NULL ? v->policy->number : 0), (unsigned long long)v->reload.done,
           (unsigned long long)v->reload.refused);
  if (v->reload.last_error[0] != '\0') buf_addf(out, "the last reload was refused:\n%s", v->reload.last_error);
}

static void say_proxy(const struct upstream_conf *u, struct buf *out) {
  if (u->parents == NULL) return;
  if (parents_from_environment(u->parents))
    buf_addz(out, ", through the environment's proxy");
  else
    buf_addf(out, ", through %s", parents_where(u->parents));
}

static void say_insecure(void *arg, const char *name) { buf_addf(arg, "not verified %s\n", name); }

static void say_ending(void *arg, const char *text) { buf_addf(arg, "tls        %s\n", text); }

static void say_tls(const struct status_view *v, struct buf *out) {
  const char *error = v->certificates.last_error;
  if (error[0] != '\0') buf_addf(out, "tls        %s; the certificates read before go on\n", error);
  certificates_ending(say_ending, out);
  tls_insecure(say_insecure, out);
}

static void say_counts(const struct status_view *v, struct buf *out) {
  struct worker_counts c = {0};
  for (unsigned i = 0; i < v->nworkers; i++) worker_counts(v->workers[i], &c);
  buf_addf(out, "workers    %u; %llu connections", v->nworkers, (unsigned long long)c.connections);
  if (c.connections_h2 > 0)
    buf_addf(out, " (%llu of HTTP/2: %llu streams)", (unsigned long long)c.connections_h2,
             (unsigned long long)c.streams);
  buf_addf(out, ", %llu requests", (unsigned long long)c.requests);
  buf_addf(out, " (2xx %llu, 3xx %llu, 4xx %llu, 5xx %llu)", (unsigned long long)c.responses[2],
           (unsigned long long)c.responses[3], (unsigned long long)c.responses[4], (unsigned long long)c.responses[5]);
  buf_addf(out, ", %llu replays, %llu waits for a token, %llu upstream errors, %llu script errors\n",
           (unsigned long long)c.replays, (unsigned long long)c.token_waits, (unsigned long long)c.upstream_errors,
           (unsigned long long)c.script_errors);
  if (c.shed + c.over_address_limit > 0)
    buf_addf(
        out,
        "           %llu idle connections closed for new ones, %llu turned away by limits.connections_per_address\n",
        (unsigned long long)c.shed, (unsigned long long)c.over_address_limit);
}

void status_text(const struct status_view *v, struct buf *out) {
  bool waits = v->policy != NULL && !v->stopping && !is_ready(v);
  buf_addf(out, "jeton      %s, pid %ld, up %lld s%s\n", JETON_VERSION, (long)getpid(),
           (long long)(v->uptime_ms / 1000),
           v->stopping ? ", draining"
           : waits     ? ", not ready: a token has no valid value"
                       : "");
  say_reload(v, out);
  for (size_t i = 0; i < v->listeners->n; i++) {
    char url[160];
    listener_url(&v->listeners->v[i], url, sizeof url);
    buf_addf(out, "listening  %s\n", url);
  }
  for (size_t i = 0; v->policy != NULL && i < v->policy->nupstreams; i++) {
    const struct upstream_conf *u = &v->policy->upstreams[i];
    buf_addf(out, "upstream   %s:", u->name);
    for (size_t j = 0; j < u->nurls; j++) {
      char where[URL_WHERE_SIZE];
      url_where(&u->urls[j], where, sizeof where);
      buf_addf(out, "%s %s", j > 0 ? "," : "", where);
    }
    say_proxy(u, out);
    if (u->insecure != NULL) buf_addf(out, ", NOT VERIFIED (%s)", u->insecure);
    buf_addz(out, "\n");
  }
  if (v->policy != NULL && v->policy->forward != NULL) {
    buf_addz(out, "forward    to the hosts that the policy lists");
    say_proxy(&v->policy->forward->conf, out);
    buf_addz(out, "\n");
  }
  say_tls(v, out);
  say_counts(v, out);
  registry_each(v->names, &shared_kind, say_store, out);
  say_tokens(v->tokens, out);
}
