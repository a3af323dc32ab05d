/* tls_child.h: for the tests of TLS against the openssl command: it runs as a child of the lab's loop. */
#ifndef JETON_SPEC_TLS_CHILD_H
#define JETON_SPEC_TLS_CHILD_H

#include "tls_lab.h"

struct child {
  uv_process_t process;
  uv_pipe_t out;
  char text[32768];
  size_t n;
  bool exited, eof;
  int64_t status;
};
static inline void on_child_exit(uv_process_t *p, int64_t status, int signal) {
  struct child *k = p->data;
  (void)signal;
  k->exited = true;
  k->status = status;
  uv_close((uv_handle_t *)p, NULL);
}
static inline void on_child_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b) {
  struct child *k = h->data;
  (void)suggested;
  *b = uv_buf_init(k->text + k->n, (unsigned)(sizeof k->text - 1 - k->n));
}
static inline void on_child_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
  struct child *k = s->data;
  (void)b;
  if (n > 0) k->n += (size_t)n;
  k->text[k->n] = '\0';
  if (n >= 0) return;
  k->eof = true;
  uv_close((uv_handle_t *)s, NULL);
}
static inline void child_start(struct lab *l, struct child *k, const char *command) {
  char *args[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
  memset(k, 0, sizeof *k);
  uv_pipe_init(&l->loop, &k->out, 0);
  k->process.data = k->out.data = k;
  uv_stdio_container_t io[3] = {{.flags = UV_IGNORE},
                                {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&k->out},
                                {.flags = UV_IGNORE}};
  uv_process_options_t o = {
      .file = "sh", .args = args, .stdio_count = 3, .stdio = io, .exit_cb = on_child_exit, .cwd = dir};
  CHECK(uv_spawn(&l->loop, &k->process, &o) == 0);
  CHECK(uv_read_start((uv_stream_t *)&k->out, on_child_alloc, on_child_read) == 0);
}
static inline void child_wait(struct lab *l, struct child *k) {
  while (!k->exited || !k->eof) uv_run(&l->loop, UV_RUN_ONCE);
}
static inline void child_stop(struct lab *l, struct child *k) {
  if (!k->exited) uv_process_kill(&k->process, SIGTERM);
  child_wait(l, k);
}
static inline void child_expect(struct lab *l, struct child *k, const char *text) {
  while (strstr(k->text, text) == NULL && !k->eof) uv_run(&l->loop, UV_RUN_ONCE);
  expect_text(k->text, text);
}

/* Runs `openssl s_client OPTIONS` against the server; the server answers what it sends and closes. */
static inline void s_client_of(struct tls_server *s, enum tls_alpn alpn, const char *options, struct child *k,
                               struct lab *l) {
  char command[512];
  lab_init(l, NULL, s, NULL);
  l->s.alpn = alpn;
  l->s.echo = l->s.eof_after_echo = true;
  snprintf(command, sizeof command,
           "echo hello | openssl s_client -connect 127.0.0.1:%u -CAfile ca.pem -ign_eof %s 2>&1",
           ntohs(l->address.sin_port), options);
  child_start(l, k, command);
  child_wait(l, k);
}

static inline void s_client(struct tls_server *s, const char *options, struct child *k, struct lab *l) {
  s_client_of(s, TLS_ALPN_H1, options, k, l);
}

/* Starts `openssl s_server`, which answers each line with its reverse, and dials it. */
static inline void dial_s_server(struct lab *l, struct child *k, const char *options) {
  char command[256];
  snprintf(command, sizeof command, "exec openssl s_server -accept 127.0.0.1:0 -rev -naccept 1 %s", options);
  child_start(l, k, command);
  child_expect(l, k, "ACCEPT 127.0.0.1:");
  while (strchr(strstr(k->text, "ACCEPT"), '\n') == NULL) uv_run(&l->loop, UV_RUN_ONCE);
  dial(l, (uint16_t)atoi(strstr(k->text, "ACCEPT 127.0.0.1:") + 17));
}

static inline bool client_decided(const struct lab *l) { return l->c.opened <= 0; }

#endif
