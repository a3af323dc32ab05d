/* exchange_log.c: the end of an exchange as others see it: counters, the access log's line, the on_log hook.
 *
 * A line is made of words that cannot be taken for one another: what the client wrote stands between quotes, and no quote, backslash, control byte or byte
 * beyond ASCII stands there as it is. So nobody can end the quotes and write a status of his own. A request that could not be read is logged with the first
 * line that it sent, whatever that is.
 *
 * A tunnel outlives its exchange, and is logged when it has ended. What its line needs is kept as text (struct tunnel_record), some hundred bytes, and not the
 * exchange, which is two pages. It pins its policy only if that has an on_log, whose entry is made at the beginning, while the exchange is there,
 * and completed at the end. */
#include <stdio.h>
#include <stdlib.h>

#include "base/access.h"
#include "base/chars.h"
#include "base/log.h"
#include "base/must.h"
#include "proxy/client.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/stamp.h"
#include "proxy/worker_state.h"

int exchange_status(const struct exchange *ex) {
  return ex->replied && ex->failure.grpc == 0 ? ex->response.status : ex->failure.status;
}

const char *exchange_asked(const struct exchange *ex) { return ex->asked != NULL ? ex->asked->conf->name : NULL; }

/* --- words of a line --- */

enum {
  SHOWN_MAX = 512, /* bytes of a target, or of a line that could not be read */
  METHOD_MAX = 32,
  ESCAPED = 4, /* \x22 */
  WHAT_MAX = ESCAPED * SHOWN_MAX + 64,
  WHOSE_MAX = 160,
  LINE_SIZE = WHAT_MAX + WHOSE_MAX + 256
};
_Static_assert(LINE_SIZE < 4096, "a line goes into a pipe whole");

struct words { /* text that is being written; the room is enough by construction */
  char *at;
};

static void put(struct words *w, struct str s) {
  memcpy(w->at, s.p, s.n);
  w->at += s.n;
}

static void put_number(struct words *w, uint64_t n) {
  char digits[20];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + n % 10);
    n /= 10;
  } while (n > 0);
  put(w, (struct str){digits + at, sizeof digits - at});
}

static bool goes_as_it_is(unsigned char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

/* What a client wrote, between quotes. */
static void put_foreign(struct words *w, struct str s) {
  static const char hex[] = "0123456789ABCDEF";
  if (s.n > SHOWN_MAX) s.n = SHOWN_MAX;
  for (size_t i = 0; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];
    if (goes_as_it_is(c)) {
      *w->at++ = (char)c;
      continue;
    }
    char escape[ESCAPED] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
    put(w, (struct str){escape, sizeof escape});
  }
}

static void put_request(struct words *w, const struct exchange *ex) {
  /* HTTP/2 as other servers log it, and as programs that read such logs expect it */
  static const struct str protocols[] = {
      [HTTP_1_0] = {" HTTP/1.0", 9}, [HTTP_1_1] = {" HTTP/1.1", 9}, [HTTP_2] = {" HTTP/2.0", 9}};
  const struct request *r = &ex->request;
  if (ex->unread.p != NULL || r->method.p == NULL) {
    put_foreign(w, ex->unread.n > 0 ? ex->unread : STR("-"));
    return;
  }
  put(w,
      (struct str){r->method.p, r->method.n < METHOD_MAX ? r->method.n : METHOD_MAX}); /* one of those that are known */
  put(w, STR(" "));
  put_foreign(w, r->target);
  put(w, protocols[r->version]);
}

/* "GET / HTTP/1.1" 200, the quotes included. */
static struct str what(const struct exchange *ex, char out[WHAT_MAX]) {
  struct words w = {out};
  put(&w, STR("\""));
  put_request(&w, ex);
  put(&w, STR("\" "));
  put_number(&w, (unsigned)exchange_status(ex));
  return (struct str){out, (size_t)(w.at - out)};
}

/* default 5d0f29c4a1b37e02 grpc=14 */
static struct str whose(const struct exchange *ex, char out[WHOSE_MAX]) {
  static const char *const ended[] = {[REPLY_WHOLE] = "", [REPLY_CUT] = " cut", [REPLY_ABORTED] = " aborted"};
  const char *asked = exchange_asked(ex);
  char grpc[16] = "";
  if (ex->failure.grpc != 0) (void)snprintf(grpc, sizeof grpc, " grpc=%d", ex->failure.grpc);
  int n = snprintf(out, WHOSE_MAX, "%.100s %016llx%s%s%s%s", asked != NULL ? asked : "-", (unsigned long long)ex->id,
                   ex->replays > 0 ? " replayed" : "", ex->retries > 0 ? " retried" : "", grpc, ended[ex->down->ended]);
  return (struct str){out, (size_t)n};
}

struct line {
  struct str client, what, whose;
  uint64_t sent;
  int64_t started_us;
  const uint64_t *received; /* of a tunnel; NULL: of none */
};

static void write_line(struct worker *w, const struct line *l) {
  char text[LINE_SIZE];
  struct words to = {text};
  uint64_t us = uv_hrtime() / 1000 - (uint64_t)l->started_us;
  char fraction[3] = {(char)('0' + us % 1000 / 100), (char)('0' + us % 100 / 10), (char)('0' + us % 10)};
  put(&to, stamp_iso(&w->stamp));
  put(&to, STR(" "));
  put(&to, l->client);
  put(&to, STR(" "));
  put(&to, l->what);
  put(&to, STR(" "));
  put_number(&to, l->sent);
  put(&to, STR(" "));
  put_number(&to, us / 1000);
  put(&to, STR("."));
  put(&to, (struct str){fraction, sizeof fraction});
  put(&to, STR("ms "));
  put(&to, l->whose);
  if (l->received != NULL) {
    put(&to, STR(" received="));
    put_number(&to, *l->received);
  }
  access_line(&w->access->log, text, (size_t)(to.at - text));
}

static void count_reply(struct worker *w, int status) {
  COUNT(w, responses[status >= 100 && status < 600 ? status / 100 : 0], 1);
}

static void on_log_done(void *arg, lua_State *L, int nresults, int status, const char *message) {
  (void)arg, (void)L, (void)nresults;
  if (status != 0) log_error("on_log: %s", message);
}

/* --- the end of an exchange --- */

/* What can be said of a line that was not read: a method and a target, if it has such words. */
static void read_words(struct exchange *ex) {
  struct str s = ex->unread;
  const char *space = s.n > 0 ? memchr(s.p, ' ', s.n) : NULL;
  struct str method = {s.p, space != NULL ? (size_t)(space - s.p) : s.n};
  if (method.n == 0 || !chars_all(method, CHAR_TOKEN)) return;
  ex->request.method = method;
  if (space == NULL) return;
  struct str target = {space + 1, s.n - method.n - 1};
  const char *end = memchr(target.p, ' ', target.n), *mark;
  if (end != NULL) target.n = (size_t)(end - target.p);
  ex->request.target = ex->request.path = target;
  mark = memchr(target.p, '?', target.n);
  if (mark == NULL) return;
  ex->request.path.n = (size_t)(mark - target.p);
  ex->request.query = (struct str){mark + 1, target.n - ex->request.path.n - 1};
}

void exchange_log(struct exchange *ex) {
  struct worker *w = ex->worker;
  const struct runtime *r = ex->runtime;
  char what_text[WHAT_MAX], whose_text[WHOSE_MAX];
  if (ex->unread.n > 0 && ex->request.path.p == NULL) read_words(ex);
  count_reply(w, exchange_status(ex));
  COUNT(w, bytes_out, ex->down->sent);
  if (ex->down->ended == REPLY_ABORTED) COUNT(w, client_aborts, 1);
  if (ex->down->ended == REPLY_CUT) COUNT(w, replies_cut, 1);
  if (w->access != NULL)
    write_line(w, &(struct line){.client = client_address(ex->down->conn),
                                 .what = what(ex, what_text),
                                 .whose = whose(ex, whose_text),
                                 .sent = ex->down->sent,
                                 .started_us = ex->started_us});
  if (r->policy->hooks[HOOK_LOG]) /* it gets a table of its own, so it may outlive the exchange */
    task_start(r->vm, r->binding.hooks[HOOK_LOG], l_exchange_push_log, on_log_done, ex, NULL);
}

/* --- the end of a tunnel --- */

struct tunnel_record {
  struct worker *worker;
  int64_t started_us;
  int status;
  uint64_t sent, received; /* by the exchange: the head; a body */
  /* its VM keeps the entry for on_log, at the record's address in the registry; NULL: there is none */
  struct runtime *runtime;
  size_t client, what, whose; /* lengths of the three texts, which lie behind one another */
  char text[];
};

/* Index 1: the exchange; its entry is kept under the address that is given with it. */
struct keeping {
  struct exchange *ex;
  const struct tunnel_record *record;
};

static int keep_entry(lua_State *L) {
  const struct keeping *k = lua_touserdata(L, 1);
  l_exchange_push_log(L, k->ex);
  lua_rawsetp(L, LUA_REGISTRYINDEX, k->record);
  return 0;
}

static void keep_for_hook(struct tunnel_record *t, struct exchange *ex) {
  struct keeping k = {ex, t};
  const char *message;
  if (!ex->runtime->policy->hooks[HOOK_LOG]) return;
  if (vm_call(ex->runtime->vm, keep_entry, &k, &message) == 0)
    t->runtime = runtime_ref(ex->runtime);
  else
    log_error("on_log: %s", message);
}

struct tunnel_record *exchange_log_keep(struct exchange *ex) {
  char what_text[WHAT_MAX], whose_text[WHOSE_MAX];
  struct str client = client_address(ex->down->conn), w = what(ex, what_text), o = whose(ex, whose_text);
  struct tunnel_record *t = must_calloc(1, sizeof *t + client.n + w.n + o.n);
  struct words to = {t->text};
  put(&to, client);
  put(&to, w);
  put(&to, o);
  t->client = client.n;
  t->what = w.n;
  t->whose = o.n;
  t->worker = ex->worker;
  t->started_us = ex->started_us;
  t->status = exchange_status(ex);
  t->sent = ex->down->sent;
  t->received = ex->body.seen;
  COUNT(t->worker, bytes_out, t->sent);
  keep_for_hook(t, ex);
  return t;
}

static int push_kept(lua_State *L, void *arg) {
  struct tunnel_record *t = arg;
  lua_rawgetp(L, LUA_REGISTRYINDEX, t);
  l_exchange_complete_log(L, t->received, t->sent, t->started_us);
  return 1;
}

static int forget_kept(lua_State *L) {
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, lua_touserdata(L, 1));
  return 0;
}

static void run_hook(struct tunnel_record *t) {
  struct runtime *r = t->runtime;
  const char *message;
  task_start(r->vm, r->binding.hooks[HOOK_LOG], push_kept, on_log_done, t, NULL);
  if (vm_call(r->vm, forget_kept, t, &message) != 0) log_error("on_log: %s", message);
  runtime_unref(r);
}

void tunnel_record_end(struct tunnel_record *t, uint64_t received, uint64_t sent) {
  t->received += received;
  t->sent += sent;
  count_reply(t->worker, t->status);
  if (t->worker->access != NULL)
    write_line(t->worker, &(struct line){.client = {t->text, t->client},
                                         .what = {t->text + t->client, t->what},
                                         .whose = {t->text + t->client + t->what, t->whose},
                                         .sent = t->sent,
                                         .started_us = t->started_us,
                                         .received = &t->received});
  if (t->runtime != NULL) run_hook(t);
  free(t);
}
