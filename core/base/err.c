/* err.c: names and sentences for error codes. Everything is a string literal, so any thread may ask at any time; uv_strerror
 * is avoided because it allocates for codes that it does not know. */
#include "base/err.h"

#include <uv.h>

#define OUR_ERRORS(XX)                                                                                      \
  XX(PROTOCOL, "the peer's bytes are not valid HTTP")                                                       \
  XX(AMBIGUOUS, "the peer's bytes can be read in two ways")                                                 \
  XX(LIMIT, "a configured limit was reached")                                                               \
  XX(TOKEN_MISSING, "no valid token is available")                                                          \
  XX(TOKEN_EXPIRED, "the token expired before it could be sent")                                            \
  XX(TOKEN_AUDIENCE, "the target may not receive this secret")                                              \
  XX(SECRET_BYTES, "a secret's bytes may not stand there (base64 makes text)")                              \
  XX(SCRIPT, "the script failed")                                                                           \
  XX(BUDGET, "the script ran longer than its time budget")                                                  \
  XX(MEMORY, "the script reached its memory limit")                                                         \
  XX(TLS, "TLS failure")                                                                                    \
  XX(TRUNCATED, "the peer closed the connection in the middle of a message")                                \
  XX(CLOSED, "the object is closed")                                                                        \
  XX(CONFIG, "the policy is not valid")                                                                     \
  XX(SECRET_SOURCE, "a secret's file, variable or command could not be read")                               \
  XX(FORBIDDEN, "the policy does not allow it")                                                             \
  XX(UPGRADE, "HTTP/2, which has no Upgrade, is all that this upstream may be spoken to by (http2 = true)") \
  XX(PROXY, "the parent proxy made no tunnel")

static const char *usual_text(int code) {
  switch (code) {
    case 0: return "no error";
#define XX(name, text) \
  case ERR_##name: return text;
      OUR_ERRORS(XX)
#undef XX
#define XX(name, text) \
  case UV_##name: return text;
      UV_ERRNO_MAP(XX)
#undef XX
    default: return "unknown error";
  }
}

/* getaddrinfo's errors, which libuv passes on in its words, in a user's words. */
static const char *lookup_text(int code) {
  switch (code) {
    case UV_EAI_NONAME:
    case UV_EAI_NODATA: return "no such host name";
    case UV_EAI_AGAIN: return "no name server answers";
    case UV_EAI_FAIL: return "the name server failed";
    default: return NULL;
  }
}

const char *err_text(int code) {
  const char *own = lookup_text(code);
  return own != NULL ? own : usual_text(code);
}

const char *err_name(int code) {
  switch (code) {
    case 0: return "OK";
#define XX(name, text) \
  case ERR_##name: return #name;
      OUR_ERRORS(XX)
#undef XX
#define XX(name, text) \
  case UV_##name: return #name;
      UV_ERRNO_MAP(XX)
#undef XX
    default: return "UNKNOWN";
  }
}
