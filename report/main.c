/* whopline-report: sends another program's error reports to SENTRY_DSN.
 *
 * common/runtime/reporter.c starts one beside each program, with a socket as descriptor 3 and the
 * signals of an orderly end blocked: it ends when the other end of the socket is closed, a few
 * seconds later at most. An end without a goodbye is a crash, and reported. A report that cannot be
 * sent is not sent again; the next like it counts it. */
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "codec/sentry.h"
#include "io/https_post.h"
#include "runtime/report_limit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define MODULE "report"

enum {
    SOCKET_FD = 3,
    LINGER_MS = 4000, /* for the last reports, after the program's end */
    MS_PER_S = 1000,
    RETRY_AFTER_DEFAULT_S = 60, /* what Sentry's own clients take where 429 comes alone */
    RETRY_AFTER_MAX_S = 24 * 3600,
};

/*            hello            the socket's end           sent, or LINGER_MS over
 *   waiting ───────> telling ──────────────────> ending ─────────────────────────> exit
 * telling takes reports in while it sends. */
struct reporter {
    struct report_hello hello;
    struct sentry_dsn dsn;
    struct buf auth;
    char host[256];
    struct report_limit limit;
    int64_t started_ms;
    int64_t ended_ms; /* 0: the program lives */
    bool goodbye;
    bool crash_is_told;
    struct report crash; /* its last words */
    bool troubled;       /* said so already */
};

/* --- from the program ------------------------------------------------------------------------ */

static void take(struct reporter *reporter, struct report *report)
{
    /* Whoever wrote it may have been dying. */
    report->kind[sizeof report->kind - 1] = '\0';
    report->job[sizeof report->job - 1] = '\0';
    report->queue[sizeof report->queue - 1] = '\0';
    report->error[sizeof report->error - 1] = '\0';
    report->event[sizeof report->event - 1] = '\0';
    report->reason[sizeof report->reason - 1] = '\0';
    switch ((enum report_what)report->what) {
    case REPORT_DEAD_JOB: report_limit_add(&reporter->limit, report, clock_mono_ms()); break;
    case REPORT_CRASH: reporter->crash = *report; break;
    case REPORT_GOODBYE:
        reporter->goodbye = true;
        reporter->limit.dropped += report->dropped;
        break;
    }
}

static void receive(struct reporter *reporter)
{
    while (reporter->ended_ms == 0) {
        struct report report;
        ssize_t len = recv(SOCKET_FD, &report, sizeof report, MSG_DONTWAIT | MSG_TRUNC);
        if (len == (ssize_t)sizeof report)
            take(reporter, &report);
        else if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        else /* 0 at its end; another size would be another build's */
            reporter->ended_ms = clock_mono_ms();
    }
}

static bool receive_hello(struct reporter *reporter)
{
    struct report_hello *hello = &reporter->hello;
    ssize_t len = recv(SOCKET_FD, hello, sizeof *hello, MSG_TRUNC);
    return len == (ssize_t)sizeof *hello;
}

/* --- to the server --------------------------------------------------------------------------- */

static int64_t left_ms(const struct reporter *reporter)
{
    return reporter->ended_ms + LINGER_MS - clock_mono_ms();
}

static bool go_on(void *data)
{
    struct reporter *reporter = data;
    receive(reporter);
    /* A slow server must not use up for a dead job what the crash needs. */
    int64_t reserve_ms = reporter->goodbye || reporter->crash_is_told ? 0 : LINGER_MS / 2;
    return reporter->ended_ms == 0 || left_ms(reporter) > reserve_ms;
}

/* One line when trouble begins and one when it ends. */
static void note(struct reporter *reporter, bool trouble, const char *why)
{
    if (trouble && !reporter->troubled)
        log_warning(MODULE, "cannot send error reports", LOG_TEXT("error", why),
                    LOG_TEXT("for", reporter->hello.program));
    if (!trouble && reporter->troubled)
        log_info(MODULE, "sending error reports again", LOG_TEXT("for", reporter->hello.program));
    reporter->troubled = trouble;
}

static void hold(struct reporter *reporter, int64_t seconds)
{
    if (seconds <= 0)
        seconds = RETRY_AFTER_DEFAULT_S;
    if (seconds > RETRY_AFTER_MAX_S)
        seconds = RETRY_AFTER_MAX_S;
    report_limit_hold(&reporter->limit, clock_mono_ms() + seconds * MS_PER_S);
}

static bool post(struct reporter *reporter, struct span body)
{
    const char *const headers[] = {"Content-Type: application/x-sentry-envelope",
                                   buf_text(&reporter->auth)};
    const struct https_post request = {
        .url = reporter->dsn.url,
        .headers = headers,
        .header_count = ARRAY_LEN(headers),
        .body = body,
        .timeout_ms = reporter->hello.timeout_ms,
        .go_on = go_on,
        .data = reporter,
    };
    struct https_answer answer;
    struct err err = https_post(&request, &answer);
    char why[48] = "";
    if (!err_failed(&err) && (answer.status < 200 || answer.status > 299))
        snprintf(why, sizeof why, "the server answered %d", answer.status);
    if (answer.status == 429 || (answer.status == 503 && answer.retry_after_s > 0))
        hold(reporter, answer.retry_after_s);
    bool failed = err_failed(&err) || why[0] != '\0';
    note(reporter, failed, why[0] != '\0' ? why : err_text(&err));
    return !failed;
}

static void send_report(struct reporter *reporter, const struct report *report, int64_t left_out)
{
    char id[UUID_TEXT_SIZE];
    struct buf body = {0};
    int64_t until_ms = reporter->ended_ms != 0 ? reporter->ended_ms : clock_mono_ms();
    const struct sentry_source source = {
        .program = reporter->hello.program,
        .release = reporter->hello.release,
        .environment = reporter->hello.environment,
        .host = reporter->host,
        .pid = reporter->hello.pid,
        .uptime_ms = until_ms - reporter->started_ms,
    };
    random_uuid(id);
    sentry_write_envelope(&source, report, left_out, id, clock_wall_ms(), &body);
    if (!post(reporter, buf_span(&body)))
        report_limit_failed(&reporter->limit, report, left_out);
    buf_close(&body);
}

static void send_due(struct reporter *reporter)
{
    struct report report;
    int64_t left_out;
    while ((reporter->ended_ms == 0 || left_ms(reporter) > 0) &&
           report_limit_next(&reporter->limit, clock_mono_ms(), reporter->ended_ms != 0, &report,
                             &left_out))
        send_report(reporter, &report, left_out);
}

/* Not counted against the minute's number: it comes once. */
static void send_crash(struct reporter *reporter)
{
    reporter->crash.what = REPORT_CRASH;
    reporter->crash.dropped += reporter->limit.dropped;
    reporter->limit.dropped = 0;
    reporter->crash.time_ms = clock_wall_ms();
    reporter->crash_is_told = true;
    if (clock_mono_ms() >= reporter->limit.hold_until_ms)
        send_report(reporter, &reporter->crash, 0);
    else
        log_warning(MODULE, "a crash is not reported: the server has asked for silence",
                    LOG_TEXT("for", reporter->hello.program));
}

/* --- the whole ------------------------------------------------------------------------------- */

static void finish(struct reporter *reporter)
{
    if (!reporter->goodbye)
        send_crash(reporter);
    send_due(reporter);
    int64_t unsent = report_limit_unsent(&reporter->limit);
    if (unsent > 0)
        log_warning(MODULE, "errors that nobody was told of", LOG_INT("count", unsent),
                    LOG_TEXT("for", reporter->hello.program));
}

static int run(struct reporter *reporter)
{
    struct report_hello *hello = &reporter->hello;
    log_init("whopline-report", LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    if (!receive_hello(reporter)) {
        log_warning(MODULE, "started by a program of another release, reports nothing");
        return 1;
    }
    log_init("whopline-report", (enum log_level)hello->log_level,
             (enum log_format)hello->log_format);
    struct err err = sentry_dsn_parse(hello->dsn, &reporter->dsn);
    if (err_failed(&err)) {
        log_warning(MODULE, "reports nothing", LOG_TEXT("error", err_text(&err)));
        return 1;
    }
    sentry_write_auth(&reporter->dsn, &reporter->auth);
    if (gethostname(reporter->host, sizeof reporter->host - 1) != 0)
        reporter->host[0] = '\0';
    report_limit_init(&reporter->limit, (size_t)hello->max_per_minute, hello->repeat_ms);
    reporter->started_ms = clock_mono_ms();
    https_init();
    while (reporter->ended_ms == 0) {
        struct pollfd socket = {.fd = SOCKET_FD, .events = POLLIN};
        int64_t wait_ms = report_limit_wait(&reporter->limit, clock_mono_ms());
        (void)poll(&socket, 1, wait_ms > MS_PER_S ? MS_PER_S : (int)wait_ms);
        receive(reporter);
        send_due(reporter);
    }
    finish(reporter);
    https_close();
    return 0;
}

int main(int argc, char **argv)
{
    static struct reporter reporter;
    int type = 0;
    socklen_t size = sizeof type;
    (void)argv;
    if (argc > 2 || getsockopt(SOCKET_FD, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        type != SOCK_SEQPACKET) {
        fprintf(stderr, "whopline-report sends error reports; the other programs start it\n"
                        "themselves when SENTRY_DSN is set.\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int status = run(&reporter);
    buf_close(&reporter.auth);
    return status;
}
