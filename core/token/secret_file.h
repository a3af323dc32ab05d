/* secret_file.h: the content of a file with a secret in it, one for the whole process: all threads have the same version of it at any time. Any thread. */
#ifndef JETON_TOKEN_SECRET_FILE_H
#define JETON_TOKEN_SECRET_FILE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/named.h"
#include "base/provenance.h"
#include "base/str.h"

enum { SECRET_FILE_EMPTY = -ENODATA, SECRET_FILE_CODING = -EILSEQ, SECRET_FILE_JSON = -EBADMSG };
/* What of a file is its secret. */
enum secret_file_form {
  SECRET_FILE_TEXT,      /* its text, without what stands at its edges (secret_trim) */
  SECRET_FILE_RAW,       /* its bytes */
  SECRET_FILE_BASE64,    /* what it holds in base64, in lines or not; else SECRET_FILE_CODING */
  SECRET_FILE_BASE64URL, /* the same of base64url */
  SECRET_FILE_OF_JSON,   /* its text, if that is JSON; else SECRET_FILE_JSON */
  SECRET_FILE_FORMS
};
/* The bytes that the text holds in that form, SECRET_FILE_BASE64 or _BASE64URL, white space between them aside, behind out's end. False: none, and out is as before. */
bool secret_decode(enum secret_file_form form, struct str text, struct buf *out);

struct secret_content { /* refcounted, immutable, in secret memory */
  _Atomic unsigned refs;
  size_t size; /* of the allocation */
  struct str bytes;
};
void secret_content_unref(struct secret_content *c); /* NULL is fine */

struct secret_file;
/* A reference, for secret_file_unref. */
struct secret_file *secret_file_get(struct registry *names, struct str path, enum secret_file_form form);
void secret_file_unref(struct secret_file *f);
/* Reads it now, unless it is what was read last. 0, or what is wrong: libuv's code, ERR_LIMIT or one of those above; what there was stays. `tell` gets what its
 * owner should know of it (who may read it, what was left out); without `again` only what it has not been told of this content. */
int secret_file_load(struct secret_file *f, bool again, void (*tell)(void *arg, const char *text), void *arg);
/* What is in it, looked at once a second at most; a new reference, or NULL: it was never read well. While it cannot be read, is empty or is not of its form, which is what a file that is
 * being rewritten looks like, the content read last serves, and one warning is logged. */
struct secret_content *secret_file_read(struct secret_file *f);
/* What the content hangs on: the file, as it is found now. It is looked at, however short ago that was done: what is read next is of that look or a later one. */
void secret_file_note(struct secret_file *f, struct provenance **to);
const char *secret_file_error(int rc);

/* Text without white space and byte order mark at both ends; *odd says whether that was more than one line end. What holds other control bytes is no text and
 * stays as it is. */
struct str secret_trim(struct str s, bool *odd);

#endif
