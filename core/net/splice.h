/* splice.h: from one socket to another through a pipe, without a copy into this process (splice(2)). For net/stream.c.
 *
 * One pipe a thread, made at its first use. It is empty whenever the loop runs: bytes that the second socket does not take at once are read out of it, so no
 * byte of one connection can end in another. Owned by one thread. */
#ifndef JETON_NET_SPLICE_H
#define JETON_NET_SPLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* As much as a read brings (net/stream.h): bytes that wait for a slow peer are copied, and no more of it than ever. Bodies cost 0.6 of what they do when they
 * are read and written by as much, and a fourteenth less again with twice the size. */
enum { SPLICE_SIZE = 128 * 1024 };

struct splice {
  int in, out; /* the pipe's ends; -1: not made yet */
  bool refused;
};
void splice_init(struct splice *p);
void splice_fini(struct splice *p);

/* Up to `most` bytes of the socket into the pipe. How many, UV_EOF, UV_EAGAIN, another of libuv's errors; UV_ENOSYS: this system cannot, read as ever. */
ssize_t splice_from(struct splice *p, int fd, size_t most);
/* The pipe's n bytes to the socket. How many it took, perhaps none, or an error: the pipe is empty then. */
ssize_t splice_to(struct splice *p, int fd, size_t n);
/* The n bytes that the socket did not take. */
void splice_rest(struct splice *p, uint8_t *out, size_t n);

#endif
