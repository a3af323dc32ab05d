/* Builds secrets as a script might, from bytes that are a small program for a stack machine, next to a plain model of what each must expand to;
 * then expands them. clang -fsanitize=fuzzer,address,undefined. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/check.h"
#include "base/err.h"
#include "token/keeper.h"
#include "token/secret.h"
#include "token/slot_internal.h"

static int64_t vnow;
static int64_t vclock(void) { return vnow; }

enum { STACK = 16, MODEL_MAX = SECRET_BYTES_MAX + 1 };

/* What a secret must expand to: bytes, or the error that the first part that fails gives. */
struct model {
  struct secret *secret;
  struct buf bytes;
  int status;
  bool ends; /* a token is in it */
};
static struct model stack[STACK];
static unsigned depth;

static struct slot *slot;
static struct audience *audience;

static void push(struct secret *s, const void *p, size_t n, int status, bool ends) {
  if (s == NULL) return;
  CHECK(depth < STACK);
  struct model *m = &stack[depth++];
  m->secret = s;
  m->status = status;
  m->ends = ends;
  buf_init(&m->bytes);
  if (status == 0) buf_add(&m->bytes, p, n);
}
static void pop(void) {
  struct model *m = &stack[--depth];
  secret_unref(m->secret);
  buf_fini(&m->bytes);
}

/* --- the model of the encodings: simple and slow --- */

static void model_form(struct buf *out, struct str in) {
  for (size_t i = 0; i < in.n; i++) {
    unsigned char c = (unsigned char)in.p[i];
    if (c == ' ')
      buf_addz(out, "+");
    else if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '*' || c == '-' ||
             c == '.' || c == '_')
      buf_add(out, &c, 1);
    else
      buf_addf(out, "%%%02X", c);
  }
}
static void model_json(struct buf *out, struct str in) {
  for (size_t i = 0; i < in.n; i++) {
    unsigned char c = (unsigned char)in.p[i];
    if (c == '"')
      buf_addz(out, "\\\"");
    else if (c == '\\')
      buf_addz(out, "\\\\");
    else if (c == '\n' || c == '\r' || c == '\t') /* RFC 8259 section 7 has a letter for each */
      buf_addf(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    else if (c < 0x20 || c == 0x7f)
      buf_addf(out, "\\u%04x", c);
    else
      buf_add(out, &c, 1);
  }
}
static void model_url(struct buf *out, struct str in) {
  for (size_t i = 0; i < in.n; i++) {
    unsigned char c = (unsigned char)in.p[i];
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '~' || c == '-' ||
        c == '.' || c == '_')
      buf_add(out, &c, 1);
    else
      buf_addf(out, "%%%02X", c);
  }
}
static char digit(unsigned v, bool url) {
  if (v < 26) return (char)('A' + v);
  if (v < 52) return (char)('a' + v - 26);
  if (v < 62) return (char)('0' + v - 52);
  return v == 62 ? (url ? '-' : '+') : (url ? '_' : '/');
}
static void model_base64(struct buf *out, struct str in, bool url) {
  for (size_t bit = 0; bit < in.n * 8; bit += 6) {
    unsigned v = 0;
    for (size_t b = bit; b < bit + 6; b++) {
      unsigned char c = b / 8 < in.n ? (unsigned char)in.p[b / 8] : 0;
      v = v << 1 | (unsigned)(c >> (7 - b % 8) & 1);
    }
    char c = digit(v, url);
    buf_add(out, &c, 1);
  }
  while (!url && out->n % 4 != 0) buf_addz(out, "=");
}

static void encode_top(enum secret_encoding e) {
  struct model *m = &stack[depth - 1];
  struct secret *s = secret_encode(m->secret, e);
  if (s == NULL || m->bytes.n > MODEL_MAX / 6) {
    secret_unref(s);
    return;
  }
  struct buf out;
  buf_init(&out);
  struct str in = buf_str(&m->bytes);
  if (m->status == 0) switch (e) {
      case SECRET_FORM: model_form(&out, in); break;
      case SECRET_JSON: model_json(&out, in); break;
      case SECRET_BASE64: model_base64(&out, in, false); break;
      case SECRET_BASE64URL: model_base64(&out, in, true); break;
      case SECRET_HEX:
        for (size_t i = 0; i < in.n; i++) buf_addf(&out, "%02x", (unsigned)(unsigned char)in.p[i]);
        break;
      case SECRET_URL: model_url(&out, in); break;
      case SECRET_COOKIE: break;
    }
  int status = m->status;
  bool ends = m->ends;
  pop();
  push(s, out.p, out.n, status, ends);
  buf_fini(&out);
}

/* a .. b for the two on top; replaces the lower one. */
static void join_top(void) {
  struct model *a = &stack[depth - 2], *b = &stack[depth - 1];
  struct secret *s = secret_join(a->secret, b->secret);
  if (s == NULL) return;
  secret_unref(a->secret);
  a->secret = s;
  if (a->status == 0) a->status = b->status;
  a->ends = a->ends || b->ends;
  buf_adds(&a->bytes, buf_str(&b->bytes));
  pop();
}

static void join_text_top(struct str text, bool first) {
  struct model *m = &stack[depth - 1];
  struct secret *s = secret_join_text(m->secret, text, first);
  if (s == NULL) return;
  secret_unref(m->secret);
  m->secret = s;
  struct buf out;
  buf_init(&out);
  if (first) buf_adds(&out, text);
  buf_adds(&out, buf_str(&m->bytes));
  if (!first) buf_adds(&out, text);
  buf_fini(&m->bytes);
  m->bytes = out;
}

/* The top, computed: the same bytes, bound as what they were; or nothing, where they are too many. */
static void compute_top(void) {
  struct model *m = &stack[depth - 1];
  struct secret_taint from = {0};
  struct secret_context any = {.any_target = true, .taint = &from, .clock = vclock};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  int rc = secret_expand(m->secret, &any, &out);
  struct secret *s = rc == 0 ? secret_computed(buf_str(&out), "c", &from) : NULL;
  CHECK(rc == 0 || rc == ERR_LIMIT);
  buf_fini(&out);
  secret_taint_fini(&from);
  if (s == NULL) return;
  secret_unref(m->secret);
  m->secret = s;
}

static void push_token(bool field, bool allowed) {
  struct str name = field ? STR("f") : (struct str){NULL, 0}, bytes = field ? STR("F+\n") : STR("T/=T");
  push(secret_token(slot, name, allowed ? audience : NULL, MISSING_WAIT), bytes.p, bytes.n,
       allowed ? 0 : ERR_TOKEN_AUDIENCE, true);
}

/* One instruction. */
static void step(unsigned op, struct str operand) {
  if (depth < STACK) {
    switch (op) {
      case 0: push(secret_literal(operand), operand.p, operand.n, 0, false); return;
      case 1: push(secret_bytes(operand, "b", NULL), operand.p, operand.n, 0, false); return;
      case 2: push_token(false, true); return;
      case 3: push_token(true, true); return;
      case 4: push_token(false, false); return;
      case 5:
        if (depth > 0)
          push(secret_ref(stack[depth - 1].secret), stack[depth - 1].bytes.p, stack[depth - 1].bytes.n,
               stack[depth - 1].status, stack[depth - 1].ends);
        return;
      default: break;
    }
  }
  if (op >= 6 && op < 10 && depth > 0) encode_top((enum secret_encoding)(op - 6));
  if (op == 10 && depth > 1) join_top();
  if (op == 11 && depth > 0) encode_top((operand.n & 1) != 0 ? SECRET_HEX : SECRET_URL);
  if (op == 12 && depth > 0) compute_top();
  if (op >= 13 && op < 15 && depth > 0) join_text_top(operand, op == 13);
  if (op == 15 && depth > 0) pop();
}

static void judge(const struct model *m, bool header_safe) {
  struct secret_context ctx = {.tls = true, .host = STR("h"), .port = 443, .header_safe = header_safe, .clock = vclock};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  buf_addz(&out, "before");
  int rc = secret_expand(m->secret, &ctx, &out);
  bool unsafe = false;
  for (size_t i = 0; i < m->bytes.n; i++)
    unsafe |= (m->bytes.p[i] < 0x20 && m->bytes.p[i] != '\t') || m->bytes.p[i] == 0x7f;
  if (m->status != 0)
    CHECK(rc == m->status);
  else if (header_safe && unsafe)
    CHECK(rc == ERR_SECRET_BYTES);
  else
    CHECK(rc == 0 && out.n == m->bytes.n + 6 && (m->bytes.n == 0 || memcmp(out.p + 6, m->bytes.p, m->bytes.n) == 0));
  if (rc != 0) CHECK(out.n == 6 && ctx.nused == 0);
  CHECK(memcmp(out.p, "before", 6) == 0);
  buf_fini(&out);
  buf_init(&out);
  secret_describe(m->secret, &out);
  buf_fini(&out);
}

/* Elsewhere, or later: no byte of a token, whatever it is in. */
static void judge_outside(const struct model *m, const char *host, int want) {
  struct secret_context ctx = {.tls = true, .host = str_of(host), .port = 443, .clock = vclock};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  int rc = secret_expand(m->secret, &ctx, &out);
  if (rc == ERR_TOKEN_MISSING) rc = ERR_TOKEN_EXPIRED; /* its reader has seen the end before */
  CHECK(rc == (m->ends ? want : 0) && (rc == 0 || out.n == 0));
  buf_fini(&out);
}

static void set_up(void) {
  vnow = 1000;
  slot = slot_new(STR("t"), (struct str){NULL, 0});
  slot_use_clock(slot, vclock);
  audience = audience_new();
  audience_add(audience, true, STR("h"), 443);
  struct fetch_result r = {.ok = true, .value = STR("T/=T"), .has_expires_in = true, .expires_in = 60, .nfields = 1};
  r.fields[0] = (struct token_field){STR("f"), STR("F+\n")};
  CHECK(slot_set(slot, &r) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (slot == NULL) set_up();
  for (size_t i = 0; i < size;) {
    unsigned op = data[i] & 15, n = data[i] >> 4;
    i++;
    if (n > size - i) n = (unsigned)(size - i);
    bool takes = op < 2 || op == 13 || op == 14;
    step(op, (struct str){(const char *)data + i, n});
    if (takes) i += n;
  }
  for (unsigned i = 0; i < depth; i++) {
    if (stack[i].bytes.n > SECRET_BYTES_MAX) continue;
    judge(&stack[i], false);
    judge(&stack[i], true);
    if (stack[i].status == 0) judge_outside(&stack[i], "elsewhere", ERR_TOKEN_AUDIENCE);
  }
  vnow += 3600 * 1000; /* a reader that has seen it does not go back */
  for (unsigned i = 0; i < depth; i++)
    if (stack[i].status == 0 && stack[i].bytes.n <= SECRET_BYTES_MAX) judge_outside(&stack[i], "h", ERR_TOKEN_EXPIRED);
  vnow -= 3600 * 1000;
  while (depth > 0) pop();
  return 0;
}
