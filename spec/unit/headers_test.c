/* headers_test.c: the list of fields. */
#include "http/headers.h"

#include "base/buf.h"
#include "check.h"
#include "token/secret.h"

static struct arena arena;
static struct headers list;

static void begin(void) {
  arena_init(&arena, NULL, 0);
  headers_init(&list, &arena);
}
static void add(const char *name, const char *value) { headers_add(&list, str_of(name), str_of(value)); }

/* "a: b|c: d" */
static bool holds(const char *expected) {
  struct buf b;
  buf_init(&b);
  for (unsigned i = 0; i < list.n; i++)
    if (list.v[i].name.p != NULL)
      buf_addf(&b, "%s%.*s: %.*s", b.n > 0 ? "|" : "", STR_FMT(list.v[i].name), STR_FMT(list.v[i].value));
  bool same = strcmp(buf_z(&b), expected) == 0;
  if (!same) fprintf(stderr, "holds %s\nexpected %s\n", buf_z(&b), expected);
  buf_fini(&b);
  return same;
}

static void names_have_ids(void) {
  static const struct {
    const char *name;
    enum header_id id;
  } names[] = {{"Host", H_HOST},
               {"connection", H_CONNECTION},
               {"KEEP-ALIVE", H_KEEP_ALIVE},
               {"Proxy-Connection", H_PROXY_CONNECTION},
               {"Proxy-Authenticate", H_PROXY_AUTHENTICATE},
               {"Proxy-Authorization", H_PROXY_AUTHORIZATION},
               {"te", H_TE},
               {"Trailer", H_TRAILER},
               {"Transfer-Encoding", H_TRANSFER_ENCODING},
               {"Upgrade", H_UPGRADE},
               {"Content-Length", H_CONTENT_LENGTH},
               {"Expect", H_EXPECT},
               {"aUthorization", H_AUTHORIZATION},
               {"Forwarded", H_FORWARDED},
               {"X-Forwarded-For", H_X_FORWARDED_FOR},
               {"X-Forwarded-Proto", H_X_FORWARDED_PROTO},
               {"X-Forwarded-Host", H_X_FORWARDED_HOST},
               {"Via", H_VIA},
               {"Date", H_DATE},
               {"Server", H_SERVER},
               {"Cookie", H_COOKIE},
               {"Accept", H_ACCEPT},
               {"", H_OTHER},
               {"Hosts", H_OTHER},
               {"Hos", H_OTHER},
               {"User-Agent", H_OTHER},
               {"Transfer_Encoding", H_OTHER},
               {"X", H_OTHER},
               {"ho\x53t", H_HOST},
               {"Content\rLength", H_OTHER},
               {"H\xefst", H_OTHER}};
  unsigned seen = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    CHECK(header_id(str_of(names[i].name)) == names[i].id);
    seen |= 1u << names[i].id;
  }
  CHECK(seen == (1u << H_COUNT) - 1);
}

static void finds_without_case_and_in_order(void) {
  begin();
  CHECK(headers_find(&list, STR("a")) == NULL && headers_find_id(&list, H_HOST) == NULL);
  add("X-A", "1"), add("Host", "h"), add("x-a", "2");
  CHECK(str_eq(headers_find(&list, STR("X-a"))->value, STR("1")));
  CHECK(str_eq(headers_find_id(&list, H_HOST)->value, STR("h")));
  CHECK(str_eq(headers_find(&list, STR("HOST"))->value, STR("h")));
  CHECK(headers_find(&list, STR("X-B")) == NULL);
  arena_reset(&arena);
}

static void set_keeps_the_first_place_and_one_field(void) {
  begin();
  add("A", "1"), add("authorization", "x"), add("B", "2"), add("Authorization", "y");
  headers_set(&list, STR("Authorization"), STR("z"));
  CHECK(holds("A: 1|Authorization: z|B: 2"));
  headers_set(&list, STR("C"), STR("3"));
  CHECK(holds("A: 1|Authorization: z|B: 2|C: 3"));
  CHECK(headers_remove(&list, STR("b")) == 1 && headers_remove(&list, STR("b")) == 0 &&
        headers_find(&list, STR("b")) == NULL);
  CHECK(headers_remove_id(&list, H_AUTHORIZATION) == 1 && headers_find_id(&list, H_AUTHORIZATION) == NULL);
  CHECK(holds("A: 1|C: 3"));
  arena_reset(&arena);
}

static void grows_beyond_the_first_array(void) {
  begin();
  for (int i = 0; i < 100; i++) headers_add(&list, arena_printf(&arena, "X-%d", i), STR("v"));
  CHECK(list.n == 100 && headers_find(&list, STR("x-0")) == &list.v[0] &&
        headers_find(&list, STR("x-99")) == &list.v[99]);
  arena_reset(&arena);
}

static void joins_values(void) {
  begin();
  CHECK(headers_join(&list, STR("A")).p == NULL);
  add("A", "1");
  CHECK(headers_join(&list, STR("a")).p == list.v[0].value.p);
  add("a", ""), add("B", "x"), add("A", "2");
  CHECK(str_eq(headers_join(&list, STR("a")), STR("1, , 2")));
  headers_remove(&list, STR("A"));
  add("C", ""), add("C", "");
  CHECK(str_eq(headers_join(&list, STR("C")), STR(", ")));
  arena_reset(&arena);
}

static void secrets_have_no_bytes_here(void) {
  begin();
  struct secret *s = secret_literal(STR("hush"));
  add("Authorization", "client's"), add("authorization", "again");
  headers_set_secret(&list, STR("Authorization"), s);
  CHECK(holds("Authorization: ") && list.v[0].secret == s);
  CHECK(str_eq(headers_join(&list, STR("authorization")), STR("")));
  headers_set(&list, STR("authorization"), STR("plain"));
  CHECK(list.v[0].secret == NULL);
  headers_set_secret(&list, STR("X"), s);
  headers_set_secret(&list, STR("X"), s);
  headers_remove(&list, STR("X"));
  secret_unref(s);     /* ours */
  arena_reset(&arena); /* theirs: the leak checker sees to the count */
}

static void sees_tokens_in_lists(void) {
  begin();
  add("Connection", "a, \"b, c\" ,\tUpgrade"), add("Connection", "d");
  CHECK(headers_has_token(&list, H_CONNECTION, STR("upgrade")) && headers_has_token(&list, H_CONNECTION, STR("D")));
  CHECK(headers_has_token(&list, H_CONNECTION, STR("a")) && !headers_has_token(&list, H_CONNECTION, STR("c\"")));
  CHECK(!headers_has_token(&list, H_CONNECTION, STR("up")) && !headers_has_token(&list, H_UPGRADE, STR("a")));
  arena_reset(&arena);
}

static void walks_lists(void) {
  static const struct {
    const char *in;
    const char *out[4];
  } cases[] = {{"", {""}},           {"a", {"a"}},    {"a,b", {"a", "b"}},
               {" a , ", {"a", ""}}, {",", {"", ""}}, {"\"a,\\\",\",b", {"\"a,\\\",\"", "b"}},
               {"\"a\\", {"\"a\\"}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct str in = str_of(cases[i].in), member;
    unsigned n = 0;
    for (; list_next(&in, &member); n++) CHECK(cases[i].out[n] != NULL && str_eq(member, str_of(cases[i].out[n])));
    CHECK(cases[i].out[n] == NULL);
  }
}

static void strips_hop_by_hop(void) {
  begin();
  add("Connection", "close, X-Mine, authorization"), add("connection", "x-other,,Cookie");
  add("X-Mine", "1"), add("x-OTHER", "2"), add("Authorization", "3"), add("Cookie", "4"), add("Keep-Alive", "5"),
      add("Stays", "6");
  add("Proxy-Connection", "7"), add("Proxy-Authorization", "8"), add("Proxy-Authenticate", "9"),
      add("Transfer-Encoding", "chunked");
  add("Upgrade", "h2c"), add("TE", "gzip"), add("Trailer", "x"), add("Content-Length", "1");
  headers_strip_hop_by_hop(&list);
  CHECK(holds("Stays: 6|Trailer: x|Content-Length: 1"));
  arena_reset(&arena);
}

static void te_trailers_stays(void) {
  begin();
  add("Connection", "TE"), add("TE", "gzip;q=0.5"), add("TE", "Trailers");
  headers_strip_hop_by_hop(&list);
  CHECK(holds("TE: trailers"));
  arena_reset(&arena);
}

static void twins_go_and_the_name_itself_stays(void) {
  begin();
  add("X-Auth", "own"), add("X_Auth", "a"), add("x-auth", "own too"), add("x_AUTH", "b"), add("X-Auth-", "other"),
      add("X", "y");
  CHECK(headers_remove_twins(&list, STR("X-AUTH"), false) == 2);
  CHECK(holds("X-Auth: own|x-auth: own too|X-Auth-: other|X: y"));
  CHECK(headers_remove_twins(&list, STR("X_Auth"), false) == 2);
  CHECK(headers_remove_twins(&list, STR("X"), false) == 0);
  arena_reset(&arena);
}

static void twins_may_have_more_delimiters(void) {
  begin();
  add("X--Auth", "a"), add("x_-_Auth", "b"), add("X-Auth", "own"), add("XAuth", "other"), add("-X-Auth", "other");
  CHECK(headers_remove_twins(&list, STR("X-Auth"), false) == 2);
  CHECK(holds("X-Auth: own|XAuth: other|-X-Auth: other"));
  arena_reset(&arena);
}

static void an_offer_of_h2c_goes_whole(void) {
  begin();
  add("Connection", "Upgrade"), add("Upgrade", "h2c"), add("HTTP2-Settings", "AAMAAABk"), add("X", "y");
  headers_strip_hop_by_hop(&list);
  CHECK(holds("X: y"));
  arena_reset(&arena);
}

static void syntax_of_names_and_values(void) {
  CHECK(header_name_valid(STR("X-a_1!")) && !header_name_valid(STR("")) && !header_name_valid(STR("a b")) &&
        !header_name_valid(STR("a:")));
  CHECK(!header_name_valid(STR("a\r\n")) && !header_name_valid(STR("\xc3\xa9")) &&
        !header_name_valid((struct str){"a\0", 2}));
  CHECK(header_value_valid(STR("")) && header_value_valid((struct str){NULL, 0}) &&
        header_value_valid(STR("a\tb \xc3\xa9")));
  CHECK(!header_value_valid(STR("a\r\nB: c")) && !header_value_valid(STR("a\n")) &&
        !header_value_valid((struct str){"a\0", 2}) && !header_value_valid(STR("\x7f")));
}

/* What frames a message is written by us alone, so no script may set it and no list brings it. */
static void framing_fields_are_ours_alone(void) {
  const unsigned frames = HEADER_OURS | HEADER_NOT_IN_REQUEST | HEADER_NOT_IN_REPLY;
  static const enum header_id ids[] = {H_CONTENT_LENGTH, H_TRANSFER_ENCODING, H_CONNECTION, H_UPGRADE, H_KEEP_ALIVE};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) CHECK((header_traits[ids[i]] & frames) == frames);
  CHECK(header_traits[H_OTHER] == 0 && header_traits[H_DATE] == 0);
  CHECK(!(header_traits[H_PROXY_AUTHENTICATE] & HEADER_NOT_IN_REPLY));
}

int main(void) {
  RUN(names_have_ids);
  RUN(finds_without_case_and_in_order);
  RUN(set_keeps_the_first_place_and_one_field);
  RUN(grows_beyond_the_first_array);
  RUN(joins_values);
  RUN(secrets_have_no_bytes_here);
  RUN(sees_tokens_in_lists);
  RUN(walks_lists);
  RUN(strips_hop_by_hop);
  RUN(te_trailers_stays);
  RUN(twins_go_and_the_name_itself_stays);
  RUN(twins_may_have_more_delimiters);
  RUN(an_offer_of_h2c_goes_whole);
  RUN(syntax_of_names_and_values);
  RUN(framing_fields_are_ours_alone);
  return 0;
}
