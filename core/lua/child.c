/* child.c: see child.h.
 *
 * Invariants: `open` counts the handles that are not closed; the memory goes at the last close. `done` is NULL once it has been called or the process
 * was cancelled: from then on only the child's end matters. One timer serves the limit, then the grace, then the linger: never two of them at once.
 * Buffers are sensitive: what passes here is often a credential. */
#include "lua/child.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/must.h"

enum { CHILD_READ = 4096 };

struct capture {
  uv_pipe_t pipe;
  struct child *owner;
  struct buf data;
  size_t max;
  bool open;
};
struct child {
  uv_process_t process;
  uv_timer_t timer;
  uv_pipe_t in;
  struct capture out, err;
  uv_write_t write;
  struct buf input;
  struct charge charge;
  unsigned open;
  bool started, exited, in_open, ended;
  int start_error;
  int64_t status;
  int signal;
  void (*done)(void *arg, const struct child_result *r);
  void *arg;
};

static void on_timer(uv_timer_t *t);

static void on_closed(uv_handle_t *h) {
  struct child *p = h->data;
  if (--p->open > 0) return;
  buf_fini(&p->out.data);
  buf_fini(&p->err.data);
  buf_fini(&p->input);
  charge_end(&p->charge);
  free(p);
}

static void close_in(struct child *p) {
  if (p->in_open) uv_close((uv_handle_t *)&p->in, on_closed);
  p->in_open = false;
}

static void close_capture(struct capture *c) {
  if (c->open) uv_close((uv_handle_t *)&c->pipe, on_closed);
  c->open = false;
}

/* Signals the whole group, since other processes that the child started would hold the pipes open. */
static void signal_group(struct child *p, int signum) { (void)kill(-p->process.pid, signum); }

static void close_all(struct child *p) {
  close_in(p);
  close_capture(&p->out);
  close_capture(&p->err);
  if (!uv_is_closing((uv_handle_t *)&p->process)) uv_close((uv_handle_t *)&p->process, on_closed);
  if (!uv_is_closing((uv_handle_t *)&p->timer)) uv_close((uv_handle_t *)&p->timer, on_closed);
}

/* No caller waits any more: only the child's own end is still to come. */
static void let_go(struct child *p) {
  p->ended = true;
  if (p->exited || !p->started) {
    close_all(p);
    return;
  }
  close_in(p);
  close_capture(&p->out);
  close_capture(&p->err);
  signal_group(p, SIGTERM);
  (void)uv_timer_start(&p->timer, on_timer, CHILD_GRACE_MS, 0);
}

/* The process may take a while to end, and its input to be given up: what it wrote is of no use any more. */
static void drop_output(struct child *p) {
  buf_fini(&p->out.data);
  buf_fini(&p->err.data);
  charge_keep(&p->charge, CHARGE_CHILD + p->input.n);
}

static void end(struct child *p, int error) {
  void (*done)(void *arg, const struct child_result *r) = p->done;
  if (done == NULL) return;
  struct child_result r = {.error = error,
                           .status = p->status,
                           .signal = p->signal,
                           .out = buf_str(&p->out.data),
                           .err = buf_str(&p->err.data)};
  p->done = NULL;
  let_go(p); /* closing is deferred: the buffers live until the loop goes on */
  done(p->arg, &r);
  drop_output(p);
}

void child_cancel(struct child *p) {
  p->done = NULL;
  let_go(p);
  drop_output(p);
}

static void on_timer(uv_timer_t *t) {
  struct child *p = t->data;
  if (!p->started)
    end(p, p->start_error);
  else if (p->ended)
    signal_group(p, SIGKILL);
  else if (p->exited)
    end(p, 0); /* something that the child started keeps a pipe open: not ours to wait for */
  else
    end(p, UV_ETIMEDOUT);
}

static void maybe_complete(struct child *p) {
  if (!p->exited || p->ended) return;
  if (!p->out.open && !p->err.open)
    end(p, 0);
  else
    (void)uv_timer_start(&p->timer, on_timer, CHILD_LINGER_MS, 0);
}

static void on_exit_status(uv_process_t *process, int64_t status, int signum) {
  struct child *p = process->data;
  p->exited = true;
  p->status = status;
  p->signal = signum;
  if (p->ended)
    close_all(p);
  else
    maybe_complete(p);
}

static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
  (void)suggested;
  struct capture *c = CONTAINER_OF(h, struct capture, pipe);
  *out = uv_buf_init((char *)buf_reserve(&c->data, CHILD_READ), CHILD_READ);
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
  (void)b;
  struct capture *c = CONTAINER_OF(s, struct capture, pipe);
  if (n > 0) {
    c->data.n += (size_t)n;
    if (c->data.n > c->max)
      end(c->owner, ERR_LIMIT);
    else if (c->owner->charge.account != NULL && !charge_more(&c->owner->charge, (size_t)n))
      end(c->owner, UV_ENOMEM);
  } else if (n < 0) {
    close_capture(c);
    maybe_complete(c->owner);
  }
}

static void on_written(uv_write_t *w, int status) {
  (void)status; /* a child need not read its input */
  close_in(w->data);
}

/* --- starting --- */

static void init_capture(struct capture *c, struct child *p, uv_loop_t *loop, size_t max) {
  c->owner = p;
  c->max = max;
  buf_init(&c->data);
  c->data.sensitive = true;
  (void)uv_pipe_init(loop, &c->pipe, 0);
  c->pipe.data = p;
  c->open = true;
  p->open++;
}

static void init_input(struct child *p, uv_loop_t *loop, struct str in) {
  buf_init(&p->input);
  p->input.sensitive = true;
  if (in.p == NULL) return;
  buf_adds(&p->input, in);
  (void)uv_pipe_init(loop, &p->in, 0);
  p->in.data = p;
  p->in_open = true;
  p->open++;
}

static int spawn(struct child *p, uv_loop_t *loop, const struct child_settings *s) {
  uv_stdio_container_t streams[3] = {
      {.flags = UV_IGNORE},
      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->out.pipe},
      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->err.pipe},
  };
  if (p->in_open) {
    streams[0].flags = UV_CREATE_PIPE | UV_READABLE_PIPE;
    streams[0].data.stream = (uv_stream_t *)&p->in;
  }
  uv_process_options_t options = {.exit_cb = on_exit_status,
                                  .file = s->argv[0],
                                  .args = s->argv,
                                  .env = s->env,
                                  .cwd = s->cwd,
                                  .flags = UV_PROCESS_DETACHED, /* a group of its own, so that all of it can be ended */
                                  .stdio_count = 3,
                                  .stdio = streams};
  int rc = uv_spawn(loop, &p->process, &options);
  p->process.data = p; /* it wants closing even when it did not start */
  p->open++;
  return rc;
}

static void start_streams(struct child *p) {
  (void)uv_read_start((uv_stream_t *)&p->out.pipe, on_room, on_output);
  (void)uv_read_start((uv_stream_t *)&p->err.pipe, on_room, on_output);
  if (!p->in_open) return;
  uv_buf_t b = uv_buf_init((char *)p->input.p, (unsigned)p->input.n);
  p->write.data = p;
  if (p->input.n == 0 || uv_write(&p->write, (uv_stream_t *)&p->in, &b, 1, on_written) != 0) close_in(p);
}

struct child *child_start(uv_loop_t *loop, const struct child_settings *s,
                          void (*done)(void *arg, const struct child_result *r), void *arg) {
  struct child *p = must_calloc(1, sizeof *p);
  p->done = done;
  p->arg = arg;
  p->charge = s->charge;
  (void)uv_timer_init(loop, &p->timer);
  p->timer.data = p;
  p->open++;
  init_capture(&p->out, p, loop, s->out_max);
  init_capture(&p->err, p, loop, s->err_max);
  init_input(p, loop, s->in);
  p->start_error = spawn(p, loop, s);
  p->started = p->start_error == 0;
  if (p->started) start_streams(p);
  (void)uv_timer_start(&p->timer, on_timer, p->started ? s->timeout_ms : 0, 0);
  return p;
}
