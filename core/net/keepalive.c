/* keepalive.c: see keepalive.h. A refused option is no reason to do without the connection. */
#include "net/keepalive.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static void set(int fd, int level, int name, uint64_t value) {
  int v = (int)value;
  (void)setsockopt(fd, level, name, &v, sizeof v);
}

static uint64_t seconds(uint64_t ms) { return (ms + 999) / 1000; }

void keepalive_set(int fd, const struct keepalive *k) {
  set(fd, SOL_SOCKET, SO_KEEPALIVE, k->idle_ms > 0);
  if (k->idle_ms == 0) return;
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds(k->idle_ms));
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds(k->interval_ms));
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, k->probes);
}

bool keepalive_equal(const struct keepalive *a, const struct keepalive *b) {
  return a->idle_ms == b->idle_ms && a->interval_ms == b->interval_ms && a->probes == b->probes;
}
