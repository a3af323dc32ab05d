/* tls_pem.c: certificates and keys from files.
 *
 * A file that holds a key, or may (certificate and key are often one file), is read into secret memory, which is wiped
 * when freed. Authorities are not: a bundle of them would use up what may be locked. Runs on whichever thread makes a
 * configuration (control, as a rule); owns nothing shared. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/secmem.h"
#include "net/tls_internal.h"

enum { FILE_MAX = 16 * 1024 * 1024 };

struct pem_file { /* NUL-terminated */
  unsigned char *p;
  size_t n; /* counts the NUL, as mbedTLS wants it for PEM */
  bool secret;
};

static bool fail(char *err, size_t n, const char *path, const char *what) {
  snprintf(err, n, "%s: %s", path, what);
  return false;
}

/* The descriptor's bytes; short when the file shrinks meanwhile, never more than `size`. */
static bool read_all(int fd, unsigned char *p, size_t size, size_t *n) {
  *n = 0;
  while (*n < size) {
    ssize_t r = read(fd, p + *n, size - *n);
    if (r == 0) return true;
    if (r < 0 && errno == EINTR) continue;
    if (r < 0) return false;
    *n += (size_t)r;
  }
  return true;
}

static void file_alloc(struct pem_file *f) {
  f->p = f->secret ? secmem_alloc(f->n) : malloc(f->n);
  if (f->p == NULL) abort();
}

static void file_free(struct pem_file *f) {
  if (f->secret)
    secmem_free(f->p, f->n);
  else
    free(f->p);
}

static bool file_read(const char *path, bool secret, struct pem_file *f, char *err, size_t errsize) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* non-blocking: a FIFO must not hang us */
  if (fd < 0) return fail(err, errsize, path, err_text(-errno));
  bool usable = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size < FILE_MAX;
  if (!usable) {
    close(fd);
    return fail(err, errsize, path, "not a file of certificates or keys");
  }
  size_t got;
  *f = (struct pem_file){.n = (size_t)st.st_size + 1, .secret = secret};
  file_alloc(f);
  bool good = read_all(fd, f->p, f->n - 1, &got);
  close(fd);
  if (!good || got != f->n - 1) {
    file_free(f);
    return fail(err, errsize, path, "could not be read whole");
  }
  f->p[got] = '\0';
  return true;
}

bool tls_certificates_load(mbedtls_x509_crt *chain, const char *path, bool secret, char *err, size_t errsize) {
  struct pem_file f;
  if (!file_read(path, secret, &f, err, errsize)) return false;
  int r = mbedtls_x509_crt_parse(chain, f.p, f.n);
  file_free(&f);
  if (r < 0)
    return fail(err, errsize, path,
                r == MBEDTLS_ERR_PEM_NO_HEADER_FOOTER_PRESENT || chain->version == 0 ? "holds no certificate in PEM"
                                                                                     : "holds a damaged certificate");
  if (r > 0) log_debug("%s: %d certificates in it are of kinds that are not known", path, r);
  return true;
}

static bool load_key(mbedtls_pk_context *key, const char *path, char *err, size_t errsize) {
  struct pem_file f;
  if (!file_read(path, true, &f, err, errsize)) return false;
  int r = compat_parse_key(key, f.p, f.n);
  file_free(&f);
  if (r == MBEDTLS_ERR_PK_PASSWORD_REQUIRED || r == MBEDTLS_ERR_PK_PASSWORD_MISMATCH)
    return fail(err, errsize, path, "the key is encrypted; jeton needs it in the clear");
  if (r != 0) return fail(err, errsize, path, "holds no private key in PEM");
  return true;
}

/* A signature that nobody needs: it shows that the key works, and makes 2.28 fill in the table that threads share later. */
static bool try_key(mbedtls_pk_context *key) {
  static const unsigned char digest[32] = {1};
  unsigned char sig[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
  size_t n;
  return compat_sign(key, MBEDTLS_MD_SHA256, digest, sizeof digest, sig, sizeof sig, &n) == 0;
}

static bool usable_pair(struct tls_identity *id, const char *cert, const char *key, char *err, size_t errsize) {
  if (compat_check_pair(&id->chain.pk, &id->key) != 0) {
    snprintf(err, errsize, "%s: not the key of the certificate in %s", key, cert);
    return false;
  }
  if (!try_key(&id->key)) return fail(err, errsize, key, "a key that cannot sign");
  return true;
}

static bool load_identity(struct tls_identity *id, const char *cert, const char *key, char *err, size_t errsize) {
  return tls_certificates_load(&id->chain, cert, true, err, errsize) && load_key(&id->key, key, err, errsize) &&
         usable_pair(id, cert, key, err, errsize);
}

static struct tls_identity *identity_new(void) {
  struct tls_identity *id = calloc(1, sizeof *id);
  if (id == NULL) abort();
  mbedtls_x509_crt_init(&id->chain);
  mbedtls_pk_init(&id->key);
  return id;
}

struct tls_identity *tls_identity_load(const char *cert, const char *key, char *err, size_t errsize) {
  struct tls_identity *id = identity_new();
  if (load_identity(id, cert, key, err, errsize)) return id;
  tls_identity_free(id);
  return NULL;
}

void tls_identity_problems(const char *cert, const char *key, tls_tell_fn tell, void *arg) {
  char why[TLS_REASON_MAX];
  struct tls_identity *id = identity_new();
  bool cert_good = tls_certificates_load(&id->chain, cert, true, why, sizeof why);
  if (!cert_good) tell(arg, why);
  bool key_good = load_key(&id->key, key, why, sizeof why);
  if (!key_good) tell(arg, why);
  if (cert_good && key_good && !usable_pair(id, cert, key, why, sizeof why)) tell(arg, why);
  tls_identity_free(id);
}

void tls_identity_free(struct tls_identity *id) {
  if (id == NULL) return;
  mbedtls_x509_crt_free(&id->chain);
  mbedtls_pk_free(&id->key);
  free(id);
}
