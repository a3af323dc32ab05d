/* err.h: the one set of error codes.
 *
 * A function that can fail returns 0 or a negative code: libuv's own (-errno and UV_EAI_*, all above -4096) passed
 * through, or one of these. Text is made where it is shown, with err_text. */
#ifndef JETON_BASE_ERR_H
#define JETON_BASE_ERR_H

enum err {
  ERR_PROTOCOL = -5001, /* the peer's bytes are not HTTP that can be read with certainty */
  ERR_AMBIGUOUS =
      -5016, /* they are, and the two readings of them differ: two parsers that differ are what smuggling is made of */
  ERR_LIMIT = -5002,          /* a configured bound was reached */
  ERR_TOKEN_MISSING = -5003,  /* no valid token, and the policy says not to wait (or the wait is over) */
  ERR_TOKEN_EXPIRED = -5004,  /* the token expired between the token step and the write */
  ERR_TOKEN_AUDIENCE = -5005, /* scheme, host or port of the target may not receive this secret */
  ERR_SECRET_BYTES = -5006,   /* a secret expands to bytes that may not stand in a header: control bytes */
  ERR_SCRIPT = -5007,         /* a Lua error; its message has been logged with file and line */
  ERR_BUDGET = -5008,         /* Lua ran longer than its time budget */
  ERR_MEMORY = -5009,         /* a VM reached its memory cap */
  ERR_TLS = -5010,            /* handshake or record failure; the stream holds the reason as text */
  ERR_TRUNCATED = -5011,      /* the peer closed in the middle of a message */
  ERR_CLOSED = -5012,         /* the object is closed or the exchange is over */
  ERR_CONFIG = -5013,         /* the policy is not valid; the problems are in the report */
  ERR_SECRET_SOURCE = -5014,  /* a secret's file, variable or command could not be read */
  ERR_UPGRADE = -5017,        /* the server is to be spoken to by HTTP/2 alone, which has no Upgrade */
  ERR_PROXY = -5018,          /* a parent proxy did not make the tunnel that it was asked for */
  ERR_FORBIDDEN = -5015,      /* the policy does not forward there, or not to this address */
};

/* A short lower-case sentence for any code of ours or libuv's. Static storage, never NULL. */
const char *err_text(int code);
/* The constant's name, "ECONNREFUSED" or "TOKEN_EXPIRED": Lua's third result. Static storage. */
const char *err_name(int code);

#endif
