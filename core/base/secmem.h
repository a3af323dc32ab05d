/* secmem.h: memory for secrets: locked (mlock), left out of core dumps (MADV_DONTDUMP), not inherited by children
 * (MADV_WIPEONFORK), wiped when freed. Any thread. When the limit on locked memory is reached the memory is used unlocked, and that is reported once. */
#ifndef JETON_BASE_SECMEM_H
#define JETON_BASE_SECMEM_H

#include <stddef.h>

void *secmem_alloc(size_t n);              /* 16-byte aligned, zeroed; never NULL */
void secmem_free(const void *p, size_t n); /* n as given to alloc; p may be NULL, and held as const by its owner */
/* fn is called once, on the thread that asked for memory, when a page could not be locked. It asks for no secret memory itself. Set before there are
 * other threads. The log stands on buffers, and these on this file: so the program brings the two together (main.c). */
void secmem_on_unlocked(void (*fn)(void));
void secmem_wipe(void *p, size_t n); /* a memset that the compiler may not drop */

#endif
