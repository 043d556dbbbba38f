/* whopline-report-probe: a program that has whatever is worth a report happen to it.
 *
 * PROBE holds lines, done in order on a thread of its own, as a slot would:
 *   dead COUNT KIND CODE REASON...   jobs that have died; KIND# is numbered: KIND0, KIND1, ...
 *   sleep MS
 *   abort | require | segv | fpe | kill | vanish (_exit without a goodbye) | leave (with one)
 * Then it runs until SIGTERM. */
#include "base/clock.h"
#include "base/log.h"
#include "runtime/process.h"
#include "runtime/reporter.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void tell_dead(const char *arguments)
{
    char kind[40];
    char code[40];
    char reason[200];
    char *rest = NULL;
    long count = strtol(arguments, &rest, 10);
    enum err_code number;
    REQUIRE(count > 0 && sscanf(rest, "%39s %39s %199[^\n]", kind, code, reason) == 3);
    REQUIRE(err_code_find(code, &number));
    size_t plain = strcspn(kind, "#");
    bool numbered = kind[plain] == '#';
    kind[plain] = '\0';
    for (long i = 0; i < count; i++) {
        char id[32];
        char full[64];
        if (numbered)
            snprintf(full, sizeof full, "%s%ld", kind, i);
        else
            snprintf(full, sizeof full, "%s", kind);
        snprintf(id, sizeof id, "job-%ld.0", i);
        const struct reporter_job job = {.kind = full,
                                         .id = id,
                                         .queue = "probe",
                                         .event = "default/msg_probe",
                                         .reason = reason,
                                         .code = number,
                                         .tenant = 7,
                                         .attempts = 3,
                                         .deliveries = 1};
        reporter_dead_job(&job);
    }
}

static void sleep_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* A real fault, not a raised signal: it comes again where its handler returns. */
static void touch_forbidden(void)
{
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(page != MAP_FAILED);
    *page = 1;
}

static void perform(const char *line)
{
    volatile int zero = 0;
    if (strncmp(line, "dead ", 5) == 0)
        tell_dead(line + 5);
    else if (strncmp(line, "sleep ", 6) == 0)
        sleep_ms(strtol(line + 6, NULL, 10));
    else if (strcmp(line, "abort") == 0)
        abort();
    else if (strcmp(line, "require") == 0)
        REQUIRE(zero == 1);
    else if (strcmp(line, "segv") == 0)
        touch_forbidden();
    else if (strcmp(line, "fpe") == 0)
        (void)raise(SIGFPE);
    else if (strcmp(line, "kill") == 0)
        (void)raise(SIGKILL);
    else if (strcmp(line, "vanish") == 0)
        _exit(0);
    else if (strcmp(line, "leave") == 0) {
        reporter_goodbye();
        _exit(0);
    } else
        base_die(__FILE__, __LINE__, "a line of PROBE that is not understood");
}

static void *perform_all(void *data)
{
    char *save = NULL;
    log_about((struct log_about){.job = "job-on-thread.0", .event = "default/msg_thread"});
    int64_t from_ms = clock_mono_ms();
    int number = 0;
    for (char *line = strtok_r(data, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        perform(line);
        log_info("probe", "did", LOG_INT("line", ++number));
    }
    log_info("probe", "working", LOG_INT("took_ms", clock_mono_ms() - from_ms));
    return NULL;
}

static void on_stop(void *data)
{
    process_release(data);
}

int main(int argc, char **argv)
{
    struct process process;
    pthread_t thread;
    int status = process_start(&process, argc, argv, "whopline-report-probe",
                               "has reports made, for tests", CONFIG_INGEST, NULL);
    if (status != PROCESS_GO)
        return status;
    process.on_stop = on_stop;
    process.data = &process;
    const char *probe = getenv("PROBE");
    char *lines = mem_strdup(probe != NULL ? probe : "");
    sigset_t before;
    process_block_signals(&before);
    REQUIRE(pthread_create(&thread, NULL, perform_all, lines) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    process_run(&process);
    pthread_join(thread, NULL);
    free(lines);
    return process_end(&process, 0);
}
