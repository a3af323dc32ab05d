/* check.h: the whole of the C tests' framework: CHECK stays when NDEBUG is set, and RUN prints one line a case. */
#ifndef JETON_SPEC_CHECK_H
#define JETON_SPEC_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                            \
  do {                                                                              \
    if (!(condition)) {                                                             \
      fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                      \
    }                                                                               \
  } while (0)

#define RUN(test)             \
  do {                        \
    test();                   \
    printf("ok %s\n", #test); \
  } while (0)

#endif
