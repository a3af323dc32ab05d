/* secmem.h: memory for secrets: locked (mlock), left out of core dumps (MADV_DONTDUMP), not inherited by children
 * (MADV_WIPEONFORK), wiped when freed. Any thread.
 *
 * Locked memory is limited (RLIMIT_MEMLOCK), so what secrets live in comes first: memory that they only pass through (buffers of reads and writes) takes a half of the
 * limit at the most, and tokens, secrets and keys all that is left. What cannot be locked is used unlocked, and that is reported, once for each of the two. */
#ifndef JETON_BASE_SECMEM_H
#define JETON_BASE_SECMEM_H

#include <stddef.h>

enum secmem_use { SECMEM_KEPT, SECMEM_PASSING, SECMEM_USES };

void *secmem_alloc(size_t n);              /* 16-byte aligned, zeroed; never NULL */
void secmem_free(const void *p, size_t n); /* n as given to alloc; p may be NULL, and held as const by its owner */
/* The same for what secrets pass through. Each is freed by its own. */
void *secmem_alloc_passing(size_t n);
void secmem_free_passing(const void *p, size_t n);
/* fn is called once for each use, on the thread that asked for memory, when a page could not be locked. It asks for no secret memory itself. Set before there are
 * other threads. The log stands on buffers, and these on this file: so the program brings the two together (main.c). */
void secmem_on_unlocked(void (*fn)(enum secmem_use use));
void secmem_wipe(void *p, size_t n); /* a memset that the compiler may not drop */
/* Wipes what calls that have returned left below the caller's frame and in vector registers: copying a secret leaves pieces of it there, and a thread that rests overwrites none. Call
 * it where the stack is shallow: from a timer for one, or at the end of a thread pool's work. */
void secmem_wipe_stack(void);

#endif
