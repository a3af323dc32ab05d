/* net_test.c: addresses and plain streams over loopback TCP and Unix sockets. */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/err.h"
#include "base/list.h"
#include "check.h"
#include "net/address.h"
#include "net/range.h"
#include "net/stream.h"

/* --- addresses --- */

static void check_format(const char *in, const char *out) {
  union address a;
  char text[ADDRESS_TEXT];
  CHECK(address_parse(str_of(in), &a) == 0);
  CHECK(address_format(&a, text, sizeof text) == 0);
  CHECK(strcmp(text, out) == 0);
  CHECK(address_format(&a, text, strlen(out)) == UV_ENOBUFS);
}

static void addresses_parse_and_format(void) {
  check_format("127.0.0.1:8080", "127.0.0.1:8080");
  check_format("[::1]:0", "[::1]:0");
  check_format("[2001:DB8::1]:65535", "[2001:db8::1]:65535");
  check_format(":80", ":80");
  check_format("[::]:80", ":80");
  check_format("[::ffff:192.0.2.1]:80", "192.0.2.1:80");
  check_format("unix:/run/x.sock", "unix:/run/x.sock");
}

static void what_is_no_address_is_refused(void) {
  static const char *const bad[] = {
      "",        "80",          "localhost:80", "127.0.0.1",     "127.0.0.1:",    "127.0.0.1:65536",
      "1.2.3:1", "127.0.0.1:x", "::1:80",       "[::1]",         "[127.0.0.1]:1", "[::1:80",
      "unix:",   "[]:80",       "1.2.3.4:-1",   "127.0.0.1:+80", "[::1]x:80",     "127.0.0.1:000080"};
  union address a;
  char path[200] = "unix:";
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(address_parse(str_of(bad[i]), &a) == UV_EINVAL);
  memset(path + 5, 'a', sizeof path - 6);
  CHECK(address_parse(str_of(path), &a) == UV_EINVAL);
  CHECK(address_parse((struct str){"unix:/a\0b", 9}, &a) == UV_EINVAL);
  CHECK(address_parse((struct str){NULL, 0}, &a) == UV_EINVAL);
}

static void private_addresses_are_known_in_every_form(void) {
  static const char *const inside[] = {"127.0.0.1:1",        "10.1.2.3:1",        "172.31.0.1:1",
                                       "192.168.9.9:1",      "169.254.169.254:1", "0.0.0.0:1",
                                       "224.0.0.1:1",        "[::1]:1",           "[fe80::1]:1",
                                       "[fd00::1]:1",        "[ff02::1]:1",       ":1",
                                       "100.64.0.1:1",       "255.255.255.255:1", "[::ffff:10.0.0.1]:1",
                                       "[64:ff9b::a00:1]:1", "[::127.0.0.1]:1",   "unix:/x",
                                       "192.0.0.8:1",        "198.19.255.255:1",  "[2002:7f00:1::1]:1",
                                       "[::ffff:0:a00:1]:1", "[64:ff9b:1::1]:1",  "[2001::1]:1",
                                       "[fec0::1]:1",        "[fdff::1]:1",       "[::ffff:169.254.169.254]:1"};
  static const char *const outside[] = {
      "8.8.8.8:1",   "172.32.0.1:1",         "[2001:db8::1]:1",     "[::ffff:8.8.8.8]:1",   "198.20.0.1:1",
      "192.0.1.1:1", "[64:ff9b::808:808]:1", "[2002:808:808::1]:1", "[::ffff:0:8.8.8.8]:1", "[2606:4700::1111]:1"};
  union address a;
  for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
    CHECK(address_parse(str_of(inside[i]), &a) == 0 && address_is_private(&a));
  for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
    CHECK(address_parse(str_of(outside[i]), &a) == 0 && !address_is_private(&a));
}

static bool in_range(const char *range, const char *address) {
  struct address_range r;
  union address a;
  CHECK(range_parse(str_of(range), &r) == RANGE_FINE && address_parse(str_of(address), &a) == 0);
  return range_holds(&r, &a);
}

static void ranges_hold_what_is_in_them_however_it_is_written(void) {
  CHECK(in_range("10.0.0.0/8", "10.255.0.1:1") && !in_range("10.0.0.0/8", "11.0.0.1:1"));
  CHECK(in_range("10.0.0.0/8", "[::ffff:10.1.2.3]:1") && in_range("::ffff:10.0.0.0/104", "10.1.2.3:1"));
  CHECK(in_range("127.0.0.1", "127.0.0.1:9") && !in_range("127.0.0.1", "127.0.0.2:9"));
  CHECK(in_range("127.0.0.0/31", "127.0.0.1:9") && !in_range("127.0.0.0/31", "127.0.0.2:9"));
  CHECK(in_range("0.0.0.0/0", "8.8.8.8:1") && !in_range("0.0.0.0/0", "[::1]:1"));
  CHECK(in_range("::/0", "[::1]:1") && in_range("::/0", "[2001:db8::1]:1") && !in_range("::/0", "8.8.8.8:1"));
  CHECK(in_range("fd00::/8", "[fdff::1]:1") && !in_range("fd00::/8", "[fc00::1]:1"));
  CHECK(in_range("::1", "[::1]:1") && !in_range("::1", "127.0.0.1:1") && !in_range("::/0", "unix:/x"));
}

static void what_is_no_range_is_refused(void) {
  static const char *const bad[] = {"",           "x",       "10.0.0.0/33", "10.0.0.0/",   "10/8", "127.1",
                                    "::/129",     "[::1]/8", "10.0.0.0/8 ", "10.0.0.0/-1", "/8",   "10.0.0.0/08888",
                                    "010.0.0.0/8"};
  struct address_range r;
  char text[RANGE_TEXT];
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(range_parse(str_of(bad[i]), &r) == RANGE_WRONG);
  CHECK(range_parse(STR("10.1.2.3/8"), &r) == RANGE_HOST_BITS);
  range_format(&r, text, sizeof text);
  CHECK(strcmp(text, "10.0.0.0/8") == 0);
  CHECK(range_parse(STR("fd12::1/16"), &r) == RANGE_HOST_BITS);
  range_format(&r, text, sizeof text);
  CHECK(strcmp(text, "fd12::/16") == 0);
}

static void a_host_is_an_address_without_its_port(void) {
  static const char *const cases[][2] = {
      {"127.0.0.1:80", "127.0.0.1"},
      {"[::1]:80", "::1"},
      {"[::ffff:10.1.2.3]:80", "10.1.2.3"},
      {"[2001:db8:1111:2222:3333:4444:5555:6666]:1", "2001:db8:1111:2222:3333:4444:5555:6666"},
      {"unix:/run/x", "unix:"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    union address a;
    char host[ADDRESS_HOST];
    CHECK(address_parse(str_of(cases[i][0]), &a) == 0);
    address_host(&a, host);
    CHECK(strcmp(host, cases[i][1]) == 0);
  }
}

static void several_sockets_share_a_port_that_the_kernel_chose(void) {
  union address a, other;
  CHECK(address_parse(STR("127.0.0.1:0"), &a) == 0);
  int first = address_listen(&a, 16);
  CHECK(first >= 0 && a.in.sin_port != 0);
  other = a;
  int second = address_listen(&other, 16);
  CHECK(second >= 0 && other.in.sin_port == a.in.sin_port);
  CHECK((fcntl(first, F_GETFD) & FD_CLOEXEC) != 0 && (fcntl(first, F_GETFL) & O_NONBLOCK) != 0);
  close(first);
  close(second);
  CHECK(address_parse(STR("192.0.2.1:0"), &a) == 0);
  CHECK(address_listen(&a, 16) == UV_EADDRNOTAVAIL);
  CHECK(address_parse(STR(":0"), &a) == 0);
  int any = address_listen(&a, 16);
  CHECK(any >= 0);
  close(any);
}

static char dir[] = "/tmp/jeton_net_XXXXXX";
static char *in_dir(const char *name) {
  static char path[2][80];
  static unsigned turn;
  char *out = path[turn++ % 2];
  snprintf(out, sizeof path[0], "unix:%s/%s", dir, name);
  return out;
}

static void a_stale_unix_socket_is_replaced_a_living_one_is_not(void) {
  union address a;
  CHECK(address_parse(str_of(in_dir("stale")), &a) == 0);
  int fd = address_listen(&a, 16);
  CHECK(fd >= 0);
  CHECK(address_listen(&a, 16) == UV_EADDRINUSE);
  close(fd);
  fd = address_listen(&a, 16);
  CHECK(fd >= 0);
  close(fd);
  unlink(a.un.sun_path);
  fd = open(a.un.sun_path, O_CREAT | O_WRONLY, 0600);
  close(fd);
  CHECK(address_listen(&a, 16) == UV_EEXIST); /* a file is somebody's */
  unlink(a.un.sun_path);
}

/* --- streams --- */

static void loop_end(uv_loop_t *loop) {
  CHECK(uv_run(loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(loop) == 0);
}

enum { TOTAL = 6 * 1024 * 1024, HIGH_WATER = 128 * 1024, CHUNK = 50000 };

/* A listener, a client and the server's side of the connection on one loop; what the tests do differs in callbacks. */
static struct pair {
  uv_loop_t loop;
  struct net net;
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } listener;
  union address address;
  struct stream client, server;
  stream_read_fn server_read;
  stream_drain_fn server_drain;
  stream_open_fn client_open;
  size_t sent, received, echoed;
  unsigned stops, drains, closed;
  int open_status, client_end, server_end;
} * pair;

static uint8_t pattern(size_t at) { return (uint8_t)(at * 31 + at / 4096); }

static void on_stream_closed(struct stream *s) {
  (void)s;
  pair->closed++;
}
static void end_pair(void) {
  if (!pair->client.closing) stream_close(&pair->client, on_stream_closed);
  if (!pair->server.closing) stream_close(&pair->server, on_stream_closed);
}

static void on_connection(uv_stream_t *listener, int status) {
  CHECK(status == 0);
  CHECK(stream_init_accept(&pair->server, &pair->net, listener) == 0);
  pair->server.on_drain = pair->server_drain;
  uv_close((uv_handle_t *)listener, NULL);
  stream_read_start(&pair->server, pair->server_read);
}

static void on_client_open(struct stream *s, int status) {
  CHECK(status == 0 && s == &pair->client);
  stream_nodelay(s);
  pair->client_open(s, status);
}

static void small_buffers(struct stream *s) {
  int size = 8192;
  uv_send_buffer_size(&s->uv.handle, &size);
}

static void run_pair(const char *at, stream_open_fn client_open, stream_read_fn server_read,
                     stream_drain_fn server_drain) {
  pair = calloc(1, sizeof *pair);
  pair->client_open = client_open;
  pair->server_read = server_read;
  pair->server_drain = server_drain;
  CHECK(uv_loop_init(&pair->loop) == 0);
  net_init(&pair->net, &pair->loop);
  CHECK(address_parse(str_of(at), &pair->address) == 0);
  int fd = address_listen(&pair->address, 16);
  CHECK(fd >= 0);
  if (pair->address.sa.sa_family == AF_UNIX) {
    uv_pipe_init(&pair->loop, &pair->listener.pipe, 0);
    CHECK(uv_pipe_open(&pair->listener.pipe, fd) == 0);
    CHECK(stream_init_connect_unix(&pair->client, &pair->net, pair->address.un.sun_path, on_client_open) == 0);
  } else {
    uv_tcp_init(&pair->loop, &pair->listener.tcp);
    CHECK(uv_tcp_open(&pair->listener.tcp, fd) == 0);
    CHECK(stream_init_connect(&pair->client, &pair->net, &pair->address.sa, on_client_open) == 0);
  }
  CHECK(uv_listen(&pair->listener.stream, 16, on_connection) == 0);
  CHECK(uv_run(&pair->loop, UV_RUN_DEFAULT) == 0); /* ends when the test has closed both sides */
  CHECK(pair->closed == 2 && pair->net.queued == 0);
  CHECK(pair->client.queue == NULL && pair->server.queue == NULL);
  if (pair->address.sa.sa_family == AF_UNIX) unlink(pair->address.un.sun_path);
}
static void free_pair(void) {
  net_fini(&pair->net);
  CHECK(uv_loop_close(&pair->loop) == 0);
  free(pair);
}

/* echo: both sides obey backpressure; the client sends in odd pieces and checks each byte that comes back */

static void echo_read(struct stream *s, ssize_t n, const uint8_t *data) {
  if (n < 0) {
    pair->server_end = (int)n;
    stream_shutdown(s);
    return;
  }
  uv_buf_t b[3] = {uv_buf_init((char *)(uintptr_t)data, 1), uv_buf_init(NULL, 0),
                   uv_buf_init((char *)(uintptr_t)data + 1, (unsigned)n - 1)};
  CHECK(stream_write(s, b, 3, pair->echoed / 100000 % 2 == 0) == 0);
  pair->echoed += (size_t)n;
  if (stream_queued(s) <= HIGH_WATER) return;
  pair->stops++;
  stream_read_stop(s);
}
static void echo_drain(struct stream *s, int status) {
  CHECK(status == 0 && stream_queued(s) == 0);
  if (s->on_read == NULL && pair->server_end == 0) stream_read_start(s, echo_read);
}

static void client_produce(struct stream *s) {
  static uint8_t piece[CHUNK];
  while (pair->sent < TOTAL && stream_queued(s) <= HIGH_WATER) {
    size_t n = 1 + pair->sent % CHUNK;
    if (n > TOTAL - pair->sent) n = TOTAL - pair->sent;
    for (size_t i = 0; i < n; i++) piece[i] = pattern(pair->sent + i);
    uv_buf_t b = uv_buf_init((char *)piece, (unsigned)n);
    CHECK(stream_write(s, &b, 1, false) == 0);
    pair->sent += n;
  }
  if (pair->sent < TOTAL) return;
  stream_shutdown(s); /* with bytes still queued */
  stream_shutdown(s); /* twice is once */
  uv_buf_t b = uv_buf_init((char *)piece, 1);
  CHECK(stream_write(s, &b, 1, false) == UV_EPIPE);
}
static void client_drain(struct stream *s, int status) {
  CHECK(status == 0);
  pair->drains++;
  if (!s->eof_sent) client_produce(s);
}
static void client_check(struct stream *s, ssize_t n, const uint8_t *data) {
  if (n < 0) {
    pair->client_end = (int)n;
    CHECK(!s->reading && s->on_read == NULL);
    end_pair();
    return;
  }
  CHECK((data >= pair->net.scratch) && data + n <= pair->net.scratch + SCRATCH_SIZE);
  for (ssize_t i = 0; i < n; i++) CHECK(data[i] == pattern(pair->received + (size_t)i));
  pair->received += (size_t)n;
}
static void echo_open(struct stream *s, int status) {
  (void)status;
  small_buffers(s);
  s->on_drain = client_drain;
  stream_read_start(s, client_check);
  client_produce(s);
}

static void echo_over(const char *at) {
  run_pair(at, echo_open, echo_read, echo_drain);
  CHECK(pair->received == TOTAL && pair->echoed == TOTAL);
  CHECK(pair->server_end == UV_EOF && pair->client_end == UV_EOF);
  CHECK(pair->drains > 0);
  free_pair();
}
static void tcp_echoes_with_backpressure(void) { echo_over("127.0.0.1:0"); }
static void unix_sockets_echo_with_backpressure(void) { echo_over(in_dir("echo")); }

/* one small request and its reply: the price of an exchange */

static void reply_read(struct stream *s, ssize_t n, const uint8_t *data) {
  if (n < 0) {
    end_pair();
    return;
  }
  CHECK(n == 5 && memcmp(data, "hello", 5) == 0);
  uv_buf_t b = uv_buf_init((char *)(uintptr_t) "world", 5);
  CHECK(stream_write(s, &b, 1, false) == 0);
}
static void on_world(struct stream *s, ssize_t n, const uint8_t *data) {
  CHECK(n == 5 && memcmp(data, "world", 5) == 0);
  CHECK(pair->net.reads == 2 && pair->net.writes == 2);
  CHECK(stream_queued(s) == 0 && *stream_reason(s) == '\0');
  stream_close(s, on_stream_closed);
  stream_read_stop(s); /* all harmless afterwards */
  stream_shutdown(s);
  uv_buf_t b = uv_buf_init((char *)(uintptr_t) "late", 4);
  CHECK(stream_write(s, &b, 1, false) == ERR_CLOSED);
}
static void hello_open(struct stream *s, int status) {
  (void)status;
  uv_buf_t b[2] = {uv_buf_init((char *)(uintptr_t) "he", 2), uv_buf_init((char *)(uintptr_t) "llo", 3)};
  CHECK(stream_write(s, b, 2, false) == 0);
  CHECK(stream_queued(s) == 0 && s->queue == NULL);
  stream_read_start(s, on_world);
}
static void an_exchange_costs_two_reads_and_two_writes(void) {
  CHECK(sizeof(struct stream) <= 400);
  run_pair("127.0.0.1:0", hello_open, reply_read, NULL);
  free_pair();
  run_pair(in_dir("hello"), hello_open, reply_read, NULL);
  free_pair();
}

/* closing and resetting with bytes in the queue */

static void fill(struct stream *s, bool sensitive) {
  static char bytes[CHUNK];
  uv_buf_t b = uv_buf_init(bytes, CHUNK);
  small_buffers(s);
  while (stream_queued(s) < 40 * CHUNK) CHECK(stream_write(s, &b, 1, sensitive) == 0);
}
static void must_not_drain(struct stream *s, int status) {
  (void)status;
  CHECK(s == NULL); /* never called */
}
static void fill_and_close(struct stream *s, int status) {
  (void)status;
  s->on_drain = must_not_drain;
  fill(s, true);
  CHECK(pair->net.queued == stream_queued(s) && pair->net.queued >= 40 * CHUNK);
  stream_close(s, on_stream_closed);
}
static void fill_and_reset(struct stream *s, int status) {
  (void)status;
  fill(s, false);
  stream_reset(s, on_stream_closed);
}
static void until_end(struct stream *s, ssize_t n, const uint8_t *data) {
  (void)s, (void)data;
  if (n >= 0) return;
  pair->server_end = (int)n;
  end_pair();
}
static void closing_drops_the_queue(void) {
  run_pair("127.0.0.1:0", fill_and_close, until_end, NULL);
  CHECK(pair->server_end == UV_EOF);
  free_pair();
  run_pair(in_dir("close"), fill_and_close, until_end, NULL);
  free_pair();
}
static void a_reset_is_seen_as_one(void) {
  run_pair("127.0.0.1:0", fill_and_reset, until_end, NULL);
  CHECK(pair->server_end == UV_ECONNRESET);
  free_pair();
}

/* a peer that resets while we have bytes queued */
static void on_broken(struct stream *s, int status) {
  CHECK(s == &pair->client && status < 0 && stream_queued(s) == 0);
  pair->client_end = status;
  end_pair();
}
static void fill_and_wait(struct stream *s, int status) {
  (void)status;
  s->on_drain = on_broken;
  fill(s, true);
}
static void reset_at_once(struct stream *s, ssize_t n, const uint8_t *data) {
  (void)n, (void)data;
  stream_reset(s, on_stream_closed);
}
static void a_failed_write_is_told_through_drain(void) {
  run_pair("127.0.0.1:0", fill_and_wait, reset_at_once, NULL);
  CHECK(pair->client_end < 0);
  free_pair();
}

/* --- connecting --- */

static int opened_with;
static unsigned opened, closed_streams;
static void on_closed(struct stream *s) {
  (void)s;
  closed_streams++;
}
static void on_failed_open(struct stream *s, int status) {
  opened++;
  opened_with = status;
  stream_close(s, on_closed);
}

static int connect_to(const char *to, bool close_first) {
  uv_loop_t loop;
  struct net net;
  struct stream s = {0};
  union address a;
  opened = closed_streams = 0;
  opened_with = 0;
  CHECK(uv_loop_init(&loop) == 0);
  net_init(&net, &loop);
  CHECK(address_parse(str_of(to), &a) == 0);
  int rc = a.sa.sa_family == AF_UNIX ? stream_init_connect_unix(&s, &net, a.un.sun_path, on_failed_open)
                                     : stream_init_connect(&s, &net, &a.sa, on_failed_open);
  CHECK(rc == 0 && opened == 0);
  if (close_first) stream_close(&s, on_closed);
  loop_end(&loop);
  CHECK(opened == (close_first ? 0 : 1) && closed_streams == 1);
  net_fini(&net);
  return opened_with;
}

static void a_failed_connect_is_told_once_and_later(void) {
  CHECK(connect_to("127.0.0.1:1", false) == UV_ECONNREFUSED);
  CHECK(connect_to("255.255.255.255:1", false) < 0); /* connect(2) itself fails */
  CHECK(connect_to(in_dir("nothing"), false) == UV_ENOENT);
}
static void closing_comes_before_any_opening(void) {
  connect_to("127.0.0.1:1", true);
  connect_to("255.255.255.255:1", true);
  connect_to(in_dir("nothing"), true);
}
static void a_path_that_is_too_long_needs_no_close(void) {
  struct net net = {0};
  struct stream s = {0};
  char path[200] = {0};
  memset(path, 'x', sizeof path - 1);
  CHECK(stream_init_connect_unix(&s, &net, path, on_failed_open) == UV_ENAMETOOLONG);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN); /* as the program does */
  CHECK(mkdtemp(dir) != NULL);
  RUN(addresses_parse_and_format);
  RUN(what_is_no_address_is_refused);
  RUN(private_addresses_are_known_in_every_form);
  RUN(ranges_hold_what_is_in_them_however_it_is_written);
  RUN(what_is_no_range_is_refused);
  RUN(a_host_is_an_address_without_its_port);
  RUN(several_sockets_share_a_port_that_the_kernel_chose);
  RUN(a_stale_unix_socket_is_replaced_a_living_one_is_not);
  RUN(tcp_echoes_with_backpressure);
  RUN(unix_sockets_echo_with_backpressure);
  RUN(an_exchange_costs_two_reads_and_two_writes);
  RUN(closing_drops_the_queue);
  RUN(a_reset_is_seen_as_one);
  RUN(a_failed_write_is_told_through_drain);
  RUN(a_failed_connect_is_told_once_and_later);
  RUN(closing_comes_before_any_opening);
  RUN(a_path_that_is_too_long_needs_no_close);
  CHECK(rmdir(dir) == 0); /* nothing is left behind */
  return 0;
}
