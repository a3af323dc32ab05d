/* log.c: builds a line in a buffer of its own and hands it to the kernel in one write(2), so that lines of several threads and
 * processes never mix. The settings are two relaxed atomics: a line that is written with the level of a moment ago does no harm.
 * Nobody waits for standard error: a worker that did would hold up its connections.
 *
 * Text that a peer or a script put into a message stays on its line: control bytes (C1 ones in UTF-8 as well, which terminals obey) and bytes that are not
 * UTF-8 come out as \xNN in text, and as JSON escapes or U+FFFD in JSON. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mask.h"
#include "base/sink.h"
#include "base/utf8.h"

enum { MESSAGE_MAX = 8192 };

/* Relaxed: a line near a reload may be judged by the old settings. */
static atomic_int current_level = LOG_INFO;
static atomic_int current_format = LOG_TEXT;

static struct sink sink = {.fd = STDERR_FILENO}; /* set before there are other threads */
static atomic_uint lost;                         /* lines that it did not take, not reported yet */

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

void log_open(void) { sink_open(&sink, STDERR_FILENO); }

void log_configure(const struct log_settings *s) {
  atomic_store_explicit(&current_level, (int)s->level, memory_order_relaxed);
  atomic_store_explicit(&current_format, (int)s->format, memory_order_relaxed);
}

bool log_wants(enum log_level level) {
  return level < LOG_OFF && (int)level >= atomic_load_explicit(&current_level, memory_order_relaxed);
}

static void add_text(struct buf *b, struct str s) {
  const uint8_t *p = (const uint8_t *)s.p;
  for (size_t i = 0; i < s.n;) {
    size_t length = utf8_length(p + i, s.n - i);
    if (length > 0 && !utf8_is_control(p + i, length)) {
      buf_add(b, p + i, length);
      i += length;
      continue;
    }
    for (size_t end = i + (length > 0 ? length : 1); i < end; i++) buf_addf(b, "\\x%02x", p[i]);
  }
}

static void add_time(struct buf *b) { /* RFC 3339, UTC */
  int64_t ms = clock_wall_ms();
  time_t seconds = (time_t)(ms / 1000);
  struct tm tm;
  gmtime_r(&seconds, &tm);
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
  buf_addf(b, "%s.%03dZ", text, (int)(ms % 1000));
}

static void add_message(struct buf *b, const char *fmt, va_list args) {
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  if (n >= 0) {
    vsnprintf((char *)buf_reserve(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
    b->n += (size_t)n;
  }
  va_end(again);
}

static void cut_message(struct buf *b) {
  if (b->n <= MESSAGE_MAX) return;
  size_t cut = b->n - MESSAGE_MAX;
  b->n = MESSAGE_MAX;
  buf_addf(b, " [%zu bytes cut off]", cut);
}

static void format_text(struct buf *line, enum log_level level, const char *source, struct str message) {
  add_time(line);
  buf_addf(line, " %-5s ", level_names[level]);
  if (source != NULL) {
    add_text(line, str_of(source));
    buf_addz(line, ": ");
  }
  add_text(line, message);
  buf_addz(line, "\n");
}

static void format_json(struct buf *line, enum log_level level, const char *source, struct str message) {
  buf_addz(line, "{\"time\":\"");
  add_time(line);
  buf_addf(line, "\",\"level\":\"%s\",", level_names[level]);
  if (source != NULL) {
    buf_addz(line, "\"source\":");
    json_add_string(line, str_of(source));
    buf_addz(line, ",");
  }
  buf_addz(line, "\"message\":");
  json_add_string(line, message);
  buf_addz(line, "}\n");
}

/* False when it, or the rest of it, was not taken. */
static bool write_all(const uint8_t *p, size_t n) {
  while (n > 0) {
    ssize_t done = sink_write(&sink, p, n);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    p += done;
    n -= (size_t)done;
  }
  return true;
}

static void count_lost(bool written) {
  if (!written) {
    atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
    return;
  }
  if (atomic_load_explicit(&lost, memory_order_relaxed) == 0) return;
  unsigned n = atomic_exchange_explicit(&lost, 0, memory_order_relaxed);
  if (n > 0) log_warn("%u events are missing above: standard error did not take them", n);
}

/* Before the line is written in its format, whose escapes would hide a secret from the mask, and before it is cut, behind which half a secret would not be known as
 * one. */
static void mask_message(struct buf *message) {
  struct buf masked;
  buf_init(&masked);
  if (mask_apply(mask_of_thread(), buf_str(message), &masked)) {
    buf_reset(message);
    buf_adds(message, buf_str(&masked));
  }
  buf_fini(&masked);
}

static void log_args(enum log_level level, const char *source, const char *fmt, va_list args) {
  int saved = errno;
  struct buf message, line;
  buf_init(&message);
  buf_init(&line);
  add_message(&message, fmt, args);
  if (!mask_is_empty()) mask_message(&message);
  cut_message(&message);
  bool json = atomic_load_explicit(&current_format, memory_order_relaxed) == LOG_JSON;
  (json ? format_json : format_text)(&line, level, source, buf_str(&message));
  count_lost(write_all(line.p, line.n));
  buf_fini(&line);
  buf_fini(&message);
  errno = saved;
}

void log_line(enum log_level level, const char *fmt, ...) {
  if (!log_wants(level)) return;
  va_list args;
  va_start(args, fmt);
  log_args(level, NULL, fmt, args);
  va_end(args);
}

void log_from(enum log_level level, const char *source, const char *fmt, ...) {
  if (!log_wants(level)) return;
  va_list args;
  va_start(args, fmt);
  log_args(level, source, fmt, args);
  va_end(args);
}
