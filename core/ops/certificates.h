/* certificates.h: reads certificates, keys and authorities again when their files change, while the process runs. Control's thread. */
#ifndef JETON_OPS_CERTIFICATES_H
#define JETON_OPS_CERTIFICATES_H

#include <stdint.h>
#include <uv.h>

struct certificates;
struct certificates *certificates_new(uv_loop_t *loop);
/* Frees it when its handles have closed. */
void certificates_close(struct certificates *c);

struct certificates_facts {
  uint64_t renewed, failed; /* configurations whose files were read again, and those that kept what they had */
  const char *last_error;   /* "": the last reading went well */
};
struct certificates_facts certificates_facts(const struct certificates *c);

#endif
