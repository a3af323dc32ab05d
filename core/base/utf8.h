/* utf8.h: where a character of UTF-8 ends. */
#ifndef JETON_BASE_UTF8_H
#define JETON_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length in bytes, 1 to 4, of the well-formed sequence at p (RFC 3629 section 4); 0: there is none within n bytes. */
size_t utf8_length(const uint8_t *p, size_t n);
/* Whether that sequence is a control character: C0, DEL, or C1 (U+0080 to U+009F), which terminals obey, too. */
bool utf8_is_control(const uint8_t *p, size_t length);

#endif
