/* h2_heads.h: where frames begin in the bytes of a connection of HTTP/2 (RFC 9113 section 4.1).
 *
 * The library does not tell of every frame: it drops those of unknown types, PRIORITY (since we say that we do not go by it), DATA for streams that it has forgotten, and it
 * does not look at the length of CONTINUATION. These are the frames that floods are made of, so their heads are looked at before it gets them. One thread. */
#ifndef JETON_HTTP_H2_HEADS_H
#define JETON_HTTP_H2_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { H2_HEAD_SIZE = 9, H2_PREFACE_SIZE = 24 };

struct h2_heads {
  uint32_t left; /* bytes of payload (a server: of the preface, first) until the next head */
  uint8_t have;  /* of `bytes` */
  uint8_t bytes[H2_HEAD_SIZE + 4];
};
struct h2_frame_head {
  uint32_t length;
  uint8_t type, flags;
  int32_t stream;
  int32_t dependency; /* PRIORITY of 5 bytes: the stream that it names */
};

/* Looks for the next head that the library may not tell of. True: its last byte is p[*upto - 1], and what of p belongs to frames before it are the first *before bytes. False: there is none
 * in these n bytes. Heads that are passed over and those found count as read. */
bool h2_heads_next(struct h2_heads *h, const uint8_t *p, size_t n, size_t *before, size_t *upto,
                   struct h2_frame_head *out);

#endif
