/* h2_internal.h: what h2_session.c, h2_stream.c and h2_out.c share; nobody else includes it. */
#ifndef JETON_HTTP_H2_INTERNAL_H
#define JETON_HTTP_H2_INTERNAL_H

#include "http/h2_compat.h"
#include "http/h2_session.h"
#include "net/stream.h"

/* --- h2_out.c: what one turn of the loop has to write --- */

void h2_out_copy(struct h2_session *s, const void *p, size_t n);
/* The bytes stay where they are until h2_out_write, which has to come before they go: h2_out_borrows says that some are there. */
void h2_out_borrow(struct h2_session *s, struct str bytes);
bool h2_out_borrows(const struct h2_session *s);
size_t h2_out_size(const struct h2_session *s);
void h2_out_write(struct h2_session *s);
void h2_out_drop(struct h2_session *s);

/* --- h2_session.c --- */

/* Puts into frames what may go. Not within a feed. */
void h2_session_pump(struct h2_session *s);
/* Tells streams that waited and do not any more. From the loop, or behind a feed: never below a call of a stream's user. */
void h2_session_tell_drained(struct h2_session *s);
/* Counts what waits in this process for a peer, or may come unasked. */
static inline void h2_account(struct h2_session *s, size_t more, size_t less) { s->stream->net->queued += more - less; }

/* --- h2_stream.c --- */

void h2_stream_received(struct h2_stream *st, struct str span);
/* END_STREAM has come. */
void h2_stream_received_end(struct h2_stream *st);
/* The library has closed it. */
void h2_stream_over(struct h2_stream *st, uint32_t code);
void h2_stream_lost(struct h2_stream *st);
/* Has all of what waits: nothing that is to go out. */
static inline size_t h2_stream_waiting(const struct h2_stream *st) { return st->out.n - st->out_at + st->nspan_bytes; }
ssize_t h2_stream_read_body(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t n, uint32_t *flags,
                            nghttp2_data_source *source, void *arg);
int h2_stream_send_body(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
                        nghttp2_data_source *source, void *arg);
/* The socket has room again. */
void h2_stream_unhold(struct h2_stream *st);

#endif
