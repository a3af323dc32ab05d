/* notify.c: one datagram to the socket that the manager names. That is all of the protocol that is needed, so no library is. Any thread. */
#include "ops/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_manager(const char *state) {
  const char *path = getenv("NOTIFY_SOCKET");
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  size_t n = path != NULL ? strlen(path) : 0;
  if (n < 2 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@')) return;
  memcpy(a.sun_path, path, n);
  if (path[0] == '@')
    a.sun_path[0] = '\0'; /* the abstract namespace: as many bytes as there are, and no NUL behind them */
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
  (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&a, length);
  (void)close(fd);
}
