/* fixed_time.c: a library for LD_PRELOAD under callgrind. Lua mixes time() into the seed of its string hashes, and collisions differ from
 * seed to seed, by two or three per cent of a request. jeton itself asks clock_gettime. */
#include <time.h>

time_t time(time_t *t) {
  const time_t always = 1000000000;
  if (t != NULL) *t = always;
  return always;
}
