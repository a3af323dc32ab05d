/* readiness.c: see readiness.h. Asked for at each /ready, never stored: a token that ends makes the process unready without an event. */
#include "ops/readiness.h"

#include "base/clock.h"
#include "base/json.h"

static bool counts(const struct policy *p, const struct token_set *tokens, size_t i) {
  const struct token_conf *t = &p->tokens[i];
  return i < tokens->n && tokens->slots[i] != NULL && t->counts_for_ready && t->missing != MISSING_PASS;
}

static bool is_missing(const struct policy *p, const struct token_set *tokens, size_t i, struct slot_facts *f) {
  if (!counts(p, tokens, i)) return false;
  slot_facts(tokens->slots[i], clock_boot_ms(), f);
  return !f->valid;
}

bool readiness_of(const struct policy *p, const struct token_set *tokens) {
  struct slot_facts f;
  if (p == NULL) return false;
  for (size_t i = 0; i < p->ntokens; i++) {
    if (is_missing(p, tokens, i, &f)) return false;
  }
  return true;
}

void readiness_say_why(const struct slot_facts *f, struct buf *out) {
  const char *between = "";
  if (f->fetching_ms >= 0) {
    buf_addf(out, "fetching for %lld s (%s)", (long long)(f->fetching_ms / 1000), fetch_reason_name(f->reason));
    between = ", ";
  }
  if (f->consecutive_failures > 0)
    buf_addf(out, "%s%u failures in a row, the last%s: %s", between, f->consecutive_failures,
             f->outlook != OUTLOOK_OPEN ? ", for good" : "", f->last_error);
  else if (!f->has_fetch)
    buf_addz(out, "no script has set it");
  else if (f->fetching_ms < 0)
    buf_addz(out, "its fetch has not begun");
}

void readiness_say(const struct policy *p, const struct token_set *tokens, struct buf *out) {
  struct slot_facts f;
  for (size_t i = 0; p != NULL && i < p->ntokens; i++) {
    if (!is_missing(p, tokens, i, &f)) continue;
    buf_addf(out, "token %s: ", slot_name(tokens->slots[i]));
    readiness_say_why(&f, out);
    buf_addz(out, "\n");
  }
}

void readiness_json(const struct policy *p, const struct token_set *tokens, struct buf *out) {
  struct slot_facts f;
  bool any = false;
  for (size_t i = 0; p != NULL && i < p->ntokens; i++) {
    if (!is_missing(p, tokens, i, &f)) continue;
    struct buf why;
    buf_init(&why);
    readiness_say_why(&f, &why);
    buf_addz(out, any ? ",{\"name\":" : "{\"name\":");
    json_add_string(out, str_of(slot_name(tokens->slots[i])));
    buf_addf(out, ",\"state\":\"%s\",\"why\":", slot_state_name(f.state));
    json_add_string(out, buf_str(&why));
    buf_addz(out, "}");
    buf_fini(&why);
    any = true;
  }
}
