/* notify.h: reports the state of the process to the service manager that started it (sd_notify(3)). */
#ifndef JETON_OPS_NOTIFY_H
#define JETON_OPS_NOTIFY_H

/* "READY=1", "STOPPING=1". Nothing happens without a NOTIFY_SOCKET in the environment, or when nobody takes it there. */
void notify_manager(const char *state);

#endif
