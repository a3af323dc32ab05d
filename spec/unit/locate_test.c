/* locate_test.c: the lines of keys, by source text. */
#include <string.h>

#include "base/arena.h"
#include "check.h"
#include "policy/lex.h"
#include "policy/locate.h"
#include "policy/path.h"

struct place {
  const char *path;
  unsigned line;
};

static void expect(const char *text, const struct place *places) {
  struct arena a;
  arena_init(&a, NULL, 0);
  struct locator *l = locator_new(&a, str_of(text));
  for (; places->path != NULL; places++) {
    unsigned line = locator_line(l, str_of(places->path));
    if (line != places->line) fprintf(stderr, "%s: line %u instead of %u\n", places->path, line, places->line);
    CHECK(line == places->line);
  }
  arena_reset(&a);
}

static void keys_of_a_returned_table_have_lines(void) {
  expect("return {\n  listen = 1,\n  timeouts = {\n    head = 2,\n    ['body'] = 3; [\"idle\"] = 4\n  },\n}\n",
         (struct place[]){{"listen", 2},
                          {"timeouts", 3},
                          {"timeouts.head", 4},
                          {"timeouts.body", 5},
                          {"timeouts.idle", 5},
                          {"head", 0},
                          {0}});
}

static void list_entries_have_lines(void) {
  expect("return { listen = {\n 'a',\n { 'b',\n tls = {\n certificates = {\n { cert = 1,\n key = 2 } } } },\n} }",
         (struct place[]){{"listen[1]", 2},
                          {"listen[2]", 3},
                          {"listen[2][1]", 3},
                          {"listen[2].tls", 4},
                          {"listen[2].tls.certificates[1].key", 7},
                          {0}});
}

static void strings_and_comments_are_skipped(void) {
  expect(
      "--[==[ return { a = 1 }\n]] ]==]\n-- return {\nlocal s = [[\nreturn { a = 1 }\n]]\nlocal q = 'it\\'s \\\n { '\n"
      "return {\n a = \"}\", --[[ x ]] b =\n [=[\n]]=]=], c = 1e-3 .. '',\n d = 0xep-1,\n}",
      (struct place[]){{"a", 10}, {"b", 10}, {"c", 12}, {"d", 13}, {0}});
}

static void functions_in_values_are_skipped(void) {
  expect(
      "return {\n on_request = function(req)\n  local t = { a = 1 }\n  if t then for i = 1, 2 do end end\n  repeat "
      "local x until x\n"
      "  while false do end\n  return { listen = 2 }\n end,\n listen = 3,\n}",
      (struct place[]){{"on_request", 2}, {"listen", 9}, {"a", 0}, {"on_request.a", 0}, {0}});
}

static void tables_given_to_calls_count_as_the_key(void) {
  expect(
      "local oauth2 = require 'jeton.oauth2'\nreturn {\n tokens = {\n  api = oauth2.client_credentials {\n   wait = "
      "1,\n"
      "   backoff = { min = 1,\n max = 2 },\n  },\n  b = f(x, {\n   leeway = 3 }),\n  c = 1 },\n}",
      (struct place[]){{"tokens.api", 4},
                       {"tokens.api.wait", 5},
                       {"tokens.api.backoff.max", 7},
                       {"tokens.b.leeway", 10},
                       {"tokens.c", 11},
                       {0}});
}

static void a_returned_local_is_followed(void) {
  expect(
      "local M = {\n listen = 1,\n}\nM.upstream = 'x'\nM.timeouts = { head = 1,\n body = 2 }\nM['via'] = true\n"
      "M.limits = {}\nM.limits.head = 2\nfunction M.on_request(req)\n M.listen = 2\n local M = { log = 1 }\nend\n"
      "print(M.workers == 1, { M = { x = 1 } })\nreturn M\n",
      (struct place[]){{"listen", 2},
                       {"upstream", 4},
                       {"timeouts.body", 6},
                       {"via", 7},
                       {"limits.head", 9},
                       {"on_request", 10},
                       {"workers", 0},
                       {"x", 0},
                       {"log", 0},
                       {0}});
}

static void returns_of_inner_functions_do_not_count(void) {
  expect(
      "local function f() return { listen = 1 } end\nlocal g = function() return { listen = 1 } end\nif f() then\n "
      "f()\nend\nreturn {\n listen = 2 }",
      (struct place[]){{"listen", 7}, {0}});
}

static void computed_keys_are_left_out(void) {
  expect(
      "return {\n [f 'a' .. 'b'] = { x = 1 },\n ['a' .. 'b'] = 1,\n [t[1]] = 1,\n [1] = 2,\n ['a b'] = {\n c = 1 },\n "
      "'first' }",
      (struct place[]){{"x", 0}, {"[1]", 8}, {"[\"a b\"]", 6}, {"[\"a b\"].c", 7}, {0}});
}

static void a_first_line_with_a_hash_counts(void) {
  expect("#!/usr/bin/jeton run\nreturn {\n listen = 1 }", (struct place[]){{"listen", 3}, {0}});
  expect("\xef\xbb\xbfreturn {\n listen = 1 }", (struct place[]){{"listen", 2}, {0}});
}

static void what_is_not_lua_ends_too(void) {
  static const char *const texts[] = {"",
                                      "return",
                                      "return {",
                                      "return { a = ",
                                      "return (((",
                                      "return { ) ] } end",
                                      "return f { end }",
                                      "return { a = do }",
                                      "return { [ = 1",
                                      "return { [[",
                                      "return M",
                                      "local M = M.M.M.M.M.M.M.M.M = {",
                                      "return { 'abc",
                                      "--[[",
                                      "return { end = 1, }",
                                      "function",
                                      "return function ( ",
                                      "return { a = function() ",
                                      "M = return M",
                                      "return { until }"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) expect(texts[i], (struct place[]){{"zzz", 0}, {0}});
  char deep[4001];
  memset(deep, '{', sizeof deep - 1);
  memcpy(deep, "return ", 7);
  deep[sizeof deep - 1] = '\0';
  expect(deep, (struct place[]){{"zzz", 0}, {0}});
}

static void paths_and_values_are_quoted_and_cut(void) {
  struct arena a;
  arena_init(&a, NULL, 0);
  struct path top = {NULL, STR("upstreams"), 0}, odd = {&top, STR("a \"b\"\n\x01"), 0}, place = {&odd, {NULL, 0}, 3};
  CHECK(str_eq(path_text(&a, &place), STR("upstreams[\"a \\\"b\\\"\\n\\x01\"][3]")));
  struct str shown = path_quote(&a, STR("0123456789012345678901234567890123456789012345678901234567890123456789"));
  CHECK(str_eq(shown, STR("\"012345678901234567890123456789012345678901234567890123456789...\"")));
  shown = path_quote(&a, STR("01234567890123456789012345678901234567890123456789012345678\xc3\xa9"));
  CHECK(str_eq(shown, STR("\"01234567890123456789012345678901234567890123456789012345678...\"")));
  arena_reset(&a);
}

int main(void) {
  RUN(keys_of_a_returned_table_have_lines);
  RUN(list_entries_have_lines);
  RUN(strings_and_comments_are_skipped);
  RUN(functions_in_values_are_skipped);
  RUN(tables_given_to_calls_count_as_the_key);
  RUN(a_returned_local_is_followed);
  RUN(returns_of_inner_functions_do_not_count);
  RUN(computed_keys_are_left_out);
  RUN(a_first_line_with_a_hash_counts);
  RUN(what_is_not_lua_ends_too);
  RUN(paths_and_values_are_quoted_and_cut);
  return 0;
}
