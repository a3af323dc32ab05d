/* answers.c: see answers.h. Times instead of a list of past answers; of an address that was left out only a hash is kept, which is enough to see it come back. */
#include "net/answers.h"

#include <netdb.h>
#include <string.h>

#include "base/hash.h"

static bool holds(const struct answer *a, const union address *one) {
  for (unsigned i = 0; i < a->n; i++)
    if (address_same(&a->v[i], one)) return true;
  return false;
}

static bool is_same(const struct answer *a, const struct answer *b) {
  if (a->n != b->n || a->cut || b->cut) return false;
  for (unsigned i = 0; i < a->n; i++)
    if (!holds(b, &a->v[i])) return false;
  return true;
}

void answer_read(struct answer *to, const struct addrinfo *list, int64_t now) {
  to->at = now;
  to->n = 0;
  to->cut = false;
  for (const struct addrinfo *ai = list; ai != NULL && !to->cut; ai = ai->ai_next) {
    union address a = {0};
    if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6) continue;
    memcpy(&a, ai->ai_addr, ai->ai_addrlen);
    address_set_port(&a, 0);
    if (holds(to, &a)) continue;
    to->cut = to->n == RESOLVE_MAX;
    if (!to->cut) to->v[to->n++] = a;
  }
}

static uint64_t hash_of(const union address *a) {
  return hash_plain(HASH_START, (struct str){(const char *)a, address_len(a)});
}

static bool forget_left(struct answers *s, uint64_t hash) {
  for (unsigned i = 0; i < ANSWERS_LEFT && i < s->nleft; i++) {
    if (s->left[i] != hash) continue;
    s->left[i] = 0;
    return true;
  }
  return false;
}

static void note_back(struct answers *s, const struct answer *now) {
  bool back = false;
  if (now->at - s->came_back_at > ANSWERS_BACK_MS) s->came_back = 0;
  for (unsigned i = 0; i < now->n; i++)
    if (!holds(&s->last, &now->v[i]) && forget_left(s, hash_of(&now->v[i]))) back = true;
  if (!back) return;
  if (s->came_back < ANSWERS_DOUBLED_MOST) s->came_back++;
  s->came_back_at = now->at;
}

static void remember_left(struct answers *s, const struct answer *now) {
  for (unsigned i = 0; i < s->last.n; i++)
    if (!holds(now, &s->last.v[i])) s->left[s->nleft++ % ANSWERS_LEFT] = hash_of(&s->last.v[i]);
}

void answers_add(struct answers *s, const struct answer *a) {
  bool first = s->last.n == 0, same = !first && is_same(&s->last, a);
  s->alike = same ? s->alike + 1 : 1;
  if (first) {
    s->differed_at = a->at;
  } else if (!same) {
    s->differed_at = s->last.at;
    note_back(s, a);
    remember_left(s, a);
  }
  s->last = *a;
}

bool answers_settled(const struct answers *s, int64_t now) {
  unsigned doubled = now - s->came_back_at > ANSWERS_BACK_MS ? 0 : s->came_back;
  return s->alike >= 2 && !s->last.cut && now - s->differed_at >= (int64_t)ANSWERS_SETTLED_MS << doubled;
}
