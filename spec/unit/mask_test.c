/* Tests of mask.c: a secret is found in every form in which somebody may repeat it, and nothing else is. */
#include "base/mask.h"

#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "check.h"

static struct mask *m;

static const char *masked(const char *text) {
  static struct buf b;
  static char kept[4096];
  buf_init(&b);
  bool any = mask_apply(m, str_of(text), &b);
  (void)snprintf(kept, sizeof kept, "%s", any ? buf_z(&b) : text);
  buf_fini(&b);
  return kept;
}

static bool becomes(const char *text, const char *expected) {
  if (strcmp(masked(text), expected) == 0) return true;
  (void)fprintf(stderr, "\"%s\" became \"%s\", not \"%s\"\n", text, masked(text), expected);
  return false;
}

static void a_value_is_found_as_it_is(void) {
  m = mask_new();
  CHECK(becomes("nothing was added", "nothing was added"));
  mask_add(m, STR("s3cret/of the+client"));
  CHECK(becomes("s3cret/of the+client", "***"));
  CHECK(becomes("bad secret s3cret/of the+client!", "bad secret ***!"));
  CHECK(becomes("s3cret/of the+clients3cret/of the+client twice", "*** twice"));
  CHECK(becomes("s3cret", "s3cret"));
  CHECK(becomes("", ""));
  mask_free(m);
}

static void it_is_found_encoded(void) {
  m = mask_new();
  mask_add(m, STR("s3cret/of the+client"));
  CHECK(becomes("got s3cret%2Fof+the%2Bclient there", "got *** there"));
  CHECK(becomes("got s3cret%2fof+the%2bclient there", "got *** there"));
  CHECK(becomes("got s3cret%2Fof%20the%2Bclient there", "got *** there"));
  CHECK(becomes("{\"e\":\"s3cret\\/of the+client\"}", "{\"e\":\"***\"}"));
  mask_add(m, STR("quote\"back\\slash"));
  CHECK(becomes("{\"e\":\"quote\\\"back\\\\slash\"}", "{\"e\":\"***\"}"));
  mask_free(m);
}

static void it_is_found_in_base64_whatever_stands_before(void) {
  static const char *const before[] = {"", "i", "id", "client:", "x:", "some-id:"};
  m = mask_new();
  mask_add(m, STR("pa?s>w\xc3\xb6rd"));
  for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
    for (int form = 0; form < 2; form++) {
      char plain[64], text[128], all[160];
      (void)snprintf(plain, sizeof plain, "%spa?s>w\xc3\xb6rd", before[i]);
      size_t n = base64_encode(form == 0 ? BASE64_PADDED : BASE64_URL, plain, strlen(plain), text);
      (void)snprintf(all, sizeof all, "got 'Basic %.*s' there", (int)n, text);
      CHECK(becomes(all, "got 'Basic ***' there"));
    }
  }
  mask_free(m);
}

static void form_encoded_credentials_are_found_in_basic(void) {
  char text[128], all[160];
  m = mask_new();
  mask_add(m, STR("a b/c&d"));
  size_t n = base64_encode(BASE64_PADDED, "id:a+b%2Fc%26d", 14, text);
  (void)snprintf(all, sizeof all, "%.*s", (int)n, text);
  CHECK(becomes(all, "***"));
  mask_free(m);
}

static void it_is_found_under_layers_of_escapes(void) {
  m = mask_new();
  mask_add(m, STR("s3c+t/v=\"x<y>'longer~one"));
  CHECK(becomes("got %73%33%63%2B%74%2f%76%3d%22%78%3c%79%3e%27longer%7Eone there", "got *** there"));
  CHECK(becomes("got s3c%252Bt%252fv%253D%2522x%253Cy%253E%2527longer~one there", "got *** there"));
  CHECK(becomes("got s3c\\u002bt\\u002Fv\\u003d\\u0022x\\u003cy\\u003E\\u0027longer\\u007eone there", "got *** there"));
  CHECK(becomes("got s3c\\x2bt\\x2fv=\\\"x<y>\\'longer~one there", "got *** there"));
  CHECK(becomes("{\"e\":\"{\\\"d\\\":\\\"s3c+t/v=\\\\\\\"x<y>'longer~one\\\"}\"}",
                "{\"e\":\"{\\\"d\\\":\\\"***\\\"}\"}"));
  CHECK(becomes("got s3c+t/v=&quot;x&lt;y&gt;&#39;longer~one there", "got *** there"));
  CHECK(becomes("got s3c&#43;t&#x2F;v&#61;&#x22;x&lt;y&gt;&apos;longer~one there", "got *** there"));
  CHECK(becomes("got 7333632b742f763d22783c793e276c6f6e6765727e6f6e65 there", "got *** there"));
  CHECK(becomes("got 7333632B742F763D22783C793E276C6F6E6765727E6F6E65 there", "got *** there"));
  CHECK(becomes("got czNjK3QvdmFsdWU%3D there, 100%, a\\b & &c; %zz \\",
                "got czNjK3QvdmFsdWU%3D there, 100%, a\\b & &c; %zz \\"));
  mask_add(m, STR("p\xc3\xa4ssword"));
  CHECK(becomes("got p\\u00e4ssword, p&#228;ssword, p%C3%A4ssword", "got ***, ***, ***"));
  mask_add(m, STR("i?\?>>pass"));
  CHECK(becomes("Basic aWQ6aT8%2FPj5wYXNz end", "Basic *** end"));
  mask_free(m);
}

static void a_long_one_is_found_where_it_was_cut(void) {
  m = mask_new();
  mask_add(m, STR("refresh-0123456789abcdefghij"));
  CHECK(becomes("token refresh-0123456789abcd", "token ***"));
  CHECK(becomes("token refresh-0123456: next", "token ***: next"));
  CHECK(becomes("token refresh-0", "token refresh-0"));
  mask_free(m);
}

static void a_short_one_would_be_found_anywhere(void) {
  m = mask_new();
  mask_add(m, STR("two"));
  mask_add(m, STR("four"));
  CHECK(becomes("two of them, or four", "two of them, or ***"));
  mask_free(m);
}

static void the_last_ones_are_known(void) {
  char value[64], text[96];
  m = mask_new();
  for (int i = 0; i < 5000; i++) {
    (void)snprintf(value, sizeof value, "value-%d-of-them/%d", i, i);
    mask_add(m, str_of(value));
  }
  for (int i = 5000 - MASK_VALUES; i < 5000; i++) {
    (void)snprintf(text, sizeof text, "x value-%d-of-them/%d y", i, i);
    if (strcmp(masked(text), "x *** y") != 0) CHECK(becomes(text, "x *** y"));
  }
  mask_free(m);
}

int main(void) {
  RUN(a_value_is_found_as_it_is);
  RUN(it_is_found_encoded);
  RUN(it_is_found_in_base64_whatever_stands_before);
  RUN(form_encoded_credentials_are_found_in_basic);
  RUN(it_is_found_under_layers_of_escapes);
  RUN(a_long_one_is_found_where_it_was_cut);
  RUN(a_short_one_would_be_found_anywhere);
  RUN(the_last_ones_are_known);
  return 0;
}
