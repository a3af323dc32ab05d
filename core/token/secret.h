/* secret.h: an opaque value that a script can hold, join and hand on, but not read.
 *
 * A secret is an immutable, refcounted tree: literal text, a token of a slot, bytes from a file, variable or command, bytes that were computed from secrets, joins
 * of these, and encodings of them (base64, hex, percent-encoding, JSON string). It becomes bytes only in secret_expand, which is called while a request is
 * serialised: there the token's expiry is checked on CLOCK_BOOTTIME and the audience against scheme, host and port of the target.
 * References may be taken and given up in any thread; expanding happens in one (readers belong to the VM that made them). */
#ifndef JETON_TOKEN_SECRET_H
#define JETON_TOKEN_SECRET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mask.h"
#include "base/str.h"
#include "token/audience.h"
#include "token/slot.h"

struct secret;
struct provenance;

/* Bounds of one tree, so that a script that doubles a secret in a loop comes to an end. Making a secret beyond them gives NULL. */
enum {
  SECRET_PARTS_MAX = 64,          /* literals, tokens and bytes in it */
  SECRET_DEPTH_MAX = 8,           /* encodings of encodings */
  SECRET_BYTES_MAX = 1024 * 1024, /* literal and secret bytes in it, and the most that it may expand to */
};

enum token_missing { MISSING_WAIT, MISSING_FAIL, MISSING_PASS };

/* One reference each. They take references of their own to their parts. NULL when over the bounds, or when given NULL. */
struct secret *secret_literal(struct str text); /* copies */
struct secret *secret_bytes(struct str bytes, const char *label,
                            struct audience *a); /* copies into secret memory; label for tostring. audience NULL: any */
/* Bytes from a place that may change (a file, a command's output): asked for by each expansion, on its thread. Any target may receive them. */
struct secret_source_ops {
  int (*read)(void *data, struct str *bytes); /* 0 with bytes that stay until the next call, or ERR_SECRET_SOURCE */
  void (*done)(void *data); /* the bytes of the last read, if there were any, are needed no more; may be NULL */
  void (*free)(void *data); /* by the last unref */
  /* adds what its bytes are read from, after a look at it; may be NULL: it does not change */
  void (*note)(void *data, struct provenance **to);
};
struct secret *secret_source(const struct secret_source_ops *ops, void *data,
                             const char *label); /* takes over data; never NULL */
/* The same for bytes of a token, which stay bound as it was: any server may receive them, since a refresh token goes to its issuer, but what is made of them is no
 * freer than that token, and a command or a file gets them as it gets a token. bond->sealed: the token may not be revealed. owner: see secret_context. */
struct secret *secret_bytes_of_token(struct str bytes, const char *label, struct audience *servers,
                                     const struct token_bond *bond, const void *owner);
/* The slot's token: the value (field.p NULL) or an extra field. audience NULL: nobody. Holds the slot's reader, so make it once a VM and slot and hand out references:
 * a new one takes the slot's mutex at its first expansion. */
struct secret *secret_token(struct slot *s, struct str field, struct audience *a, int missing_policy);
/* As secret_token, for a token whose policy says reveal = true. */
struct secret *secret_token_open(struct slot *s, struct str field, struct audience *a, int missing_policy);
/* The tokens in s are read on the thread of that mailbox from now on, and let go there when their slots change (slot_reader_at_home). Those that have a home keep it. */
void secret_at_home(struct secret *s, struct mailbox *home);
struct secret *secret_join(struct secret *a, struct secret *b);
/* text .. s, or s .. text: a hook does this once a request. One allocation. */
struct secret *secret_join_text(struct secret *s, struct str text, bool text_first);
enum secret_encoding {
  SECRET_BASE64,
  SECRET_BASE64URL /* without padding */,
  SECRET_FORM /* application/x-www-form-urlencoded */,
  SECRET_JSON /* without quotes */,
  SECRET_HEX /* lower case */,
  SECRET_URL /* percent-encoding of all but RFC 3986's unreserved characters: a part of a path, a name or value in a query */
  ,
  SECRET_COOKIE /* as it is, or ERR_SECRET_BYTES: RFC 6265 section 4.1.1 */
};
struct secret *secret_encode(struct secret *s, enum secret_encoding e);
struct secret_taint;
/* Bytes that were computed from secrets (a hash, a signature, what base64 held), copied into secret memory; label for tostring. They are bound as everything that went
 * in: all of its audiences have to allow the target, they are good until the first of its ends, and they count as a use of its generations of tokens. Takes over what
 * *o holds, also when the result is NULL. A hash is bound as well: what can be guessed (a password) can be found by it, and a signature is a credential. */
struct secret *secret_computed(struct str bytes, const char *label, struct secret_taint *o);
/* Something computed is in it that is out of date: a token that went in has ended, was refused by an upstream, or has been replaced. Making it anew is what helps. */
bool secret_is_over(const struct secret *s, int64_t now_boot_ms);
/* A token is in it, or something that was computed of one: it is another secret with each generation. */
bool secret_is_of_token(const struct secret *s);
/* The secret for use in another thread: s itself where nothing in it belongs to this one; else a copy, in which tokens have readers of their own, and what a source
 * gives now stands for the source. Call it on the thread that owns s. 0 with a new reference in *out; what a source's read said; or ERR_LIMIT: over the bounds. */
int secret_carry(struct secret *s, struct secret **out);
size_t secret_size(
    const struct secret *s); /* bytes of the texts and secrets in it; what it shares with others counts, too */
struct secret *secret_ref(struct secret *s);
void secret_unref(struct secret *s); /* NULL is fine */
/* "Bearer <token api>", for tostring. Control bytes of literals come out as '?'. */
void secret_describe(const struct secret *s, struct buf *out);

/* Every token in it, in order; stops and returns fn's value when that is not 0. */
struct secret_token_view {
  struct slot_reader *reader;
  struct audience *audience;
  enum token_missing missing;
  struct str field; /* .p NULL: the value */
};
int secret_each_token(struct secret *s, int (*fn)(void *arg, const struct secret_token_view *t), void *arg);

/* Adds what the sources in it were read from. */
void secret_note_provenance(const struct secret *s, struct provenance **to);

/* Where the bytes go that are no server. */
enum secret_place {
  SECRET_TO_SERVER,
  SECRET_TO_COMMAND, /* its input or environment: a token's go only where its hosts list the command, or reveal = true */
  SECRET_TO_FILE,    /* the same for a file */
  SECRET_TO_SCRIPT   /* tokens:reveal(): where reveal = true, and nothing in it is sealed */
};

enum { SECRET_USED_MAX = 8 };
struct secret_use { /* a token of a slot */
  struct slot *slot;
  uint64_t generation;
};
/* What bytes that are computed from secrets inherit of what went in, as in taint tracking. Where bytes were read from is base/provenance.h. Zeroed before its first use. */
struct secret_taint {
  struct audience *audience; /* the servers that may receive all of it: a reference, or NULL: any may */
  bool of_token;             /* then bond says what may be made of it, as of what secret_bytes_of_token makes */
  struct token_bond bond;
  int64_t ends_at; /* CLOCK_BOOTTIME ms; 0: nothing in it ends */
  unsigned nuses;
  struct secret_use uses[SECRET_USED_MAX]; /* a reference to each slot */
};
void secret_taint_fini(struct secret_taint *o);

struct secret_context {
  /* the target */
  bool tls;
  struct str host;
  uint16_t port;
  struct str unix_path; /* .p not NULL: that socket, and the three above say nothing */
  enum secret_place place;
  struct str path; /* of the command or file */
  struct token_bond *
      bond; /* not NULL: narrowed by each token among the bytes; its owner fini's it, whatever comes of the expansion */
  /* not NULL: is told each secret part that goes out, so that it can be hidden where it comes back */
  struct mask *mask;
  const void *
      owner; /* bytes of a token that were made with the same owner do not narrow the bond: a slot's own refresh token goes from value to value */
  struct secret_taint
      *taint; /* not NULL: is told what the bytes come from; its owner fini's it, whatever comes of the expansion */
  bool any_target;        /* crypto keys and other uses inside the process: audience is not asked */
  bool header_safe;       /* refuse control bytes but HTAB, DEL included (ERR_SECRET_BYTES) */
  int64_t (*clock)(void); /* NULL: clock_boot_ms, read anew at each expansion. For tests. */
  /* the tokens expanded, each slot and generation once, for rejection by generation. A failed expansion notes nothing. The slots are
   * borrowed: alive as long as the secrets, or as who holds them besides (lua/pins.h) */
  struct secret_use used[SECRET_USED_MAX];
  unsigned nused;
  int64_t
      ends_at; /* on the same clock: of the tokens expanded, successfully or not, the first end; 0: there was none */
};
/* Notes a token as used, as expanding it does: 0, ERR_TOKEN_EXPIRED (another generation of it is), or ERR_LIMIT. */
int secret_context_use(struct secret_context *c, struct slot *slot, const struct token *t);
/* Would each token that was used so far still be sent? Asks the slots: what was computed with a token may go out without its bytes. */
bool secret_context_serves(const struct secret_context *c);
/* For headers of a request to that target. */
static inline void secret_context_aim(struct secret_context *c, bool tls, struct str host, uint16_t port,
                                      struct str unix_path) {
  c->tls = tls;
  c->host = host;
  c->port = port;
  c->unix_path = unix_path;
  c->place = SECRET_TO_SERVER;
  c->bond = NULL;
  c->mask = NULL;
  c->taint = NULL;
  c->any_target = false;
  c->header_safe = true;
  c->clock = NULL;
  c->nused = 0; /* and so nothing of `used` */
  c->ends_at = 0;
}
/* The token that would go to ctx's target now, or NULL; then *outdated says whether one that may is on its way: the one at hand is of before a change of what it is
 * fetched with, and bound to other servers. That one is t->reader->token then. Borrowed, as from slot_read. */
struct token *secret_token_for(const struct secret_token_view *t, const struct secret_context *ctx, int64_t now_boot_ms,
                               bool *outdated);
/* Appends the bytes to out, which must be `sensitive`. Returns 0, ERR_TOKEN_MISSING (no valid token, or no such field), ERR_TOKEN_EXPIRED (the one this
 * reader saw last is over, or the context holds another generation of it: begin the context anew), ERR_TOKEN_AUDIENCE, ERR_SECRET_BYTES, ERR_LIMIT (more than SECRET_BYTES_MAX, or more than SECRET_USED_MAX tokens in one
 * context): out is then as before, wiped behind. */
int secret_expand(struct secret *s, struct secret_context *ctx, struct buf *out);
/* A head that may hold several secrets: all of it is written, or nothing. A publish between two of them lets the second one fail, since the context holds the older generation of
 * the token, so such a head is written anew, once:
 *   struct secret_head all = secret_head_begin(out, ctx);
 *   do rc = write it; while (secret_head_again(&all, rc));
 * Sets header_safe. ctx NULL: no secret is expanded. */
struct secret_head {
  struct buf *out;
  struct secret_context *ctx;
  size_t before;
  unsigned nused;
  bool second;
};
static inline struct secret_head secret_head_begin(struct buf *out, struct secret_context *ctx) {
  if (ctx != NULL) ctx->header_safe = true;
  return (struct secret_head){.out = out, .ctx = ctx, .before = out->n, .nused = ctx != NULL ? ctx->nused : 0};
}
/* rc: 0 or an error; then `out` is as before from here on, wiped behind, and so is what the context has used. True: write it once more. */
bool secret_head_again(struct secret_head *h, int rc);

#endif
