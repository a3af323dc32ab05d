/* json.h: strings in JSON (RFC 8259 section 7), escaped here and nowhere else. Any thread. */
#ifndef JETON_BASE_JSON_H
#define JETON_BASE_JSON_H

#include "base/buf.h"
#include "base/str.h"

enum { JSON_ESCAPE_MAX = 6 };
/* Writes one byte of a string as JSON does, 1 to JSON_ESCAPE_MAX characters, and returns how many. Bytes of 0x80 and above are taken for UTF-8 and stay. For
 * callers that see a string in pieces. */
unsigned json_escape_byte(unsigned char c, char out[JSON_ESCAPE_MAX]);
/* Appends s as it stands between the quotes of a JSON string, JSON_ESCAPE_MAX times as long at the most; see json_add_string. A text may come in pieces that end
 * between two characters. */
void json_add_text(struct buf *b, struct str s);
/* Appends s as a JSON string with its quotes; C1 control characters are escaped, bytes that are not UTF-8 become U+FFFD. */
void json_add_string(struct buf *b, struct str s);

#endif
