/* metrics.c: the text format of Prometheus, version 0.0.4: "# HELP", "# TYPE", then a line a series.
 *
 * Labels are names in the policy: tokens, stores, certificate files, workers by their number. Keys of a family come from clients and may be a
 * million; they are counted, never named. Control's thread. */
#include "ops/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"
#include "base/shared.h"
#include "base/version.h"
#include "ops/readiness.h"
#include "token/family.h"

/* --- lines --- */

static void begin(struct buf *out, const char *name, const char *type, const char *help) {
  buf_addf(out, "# HELP jeton_%s %s\n# TYPE jeton_%s %s\n", name, help, name, type);
}

static void add_series(struct buf *out, const char *name, const char *label, const char *value) {
  buf_addf(out, "jeton_%s", name);
  if (label == NULL) return;
  buf_addf(out, "{%s=\"", label);
  for (const char *c = value; *c != '\0'; c++) {
    if (*c == '\n') buf_addz(out, "\\n");
    if (*c == '"' || *c == '\\') buf_addz(out, "\\");
    if (*c != '\n') buf_add(out, c, 1);
  }
  buf_addz(out, "\"}");
}

static void add_count(struct buf *out, const char *name, const char *label, const char *value, uint64_t n) {
  add_series(out, name, label, value);
  buf_addf(out, " %llu\n", (unsigned long long)n);
}

static void add_one(struct buf *out, const char *name, const char *type, const char *help, uint64_t n) {
  begin(out, name, type, help);
  add_count(out, name, NULL, NULL, n);
}

/* --- tokens --- */

static uint64_t valid_of(const struct slot_facts *f) { return f->valid; }
static uint64_t generation_of(const struct slot_facts *f) { return f->generation; }
static uint64_t fetches_of(const struct slot_facts *f) { return f->fetches; }
static uint64_t failures_of(const struct slot_facts *f) { return f->failures; }
static uint64_t in_a_row_of(const struct slot_facts *f) { return f->consecutive_failures; }
static uint64_t rejections_of(const struct slot_facts *f) { return f->rejections; }
static uint64_t fetching_of(const struct slot_facts *f) {
  return f->fetching_ms > 0 ? (uint64_t)f->fetching_ms / 1000 : 0;
}
static uint64_t waiters_of(const struct slot_facts *f) { return f->waiters; }
static uint64_t permanent_of(const struct slot_facts *f) { return f->outlook != OUTLOOK_OPEN; }
static uint64_t unsaved_of(const struct slot_facts *f) { return f->unsaved[0] != '\0'; }

static const struct token_metric {
  const char *name, *type, *help;
  uint64_t (*of)(const struct slot_facts *f);
} TOKEN_METRICS[] = {
    {"token_valid", "gauge", "Whether requests can have the token now.", valid_of},
    {"token_generation", "gauge", "Values that the token has had.", generation_of},
    {"token_fetches_total", "counter", "Fetches begun.", fetches_of},
    {"token_failures_total", "counter", "Fetches failed.", failures_of},
    {"token_consecutive_failures", "gauge", "Fetches failed since the last one that succeeded.", in_a_row_of},
    {"token_rejections_total", "counter", "Values that an upstream refused.", rejections_of},
    {"token_fetching_seconds", "gauge", "How long the fetch under way has taken; 0 when there is none.", fetching_of},
    {"token_waiters", "gauge", "Requests that wait for the token now.", waiters_of},
    {"token_permanent_failure", "gauge", "Whether its last fetch failed for good, so that it is seldom tried again.",
     permanent_of},
    {"token_unsaved", "gauge", "Whether its new refresh token could not be saved, so that a restart may be locked out.",
     unsaved_of},
};

static void add_token_metric(const struct token_set *t, const struct token_metric *m, int64_t now, struct buf *out) {
  begin(out, m->name, m->type, m->help);
  for (size_t i = 0; i < t->n; i++) {
    struct slot_facts f;
    if (t->slots[i] == NULL) continue;
    slot_facts(t->slots[i], now, &f);
    add_count(out, m->name, "token", slot_name(t->slots[i]), m->of(&f));
  }
}

static void add_lives(const struct token_set *t, int64_t now, struct buf *out) {
  begin(out, "token_expires_in_seconds", "gauge", "How long the token is still valid; 0 without a valid one.");
  for (size_t i = 0; i < t->n; i++) {
    struct slot_facts f;
    if (t->slots[i] == NULL) continue;
    slot_facts(t->slots[i], now, &f);
    add_series(out, "token_expires_in_seconds", "token", slot_name(t->slots[i]));
    if (f.lasts)
      buf_addz(out, " +Inf\n");
    else
      buf_addf(out, " %.3f\n", f.valid ? (double)f.expires_in_ms / 1000 : 0.0);
  }
}

struct family_sums {
  int64_t now;
  uint64_t keys, failing, waiters, unsaved, permanent;
};
static void sum_key(void *arg, struct slot *s) {
  struct family_sums *sums = arg;
  struct slot_facts f;
  slot_facts(s, sums->now, &f);
  sums->failing += f.consecutive_failures > 0;
  sums->waiters += f.waiters;
  sums->unsaved += f.unsaved[0] != '\0';
  sums->permanent += f.outlook != OUTLOOK_OPEN;
}

/* A family may have a hundred thousand keys: they are gone through once. */
static struct family_sums *sum_families(const struct token_set *t, int64_t now) {
  struct family_sums *sums = must_calloc(t->n + 1, sizeof *sums);
  for (size_t i = 0; i < t->n; i++) {
    if (t->families[i] == NULL) continue;
    sums[i] = (struct family_sums){.now = now, .keys = family_size(t->families[i])};
    family_each(t->families[i], sum_key, &sums[i]);
  }
  return sums;
}

/* Gauges only: a key that nobody uses goes, and its counts with it. */
static void add_families(const struct token_set *t, int64_t now, struct buf *out) {
  static const char *const names[] = {"family_keys", "family_keys_failing", "family_waiters", "family_keys_unsaved",
                                      "family_keys_permanent_failure"};
  static const char *const helps[] = {
      "Keys of the family.", "Keys whose last fetch failed.", "Requests that wait for one of its tokens now.",
      "Keys whose new refresh token could not be saved.", "Keys whose last fetch failed for good."};
  struct family_sums *sums = sum_families(t, now);
  for (unsigned k = 0; k < sizeof names / sizeof names[0]; k++) {
    begin(out, names[k], "gauge", helps[k]);
    for (size_t i = 0; i < t->n; i++) {
      const uint64_t figures[] = {sums[i].keys, sums[i].failing, sums[i].waiters, sums[i].unsaved, sums[i].permanent};
      if (t->families[i] != NULL) add_count(out, names[k], "token", family_name(t->families[i]), figures[k]);
    }
  }
  free(sums);
}

static void add_tokens(const struct token_set *t, struct buf *out) {
  int64_t now = clock_boot_ms();
  for (size_t i = 0; i < sizeof TOKEN_METRICS / sizeof TOKEN_METRICS[0]; i++)
    add_token_metric(t, &TOKEN_METRICS[i], now, out);
  add_lives(t, now, out);
  add_families(t, now, out);
}

/* --- workers --- */

static const struct worker_metric {
  const char *name, *type, *help;
  size_t at;
} WORKER_METRICS[] = {
#define XX(field, kind, help) {#field, #kind, help, offsetof(struct worker_counts, field)},
    WORKER_COUNTS(XX)
#undef XX
};

static void add_workers(const struct status_view *v, struct buf *out) {
  struct worker_counts all = {0};
  for (unsigned i = 0; i < v->nworkers; i++) worker_counts(v->workers[i], &all);
  add_one(out, "workers", "gauge", "Threads that serve.", v->nworkers);
  for (size_t i = 0; i < sizeof WORKER_METRICS / sizeof WORKER_METRICS[0]; i++) {
    const struct worker_metric *m = &WORKER_METRICS[i];
    char name[64];
    uint64_t n;
    (void)snprintf(name, sizeof name, "%s%s", m->name, m->type[0] == 'c' ? "_total" : "");
    memcpy(&n, (const char *)&all + m->at, sizeof n);
    add_one(out, name, m->type, m->help, n);
  }
  begin(out, "responses_total", "counter", "Replies, those that jeton made itself included.");
  for (unsigned i = 1; i < 6; i++)
    add_count(out, "responses_total", "class", (const char[]){(char)('0' + i), 'x', 'x', '\0'}, all.responses[i]);
}

/* --- stores, certificates --- */

static const char *const STORE_NAMES[] = {"shared_entries", "shared_bytes", "shared_max_bytes",
                                          "shared_evictions_total"};
static const char *const STORE_HELPS[] = {"Values in the store.", "What they cost.", "What they may cost.",
                                          "Values that went to make room."};
struct store_metric {
  struct buf *out;
  unsigned which;
};
static void add_store(void *arg, struct named *n) {
  struct store_metric *m = arg;
  struct shared_facts f;
  shared_facts(shared_of(n), &f);
  const uint64_t facts[] = {f.entries, f.bytes, f.max, f.evictions};
  add_count(m->out, STORE_NAMES[m->which], "store", n->name, facts[m->which]);
}

static void add_stores(const struct status_view *v, struct buf *out) {
  for (struct store_metric m = {.out = out}; m.which < 4; m.which++) {
    begin(out, STORE_NAMES[m.which], m.which == 3 ? "counter" : "gauge", STORE_HELPS[m.which]);
    registry_each(v->names, &shared_kind, add_store, &m);
  }
}

static void add_certificate(void *arg, const char *file, int64_t until) {
  add_count(arg, "certificate_expiry_timestamp_seconds", "file", file, (uint64_t)(until > 0 ? until : 0));
}

static void add_tls(const struct status_view *v, struct buf *out) {
  add_one(out, "tls_renewals_total", "counter", "Certificates read again because their files had changed.",
          v->certificates.renewed);
  add_one(out, "tls_renewal_failures_total", "counter", "Times that this failed, and the old ones went on.",
          v->certificates.failed);
  begin(out, "certificate_expiry_timestamp_seconds", "gauge", "When the first of the file's chain ends.");
  certificates_own(add_certificate, out);
}

void metrics_text(const struct status_view *v, struct buf *out) {
  begin(out, "info", "gauge", "The version of jeton.");
  add_count(out, "info", "version", JETON_VERSION, 1);
  add_one(out, "uptime_seconds", "gauge", "Since the start.", (uint64_t)v->uptime_ms / 1000);
  add_one(out, "stopping", "gauge", "Whether the process is ending: 1 from SIGTERM on.", v->stopping);
  add_one(out, "ready", "gauge", "Whether /ready answers 200: every token that counts is valid.",
          !v->stopping && readiness_of(v->policy, v->tokens));
  add_one(out, "policy_number", "gauge", "The number of the load that is active.",
          v->policy != NULL ? v->policy->number : 0);
  add_one(out, "reloads_total", "counter", "Reloads that became active.", v->reload.done);
  add_one(out, "reloads_refused_total", "counter", "Reloads that were refused.", v->reload.refused);
  add_one(out, "reload_refused", "gauge", "Whether the last load was refused.", v->reload.last_error[0] != '\0');
  add_tokens(v->tokens, out);
  add_workers(v, out);
  add_stores(v, out);
  add_tls(v, out);
}
