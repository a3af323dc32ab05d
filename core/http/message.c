/* message.c: what RFC 9110 says of methods, statuses and trailers, whichever protocol carries them. */
#include "http/message.h"

#include "base/chars.h"

const struct http_limits http_limits_default = {
    .request_line = 16 * 1024,
    .head = 64 * 1024,
    .headers = 128,
    .chunk_line = 4 * 1024,
    .chunk_overhead = 16 * 1024,
};

/* "_" counts as "-": a server that reads them alike must not be given the one by the other. */
static bool same_name(struct str name, const char *low) {
  for (size_t i = 0; i < name.n; i++) {
    char c = name.p[i] == '_' ? '-' : char_lower(name.p[i]);
    if (c != low[i]) return false;
  }
  return low[name.n] == '\0';
}

bool trailer_allowed(struct str name) {
  static const char *const forbidden[] = {
      /* framing and routing */
      "content-length", "transfer-encoding", "host", "connection", "keep-alive", "te", "trailer", "upgrade", "via",
      "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "proxy-connection",
      /* authentication and cookies */
      "authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "authentication-info",
      "proxy-authentication-info", "cookie", "set-cookie",
      /* what changes how a request or its answer is processed */
      "cache-control", "expect", "max-forwards", "pragma", "range", "if-match", "if-none-match", "if-modified-since",
      "if-unmodified-since", "if-range", "age", "expires", "date", "location", "retry-after", "vary", "warning",
      "content-encoding", "content-type", "content-range"};
  for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
    if (same_name(name, forbidden[i])) return false;
  return true;
}

const char *status_phrase(int status) {
  static const struct {
    int status;
    const char *phrase;
  } phrases[] = {{200, "OK"},
                 {100, "Continue"},
                 {101, "Switching Protocols"},
                 {102, "Processing"},
                 {103, "Early Hints"},
                 {201, "Created"},
                 {202, "Accepted"},
                 {203, "Non-Authoritative Information"},
                 {204, "No Content"},
                 {205, "Reset Content"},
                 {206, "Partial Content"},
                 {207, "Multi-Status"},
                 {208, "Already Reported"},
                 {226, "IM Used"},
                 {300, "Multiple Choices"},
                 {301, "Moved Permanently"},
                 {302, "Found"},
                 {303, "See Other"},
                 {304, "Not Modified"},
                 {305, "Use Proxy"},
                 {307, "Temporary Redirect"},
                 {308, "Permanent Redirect"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {402, "Payment Required"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {406, "Not Acceptable"},
                 {407, "Proxy Authentication Required"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {410, "Gone"},
                 {411, "Length Required"},
                 {412, "Precondition Failed"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {415, "Unsupported Media Type"},
                 {416, "Range Not Satisfiable"},
                 {417, "Expectation Failed"},
                 {421, "Misdirected Request"},
                 {422, "Unprocessable Content"},
                 {423, "Locked"},
                 {424, "Failed Dependency"},
                 {425, "Too Early"},
                 {426, "Upgrade Required"},
                 {428, "Precondition Required"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {451, "Unavailable For Legal Reasons"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {502, "Bad Gateway"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"},
                 {506, "Variant Also Negotiates"},
                 {507, "Insufficient Storage"},
                 {508, "Loop Detected"},
                 {511, "Network Authentication Required"}};
  for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
    if (phrases[i].status == status) return phrases[i].phrase;
  return "";
}

struct str http_version_text(enum http_version v) {
  static const struct str texts[] = {[HTTP_1_0] = {"1.0", 3}, [HTTP_1_1] = {"1.1", 3}, [HTTP_2] = {"2", 1}};
  return texts[v];
}

bool method_idempotent(struct str method) {
  static const struct str idempotent[] = {{"GET", 3},    {"HEAD", 4},    {"PUT", 3},
                                          {"DELETE", 6}, {"OPTIONS", 7}, {"TRACE", 5}};
  for (size_t i = 0; i < sizeof idempotent / sizeof *idempotent; i++)
    if (str_eq(method, idempotent[i])) return true;
  return false;
}
