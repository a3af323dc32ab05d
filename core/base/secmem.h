/* secmem.h: memory for secrets: locked (mlock), left out of core dumps (MADV_DONTDUMP), not inherited by children
 * (MADV_WIPEONFORK), wiped when freed. Any thread. When the lock limit is reached the memory is used unlocked and one warning is logged. */
#ifndef JETON_BASE_SECMEM_H
#define JETON_BASE_SECMEM_H

#include <stddef.h>

void *secmem_alloc(size_t n);        /* 16-byte aligned, zeroed; never NULL */
void secmem_free(void *p, size_t n); /* n as given to alloc; p may be NULL */
void secmem_wipe(void *p, size_t n); /* a memset that the compiler may not drop */

#endif
