/* must.h: memory that the program cannot go on without. Any thread.
 *
 * Configuration bounds everything that a request, a peer or a script can make large (in a VM the cap does, and reaching it is an error of the script). The rest
 * are small objects of the program's own. It cannot go on without one of them, and code that tried would never be run or tested. So the process ends, and says
 * so on standard error, since abort alone looks like a bug. */
#ifndef JETON_BASE_MUST_H
#define JETON_BASE_MUST_H

#include <stddef.h>

#include "base/str.h"

/* As the functions of the C library, but none returns NULL, not even for a size of 0. Freed with free. */
void *must_malloc(size_t n);
void *must_calloc(size_t n, size_t size); /* zeroed */
void *must_realloc(void *p, size_t n);
char *must_strdup(const char *z);
/* The bytes, and a NUL behind them. */
char *must_dup(struct str s);

/* free, also of what its owner holds as const. */
void must_free(const void *p);

/* From here on an abort says on standard error that it was one, and what it may mean: libraries abort without a word, libuv when it is refused a thread
 * or a few bytes. Once, before there are other threads. */
void abort_with_a_line(void);

/* Writes "jeton: out of memory: 64 bytes were asked for" and ends the process by abort. For code that asks the system in another way. */
_Noreturn void out_of_memory(size_t n);

#endif
