/* library_server.h: the HTTP server that library_test.c talks to, on the same loop. It answers by path:
 *   /echo   200, the request as it came      /json   200, a JSON object       /big    200, 2 MiB       /slow   never
 *   /token  an OAuth 2.0 token endpoint: see test_token       /last   200, the last request to /token
 *   /302?P  /307?P  a redirect to /P          /away  /away307  a redirect to "localhost", another origin of the same server */
#ifndef JETON_SPEC_LIBRARY_SERVER_H
#define JETON_SPEC_LIBRARY_SERVER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "check.h"

struct test_server {
  uv_tcp_t tcp;
  int port;
  struct link peers;
  struct buf last;
};
struct test_peer {
  uv_tcp_t tcp;
  struct link link;
  struct test_server *server;
  struct buf in;
};
struct test_reply {
  uv_write_t write;
  struct buf out;
};

static void on_test_written(uv_write_t *w, int status) {
  (void)status;
  struct test_reply *r = w->data;
  buf_fini(&r->out);
  free(r);
}

static void test_reply(struct test_peer *p, const char *head, struct str body) {
  struct test_reply *r = calloc(1, sizeof *r);
  CHECK(r != NULL);
  buf_init(&r->out);
  buf_addf(&r->out, "HTTP/1.1 %s\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: %zu\r\n\r\n", head, body.n);
  buf_adds(&r->out, body);
  r->write.data = r;
  uv_buf_t b = uv_buf_init((char *)r->out.p, (unsigned)r->out.n);
  CHECK(uv_write(&r->write, (uv_stream_t *)&p->tcp, &b, 1, on_test_written) == 0);
}

static void test_redirect(struct test_peer *p, const char *status, const char *target, size_t n) {
  char head[300];
  (void)snprintf(head, sizeof head, "%s Found\r\nLocation: %.*s", status, (int)n, target);
  test_reply(p, head, (struct str){"", 0});
}

/* Refresh token r1 gives a1 and r2; r2 gives a2 and no new one; others are invalid. Scope "bad" is refused, "odd" answers without a lifetime,
 * "html" with what is not JSON. */
static void test_token(struct test_peer *p, struct str request) {
  static const char *const replies[][3] = {
      {"refresh_token=r1", "200 OK",
       "{\"access_token\":\"a1\",\"expires_in\":60,\"refresh_token\":\"r2\",\"token_type\":\"Bearer\"}"},
      {"refresh_token=r2", "200 OK", "{\"access_token\":\"a2\",\"expires_in\":\"60\",\"token_type\":\"bearer\"}"},
      {"refresh_token=", "400 Bad Request", "{\"error\":\"invalid_grant\",\"error_description\":\"no\\nsuch token\"}"},
      {"scope=bad", "401 Unauthorized", "{\"error\":\"invalid_client\",\"access_token\":\"leak\"}"},
      {"scope=odd", "200 OK", "{\"access_token\":\"cc\",\"expires_in\":null}"},
      {"scope=html", "200 OK", "<html>leak</html>"},
      {"scope=jwt", "200 OK",
       "{\"access_token\":\"e30.eyJleHAiOjEzMDA4MTkzODB9.c2ln\"}"}, /* {} and {"exp":1300819380} */
      {"scope=mac", "200 OK", "{\"access_token\":\"leak\",\"token_type\":\"mac\",\"expires_in\":60}"},
      {"", "200 OK", "{\"access_token\":\"cc\",\"expires_in\":60}"},
  };
  buf_reset(&p->server->last);
  buf_adds(&p->server->last, request);
  const char *text = buf_z(&p->server->last);
  size_t i = 0;
  while (strstr(text, replies[i][0]) == NULL) i++;
  test_reply(p, replies[i][1], str_of(replies[i][2]));
}

static void test_answer(struct test_peer *p, struct str request) {
  static char big[2 << 20];
  char away[64];
  const char *path = memchr(request.p, ' ', request.n);
  CHECK(path != NULL);
  path++;
  const char *mark = strpbrk(path, "? ");
  (void)snprintf(away, sizeof away, "http://localhost:%d/echo", p->server->port);
  if (strncmp(path, "/echo", 5) == 0)
    test_reply(p, "200 OK\r\nContent-Type: text/plain", request);
  else if (strncmp(path, "/json", 5) == 0)
    test_reply(p, "200 OK", STR("{\"a\":42,\"b\":1.5,\"c\":[1,2]}"));
  else if (strncmp(path, "/token", 6) == 0)
    test_token(p, request);
  else if (strncmp(path, "/last", 5) == 0)
    test_reply(p, "200 OK", buf_str(&p->server->last));
  else if (strncmp(path, "/big", 4) == 0)
    test_reply(p, "200 OK", (struct str){big, sizeof big});
  else if (strncmp(path, "/away307", 8) == 0)
    test_redirect(p, "307", away, strlen(away));
  else if (strncmp(path, "/away", 5) == 0)
    test_redirect(p, "302", away, strlen(away));
  else if (strncmp(path, "/30", 3) == 0) {
    char status[4] = {path[1], path[2], path[3], '\0'};
    test_redirect(p, status, mark + 1, strcspn(mark + 1, " "));
  }
}

/* Whole requests only; lengths, not chunks: that is what the client under test sends. */
static void test_consume(struct test_peer *p) {
  for (;;) {
    (void)buf_z(&p->in);
    char *end = p->in.n > 0 ? strstr((char *)p->in.p, "\r\n\r\n") : NULL;
    if (end == NULL) return;
    size_t head = (size_t)(end - (char *)p->in.p) + 4, length = 0;
    for (char *line = (char *)p->in.p; line < end; line = strstr(line, "\r\n") + 2)
      if (strncasecmp(line, "content-length:", 15) == 0) length = strtoul(line + 15, NULL, 10);
    if (p->in.n < head + length) return;
    test_answer(p, (struct str){(char *)p->in.p, head + length});
    buf_drop(&p->in, head + length);
  }
}

static void on_test_peer_closed(uv_handle_t *h) {
  struct test_peer *p = CONTAINER_OF(h, struct test_peer, tcp);
  buf_fini(&p->in);
  free(p);
}

static void test_peer_close(struct test_peer *p) {
  list_remove(&p->link);
  uv_close((uv_handle_t *)&p->tcp, on_test_peer_closed);
}

static void on_test_room(uv_handle_t *h, size_t suggested, uv_buf_t *b) {
  (void)suggested;
  struct test_peer *p = CONTAINER_OF(h, struct test_peer, tcp);
  *b = uv_buf_init((char *)buf_reserve(&p->in, 4096), 4096);
}

static void on_test_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
  (void)b;
  struct test_peer *p = CONTAINER_OF(s, struct test_peer, tcp);
  if (n < 0) {
    test_peer_close(p);
    return;
  }
  p->in.n += (size_t)n;
  test_consume(p);
}

static void on_test_connection(uv_stream_t *s, int status) {
  struct test_server *server = CONTAINER_OF(s, struct test_server, tcp);
  CHECK(status == 0);
  struct test_peer *p = calloc(1, sizeof *p);
  CHECK(p != NULL);
  p->server = server;
  buf_init(&p->in);
  list_push(&server->peers, &p->link);
  CHECK(uv_tcp_init(s->loop, &p->tcp) == 0);
  CHECK(uv_accept(s, (uv_stream_t *)&p->tcp) == 0);
  CHECK(uv_read_start((uv_stream_t *)&p->tcp, on_test_room, on_test_read) == 0);
}

static void test_server_start(struct test_server *s, uv_loop_t *loop) {
  struct sockaddr_in a;
  int n = (int)sizeof a;
  list_init(&s->peers);
  buf_init(&s->last);
  CHECK(uv_ip4_addr("127.0.0.1", 0, &a) == 0);
  CHECK(uv_tcp_init(loop, &s->tcp) == 0);
  CHECK(uv_tcp_bind(&s->tcp, (struct sockaddr *)&a, 0) == 0);
  CHECK(uv_listen((uv_stream_t *)&s->tcp, 16, on_test_connection) == 0);
  CHECK(uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&a, &n) == 0);
  s->port = (int)ntohs(a.sin_port);
}

static void test_server_stop(struct test_server *s) {
  uv_close((uv_handle_t *)&s->tcp, NULL);
  buf_fini(&s->last);
  while (!list_empty(&s->peers)) test_peer_close(CONTAINER_OF(s->peers.next, struct test_peer, link));
}

#endif
