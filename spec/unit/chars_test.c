/* chars_test.c: the table against the grammar, and spans, which look at vectors, against the table. */
#include "base/chars.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { SIZE = 70 };

static size_t span(const uint8_t *p, size_t n, size_t before, unsigned class) {
  switch (class) {
    case CHAR_TARGET: return chars_span(p, n, before, CHAR_TARGET);
    case CHAR_VALUE: return chars_span(p, n, before, CHAR_VALUE);
    case CHAR_TOKEN: return chars_span(p, n, before, CHAR_TOKEN);
    case CHAR_HOST: return chars_span(p, n, before, CHAR_HOST);
    case CHAR_NAME_LOW: return chars_span(p, n, before, CHAR_NAME_LOW);
    default: return chars_span(p, n, before, CHAR_NAME);
  }
}

/* A block of its own for each, so that a byte read outside of what may be read is found. */
static void check_span(const uint8_t *text, size_t n, size_t before, unsigned class) {
  uint8_t *block = malloc(before + n + 1);
  CHECK(block != NULL);
  memset(block, '\r', before);
  memcpy(block + before, text, n);
  size_t expected = 0;
  while (expected < n && (char_class[text[expected]] & class)) expected++;
  uint8_t *exact = realloc(block, before + n > 0 ? before + n : 1);
  CHECK(exact != NULL && span(exact + before, n, before, class) == expected);
  free(exact);
}

static void check_class(unsigned class, const char *members) {
  uint8_t text[SIZE];
  size_t nmembers = strlen(members);
  for (unsigned byte = 0; byte < 256; byte++) {
    for (size_t at = 0; at < SIZE; at += 1 + at / 8) {
      for (size_t i = 0; i < SIZE; i++) text[i] = (uint8_t)members[i % nmembers];
      text[at] = (uint8_t)byte;
      check_span(text, SIZE, 0, class);
      check_span(text, at + 1, 0, class);
      check_span(text, at + 1, 3, class);
      check_span(text, at + 1, 16, class);
    }
  }
  check_span(text, 0, 0, class);
  check_span(text, 0, 16, class);
}

static void values_are_spanned_as_the_table_says(void) { check_class(CHAR_VALUE, "x\t \xe9~"); }
static void targets_are_spanned_as_the_table_says(void) { check_class(CHAR_TARGET, "/a?=~!"); }
static void names_are_spanned_as_the_table_says(void) { check_class(CHAR_NAME, "aZ09-z"); }
static void lower_names_are_spanned_as_the_table_says(void) { check_class(CHAR_NAME_LOW, "az09-z"); }
static void tokens_are_spanned_as_the_table_says(void) { check_class(CHAR_TOKEN, "aZ09-z!~"); }
static void hosts_are_spanned_as_the_table_says(void) { check_class(CHAR_HOST, "aZ09-z._~"); }

static void classes_are_as_the_grammar_says(void) {
  for (int c = 0; c < 256; c++) {
    bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool token = alnum || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
    bool host = alnum || (c != 0 && strchr("-._~", c) != NULL);
    CHECK(((char_class[c] & CHAR_TOKEN) != 0) == token);
    CHECK(((char_class[c] & CHAR_HOST) != 0) == host);
    CHECK(((char_class[c] & CHAR_NAME) != 0) == (alnum || c == '-'));
    CHECK(((char_class[c] & CHAR_NAME_LOW) != 0) == ((alnum && !(c >= 'A' && c <= 'Z')) || c == '-'));
    CHECK(((char_class[c] & CHAR_TARGET) != 0) == (c > 0x20 && c < 0x7f));
    CHECK(((char_class[c] & CHAR_VALUE) != 0) == (c == '\t' || (c >= 0x20 && c != 0x7f)));
  }
}

static bool is_odd(const char *text, size_t n) {
  char *exact = malloc(n > 0 ? n : 1);
  CHECK(exact != NULL);
  memcpy(exact, text, n);
  bool odd = chars_odd((struct str){exact, n});
  free(exact);
  return odd;
}

static void odd_names_are_found_at_every_place(void) {
  char text[41];
  for (size_t n = 0; n <= 40; n++) {
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < n; i += 2) text[i] = '-';
    CHECK(!is_odd(text, n));
    for (size_t at = 0; at < n; at++) {
      char before = text[at];
      text[at] = '_';
      CHECK(is_odd(text, n));
      text[at] = '-';
      CHECK(is_odd(text, n) == (before == 'a' && n > 1));
      text[at] = before;
    }
  }
}

int main(void) {
  RUN(classes_are_as_the_grammar_says);
  RUN(values_are_spanned_as_the_table_says);
  RUN(targets_are_spanned_as_the_table_says);
  RUN(tokens_are_spanned_as_the_table_says);
  RUN(hosts_are_spanned_as_the_table_says);
  RUN(names_are_spanned_as_the_table_says);
  RUN(lower_names_are_spanned_as_the_table_says);
  RUN(odd_names_are_found_at_every_place);
  return 0;
}
