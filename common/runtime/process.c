#include "runtime/process.h"

#include "base/fault.h"
#include "base/log.h"
#include "codec/sentry.h"
#include "io/redis_url.h"
#include "runtime/reporter.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef WHOPLINE_VERSION
#define WHOPLINE_VERSION "development"
#endif

static void print_help(const char *name, const char *purpose, enum config_program program)
{
    struct buf text = {0};
    config_write_help(program, &text);
    printf("%s: %s\n\nUsage: %s [--help | --version | --check]\n\n"
           "Started without options it runs until SIGTERM. --check reads the settings and says\n"
           "what is wrong with them.\n\n%s",
           name, purpose, name, buf_text(&text));
    buf_close(&text);
}

static bool parse_level(const char *text, enum log_level *out)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static void start_log(const char *name, const struct config *config, struct buf *problems)
{
    enum log_level level = LOG_LEVEL_INFO;
    bool json = strcasecmp(config->log_format, "json") == 0;
    if (!parse_level(config->log_level, &level))
        buf_printf(problems, "LOG_LEVEL: \"%s\" is none of debug, info, warning, error\n",
                   config->log_level);
    if (!json && strcasecmp(config->log_format, "logfmt") != 0)
        buf_printf(problems, "LOG_FORMAT: \"%s\" is neither logfmt nor json\n", config->log_format);
    log_init(name, level, json ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT);
}

static void log_lines(struct buf *text)
{
    char *save = NULL;
    for (char *line = strtok_r((char *)(uintptr_t)buf_text(text), "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save))
        log_info("config", line);
}

static int load_settings(struct process *process, enum config_program program, process_check *more,
                         bool check_only)
{
    struct buf problems = {0};
    struct buf notes = {0};
    config_load(&process->config, program, config_getenv, NULL, &problems, &notes);
    config_wipe_environment();
    start_log(process->name, &process->config, &problems);
    redis_url_check(process->config.redis_url, &problems);
    sentry_dsn_check(process->config.sentry_dsn, &problems);
    if (more != NULL)
        more(&process->config, &problems);
    log_lines(&notes);
    int status = PROCESS_GO;
    if (problems.len > 0) {
        fprintf(stderr, "%s cannot start:\n%s", process->name, buf_text(&problems));
        status = 2;
    } else if (check_only) {
        printf("%s: settings are complete\n", process->name);
        status = 0;
    }
    buf_close(&problems);
    buf_close(&notes);
    return status;
}

/* The process whose loop is to be woken. Handlers only set intent; a program that waits for
 * PostgreSQL does not turn its loop, so the second signal ends it from within the handler. */
static struct process *_Atomic signalled;
static atomic_int stop_signals;
static atomic_bool reload_signal;

static void on_signal(int number)
{
    struct process *process = atomic_load(&signalled);
    int saved = errno;
    if (number == SIGHUP)
        atomic_store(&reload_signal, true);
    else if (atomic_fetch_add(&stop_signals, 1) > 0 || process == NULL) {
        reporter_goodbye();
        _exit(1);
    }
    if (process != NULL)
        uv_async_send(&process->signal); /* safe in a handler, says libuv */
    errno = saved;
}

static void on_signalled(uv_async_t *async)
{
    struct process *process = async->data;
    if (atomic_exchange(&reload_signal, false) && process->on_reload != NULL)
        process->on_reload(process->data);
    if (atomic_load(&stop_signals) == 0 || process->stopping)
        return;
    process->stopping = true;
    log_info("process", "stopping");
    if (process->on_stop != NULL)
        process->on_stop(process->data);
}

static void catch_signals(struct process *process)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    uv_async_init(&process->loop, &process->signal, on_signalled);
    process->signal.data = process;
    atomic_store(&signalled, process);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        REQUIRE(sigaction(numbers[i], &action, NULL) == 0);
}

/* Whatever the operator's shell allows. Not PR_SET_DUMPABLE, which would give /proc/PID to root and
 * take it from whoever runs and debugs the process. */
static void forbid_core_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) != 0)
        return;
    limit.rlim_cur = 0;
    (void)setrlimit(RLIMIT_CORE, &limit);
}

void process_block_signals(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        sigdelset(&all, own[i]);
    REQUIRE(pthread_sigmask(SIG_SETMASK, &all, before) == 0);
}

int process_start(struct process *process, int argc, char **argv, const char *name,
                  const char *purpose, enum config_program program, process_check *check)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"check", no_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    bool check_only = false;
    int option;
    memset(process, 0, sizeof *process);
    process->name = name;
    while ((option = getopt_long(argc, argv, "hv", options, NULL)) != -1) {
        switch (option) {
        case 'h': print_help(name, purpose, program); return 0;
        case 'v': printf("%s %s\n", name, WHOPLINE_VERSION); return 0;
        case 'c': check_only = true; break;
        default: return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s takes no arguments; see %s --help\n", name, name);
        return 2;
    }
#ifdef WHOPLINE_FAULTS
    fault_load(getenv("FAULT"));
#endif
    int status = load_settings(process, program, check, check_only);
    if (status != PROCESS_GO) {
        config_close(&process->config);
        return status;
    }
    if (!process->config.core_dumps)
        forbid_core_files();
    uv_loop_init(&process->loop);
    catch_signals(process);
    struct buf summary = {0};
    config_write_summary(&process->config, program, &summary);
    log_info("process", "starting", LOG_TEXT("version", WHOPLINE_VERSION), LOG_INT("pid", getpid()),
             LOG_TEXT("settings", buf_text(&summary)));
    buf_close(&summary);
    reporter_start(name, &process->config);
    return PROCESS_GO;
}

void process_run(struct process *process)
{
    uv_run(&process->loop, UV_RUN_DEFAULT);
}

void process_release(struct process *process)
{
    if (uv_is_closing((uv_handle_t *)&process->signal))
        return;
    atomic_store(&signalled, NULL);
    uv_close((uv_handle_t *)&process->signal, NULL);
}

int process_end(struct process *process, int status)
{
    process_release(process);
    uv_run(&process->loop, UV_RUN_DEFAULT);
    /* Handles that are still open are a leak: a test would see this fail. */
    REQUIRE(uv_loop_close(&process->loop) == 0);
    config_close(&process->config);
    reporter_end();
    log_info("process", "stopped", LOG_INT("status", status));
    return status;
}
