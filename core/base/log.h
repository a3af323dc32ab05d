/* log.h: the log. Lines go to stderr as `time level [source: ]message` or as JSON, one write a line;
 * the access log has its own sink, buffered per thread (base/access.h). No secret may be passed to it: secrets are opaque until the
 * socket, so nothing here could print one. What a peer sends back may hold one: those that this thread has sent to an issuer are masked (base/mask.h). Any thread. */
#ifndef JETON_BASE_LOG_H
#define JETON_BASE_LOG_H

#include <stdbool.h>
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_settings {
  enum log_level level;
  enum log_format format;
};

/* Lines go to standard error without waiting for its reader: those that it does not take are lost, and their number is logged as soon as it takes something
 * again. Call it before there are other threads. */
void log_open(void);
void log_configure(const struct log_settings *s);
bool log_wants(enum log_level level); /* relaxed atomic load: ask before building an expensive message */
/* One line. The message is sanitised: control bytes come out as \xNN, so that no peer or script forges a line. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As log_line, with a source ("policy.lua:12", "token api", "worker 1") in a field of its own. */
void log_from(enum log_level level, const char *source, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_debug(...)                                          \
  do {                                                          \
    if (log_wants(LOG_DEBUG)) log_line(LOG_DEBUG, __VA_ARGS__); \
  } while (0)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
