/* tls_session.c: one TLS connection between a plain stream and its owner. Belongs to the stream's thread.
 *
 * Reading. The plain stream's read lands in net->scratch; mbedTLS takes ciphertext from there record by record (on_recv), and
 * what it decrypts is gathered in net->clear, so that one read of the socket is one call of the owner: `clear` has room
 * for a scratch full of records and the rest of one that began earlier. It is wiped as soon as the owner has seen it.
 * When the owner has stopped reading, the rest of the ciphertext is kept; that happens when data follows the end of a handshake in one read.
 *
 * Writing. Records are made as full as they can be. A span of a record or more is encrypted from where it lies; smaller
 * ones are gathered first, so that a head and the begin of its body share a record. mbedTLS encrypts in its own buffer
 * and hands out record by record, also in a flight of the handshake; on_send gathers four (`sealed`) for one call of the kernel, which costs as much
 * as encrypting some kilobytes. The plain stream copies what the kernel does not take: hence a write never waits inside of mbedTLS. The only
 * unencrypted copy is the first gathering, which is wiped when the write was `sensitive`.
 *
 * Ends. close_notify is UV_EOF; a FIN without it is ERR_TRUNCATED, in the middle of a record UV_ECONNRESET: a message whose end
 * is the connection's end must not be cut short by anyone on the path (RFC 8446 section 6.1).
 *
 * Life. Everything large goes when the stream is closed; the session itself, which holds the reason and the peer's names,
 * stays until the stream's on_closed, since a callback of the owner may close the stream from inside step_*. After each
 * such callback `closing` is asked before the session is used again. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/must.h"
#include "base/secmem.h"
#include "net/address.h"
#include "net/stream_internal.h"
#include "net/tls_internal.h"
#include "net/uv_buf.h"

enum { RECORD_MAX = 16 * 1024, SEALED_MAX = 4 * (RECORD_MAX + 256 /* header, tag, padding */), SNI_MAX = 256 };

/* Empty between writes. Not net->clear: the bytes written are often those that were just read. */
static _Thread_local uint8_t gather[RECORD_MAX];
/* mbedTLS's output of one write or one step of a handshake, gathered for one system call; empty between these. */
static _Thread_local struct {
  uint8_t bytes[SEALED_MAX];
  size_t n;
  bool open; /* in one of these */
} sealed;

enum phase { PHASE_HANDSHAKE, PHASE_OPEN, PHASE_FAILED };

struct tls_session {
  struct link waiting; /* in net->handshakes: a client's bytes are in `kept` until there is time for this handshake */
  mbedtls_ssl_context ssl;
  struct stream *stream;
  struct tls_client_conf *client; /* one of these two */
  struct tls_server_conf *server;
  enum phase phase;
  uint64_t heard;    /* during the handshake: uv_now when it last went on */
  const uint8_t *in; /* ciphertext that mbedTLS has not taken yet; valid during a read callback */
  size_t in_n;
  bool dry;        /* mbedTLS asked for more than there is: 3.6 says WANT_READ for other reasons too */
  struct buf kept; /* ciphertext that came when the owner did not read */
  int end;         /* how the stream ended, as on_read gets it; 0: it has not */
  /* bytes of plain text that one record takes: 16,384, or less if agreed (3.6 with TLS 1.3: a byte less) */
  size_t record;
  int io_error;            /* of the plain stream's write, behind an error of mbedTLS */
  unsigned how, other_how; /* a client: of enum tls_how; once it has failed: how it may do better, or `how` */
  enum tls_alpn alpn;      /* of a client: what it offers, TLS_NO_H2 taken into account */
  uv_idle_t kick;          /* delivers the kept bytes when reading starts again; never from inside stream_read_start */
  bool kick_made;
  bool spoken;     /* something of the peer was heard */
  bool text;       /* and it was no TLS, but a client's text */
  bool asked_anew; /* a server has asked for another handshake, and mbedTLS has declined */
  bool is_h2;      /* agreed on, by ALPN */
  bool unfit;      /* and refused by us, since the suite is too old for it */
  bool offered;    /* a saved session was offered to the server */
  bool verified;   /* the peer's certificate was, now or when the resumed session was made */
  int64_t until;   /* end of that verification (clock_boot_ms) */
  struct tls_verdict verdict;
  struct tls_peer_text *peer; /* NULL: no certificate */
  char *name;                 /* client: the name that is verified */
  char *peer_id;              /* client: that, and the address: whose session it is */
  char sni[SNI_MAX];
};

/* --- between mbedTLS and the plain stream --- */

static int on_recv(void *p, unsigned char *out, size_t n) {
  struct tls_session *t = p;
  t->dry = t->in_n == 0;
  if (t->dry) return MBEDTLS_ERR_SSL_WANT_READ;
  if (n > t->in_n) n = t->in_n;
  memcpy(out, t->in, n);
  t->in += n;
  t->in_n -= n;
  return (int)n;
}

/* From here to seal_end what mbedTLS sends is gathered. */
static void seal_begin(void) { sealed.open = true; }

static int flush(struct tls_session *t, const void *data, size_t n) {
  uv_buf_t b = uv_buf_of((struct str){data, n});
  if (t->stream->eof_sent) return 0; /* behind our FIN only alerts and the like come: they are dropped */
  int r = stream_plain_write(t->stream, &b, 1, false); /* ciphertext: nothing to wipe */
  /* A peer that has refused us in the middle of our flight has said why before it left: that is still to be read, and then the end. */
  return t->phase == PHASE_HANDSHAKE && (r == UV_EPIPE || r == UV_ECONNRESET) ? 0 : r;
}

static int flush_sealed(struct tls_session *t) {
  size_t n = sealed.n;
  sealed.n = 0;
  return n > 0 ? flush(t, sealed.bytes, n) : 0;
}

static int seal_end(struct tls_session *t) {
  sealed.open = false;
  return flush_sealed(t);
}

static int on_send(void *p, const unsigned char *data, size_t n) {
  struct tls_session *t = p;
  bool full = sealed.open && sealed.n + n > sizeof sealed.bytes;
  int r = full ? flush_sealed(t) : 0;
  if (r == 0 && !sealed.open) r = flush(t, data, n);
  if (r == 0 && sealed.open) {
    memcpy(sealed.bytes + sealed.n, data, n); /* a record at the most */
    sealed.n += n;
  }
  if (r == 0) return (int)n;
  t->io_error = r;
  return MBEDTLS_ERR_NET_SEND_FAILED;
}

void tls_session_saw_sni(mbedtls_ssl_context *ssl, const unsigned char *name, size_t n) {
  struct tls_session *t = CONTAINER_OF(ssl, struct tls_session, ssl);
  if (n >= sizeof t->sni) return;
  for (size_t i = 0; i < n; i++) t->sni[i] = name[i] > ' ' && name[i] < 127 ? (char)name[i] : '?';
  t->sni[n] = '\0';
}

static void set_reason(struct tls_session *t, const char *text) {
  if (t->verdict.reason[0] == '\0') snprintf(t->verdict.reason, sizeof t->verdict.reason, "%s", text);
}

static const char *const no_protocol[] = {[TLS_ALPN_H1] = "the server does not speak HTTP/1.1 (ALPN)",
                                          [TLS_ALPN_H2_H1] = "the server speaks neither HTTP/2 nor HTTP/1.1 (ALPN)",
                                          [TLS_ALPN_H2] = "the server does not speak HTTP/2 (ALPN)"};

/* The code for an mbedTLS error, its sentence put into the reason unless a better one is there. */
static int failure(struct tls_session *t, int code) {
  if (t->io_error != 0) return t->io_error;
  if (t->asked_anew && code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE)
    set_reason(
        t,
        "the server wanted to renegotiate, most likely for a client certificate on this path alone, which is not "
        "done here: it has to ask in the first handshake");
  if (t->client != NULL && code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE &&
      compat_alert(&t->ssl) == MBEDTLS_SSL_ALERT_MSG_NO_APPLICATION_PROTOCOL)
    set_reason(t, no_protocol[t->alpn]);
  if (t->verdict.reason[0] == '\0') tls_report_error(&t->ssl, code, t->verdict.reason, sizeof t->verdict.reason);
  return ERR_TLS;
}

/* --- handshake --- */

static void tell_open(struct stream *s, int status) {
  stream_open_fn on_open = s->on_open;
  s->on_open = NULL;
  on_open(s, status);
}

/* How another handshake may do better than this one, which failed with `code` of mbedTLS (0: for another reason). Before a certificate was seen the fault may
 * lie in what was offered: 3.6 insists on the version of a saved session, and who was capped may have to do with a server that speaks 1.3 alone by now. */
static unsigned find_other_how(const struct tls_session *t, int code) {
  if (t->unfit && t->alpn == TLS_ALPN_H2_H1) return t->how | TLS_NO_H2;
  if (t->offered && !t->verdict.judged) return t->how & ~(unsigned)TLS_RESUME;
  if ((t->how & TLS_CAPPED) != 0 && !t->verdict.judged) return t->how & ~(unsigned)TLS_CAPPED;
  return t->client->may_cap && compat_refused_pss(&t->ssl, code) ? t->how | TLS_CAPPED : t->how;
}

/* code: of mbedTLS, or 0. */
static void open_failed(struct tls_session *t, int code) {
  struct stream *s = t->stream;
  if (t->client != NULL) t->other_how = find_other_how(t, code);
  t->phase = PHASE_FAILED;
  t->end = ERR_TLS;
  if (t->client != NULL && t->offered) tls_resume_forget(t->client->resume, t->peer_id);
  stream_plain_read_stop(s);
  tell_open(s, ERR_TLS);
}

/* Of those that are ever offered, all of which have forward secrecy: it authenticates what it encrypts (AEAD), as RFC 9113 section 9.2.2 asks. */
static bool suite_is_new(const mbedtls_ssl_context *ssl) {
  const char *suite = mbedtls_ssl_get_ciphersuite(ssl);
  return suite != NULL && (strstr(suite, "GCM") != NULL || strstr(suite, "CHACHA20") != NULL);
}

/* What ALPN has brought. A server of ours has no suite that could be too old. */
static bool agreed(struct tls_session *t) {
  const char *protocol = mbedtls_ssl_get_alpn_protocol(&t->ssl);
  t->is_h2 = protocol != NULL && strcmp(protocol, "h2") == 0;
  t->unfit = t->is_h2 && !suite_is_new(&t->ssl);
  if (t->unfit)
    set_reason(t, "the server chose HTTP/2 and a cipher suite that is too old for it (RFC 9113 section 9.2.2)");
  if (t->client != NULL && t->alpn == TLS_ALPN_H2 && !t->is_h2) set_reason(t, no_protocol[TLS_ALPN_H2]);
  return !t->unfit && (t->client == NULL || t->alpn != TLS_ALPN_H2 || t->is_h2);
}

/* The checks that the handshake itself does not make. False, with the reason set: the peer is refused. */
static bool client_accepts(struct tls_session *t) {
  const mbedtls_x509_crt *peer = mbedtls_ssl_get_peer_cert(&t->ssl);
  const struct tls_client_conf *c = t->client;
  bool unseen = !t->verdict.judged;
  if (unseen && !t->offered && (!c->insecure || c->npins > 0)) {
    set_reason(t, "the peer showed no certificate");
    return false;
  }
  if (!unseen && c->npins > 0 && !t->verdict.pinned) {
    set_reason(t, "certificate matches none of the pins");
    return false;
  }
  if (!unseen || c->insecure) t->until = peer != NULL ? tls_resume_until(peer) : 0;
  t->verified = !c->insecure;
  return true;
}

/* A session may be resumed after its certificate has expired, and mbedTLS checks usages after tls_verdict_step: both are checked once more here. A client
 * without a certificate is accepted where none is required; one with a bad certificate is always refused. */
static bool server_accepts(struct tls_session *t) {
  const mbedtls_x509_crt *peer = mbedtls_ssl_get_peer_cert(&t->ssl);
  if (t->server->client_trust == NULL) return true;
  t->verified =
      peer != NULL && mbedtls_ssl_get_verify_result(&t->ssl) == 0 && !mbedtls_x509_time_is_past(&peer->valid_to);
  if (peer != NULL) t->peer = tls_report_peer(peer);
  if (t->verified || (peer == NULL && !t->server->client_required)) return true;
  const char *phrase = tls_flags_phrase(mbedtls_ssl_get_verify_result(&t->ssl));
  char text[TLS_REASON_MAX];
  snprintf(text, sizeof text, "client certificate %s",
           peer == NULL     ? "is missing"
           : phrase != NULL ? phrase
                            : "has expired");
  set_reason(t, text);
  return false;
}

static void save_session(struct tls_session *t) {
  if (t->client != NULL && t->until > clock_boot_ms())
    tls_resume_save(t->client->resume, t->peer_id, &t->ssl, t->until);
}

/* Returns whether the connection is open and the session still there. */
static bool handshake_done(struct tls_session *t) {
  struct stream *s = t->stream;
  bool accepted = t->client != NULL ? client_accepts(t) : server_accepts(t);
  if (!accepted || !agreed(t)) {
    mbedtls_ssl_send_alert_message(&t->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                   !accepted  ? MBEDTLS_SSL_ALERT_MSG_BAD_CERT
                                   : t->unfit ? MBEDTLS_SSL_ALERT_MSG_INSUFFICIENT_SECURITY
                                              : MBEDTLS_SSL_ALERT_MSG_NO_APPLICATION_PROTOCOL);
    open_failed(t, 0);
    return false;
  }
  if (!compat_is_1_3(&t->ssl)) save_session(t);
  int room = mbedtls_ssl_get_max_out_record_payload(&t->ssl);
  t->record = room > 0 && room < RECORD_MAX ? (size_t)room : RECORD_MAX;
  t->phase = PHASE_OPEN;
  tell_open(s, 0);
  return !s->closing;
}

static int go_on(struct tls_session *t) {
  return t->client != NULL ? mbedtls_ssl_handshake(&t->ssl) : compat_serve_handshake(&t->ssl, t->server->largest);
}

static bool step_handshake(struct tls_session *t) {
  int r;
  t->heard = uv_now(t->stream->net->loop);
  seal_begin();
  do r = go_on(t);
  while (r == MBEDTLS_ERR_SSL_WANT_READ && !t->dry);
  int sent = seal_end(t);
  if (sent != 0 && t->io_error == 0) t->io_error = sent;
  if (sent != 0) r = MBEDTLS_ERR_NET_SEND_FAILED;
  if (r == 0) return handshake_done(t);
  if (r == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE &&
      !compat_is_1_3(&t->ssl)) /* mbedTLS says nothing; RFC 5246 section 7.4.6 */
    mbedtls_ssl_send_alert_message(&t->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE);
  if (r != MBEDTLS_ERR_SSL_WANT_READ) {
    if (failure(t, r) != ERR_TLS) set_reason(t, err_text(t->io_error));
    open_failed(t, r);
  }
  return false;
}

/* --- reading --- */

/* Decrypts what there is, as far as it fits. t->end is set when there will be no more. mbedTLS gives 0 for two records without data in a row: allowed (RFC 5246
 * section 6.2.1), and sent by some to hide how much they say. It is never the end of the stream, which on_recv does not report. */
static size_t decrypt(struct tls_session *t, uint8_t *out, size_t size) {
  size_t n = 0;
  while (t->end == 0 && n < size) {
    compat_forget_empty(&t->ssl);
    int r = mbedtls_ssl_read(&t->ssl, out + n, size - n);
    if (r < 0 && compat_asked_anew(&t->ssl)) t->asked_anew = true;
    if (r >= 0)
      n += (size_t)r;
    else if (r == MBEDTLS_ERR_SSL_WANT_READ && t->dry)
      break;
    else if (r == MBEDTLS_ERR_SSL_WANT_READ)
      continue;
    else if (COMPAT_NEW_TICKET != 0 && r == COMPAT_NEW_TICKET)
      save_session(t);
    else
      t->end = r == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY ? UV_EOF : failure(t, r);
  }
  return n;
}

/* True: data or an end waits for the owner, and the socket will not report it again. */
static bool has_kept(const struct tls_session *t) {
  return t->end != 0 || t->kept.n > 0 || mbedtls_ssl_get_bytes_avail(&t->ssl) > 0;
}

static void step_read(struct tls_session *t) {
  struct stream *s = t->stream;
  uint8_t *clear = s->net->clear;
  while (s->on_read != NULL) {
    size_t n = decrypt(t, clear, CLEAR_SIZE);
    if (n == 0) break;
    s->on_read(s, (ssize_t)n, clear);
    secmem_wipe(clear, n);
  }
  if (s->closing || t->end == 0) return;
  stream_plain_read_stop(s);
  stream_tell_end(s, t->end);
}

/* Goes on with the ciphertext in t->in. */
static void step(struct tls_session *t) {
  struct stream *s = t->stream;
  if (t->phase == PHASE_HANDSHAKE && !step_handshake(t)) return;
  step_read(t);
  if (s->closing) return;
  if (t->in_n > 0) buf_add(&t->kept, t->in, t->in_n);
  t->in_n = 0;
  if (s->on_read == NULL) stream_plain_read_stop(s);
}

static void step_kept(struct tls_session *t) {
  struct stream *s = t->stream;
  struct buf kept = t->kept;
  uv_idle_stop(&t->kick);
  if (s->closing) return;
  buf_init(&t->kept);
  t->in = kept.p;
  t->in_n = kept.n;
  step(t);
  buf_fini(&kept);
  if (!s->closing && (s->on_read != NULL || t->phase == PHASE_HANDSHAKE)) stream_plain_read_start(s);
}

/* Called for the first session that is kicked in this iteration of the loop; runs those that have waited longest. */
static void step_handshakes(struct net *net) {
  while (!list_empty(&net->handshakes) && tls_pace_may(net)) {
    struct tls_session *t = CONTAINER_OF(list_pop(&net->handshakes), struct tls_session, waiting);
    int64_t begun = tls_pace_begin();
    step_kept(t);
    tls_pace_end(net, begun);
  }
}

static void on_kick(uv_idle_t *kick) {
  struct tls_session *t = CONTAINER_OF(kick, struct tls_session, kick);
  if (list_empty(&t->waiting))
    step_kept(t);
  else
    step_handshakes(t->stream->net);
}

static void kick(struct tls_session *t) {
  if (!t->kick_made) uv_idle_init(t->stream->net->loop, &t->kick);
  t->kick_made = true;
  uv_idle_start(&t->kick, on_kick);
}

/* --- writing --- */

static int encrypt(struct tls_session *t, const uint8_t *p, size_t n) {
  while (n > 0) {
    int r = mbedtls_ssl_write(&t->ssl, p, n);
    if (r < 0) return failure(t, r);
    p += r;
    n -= (size_t)r;
  }
  return 0;
}

/* Moves a record's worth, or all there is, from the spans (from bufs[*i] + *at on) into gather. */
static size_t gather_up(const uv_buf_t *bufs, unsigned nbufs, unsigned *i, size_t *at, size_t record) {
  size_t n = 0;
  while (*i < nbufs && n < record) {
    size_t left = bufs[*i].len - *at, room = record - n, take = left < room ? left : room;
    memcpy(gather + n, bufs[*i].base + *at, take);
    n += take;
    *at += take;
    if (*at < bufs[*i].len) break;
    *i += 1;
    *at = 0;
  }
  return n;
}

static int tls_write(struct stream *s, const uv_buf_t *bufs, unsigned nbufs, bool sensitive) {
  struct tls_session *t = s->tls;
  unsigned i = 0;
  size_t at = 0, dirty = 0;
  int status = 0;
  if (t->phase != PHASE_OPEN) return t->phase == PHASE_FAILED ? ERR_TLS : UV_ENOTCONN;
  seal_begin();
  while (status == 0 && i < nbufs) {
    size_t left = bufs[i].len - at;
    if (left >= t->record || i + 1 == nbufs) {
      size_t whole = i + 1 == nbufs ? left : left - left % t->record;
      status = encrypt(t, (const uint8_t *)bufs[i].base + at, whole);
      at += whole;
      if (at == bufs[i].len) i++, at = 0;
    } else {
      size_t n = gather_up(bufs, nbufs, &i, &at, t->record);
      status = encrypt(t, gather, n);
      if (n > dirty) dirty = n;
    }
  }
  int sent = seal_end(t);
  if (sensitive) secmem_wipe(gather, dirty);
  return status != 0 ? status : sent;
}

static void tls_shutdown(struct stream *s) {
  if (s->tls->phase == PHASE_OPEN) mbedtls_ssl_close_notify(&s->tls->ssl);
  stream_plain_shutdown(s);
}

/* Sends close_notify before the owner closes a connection whose bytes have all gone, so that the peer can tell this from a cut. */
static void tls_close(struct stream *s) {
  if (s->tls->phase == PHASE_OPEN && !s->eof_sent && s->queued == 0) mbedtls_ssl_close_notify(&s->tls->ssl);
}

/* --- events of the socket --- */

/* Reports the end to the owner: a FIN without close_notify is not a clean one. */
static void raw_ended(struct tls_session *t, int status) {
  if (t->phase == PHASE_HANDSHAKE) {
    char *reason = t->verdict.reason;
    const char *what = status == UV_EOF ? "the peer closed the connection" : err_text(status);
    if (reason[0] == '\0') snprintf(reason, sizeof t->verdict.reason, "%s during the TLS handshake", what);
    open_failed(t, 0);
    return;
  }
  if (t->end == 0) t->end = status != UV_EOF ? status : compat_in_record(&t->ssl) ? UV_ECONNRESET : ERR_TRUNCATED;
  stream_tell_end(t->stream, t->end);
}

/* A client's handshake goes on now if none waits and there is time, else after those that wait. */
static void step_in_turn(struct tls_session *t, const uint8_t *data, size_t n) {
  struct net *net = t->stream->net;
  if (list_empty(&net->handshakes) && tls_pace_may(net)) {
    int64_t begun = tls_pace_begin();
    t->in = data;
    t->in_n = n;
    step(t);
    tls_pace_end(net, begun);
    return;
  }
  buf_add(&t->kept, data, n);
  stream_plain_read_stop(t->stream);
  list_push(&net->handshakes, &t->waiting);
  kick(t);
}

/* The first bytes of a peer that speaks text, where a record of TLS begins with 22: a method of HTTP, or a reply. */
static const char *what_text(struct tls_session *t, const uint8_t *data, size_t n) {
  bool first = !t->spoken;
  t->spoken = true;
  if (!first || data[0] < 'A' || data[0] > 'Z') return NULL;
  if (t->server != NULL) return "what the client sent is not TLS, but text";
  return n >= 5 && memcmp(data, "HTTP/", 5) == 0
             ? "the server answered in plain HTTP: is its URL one that begins with http://?"
             : "what the server sent is not TLS, but text";
}

static void tls_raw_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct tls_session *t = s->tls;
  if (n < 0) {
    raw_ended(t, (int)n);
    return;
  }
  const char *text = t->phase == PHASE_HANDSHAKE ? what_text(t, data, (size_t)n) : NULL;
  if (text != NULL) {
    t->text = t->server != NULL;
    set_reason(t, text);
    open_failed(t, 0);
    return;
  }
  if (t->phase == PHASE_HANDSHAKE && t->server != NULL) {
    step_in_turn(t, data, (size_t)n);
    return;
  }
  t->in = data;
  t->in_n = (size_t)n;
  step(t);
}

static void tls_raw_drain(struct stream *s, int status) {
  struct tls_session *t = s->tls;
  if (t->phase == PHASE_OPEN && s->on_drain != NULL) s->on_drain(s, status);
  if (t->phase == PHASE_HANDSHAKE && status < 0) raw_ended(t, status);
}

/* --- reading, as the owner asks for it --- */

static void tls_read_start(struct stream *s) {
  struct tls_session *t = s->tls;
  if (t->phase == PHASE_HANDSHAKE) return; /* the socket is being read already */
  if (!has_kept(t)) {
    stream_plain_read_start(s);
    return;
  }
  kick(t);
}

static void tls_read_stop(struct stream *s) {
  struct tls_session *t = s->tls;
  if (t->phase == PHASE_HANDSHAKE) return;
  if (t->kick_made) uv_idle_stop(&t->kick);
  stream_plain_read_stop(s);
}

static const char *tls_reason(const struct stream *s) { return s->tls->verdict.reason; }

/* --- life --- */

static void session_free(struct tls_session *t) {
  mbedtls_ssl_free(&t->ssl);
  buf_fini(&t->kept);
  tls_client_conf_unref(t->client);
  tls_server_conf_unref(t->server);
  free(t->peer);
  free(t->name);
  free(t->peer_id);
  free(t);
}

static void on_kick_closed(uv_handle_t *h) { session_free(CONTAINER_OF(h, struct tls_session, kick)); }

static void tls_fini(struct stream *s) {
  struct tls_session *t = s->tls;
  list_remove(&t->waiting);
  s->tls = NULL;
  s->ops = &stream_plain_ops; /* for owners that ask for a reason in on_closed */
  if (t->kick_made)
    uv_close((uv_handle_t *)&t->kick, on_kick_closed);
  else
    session_free(t);
}

static const struct stream_ops tls_ops = {
    .read_start = tls_read_start,
    .read_stop = tls_read_stop,
    .write = tls_write,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .reason = tls_reason,
    .raw_read = tls_raw_read,
    .raw_drain = tls_raw_drain,
    .fini = tls_fini,
};

static int session_new(struct stream *s, const mbedtls_ssl_config *conf, stream_open_fn on_open) {
  struct tls_session *t = must_calloc(1, sizeof *t);
  list_init(&t->waiting);
  mbedtls_ssl_init(&t->ssl);
  buf_init(&t->kept);
  t->stream = s;
  t->heard = uv_now(s->net->loop);
  s->tls = t;
  s->ops = &tls_ops;
  s->on_open = on_open;
  mbedtls_ssl_set_bio(&t->ssl, t, on_send, on_recv, NULL);
  mbedtls_ssl_set_verify(&t->ssl, tls_verdict_step, &t->verdict);
  t->verdict.ssl = &t->ssl;
  return mbedtls_ssl_setup(&t->ssl, conf);
}

/* The first flight, unless `r` says that making the session failed. Other than 0: on_open will not be called. */
static int session_start(struct tls_session *t, int r) {
  if (r == 0) r = go_on(t);
  if (r == MBEDTLS_ERR_SSL_WANT_READ) {
    stream_plain_read_start(t->stream);
    return 0;
  }
  t->phase = PHASE_FAILED;
  t->end = ERR_TLS;
  t->stream->on_open = NULL;
  return failure(t, r);
}

/* Lower case, without the dot that a full name may end in: what certificates and SNI want (RFC 6066 section 3). */
static char *name_to_verify(const char *host) {
  char *name = must_strdup(host);
  size_t n = strlen(name);
  if (n > 1 && name[n - 1] == '.') name[n - 1] = '\0';
  for (char *p = name; *p != '\0'; p++) *p = char_lower(*p);
  return name;
}

/* Replicas have a name in common, but seldom their sessions: each would lose its own to the next one. */
static char *id_of_peer(const struct stream *s, const char *name) {
  union address a = {0};
  char address[ADDRESS_TEXT] = "";
  int size = sizeof a;
  size_t n = strlen(name) + sizeof address + 1;
  char *id = must_malloc(n);
  bool known = s->uv.handle.type == UV_TCP && uv_tcp_getpeername(&s->uv.tcp, &a.sa, &size) == 0;
  if (known) (void)address_format(&a, address, sizeof address); /* else it goes by the name alone */
  snprintf(id, n, "%s %s", name, address);
  return id;
}

int stream_start_tls_client(struct stream *s, struct tls_client *client, const char *host, unsigned how,
                            enum tls_alpn alpn, stream_open_fn on_open) {
  struct tls_client_conf *c = tls_client_now(client);
  bool cap = c->may_cap && (how & TLS_CAPPED) != 0;
  if (alpn == TLS_ALPN_H2_H1 && (how & TLS_NO_H2) != 0) alpn = TLS_ALPN_H1;
  int r = session_new(s, tls_conf_for(cap ? &c->capped : &c->confs, alpn), on_open);
  struct tls_session *t = s->tls;
  t->alpn = alpn;
  t->client = c;
  t->how = t->other_how = how;
  t->name = name_to_verify(c->server_name != NULL ? c->server_name : host);
  t->peer_id = id_of_peer(s, t->name);
  t->verdict.client = c;
  t->verdict.name = c->insecure ? NULL : t->name;
  t->verdict.trust = c->trust;
  /* An address is no name for SNI, and 2.28 would compare it with names: tls_verify.c looks for it by itself. NULL must be
   * said, or 3.6 refuses to verify. */
  if (r == 0) r = mbedtls_ssl_set_hostname(&t->ssl, tls_is_ip(t->name) ? NULL : t->name);
  if (r == 0 && (how & TLS_RESUME) != 0) t->offered = tls_resume_offer(c->resume, t->peer_id, &t->ssl, &t->until);
  return session_start(t, r);
}

int stream_start_tls_server(struct stream *s, struct tls_server *server, enum tls_alpn alpn, stream_open_fn on_open) {
  struct tls_server_conf *v = tls_server_now(server);
  int r = session_new(s, tls_conf_for(&v->confs, alpn), on_open);
  s->tls->server = v;
  s->tls->verdict.trust = v->client_trust;
  return session_start(s->tls, r);
}

bool stream_tls_is_h2(const struct stream *s) { return s->tls != NULL && s->tls->is_h2; }

uint64_t stream_tls_stalled(const struct stream *s) {
  const struct tls_session *t = s->tls;
  return list_empty(&t->waiting) ? uv_now(s->net->loop) - t->heard : 0;
}

unsigned stream_tls_other_how(const struct stream *s) { return s->tls->other_how; }

void stream_tls_answer_text(struct stream *s, struct str answer) {
  uv_buf_t b = uv_buf_of(answer);
  if (s->tls != NULL && s->tls->text) (void)stream_plain_write(s, &b, 1, false);
}

bool stream_tls_peer(const struct stream *s, struct tls_peer *out) {
  const struct tls_session *t = s->tls;
  if (t == NULL) return false;
  *out = (struct tls_peer){.version = str_of(mbedtls_ssl_get_version(&t->ssl)),
                           .sni = str_of(t->sni),
                           .shown = t->server != NULL && t->verdict.judged,
                           .verified = t->verified,
                           .resumed = t->client != NULL && t->offered && !t->verdict.judged && t->phase == PHASE_OPEN};
  if (t->peer == NULL) return true;
  out->subject = str_of(t->peer->subject);
  out->san = str_of(t->peer->san);
  out->fingerprint = str_of(t->peer->fingerprint);
  return true;
}
