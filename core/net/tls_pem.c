/* tls_pem.c: certificates and keys from files.
 *
 * A file that holds a key, or may (certificate and key are often one file), is read into secret memory, which is wiped
 * when freed. Authorities are not: a bundle of them would use up what may be locked. Runs on whichever thread makes a
 * configuration (control, as a rule); owns nothing shared.
 *
 * The blocks of a file are found here, not by mbedtls_x509_crt_parse: that skips blocks that it cannot read, and a last block without an end. A chain that is
 * short of an intermediate for such a reason would be served without a word, above all while a tool is still writing the file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/must.h"
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

static void file_alloc(struct pem_file *f) { f->p = f->secret ? secmem_alloc(f->n) : must_malloc(f->n); }

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

/* --- files of other formats --- */

/* The content of a DER file, behind the header of its outermost SEQUENCE. */
static bool der_begins(const unsigned char *p, size_t n, const void *what, size_t size) {
  size_t header = n > 2 && (p[1] & 0x80) != 0 ? 2 + (size_t)(p[1] & 0x7f) : 2;
  return n > header + size && p[0] == 0x30 && memcmp(p + header, what, size) == 0;
}

static const char *foreign_binary(const unsigned char *p, size_t n) {
  static const unsigned char pkcs12[] = {0x02, 0x01, 0x03, 0x30}; /* its version, and what it holds */
  static const unsigned char pkcs7[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02};
  if (der_begins(p, n, pkcs12, sizeof pkcs12))
    return "is PKCS #12: `openssl pkcs12 -in FILE -nodes -out FILE.pem` turns it into PEM, certificates and key in one";
  if (der_begins(p, n, pkcs7, sizeof pkcs7))
    return "is PKCS #7: `openssl pkcs7 -inform DER -print_certs -in FILE -out FILE.pem` turns it into PEM";
  if (n > 4 && memcmp(p, "\xfe\xed\xfe\xed", 4) == 0)
    return "is a key store of Java: `keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype "
           "pkcs12`, then `openssl pkcs12 -in FILE.p12 -nodes -out FILE.pem` turns it into PEM";
  if (memcmp(p, "\xff\xfe", 2) == 0 || memcmp(p, "\xfe\xff", 2) == 0)
    return "is in UTF-16: expected plain text (`iconv -f UTF-16 -t ASCII FILE` gives it)";
  return NULL;
}

/* --- certificates --- */

static const char begin_cert[] = "-----BEGIN CERTIFICATE-----", end_cert[] = "-----END CERTIFICATE-----";

/* Codes of X.509 and of keys carry one of ASN.1 in their low bits. */
const char *tls_certificate_wrong(int code) {
  switch (-(-code & 0xff80)) {
    case MBEDTLS_ERR_PK_UNKNOWN_PK_ALG: return "has a key of a kind that is not known here: RSA and EC keys are";
    case MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE: return "has a key on a curve that is not known here";
    case MBEDTLS_ERR_X509_UNKNOWN_SIG_ALG:
      return "is signed in a way that is not known here (by Ed25519?): RSA and ECDSA are";
    case MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE: return "has critical certificate policies, which are not known here";
    case MBEDTLS_ERR_X509_INVALID_EXTENSIONS:
      return "has a critical extension that is not known here, such as name constraints";
    default: return "is damaged or cut short";
  }
}

/* Files that other programs make of certificates and keys, and how to turn them into PEM. NULL: it is none of these. */
static const char *foreign_format(const unsigned char *p, size_t n) {
  static const struct {
    const char *begins, *what;
  } texts[] = {
      {"-----BEGIN PKCS7-----", "is PKCS #7: `openssl pkcs7 -print_certs -in FILE -out FILE.pem` turns it into PEM"},
      {"-----BEGIN CMS-----", "is CMS: `openssl pkcs7 -print_certs -in FILE -out FILE.pem` turns it into PEM"},
      {"-----BEGIN TRUSTED CERTIFICATE-----",
       "holds a TRUSTED CERTIFICATE of OpenSSL: `openssl x509 -in FILE -out FILE.pem` turns it into a plain one"},
      {"-----BEGIN X509 CERTIFICATE-----",
       "holds an X509 CERTIFICATE, an old name: `openssl x509 -in FILE -out FILE.pem` turns it into a plain one"},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (strstr((const char *)p, texts[i].begins) != NULL) return texts[i].what;
  return n > 2 && p[0] != '-' ? foreign_binary(p, n) : NULL;
}

/* One block, from its first line on. */
static int parse_block(mbedtls_x509_crt *chain, const unsigned char *p) {
  mbedtls_pem_context pem;
  size_t used;
  mbedtls_pem_init(&pem);
  int r = mbedtls_pem_read_buffer(&pem, begin_cert, end_cert, p, NULL, 0, &used);
  if (r == 0) r = mbedtls_x509_crt_parse_der(chain, COMPAT_PEM_BYTES(&pem), COMPAT_PEM_SIZE(&pem));
  mbedtls_pem_free(&pem);
  return r;
}

static const char *no_certificate(const struct pem_file *f) {
  const char *text = (const char *)f->p;
  if (strstr(text, " REQUEST-----") != NULL)
    return "holds a request for a certificate: expected the certificate that an authority made of it";
  if (strstr(text, " PRIVATE KEY-----") != NULL) return "holds no certificate in PEM, but a key";
  return "holds no certificate in PEM";
}

/* Appends the certificates that can be read. Returns how many cannot; `why` is about the first of these. */
static unsigned parse_blocks(mbedtls_x509_crt *chain, const struct pem_file *f, char *why, size_t n) {
  unsigned bad = 0, at = 0;
  const char *p = strstr((const char *)f->p, begin_cert), *foreign = foreign_format(f->p, f->n - 1);
  if (p == NULL && foreign == NULL) foreign = no_certificate(f);
  if (p == NULL && mbedtls_x509_crt_parse_der(chain, f->p, f->n - 1) == 0) return 0;
  if (foreign != NULL) {
    snprintf(why, n, "%s", foreign);
    bad++;
  }
  for (; p != NULL; p = strstr(p + sizeof begin_cert - 1, begin_cert)) {
    int r = parse_block(chain, (const unsigned char *)p);
    at++;
    if (r != 0 && bad++ == 0) snprintf(why, n, "certificate %u in it %s", at, tls_certificate_wrong(r));
  }
  return bad;
}

enum tls_load tls_certificates_load(mbedtls_x509_crt *chain, const char *path, bool secret, char *err, size_t errsize) {
  char why[256];
  struct pem_file f;
  if (!file_read(path, secret, &f, err, errsize)) return TLS_LOAD_FAILED;
  unsigned bad = parse_blocks(chain, &f, why, sizeof why);
  file_free(&f);
  if (chain->version != 0 && bad == 0) return TLS_LOAD_WHOLE;
  (void)fail(err, errsize, path, why);
  return chain->version != 0 ? TLS_LOAD_PART : TLS_LOAD_FAILED;
}

/* --- keys --- */

const char *tls_key_wrong(int code, const char *text) {
  switch (-(-code & 0xff80)) {
    case MBEDTLS_ERR_PK_PASSWORD_REQUIRED:
    case MBEDTLS_ERR_PK_PASSWORD_MISMATCH: return "the key is encrypted; jeton needs it in the clear";
    case MBEDTLS_ERR_PK_ALLOC_FAILED: return "not enough memory";
    case MBEDTLS_ERR_PK_UNKNOWN_PK_ALG: return "the key is of a kind that is not known here: RSA and EC keys are";
    case MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE: return "the key is on a curve that is not known here";
    default: break;
  }
  if (strstr(text, "-----BEGIN OPENSSH PRIVATE KEY-----") != NULL)
    return "the key is in the format of OpenSSH: `ssh-keygen -p -m PEM -f FILE` turns it into PEM";
  if (strstr(text, " PRIVATE KEY-----") != NULL) return "the key is damaged or cut short";
  if (strstr(text, "PUBLIC KEY-----") != NULL) return "holds no private key, but a public one";
  if (strstr(text, begin_cert) != NULL) return "holds no private key, but a certificate";
  return NULL;
}

static bool load_key(mbedtls_pk_context *key, const char *path, char *err, size_t errsize) {
  struct pem_file f;
  if (!file_read(path, true, &f, err, errsize)) return false;
  int r = compat_parse_key(key, f.p, f.n);
  const char *why = r != 0 ? foreign_format(f.p, f.n - 1) : NULL;
  if (r != 0 && why == NULL) why = tls_key_wrong(r, (const char *)f.p);
  if (r != 0) (void)fail(err, errsize, path, why != NULL ? why : "holds no private key in PEM");
  file_free(&f);
  return r == 0;
}

/* Makes a signature for two side effects: it shows that the key works, and makes 2.28 fill in the table that threads share later. */
static bool try_key(mbedtls_pk_context *key) {
  static const unsigned char digest[32] = {1};
  unsigned char sig[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
  size_t n;
  return compat_sign(key, MBEDTLS_MD_SHA256, digest, sizeof digest, sig, sizeof sig, &n) == 0;
}

/* Peers are offered no other curve (compat_conf_curves), so with another key every handshake would fail. */
static bool usable_curve(const mbedtls_pk_context *key) {
  if (!mbedtls_pk_can_do(key, MBEDTLS_PK_ECKEY)) return true;
  mbedtls_ecp_group_id curve = compat_curve(key);
  return curve == MBEDTLS_ECP_DP_SECP256R1 || curve == MBEDTLS_ECP_DP_SECP384R1 || curve == MBEDTLS_ECP_DP_SECP521R1;
}

static void say_no_pair(const struct tls_identity *id, const char *cert, const char *key, char *err, size_t errsize) {
  unsigned at = 2;
  const mbedtls_x509_crt *c = id->chain.next;
  while (c != NULL && compat_check_pair(&c->pk, &id->key) != 0) c = c->next, at++;
  if (c == NULL)
    snprintf(err, errsize, "%s: not the key of the certificate in %s", key, cert);
  else
    snprintf(err, errsize, "%s: the key of certificate %u in %s, where it must be the first", key, at, cert);
}

static bool usable_pair(struct tls_identity *id, const char *cert, const char *key, char *err, size_t errsize) {
  if (compat_check_pair(&id->chain.pk, &id->key) != 0) {
    say_no_pair(id, cert, key, err, errsize);
    return false;
  }
  if (!try_key(&id->key)) return fail(err, errsize, key, "a key that cannot sign");
  if (usable_curve(&id->key)) return true;
  return fail(err, errsize, key, "a key on a curve that is not spoken here: P-256, P-384 and P-521 are");
}

size_t tls_certificate_message(const mbedtls_x509_crt *chain) {
  enum { FRAME = 64, EACH = 5 }; /* of the message; of each certificate in it (RFC 8446 section 4.4.2) */
  size_t n = FRAME;
  for (; chain != NULL; chain = chain->next) n += chain->raw.len + EACH;
  return n;
}

/* mbedTLS sends no message of the handshake in two records. */
static bool sendable(const mbedtls_x509_crt *chain, const char *cert, char *err, size_t errsize) {
  size_t n = tls_certificate_message(chain), max = MBEDTLS_SSL_OUT_CONTENT_LEN;
  if (n <= max) return true;
  snprintf(err, errsize,
           "%s: a chain of %zu bytes, where %zu can be sent: expected the certificate and its intermediates", cert, n,
           max);
  return false;
}

static bool load_chain(struct tls_identity *id, const char *cert, char *err, size_t errsize) {
  return tls_certificates_load(&id->chain, cert, true, err, errsize) == TLS_LOAD_WHOLE &&
         sendable(&id->chain, cert, err, errsize);
}

static bool load_identity(struct tls_identity *id, const char *cert, const char *key, char *err, size_t errsize) {
  return load_chain(id, cert, err, errsize) && load_key(&id->key, key, err, errsize) &&
         usable_pair(id, cert, key, err, errsize);
}

static struct tls_identity *identity_new(void) {
  struct tls_identity *id = must_calloc(1, sizeof *id);
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
  bool cert_good = load_chain(id, cert, why, sizeof why);
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
