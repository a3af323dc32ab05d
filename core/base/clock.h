/* clock.h: the clocks. Token expiry is measured on CLOCK_BOOTTIME, since time spent suspended counts. */
#ifndef JETON_BASE_CLOCK_H
#define JETON_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_boot_ms(void);   /* CLOCK_BOOTTIME, milliseconds: expiry, schedules */
int64_t clock_wall_ms(void);   /* CLOCK_REALTIME, milliseconds since the epoch: logs, expires_at, jeton.now */
int64_t clock_mono_us(void);   /* CLOCK_MONOTONIC, microseconds: durations */
int64_t clock_thread_us(void); /* processor time of this thread, a system call: time budgets */

#endif
