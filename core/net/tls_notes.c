/* tls_notes.c: warnings about certificates, keys and authorities: what will be wrong soon, or is careless. Reported when a policy is checked or loaded, and
 * when its files have been read again. Sentences name the file. Pure functions but for stat and the system's bundle.
 *
 * Nothing here refuses anything: a certificate that has expired is served, since some clients do not care and no certificate helps none. A note says what peers
 * will refuse, now or later, while somebody can still change it. Each is about a mistake that costs its maker an hour with the peer's bare "handshake failure":
 * dates, a use that the certificate is not meant for, a chain out of order, an authority that is none.
 *
 * TLS_NOTES_THOROUGH reads the system's authorities, some 20 ms: for `jeton check`, not for a reload. */
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/tls_internal.h"

enum { SOON_DAYS = 30, DAY_MS = 24 * 3600 * 1000, NAME_MAX_TEXT = 160, AUTHORITIES_MAX = 8, RSA_BITS_MIN = 2048 };

struct teller {
  tls_tell_fn tell;
  void *arg;
};

__attribute__((format(printf, 2, 3))) static void say(const struct teller *t, const char *fmt, ...) {
  char text[1024];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  t->tell(t->arg, text);
}

static const char *name_of(const mbedtls_x509_name *name, char out[NAME_MAX_TEXT]) {
  if (mbedtls_x509_dn_gets(out, NAME_MAX_TEXT, name) < 0) snprintf(out, NAME_MAX_TEXT, "a nameless one");
  return out;
}

static void note_dates(const struct teller *t, const mbedtls_x509_crt *crt, const char *path, const char *what) {
  const mbedtls_x509_time *end = &crt->valid_to, *begin = &crt->valid_from;
  int64_t days = (tls_valid_until(crt) - clock_wall_ms()) / DAY_MS;
  if (mbedtls_x509_time_is_past(end))
    say(t, "%s: %s expired on %04d-%02d-%02d", path, what, end->year, end->mon, end->day);
  else if (mbedtls_x509_time_is_future(begin))
    say(t, "%s: %s is not valid before %04d-%02d-%02d", path, what, begin->year, begin->mon, begin->day);
  else if (days < SOON_DAYS)
    say(t, "%s: %s expires in %lld day%s, on %04d-%02d-%02d", path, what, (long long)days, days == 1 ? "" : "s",
        end->year, end->mon, end->day);
}

/* A group is only superfluous for the owner: root's key with a service's group is how that service gets to read it. */
static void note_key(const struct teller *t, const char *path) {
  struct stat st;
  if (stat(path, &st) != 0) return;
  bool ours = st.st_uid == geteuid() && st.st_uid != 0;
  if ((st.st_mode & S_IROTH) != 0)
    say(t, "%s: a private key that everybody may read (chmod o= mends it)", path);
  else if (ours && (st.st_mode & S_IRGRP) != 0)
    say(t, "%s: a private key that its group may read (chmod 600 mends it)", path);
}

/* --- what peers will not take, though there is nothing wrong with it here --- */

static const char *names_of_side(bool server) { return server ? "clients" : "servers"; }

static void note_strength(const struct teller *t, const mbedtls_x509_crt *crt, const char *path, bool server) {
  size_t bits = mbedtls_pk_get_bitlen(&crt->pk);
  if (mbedtls_pk_can_do(&crt->pk, MBEDTLS_PK_RSA) && bits < RSA_BITS_MIN)
    say(t, "%s: an RSA key of %zu bits: %s refuse fewer than %d", path, bits, names_of_side(server), RSA_BITS_MIN);
  mbedtls_md_type_t md = compat_signature_md(crt);
  if (md == MBEDTLS_MD_SHA1 || md == MBEDTLS_MD_MD5)
    say(t, "%s: signed by %s, which %s refuse", path, md == MBEDTLS_MD_MD5 ? "MD5" : "SHA-1", names_of_side(server));
}

static void note_use(const struct teller *t, const mbedtls_x509_crt *crt, const char *path, bool server) {
  if (!tls_is_meant_for(crt, server))
    say(t, "%s: the certificate is not meant for %s (extended key usage): %s refuse it", path,
        server ? "servers" : "clients", names_of_side(server));
  if (server && crt->subject_alt_names.buf.p == NULL)
    say(t, "%s: the certificate names no host (no subjectAltName): clients refuse it", path);
}

/* Each certificate of the file is to be followed by that of its issuer (RFC 8446 section 4.4.2). The first that is not, or NULL. */
static const mbedtls_x509_crt *out_of_order(const mbedtls_x509_crt *crt) {
  for (; crt->next != NULL && crt->next->version != 0; crt = crt->next)
    if (!tls_same_name(&crt->issuer_raw, &crt->next->subject_raw)) return crt;
  return NULL;
}

static void note_order(const struct teller *t, const mbedtls_x509_crt *chain, const char *path) {
  char subject[NAME_MAX_TEXT], next[NAME_MAX_TEXT];
  const mbedtls_x509_crt *odd = out_of_order(chain);
  if (odd == NULL) return;
  say(t, "%s: the chain is out of order: behind the certificate of %s comes %s, not its issuer", path,
      name_of(&odd->subject, subject), name_of(&odd->next->subject, next));
}

static bool knows(struct tls_trust *trust, const mbedtls_x509_buf *name) {
  if (trust == NULL) return false;
  for (const mbedtls_x509_crt *c = tls_trust_chain(trust); c != NULL && c->version != 0; c = c->next)
    if (tls_same_name(&c->subject_raw, name)) return true;
  return false;
}

static bool system_knows(const mbedtls_x509_buf *name) {
  char err[TLS_REASON_MAX];
  struct tls_trust *system = tls_trust_get(NULL, err, sizeof err);
  bool known = knows(system, name);
  tls_trust_unref(system);
  return known;
}

/* The authority of the listener's clients is a private one that somebody knows. */
static void note_end_of_chain(const struct teller *t, const mbedtls_x509_crt *last, struct tls_trust *clients,
                              const char *path) {
  char issuer[NAME_MAX_TEXT];
  const mbedtls_x509_buf *name = &last->issuer_raw;
  if (tls_same_name(name, &last->subject_raw) || knows(clients, name) || system_knows(name)) return;
  say(t,
      "%s: the chain ends below %s, which is no authority of this system: is an intermediate certificate missing, or "
      "is this a private authority that the others know?",
      path, name_of(&last->issuer, issuer));
}

void tls_identity_notes(const struct tls_identity *id, const struct tls_certificate_settings *files, bool server,
                        enum tls_notes which, tls_tell_fn tell, void *arg) {
  struct teller t = {tell, arg};
  note_dates(&t, &id->chain, files->cert, "the certificate");
  for (const mbedtls_x509_crt *c = id->chain.next; c != NULL && c->version != 0; c = c->next)
    note_dates(&t, c, files->cert, "an intermediate certificate");
  if (which == TLS_NOTES_DATES) return;
  note_key(&t, files->key);
  note_strength(&t, &id->chain, files->cert, server);
  note_use(&t, &id->chain, files->cert, server);
  note_order(&t, &id->chain, files->cert);
}

void tls_chain_notes(const struct tls_identity *id, const char *path, struct tls_trust *clients, tls_tell_fn tell,
                     void *arg) {
  struct teller t = {tell, arg};
  const mbedtls_x509_crt *odd = out_of_order(&id->chain), *last = &id->chain;
  while (last->next != NULL && last->next->version != 0) last = last->next;
  if (odd == NULL) note_end_of_chain(&t, last, clients, path);
}

/* A certificate that may not sign is accepted as a server's own only when it has signed itself. */
static void note_authority(const struct teller *t, const mbedtls_x509_crt *crt, const char *path) {
  char subject[NAME_MAX_TEXT];
  if (crt->version < 3 || compat_may_sign(crt) || tls_issued_itself(crt)) return;
  say(t, "%s: %s is no authority (CA:FALSE), so it vouches for nobody: expected its issuer's certificate", path,
      name_of(&crt->subject, subject));
}

/* A large bundle always has some authorities that have ended or are not known; that is no mistake of the user. */
void tls_authority_notes(struct tls_trust *trust, const char *path, enum tls_notes which, tls_tell_fn tell, void *arg) {
  struct teller t = {tell, arg};
  const mbedtls_x509_crt *chain = tls_trust_chain(trust);
  unsigned n = 0;
  for (const mbedtls_x509_crt *c = chain; c != NULL && c->version != 0; c = c->next) n++;
  if (n > AUTHORITIES_MAX) return;
  for (const mbedtls_x509_crt *c = chain; c != NULL && c->version != 0; c = c->next) {
    note_dates(&t, c, path, "an authority");
    if (which != TLS_NOTES_DATES) note_authority(&t, c, path);
  }
  if (which == TLS_NOTES_DATES) return;
  if (tls_trust_passed_over(trust) != NULL) say(&t, "%s; it is passed over", tls_trust_passed_over(trust));
}
