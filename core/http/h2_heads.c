/* h2_heads.c: see h2_heads.h. */
#include "http/h2_heads.h"

#include <string.h>

#include "http/h2_compat.h"

static uint32_t be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static struct h2_frame_head read_head(const uint8_t *b) {
  return (struct h2_frame_head){.length = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2],
                                .type = b[3],
                                .flags = b[4],
                                .stream = (int32_t)(be32(b + 5) & 0x7fffffff)};
}

static bool is_told(uint8_t type) {
  return type != NGHTTP2_DATA && type != NGHTTP2_PRIORITY && type != NGHTTP2_CONTINUATION &&
         type <= NGHTTP2_CONTINUATION;
}

/* How many bytes make it: with PRIORITY the stream that it names. */
static size_t wanted(const struct h2_heads *h) {
  static const uint8_t priority[4] = {0, 0, 5, NGHTTP2_PRIORITY};
  return h->have >= sizeof priority && memcmp(h->bytes, priority, sizeof priority) == 0 ? sizeof h->bytes
                                                                                        : H2_HEAD_SIZE;
}

/* The rest of a head that an earlier read ended in; a byte at a time, since it is rare. False: it ends in this one, too. */
static bool complete(struct h2_heads *h, const uint8_t *p, size_t n, size_t *at) {
  while (h->have < wanted(h)) {
    if (*at == n) return false;
    h->bytes[h->have++] = p[(*at)++];
  }
  return true;
}

/* Where a head lies whole in what was read, as nearly all do, it is read where it lies. NULL: it does not. */
static const uint8_t *whole(const struct h2_heads *h, const uint8_t *p, size_t n) {
  return h->have == 0 && n >= H2_HEAD_SIZE && p[3] != NGHTTP2_PRIORITY ? p : NULL;
}

bool h2_heads_next(struct h2_heads *h, const uint8_t *p, size_t n, size_t *before, size_t *upto,
                   struct h2_frame_head *out) {
  size_t at = 0;
  for (;;) {
    size_t skipped = h->left < n - at ? h->left : n - at;
    h->left -= (uint32_t)skipped;
    at += skipped;
    if (at == n) return false;
    *before = at;
    const uint8_t *head = whole(h, p + at, n - at);
    if (head != NULL) {
      at += H2_HEAD_SIZE;
      *out = read_head(head);
      h->left = out->length;
    } else {
      if (!complete(h, p, n, &at)) return false;
      *out = read_head(h->bytes);
      h->left = out->length - (h->have - H2_HEAD_SIZE);
      if (h->have > H2_HEAD_SIZE) out->dependency = (int32_t)(be32(h->bytes + H2_HEAD_SIZE) & 0x7fffffff);
      h->have = 0;
    }
    if (is_told(out->type)) continue;
    *upto = at;
    return true;
  }
}
