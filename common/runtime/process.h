#ifndef WHOPLINE_PROCESS_H
#define WHOPLINE_PROCESS_H
/* What every long-running program does the same way: options, settings, log, signals, loop.
 *
 *   int main(int argc, char **argv)
 *   {
 *       struct process process;
 *       int status = process_start(&process, argc, argv, "whopline-x", "does x", CONFIG_WORKER,
 *                                  NULL);
 *       if (status != PROCESS_GO) return status;
 *       ...
 *       process_run(&process);          until everything on the loop has been closed
 *       return process_end(&process, status);
 *   }
 *
 * With SENTRY_DSN its dead jobs and its crash are reported (runtime/reporter.h). Shared with
 * ingest, so it knows neither stores nor queues. Signals only set intent: the first TERM or INT
 * calls on_stop on the loop; a second one ends the process at once with status 1, even if the loop
 * is stuck. One process object at a time; threads other than the loop's block these signals. */
#include "base/config.h"

#include <signal.h>
#include <uv.h>

enum { PROCESS_GO = -1 };

struct process {
    const char *name;
    struct config config;
    uv_loop_t loop;
    void (*on_stop)(void *data);   /* set before process_run; loop thread */
    void (*on_reload)(void *data); /* SIGHUP; may be NULL */
    void *data;
    bool stopping;
    uv_async_t signal; /* wakes the loop when a signal has come */
};

/* Adds a line to problems for each setting this program cannot use, beyond what config.def says. */
typedef void process_check(const struct config *config, struct buf *problems);

/* PROCESS_GO, or the exit status: 0 after --help or --version, 2 after wrong usage or settings, all
 * of whose problems are on stderr then. check may be NULL. */
int process_start(struct process *process, int argc, char **argv, const char *name,
                  const char *purpose, enum config_program program, process_check *check);
void process_run(struct process *process);
/* Nothing else is open: lets go of the signals' handle, so that process_run returns. Loop thread.
 */
void process_release(struct process *process);
int process_end(struct process *process, int status);

/* Blocks, for this thread and those it starts, the signals that are for the loop's; before: the
 * mask to go back to. Not blocked are those that a thread's own fault raises: blocked, they would
 * end the process without their handlers, the reporter's or a sanitizer's. */
void process_block_signals(sigset_t *before);

#endif
