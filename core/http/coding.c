/* coding.c: see coding.h. A thin layer over zlib.
 *
 * zlib's state holds up to 32 KiB of what was decoded last, which may be a token: its memory is wiped as it is given back. Output grows by PIECE and stops at the
 * bound, so a reply that would blow up costs no more than the bound, whatever it claims to be. Bytes behind a complete stream are passed over, as other clients
 * do, unless they begin another member (RFC 1952 section 2.2). */
#include "http/coding.h"

#include <assert.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/err.h"
#include "base/must.h"
#include "base/secmem.h"

enum { PIECE = 16 * 1024, WINDOW_BITS = 15, GZIP_BITS = WINDOW_BITS + 16, BARE_BITS = -WINDOW_BITS };

static enum coding coding_named(struct str name) {
  if (str_ieq(name, STR("gzip")) || str_ieq(name, STR("x-gzip"))) return CODING_GZIP;
  return str_ieq(name, STR("deflate")) ? CODING_DEFLATE : CODING_UNKNOWN;
}

/* One field's list; `so_far` is what the fields before it say. */
static enum coding add_list(struct str list, enum coding so_far) {
  while (list.n > 0) {
    const char *comma = memchr(list.p, ',', list.n);
    size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;
    struct str name = str_trim((struct str){list.p, n});
    if (name.n > 0 && !str_ieq(name, STR("identity")))
      so_far = so_far == CODING_NONE ? coding_named(name) : CODING_UNKNOWN;
    n += comma != NULL;
    list = (struct str){list.p + n, list.n - n};
  }
  return so_far;
}

enum coding coding_of(const struct headers *h) {
  enum coding coding = CODING_NONE;
  for (unsigned i = 0; i < h->n; i++) {
    const struct header *f = &h->v[i];
    if (f->name.p != NULL && str_ieq(f->name, STR("content-encoding"))) coding = add_list(f->value, coding);
  }
  return coding;
}

/* --- zlib --- */

struct block {
  size_t n;
  _Alignas(16) unsigned char bytes[];
};

static void *take(void *opaque, unsigned items, unsigned size) {
  (void)opaque;
  size_t n = (size_t)items * size;
  struct block *b = must_malloc(sizeof *b + n);
  b->n = n;
  return b->bytes;
}

static void give_back(void *opaque, void *p) {
  (void)opaque;
  struct block *b = (struct block *)((unsigned char *)p - offsetof(struct block, bytes));
  secmem_wipe(b->bytes, b->n);
  free(b);
}

/* Fills up to a piece of room, and one byte more than `left` at the most, by which an overflow is seen. */
static int fill(z_stream *z, size_t left, struct buf *out) {
  size_t room = left < PIECE ? left + 1 : PIECE;
  z->next_out = buf_reserve(out, room);
  z->avail_out = (unsigned)room;
  int rc = inflate(z, Z_NO_FLUSH);
  out->n += room - z->avail_out;
  return rc;
}

static bool begins_member(const z_stream *z) {
  return z->avail_in >= 2 && z->next_in[0] == 0x1f && z->next_in[1] == 0x8b;
}

static int run(z_stream *z, size_t max, struct buf *out) {
  size_t before = out->n;
  for (;;) {
    int rc = fill(z, max - (out->n - before), out);
    if (out->n - before > max) return ERR_LIMIT;
    if (rc == Z_STREAM_END) {
      if (!begins_member(z) || inflateReset(z) != Z_OK) return 0;
    } else if (rc == Z_BUF_ERROR || (rc == Z_OK && z->avail_in == 0 && z->avail_out > 0)) {
      return ERR_TRUNCATED;
    } else if (rc != Z_OK) {
      return ERR_PROTOCOL;
    }
  }
}

static int undo(int bits, struct str in, size_t max, struct buf *out) {
  z_stream z = {.zalloc = take, .zfree = give_back};
  z.next_in = (unsigned char *)(uintptr_t)in.p;
  z.avail_in = (unsigned)in.n;
  int rc = inflateInit2(&z, bits);
  assert(rc == Z_OK);
  (void)rc;
  rc = run(&z, max, out);
  (void)inflateEnd(&z);
  return rc;
}

int coding_undo(enum coding coding, struct str in, size_t max, struct buf *out) {
  assert((coding == CODING_GZIP || coding == CODING_DEFLATE) && in.n <= UINT32_MAX);
  if (in.n == 0) return 0;
  size_t before = out->n;
  int rc = undo(coding == CODING_GZIP ? GZIP_BITS : WINDOW_BITS, in, max, out);
  if (coding != CODING_DEFLATE || rc != ERR_PROTOCOL || out->n > before) return rc;
  return undo(BARE_BITS, in, max, out);
}
