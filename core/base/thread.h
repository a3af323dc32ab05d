/* thread.h: threads whose stack has a stated size, and how much of it is left.
 *
 * The system's default follows `ulimit -s`: 8 MiB on most machines, a fraction of that on some, and 2 MiB for every thread but the first where it is
 * "unlimited". What a script may nest is bounded by what is left (lua/vm.h), so every thread that runs Lua is started here, the program's first work included. */
#ifndef JETON_BASE_THREAD_H
#define JETON_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THREAD_FRAMES 4 /* how much larger the frames of a sanitizer are, at the most */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define THREAD_FRAMES 4
#endif
#endif
#ifndef THREAD_FRAMES
#define THREAD_FRAMES 1
#endif

enum { THREAD_STACK = THREAD_FRAMES * 8 * 1024 * 1024 };

/* 0, or a negative code as libuv's. Joined by its owner, with pthread_join. */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);
/* Bytes of the calling thread's stack below the caller's frame. Of a thread that was started elsewhere, too. */
size_t thread_stack_left(void);
/* Gives back the pages of the stack that are more than `kept` bytes below the caller's frame: what calls have left there is gone. Of any thread but the
 * process's first one, whose stack is not a mapping of its own. */
void thread_stack_trim(size_t kept);

#endif
