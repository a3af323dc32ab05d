/* h2_out.c: the bytes of one turn of the loop, in one write.
 *
 * Heads and small bodies are copied, since what they were made of goes; of a large body the frames' heads alone are, and its bytes are written from where the other side's read
 * has put them. The array lives from the first byte of a turn to the write: an idle connection has none. Invariant: borrowed bytes leave in the call that brought them. */
#include <stdlib.h>

#include "base/must.h"
#include "http/h2_internal.h"

enum { PIECES = 40, WRITE_AT = 64 * 1024 };

struct h2_piece {
  const char *p; /* borrowed; NULL: in `bytes` */
  size_t at, n;
};
struct h2_out {
  struct buf bytes;
  size_t total;
  unsigned n;
  bool borrows;
  struct h2_piece pieces[PIECES];
};

static struct h2_out *out_of(struct h2_session *s) {
  if (s->out == NULL) {
    s->out = must_malloc(sizeof *s->out);
    buf_init(&s->out->bytes);
    s->out->bytes.sensitive = s->settings.sensitive;
    s->out->total = s->out->n = 0;
    s->out->borrows = false;
  }
  return s->out;
}

void h2_out_drop(struct h2_session *s) {
  if (s->out == NULL) return;
  buf_fini(&s->out->bytes);
  free(s->out);
  s->out = NULL;
}

size_t h2_out_size(const struct h2_session *s) { return s->out != NULL ? s->out->total : 0; }
bool h2_out_borrows(const struct h2_session *s) { return s->out != NULL && s->out->borrows; }

void h2_out_write(struct h2_session *s) {
  struct h2_out *o = s->out;
  uv_buf_t v[PIECES];
  if (o == NULL) return;
  s->out = NULL; /* what comes of the write begins anew */
  for (unsigned i = 0; i < o->n; i++) {
    const struct h2_piece *piece = &o->pieces[i];
    v[i].base = piece->p != NULL ? (char *)(uintptr_t)piece->p : (char *)o->bytes.p + piece->at;
    v[i].len = piece->n;
  }
  if (!s->broken && stream_write(s->stream, v, o->n, s->settings.sensitive) != 0) {
    s->broken = true;
    later_post(s->laters, &s->later);
  }
  buf_fini(&o->bytes);
  free(o);
  if (!h2_session_stuck(s))
    s->secrets_end = 0;
  else if (s->events->stuck != NULL)
    s->events->stuck(s);
}

static struct h2_piece *piece_new(struct h2_session *s) {
  if (out_of(s)->n == PIECES || s->out->total >= WRITE_AT) h2_out_write(s);
  struct h2_out *o = out_of(s);
  return &o->pieces[o->n++];
}

void h2_out_copy(struct h2_session *s, const void *p, size_t n) {
  struct h2_out *o = out_of(s);
  struct h2_piece *last = o->n > 0 ? &o->pieces[o->n - 1] : NULL;
  if (last == NULL || last->p != NULL || o->total >= WRITE_AT) {
    last = piece_new(s);
    o = s->out;
    *last = (struct h2_piece){.at = o->bytes.n};
  }
  buf_add(&o->bytes, p, n);
  last->n += n;
  o->total += n;
}

void h2_out_borrow(struct h2_session *s, struct str bytes) {
  struct h2_piece *piece = piece_new(s);
  *piece = (struct h2_piece){.p = bytes.p, .n = bytes.n};
  s->out->total += bytes.n;
  s->out->borrows = true;
}
