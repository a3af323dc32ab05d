/* sink.h: standard output and standard error as places that take what they can at once.
 *
 * The process inherits them, mostly in blocking mode, and a pipe that nobody empties (a log shipper that hangs, a stopped terminal) would stop every thread
 * that has a line to write. O_NONBLOCK cannot be set on them: it would hold for every process that shares them, such as the shell. */
#ifndef JETON_BASE_SINK_H
#define JETON_BASE_SINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sink {
  int fd;
  enum sink_kind {
    SINK_PLAIN,  /* write(2): a regular file, or a descriptor that does not block */
    SINK_OPENED, /* the same, and the descriptor is the sink's own */
    SINK_SOCKET, /* send(2), which can be told not to wait */
    SINK_ASKED /* a pipe or terminal that could not be opened anew: poll(2) goes first. Two threads may both learn that there is room for one line */
  } kind;
};

/* `fd` stays open and as it is. */
void sink_open(struct sink *s, int fd);
void sink_close(struct sink *s);
/* As write(2), and EAGAIN instead of waiting. On a pipe at most PIPE_BUF bytes at a time. */
ssize_t sink_write(const struct sink *s, const uint8_t *p, size_t n);

#endif
