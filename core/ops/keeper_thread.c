/* keeper_thread.c: the keeper's loop, and what control asks of it.
 *
 * Two policies at the most have a future here: the active one and a prepared one. Slots belong to the process: preparing finds them by name and makes
 * the missing ones without a fetch, and only the switch gives them their schedule. A policy that was replaced may stay for two reasons:
 * - `retired`: a fetch of it runs, which may still publish, by generation. Its VM goes with the fetch.
 * - `lingering`: a worker still has exchanges of it. A token that the new policy no longer names keeps its slot, and the old policy its VM to fetch it for
 *   requests that wait for it, until the last such exchange has ended, up to timeouts.drain; then the slot is closed and its token wiped. The workers report
 *   that end by mail (policy/serving.h), and the only timer is that of the limit. The first design polled a counter every 100 ms.
 * Without the second, a request that was in its hook at the switch could find its token over, and nobody to fetch it.
 *
 * A proof fetches with the functions of a policy that may be refused yet. Its fetch takes the slot's place (token/keeper.h), since two at a time would spend one
 * refresh token twice, and what it brings outlives the refusal: it serves at once where the token is made of the same as before. Otherwise it is held until the
 * switch, and the slot has the new refresh token meanwhile. What only the refused policy can use (a token or a login that is its own) is kept for the next one,
 * until one is taken.
 *
 * A VM is freed by keeper_runtime.c when it is retired, lingers no more, and none of its fetches runs: this file only says which of these holds.
 * What could not be saved is tried again by token/saves.h, whatever becomes of the policy, and once more at the end.
 * The end: while the workers drain, only what a request waits for is fetched. Then nothing begins any more, and what is under way is waited for: a refresh
 * token that its issuer has rotated may be on its way to us, and its fetch saves it. Scripts' tasks go on until then, since a fetch may need one.
 * Threads: everything below runs on the keeper's thread, but for new, start, post, log_cut and join (control's). */
#include "ops/keeper_thread.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "base/secmem.h"
#include "base/thread.h"
#include "http/services.h"
#include "ops/keeper_runtime.h"
#include "ops/release.h"
#include "token/family.h"
#include "token/keeper.h"
#include "token/result.h"
#include "token/saves.h"

enum { COLLECT_MS = 250, TIMER_MAX_MS = 30 * 1000 };

struct lingering {  /* a policy that was replaced; exchanges of it may be under way */
  struct link link; /* oldest first */
  struct policy *policy;
  struct keeper_runtime *runtime; /* fetches the tokens that its successor lacks; NULL: there are none */
  int64_t until;                  /* when they are waited for no longer; INT64_MAX: no limit */
  bool over;                      /* nobody serves under it any more */
};
struct proof {                    /* of one token */
  struct link link;               /* in waiting: a fetch of its slot runs; or in held */
  struct slot *slot;              /* a reference */
  const struct token_conf *token; /* the candidate's */
  struct token *held;             /* a reference: what it brought, for the switch */
  bool handed_back;               /* its login goes on in the slot */
};
struct kept { /* what a proof has brought for a policy that was refused */
  struct link link;
  char *name;          /* of the token: its slot stays */
  struct token *token; /* a reference: another one than the slot's; NULL: the slot has it */
};
struct keeper_thread {
  struct services services;
  struct under_way under_way; /* has a lock of its own */
  pthread_t thread;
  bool started;
  /* keeper's thread from here on */
  struct keeper *keeper;
  uv_timer_t due, linger, collect, end;
  int64_t due_at;
  struct keeper_runtime *active, *candidate;
  struct link retired, lingering;
  struct link ending;        /* of lingering: about to go, while the tokens that they alone have are given back */
  struct order *proof;       /* a PROVE under way */
  unsigned proving;          /* fetches of it that have not ended */
  struct link waiting, held; /* struct proof, of the candidate's tokens */
  struct link kept;
  struct order *stop;
  int64_t stop_at; /* while fetches under way are waited for: until when, CLOCK_BOOTTIME ms; INT64_MAX: no limit */
};

/* --- token/keeper.h's host --- */

static int64_t host_now(void *ctx) {
  (void)ctx;
  return clock_boot_ms();
}

static int64_t host_wall(void *ctx) {
  (void)ctx;
  return clock_wall_ms();
}

static void on_due(uv_timer_t *t);

/* For a timer that is to fire at `at`. Libuv's clock stands still while the machine sleeps, ours does not: so none is set for longer than TIMER_MAX_MS, and a
 * callback that comes too early sets it again. */
static uint64_t timer_ms(struct keeper_thread *k, int64_t at) {
  int64_t wait = at - clock_boot_ms();
  uv_update_time(&k->services.loop);
  return wait < 0 ? 0 : wait > TIMER_MAX_MS ? TIMER_MAX_MS : (uint64_t)wait;
}

static void arm_due(struct keeper_thread *k) {
  if (k->due_at == INT64_MAX) {
    (void)uv_timer_stop(&k->due);
    return;
  }
  (void)uv_timer_start(&k->due, on_due, timer_ms(k, k->due_at), 0);
}

static void on_due(uv_timer_t *t) {
  struct keeper_thread *k = t->data;
  if (clock_boot_ms() < k->due_at) {
    arm_due(k);
    return;
  }
  keeper_run_due(k->keeper);
}

static void host_set_timer(void *ctx, int64_t at) {
  struct keeper_thread *k = ctx;
  k->due_at = at;
  arm_due(k);
}

/* A fetch of a policy that was replaced meanwhile: its failure says nothing of the function that is in its place. */
static bool is_outdated(const struct keeper_thread *k, const struct fetch *f) {
  return f->host_data != k->active && k->active != NULL && keeper_runtime_token(k->active, f->slot) != NULL;
}

static void check_stop(struct keeper_thread *k);
static void on_save_ended(void *arg) { check_stop(arg); }
static void begin_waiting_proofs(struct keeper_thread *k);
static void begin_parting(struct keeper_thread *k);

static void on_fetch_ended(void *arg, struct fetch *f, const struct fetch_result *result) {
  struct keeper_thread *k = arg;
  struct slot *s = slot_ref(f->slot);
  bool again = is_outdated(k, f);
  keeper_fetch_done(k->keeper, f, result);
  if (list_empty(&k->lingering)) slot_drop_older(s);
  if (again) slot_try_again(s); /* when it failed */
  slot_unref(s);
  begin_waiting_proofs(k);
  if (k->stop != NULL) begin_parting(k);
  check_stop(k);
}

/* The policy whose function fetches for s. One that has no such token fails the fetch. */
static struct keeper_runtime *runtime_for(const struct keeper_thread *k, const struct slot *s) {
  if (k->active != NULL && keeper_runtime_token(k->active, s) != NULL) return k->active;
  for (const struct link *l = k->lingering.prev; l != &k->lingering; l = l->prev) {
    struct keeper_runtime *r = CONTAINER_OF(l, struct lingering, link)->runtime;
    if (r != NULL && keeper_runtime_token(r, s) != NULL) return r;
  }
  return k->candidate != NULL ? k->candidate : k->active;
}

static void host_start_fetch(void *ctx, struct fetch *f) {
  struct keeper_thread *k = ctx;
  struct keeper_runtime *r = runtime_for(k, f->slot);
  f->host_data = r;
  keeper_runtime_fetch(r, f, on_fetch_ended, k);
}

/* Not when the thread ends: nothing would be begun in its place. */
static bool host_give_up_fetch(void *ctx, struct fetch *f) {
  const struct keeper_thread *k = ctx;
  return k->stop == NULL && !f->proof && keeper_runtime_give_up(f->host_data, f);
}

/* --- what is given back --- */

static void on_released(void *arg) { check_stop(arg); }

static struct keeper_runtime *find_release(const struct link *lingering, const struct slot *s) {
  for (const struct link *l = lingering->prev; l != lingering; l = l->prev) {
    struct keeper_runtime *r = CONTAINER_OF(l, struct lingering, link)->runtime;
    if (release_is_there(r, s)) return r;
  }
  return NULL;
}

static void host_release(void *ctx, struct slot *s, struct token *last) {
  struct keeper_thread *k = ctx;
  bool named = k->active != NULL && keeper_runtime_token(k->active, s) != NULL;
  struct keeper_runtime *r = named && release_is_there(k->active, s) ? k->active : NULL;
  if (!named) r = find_release(&k->lingering, s);
  if (!named && r == NULL) r = find_release(&k->ending, s);
  if (r == NULL) return;
  enum release_reason reason = k->stop != NULL ? RELEASE_STOP : named ? RELEASE_UNUSED : RELEASE_REMOVED;
  release_begin(r, s, last, reason, on_released, k);
}

/* --- slots of a policy --- */

/* Settings of what serves are the active policy's until the switch: so what is there is found, not adopted. */
static struct slot *find_or_make_slot(struct keeper_thread *k, const struct token_conf *t) {
  struct slot *s = keeper_find(k->keeper, str_of(t->name));
  if (s != NULL) return s;
  return keeper_adopt(k->keeper, str_of(t->name), (struct str){0}, &t->schedule, t->has_fetch, false);
}

static struct token_family *adopt_family(struct keeper_thread *k, const struct token_conf *t) {
  return keeper_adopt_family(k->keeper, str_of(t->name), &t->schedule, t->has_fetch, t->family_max, t->family_idle_ms);
}

static struct token_family *find_or_make_family(struct keeper_thread *k, const struct token_conf *t) {
  struct token_family *f = keeper_find_family(k->keeper, str_of(t->name));
  return f != NULL ? f : adopt_family(k, t);
}

static void fill_set(struct token_set *t, struct keeper_thread *k, const struct policy *p) {
  token_set_init(t, p->ntokens);
  for (size_t i = 0; i < t->n; i++) {
    const struct token_conf *conf = &p->tokens[i];
    if (conf->family) {
      t->families[i] = find_or_make_family(k, conf);
    } else {
      t->slots[i] = find_or_make_slot(k, conf);
    }
  }
}

static bool names(const struct keeper_runtime *r, const char *token_name, bool family) {
  return r != NULL && policy_token(r->policy, token_name, family) != NULL;
}

static bool still_named(void *arg, const char *token_name, bool family) {
  const struct keeper_thread *k = arg;
  if (names(k->active, token_name, family) || names(k->candidate, token_name, family)) return true;
  for (const struct link *l = k->kept.next; l != &k->kept; l = l->next) {
    if (!family && strcmp(CONTAINER_OF(l, struct kept, link)->name, token_name) == 0) return true;
  }
  for (const struct link *l = k->lingering.next; l != &k->lingering; l = l->next) {
    const struct policy *p = CONTAINER_OF(l, struct lingering, link)->policy;
    if (policy_token(p, token_name, family) != NULL) return true;
  }
  return false;
}

/* Closes the slots and families that no policy here names. */
static void retain_named(struct keeper_thread *k) { keeper_retain(k->keeper, still_named, k); }

/* --- policies that were replaced --- */

static void end_lingering(struct lingering *l) {
  list_remove(&l->link);
  if (l->runtime != NULL) keeper_runtime_leave(l->runtime);
  policy_unref(l->policy);
  free(l);
}

static void on_linger_limit(uv_timer_t *t);

/* Ends what need not linger any more: called when that may have changed. An older policy may have the same token, and need a later one's function to fetch it:
 * so one stays while any before it stays. */
static void end_lingerings(struct keeper_thread *k) {
  int64_t now = clock_boot_ms(), next = INT64_MAX;
  bool ended = false, older = false;
  for (struct link *l = k->lingering.next, *after; l != &k->lingering; l = after) {
    after = l->next;
    struct lingering *linger = CONTAINER_OF(l, struct lingering, link);
    if ((older || !linger->over) && now < linger->until) {
      older = true;
      if (linger->until < next) next = linger->until;
    } else {
      list_remove(&linger->link);
      list_push(&k->ending, &linger->link);
      ended = true;
    }
  }
  if (ended) retain_named(k); /* which may begin releases in their VMs */
  while (!list_empty(&k->ending)) end_lingering(CONTAINER_OF(k->ending.next, struct lingering, link));
  if (list_empty(&k->lingering)) keeper_drop_older(k->keeper);
  if (next == INT64_MAX) {
    (void)uv_timer_stop(&k->linger);
  } else {
    (void)uv_timer_start(&k->linger, on_linger_limit, timer_ms(k, next), 0);
  }
}

static void on_linger_limit(uv_timer_t *t) { end_lingerings(t->data); }

/* The last worker's last exchange of a policy has ended. It need not linger here: it may have been discarded, or was waited for long enough. */
static void on_policy_over(struct mail *m) {
  struct policy *p = CONTAINER_OF(m, struct policy, serving.over);
  struct keeper_thread *k = CONTAINER_OF(p->serving.keeper, struct keeper_thread, services.mailbox);
  for (struct link *l = k->lingering.next; l != &k->lingering; l = l->next) {
    struct lingering *linger = CONTAINER_OF(l, struct lingering, link);
    if (linger->policy == p) linger->over = true;
  }
  end_lingerings(k);
  policy_unref(p);
}

/* Tokens of the old policy that the new one lacks stay for its exchanges, and for those of policies before it. */
static void let_linger(struct keeper_thread *k, struct keeper_runtime *old, const struct policy *now) {
  struct policy *p = old->policy;
  for (size_t i = 0; i < p->ntokens; i++) {
    const struct token_conf *t = &p->tokens[i];
    if (policy_token(now, t->name, t->family) != NULL) continue;
    keeper_leave(k->keeper, str_of(t->name), t->family);
    old->lingers = true;
  }
  struct lingering *l = must_calloc(1, sizeof *l);
  l->policy = policy_ref(p);
  l->runtime = old->lingers ? old : NULL;
  l->until = p->timeouts.drain > 0 ? clock_boot_ms() + (int64_t)p->timeouts.drain : INT64_MAX;
  l->over = serving_leave(&p->serving); /* true only without workers: they switch after the keeper */
  list_push(&k->lingering, &l->link);
}

/* --- orders --- */

static void prepare(struct keeper_thread *k, struct order *o) {
  int status;
  struct keeper_runtime *c =
      keeper_runtime_new(&k->services, &k->under_way, o->policy, &status, o->message, sizeof o->message);
  if (c == NULL) {
    order_answer(o, status);
    return;
  }
  k->candidate = c;
  fill_set(o->tokens, k, o->policy);
  status = binding_tokens(&c->binding, c->vm, o->policy, o->tokens);
  if (status == 0) {
    serving_begin(&o->policy->serving, &k->services.mailbox, on_policy_over);
  } else {
    (void)snprintf(o->message, sizeof o->message, "the tokens could not be bound: %s", err_text(status));
    k->candidate = NULL;
    keeper_runtime_retire(c);
    token_set_fini(o->tokens);
    retain_named(k);
  }
  order_answer(o, status);
}

static void free_proof(struct proof *p) {
  list_remove(&p->link);
  slot_unref(p->slot);
  token_unref(p->held);
  free(p);
}

static void drop_proofs(struct link *proofs) {
  while (!list_empty(proofs)) free_proof(CONTAINER_OF(proofs->next, struct proof, link));
}

static void drop_one_kept(struct kept *kept) {
  list_remove(&kept->link);
  token_unref(kept->token);
  free(kept->name);
  free(kept);
}

static void drop_kept(struct keeper_thread *k) {
  while (!list_empty(&k->kept)) drop_one_kept(CONTAINER_OF(k->kept.next, struct kept, link));
}

/* Takes over token. */
static void keep(struct keeper_thread *k, const char *name, struct token *token) {
  struct kept *kept = must_calloc(1, sizeof *kept);
  kept->name = must_strdup(name);
  kept->token = token;
  list_push(&k->kept, &kept->link);
}

/* What was brought for a token of that name that is made of the same, or NULL. */
static struct kept *find_kept(const struct keeper_thread *k, const char *name, const struct token_bond *bond) {
  for (struct link *l = k->kept.next; l != &k->kept; l = l->next) {
    struct kept *kept = CONTAINER_OF(l, struct kept, link);
    if (kept->token != NULL && strcmp(kept->name, name) == 0 && token_bond_same(&kept->token->bond, bond)) return kept;
  }
  return NULL;
}

static void keep_held(struct keeper_thread *k) {
  while (!list_empty(&k->held)) {
    struct proof *p = CONTAINER_OF(k->held.next, struct proof, link);
    struct kept *before = find_kept(k, p->token->name, &p->held->bond);
    if (before != NULL) drop_one_kept(before);
    if (!p->handed_back) keep(k, p->token->name, token_ref(p->held));
    free_proof(p);
  }
}

/* A refresh token that the proof has spent may stand in the policy that was refused; the next try begins with what came for it. It is not fetched meanwhile. */
static void keep_proved(struct keeper_thread *k, const struct policy *p) {
  for (size_t i = 0; i < p->ntokens; i++) {
    const struct token_conf *t = &p->tokens[i];
    if (t->family || still_named(k, t->name, false)) continue;
    struct slot *s = keeper_find(k->keeper, str_of(t->name));
    struct slot_facts f = {0};
    if (s != NULL) slot_facts(s, clock_boot_ms(), &f);
    slot_unref(s);
    if (f.generation == 0) continue;
    keep(k, t->name, NULL);
    keeper_leave(k->keeper, str_of(t->name), false);
  }
}

static void discard(struct keeper_thread *k, struct order *o) {
  struct keeper_runtime *c = k->candidate;
  k->candidate = NULL;
  if (c != NULL) {
    (void)serving_leave(&c->policy->serving); /* workers discard it at the same time; nothing is kept for them */
    drop_proofs(&k->waiting);
    keep_held(k);
    keep_proved(k, c->policy);
    list_push(&k->retired, &c->link); /* a proof that was given up: its fetches run on, and save what they get */
    keeper_runtime_retire(c);
    retain_named(k);
  }
  order_answer(o, 0);
}

/* Its audience is borrowed. */
static struct token_bond bond_of(const struct token_conf *t) {
  return (struct token_bond){.audience = t->audience, .made_of = {t->made_of[0], t->made_of[1]}};
}

static void publish_held(struct keeper_thread *k, const struct token_conf *t) {
  for (struct link *l = k->held.next; l != &k->held; l = l->next) {
    struct proof *p = CONTAINER_OF(l, struct proof, link);
    if (p->token != t) continue;
    struct token *held = p->held;
    p->held = NULL;
    keeper_publish_held(k->keeper, p->slot, held);
    free_proof(p);
    return;
  }
  struct token_bond bond = bond_of(t);
  struct kept *kept = t->family ? NULL : find_kept(k, t->name, &bond);
  struct slot *s = kept != NULL ? keeper_find(k->keeper, str_of(t->name)) : NULL;
  if (s == NULL) return;
  keeper_publish_held(k->keeper, s, token_ref(kept->token));
  slot_unref(s);
}

static unsigned traits_of(const struct token_conf *t) {
  return (t->from_secret ? SLOT_CONSTANT : 0u) | (t->releases ? SLOT_RELEASES : 0u);
}

static void adopt_tokens(struct keeper_thread *k, const struct policy *p) {
  for (size_t i = 0; i < p->ntokens; i++) {
    const struct token_conf *t = &p->tokens[i];
    struct token_bond bond = bond_of(t);
    keeper_set_traits(k->keeper, str_of(t->name), t->family, traits_of(t));
    keeper_bind(k->keeper, str_of(t->name), t->family, &bond);
    publish_held(k, t);
    if (t->family) {
      family_unref(adopt_family(k, t));
    } else {
      slot_unref(keeper_adopt(k->keeper, str_of(t->name), (struct str){0}, &t->schedule, t->has_fetch, true));
      if (t->from_secret) /* what stands in a policy's text has no source to look at */
        keeper_recheck(k->keeper, str_of(t->name));
    }
  }
}

static bool same_text(const struct policy *a, const struct policy *b) {
  if (a->nsources != b->nsources) return false;
  for (size_t i = 0; i < a->nsources; i++) {
    if (!str_eq(a->sources[i].text, b->sources[i].text)) return false;
  }
  return true;
}

static void switch_over(struct keeper_thread *k, struct order *o) {
  struct keeper_runtime *old = k->active;
  bool mended = old != NULL && !same_text(old->policy, k->candidate->policy);
  k->active = k->candidate;
  k->candidate = NULL;
  k->services.keepalive = k->active->policy->tcp_keepalive;
  if (old != NULL) {
    let_linger(k, old, k->active->policy);
    list_push(&k->retired, &old->link);
    keeper_runtime_retire(old);
  }
  adopt_tokens(k, k->active->policy);
  bool kept = !list_empty(&k->kept);
  drop_kept(k);
  if (kept) retain_named(k);
  end_lingerings(k);
  if (mended) keeper_try_again(k->keeper);
  keeper_runtime_activate(k->active);
  order_answer(o, 0);
}

/* --- proof --- */

static void one_proof_less(struct keeper_thread *k) {
  if (k->proof == NULL || --k->proving > 0) return; /* it may have been given up */
  struct order *o = k->proof;
  k->proof = NULL;
  order_answer(o, o->status);
}

static void note_unproved(struct order *o, const char *name, const char *error) {
  size_t at = strlen(o->message);
  (void)snprintf(o->message + at, sizeof o->message - at, "%stoken %s: %s", at > 0 ? "\n" : "", name, error);
  o->status = ERR_SCRIPT;
}

static struct proof *new_proof(struct link *list, struct slot *s, const struct token_conf *t, struct token *held) {
  struct proof *p = must_calloc(1, sizeof *p);
  p->slot = slot_ref(s);
  p->token = t;
  p->held = held;
  list_push(list, &p->link);
  return p;
}

/* The proof may have been given up, and its policy be gone, while the fetch ran on. */
static void on_proof_ended(void *arg, struct fetch *f, const struct fetch_result *result) {
  struct keeper_thread *k = arg;
  struct slot *s = slot_ref(f->slot);
  bool wanted = k->candidate != NULL && f->host_data == k->candidate;
  struct proof_outcome out;
  const char *why = keeper_proof_done(k->keeper, f, result, &out);
  if (why != NULL && wanted && k->proof != NULL) note_unproved(k->proof, slot_token_name(s), why);
  if (out.held != NULL && wanted)
    new_proof(&k->held, s, keeper_runtime_token(k->candidate, s), out.held)->handed_back = out.handed_back;
  else
    token_unref(out.held);
  slot_unref(s);
  if (wanted) one_proof_less(k);
  begin_waiting_proofs(k);
  check_stop(k);
}

/* False: a fetch of the slot is under way. */
static bool begin_proof(struct keeper_thread *k, struct slot *s, const struct token_conf *t) {
  struct token_bond bond = bond_of(t);
  const struct kept *kept = find_kept(k, t->name, &bond);
  struct fetch *f = keeper_begin_proof(k->keeper, s, &bond, kept != NULL ? kept->token : NULL);
  if (f == NULL) return false;
  f->host_data = k->candidate;
  keeper_runtime_fetch(k->candidate, f, on_proof_ended, k);
  return true;
}

static void begin_waiting_proofs(struct keeper_thread *k) {
  for (struct link *l = k->waiting.next, *next; l != &k->waiting; l = next) {
    next = l->next;
    struct proof *p = CONTAINER_OF(l, struct proof, link);
    if (begin_proof(k, p->slot, p->token)) free_proof(p);
  }
}

static void prove_token(struct keeper_thread *k, const struct token_conf *t) {
  struct slot *s = find_or_make_slot(k, t);
  k->proving++;
  if (!begin_proof(k, s, t)) (void)new_proof(&k->waiting, s, t, NULL);
  slot_unref(s);
}

/* The proof fails at once. Its fetches run on: what they are about to get may be a refresh token in place of one that is spent. */
static void end_proof(struct keeper_thread *k, struct order *o) {
  struct order *proof = k->proof;
  k->proof = NULL;
  drop_proofs(&k->waiting);
  if (proof != NULL) {
    (void)snprintf(proof->message, sizeof proof->message, "the proof was given up");
    order_answer(proof, ERR_CLOSED);
  }
  order_answer(o, 0);
}

static void prove(struct keeper_thread *k, struct order *o) {
  const struct policy *p = k->candidate->policy;
  bool same = k->active != NULL && same_text(k->active->policy, p);
  k->proof = o;
  k->proving = 1; /* ours, so that it does not end in the loop */
  for (size_t i = 0; i < p->ntokens; i++) {
    const struct token_conf *t = &p->tokens[i];
    if (!same && t->has_fetch && !t->family)
      prove_token(k, t); /* a family's fetch needs a key, which only a request has */
  }
  one_proof_less(k);
}

/* --- the thread --- */

/* A keeper rests for most of its life. What its last fetch left behind (a reply with a token in it) goes all the same: garbage of the VMs, the bytes of the last read,
 * frames of calls that are over. */
static void on_collect(uv_timer_t *t) {
  struct keeper_thread *k = t->data;
  if (k->active != NULL) vm_collect_step(k->active->vm);
  for (const struct link *l = k->retired.next; l != &k->retired; l = l->next) {
    struct vm *vm = CONTAINER_OF(l, struct keeper_runtime, link)->vm;
    if (vm != NULL) vm_collect_step(vm);
  }
  for (const struct link *l = k->lingering.next; l != &k->lingering; l = l->next) {
    const struct keeper_runtime *runtime = CONTAINER_OF(l, struct lingering, link)->runtime;
    if (runtime != NULL && runtime->vm != NULL) vm_collect_step(runtime->vm);
  }
  net_forget(&k->services.net);
  secmem_wipe_stack();
}

static void end_all(struct keeper_runtime *r) {
  keeper_runtime_end_fetches(r);
  release_end_all(r);
}

/* The slots are closed first: a fetch that is ended would be tried again. */
static void retire_all(struct keeper_thread *k) {
  struct keeper_runtime *live[] = {k->candidate, k->active};
  k->candidate = k->active = NULL;
  drop_proofs(&k->waiting);
  drop_proofs(&k->held);
  drop_kept(k);
  while (!list_empty(&k->lingering)) end_lingering(CONTAINER_OF(k->lingering.next, struct lingering, link));
  retain_named(k);
  for (struct link *l = k->retired.next, *next; l != &k->retired; l = next) {
    next = l->next;
    end_all(CONTAINER_OF(l, struct keeper_runtime, link));
  }
  for (size_t i = 0; i < 2; i++) {
    if (live[i] == NULL) continue;
    list_push(&k->retired, &live[i]->link);
    end_all(live[i]);
    keeper_runtime_retire(live[i]);
  }
}

static void close_timers(struct keeper_thread *k) {
  uv_timer_t *const timers[] = {&k->due, &k->linger, &k->collect, &k->end};
  for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) uv_close((uv_handle_t *)timers[i], NULL);
}

static void log_unsaved(void *arg, struct slot *s) {
  (void)arg;
  struct slot_facts f;
  slot_facts(s, clock_boot_ms(), &f);
  if (f.unsaved[0] != '\0')
    log_error("what token %s needs for its next fetch was never saved, and a restart may be locked out: %s",
              slot_name(s), f.unsaved);
}

static void end_now(struct keeper_thread *k) {
  under_way_log_cut(&k->under_way);
  saves_drop_all(k->services.saves);
  keeper_each(k->keeper, log_unsaved, NULL);
  retire_all(k);
  close_timers(k);
  uv_stop(&k->services.loop);
}

static bool has_work(struct keeper_thread *k) { return under_way_any(&k->under_way) || saves_any(k->services.saves); }

/* Also the way from a fetch's last callback to the end: no task of a VM may be on the stack when it goes. */
static void on_end(uv_timer_t *t) {
  struct keeper_thread *k = t->data;
  if (!has_work(k) || clock_boot_ms() >= k->stop_at) {
    end_now(k);
  } else if (k->stop_at != INT64_MAX) {
    (void)uv_timer_start(t, on_end, timer_ms(k, k->stop_at), 0);
  }
}

static void check_stop(struct keeper_thread *k) {
  bool waits = k->stop != NULL && !uv_is_closing((const uv_handle_t *)&k->end);
  if (waits && !has_work(k)) (void)uv_timer_start(&k->end, on_end, 0, 0);
}

/* Nothing is given back when there is no time for it. */
static void begin_parting(struct keeper_thread *k) {
  if (clock_boot_ms() < k->stop_at) keeper_part(k->keeper);
}

static void stop(struct keeper_thread *k, struct order *o) {
  k->stop = o;
  k->stop_at = o->until;
  keeper_slow_down(k->keeper, KEEPER_NONE);
  under_way_log_wait(&k->under_way, k->stop_at);
  saves_hurry(k->services.saves);
  begin_parting(k);
  (void)uv_timer_start(&k->end, on_end, 0, 0);
}

static void drain(struct keeper_thread *k, struct order *o) {
  keeper_slow_down(k->keeper, KEEPER_WANTED);
  order_answer(o, 0);
}

static void carry_out(void *receiver, struct order *o) {
  struct keeper_thread *k = receiver;
  switch (o->kind) {
    case ORDER_PREPARE: prepare(k, o); break;
    case ORDER_PROVE: prove(k, o); break;
    case ORDER_END_PROOF: end_proof(k, o); break;
    case ORDER_SWITCH: switch_over(k, o); break;
    case ORDER_DISCARD: discard(k, o); break;
    case ORDER_STOP: stop(k, o); break;
    case ORDER_DRAIN: drain(k, o); break;
    case ORDER_REOPEN: assert(false); /* a worker's */
  }
}

static void *keeper_main(void *arg) {
  struct keeper_thread *k = arg;
  (void)pthread_setname_np(pthread_self(), "jeton-keeper");
  (void)uv_run(&k->services.loop, UV_RUN_DEFAULT);
  /* The VMs of policies whose fetches were ended go once those fetches' timers are closed. */
  while (!list_empty(&k->retired)) (void)uv_run(&k->services.loop, UV_RUN_ONCE);
  retain_named(k);
  keeper_free(k->keeper);
  struct order *o = k->stop;
  services_close(&k->services);
  saves_free(k->services.saves);
  order_answer(o, 0);
  return NULL;
}

void keeper_thread_log_cut(struct keeper_thread *k) { under_way_log_cut(&k->under_way); }

struct keeper_thread *keeper_thread_new(struct registry *names) {
  struct keeper_thread *k = must_calloc(1, sizeof *k);
  if (services_init(&k->services, names) != 0) {
    free(k);
    return NULL;
  }
  list_init(&k->retired);
  list_init(&k->lingering);
  list_init(&k->ending);
  list_init(&k->waiting);
  list_init(&k->held);
  list_init(&k->kept);
  k->due_at = INT64_MAX;
  k->services.saves = saves_new(&k->services.loop, on_save_ended, k);
  under_way_init(&k->under_way);
  k->due.data = k->linger.data = k->collect.data = k->end.data = k;
  (void)uv_timer_init(&k->services.loop, &k->end);
  (void)uv_timer_init(&k->services.loop, &k->due);
  (void)uv_timer_init(&k->services.loop, &k->linger);
  (void)uv_timer_init(&k->services.loop, &k->collect);
  (void)uv_timer_start(&k->collect, on_collect, COLLECT_MS, COLLECT_MS);
  struct keeper_host host = {.ctx = k,
                             .now = host_now,
                             .wall = host_wall,
                             .start_fetch = host_start_fetch,
                             .give_up_fetch = host_give_up_fetch,
                             .release = host_release,
                             .set_timer = host_set_timer};
  k->keeper = keeper_new(&host, &k->services.mailbox, 0);
  return k;
}

int keeper_thread_start(struct keeper_thread *k) {
  int status = thread_start(&k->thread, keeper_main, k);
  k->started = status == 0;
  return status;
}

void keeper_thread_post(struct keeper_thread *k, struct order *o) { order_post(o, &k->services.mailbox, carry_out, k); }

void keeper_thread_join(struct keeper_thread *k) {
  if (k->started) (void)pthread_join(k->thread, NULL);
  if (!k->started) {
    close_timers(k);
    keeper_free(k->keeper);
    services_close(&k->services);
    saves_free(k->services.saves);
  }
  under_way_fini(&k->under_way);
  free(k);
}
