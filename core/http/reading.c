/* reading.c: lets llhttp read what we have read, and compares.
 *
 * Why twice: request smuggling lives on two parsers that read the same bytes differently. Whatever we forward, another implementation will read
 * again. llhttp is strict, generated, widely used and was written by others, so a message that it reads otherwise than we do is one that somebody
 * else may read otherwise, too. Such a message is refused, counted and logged; a fault in either of the two then costs a message, not a hole.
 *
 * Design: comparing is cheap, since both readings are slices of the same bytes in the arena. A callback takes the next field of our list, and the span that
 * llhttp gives must be that very slice. A section lies there whole, so each span is one callback. Numbers (method, version, status, lengths) are
 * compared when llhttp has the whole head, and so is what it makes of the end: it must say "complete" there if and only if we expect no body.
 *
 * Where the two are known to differ, and what is done about it:
 * - Methods. Ours is the list that counts (judge.c). Where llhttp's lacks one of them (which depends on its version), it reads the head with POST in its place.
 * - Tabs. They may stand around any value (RFC 9110 section 5.6.3). llhttp refuses them around lengths, and takes "chunked" with one behind it for another
 *   coding, which it refuses or reads on as a body of another kind. Whatever the difference, tabs become SP, and it reads again.
 * - A reply to HEAD, or to a CONNECT that succeeds, and 1xx, 204 and 304 have no body whatever their fields say. llhttp is told so.
 * - Chunk extensions. Versions of llhttp read them differently (8.1 knows no quoted strings), so we judge them and it gets the line without.
 * - Bodies with a length. llhttp's length must be ours; the bytes are counted by us and not shown to it, since most of them pass by in the kernel (splice) and
 *   a count needs no second opinion. Bodies that end with the connection: llhttp must expect that, too.
 *
 * Tried and dropped: llhttp's callbacks as the place where fields are made. It costs the same, but a head that llhttp refuses would have no fields, and
 * so no fault with its own status and sentence. No state outside the struct. */
#include "http/reading.h"

#include <stddef.h>

_Static_assert(offsetof(struct reading, llhttp) == 0, "callbacks get the reading by its first member");

/* Any value but 0 ends llhttp's reading. */
enum { SAME = 0, DIFFERS = -1, NO_BODY = 1 };

#ifdef JETON_LLHTTP_SSE42
/* llhttp's own state machine, compiled for SSE4.2 (Makefile). */
llhttp_errno_t llhttp_sse42_execute(llhttp_t *l, const char *p, const char *end);
#endif

static llhttp_errno_t execute(struct reading *r, const char *p, size_t n) {
#ifdef JETON_LLHTTP_SSE42
  if (__builtin_cpu_supports("sse4.2")) return llhttp_sse42_execute(&r->llhttp, p, p + n);
#endif
  return llhttp_execute(&r->llhttp, p, n);
}

static inline struct reading *reading_of(llhttp_t *l) { return (struct reading *)(void *)l; }
static inline bool is_white(char c) { return c == ' ' || c == '\t'; }
static inline bool all_white(const char *p, const char *end) {
  while (p < end && is_white(*p)) p++;
  return p == end;
}

/* --- llhttp's callbacks --- */

/* The target of a request, the reason of a reply. */
static int on_line(llhttp_t *l, const char *at, size_t n) {
  struct reading *r = reading_of(l);
  if (n != r->expected.n || (n > 0 && at != r->expected.p)) return DIFFERS;
  r->expected_seen = true;
  return SAME;
}

static int on_name(llhttp_t *l, const char *at, size_t n) {
  struct reading *r = reading_of(l);
  const struct header *f = r->field;
  if (r->fields_left == 0 || r->in_field || at != f->name.p || n != f->name.n) return DIFFERS;
  r->in_field = true;
  return SAME;
}

/* White space around a value is no part of it (RFC 9112 section 5.1). llhttp leaves it out in front, and may count what is behind; of an empty value it may
 * give any place. */
static int on_value(llhttp_t *l, const char *at, size_t n) {
  struct reading *r = reading_of(l);
  const struct header *f = r->field;
  if (!r->in_field) return DIFFERS;
  r->in_field = false;
  r->field++;
  r->fields_left--;
  if (n == f->value.n && (at == f->value.p || n == 0)) return SAME;
  bool more = n > f->value.n && at == f->value.p && all_white(at + f->value.n, at + n);
  return more ? SAME : DIFFERS;
}

static int on_headers_complete(llhttp_t *l) {
  struct reading *r = reading_of(l);
  if (r->head_complete || r->fields_left > 0 || r->in_field) return DIFFERS;
  r->head_complete = true;
  r->flags = l->flags; /* gone when the message ends here */
  r->length = l->content_length;
  return r->bodiless ? NO_BODY : SAME;
}

static int on_body(llhttp_t *l, const char *at, size_t n) {
  (void)at;
  reading_of(l)->body += n;
  return SAME;
}

static int on_chunk_header(llhttp_t *l) {
  reading_of(l)->chunk_size = l->content_length;
  return SAME;
}

static int on_message_complete(llhttp_t *l) {
  struct reading *r = reading_of(l);
  if (r->complete) return DIFFERS;
  r->complete = true;
  return SAME;
}

static const llhttp_settings_t settings = {
    .on_url = on_line,
    .on_status = on_line,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_message_complete = on_message_complete,
};

/* --- heads --- */

static void begin(struct reading *r, llhttp_type_t type, struct str expected, bool bodiless) {
  llhttp_init(&r->llhttp, type, &settings);
  r->expected = expected;
  r->expected_seen = expected.n == 0; /* then it may leave it out */
  r->head_complete = r->complete = false;
  r->bodiless = bodiless;
  r->body = 0;
}

/* True when it read all of the section, found our fields in it and nothing else. */
static bool read_section(struct reading *r, struct str section, const struct headers *ours) {
  r->field = ours->v;
  r->fields_left = ours->n;
  r->in_field = false;
  llhttp_errno_t code = execute(r, section.p, section.n);
  bool paused = code == HPE_PAUSED_UPGRADE; /* CONNECT and upgrades: its word for a message that ends here */
  return (code == HPE_OK || paused) && r->fields_left == 0 && !r->in_field && r->body == 0 &&
         (!paused || llhttp_get_error_pos(&r->llhttp) == section.p + section.n);
}

static bool tab_to_space(char *p) {
  bool tab = *p == '\t';
  if (tab) *p = ' ';
  return tab;
}

/* SP for HTAB around values. True when there was one. `head` has the bytes that the fields are slices of. */
static bool tabs_to_spaces(char *head, const struct headers *fields) {
  bool any = false;
  for (unsigned i = 0; i < fields->n; i++) {
    const struct header *f = &fields->v[i];
    char *value = head + (f->value.p - head);
    for (char *p = value - 1; is_white(*p); p--) any = tab_to_space(p) || any;
    for (char *p = value + f->value.n; is_white(*p); p++) any = tab_to_space(p) || any;
  }
  return any;
}

static bool method_is(const struct reading *r, struct str ours) {
  const char *theirs = llhttp_method_name((llhttp_method_t)r->llhttp.method);
  for (size_t i = 0; i < ours.n; i++)
    if (theirs[i] != ours.p[i]) return false;
  return theirs[ours.n] == '\0';
}

static bool read_request(struct reading *r, struct str head, const struct request *ours) {
  begin(r, HTTP_REQUEST, ours->target, false);
  if (read_section(r, head, &ours->headers)) return method_is(r, ours->method);
  if (llhttp_get_errno(&r->llhttp) != HPE_INVALID_METHOD) return false;
  static const char stand_in[] = "POST";
  begin(r, HTTP_REQUEST, ours->target, false);
  if (execute(r, stand_in, sizeof stand_in - 1) != HPE_OK) return false;
  struct str rest = {head.p + ours->method.n, head.n - ours->method.n};
  return read_section(r, rest, &ours->headers) && r->llhttp.method == HTTP_POST;
}

/* Version, framing and end. has_length: a Content-Length is there, whether or not it frames. */
static bool same_framing(const struct reading *r, enum http_version version, enum http_framing framing, bool has_length,
                         uint64_t length) {
  bool chunked = framing == FRAMING_CHUNKED;
  bool ends = framing == FRAMING_NONE || (framing == FRAMING_LENGTH && length == 0);
  if (!r->head_complete || !r->expected_seen || r->complete != ends) return false;
  if (r->llhttp.http_major != 1 || r->llhttp.http_minor != (version == HTTP_1_0 ? 0 : 1)) return false;
  if (has_length != ((r->flags & F_CONTENT_LENGTH) != 0) || (has_length && r->length != length)) return false;
  if (!r->bodiless && chunked != ((r->flags & F_CHUNKED) != 0)) return false;
  return framing != FRAMING_UNTIL_CLOSE || llhttp_message_needs_eof(&r->llhttp);
}

static bool request_agrees(struct reading *r, struct str head, const struct request *ours) {
  return read_request(r, head, ours) &&
         same_framing(r, ours->version, ours->framing, ours->framing == FRAMING_LENGTH, ours->content_length);
}

bool reading_of_request(struct reading *r, char *head, size_t n, const struct request *ours) {
  struct str all = {head, n};
  return request_agrees(r, all, ours) || (tabs_to_spaces(head, &ours->headers) && request_agrees(r, all, ours));
}

static bool read_response(struct reading *r, struct str head, const struct response *ours) {
  begin(r, HTTP_RESPONSE, ours->reason, ours->framing == FRAMING_NONE);
  return read_section(r, head, &ours->headers) && r->llhttp.status_code == ours->status;
}

static bool response_agrees(struct reading *r, struct str head, const struct response *ours) {
  return read_response(r, head, ours) &&
         same_framing(r, ours->version, ours->framing, ours->has_length, ours->content_length);
}

bool reading_of_response(struct reading *r, char *head, size_t n, const struct response *ours) {
  struct str all = {head, n};
  return response_agrees(r, all, ours) || (tabs_to_spaces(head, &ours->headers) && response_agrees(r, all, ours));
}

/* --- chunked bodies --- */

/* What is read now must be the framing of a chunk: no body, and no end of the message. */
static bool read_frame(struct reading *r, const char *p, size_t n) {
  r->body = 0;
  return execute(r, p, n) == HPE_OK && r->body == 0 && !r->complete;
}

bool reading_of_chunk_line(struct reading *r, struct str line, size_t digits, uint64_t size) {
  r->chunk_size = UINT64_MAX;
  bool whole = digits + 2 == line.n;
  bool read = whole ? read_frame(r, line.p, line.n) : read_frame(r, line.p, digits) && read_frame(r, "\r\n", 2);
  return read && r->chunk_size == size;
}

bool reading_of_chunk_data(struct reading *r, struct str span) {
  r->body = 0;
  return execute(r, span.p, span.n) == HPE_OK && r->body == span.n && !r->complete;
}

bool reading_of_chunk_end(struct reading *r, char byte) { return read_frame(r, &byte, 1); }

bool reading_of_trailers(struct reading *r, struct str section, const struct headers *ours) {
  r->body = 0;
  return !r->complete && read_section(r, section, ours) && r->complete;
}
