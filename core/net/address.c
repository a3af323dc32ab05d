/* address.c: socket addresses as text, which of them are private, and listening sockets. No state; any thread.
 *
 * Text: what address_format writes address_parse reads back as the same address. ":8080" is the one form that stands for two families, since "all
 * addresses" is one socket for the kernel as well (IPV6_V6ONLY off).
 *
 * Private: a proxy must not reach these addresses for a stranger, so the list errs towards yes. An IPv6 address that carries an IPv4 one is judged by that one,
 * in every form in which a translator or tunnel would unpack it: a filter that reads IPv6 literally is passed by ::ffff:127.0.0.1.
 *
 * Listening: SO_REUSEPORT gives each worker a queue of its own, so that the kernel spreads connections and no worker wakes for another's.
 * A Unix socket's file outlives its process. To find out whether it is stale we connect to it: only a refusal means that no process listens. Between that and
 * the bind another process may take the path; then bind fails, and only a dead socket has been removed. */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- text --- */

enum { HOST_TEXT = 64 }; /* INET6_ADDRSTRLEN and a zone */

static bool parse_port(struct str s, uint16_t *port) {
  unsigned long long v;
  if (s.n > 5 || !str_to_u64(s, &v) || v > UINT16_MAX) return false;
  *port = (uint16_t)v;
  return true;
}

static int parse_unix(struct str path, union address *out) {
  if (path.n == 0 || path.n >= sizeof out->un.sun_path || memchr(path.p, '\0', path.n) != NULL) return UV_EINVAL;
  out->un.sun_family = AF_UNIX;
  memcpy(out->un.sun_path, path.p, path.n);
  return 0;
}

int address_parse(struct str s, union address *out) {
  uint16_t port;
  char host[HOST_TEXT];
  *out = (union address){0};
  if (str_starts(s, STR("unix:"))) return parse_unix((struct str){s.p + 5, s.n - 5}, out);
  const char *colon = s.n > 0 ? memrchr(s.p, ':', s.n) : NULL;
  if (colon == NULL) return UV_EINVAL;
  struct str name = {s.p, (size_t)(colon - s.p)};
  if (name.n >= sizeof host || memchr(name.p, '\0', name.n) != NULL) return UV_EINVAL;
  if (!parse_port((struct str){colon + 1, s.n - name.n - 1}, &port)) return UV_EINVAL;
  if (name.n == 0) return uv_ip6_addr("::", port, &out->in6);
  bool bracketed = name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']';
  if (bracketed) name = (struct str){name.p + 1, name.n - 2};
  memcpy(host, name.p, name.n);
  host[name.n] = '\0';
  return bracketed ? uv_ip6_addr(host, port, &out->in6) : uv_ip4_addr(host, port, &out->in);
}

static bool is_any6(const union address *a) { return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr); }

static int format_in6(const union address *a, char *out, size_t n) {
  char host[INET6_ADDRSTRLEN];
  const uint8_t *bytes = a->in6.sin6_addr.s6_addr;
  unsigned port = ntohs(a->in6.sin6_port);
  if (is_any6(a)) return snprintf(out, n, ":%u", port);
  if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
    return snprintf(out, n, "%u.%u.%u.%u:%u", bytes[12], bytes[13], bytes[14], bytes[15], port);
  uv_inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof host);
  return snprintf(out, n, "[%s]:%u", host, port);
}

int address_format(const union address *a, char *out, size_t n) {
  char host[INET_ADDRSTRLEN];
  int length;
  switch (a->sa.sa_family) {
    case AF_INET:
      uv_inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof host);
      length = snprintf(out, n, "%s:%u", host, ntohs(a->in.sin_port));
      break;
    case AF_INET6: length = format_in6(a, out, n); break;
    case AF_UNIX: length = snprintf(out, n, "unix:%.*s", (int)sizeof a->un.sun_path, a->un.sun_path); break;
    default: return UV_EAFNOSUPPORT;
  }
  return length >= 0 && (size_t)length < n ? 0 : UV_ENOBUFS;
}

void address_host(const union address *a, char out[ADDRESS_HOST]) {
  bool six = a->sa.sa_family == AF_INET6;
  (void)snprintf(out, ADDRESS_HOST, "unix:");
  if (a->sa.sa_family == AF_INET)
    uv_inet_ntop(AF_INET, &a->in.sin_addr, out, ADDRESS_HOST);
  else if (six && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
    uv_inet_ntop(AF_INET, &a->in6.sin6_addr.s6_addr[12], out, ADDRESS_HOST);
  else if (six)
    uv_inet_ntop(AF_INET6, &a->in6.sin6_addr, out, ADDRESS_HOST);
}

socklen_t address_len(const union address *a) {
  switch (a->sa.sa_family) {
    case AF_INET: return sizeof a->in;
    case AF_INET6: return sizeof a->in6;
    case AF_UNIX:
      return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strnlen(a->un.sun_path, sizeof a->un.sun_path - 1) +
                         1);
    default: return 0;
  }
}

void address_set_port(union address *a, uint16_t port) {
  if (a->sa.sa_family == AF_INET6)
    a->in6.sin6_port = htons(port);
  else
    a->in.sin_port = htons(port);
}

bool address_same(const union address *a, const union address *b) {
  return address_len(a) == address_len(b) && memcmp(a, b, address_len(a)) == 0;
}

/* --- private addresses --- */

static bool is_private4(uint32_t ip) { /* host byte order */
  static const struct {
    uint32_t net, mask;
  } ranges[] = {
      {0x00000000, 0xff000000}, /* 0.0.0.0/8: this network, the unspecified address */
      {0x0a000000, 0xff000000}, /* 10.0.0.0/8 */
      {0x64400000, 0xffc00000}, /* 100.64.0.0/10: shared by carriers (RFC 6598) */
      {0x7f000000, 0xff000000}, /* 127.0.0.0/8 */
      {0xa9fe0000, 0xffff0000}, /* 169.254.0.0/16: link-local, and the metadata services of clouds */
      {0xac100000, 0xfff00000}, /* 172.16.0.0/12 */
      {0xc0000000, 0xffffff00}, /* 192.0.0.0/24: protocol assignments (RFC 6890) */
      {0xc0a80000, 0xffff0000}, /* 192.168.0.0/16 */
      {0xc6120000, 0xfffe0000}, /* 198.18.0.0/15: benchmarks (RFC 2544) */
      {0xe0000000, 0xe0000000}, /* 224.0.0.0/3: multicast, reserved, broadcast */
  };
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    if ((ip & ranges[i].mask) == ranges[i].net) return true;
  return false;
}

static uint32_t bits32(const struct in6_addr *ip, unsigned at) {
  const uint8_t *b = ip->s6_addr + at;
  return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* The offset of the embedded IPv4 address that packets end up at, or 0: there is none. */
static unsigned embedded4(const struct in6_addr *ip) {
  static const uint8_t translated[12] = {0x00, 0x64, 0xff, 0x9b};            /* 64:ff9b::/96 (RFC 6052) */
  static const uint8_t stateless[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}; /* ::ffff:0:0:0/96 (RFC 2765) */
  if (IN6_IS_ADDR_V4MAPPED(ip) || IN6_IS_ADDR_V4COMPAT(ip)) return 12;
  if (memcmp(ip, translated, sizeof translated) == 0 || memcmp(ip, stateless, sizeof stateless) == 0) return 12;
  return ip->s6_addr[0] == 0x20 && ip->s6_addr[1] == 0x02 ? 2 : 0; /* 2002::/16, 6to4 (RFC 3056) */
}

static bool is_private6(const struct in6_addr *ip) {
  static const uint8_t local_translation[6] = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}; /* 64:ff9b:1::/48 (RFC 8215) */
  static const uint8_t teredo[4] = {0x20, 0x01};                                    /* 2001::/32 (RFC 4380) */
  unsigned at = embedded4(ip);
  if (at > 0) return is_private4(bits32(ip, at));
  return IN6_IS_ADDR_UNSPECIFIED(ip) || IN6_IS_ADDR_LOOPBACK(ip) || IN6_IS_ADDR_MULTICAST(ip) ||
         IN6_IS_ADDR_LINKLOCAL(ip) || IN6_IS_ADDR_SITELOCAL(ip) || (ip->s6_addr[0] & 0xfe) == 0xfc ||
         memcmp(ip, local_translation, sizeof local_translation) == 0 || memcmp(ip, teredo, sizeof teredo) == 0;
}

bool address_is_private(const union address *a) {
  if (a->sa.sa_family == AF_INET) return is_private4(ntohl(a->in.sin_addr.s_addr));
  if (a->sa.sa_family == AF_INET6) return is_private6(&a->in6.sin6_addr);
  return true;
}

/* --- listening --- */

static int last_error(void) { return uv_translate_sys_error(errno); }

static int open_socket(const union address *a) {
  int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd >= 0 ? fd : last_error();
}

static bool set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

static int bind_tcp(int fd, union address *a) {
  if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) || !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return last_error();
  if (a->sa.sa_family == AF_INET6 && !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !is_any6(a))) return last_error();
  if (bind(fd, &a->sa, address_len(a)) != 0) return last_error();
  socklen_t n = sizeof *a;
  return getsockname(fd, &a->sa, &n) == 0 ? 0 : last_error();
}

/* Why the path cannot be taken, or 0: a socket file where connecting is refused was left by a process that has gone. Anything else there is left alone. */
static int check_stale(const union address *a) {
  struct stat st;
  if (lstat(a->un.sun_path, &st) == 0 && !S_ISSOCK(st.st_mode)) return UV_EEXIST;
  int fd = open_socket(a);
  if (fd < 0) return UV_EADDRINUSE;
  bool refused = connect(fd, &a->sa, address_len(a)) != 0 && errno == ECONNREFUSED;
  close(fd);
  return refused ? 0 : UV_EADDRINUSE;
}

static int bind_unix(int fd, const union address *a) {
  if (bind(fd, &a->sa, address_len(a)) == 0) return 0;
  if (errno != EADDRINUSE) return last_error();
  int taken = check_stale(a);
  if (taken != 0) return taken;
  if (unlink(a->un.sun_path) != 0 && errno != ENOENT) return last_error();
  return bind(fd, &a->sa, address_len(a)) == 0 ? 0 : last_error();
}

int address_listen(union address *a, int backlog) {
  int fd = open_socket(a);
  if (fd == UV_EAFNOSUPPORT && a->sa.sa_family == AF_INET6 && is_any6(a)) {
    uv_ip4_addr("0.0.0.0", ntohs(a->in6.sin6_port), &a->in);
    fd = open_socket(a);
  }
  if (fd < 0) return fd;
  int rc = a->sa.sa_family == AF_UNIX ? bind_unix(fd, a) : bind_tcp(fd, a);
  if (rc == 0 && listen(fd, backlog) != 0) rc = last_error();
  if (rc == 0) return fd;
  close(fd);
  return rc;
}
