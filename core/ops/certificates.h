/* certificates.h: reads certificates, keys and authorities again when their files change, while the process runs. Control's thread. */
#ifndef JETON_OPS_CERTIFICATES_H
#define JETON_OPS_CERTIFICATES_H

#include <stdint.h>
#include <uv.h>

struct certificates;
enum { CERTIFICATES_REMIND_MS = 24 * 3600 * 1000 };
/* remind_ms: the interval at which the log says which of them end soon. */
struct certificates *certificates_new(uv_loop_t *loop, uint64_t remind_ms);
/* Frees it when its handles have closed. */
void certificates_close(struct certificates *c);

struct certificates_facts {
  uint64_t renewed, failed; /* configurations whose files were read again, and those that kept what they had */
  const char *last_error;   /* why one in use keeps what it had; "": none does. Good until the next call */
};
struct certificates_facts certificates_facts(struct certificates *c);
/* Each certificate file that we show to others, once; `until`: when the first of its chain ends, in seconds since the epoch. */
void certificates_own(void (*tell)(void *arg, const char *file, int64_t until), void *arg);
/* Sentences of what has ended or ends within 30 days, each once. */
void certificates_ending(void (*tell)(void *arg, const char *text), void *arg);

#endif
