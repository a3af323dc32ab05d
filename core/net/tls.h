/* tls.h: TLS over a stream. Only files of core/net/tls_* name an mbedTLS type; both major versions (2.28, 3.x) behind them.
 *
 * A tls_client or tls_server is a refcounted configuration, made by control from the policy or by a script's call, shared by all threads.
 * Its settings never change; its files are read again by tls_reread, and connections that begin afterwards use the new contents. A connected plain stream
 * becomes a TLS stream with stream_start_tls. Verification is on unless the configuration says `insecure`; the peer's name is always checked, IP addresses
 * included (against iPAddress SANs). */
#ifndef JETON_NET_TLS_H
#define JETON_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "net/stream.h"

enum tls_version { TLS_1_2 = 12, TLS_1_3 = 13 };

struct tls_client_settings {
  const char *ca;          /* PEM file or directory; NULL: the system's bundle */
  const char *cert, *key;  /* PEM files of a client certificate, or NULL */
  const char *server_name; /* the name to ask for (SNI) and to verify; NULL: the host that is dialled */
  enum tls_version min_version, max_version; /* max_version 0: the highest that there is */
  /* "sha256/BASE64" of a SubjectPublicKeyInfo (RFC 7469 section 2.4): one of them must be the peer's own. Asked of an
   * insecure client too. */
  const char *const *pins;
  size_t npins;
  const char *insecure; /* the name under which all verification was turned off; NULL: it is on */
};
struct tls_certificate_settings {
  const char *cert, *key;
};
struct tls_server_settings {
  /* Chosen by SNI (exact, then wildcard); else the first, and those that have all its names and a key of another kind. */
  const struct tls_certificate_settings *certificates;
  size_t ncertificates;
  const char *client_ca; /* NULL: client certificates are not asked for */
  bool client_required;  /* false: a client may have none; a certificate that it does show must be good all the same */
  enum tls_version min_version, max_version; /* max_version 0: the highest that there is */
};

struct tls_client;
struct tls_server;
/* Reads and checks every file. On failure returns NULL and writes a sentence that names the file to err. Any thread. */
struct tls_client *tls_client_new(const struct tls_client_settings *s, char *err, size_t errsize);
struct tls_server *tls_server_new(const struct tls_server_settings *s, char *err, size_t errsize);
/* Tells everything that is wrong with the files, where the two above stop at the first. */
typedef void (*tls_tell_fn)(void *arg, const char *text);
void tls_client_problems(const struct tls_client_settings *s, tls_tell_fn tell, void *arg);
void tls_server_problems(const struct tls_server_settings *s, tls_tell_fn tell, void *arg);
struct tls_client *tls_client_ref(struct tls_client *c);
struct tls_server *tls_server_ref(struct tls_server *c);
void tls_client_unref(struct tls_client *c);
void tls_server_unref(struct tls_server *c);
/* Equal settings and files give equal fingerprints: connections may be pooled together. Another one after files have been read again: those
 * made before are not for new requests. */
uint64_t tls_client_fingerprint(const struct tls_client *c);

/* --- the files, while the process runs --- */

enum tls_notes {
  TLS_NOTES_DATES, /* certificates that have ended, or end within 30 days */
  TLS_NOTES_USUAL, /* and careless or useless settings: a key that others may read, a chain out of order, a use that it is not meant for */
  TLS_NOTES_THOROUGH /* and whether a chain ends at an authority that this system knows */
};
void tls_client_notes(struct tls_client *c, enum tls_notes which, tls_tell_fn tell, void *arg);
void tls_server_notes(struct tls_server *v, enum tls_notes which, tls_tell_fn tell, void *arg);

/* Calls `tell` for every file that a living configuration was made of, and for the folders of authorities. Some may come more than once. */
void tls_files(tls_tell_fn tell, void *arg);
/* The notes of all living configurations. Some may come more than once. */
void tls_all_notes(enum tls_notes which, tls_tell_fn tell, void *arg);
/* The certificates that living configurations show to others, and when the first of each chain ends, in milliseconds of the wall clock. Some may come more than
 * once. */
void tls_own_certificates(void (*tell)(void *arg, const char *file, int64_t until), void *arg);
/* The names under which verification is off in living configurations, each once. */
void tls_insecure(tls_tell_fn tell, void *arg);
/* `changed` is called, on any thread, when tls_files would give other files than before; NULL ends that. One call at a time, and none from within tls_on_files. */
void tls_on_files(void (*changed)(void *arg), void *arg);
struct tls_reread_sink {
  void (*done)(void *arg, const char *file);   /* a configuration whose first file this is has been renewed */
  void (*failed)(void *arg, const char *text); /* one keeps its old files: a sentence that names the bad one */
  tls_tell_fn note;
  void *arg;
};
/* Why living configurations keep their old files, a sentence each. On the thread of tls_reread. */
void tls_errors(tls_tell_fn tell, void *arg);
/* Reads the files of each living configuration of which one has changed since they were read last. One thread at a time. */
void tls_reread(const struct tls_reread_sink *sink);

/* Facts about the connection and, on a server, about the client's certificate; strings live as long as the stream. */
struct tls_peer {
  struct str subject, san,
      fingerprint; /* san: "a.example, 192.0.2.1, URI:spiffe://a/b"; fingerprint: lower-case hex SHA-256 of the DER */
  struct str version, sni; /* "TLSv1.2"; sni: on a server, as the client asked */
  bool shown;              /* on a server: the client showed a certificate in this handshake, good or bad */
  bool verified;           /* the peer's certificate; an insecure client never says so */
  bool resumed;            /* on a client: by a saved session */
};

/* Starts the handshake on an open plain stream. on_open is called once with 0 or ERR_TLS (stream_reason says why); not one byte of the application has been
 * sent before. The handshake's time limit is the caller's (stream_close). When these return an error on_open is not called; the stream still needs closing.
 * host: a name or an address literal without brackets.
 *
 * How the stream ends, as on_read gets it: UV_EOF for close_notify; ERR_TRUNCATED for a FIN without it; UV_ECONNRESET for one in the middle of a record;
 * ERR_TLS for a record that is not authentic or an alert (stream_reason). stream_shutdown sends close_notify and FIN; stream_close sends close_notify when
 * nothing is queued; stream_reset sends neither. */
/* how: of enum tls_how, as bits. */
enum tls_how {
  TLS_RESUME = 1, /* a saved session may be offered */
  TLS_CAPPED = 2, /* TLS 1.2 at the most, if the settings allow that version */
  TLS_NO_H2 =
      4 /* TLS_ALPN_H2_H1 counts as TLS_ALPN_H1: the server agreed on HTTP/2 by a suite that is too old for it */
};
/* What a client offers, or a server takes (ALPN, RFC 7301). Who does not use ALPN at all speaks HTTP/1.1. */
enum tls_alpn {
  TLS_ALPN_H1,
  TLS_ALPN_H2_H1, /* both, HTTP/2 rather */
  TLS_ALPN_H2,    /* HTTP/2 alone: a client whose server does not agree fails, and its stream_reason says so */
  TLS_ALPNS
};
int stream_start_tls_client(struct stream *s, struct tls_client *c, const char *host, unsigned how, enum tls_alpn alpn,
                            stream_open_fn on_open);
int stream_start_tls_server(struct stream *s, struct tls_server *c, enum tls_alpn alpn, stream_open_fn on_open);
/* After the handshake: both sides have agreed on HTTP/2. */
bool stream_tls_is_h2(const struct stream *s);
/* During a client's handshake: for how many milliseconds we have been waiting for its next bytes; 0 while it waits for us. */
uint64_t stream_tls_stalled(const struct stream *s);
/* After a client's handshake has failed: sends `answer` in the clear if the client spoke text itself (http:// to a port for https://). */
void stream_tls_answer_text(struct stream *s, struct str answer);
/* A client's handshake has failed: how another one, on a new connection, may do better. The `how` that it was made with: no other way is known. */
unsigned stream_tls_other_how(const struct stream *s);
bool stream_tls_peer(const struct stream *s, struct tls_peer *out); /* false: not TLS */

#endif
