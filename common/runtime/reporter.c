#include "runtime/reporter.h"

#include "base/clock.h"
#include "base/log.h"
#include "codec/report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILD_FD = 3,       /* where whopline-report expects its end of the socket */
    GOODBYE_MS = 200,   /* for room, should the socket be full */
    LAST_SENT_MS = 1000 /* for what has not been sent at the end */
};

#ifndef WHOPLINE_VERSION
#define WHOPLINE_VERSION "development"
#endif

static struct {
    atomic_int socket; /* -1: off */
    atomic_bool broken;
    atomic_int_least64_t dropped;
    pid_t child;
} reporter = {.socket = -1};

/* --- telling --------------------------------------------------------------------------------- */

/* 0 or what errno says. */
static int tell(int socket, const void *message, size_t size)
{
    ssize_t sent = send(socket, message, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? errno : 0; /* a message goes whole or not at all */
}

void reporter_dead_job(const struct reporter_job *job)
{
    int socket = atomic_load(&reporter.socket);
    if (socket < 0)
        return;
    struct report report;
    memset(&report, 0, sizeof report); /* padding too: it leaves this process */
    report.what = REPORT_DEAD_JOB;
    report.time_ms = clock_wall_ms();
    report.tenant = job->tenant;
    report.attempts = job->attempts;
    report.deliveries = job->deliveries;
    report_set_text(report.kind, sizeof report.kind, job->kind);
    report_set_text(report.job, sizeof report.job, job->id);
    report_set_text(report.queue, sizeof report.queue, job->queue);
    report_set_text(report.error, sizeof report.error, err_name(job->code));
    report_set_text(report.event, sizeof report.event, job->event);
    report_set_text(report.reason, sizeof report.reason, job->reason);
    report.dropped = atomic_exchange(&reporter.dropped, 0);
    int why = tell(socket, &report, sizeof report);
    if (why == 0)
        return;
    atomic_fetch_add(&reporter.dropped, report.dropped + 1);
    if (why != EAGAIN && !atomic_exchange(&reporter.broken, true))
        log_warning("reporter", "whopline-report is gone, errors are not reported any more",
                    LOG_TEXT("error", strerror(why)));
}

/* Lost, it would be taken for a crash. Nothing here that a signal handler may not call. */
void reporter_goodbye(void)
{
    int socket = atomic_load(&reporter.socket);
    if (socket < 0)
        return;
    int saved = errno;
    struct report report;
    memset(&report, 0, sizeof report);
    report.what = REPORT_GOODBYE;
    report.dropped = atomic_load(&reporter.dropped);
    if (tell(socket, &report, sizeof report) == EAGAIN) {
        struct pollfd room = {.fd = socket, .events = POLLOUT};
        (void)poll(&room, 1, GOODBYE_MS);
        (void)tell(socket, &report, sizeof report);
    }
    errno = saved;
}

/* --- crashes --------------------------------------------------------------------------------- */

static const int crashes[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};
static struct sigaction before[ARRAY_LEN(crashes)];

/* Says what it can and leaves the rest to whoever had the signal before: the kernel, which writes a
 * core dump, or a sanitizer. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    int socket = atomic_load(&reporter.socket);
    if (socket >= 0) {
        struct log_about about = log_about_now();
        struct report report;
        memset(&report, 0, sizeof report);
        report.what = REPORT_CRASH;
        report.signal = number;
        report.dropped = atomic_load(&reporter.dropped);
        report_set_text(report.job, sizeof report.job, about.job);
        report_set_text(report.event, sizeof report.event, about.event);
        if (number == SIGABRT)
            report_set_text(report.reason, sizeof report.reason, base_last_words());
        (void)tell(socket, &report, sizeof report);
    }
    for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
        if (crashes[i] == number)
            sigaction(number, &before[i], NULL);
    /* An instruction that failed fails again on return, with its own address in the dump. What was
     * sent, by abort() or by another process, has to be sent again. */
    if (info->si_code <= 0)
        (void)raise(number);
}

/* Without an alternative stack a stack that has overflown ends the process there and then: it is
 * reported, but without last words. */
static void catch_crashes(void)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
        REQUIRE(sigaction(crashes[i], &action, &before[i]) == 0);
}

static void leave_crashes(void)
{
    for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
        REQUIRE(sigaction(crashes[i], &before[i], NULL) == 0);
}

/* --- start ----------------------------------------------------------------------------------- */

/* whopline-report talks to the outside: it gets none of the settings. */
static char **child_environment(void)
{
    static const char *const names[] = {"PATH",
                                        "LANG",
                                        "TZ",
                                        "TMPDIR",
                                        "http_proxy",
                                        "https_proxy",
                                        "HTTPS_PROXY",
                                        "all_proxy",
                                        "ALL_PROXY",
                                        "no_proxy",
                                        "NO_PROXY",
                                        "ASAN_OPTIONS",
                                        "LSAN_OPTIONS",
                                        "UBSAN_OPTIONS",
                                        "TSAN_OPTIONS",
                                        "MSAN_OPTIONS",
                                        "ASAN_SYMBOLIZER_PATH",
                                        "LLVM_PROFILE_FILE"};
    char **list = mem_zalloc((ARRAY_LEN(names) + 1) * sizeof *list);
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        struct buf line = {0};
        if (value == NULL)
            continue;
        buf_printf(&line, "%s=%s", names[i], value);
        list[count++] = mem_strdup(buf_text(&line));
        buf_close(&line);
    }
    return list;
}

static void free_environment(char **list)
{
    for (char **line = list; *line != NULL; line++)
        free(*line);
    free(list);
}

/* whopline-report beside this program. */
static int find_program(char *out, size_t size)
{
    char own[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);
    if (len < 0)
        return errno;
    own[len] = '\0';
    char *slash = strrchr(own, '/');
    if (slash == NULL)
        return ENOENT;
    int wanted = snprintf(out, size, "%.*s/whopline-report", (int)(slash - own), own);
    return wanted > 0 && (size_t)wanted < size ? 0 : ENAMETOOLONG;
}

/* Its signals stay blocked: it ends when its program has. */
static int spawn(const char *path, const char *program, int socket, pid_t *child)
{
    char *const argv[] = {(char *)(uintptr_t)"whopline-report", (char *)(uintptr_t)program, NULL};
    char **environment = child_environment();
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGHUP);
    REQUIRE(posix_spawn_file_actions_init(&files) == 0);
    REQUIRE(posix_spawnattr_init(&attributes) == 0);
    posix_spawn_file_actions_adddup2(&files, socket, CHILD_FD);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&files, CHILD_FD + 1);
    posix_spawnattr_setsigmask(&attributes, &blocked);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int why = posix_spawn(child, path, &files, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    free_environment(environment);
    return why;
}

static void say_hello(int socket, const char *program, const struct config *config)
{
    struct report_hello hello;
    memset(&hello, 0, sizeof hello);
    report_set_text(hello.program, sizeof hello.program, program);
    report_set_text(hello.release, sizeof hello.release, "whopline@" WHOPLINE_VERSION);
    report_set_text(hello.environment, sizeof hello.environment, config->sentry_environment);
    report_set_text(hello.dsn, sizeof hello.dsn, config->sentry_dsn);
    hello.pid = getpid();
    hello.max_per_minute = config->sentry_max_per_minute;
    hello.repeat_ms = config->sentry_repeat_seconds * 1000;
    hello.timeout_ms = config->sentry_timeout_ms;
    hello.log_level = (int32_t)log_level_now();
    hello.log_format = (int32_t)log_format_now();
    (void)tell(socket, &hello, sizeof hello);
    explicit_bzero(&hello, sizeof hello);
}

void reporter_start(const char *program, const struct config *config)
{
    char path[PATH_MAX];
    int ends[2];
    if (text_is_empty(config->sentry_dsn))
        return;
    int why = find_program(path, sizeof path);
    if (why == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        why = errno;
    if (why == 0) {
        why = spawn(path, program, ends[1], &reporter.child);
        close(ends[1]);
        if (why != 0)
            close(ends[0]);
    }
    if (why != 0) {
        log_warning("reporter", "cannot start whopline-report, errors are not reported",
                    LOG_TEXT("error", strerror(why)), LOG_TEXT("path", path));
        return;
    }
    say_hello(ends[0], program, config);
    atomic_store(&reporter.socket, ends[0]);
    catch_crashes();
    log_info("reporter", "dead jobs and crashes are reported", LOG_INT("pid", reporter.child));
}

void reporter_end(void)
{
    int socket = atomic_load(&reporter.socket);
    if (socket < 0)
        return;
    reporter_goodbye();
    leave_crashes();
    atomic_store(&reporter.socket, -1);
    shutdown(socket, SHUT_WR);
    /* It ends on its own, with or without us; but if nothing is left to be sent that is now. */
    struct pollfd end = {.fd = socket};
    if (poll(&end, 1, LAST_SENT_MS) > 0)
        (void)waitpid(reporter.child, NULL, 0);
    close(socket);
}
