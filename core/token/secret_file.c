/* secret_file.c: see secret_file.h.
 *
 * Each VM had a copy of its own first, and looked when it was used: a file that was replaced and then emptied was served in one version by workers that had looked in
 * between, and in another by the rest, for as long as it stayed empty. Now the content is an object of the process (base/named.h), and a reader takes a reference
 * to it.
 *
 * Reading is blocking work, on purpose: it happens inside of secret_expand, which cannot wait, and is one stat a second of a small local file, under the file's own
 * mutex. Invariant: `content` is replaced as a whole, and only by what was read without an error. */
#include "token/secret_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file_stamp.h"
#include "base/json_find.h"
#include "base/log.h"
#include "base/must.h"
#include "base/secmem.h"
#include "token/token.h"

enum { CHECK_MS = 1000 };

struct secret_file {
  struct named named;
  char *path; /* immutable, as is the next */
  enum secret_file_form form;
  pthread_mutex_t mutex; /* guards what follows */
  struct secret_content *content;
  struct file_stamp seen, told;
  struct file_stamp looked; /* what was there at the last look, read or not */
  mode_t mode;
  uid_t owner;
  bool odd, utf16, open; /* open: whoever may read it learns nothing */
  bool failing;          /* and a warning says so */
  int64_t checked_at;    /* CLOCK_BOOTTIME ms */
};

struct settings {
  struct str path;
  enum secret_file_form form;
};

/* --- its content --- */

static struct secret_content *content_new(struct str bytes) {
  size_t size = sizeof(struct secret_content) + bytes.n + 1;
  struct secret_content *c = secmem_alloc(size);
  atomic_init(&c->refs, 1);
  c->size = size;
  c->bytes = (struct str){(char *)(c + 1), bytes.n};
  if (bytes.n > 0) memcpy(c + 1, bytes.p, bytes.n);
  return c;
}

void secret_content_unref(struct secret_content *c) {
  if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) secmem_free(c, c->size);
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_text(struct str s) {
  for (size_t i = 0; i < s.n; i++)
    if (((unsigned char)s.p[i] < ' ' && !is_blank(s.p[i])) || s.p[i] == 0x7f) return false;
  return true;
}

/* What some editors and shells write when they are asked for text: a zero byte behind every character, which no header can carry. */
static bool is_utf16(struct str s) {
  return s.n >= 2 && (memcmp(s.p, "\xff\xfe", 2) == 0 || memcmp(s.p, "\xfe\xff", 2) == 0);
}

/* A certificate or public key in PEM, which a policy names beside the private one. */
static bool is_public(struct str s) {
  static const struct str certificate = {"-----BEGIN CERTIFICATE-----", 27}, key = {"-----BEGIN PUBLIC KEY-----", 26};
  return (str_starts(s, certificate) || str_starts(s, key)) && memmem(s.p, s.n, "PRIVATE KEY", 11) == NULL;
}

static struct str drop_front(struct str s, size_t n) { return (struct str){s.p + n, s.n - n}; }

struct str secret_trim(struct str s, bool *odd) {
  static const struct str mark = {"\xef\xbb\xbf", 3};
  *odd = false;
  if (!is_text(s)) return s;
  struct str t = s;
  if (t.n > 0 && t.p[t.n - 1] == '\n') t.n--; /* one line end is an editor's */
  if (t.n < s.n && t.n > 0 && t.p[t.n - 1] == '\r') t.n--;
  size_t usual = t.n;
  for (size_t before = t.n + 1; t.n != before;) {
    before = t.n;
    if (str_starts(t, mark)) t = drop_front(t, mark.n);
    while (t.n > 0 && is_blank(t.p[0])) t = drop_front(t, 1);
    while (t.n > 0 && is_blank(t.p[t.n - 1])) t.n--;
  }
  *odd = t.n < usual;
  return t;
}

/* Reads into `to` (sensitive). 0, or a negative code. */
static int read_small(const char *path, struct buf *to, struct stat *seen) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  int rc = fstat(fd, seen) == 0 ? 0 : -errno;
  while (rc == 0) {
    ssize_t n = read(fd, buf_reserve(to, 4096), 4096);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) rc = -errno;
    if (n <= 0) break;
    to->n += (size_t)n;
    if (to->n > TOKEN_BYTES_MAX) rc = ERR_LIMIT;
  }
  (void)close(fd);
  return rc;
}

bool secret_decode(enum secret_file_form form, struct str text, struct buf *out) {
  struct buf packed;
  size_t made = 0;
  buf_init(&packed);
  packed.sensitive = true;
  for (size_t i = 0; i < text.n; i++)
    if (!is_blank(text.p[i])) buf_add(&packed, &text.p[i], 1);
  char *to = (char *)buf_reserve(out, packed.n / BASE64_GROUP_TEXT * BASE64_GROUP + BASE64_GROUP);
  enum base64_form alphabet = form == SECRET_FILE_BASE64 ? BASE64_PADDED : BASE64_URL;
  const char *wrong = base64_decode(alphabet, buf_str(&packed), to, &made);
  if (wrong == NULL)
    out->n += made;
  else
    secmem_wipe(to, made);
  buf_fini(&packed);
  return wrong == NULL;
}

/* What of the file's bytes, in b, is the secret. b may be moved. */
static int take_form(const struct secret_file *f, struct buf *b, struct str *bytes, bool *odd) {
  size_t n = b->n;
  *bytes = f->form == SECRET_FILE_RAW ? buf_str(b) : secret_trim(buf_str(b), odd);
  if (bytes->n == 0) return SECRET_FILE_EMPTY;
  if (f->form == SECRET_FILE_OF_JSON && !json_valid(*bytes)) return SECRET_FILE_JSON;
  if (f->form != SECRET_FILE_BASE64 && f->form != SECRET_FILE_BASE64URL) return 0;
  *odd = false;                     /* white space means nothing in it */
  buf_reserve(b, n + BASE64_GROUP); /* so that what is read stays where it is */
  if (!secret_decode(f->form, (struct str){(const char *)b->p, n}, b)) return SECRET_FILE_CODING;
  *bytes = (struct str){(const char *)b->p + n, b->n - n};
  return bytes->n > 0 ? 0 : SECRET_FILE_EMPTY;
}

static int load_locked(struct secret_file *f) {
  struct buf b;
  struct stat seen;
  struct str bytes = {NULL, 0};
  bool odd = false;
  buf_init(&b);
  b.sensitive = true;
  int rc = read_small(f->path, &b, &seen);
  if (rc == 0) rc = take_form(f, &b, &bytes, &odd);
  if (rc == 0) {
    struct secret_content *old = f->content;
    f->content = content_new(bytes);
    secret_content_unref(old);
    f->seen = file_stamp_of(&seen);
    f->mode = seen.st_mode;
    f->owner = seen.st_uid;
    f->odd = odd;
    f->open = is_public(bytes);
    f->utf16 = f->form == SECRET_FILE_TEXT && is_utf16(bytes);
  }
  buf_fini(&b);
  return rc;
}

const char *secret_file_error(int rc) {
  static_assert(TOKEN_BYTES_MAX == 64 * 1024, "the text says so");
  if (rc == ERR_LIMIT) return "the file is larger than 64 KiB";
  if (rc == SECRET_FILE_CODING)
    return "the file does not hold base64 (of the kind that decode names), or more than that";
  if (rc == SECRET_FILE_JSON) return "the file is not JSON";
  return rc == SECRET_FILE_EMPTY ? "the file is empty" : err_text(rc);
}

/* True: there is something else than what was read last, or nothing. */
static bool has_changed(struct secret_file *f) {
  struct stat now;
  f->looked = stat(f->path, &now) == 0 ? file_stamp_of(&now) : (struct file_stamp){0};
  return f->content == NULL || !file_stamp_same(&f->looked, &f->seen);
}

/* --- what its owner should know --- */

static void log_it(void *arg, const char *text) {
  (void)arg;
  log_warn("%s", text);
}

/* A group is only superfluous for the owner: root's file with a service's group is how that service gets to read it. As of TLS keys. */
static void tell_locked(struct secret_file *f, bool again, void (*tell)(void *arg, const char *text), void *arg) {
  char text[640];
  bool ours = f->owner == geteuid() && f->owner != 0;
  if (!again && file_stamp_same(&f->told, &f->seen)) return;
  f->told = f->seen;
  if (!f->open && (f->mode & (S_IROTH | S_IRGRP)) != 0 && ((f->mode & S_IROTH) != 0 || ours)) {
    bool all = (f->mode & S_IROTH) != 0;
    (void)snprintf(text, sizeof text, "%s: a secret that %s may read (chmod %s mends it)", f->path,
                   all ? "everybody" : "its group", all ? "o=" : "600");
    tell(arg, text);
  }
  if (f->utf16) {
    (void)snprintf(text, sizeof text,
                   "%s: a secret in UTF-16, whose bytes are taken as they are: save it as UTF-8 ({ raw = true } ends "
                   "this warning)",
                   f->path);
    tell(arg, text);
  }
  if (!f->odd) return;
  (void)snprintf(text, sizeof text,
                 "%s: white space or a byte order mark at the edges of a secret is left out ({ raw = true } keeps it)",
                 f->path);
  tell(arg, text);
}

int secret_file_load(struct secret_file *f, bool again, void (*tell)(void *arg, const char *text), void *arg) {
  pthread_mutex_lock(&f->mutex);
  int rc = has_changed(f) ? load_locked(f) : 0;
  f->checked_at = clock_boot_ms();
  if (rc == 0) tell_locked(f, again, tell != NULL ? tell : log_it, arg);
  pthread_mutex_unlock(&f->mutex);
  return rc;
}

static void check_locked(struct secret_file *f) {
  int rc = has_changed(f) ? load_locked(f) : 0;
  if (rc == 0) tell_locked(f, false, log_it, NULL);
  if (rc != 0 && !f->failing)
    log_warn("secret file %s cannot be read again, its last content goes on serving: %s", f->path,
             secret_file_error(rc));
  f->failing = rc != 0;
}

struct secret_content *secret_file_read(struct secret_file *f) {
  int64_t now = clock_boot_ms();
  pthread_mutex_lock(&f->mutex);
  if (now - f->checked_at >= CHECK_MS) {
    f->checked_at = now;
    check_locked(f);
  }
  struct secret_content *c = f->content;
  if (c != NULL) atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
  pthread_mutex_unlock(&f->mutex);
  return c;
}

void secret_file_note(struct secret_file *f, struct provenance **to) {
  pthread_mutex_lock(&f->mutex);
  f->checked_at = clock_boot_ms();
  check_locked(f);
  provenance_add_file(to, f->path, &f->looked);
  pthread_mutex_unlock(&f->mutex);
}

/* --- one a path --- */

static struct named *make(const void *data) {
  const struct settings *s = data;
  struct secret_file *f = must_calloc(1, sizeof *f);
  f->path = must_dup(s->path);
  f->form = s->form;
  pthread_mutex_init(&f->mutex, NULL);
  return &f->named;
}

static void unmake(struct named *n) {
  struct secret_file *f = CONTAINER_OF(n, struct secret_file, named);
  secret_content_unref(f->content);
  pthread_mutex_destroy(&f->mutex);
  free(f->path);
  free(f);
}

struct secret_file *secret_file_get(struct registry *names, struct str path, enum secret_file_form form) {
  static const struct named_kind kinds[SECRET_FILE_FORMS] = {
      [SECRET_FILE_TEXT] = {"jeton.secret.file", make, unmake},
      [SECRET_FILE_RAW] = {"jeton.secret.file, raw", make, unmake},
      [SECRET_FILE_BASE64] = {"jeton.secret.file, base64", make, unmake},
      [SECRET_FILE_BASE64URL] = {"jeton.secret.file, base64url", make, unmake},
      [SECRET_FILE_OF_JSON] = {"jeton.secret.json", make, unmake},
  };
  struct settings s = {path, form};
  return CONTAINER_OF(named_get(names, &kinds[form], path, &s), struct secret_file, named);
}

void secret_file_unref(struct secret_file *f) { named_unref(&f->named); }
