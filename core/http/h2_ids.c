/* h2_ids.c: see h2_ids.h. */
#include "http/h2_ids.h"

void h2_ids_open(struct h2_ids *ids, int32_t id) {
  int32_t expected = ids->last == 0 ? 1 : ids->last + 2;
  if (id > expected) {
    uint32_t at = ids->ngaps++ % H2_IDS_GAPS;
    ids->gaps[at].from = expected;
    ids->gaps[at].to = id - 2;
  }
  ids->last = id;
}

void h2_ids_reset(struct h2_ids *ids, int32_t id) {
  int32_t *slot = &ids->resets[ids->nresets++ % H2_IDS_RESETS];
  if (*slot > ids->reset_forgotten) ids->reset_forgotten = *slot;
  *slot = id;
}

void h2_ids_ended(struct h2_ids *ids, int32_t id) {
  for (uint32_t i = 0; i < H2_IDS_RESETS && i < ids->nresets; i++)
    if (ids->resets[i] == id) ids->resets[i] = 0;
}

enum h2_id_verdict h2_ids_judge(const struct h2_ids *ids, int32_t id) {
  if (id > ids->last) return H2_ID_NEW;
  for (uint32_t i = 0; i < H2_IDS_GAPS && i < ids->ngaps; i++)
    if (id >= ids->gaps[i].from && id <= ids->gaps[i].to) return H2_ID_SKIPPED;
  if (id <= ids->reset_forgotten) return H2_ID_MAY_BE_LATE;
  for (uint32_t i = 0; i < H2_IDS_RESETS && i < ids->nresets; i++)
    if (ids->resets[i] == id) return H2_ID_MAY_BE_LATE;
  return H2_ID_ENDED;
}
