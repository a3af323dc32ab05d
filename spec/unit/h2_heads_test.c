/* h2_heads_test.c: where frames begin, whatever the pieces are in which they come. */
#include "http/h2_heads.h"

#include <string.h>

#include "check.h"

static const uint8_t bytes[] =
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    "\0\0\0\4\0\0\0\0\0"             /* SETTINGS, told by the library */
    "\0\0\3\0\1\0\0\0\5abc"          /* DATA */
    "\0\0\5\2\0\0\0\0\7\x80\0\0\3z"  /* PRIORITY */
    "\0\0\4\2\0\0\0\0\11wxyz"        /* PRIORITY of a wrong length */
    "\0\0\0\xbb\xff\xff\xff\xff\xff" /* unknown, with the reserved bit */
    "\0\0\1\x9\4\0\0\0\1x"           /* CONTINUATION */
    "\0\0\0\6\0\0\0\0\0"             /* PING (of a wrong length), told */
    "\0\0\0\0\0\0\0\0\2";            /* DATA */
enum { ALL = sizeof bytes - 1 };

struct seen {
  struct h2_frame_head head;
  size_t at, end; /* of all bytes: where the frame begins, where its head has been read */
};

static size_t walk(struct seen *seen, size_t piece) {
  struct h2_heads h = {.left = H2_PREFACE_SIZE};
  size_t n = 0;
  for (size_t from = 0; from < ALL; from += piece) {
    size_t at = from, to = from + piece < ALL ? from + piece : ALL, before, upto;
    while (h2_heads_next(&h, bytes + at, to - at, &before, &upto, &seen[n].head)) {
      seen[n].at = at + before;
      at += upto;
      seen[n++].end = at;
    }
  }
  return n;
}

static void heads_are_found_in_any_pieces(void) {
  static const struct {
    uint8_t type;
    int32_t stream, dependency;
    uint32_t length;
  } want[] = {{0, 5, 0, 3}, {2, 7, 3, 5}, {2, 9, 0, 4}, {0xbb, 0x7fffffff, 0, 0}, {9, 1, 0, 1}, {0, 2, 0, 0}};
  for (size_t piece = 1; piece <= ALL; piece++) {
    struct seen seen[8];
    CHECK(walk(seen, piece) == 6);
    for (size_t i = 0; i < 6; i++) {
      CHECK(seen[i].head.type == want[i].type && seen[i].head.stream == want[i].stream);
      CHECK(seen[i].head.dependency == want[i].dependency && seen[i].head.length == want[i].length);
    }
    if (piece == ALL) CHECK(seen[0].at == 33 && seen[0].end == 42 && seen[1].at == 45 && seen[1].end == 58);
  }
}

int main(void) {
  RUN(heads_are_found_in_any_pieces);
  return 0;
}
