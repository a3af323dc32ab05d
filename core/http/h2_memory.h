/* h2_memory.h: the library's memory on connections to servers, through which tokens pass. */
#ifndef JETON_HTTP_H2_MEMORY_H
#define JETON_HTTP_H2_MEMORY_H

#include "http/h2_compat.h"

/* Memory of secmem_alloc_passing: wiped when it is given back, left out of core dumps, locked as far as that share of the limit goes. Static; any thread. */
const nghttp2_mem *h2_memory(void);

#endif
