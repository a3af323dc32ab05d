/* Secrets: what they expand to, when they must not, and that nothing is left behind. */
#include "token/secret.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/secmem.h"
#include "check.h"
#include "token/keeper.h"
#include "token/slot_internal.h"

static int64_t vnow = 1000000;
static int64_t vclock(void) { return vnow; }

static struct slot *slot;
static struct audience *api_only;

static void set(const char *value, double expires_in) {
  struct fetch_result r = {.ok = true, .value = str_of(value), .has_expires_in = true, .expires_in = expires_in};
  r.nfields = 1;
  r.fields[0] = (struct token_field){STR("session"), STR("S/E")};
  CHECK(slot_set(slot, &r) == NULL);
}
static void begin(void) {
  slot = slot_new(STR("api"), (struct str){NULL, 0});
  slot_use_clock(slot, vclock);
  api_only = audience_new();
  CHECK(audience_add_host(api_only, STR("api.example.com")));
}
static void end(void) {
  audience_unref(api_only);
  slot_unref(slot);
}
static struct secret *token(void) { return secret_token(slot, (struct str){NULL, 0}, api_only, MISSING_WAIT); }

static struct secret_context context(void) {
  return (struct secret_context){
      .tls = true, .host = STR("api.example.com"), .port = 443, .header_safe = true, .clock = vclock};
}
/* Takes s. */
static bool expands_to(struct secret *s, const char *text, size_t n) {
  struct secret_context ctx = context();
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  buf_addz(&out, "head ");
  ctx.header_safe = false;
  CHECK(s != NULL && secret_expand(s, &ctx, &out) == 0);
  bool same = out.n == n + 5 && memcmp(out.p, "head ", 5) == 0 && memcmp(out.p + 5, text, n) == 0;
  buf_fini(&out);
  secret_unref(s);
  return same;
}
#define EXPANDS(s, text) expands_to(s, text, sizeof(text) - 1)

/* The code of a failed expansion; checks that out and context are as before and nothing lies behind. */
static int refused(struct secret *s, struct secret_context *ctx) {
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  buf_addz(&out, "head ");
  memset(buf_reserve(&out, 4096), 0, 4096);
  unsigned nused = ctx->nused;
  int rc = secret_expand(s, ctx, &out);
  CHECK(rc < 0 && out.n == 5 && ctx->nused == nused);
  for (size_t i = 5; i < 4096; i++) CHECK(out.p[i] == 0);
  buf_fini(&out);
  return rc;
}

static struct secret *text(const char *z) { return secret_literal(str_of(z)); }
/* Takes both. */
static struct secret *join(struct secret *a, struct secret *b) {
  struct secret *s = secret_join(a, b);
  secret_unref(a);
  secret_unref(b);
  return s;
}
static struct secret *encode(struct secret *of, enum secret_encoding e) {
  struct secret *s = secret_encode(of, e);
  secret_unref(of);
  return s;
}

static void joins_expand_in_order(void) {
  begin();
  set("TOKEN", 100);
  CHECK(EXPANDS(token(), "TOKEN"));
  CHECK(EXPANDS(join(text("Bearer "), token()), "Bearer TOKEN"));
  CHECK(EXPANDS(join(join(text("a"), text("b")), join(token(), join(text(""), text("c")))), "abTOKENc"));
  struct secret *t = token(), *bearer = secret_join_text(t, STR("Bearer "), true);
  struct secret *both = secret_join_text(bearer, STR("; v=1"), false);
  secret_unref(t);
  secret_unref(bearer);
  CHECK(EXPANDS(both, "Bearer TOKEN; v=1"));
  CHECK(EXPANDS(secret_token(slot, STR("session"), api_only, MISSING_WAIT), "S/E"));
  CHECK(EXPANDS(secret_bytes(STR("key"), "k", NULL), "key"));
  CHECK(EXPANDS(secret_bytes(STR(""), NULL, NULL), ""));
  end();
}

static void encodings_stream_over_the_borders_of_parts(void) {
  begin();
  set("a b&c/\"\\+", 100);
  CHECK(EXPANDS(encode(token(), SECRET_FORM), "a+b%26c%2F%22%5C%2B"));
  CHECK(EXPANDS(encode(token(), SECRET_JSON), "a b&c/\\\"\\\\+"));
  CHECK(EXPANDS(encode(text("\n\x7f\x01\xc3\xa9~-._*"), SECRET_FORM), "%0A%7F%01%C3%A9%7E-._*"));
  CHECK(EXPANDS(encode(text("\n\x7f\x01\xc3\xa9"), SECRET_JSON), "\\n\\u007f\\u0001\xc3\xa9"));
  /* RFC 4648, section 10, each string in every split */
  static const char *const plain = "foobar";
  static const char *const coded[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
  for (size_t n = 0; n <= 6; n++) {
    for (size_t i = 0; i <= n; i++) {
      struct secret *s =
          join(secret_literal((struct str){plain, i}), secret_bytes((struct str){plain + i, n - i}, "x", NULL));
      CHECK(expands_to(encode(s, SECRET_BASE64), coded[n], strlen(coded[n])));
    }
  }
  CHECK(EXPANDS(encode(text("\xfb\xff\xfe?"), SECRET_BASE64), "+//+Pw=="));
  CHECK(EXPANDS(encode(text("\xfb\xff\xfe?"), SECRET_BASE64URL), "-__-Pw"));
  CHECK(EXPANDS(join(text("Basic "), encode(join(text("id:"), secret_bytes(STR("s3"), "s", NULL)), SECRET_BASE64)),
                "Basic aWQ6czM="));
  CHECK(EXPANDS(encode(encode(text("a&b"), SECRET_FORM), SECRET_BASE64URL), "YSUyNmI"));
  end();
}

static void long_values_pass_every_encoding(void) {
  enum { N = 5000 };
  static char in[N], form[3 * N];
  for (int i = 0; i < N; i++) {
    in[i] = '&';
    memcpy(form + 3 * i, "%26", 3);
  }
  CHECK(expands_to(encode(secret_literal((struct str){in, N}), SECRET_FORM), form, sizeof form));
}

static void the_audience_is_asked_before_any_byte(void) {
  begin();
  set("TOKEN", 100);
  struct secret *s = join(text("Bearer "), token());
  struct secret_context ctx = context();
  ctx.host = STR("evil.example.com");
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  ctx = context();
  ctx.tls = false;
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  ctx.any_target = true;
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(secret_expand(s, &ctx, &out) == 0 && ctx.nused == 1);
  buf_fini(&out);
  secret_unref(s);
  struct secret *nobodys = secret_token(slot, (struct str){NULL, 0}, NULL, MISSING_WAIT);
  ctx = context();
  CHECK(refused(nobodys, &ctx) == ERR_TOKEN_AUDIENCE);
  secret_unref(nobodys);
  struct secret *stored = secret_bytes(STR("KEY"), "key", api_only);
  ctx.host = STR("api.example.com.");
  CHECK(refused(stored, &ctx) == ERR_TOKEN_AUDIENCE);
  secret_unref(stored);
  end();
}

static void one_request_never_holds_two_generations(void) {
  begin();
  set("FIRST", 100);
  struct secret *value = token(), *field = secret_token(slot, STR("session"), api_only, MISSING_WAIT);
  struct secret_context ctx = context();
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(secret_expand(value, &ctx, &out) == 0);
  set("SECOND", 100); /* a publish between two fields of a head */
  CHECK(refused(field, &ctx) == ERR_TOKEN_EXPIRED);
  CHECK(!secret_context_serves(&ctx));
  ctx = context();
  CHECK(secret_expand(value, &ctx, &out) == 0 && secret_expand(field, &ctx, &out) == 0);
  CHECK(ctx.nused == 1 && ctx.used[0].generation == 2 && secret_context_serves(&ctx));
  vnow += 99000;
  CHECK(!secret_context_serves(&ctx)); /* it is over, though nothing else came */
  buf_fini(&out);
  secret_unref(value);
  secret_unref(field);
  end();
}

static void an_expired_token_is_never_expanded(void) {
  begin();
  struct secret *s = join(text("Bearer "), token());
  struct secret_context ctx = context();
  CHECK(refused(s, &ctx) == ERR_TOKEN_MISSING);
  set("TOKEN", 100); /* 99 s with leeway */
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  vnow += 98999;
  CHECK(secret_expand(s, &ctx, &out) == 0);
  vnow += 1;
  CHECK(refused(s, &ctx) == ERR_TOKEN_EXPIRED);
  set("NEXT", 100);
  buf_reset(&out);
  CHECK(refused(s, &ctx) == ERR_TOKEN_EXPIRED); /* this context holds generation 1 */
  ctx = context();
  CHECK(secret_expand(s, &ctx, &out) == 0 && str_eq(buf_str(&out), STR("Bearer NEXT")));
  CHECK(ctx.nused == 1 && ctx.used[0].generation == 2 && ctx.used[0].slot == slot);
  slot->has_fetch = true;
  CHECK(slot_reject(slot, 2) == SLOT_REFRESHES);
  CHECK(refused(s, &ctx) < 0);
  buf_fini(&out);
  secret_unref(s);
  end();
}

static void the_clock_is_read_at_each_expansion(void) {
  slot = slot_new(STR("api"), (struct str){NULL, 0}); /* real time */
  api_only = audience_new();
  audience_add(api_only, true, STR("api.example.com"), 443);
  set("TOKEN", 0.1);
  struct secret *s = token();
  struct secret_context ctx = context();
  ctx.clock = NULL;
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  int64_t start = clock_boot_ms();
  int rc;
  while ((rc = secret_expand(s, &ctx, &out)) == 0) CHECK(clock_boot_ms() - start < 5000);
  CHECK(rc == ERR_TOKEN_EXPIRED && clock_boot_ms() - start >= 88);
  buf_fini(&out);
  secret_unref(s);
  end();
}

static void what_ends_a_header_is_refused(void) {
  begin();
  static const char *const encoded[] = {"xa%0Db", "xa%0Ab", "xa%00b", "xa%01b", "xa%1Fb", "xa%7Fb"};
  const struct str bad[] = {STR("a\rb"), STR("a\nb"), STR("a\0b"), STR("a\1b"), STR("a\37b"), STR("a\177b")};
  for (int i = 0; i < 6; i++) {
    struct secret *s = join(text("x"), secret_bytes(bad[i], "b", NULL));
    struct secret_context ctx = context();
    CHECK(refused(s, &ctx) == ERR_SECRET_BYTES);
    CHECK(expands_to(encode(s, SECRET_FORM), encoded[i], 6));
  }
  end();
}

static void a_missing_field_is_missing(void) {
  begin();
  set("TOKEN", 100);
  struct secret *s = join(token(), secret_token(slot, STR("nosuch"), api_only, MISSING_WAIT));
  struct secret_context ctx = context();
  CHECK(refused(s, &ctx) == ERR_TOKEN_MISSING); /* and what was put before is taken back */
  secret_unref(s);
  end();
}

static void too_many_tokens_in_one_request_are_refused(void) {
  struct slot *slots[SECRET_USED_MAX + 1];
  struct secret *s = text("");
  begin();
  slot_unref(slot);
  for (int i = 0; i <= SECRET_USED_MAX; i++) {
    slot = slots[i] = slot_new(STR("t"), (struct str){NULL, 0});
    slot_use_clock(slot, vclock);
    set("T", 100);
    struct secret_context ctx = context();
    if (i == SECRET_USED_MAX) {
      struct secret *over = join(secret_ref(s), token());
      CHECK(refused(over, &ctx) == ERR_LIMIT);
      secret_unref(over);
    } else {
      s = join(s, join(token(), token())); /* twice the same counts once */
    }
  }
  CHECK(EXPANDS(s, "TTTTTTTTTTTTTTTT"));
  for (int i = 0; i < SECRET_USED_MAX; i++) slot_unref(slots[i]);
  end();
}

static void growth_is_bounded(void) {
  struct secret *s = text("x");
  int doublings = 0;
  for (struct secret *next; (next = secret_join(s, s)) != NULL; doublings++) {
    secret_unref(s);
    s = next;
  }
  CHECK(doublings == 6);
  CHECK(secret_join(s, NULL) == NULL && secret_join(NULL, s) == NULL && secret_encode(NULL, SECRET_FORM) == NULL);
  CHECK(secret_join_text(s, STR("x"), true) == NULL);
  secret_unref(s);
  s = text("%%%%");
  int depth = 0;
  for (struct secret *next; (next = secret_encode(s, SECRET_FORM)) != NULL; depth++) {
    secret_unref(s);
    s = next;
  }
  CHECK(depth == SECRET_DEPTH_MAX);
  secret_unref(s);
  char *big = malloc(SECRET_BYTES_MAX + 1);
  memset(big, '&', SECRET_BYTES_MAX + 1);
  CHECK(secret_literal((struct str){big, SECRET_BYTES_MAX + 1}) == NULL);
  CHECK(secret_bytes((struct str){big, SECRET_BYTES_MAX + 1}, "b", NULL) == NULL);
  s = secret_literal((struct str){big, SECRET_BYTES_MAX});
  CHECK(s != NULL && secret_join_text(s, STR("x"), false) == NULL);
  s = encode(s, SECRET_FORM); /* three times that */
  struct secret_context ctx = {.any_target = true};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(secret_expand(s, &ctx, &out) == ERR_LIMIT && out.n == 0);
  buf_fini(&out);
  secret_unref(s);
  free(big);
}

static bool described_as(struct secret *s, const char *want) {
  struct buf out;
  buf_init(&out);
  secret_describe(s, &out);
  bool same = str_eq(buf_str(&out), str_of(want));
  buf_fini(&out);
  secret_unref(s);
  return same;
}

static struct secret *compute(struct secret *s, const char *result);
static void describing_shows_no_secret_byte(void) {
  begin();
  set("TOKEN", 100);
  CHECK(described_as(join(text("Bearer "), token()), "Bearer <token api>"));
  CHECK(described_as(secret_token(slot, STR("session"), NULL, MISSING_FAIL), "<token api.session>"));
  CHECK(described_as(encode(join(text("id\n:"), secret_bytes(STR("PASS"), "file /run/x", NULL)), SECRET_BASE64),
                     "base64(id?:<secret file /run/x>)"));
  CHECK(described_as(secret_bytes(STR("PASS"), NULL, NULL), "<secret secret>"));
  CHECK(described_as(encode(compute(token(), "MAC"), SECRET_HEX), "hex(<secret hmac>)"));
  end();
}

static int count_token(void *arg, const struct secret_token_view *t) {
  unsigned *n = arg;
  CHECK(t->reader->slot == slot && t->audience == api_only && t->missing == MISSING_WAIT);
  return ++*n == 3 ? 77 : 0;
}

static void each_token_is_visited_until_told_to_stop(void) {
  begin();
  unsigned n = 0;
  struct secret *s = join(token(), join(text("x"), encode(join(token(), text("y")), SECRET_FORM)));
  CHECK(secret_each_token(s, count_token, &n) == 0 && n == 2);
  s = join(join(s, token()), token());
  n = 0;
  CHECK(secret_each_token(s, count_token, &n) == 77 && n == 3);
  secret_unref(s);
  end();
}

static void bytes_are_wiped_with_the_last_reference(void) {
  struct secret *s = secret_bytes(STR("SSSSSSSSSSSSSSSSSSSSSSSS"), "s", NULL);
  struct secret *joined = secret_join_text(s, STR("x"), true);
  secret_unref(s);
  /* Small secret memory stays mapped and is given out again last in, first out. */
  secret_unref(joined);
  char *again = secmem_alloc(24);
  for (int i = 0; i < 24; i++) CHECK(again[i] == 0);
  secmem_free(again, 24);
}

/* --- computed --- */

/* As a library's function does it: the bytes of s, whomever they are for, are what the new one is computed from. Takes s. */
static struct secret *compute(struct secret *s, const char *result) {
  struct secret_taint from = {0};
  struct secret_context ctx = {.any_target = true, .taint = &from, .clock = vclock};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(s != NULL && secret_expand(s, &ctx, &out) == 0);
  buf_fini(&out);
  secret_unref(s);
  return secret_computed(str_of(result), "hmac", &from);
}

static struct audience *only(const char *host) {
  struct audience *a = audience_new();
  CHECK(audience_add_host(a, str_of(host)));
  return a;
}

static void what_is_computed_goes_where_its_parts_may_go(void) {
  begin();
  set("TOKEN", 100);
  struct audience *both = only("api.example.com"), *other = only("other.example.com");
  CHECK(audience_add_host(both, STR("other.example.com")));
  struct secret *s = compute(join(text("AWS4"), token()), "MAC");
  CHECK(EXPANDS(secret_ref(s), "MAC"));
  CHECK(EXPANDS(encode(secret_ref(s), SECRET_HEX), "4d4143"));
  struct secret_context ctx = context();
  ctx.host = STR("other.example.com");
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  /* of it and of a key that both may have: what both may have */
  s = compute(join(s, secret_bytes(STR("KEY"), "k", both)), "MAC2");
  CHECK(EXPANDS(secret_ref(s), "MAC2"));
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  /* and of what only another may have: nobody */
  s = compute(join(s, secret_bytes(STR("KEY"), "k", other)), "MAC3");
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  ctx = context();
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  secret_unref(s);
  s = compute(secret_token(slot, (struct str){NULL, 0}, NULL, MISSING_WAIT), "MAC4"); /* nobody's handle */
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  secret_unref(s);
  CHECK(EXPANDS(compute(secret_bytes(STR("KEY"), "k", NULL), "FREE"), "FREE"));
  audience_unref(both);
  audience_unref(other);
  end();
}

static void what_is_computed_ends_with_the_first_of_its_tokens(void) {
  begin();
  set("TOKEN", 100); /* 99 s with leeway */
  struct secret *s = compute(compute(token(), "MAC"), "MAC OF MAC");
  struct secret_context ctx = context();
  ctx.host = STR("api.example.com");
  vnow += 98999;
  CHECK(EXPANDS(secret_ref(s), "MAC OF MAC") && !secret_is_over(s, vnow));
  vnow += 1;
  CHECK(refused(s, &ctx) == ERR_TOKEN_EXPIRED && ctx.ends_at == vnow && secret_is_over(s, vnow));
  set("NEXT", 100);
  ctx = context();
  CHECK(refused(s, &ctx) == ERR_TOKEN_EXPIRED); /* it does not follow */
  struct secret *row = join(text("a"), encode(s, SECRET_FORM));
  CHECK(secret_is_over(row, vnow));
  secret_unref(row);
  end();
}

static void what_is_computed_counts_as_a_use_of_its_tokens(void) {
  begin();
  set("FIRST", 100);
  struct secret *first = compute(token(), "MAC1"), *value = token();
  struct secret_context ctx = context();
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(secret_expand(first, &ctx, &out) == 0);
  CHECK(ctx.nused == 1 && ctx.used[0].slot == slot && ctx.used[0].generation == 1);
  set("SECOND", 100);
  CHECK(refused(value, &ctx) == ERR_TOKEN_EXPIRED); /* a signature goes with the token that it was made with */
  ctx = context();
  CHECK(secret_expand(value, &ctx, &out) == 0);
  CHECK(refused(first, &ctx) == ERR_TOKEN_EXPIRED);
  ctx = context();
  CHECK(secret_expand(first, &ctx, &out) == 0); /* alone it serves on: the old token has not ended */
  /* out of two generations nothing is computed */
  struct secret_taint from = {0};
  struct secret_context computing = {.any_target = true, .taint = &from, .clock = vclock};
  CHECK(secret_expand(first, &computing, &out) == 0 && refused(value, &computing) == ERR_TOKEN_EXPIRED);
  secret_taint_fini(&from);
  /* the upstream refuses what was signed: neither that nor anything older goes out again */
  slot->has_fetch = true;
  struct secret *second = compute(secret_ref(value), "MAC2");
  CHECK(slot_reject(slot, 1) == SLOT_MOVED_ON);
  ctx = context();
  CHECK(refused(first, &ctx) == ERR_TOKEN_EXPIRED && secret_is_over(first, vnow));
  CHECK(secret_expand(second, &ctx, &out) == 0 && !secret_is_over(second, vnow));
  CHECK(slot_reject(slot, 2) == SLOT_REFRESHES);
  ctx = context();
  CHECK(refused(second, &ctx) == ERR_TOKEN_EXPIRED);
  set("THIRD", 100);
  struct secret *third = compute(secret_ref(value), "MAC3");
  CHECK(secret_expand(third, &ctx, &out) == 0);
  slot_close(slot, false); /* the policy has the token no more */
  ctx = context();
  CHECK(refused(third, &ctx) == ERR_TOKEN_EXPIRED);
  buf_fini(&out);
  secret_unref(first);
  secret_unref(second);
  secret_unref(third);
  secret_unref(value);
  end();
}

/* A slot whose token is refused and has no fetch keeps it, and what is computed of it. */
static void a_refusal_that_takes_no_token_takes_nothing_computed(void) {
  begin();
  set("TOKEN", 100);
  struct secret *s = compute(token(), "MAC");
  CHECK(slot_reject(slot, 1) == SLOT_DAMPED);
  CHECK(EXPANDS(s, "MAC"));
  end();
}

static bool goes_to_a_file(struct secret *s, const char *path) {
  struct secret_context ctx = {.place = SECRET_TO_FILE, .path = str_of(path), .clock = vclock};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  bool went = secret_expand(s, &ctx, &out) == 0;
  buf_fini(&out);
  return went;
}

static void what_is_computed_is_sealed_as_its_tokens_are(void) {
  begin();
  set("TOKEN", 100);
  audience_add_file(api_only, STR("/run/out"));
  struct secret *sealed = compute(token(), "MAC");
  CHECK(!goes_to_a_file(sealed, "/tmp/x") && goes_to_a_file(sealed, "/run/out"));
  struct secret *open = compute(secret_token_open(slot, (struct str){NULL, 0}, api_only, MISSING_WAIT), "MAC");
  CHECK(goes_to_a_file(open, "/tmp/x"));
  struct secret *mixed = compute(join(secret_ref(open), sealed), "MAC");
  CHECK(!goes_to_a_file(mixed, "/tmp/x"));
  struct secret *of_no_token = compute(secret_bytes(STR("KEY"), "k", NULL), "MAC");
  CHECK(goes_to_a_file(of_no_token, "/tmp/x"));
  /* and what is made of it is bound as it is */
  struct token_bond bond = {0};
  struct secret_context ctx = {.any_target = true, .bond = &bond, .clock = vclock};
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(secret_expand(of_no_token, &ctx, &out) == 0 && bond.audience == NULL && !bond.sealed);
  CHECK(secret_expand(mixed, &ctx, &out) == 0 && bond.sealed);
  CHECK(audience_same(bond.audience, api_only));
  token_bond_fini(&bond);
  buf_fini(&out);
  secret_unref(open);
  secret_unref(mixed);
  secret_unref(of_no_token);
  end();
}

/* A refresh token goes to any server, and what is computed of it does; what a fetch makes of that is bound. */
static void what_is_computed_of_a_refresh_token_is_bound_as_that(void) {
  begin();
  struct token_bond bond = {.audience = api_only, .sealed = true}, made = {0};
  struct secret *s = compute(secret_bytes_of_token(STR("RT"), "r", NULL, &bond, NULL), "MAC");
  struct secret_context ctx = context();
  ctx.host = STR("issuer.example.com");
  ctx.bond = &made;
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  CHECK(secret_expand(s, &ctx, &out) == 0 && made.sealed && audience_same(made.audience, api_only));
  CHECK(!goes_to_a_file(s, "/tmp/x"));
  token_bond_fini(&made);
  secret_unref(s);
  struct audience *issuer = only("issuer.example.com");
  s = compute(secret_bytes_of_token(STR("RT"), "r", issuer, &bond, NULL), "MAC");
  ctx.bond = NULL;
  CHECK(secret_expand(s, &ctx, &out) == 0);
  ctx.host = STR("elsewhere.example.com");
  CHECK(refused(s, &ctx) == ERR_TOKEN_AUDIENCE);
  audience_unref(issuer);
  buf_fini(&out);
  secret_unref(s);
  end();
}

static void what_is_computed_is_masked_where_it_comes_back(void) {
  begin();
  set("TOKEN", 100);
  struct secret *s = encode(compute(token(), "computed-value"), SECRET_HEX);
  struct secret_context ctx = context();
  ctx.mask = mask_new();
  struct buf out, masked;
  buf_init(&out);
  buf_init(&masked);
  out.sensitive = true;
  CHECK(secret_expand(s, &ctx, &out) == 0);
  CHECK(mask_apply(ctx.mask, STR("no computed-value here"), &masked) && str_eq(buf_str(&masked), STR("no *** here")));
  buf_reset(&masked);
  CHECK(mask_apply(ctx.mask, STR("nor 636f6d70757465642d76616c7565 either"), &masked) &&
        str_eq(buf_str(&masked), STR("nor *** either")));
  mask_free(ctx.mask);
  buf_fini(&out);
  buf_fini(&masked);
  secret_unref(s);
  end();
}

static void a_chain_of_computed_secrets_is_as_deep_as_one(void) {
  begin();
  set("TOKEN", 100);
  struct secret *s = token();
  for (int i = 0; i < 10000; i++) s = compute(s, "MAC");
  CHECK(EXPANDS(s, "MAC"));
  end();
}

static void what_is_computed_is_bounded_and_wiped(void) {
  char *big = malloc(SECRET_BYTES_MAX + 1);
  memset(big, 'x', SECRET_BYTES_MAX + 1);
  struct secret_taint from = {.audience = only("h")};
  CHECK(secret_computed((struct str){big, SECRET_BYTES_MAX + 1}, "hmac", &from) == NULL && from.audience == NULL);
  free(big);
  CHECK(EXPANDS(secret_computed(STR(""), "hmac", &from), ""));
}

static void the_encodings_of_targets_and_cookies(void) {
  CHECK(EXPANDS(encode(text("a b&c/~-._*+%\n\xc3\xa9"), SECRET_URL), "a%20b%26c%2F~-._%2A%2B%25%0A%C3%A9"));
  CHECK(EXPANDS(encode(text("\x01\xffZ"), SECRET_HEX), "01ff5a"));
  CHECK(EXPANDS(encode(text("eyJ.a-b_c=="), SECRET_COOKIE), "eyJ.a-b_c=="));
  const char *const bad[] = {"a;b", "a b", "a,b", "a\"b", "a\\b", "a\nb", "a\x7f", "\xc3\xa9"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct secret *s = encode(join(text("x"), secret_bytes(str_of(bad[i]), "b", NULL)), SECRET_COOKIE);
    struct secret_context ctx = context();
    CHECK(refused(s, &ctx) == ERR_SECRET_BYTES);
    secret_unref(s);
  }
}

/* --- audiences --- */

static bool allows(const char *entry, bool tls, const char *host, uint16_t port) {
  struct audience *a = audience_new();
  CHECK(!audience_allows(a, tls, str_of(host), port)); /* an empty one: nobody */
  CHECK(audience_add_host(a, str_of(entry)));
  bool yes = audience_allows(a, tls, str_of(host), port);
  audience_unref(a);
  return yes;
}

static void hosts_are_compared_exactly(void) {
  CHECK(allows("api.example.com", true, "api.example.com", 443) &&
        allows("api.example.com", true, "API.Example.com", 8443));
  CHECK(allows("https://API.example.com", true, "api.example.com", 443));
  CHECK(!allows("api.example.com", false, "api.example.com", 443));
  CHECK(!allows("api.example.com", true, "api.example.com.", 443) &&
        !allows("api.example.com", true, "xapi.example.com", 443));
  CHECK(!allows("api.example.com", true, "api.example.com.evil.org", 443) && !allows("api.example.com", true, "", 443));
  CHECK(allows("api.example.com:8443", true, "api.example.com", 8443) &&
        !allows("api.example.com:8443", true, "api.example.com", 443));
  CHECK(allows("http://h", false, "h", 80) && allows("http://h", false, "h", 8080) &&
        !allows("http://h", true, "h", 443));
  CHECK(allows("http://h:81", false, "h", 81) && !allows("http://h:81", false, "h", 80));
  CHECK(allows("[::1]:8443", true, "::1", 8443) && allows("http://[::1]", false, "::1", 1) &&
        !allows("[::1]:8443", true, "::2", 8443));
}

static void a_star_is_one_label(void) {
  CHECK(allows("*.example.com", true, "a.example.com", 443) &&
        allows("http://*.example.com:80", false, "A.EXAMPLE.com", 80));
  CHECK(!allows("*.example.com", true, "example.com", 443) && !allows("*.example.com", true, "a.b.example.com", 443));
  CHECK(!allows("*.example.com", true, ".example.com", 443) && !allows("*.example.com", true, "aexample.com", 443));
  CHECK(!allows("*.example.com", true, "*.example.org", 443));
}

static void what_is_no_host_is_not_added(void) {
  const char *const bad[] = {
      "",        "*",       "*.",      "*.com",           "a b",     "a/b",     "u@h", "h:", "h:0",
      "h:99999", "http://", "ftp://h", "*.*.example.com", "a.*.com", "*.[::1]", "[::1"};
  struct audience *a = audience_new();
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (audience_add_host(a, str_of(bad[i]))) {
      fprintf(stderr, "taken: %s\n", bad[i]);
      CHECK(false);
    }
  }
  audience_unref(a);
}

/* --- references between threads, and costs --- */

static struct secret *shared;
static void *take_and_give(void *arg) {
  (void)arg;
  for (int i = 0; i < 100000; i++) {
    struct secret *s = secret_join_text(shared, STR("Bearer "), true);
    secret_unref(s);
  }
  return NULL;
}

static void references_are_taken_in_any_thread(void) {
  begin();
  shared = token();
  pthread_t other;
  pthread_create(&other, NULL, take_and_give, NULL);
  take_and_give(NULL);
  pthread_join(other, NULL);
  set("TOKEN", 100);
  CHECK(EXPANDS(shared, "TOKEN"));
  end();
}

/* --- carried to another thread --- */

struct source {
  const char *text; /* NULL: cannot be read */
  int reads;
};
static int read_source(void *data, struct str *bytes) {
  struct source *source = data;
  source->reads++;
  if (source->text == NULL) return ERR_SECRET_SOURCE;
  *bytes = str_of(source->text);
  return 0;
}
static void free_source(void *data) { (void)data; }
static const struct secret_source_ops source_ops = {.read = read_source, .free = free_source};

/* Takes s; the copy. */
static struct secret *carried(struct secret *s) {
  struct secret *copy;
  CHECK(secret_carry(s, &copy) == 0 && copy != NULL);
  secret_unref(s);
  return copy;
}

static void what_never_changes_is_carried_as_it_is(void) {
  struct secret *all[] = {text("x"), secret_bytes(STR("key"), "k", NULL), encode(text("a b"), SECRET_FORM),
                          join(text("a"), encode(secret_bytes(STR("b"), "k", NULL), SECRET_BASE64)),
                          compute(text("x"), "MAC")};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    struct secret *same;
    CHECK(secret_carry(all[i], &same) == 0 && same == all[i]);
    secret_unref(same);
    secret_unref(all[i]);
  }
}

static void a_carried_token_is_that_of_the_moment_of_its_use(void) {
  begin();
  set("T1", 100);
  struct secret *here = join(text("a "), join(encode(join(token(), text("&")), SECRET_FORM), text(" z")));
  struct secret *there = carried(secret_ref(here));
  CHECK(there != here);
  CHECK(EXPANDS(secret_ref(there), "a T1%26 z"));
  set("T2", 100);
  CHECK(EXPANDS(there, "a T2%26 z"));
  CHECK(EXPANDS(here, "a T2%26 z"));
  struct secret *field = carried(secret_token(slot, STR("session"), api_only, MISSING_WAIT));
  CHECK(EXPANDS(secret_ref(field), "S/E"));
  struct secret_context ctx = context();
  ctx.host = STR("other.example.com");
  CHECK(refused(field, &ctx) == ERR_TOKEN_AUDIENCE);
  secret_unref(field);
  end();
}

static void a_carried_source_is_read_once(void) {
  begin();
  struct source file = {.text = "one"};
  struct secret *here = join(text("<"), encode(secret_source(&source_ops, &file, "file f"), SECRET_JSON));
  struct secret *there = carried(secret_ref(here));
  file.text = "two";
  CHECK(file.reads == 1);
  CHECK(EXPANDS(there, "<one") && file.reads == 1);
  file.text = NULL;
  there = here;
  CHECK(secret_carry(here, &there) == ERR_SECRET_SOURCE && there == NULL);
  char *big = malloc(SECRET_BYTES_MAX + 1);
  memset(big, 'x', SECRET_BYTES_MAX);
  big[SECRET_BYTES_MAX] = '\0';
  file.text = big; /* with the text before it that is one too many */
  CHECK(secret_carry(here, &there) == ERR_LIMIT && there == NULL);
  secret_unref(here);
  free(big);
  end();
}

static atomic_bool over;
static void expand_until_over(struct secret *s) {
  while (!atomic_load(&over)) CHECK(expands_to(secret_ref(s), "x TOKEN", 7));
}
static void *expand_there(void *arg) {
  expand_until_over(arg);
  secret_unref(arg);
  return NULL;
}

static void a_secret_and_its_carried_copy_expand_at_once(void) {
  begin();
  set("TOKEN", 100);
  struct secret *here = join(text("x "), token()), *there;
  pthread_t other[2];
  for (int i = 0; i < 2; i++) {
    CHECK(secret_carry(here, &there) == 0);
    CHECK(pthread_create(&other[i], NULL, expand_there, there) == 0);
  }
  for (int i = 0; i < 300; i++) {
    set("TOKEN", 100); /* a new generation each */
    CHECK(expands_to(secret_ref(here), "x TOKEN", 7));
  }
  atomic_store(&over, true);
  for (int i = 0; i < 2; i++) pthread_join(other[i], NULL);
  secret_unref(here);
  end();
}

static struct secret *computed_once;
static void *expand_computed_there(void *arg) {
  struct secret *there;
  (void)arg;
  for (int i = 0; i < 20000; i++) {
    CHECK(secret_carry(computed_once, &there) == 0 && there == computed_once);
    (void)secret_is_over(there, 0);
    secret_unref(there);
  }
  return NULL;
}

static void what_is_computed_belongs_to_no_thread(void) {
  begin();
  set("TOKEN", 100);
  slot->has_fetch = true;
  computed_once = compute(token(), "MAC");
  pthread_t other;
  pthread_create(&other, NULL, expand_computed_there, NULL);
  CHECK(slot_reject(slot, 1) == SLOT_REFRESHES);
  pthread_join(other, NULL);
  secret_unref(computed_once);
  end();
}

static void what_computing_costs(void) {
  enum { N = 300000 };
  slot = slot_new(STR("aws"), (struct str){NULL, 0});
  api_only = only("api.example.com");
  set("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", 600);
  struct secret *t = token();
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  int64_t start = clock_mono_us();
  for (int i = 0; i < N; i++) {
    struct secret_taint from = {0};
    struct secret_context ctx = {.any_target = true, .taint = &from};
    CHECK(secret_expand(t, &ctx, &out) == 0);
    secret_unref(secret_computed(buf_str(&out), "hmac", &from));
    buf_reset(&out);
  }
  printf("# a secret computed and freed, but for the computing: %.1f ns\n",
         (double)(clock_mono_us() - start) * 1000 / N);
  buf_fini(&out);
  secret_unref(t);
  end();
}

static void what_a_header_costs(void) {
  enum { N = 1000000 };
  slot = slot_new(STR("api"), (struct str){NULL, 0});
  api_only = audience_new();
  audience_add(api_only, true, STR("api.example.com"), 443);
  set("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.signature-signature-signature", 600);
  struct secret *t = token();
  struct buf out;
  buf_init(&out);
  out.sensitive = true;
  buf_reserve(&out, 4096);
  int64_t start = clock_mono_us();
  for (int i = 0; i < N; i++) {
    struct secret_context ctx = context();
    ctx.clock = NULL;
    struct secret *s = secret_join_text(t, STR("Bearer "), true);
    CHECK(secret_expand(s, &ctx, &out) == 0);
    secret_unref(s);
    out.n = 0; /* the head's buffer is wiped by its owner */
  }
  int64_t us = clock_mono_us() - start;
  start = clock_mono_us();
  for (int i = 0; i < N; i++) CHECK(clock_boot_ms() > 0);
  int64_t clock_us = clock_mono_us() - start;
  printf("# \"Bearer \" .. token made, expanded and freed: %.1f ns, of which the clock %.1f ns\n",
         (double)us * 1000 / N, (double)clock_us * 1000 / N);
  buf_fini(&out);
  secret_unref(t);
  end();
}

int main(void) {
  log_configure(&(struct log_settings){LOG_OFF, LOG_TEXT});
  RUN(joins_expand_in_order);
  RUN(encodings_stream_over_the_borders_of_parts);
  RUN(long_values_pass_every_encoding);
  RUN(the_audience_is_asked_before_any_byte);
  RUN(one_request_never_holds_two_generations);
  RUN(an_expired_token_is_never_expanded);
  RUN(the_clock_is_read_at_each_expansion);
  RUN(what_ends_a_header_is_refused);
  RUN(a_missing_field_is_missing);
  RUN(too_many_tokens_in_one_request_are_refused);
  RUN(growth_is_bounded);
  RUN(describing_shows_no_secret_byte);
  RUN(each_token_is_visited_until_told_to_stop);
  RUN(bytes_are_wiped_with_the_last_reference);
  RUN(what_is_computed_goes_where_its_parts_may_go);
  RUN(what_is_computed_ends_with_the_first_of_its_tokens);
  RUN(what_is_computed_counts_as_a_use_of_its_tokens);
  RUN(a_refusal_that_takes_no_token_takes_nothing_computed);
  RUN(what_is_computed_is_sealed_as_its_tokens_are);
  RUN(what_is_computed_of_a_refresh_token_is_bound_as_that);
  RUN(what_is_computed_is_masked_where_it_comes_back);
  RUN(a_chain_of_computed_secrets_is_as_deep_as_one);
  RUN(what_is_computed_is_bounded_and_wiped);
  RUN(the_encodings_of_targets_and_cookies);
  RUN(what_is_computed_belongs_to_no_thread);
  RUN(hosts_are_compared_exactly);
  RUN(a_star_is_one_label);
  RUN(what_is_no_host_is_not_added);
  RUN(references_are_taken_in_any_thread);
  RUN(what_never_changes_is_carried_as_it_is);
  RUN(a_carried_token_is_that_of_the_moment_of_its_use);
  RUN(a_carried_source_is_read_once);
  RUN(a_secret_and_its_carried_copy_expand_at_once);
  RUN(what_computing_costs);
  RUN(what_a_header_costs);
  return 0;
}
