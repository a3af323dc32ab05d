/* base_test.c: the modules of core/base. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/access.h"
#include "base/arena.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/later.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/must.h"
#include "base/rand.h"
#include "base/secmem.h"
#include "base/sink.h"
#include "base/str.h"
#include "base/units.h"
#include "base/wheel.h"
#include "check.h"

static void loop_end(uv_loop_t *loop) { /* every handle must have been closed */
  CHECK(uv_run(loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(loop) == 0);
}

/* --- err, str, units, rand, clock --- */

static void every_code_has_a_name_and_a_sentence(void) {
  for (int code = ERR_PROTOCOL; code >= ERR_SECRET_SOURCE; code--) {
    CHECK(strcmp(err_name(code), "UNKNOWN") != 0);
    CHECK(strcmp(err_text(code), "unknown error") != 0);
  }
  CHECK(strcmp(err_name(ERR_TOKEN_EXPIRED), "TOKEN_EXPIRED") == 0);
  CHECK(strcmp(err_name(UV_ECONNREFUSED), "ECONNREFUSED") == 0);
  CHECK(strcmp(err_text(UV_ECONNREFUSED), "connection refused") == 0);
  CHECK(strcmp(err_text(UV_EAI_NONAME), "no such host name") == 0);
  CHECK(strcmp(err_text(-123456), "unknown error") == 0);
}

static void slices_compare_trim_and_convert(void) {
  unsigned long long v;
  CHECK(str_ieq(STR("Content-Length"), STR("cONTENT-lENGTH")));
  CHECK(!str_ieq(STR("[a"), STR("{a")));
  CHECK(str_starts(STR("unix:/x"), STR("unix:")) && !str_starts(STR("un"), STR("unix:")));
  CHECK(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")) && str_trim(STR(" \t")).n == 0);
  CHECK(str_to_u64(STR("18446744073709551615"), &v) && v == UINT64_MAX);
  CHECK(!str_to_u64(STR("18446744073709551616"), &v) && !str_to_u64(STR("+1"), &v));
  CHECK(!str_to_u64(STR(""), &v) && !str_to_u64(STR("1 "), &v));
}

static void distance_counts_edits_and_swaps(void) {
  CHECK(str_distance(STR("upstream"), STR("upstream")) == 0);
  CHECK(str_distance(STR("upstraem"), STR("upstream")) == 1);
  CHECK(str_distance(STR("listen"), STR("lissten")) == 1);
  CHECK(str_distance(STR(""), STR("abc")) == 3);
  CHECK(str_distance(STR("0123456789012345678901234567890123456789"), STR("x")) == 32);
}

static void units_read_what_users_write(void) {
  int64_t ms;
  uint64_t n;
  CHECK(units_duration_ms(STR("250ms"), &ms) && ms == 250);
  CHECK(units_duration_ms(STR("2"), &ms) && ms == 2000);
  CHECK(units_duration_ms(STR("1.5s"), &ms) && ms == 1500);
  CHECK(units_duration_ms(STR("0.25m"), &ms) && ms == 15000);
  CHECK(units_duration_ms(STR("1d"), &ms) && ms == 86400000);
  CHECK(units_duration_ms(STR("0.3333333333333333s"), &ms) && ms == 333);
  CHECK(!units_duration_ms(STR("s"), &ms) && !units_duration_ms(STR("-1s"), &ms) &&
        !units_duration_ms(STR("1.s"), &ms));
  CHECK(!units_duration_ms(STR("1 s"), &ms) && !units_duration_ms(STR("99999999999999999d"), &ms));
  CHECK(units_size(STR("64k"), &n) && n == 65536);
  CHECK(units_size(STR("1MB"), &n) && n == 1048576);
  CHECK(units_size(STR("12"), &n) && n == 12);
  CHECK(!units_size(STR("18446744073709551615k"), &n) && !units_size(STR("1x"), &n) && !units_size(STR(""), &n));
}

static void randomness_is_seedable_and_in_range(void) {
  struct rng a, b;
  rng_seed(&a, 7);
  rng_seed(&b, 7);
  for (int i = 0; i < 1000; i++) {
    CHECK(rng_next(&a) == rng_next(&b));
    double unit = rng_unit(&a);
    CHECK(unit >= 0 && unit < 1 && rng_below(&a, 3) < 3);
    rng_unit(&b), rng_below(&b, 3);
  }
  uint8_t bytes[64] = {0}, zero[64] = {0};
  random_bytes(bytes, sizeof bytes);
  CHECK(memcmp(bytes, zero, sizeof bytes) != 0);
  CHECK(clock_boot_ms() > 0 && clock_mono_us() > 0 && clock_wall_ms() > INT64_C(1600000000000));
}

/* --- arena, buf, secmem --- */

static int order[4], norder;
static void note(void *arg) { order[norder++] = *(int *)arg; }

static void an_arena_grows_aligns_and_cleans_up_in_reverse(void) {
  _Alignas(16) uint8_t first[200];
  int numbers[] = {1, 2, 3};
  struct arena a;
  arena_init(&a, first + 1, sizeof first - 1);
  for (int round = 0; round < 3; round++) {
    norder = 0;
    for (int i = 0; i < 3; i++) arena_defer(&a, note, &numbers[i]);
    CHECK(a.used == 0);
    for (size_t n = 0; n < 3000; n += 7) {
      uint8_t *p = arena_alloc(&a, n);
      CHECK((uintptr_t)p % 16 == 0);
      memset(p, 0xaa, n);
    }
    memset(arena_alloc(&a, 200000), 1, 200000);
    struct str copy = arena_dup(&a, STR("abc"));
    CHECK(str_eq(copy, STR("abc")) && copy.p[3] == '\0');
    CHECK(str_eq(arena_printf(&a, "%d-%s", 5, "x"), STR("5-x")));
    CHECK(a.used > 200000);
    arena_reset(&a);
    CHECK(norder == 3 && order[0] == 3 && order[2] == 1 && a.used == 0);
  }
}

static void an_arena_needs_no_first_block(void) {
  struct arena a;
  arena_init(&a, NULL, 0);
  CHECK(str_eq(arena_dup(&a, STR("abc")), STR("abc")));
  arena_reset(&a);
}

static void a_buffer_grows_and_drops(void) {
  for (int sensitive = 0; sensitive < 2; sensitive++) {
    struct buf b;
    buf_init(&b);
    b.sensitive = sensitive != 0;
    buf_addz(&b, "hello ");
    buf_addf(&b, "%0500d", 7);
    CHECK(b.n == 506);
    buf_drop(&b, 505);
    CHECK(strcmp(buf_z(&b), "7") == 0 && b.n == 1);
    for (int i = 0; i < 100000; i++) buf_addz(&b, "x");
    CHECK(b.n == 100001 && b.p[100000] == 'x');
    buf_reset(&b);
    CHECK(b.n == 0 && b.cap > 100000 && (!sensitive || b.p[1000] == 0));
    buf_fini(&b);
  }
}

static void a_buffer_made_sensitive_late_is_freed_as_it_was_allocated(void) {
  struct buf b;
  buf_init(&b);
  buf_addz(&b, "plain");
  b.sensitive = true;
  buf_addf(&b, "%04000d", 1);
  b.sensitive = false;
  CHECK(b.n == 4005 && b.secret);
  buf_fini(&b);
}

static void secret_memory_is_zero_aligned_and_reused(void) {
  static const size_t sizes[] = {1, 16, 32, 33, 100, 4096, 16384, 16385, 70000};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t n = sizes[i];
    for (int k = 0; k < 300; k++) {
      unsigned char *p = secmem_alloc(n);
      CHECK((uintptr_t)p % 16 == 0);
      for (size_t j = 0; j < n; j++) CHECK(p[j] == 0);
      memset(p, 0x5a, n);
      secmem_free(p, n);
    }
  }
  void *p = secmem_alloc(100);
  secmem_free(p, 100);
  CHECK(secmem_alloc(100) == p);
  secmem_free(p, 100);
  secmem_free(NULL, 0);
}

static unsigned unlocked_reports;
static void on_unlocked(enum secmem_use use) { unlocked_reports += use == SECMEM_KEPT; }

/* Root may lock as much as it likes: there is nothing to report then. */
static void secret_memory_reports_once_that_it_cannot_be_locked(void) {
  enum { LARGE = 1 << 20 };
  struct rlimit old, none;
  CHECK(getrlimit(RLIMIT_MEMLOCK, &old) == 0);
  none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
  CHECK(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED);
  bool locks = mlock(page, 4096) == 0;
  CHECK(munmap(page, 4096) == 0);
  secmem_on_unlocked(on_unlocked);
  for (int i = 0; i < 2; i++) secmem_free(secmem_alloc(LARGE), LARGE);
  CHECK(unlocked_reports == (locks ? 0 : 1));
  secmem_on_unlocked(NULL);
  CHECK(setrlimit(RLIMIT_MEMLOCK, &old) == 0);
}

static void *secmem_thread(void *arg) {
  unsigned char mark = (unsigned char)(uintptr_t)arg;
  unsigned char *held[16] = {0};
  for (unsigned i = 0; i < 5000; i++) {
    unsigned char **at = &held[i % 16];
    if (*at != NULL) {
      for (size_t j = 0; j < 200; j++) CHECK((*at)[j] == mark);
      secmem_free(*at, 200);
    }
    *at = secmem_alloc(200);
    memset(*at, mark, 200);
  }
  for (unsigned i = 0; i < 16; i++) secmem_free(held[i], 200);
  return NULL;
}

static void secret_memory_serves_several_threads(void) {
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, secmem_thread, (void *)(i + 1)) == 0);
  for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* --- memory that there has to be --- */

static void what_must_be_there_is_never_null(void) {
  char *p = must_malloc(0), *q = must_calloc(0, 8), *copy = must_dup((struct str){"ab\0c", 4}), *z = must_strdup("ab");
  CHECK(p != NULL && q != NULL && (p = must_realloc(p, 0)) != NULL);
  CHECK(memcmp(copy, "ab\0c", 5) == 0 && strcmp(z, "ab") == 0);
  must_free(p);
  must_free(q);
  must_free(copy);
  must_free(z);
  must_free(NULL);
}

static void memory_that_runs_out_says_so_and_ends_the_process(void) {
  int ends[2], status;
  char text[128];
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) {
    (void)dup2(ends[1], STDERR_FILENO);
    out_of_memory(4096);
  }
  (void)close(ends[1]);
  ssize_t n = read(ends[0], text, sizeof text);
  CHECK(n > 0 && str_eq((struct str){text, (size_t)n}, STR("jeton: out of memory: 4096 bytes were asked for\n")));
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  (void)close(ends[0]);
}

/* --- hashes --- */

static struct str counting(char bytes[64], size_t n) {
  for (size_t i = 0; i < 64; i++) bytes[i] = (char)i;
  return (struct str){bytes, n};
}

/* The key is 00 01 … 0f, the text 00 01 …: appendix A of the paper has 15 bytes, the authors' vectors.h the other two, and the tests of Rust's library
 * those of 1-3. */
static void siphash_gives_what_is_published(void) {
  char bytes[64];
  struct hash_key k = {{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};
  CHECK(siphash(&k, counting(bytes, 15), 2, 4) == UINT64_C(0xa129ca6149be45e5));
  CHECK(siphash(&k, counting(bytes, 0), 2, 4) == UINT64_C(0x726fdb47dd0e0e31));
  CHECK(siphash(&k, counting(bytes, 63), 2, 4) == UINT64_C(0x958a324ceb064572));
  CHECK(siphash(&k, counting(bytes, 0), 1, 3) == UINT64_C(0xabac0158050fc4dc));
  CHECK(hash_keyed(&k, counting(bytes, 0)) == UINT64_C(0xabac0158050fc4dc));
  CHECK(hash_keyed(&k, counting(bytes, 63)) == siphash(&k, counting(bytes, 63), 1, 3));
}

static void two_tables_hash_the_same_text_differently(void) {
  struct hash_key a, b;
  hash_key_init(&a);
  hash_key_init(&b);
  CHECK(hash_keyed(&a, STR("acme")) != hash_keyed(&b, STR("acme")));
}

/* --- log --- */

/* Runs fn with stderr in a file and gives what it wrote. */
static const char *capture(void (*fn)(void)) {
  static char text[32768];
  char name[] = "/tmp/jeton_log_XXXXXX";
  int file = mkstemp(name), saved = dup(STDERR_FILENO);
  CHECK(file >= 0 && saved >= 0);
  unlink(name);
  dup2(file, STDERR_FILENO);
  fn();
  dup2(saved, STDERR_FILENO);
  ssize_t n = pread(file, text, sizeof text - 1, 0);
  CHECK(n >= 0);
  text[n] = '\0';
  close(file);
  close(saved);
  return text;
}

static void write_forged(void) {
  log_info("a\nb\x1b[0m \xc3\xa9 \xff \xc2\x9b");
  log_from(LOG_ERROR, "policy.lua:12", "%s", "boom");
  log_debug("not wanted");
}
static void write_long(void) { log_info("%0*d", 20000, 1); }

static void a_text_line_cannot_be_forged(void) {
  log_configure(&(struct log_settings){LOG_INFO, LOG_TEXT});
  const char *out = capture(write_forged);
  CHECK(strlen(out) > 25 && out[4] == '-' && out[10] == 'T' && out[23] == 'Z');
  CHECK(strcmp(strchr(out, ' '), strstr(out, " info  a\\x0ab\\x1b[0m \xc3\xa9 \\xff \\xc2\\x9b\n")) == 0);
  CHECK(strstr(out, " error policy.lua:12: boom\n") != NULL);
  CHECK(strstr(out, "not wanted") == NULL);
  CHECK(strstr(capture(write_long), " bytes cut off]\n") != NULL);
}

static void a_json_line_is_json(void) {
  log_configure(&(struct log_settings){LOG_INFO, LOG_JSON});
  const char *out = capture(write_forged);
  CHECK(strncmp(out, "{\"time\":\"2", 10) == 0);
  CHECK(strstr(out, "\",\"level\":\"info\",\"message\":\"a\\nb\\u001b[0m \xc3\xa9 \\ufffd \\u009b\"}\n") != NULL);
  CHECK(strstr(out, "\"level\":\"error\",\"source\":\"policy.lua:12\",\"message\":\"boom\"}\n") != NULL);
  log_configure(&(struct log_settings){LOG_OFF, LOG_TEXT});
  CHECK(*capture(write_forged) == '\0' && !log_wants(LOG_ERROR));
  log_configure(&(struct log_settings){LOG_INFO, LOG_TEXT});
}

static void json_strings_escape_and_replace(void) {
  struct buf b;
  buf_init(&b);
  json_add_string(&b, STR("q\"\\\t\x7f\xed\xa0\x80\xf0\x9f\x99\x82"));
  CHECK(str_eq(buf_str(&b), STR("\"q\\\"\\\\\\t\\u007f\\ufffd\\ufffd\\ufffd\xf0\x9f\x99\x82\"")));
  buf_reset(&b);
  json_add_string(&b, (struct str){0});
  CHECK(str_eq(buf_str(&b), STR("\"\"")));
  buf_fini(&b);
}

static void a_json_string_in_pieces_is_the_same(void) {
  struct buf b;
  char out[JSON_ESCAPE_MAX];
  buf_init(&b);
  json_add_string(&b, STR("a\"\\\n\r\t\x01\x1f\x7f \xc3\xa9/"));
  size_t at = 1;
  for (const char *c = "a\"\\\n\r\t\x01\x1f\x7f \xc3\xa9/"; *c != '\0'; c++) {
    unsigned n = json_escape_byte((unsigned char)*c, out);
    CHECK(n <= sizeof out && memcmp(b.p + at, out, n) == 0);
    at += n;
  }
  CHECK(at + 1 == b.n);
  buf_fini(&b);
}

static void base64_in_groups_is_the_same(void) {
  static const char text[] = "light w\0rk.\xff\xfe";
  char whole[64], pieces[64], back[64];
  for (enum base64_form form = BASE64_PADDED; form <= BASE64_URL; form++) {
    for (size_t n = 0; n < sizeof text; n++) {
      size_t made = base64_encode(form, text, n, whole), m = 0, decoded;
      for (size_t i = 0; i < n; i += BASE64_GROUP)
        m += base64_encode(form, text + i, n - i < BASE64_GROUP ? n - i : BASE64_GROUP, pieces + m);
      CHECK(made <= base64_room(n) && m == made && memcmp(whole, pieces, m) == 0);
      CHECK(base64_decode(form, (struct str){whole, made}, back, &decoded) == NULL);
      CHECK(decoded == n && memcmp(back, text, n) == 0);
    }
  }
  size_t n;
  CHECK(base64_encode(BASE64_URL, "\xfb\xff", 2, whole) == 3 && memcmp(whole, "-_8", 3) == 0);
  CHECK(base64_decode(BASE64_URL, STR("+/8"), back, &n) != NULL);
  CHECK(base64_decode(BASE64_PADDED, STR("Zm9="), back, &n) != NULL); /* bits left over */
}

/* --- access log --- */

static size_t file_size(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 ? (size_t)st.st_size : SIZE_MAX;
}

static void the_access_log_is_written_in_time_and_on_close(void) {
  char dir[] = "/tmp/jeton_access_XXXXXX", path[64], moved[64];
  CHECK(mkdtemp(dir) != NULL);
  snprintf(path, sizeof path, "%s/log", dir);
  snprintf(moved, sizeof moved, "%s/log.1", dir);
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  struct access_log a;
  CHECK(access_open(&a, &loop, "/nonexistent/log") == UV_ENOENT);
  CHECK(access_open(&a, &loop, path) == 0);
  access_line(&a, "one", 3);
  CHECK(file_size(path) == 0);
  uv_run(&loop, UV_RUN_DEFAULT); /* ends when the timer has fired: nothing waits then */
  CHECK(file_size(path) == 4);
  for (int i = 0; i < 20000; i++) access_line(&a, "0123456", 7);
  CHECK(file_size(path) > 60000 && file_size(path) < 160004);
  CHECK(rename(path, moved) == 0);
  CHECK(access_reopen(&a) == 0);
  CHECK(file_size(moved) == 160004 && file_size(path) == 0);
  access_line(&a, "last", 4);
  access_close(&a);
  CHECK(file_size(path) == 5 && a.lost == 0);
  loop_end(&loop);
  unlink(path);
  unlink(moved);
  rmdir(dir);
}

static struct access_log to_pipe;
static void fill_pipe(void) {
  for (int i = 0; i < 20000; i++) access_line(&to_pipe, "0123456789", 10);
  access_flush(&to_pipe);
}

static void a_full_pipe_loses_whole_lines_only(void) {
  int fds[2];
  CHECK(pipe2(fds, 0) == 0); /* which blocks, as those of a shell do */
  CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
  int saved = dup(STDOUT_FILENO);
  fflush(stdout);
  dup2(fds[1], STDOUT_FILENO);
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  CHECK(access_open(&to_pipe, &loop, NULL) == 0);
  CHECK(strstr(capture(fill_pipe), "lines are being lost") != NULL);
  CHECK(to_pipe.lost > 0 && to_pipe.buf.n > 0);
  char text[65536];
  ssize_t n;
  size_t lines = 0, at = 0;
  for (int end = 0; end < 2; end++) {
    while ((n = read(fds[0], text, sizeof text)) > 0)
      for (ssize_t i = 0; i < n; i++, at = (at + 1) % 11) {
        CHECK(text[i] == "0123456789\n"[at]);
        lines += at == 10;
      }
    if (end == 0) access_close(&to_pipe);
  }
  CHECK(at == 0 && lines + to_pipe.lost == 20000);
  dup2(saved, STDOUT_FILENO);
  close(saved);
  close(fds[0]);
  close(fds[1]);
  loop_end(&loop);
}

/* A descriptor whose file cannot be opened anew: asked first, and never waited for. */
static void a_sink_never_waits(void) {
  int pipes[2], pair[2];
  static uint8_t bytes[2 * 1024 * 1024];
  CHECK(pipe2(pipes, 0) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  struct sink asked = {pipes[1], SINK_ASKED}, sent, opened;
  sink_open(&sent, pair[1]);
  sink_open(&opened, pipes[1]);
  CHECK(sent.kind == SINK_SOCKET && opened.kind == SINK_OPENED && opened.fd != pipes[1]);
  CHECK(sink_write(&asked, bytes, sizeof bytes) == PIPE_BUF);
  const struct sink *full[] = {&asked, &opened, &sent};
  for (size_t i = 0; i < 3; i++) {
    while (sink_write(full[i], bytes, sizeof bytes) > 0) continue;
    CHECK(errno == EAGAIN);
  }
  CHECK((fcntl(pipes[1], F_GETFL) & O_NONBLOCK) == 0 && (fcntl(pair[1], F_GETFL) & O_NONBLOCK) == 0);
  sink_close(&opened);
  CHECK(fcntl(pipes[1], F_GETFD) >= 0);
  for (int i = 0; i < 2; i++) close(pipes[i]), close(pair[i]);
}

static void events_that_were_not_taken_are_counted(void) {
  int fds[2];
  char text[65536];
  CHECK(pipe2(fds, 0) == 0 && fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
  int saved = dup(STDERR_FILENO);
  dup2(fds[1], STDERR_FILENO);
  log_open();
  for (int i = 0; i < 3000; i++) log_info("event %d of many, which are more than a pipe takes", i);
  while (read(fds[0], text, sizeof text) > 0) continue;
  log_info("again");
  dup2(saved, STDERR_FILENO);
  log_open();
  ssize_t n = read(fds[0], text, sizeof text - 1);
  CHECK(n > 0);
  text[n] = '\0';
  unsigned missing = 0;
  const char *told = strstr(text, " warn  ");
  CHECK(strstr(text, "again\n") != NULL && told != NULL);
  CHECK(sscanf(told, " warn %u events are missing above", &missing) == 1);
  CHECK(missing > 1000 && missing < 3000);
  close(saved);
  close(fds[0]);
  close(fds[1]);
}

/* --- wheel --- */

struct timed {
  struct timeout t;
  uint64_t due, fired;
  int count;
};
static void on_timed(struct timeout *t) {
  struct timed *x = CONTAINER_OF(t, struct timed, t);
  x->fired = uv_now(t->wheel->timer.loop);
  x->count++;
}
static void arm(struct timed *x, uint64_t ms) {
  x->due = uv_now(x->t.wheel->timer.loop) + ms;
  timeout_set(&x->t, ms);
}

static void deadlines_are_never_early_and_can_move(void) {
  uv_loop_t loop;
  struct wheel w;
  enum { N = 60 };
  static struct timed x[N];
  CHECK(uv_loop_init(&loop) == 0);
  wheel_init(&w, &loop);
  for (unsigned i = 0; i < N; i++) {
    timeout_init(&x[i].t, &w, on_timed);
    arm(&x[i], 1 + i * 4);
  }
  arm(&x[0], 150);        /* later: only noted */
  arm(&x[N - 1], 5);      /* earlier: moved */
  timeout_clear(&x[1].t); /* cleared and armed again */
  arm(&x[1], 90);
  timeout_clear(&x[2].t); /* cleared for good */
  timeout_fini(&x[3].t);
  timeout_set(&x[4].t, 0);
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0); /* ends: the wheel stops ticking when it is empty */
  for (unsigned i = 0; i < N; i++) {
    if (i >= 2 && i <= 4) {
      CHECK(x[i].count == 0);
      continue;
    }
    CHECK(x[i].count == 1 && x[i].fired >= x[i].due);
    CHECK(x[i].t.due == 0);
  }
  CHECK(w.entries == 0 && !w.ticking);
  wheel_close(&w);
  loop_end(&loop);
}

static struct timed *victim;
static void on_due_end_other(struct timeout *t) {
  (void)t;
  timeout_fini(&victim->t);
  free(victim);
  victim = NULL;
}

static void a_deadline_may_end_another_that_is_due_as_well(void) {
  uv_loop_t loop;
  struct wheel w;
  struct timeout killer;
  CHECK(uv_loop_init(&loop) == 0);
  wheel_init(&w, &loop);
  victim = calloc(1, sizeof *victim);
  timeout_init(&killer, &w, on_due_end_other);
  timeout_init(&victim->t, &w, on_timed);
  timeout_set(&killer, 30);
  arm(victim, 30);
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(victim == NULL);
  struct timeout left;
  timeout_init(&left, &w, on_due_end_other);
  timeout_set(&left, UINT64_MAX);
  timeout_clear(&left);
  wheel_close(&w); /* unlinks what has been cleared */
  timeout_fini(&left);
  loop_end(&loop);
}

/* --- mailbox --- */

enum { POSTERS = 4, POSTS = 5000 };
struct numbered {
  struct mail mail;
  unsigned poster, number;
};
struct meeting {
  struct mailbox mb;
  struct numbered mails[POSTERS][POSTS];
  unsigned next[POSTERS], delivered;
};
static struct meeting meeting;

static void on_numbered(struct mail *m) {
  struct numbered *n = CONTAINER_OF(m, struct numbered, mail);
  CHECK(n->number == meeting.next[n->poster]++);
  if (++meeting.delivered == POSTERS * POSTS) mailbox_close(&meeting.mb);
}
static void *poster_main(void *arg) {
  struct numbered *mails = arg;
  for (unsigned i = 0; i < POSTS; i++) mailbox_post(&meeting.mb, &mails[i].mail);
  return NULL;
}

static void mails_of_many_threads_arrive_once_and_in_order(void) {
  uv_loop_t loop;
  pthread_t threads[POSTERS];
  CHECK(uv_loop_init(&loop) == 0);
  CHECK(mailbox_init(&meeting.mb, &loop) == 0);
  for (unsigned p = 0; p < POSTERS; p++) {
    for (unsigned i = 0; i < POSTS; i++) {
      mail_init(&meeting.mails[p][i].mail, on_numbered);
      meeting.mails[p][i].poster = p;
      meeting.mails[p][i].number = i;
    }
    CHECK(pthread_create(&threads[p], NULL, poster_main, meeting.mails[p]) == 0);
  }
  loop_end(&loop);
  for (unsigned p = 0; p < POSTERS; p++) CHECK(pthread_join(threads[p], NULL) == 0);
  CHECK(meeting.delivered == POSTERS * POSTS);
}

/* A thread posts into memory that the mailbox's thread cancels and frees: what is cancelled is never delivered, and what is
 * not is delivered exactly once. */
struct racing {
  struct mail mail;
  atomic_bool posted;
};
static struct {
  struct mailbox mb;
  _Atomic(struct racing *) handed; /* to the poster */
  unsigned delivered, cancelled, rounds;
  struct racing *live;
  uv_idle_t idle;
} race;
enum { ROUNDS = 20000 };

static void on_racing(struct mail *m) {
  struct racing *r = CONTAINER_OF(m, struct racing, mail);
  CHECK(r == race.live);
  while (!atomic_load(&r->posted)) continue; /* mailbox_post has yet to return in the other thread */
  race.live = NULL;
  race.delivered++;
  free(r);
}
static void *racer_main(void *arg) {
  (void)arg;
  for (unsigned done = 0; done < ROUNDS;) {
    struct racing *r = atomic_exchange(&race.handed, NULL);
    if (r == NULL) continue;
    mailbox_post(&race.mb, &r->mail);
    atomic_store(&r->posted, true);
    done++;
  }
  return NULL;
}
static void on_idle(uv_idle_t *idle) {
  if (race.live != NULL) { /* of the last round, perhaps posted by now */
    if (!mailbox_cancel(&race.mb, &race.live->mail)) return;
    while (!atomic_load(&race.live->posted)) continue;
    free(race.live);
    race.live = NULL;
    race.cancelled++;
    return;
  }
  if (race.rounds == ROUNDS) {
    mailbox_close(&race.mb);
    uv_close((uv_handle_t *)idle, NULL);
    return;
  }
  race.rounds++;
  race.live = calloc(1, sizeof *race.live);
  mail_init(&race.live->mail, on_racing);
  atomic_store(&race.handed, race.live);
}

static void a_cancelled_mail_is_not_delivered(void) {
  uv_loop_t loop;
  pthread_t thread;
  CHECK(uv_loop_init(&loop) == 0);
  CHECK(mailbox_init(&race.mb, &loop) == 0);
  uv_idle_init(&loop, &race.idle);
  uv_idle_start(&race.idle, on_idle);
  CHECK(pthread_create(&thread, NULL, racer_main, NULL) == 0);
  loop_end(&loop);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(race.delivered + race.cancelled == ROUNDS);
}

static struct mailbox own;
static struct mail own_first, own_second, own_third;
static unsigned own_count;
static void on_second(struct mail *m) {
  (void)m;
  own_count += 100;
}
static void on_third(struct mail *m) {
  (void)m;
  mailbox_close(&own);
}
static void on_first(struct mail *m) {
  own_count++;
  CHECK(mailbox_cancel(&own, &own_second)); /* taken with this one, not delivered yet */
  CHECK(!mailbox_cancel(&own, &own_second));
  if (own_count == 1) {
    mailbox_post(&own, &own_second);
    mailbox_post(&own, m); /* may be posted again from deliver on */
    mailbox_cancel(&own, &own_second);
    mailbox_post(&own, &own_second);
  } else {
    mailbox_post(&own, &own_third);
  }
}

static void deliver_may_post_again_and_cancel_its_neighbour(void) {
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  CHECK(mailbox_init(&own, &loop) == 0);
  mail_init(&own_first, on_first);
  mail_init(&own_second, on_second);
  mail_init(&own_third, on_third);
  mailbox_post(&own, &own_first);
  mailbox_post(&own, &own_second);
  loop_end(&loop);
  CHECK(own_count == 2);
}

/* --- later --- */

static struct laters laters;
static struct later first, second, third;
static char ran[16];

static void note_ran(char c) {
  size_t n = strlen(ran);
  CHECK(n + 1 < sizeof ran);
  ran[n] = c;
}
static void run_first(struct later *l) {
  note_ran('1');
  later_cancel(&third);                        /* its neighbour of this turn */
  if (strlen(ran) < 3) later_post(&laters, l); /* has its turn behind those that wait already */
}
static void run_second(struct later *l) {
  (void)l;
  note_ran('2');
}
static void run_third(struct later *l) {
  (void)l;
  note_ran('3');
}

static void what_is_posted_for_later_runs_once_in_order_and_lets_the_loop_end(void) {
  uv_loop_t loop;
  CHECK(uv_loop_init(&loop) == 0);
  laters_init(&laters, &loop);
  later_init(&first, run_first);
  later_init(&second, run_second);
  later_init(&third, run_third);
  later_cancel(&third); /* fine when it is not posted */
  later_post(&laters, &first);
  later_post(&laters, &second);
  later_post(&laters, &first); /* it is posted already */
  later_post(&laters, &third);
  CHECK(ran[0] == '\0');                     /* never from within */
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0); /* and nothing keeps the loop alive behind it */
  CHECK(strcmp(ran, "121") == 0);
  laters_close(&laters);
  loop_end(&loop);
}

int main(void) {
  RUN(every_code_has_a_name_and_a_sentence);
  RUN(slices_compare_trim_and_convert);
  RUN(distance_counts_edits_and_swaps);
  RUN(units_read_what_users_write);
  RUN(randomness_is_seedable_and_in_range);
  RUN(an_arena_grows_aligns_and_cleans_up_in_reverse);
  RUN(an_arena_needs_no_first_block);
  RUN(a_buffer_grows_and_drops);
  RUN(a_buffer_made_sensitive_late_is_freed_as_it_was_allocated);
  RUN(secret_memory_is_zero_aligned_and_reused);
  RUN(what_must_be_there_is_never_null);
  RUN(memory_that_runs_out_says_so_and_ends_the_process);
  RUN(siphash_gives_what_is_published);
  RUN(two_tables_hash_the_same_text_differently);
  RUN(secret_memory_reports_once_that_it_cannot_be_locked);
  RUN(secret_memory_serves_several_threads);
  RUN(a_text_line_cannot_be_forged);
  RUN(a_json_line_is_json);
  RUN(json_strings_escape_and_replace);
  RUN(a_json_string_in_pieces_is_the_same);
  RUN(base64_in_groups_is_the_same);
  RUN(the_access_log_is_written_in_time_and_on_close);
  RUN(a_full_pipe_loses_whole_lines_only);
  RUN(a_sink_never_waits);
  RUN(events_that_were_not_taken_are_counted);
  RUN(deadlines_are_never_early_and_can_move);
  RUN(a_deadline_may_end_another_that_is_due_as_well);
  RUN(mails_of_many_threads_arrive_once_and_in_order);
  RUN(a_cancelled_mail_is_not_delivered);
  RUN(deliver_may_post_again_and_cancel_its_neighbour);
  RUN(what_is_posted_for_later_runs_once_in_order_and_lets_the_loop_end);
  return 0;
}
