#ifndef WHOPLINE_REPORTER_H
#define WHOPLINE_REPORTER_H
/* Error reports: one for each dead job and one if this process ends without meaning to.
 *
 *   any thread, signal handler ──SOCK_SEQPACKET──> whopline-report ──HTTPS──> SENTRY_DSN
 *
 * With SENTRY_DSN each process starts a whopline-report of its own, from the folder it was itself
 * started from; without it nothing of this is there. Telling it never blocks: where there is no
 * room a report is dropped and counted. When the socket ends without a goodbye, that is a crash,
 * and whopline-report tells of it with what a signal handler could still say: nothing after
 * SIGKILL. */
#include "base/config.h"

struct reporter_job {
    const char *kind;
    const char *id;
    const char *queue;
    const char *event; /* the trace; "" or NULL: none */
    const char *reason;
    enum err_code code;
    int64_t tenant; /* 0: none */
    int64_t attempts;
    int64_t deliveries;
};

/* Main thread, before there are others. Without SENTRY_DSN it does nothing; what keeps it from
 * starting is logged, and then nothing is reported. */
void reporter_start(const char *program, const struct config *config);

/* A job whose verdict "dead" is written. Any thread, never blocks. */
void reporter_dead_job(const struct reporter_job *job);

/* The end that follows is meant: to be called before _exit. Any thread, or a signal handler. */
void reporter_goodbye(void);

/* Goodbye, and up to a second for what has not been sent. Main thread, after all others. */
void reporter_end(void);

#endif
