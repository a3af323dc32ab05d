/* pass_test.c: bytes that go from one stream to another within the kernel, over TCP and Unix sockets. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "net/stream.h"

enum { BULK = 64 * 1024, HIGH_WATER = 128 * 1024 };

/* source → from, which the loop reads and passes on → to → sink. The ends are ours, without a loop. */
static struct relay {
  uv_loop_t loop;
  struct net net;
  struct stream from, to;
  int source, sink;
  uint64_t most;       /* what every read wishes for the next */
  size_t passed, seen; /* bytes that from's owner heard of, and that it had in hand */
  size_t sent, arrived;
  size_t last; /* what the last read brought */
  int end, broken;
  unsigned closed;
} * r;

static uint8_t pattern(size_t at) { return (uint8_t)(at * 31 + at / 4096); }

static void tcp_pair(int ends[2]) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  int l = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(bind(l, (struct sockaddr *)&a, n) == 0 && listen(l, 1) == 0 && getsockname(l, (struct sockaddr *)&a, &n) == 0);
  ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(ends[0], (struct sockaddr *)&a, n) == 0);
  ends[1] = accept(l, NULL, NULL);
  CHECK(ends[1] >= 0);
  close(l);
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  if (n < 0) {
    r->end = (int)n;
    return;
  }
  r->last = (size_t)n;
  if (data == NULL) {
    r->passed += (size_t)n;
  } else {
    uv_buf_t b = uv_buf_init((char *)(uintptr_t)data, (unsigned)n);
    for (ssize_t i = 0; i < n; i++) CHECK(data[i] == pattern(r->passed + r->seen + (size_t)i));
    r->seen += (size_t)n;
    if (!r->to.closing) (void)stream_write(&r->to, &b, 1, false);
  }
  if (stream_queued(&r->to) > HIGH_WATER) stream_read_stop(s);
  if (r->most > 0 && !r->to.closing) stream_pass_on(s, &r->to, r->most);
}

static void on_drain(struct stream *s, int status) {
  (void)s;
  if (status < 0)
    r->broken = status;
  else
    stream_read_start(&r->from, on_read);
}

static void begin(bool is_unix, uint64_t most) {
  int in[2], out[2];
  r = calloc(1, sizeof *r);
  r->most = most;
  if (is_unix) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, in) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, out) == 0);
  } else {
    tcp_pair(in);
    tcp_pair(out);
  }
  CHECK(uv_loop_init(&r->loop) == 0);
  net_init(&r->net, &r->loop);
  r->source = in[0];
  r->sink = out[0];
  CHECK(fcntl(r->source, F_SETFL, O_NONBLOCK) == 0 && fcntl(r->sink, F_SETFL, O_NONBLOCK) == 0);
  stream_init_socket(&r->from, &r->net, in[1], is_unix);
  stream_init_socket(&r->to, &r->net, out[1], is_unix);
  r->to.on_drain = on_drain;
  stream_read_start(&r->from, on_read);
}

static void on_closed(struct stream *s) {
  (void)s;
  r->closed++;
}

static void end(void) {
  if (!r->from.closing) stream_close(&r->from, on_closed);
  if (!r->to.closing) stream_close(&r->to, on_closed);
  CHECK(uv_run(&r->loop, UV_RUN_DEFAULT) == 0 && r->closed == 2 && r->net.queued == 0);
  net_fini(&r->net);
  CHECK(uv_loop_close(&r->loop) == 0);
  close(r->source);
  close(r->sink);
  free(r);
}

/* Up to n bytes more, as the socket takes them. */
static void send_some(size_t n) {
  uint8_t bytes[BULK];
  if (n > sizeof bytes) n = sizeof bytes;
  for (size_t i = 0; i < n; i++) bytes[i] = pattern(r->sent + i);
  ssize_t took = send(r->source, bytes, n, MSG_NOSIGNAL);
  if (took > 0) r->sent += (size_t)took;
}

/* What has come at the sink, up to n bytes of it; each must be the one that was sent at its place. */
static void take_some(size_t n) {
  uint8_t bytes[BULK];
  ssize_t got = recv(r->sink, bytes, n < sizeof bytes ? n : sizeof bytes, 0);
  for (ssize_t i = 0; i < got; i++) CHECK(bytes[i] == pattern(r->arrived + (size_t)i));
  if (got > 0) r->arrived += (size_t)got;
}

static void turn(void) { uv_run(&r->loop, UV_RUN_NOWAIT); }

/* Sends up to `total` bytes; the sink takes `bite` a turn, and nothing at all in every other thousand of them. */
static void relay_all(size_t total, size_t bite) {
  for (unsigned i = 0; r->arrived < total; i++) {
    CHECK(i < 10 * 1000 * 1000);
    if (r->sent < total) send_some(total - r->sent);
    turn();
    if (i / 1000 % 2 == 0) take_some(bite);
  }
  CHECK(r->arrived == total && r->passed + r->seen == total);
}

static void all_arrives_in_order(bool is_unix, size_t bite) {
  begin(is_unix, UINT64_MAX);
  relay_all(8 * 1024 * 1024, bite);
  CHECK(r->passed > r->seen);
  end();
}
static void tcp_passes_on(void) { all_arrives_in_order(false, BULK); }
static void unix_sockets_pass_on(void) { all_arrives_in_order(true, BULK); }
static void a_slow_reader_gets_all_in_order(void) {
  all_arrives_in_order(false, 5000);
  all_arrives_in_order(true, 5000);
}

static void no_more_passes_than_was_asked_for(void) {
  begin(true, 1000);
  for (int i = 0; i < 4; i++) send_some(BULK);
  for (int i = 0; i < 100; i++) {
    size_t before = r->passed;
    turn();
    take_some(BULK);
    CHECK(r->passed - before <= 1000);
  }
  CHECK(r->passed > 0 && r->seen > 0);
  relay_all(r->sent, BULK);
  end();
}

static void small_reads_are_not_passed_on(void) {
  begin(false, UINT64_MAX);
  for (int i = 0; i < 200; i++) {
    send_some(100);
    turn();
    take_some(BULK);
  }
  relay_all(r->sent, BULK);
  CHECK(r->passed == 0);
  end();
}

static void until_armed(void) {
  for (int i = 0; r->from.pass_to == NULL; i++) {
    CHECK(i < 1000000);
    send_some(BULK);
    turn();
    take_some(BULK);
  }
}

static void the_end_is_told_as_ever(void) {
  begin(false, UINT64_MAX);
  until_armed();
  shutdown(r->source, SHUT_WR);
  for (int i = 0; r->end == 0; i++) {
    CHECK(i < 1000000);
    turn();
    take_some(BULK);
  }
  CHECK(r->end == UV_EOF && r->passed + r->seen == r->sent);
  end();
}

static void a_stream_that_closes_is_forgotten(void) {
  begin(false, UINT64_MAX);
  until_armed();
  stream_close(&r->to, on_closed);
  CHECK(r->from.pass_to == NULL);
  size_t seen = r->seen;
  for (int i = 0; r->seen == seen; i++) {
    CHECK(i < 1000000);
    send_some(BULK);
    turn();
  }
  end();
  begin(false, UINT64_MAX);
  until_armed();
  stream_close(&r->from, on_closed);
  CHECK(r->to.pass_from == NULL);
  end();
}

/* What was in the pipe then is nobody's: the next bytes through it are another connection's. */
static void a_broken_receiver_is_told_through_drain_and_leaves_nothing_behind(void) {
  begin(false, UINT64_MAX);
  until_armed();
  close(r->sink);
  for (int i = 0; r->broken == 0; i++) {
    CHECK(i < 1000000);
    if (r->from.pass_to == NULL) stream_pass_on(&r->from, &r->to, UINT64_MAX);
    send_some(BULK);
    turn();
  }
  CHECK(r->broken == UV_EPIPE || r->broken == UV_ECONNRESET);
  uint8_t byte;
  CHECK(r->net.splice.out < 0 || (read(r->net.splice.out, &byte, 1) < 0 && errno == EAGAIN));
  r->sink = dup(r->source);
  end();
}

static void without_a_pipe_it_is_read_as_ever(void) {
  begin(false, UINT64_MAX);
  r->net.splice.refused = true;
  relay_all(1024 * 1024, BULK);
  CHECK(r->passed == 0);
  end();
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN);
  RUN(tcp_passes_on);
  RUN(unix_sockets_pass_on);
  RUN(a_slow_reader_gets_all_in_order);
  RUN(no_more_passes_than_was_asked_for);
  RUN(small_reads_are_not_passed_on);
  RUN(the_end_is_told_as_ever);
  RUN(a_stream_that_closes_is_forgotten);
  RUN(a_broken_receiver_is_told_through_drain_and_leaves_nothing_behind);
  RUN(without_a_pipe_it_is_read_as_ever);
  return 0;
}
