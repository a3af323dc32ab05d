/* judge.c: judges a parsed head: is it a message that every other HTTP implementation reads as we do?
 *
 * headcheck has seen to the bytes and the lines; what is left are the start line's parts and the rules between fields: one Host, one framing,
 * targets that fit their method, which versions and methods are served. What is not certain is refused (400), what is not done here is
 * said so (501, 505, 417). Response rules stand beside the request's because they are the same rules with another verdict.
 * Pure functions; the message's thread. */
#include "http/judge.h"

#include "net/url.h"

#define FINE ((struct http_fault){.text = NULL})
static struct http_fault fault(int status, const char *text) {
  return (struct http_fault){.status = status, .text = text};
}

static struct str slice(struct str s, size_t from, size_t to) { return (struct str){s.p + from, to - from}; }

/* --- start lines --- */

/* The registry's (RFC 9110 section 16.1.1) and those that HTTP caches, UPnP and Vault (LIST) know; common ones first. Not those of other protocols (SOURCE,
 * PRI, RTSP's). */
static bool method_known(struct str m) {
#define METHOD(name) \
  { name, sizeof(name) - 1 }
  static const struct str known[] = {METHOD("GET"),
                                     METHOD("POST"),
                                     METHOD("HEAD"),
                                     METHOD("PUT"),
                                     METHOD("DELETE"),
                                     METHOD("OPTIONS"),
                                     METHOD("PATCH"),
                                     METHOD("CONNECT"),
                                     METHOD("TRACE"),
                                     METHOD("COPY"),
                                     METHOD("LOCK"),
                                     METHOD("MKCOL"),
                                     METHOD("MOVE"),
                                     METHOD("PROPFIND"),
                                     METHOD("PROPPATCH"),
                                     METHOD("SEARCH"),
                                     METHOD("UNLOCK"),
                                     METHOD("BIND"),
                                     METHOD("REBIND"),
                                     METHOD("UNBIND"),
                                     METHOD("ACL"),
                                     METHOD("REPORT"),
                                     METHOD("MKACTIVITY"),
                                     METHOD("CHECKOUT"),
                                     METHOD("MERGE"),
                                     METHOD("M-SEARCH"),
                                     METHOD("NOTIFY"),
                                     METHOD("SUBSCRIBE"),
                                     METHOD("UNSUBSCRIBE"),
                                     METHOD("PURGE"),
                                     METHOD("LIST"),
                                     METHOD("BAN"),
                                     METHOD("MKCALENDAR"),
                                     METHOD("LINK"),
                                     METHOD("UNLINK"),
                                     METHOD("BASELINE-CONTROL"),
                                     METHOD("CHECKIN"),
                                     METHOD("LABEL"),
                                     METHOD("MKREDIRECTREF"),
                                     METHOD("MKWORKSPACE"),
                                     METHOD("ORDERPATCH"),
                                     METHOD("QUERY"),
                                     METHOD("UPDATE"),
                                     METHOD("UNCHECKOUT"),
                                     METHOD("UPDATEREDIRECTREF"),
                                     METHOD("VERSION-CONTROL")};
#undef METHOD
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (m.p[0] == known[i].p[0] && str_eq(m, known[i])) return true;
  return false;
}

static void split_query(struct str s, struct request *r) {
  const char *mark = s.n > 0 ? memchr(s.p, '?', s.n) : NULL;
  size_t n = mark != NULL ? (size_t)(mark - s.p) : s.n;
  r->path = slice(s, 0, n);
  r->query = mark != NULL ? slice(s, n + 1, s.n) : (struct str){NULL, 0};
}

/* "host:" is "host" (RFC 3986 section 3.2.3), and goes on as that. */
static struct str without_empty_port(struct str authority) {
  bool empty = authority.n > 1 && authority.p[authority.n - 1] == ':';
  return empty ? slice(authority, 0, authority.n - 1) : authority;
}

/* RFC 9112 section 3.2.3. The port must be said. */
static struct http_fault connect_target(struct request *r) {
  struct str host;
  uint16_t port;
  r->is_connect = true;
  r->path = (struct str){r->target.p + r->target.n, 0};
  if (!host_split(r->target, &host, &port) || port == 0)
    return fault(400, "the target of CONNECT is not host:port (RFC 9112 section 3.2.3)");
  r->authority = r->target;
  return FINE;
}

/* RFC 9112 section 3.2.2: http or https, an authority without userinfo, and perhaps a path. */
static struct http_fault absolute_target(struct request *r, bool options) {
  struct str t = r->target;
  size_t skip = 0, end;
  if (t.n >= 7 && str_ieq(slice(t, 0, 7), STR("http://"))) skip = 7;
  if (t.n >= 8 && str_ieq(slice(t, 0, 8), STR("https://"))) skip = 8;
  if (skip == 0) return fault(400, "the request target is neither a path nor an http URL (RFC 9112 section 3.2)");
  for (end = skip; end < t.n && t.p[end] != '/' && t.p[end] != '?';) end++;
  r->absolute_form = true;
  r->https = skip == 8;
  r->authority = without_empty_port(slice(t, skip, end));
  if (memchr(r->authority.p, '@', r->authority.n) != NULL)
    return fault(400, "userinfo in the request target (RFC 9110 section 4.2.4)");
  if (!host_valid(r->authority)) return fault(400, "the request target has no valid host (RFC 9112 section 3.2.2)");
  split_query(slice(t, end, t.n), r);
  if (r->path.n == 0) r->path = options && r->query.p == NULL ? STR("*") : STR("/"); /* RFC 9112 section 3.2.4 */
  return FINE;
}

static struct http_fault request_target(struct request *r) {
  struct str t = r->target;
  bool options = str_eq(r->method, STR("OPTIONS"));
  if (memchr(t.p, '#', t.n) != NULL) return fault(400, "a fragment in the request target (RFC 9112 section 3.2)");
  if (str_eq(r->method, STR("CONNECT"))) return connect_target(r);
  if (t.p[0] == '/') {
    split_query(t, r);
    return FINE;
  }
  if (t.p[0] != '*') return absolute_target(r, options);
  if (t.n != 1 || !options) return fault(400, "\"*\" is a target for OPTIONS alone (RFC 9112 section 3.2.4)");
  r->path = t;
  return FINE;
}

/* "HTTP/1.0" or "HTTP/1.1", whose form has been checked. */
static bool version(struct str v, enum http_version *out) {
  *out = v.p[7] == '0' ? HTTP_1_0 : HTTP_1_1;
  return v.p[5] == '1' && (v.p[7] == '0' || v.p[7] == '1');
}

struct http_fault request_line(struct str line, struct request *r) {
  const char *space = memchr(line.p, ' ', line.n);
  size_t method = (size_t)(space - line.p), target = line.n - sizeof " HTTP/1.1" + 1;
  r->method = slice(line, 0, method);
  r->target = slice(line, method + 1, target);
  if (!version(slice(line, target + 1, line.n), &r->version))
    return fault(505, "only HTTP/1.0 and HTTP/1.1 are served (RFC 9110 section 15.6.6)");
  return request_start(r);
}

struct http_fault request_start(struct request *r) {
  r->is_head = str_eq(r->method, STR("HEAD"));
  if (!method_known(r->method)) return fault(501, "a method that is not known here (RFC 9110 section 9.1)");
  return request_target(r);
}

struct http_fault response_line(struct str line, struct response *r) {
  const char *digits = line.p + sizeof "HTTP/1.1";
  r->status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
  r->reason = line.n > 13 ? slice(line, 13, line.n) : (struct str){line.p + line.n, 0};
  if (!version(line, &r->version)) return fault(0, "a reply in a version other than HTTP/1.0 and HTTP/1.1");
  return FINE;
}

/* --- fields --- */

/* What the fields say about framing; each pointer is to the first field of that kind. */
struct framing_fields {
  const struct header *host, *length, *coding, *expect, *upgrade;
  unsigned hosts, lengths;
  bool close, keep_alive, connection_upgrade;
};

static void read_connection(struct framing_fields *f, struct str list) {
  struct str option;
  while (list_next(&list, &option)) {
    if (str_ieq(option, STR("close"))) f->close = true;
    if (str_ieq(option, STR("keep-alive"))) f->keep_alive = true;
    if (str_ieq(option, STR("upgrade"))) f->connection_upgrade = true;
  }
}

static void note_field(struct framing_fields *f, const struct header *v) {
  switch (v->id) {
    case H_HOST:
      if (f->hosts++ == 0) f->host = v;
      break;
    case H_CONTENT_LENGTH:
      if (f->lengths++ == 0) f->length = v;
      break;
    case H_TRANSFER_ENCODING:
      if (f->coding == NULL) f->coding = v;
      break;
    case H_EXPECT:
      if (f->expect == NULL) f->expect = v;
      break;
    case H_UPGRADE:
      if (f->upgrade == NULL) f->upgrade = v;
      break;
    case H_CONNECTION: read_connection(f, v->value); break;
    default: break;
  }
}

/* One pass over the fields, so that the usual request is looked at once; most of its fields say nothing of framing. */
static void read_fields(struct framing_fields *f, const struct headers *h) {
  const uint32_t judged = 1u << H_HOST | 1u << H_CONTENT_LENGTH | 1u << H_TRANSFER_ENCODING | 1u << H_EXPECT |
                          1u << H_UPGRADE | 1u << H_CONNECTION;
  *f = (struct framing_fields){.hosts = 0};
  for (unsigned i = 0; i < h->n; i++)
    if (judged >> h->v[i].id & 1) note_field(f, &h->v[i]);
}

enum codings { CODINGS_CHUNKED, CODINGS_MORE, CODINGS_BAD };

/* All Transfer-Encoding fields as one list: chunked alone, chunked behind others, or anything else. */
static enum codings read_codings(const struct headers *h) {
  unsigned members = 0;
  bool chunked = false;
  for (unsigned i = 0; i < h->n; i++) {
    if (h->v[i].id != H_TRANSFER_ENCODING) continue;
    struct str list = h->v[i].value, member;
    while (list_next(&list, &member)) {
      if (chunked || member.n == 0) return CODINGS_BAD; /* chunked must be last, and once */
      chunked = str_ieq(member, STR("chunked"));
      members++;
    }
  }
  return !chunked ? CODINGS_BAD : members == 1 ? CODINGS_CHUNKED : CODINGS_MORE;
}

static struct http_fault coding_rules(const struct framing_fields *f, const struct headers *h,
                                      enum http_version version) {
  if (version == HTTP_1_0) return fault(400, "Transfer-Encoding on HTTP/1.0 (RFC 9112 section 6.1)");
  if (f->length != NULL) return fault(400, "both Transfer-Encoding and Content-Length (RFC 9112 section 6.1)");
  switch (read_codings(h)) {
    case CODINGS_BAD:
      return fault(400, "chunked is not the last transfer coding, or not alone in being last (RFC 9112 section 6.3)");
    case CODINGS_MORE: return fault(501, "a transfer coding other than chunked (RFC 9112 section 6.1)");
    case CODINGS_CHUNKED: break;
  }
  return FINE;
}

static struct http_fault length_rules(const struct framing_fields *f, uint64_t *length) {
  unsigned long long n;
  if (f->lengths > 1) return fault(400, "more than one Content-Length (RFC 9112 section 6.3)");
  if (!str_to_u64(f->length->value, &n))
    return fault(400, "Content-Length is not a decimal number (RFC 9110 section 8.6)");
  if (n > INT64_MAX) return fault(400, "a Content-Length that is negative to some (RFC 9110 section 8.6)");
  *length = n;
  return FINE;
}

/* The grammar allows "010"; some read it as eight and no client writes it. */
static bool leading_zero(struct str length) { return length.n > 1 && length.p[0] == '0'; }

static struct http_fault request_framing(const struct framing_fields *f, struct request *r) {
  struct http_fault wrong = FINE;
  if (f->coding != NULL) {
    wrong = coding_rules(f, &r->headers, r->version);
    r->framing = FRAMING_CHUNKED;
  } else if (f->length != NULL) {
    wrong = length_rules(f, &r->content_length);
    if (wrong.text == NULL && leading_zero(f->length->value))
      wrong = fault(400, "a Content-Length with leading zeros, octal to some (RFC 9110 section 8.6)");
    r->framing = FRAMING_LENGTH;
  }
  if (wrong.text == NULL && r->is_connect && (f->coding != NULL || r->content_length > 0))
    return fault(400, "CONNECT with a body (RFC 9110 section 9.3.6)");
  return wrong;
}

/* CGI's kin read "_" as "-", others several "-" as one: to them this is a second framing. Nobody who means well sends it. */
static bool framing_disguised(struct headers *h) {
  return headers_remove_twins(h, STR("Transfer-Encoding"), true) > 0 ||
         headers_remove_twins(h, STR("Content-Length"), true) > 0;
}

static struct http_fault request_host(const struct framing_fields *f, struct request *r) {
  if (f->hosts > 1) return fault(400, "more than one Host (RFC 9112 section 3.2)");
  if (f->hosts == 0) return r->version == HTTP_1_0 ? FINE : fault(400, "no Host on HTTP/1.1 (RFC 9112 section 3.2)");
  struct str host = without_empty_port(f->host->value);
  if (!host_valid(host)) return fault(400, "Host is not host[:port] (RFC 9112 section 3.2)");
  if (r->authority.p == NULL) r->authority = host; /* the target's own wins: RFC 9112 section 3.2.2 */
  return FINE;
}

static struct http_fault request_expect(const struct framing_fields *f, struct request *r) {
  if (f->expect == NULL || r->version == HTTP_1_0) return FINE; /* 1.0 did not know it: RFC 9110 section 10.1.1 */
  for (unsigned i = 0; i < r->headers.n; i++) {
    const struct header *v = &r->headers.v[i];
    if (v->id == H_EXPECT && !str_ieq(v->value, STR("100-continue")))
      return fault(417, "an expectation other than 100-continue (RFC 9110 section 10.1.1)");
  }
  r->expect_continue = true;
  return FINE;
}

/* An upgrade is an offer that may be ignored (RFC 9110 section 7.8). h2c would blur where this protocol ends. A body does not: the other protocol begins behind
 * it, and `docker exec` sends one. A WebSocket is asked for by GET (RFC 6455 section 4.1). */
static void request_upgrade(const struct framing_fields *f, struct request *r) {
  if (f->upgrade == NULL || !f->connection_upgrade || r->version == HTTP_1_0 || r->is_connect) return;
  if (headers_has_token(&r->headers, H_UPGRADE, STR("h2c"))) return;
  if (request_has_body(r) && headers_has_token(&r->headers, H_UPGRADE, STR("websocket"))) return;
  struct str protocol = headers_join(&r->headers, STR("Upgrade"));
  if (protocol.n == 0) return;
  r->upgrade_protocol = protocol;
  r->upgrade = true;
}

struct http_fault request_fields(struct request *r) {
  struct framing_fields f;
  read_fields(&f, &r->headers);
  struct http_fault wrong = request_framing(&f, r);
  if (wrong.text == NULL && framing_disguised(&r->headers))
    wrong = fault(400, "a field that some read as Transfer-Encoding or Content-Length (RFC 9112 section 11.2)");
  if (wrong.text == NULL) wrong = request_host(&f, r);
  if (wrong.text == NULL) wrong = request_expect(&f, r);
  if (wrong.text != NULL) return wrong;
  r->keep_alive =
      !f.close && (r->version != HTTP_1_0 || f.keep_alive); /* RFC 9112 section 9.3; a gateway is no proxy there */
  request_upgrade(&f, r);
  return FINE;
}

/* RFC 9112 section 6.3. A faulty field is a fault even where no body follows: the sender cannot be trusted with the next message. */
static struct http_fault response_framing(const struct framing_fields *f, struct response *r, bool bodiless) {
  struct http_fault wrong = FINE;
  r->framing = FRAMING_UNTIL_CLOSE;
  if (f->coding != NULL) {
    wrong = coding_rules(f, &r->headers, r->version);
    r->framing = FRAMING_CHUNKED;
  } else if (f->length != NULL) {
    wrong = length_rules(f, &r->content_length);
    r->has_length = true;
    r->framing = FRAMING_LENGTH;
  }
  if (bodiless) r->framing = FRAMING_NONE;
  return wrong;
}

struct http_fault response_fields(struct response *r, bool head_request, bool connect_request) {
  struct framing_fields f;
  read_fields(&f, &r->headers);
  bool tunnel = r->status == 101 || (connect_request && r->status / 100 == 2);
  bool bodiless = tunnel || head_request || r->status / 100 == 1 || r->status == 204 || r->status == 304;
  struct http_fault wrong = response_framing(&f, r, bodiless);
  r->keep_alive = !f.close && (r->version != HTTP_1_0 || f.keep_alive) && !tunnel && r->framing != FRAMING_UNTIL_CLOSE;
  return wrong;
}
