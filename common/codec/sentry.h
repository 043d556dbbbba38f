#ifndef WHOPLINE_SENTRY_H
#define WHOPLINE_SENTRY_H
/* Sentry's protocol, as far as a report needs it: DSN, headers, one event in an envelope.
 * https://develop.sentry.dev/sdk/foundations/transport/envelopes/
 * Pure; any thread. */
#include "base/buf.h"
#include "base/err.h"
#include "codec/report.h"

struct sentry_dsn {
    char url[REPORT_DSN_MAX + 32]; /* where envelopes are posted; without the key */
    char key[128];
    char secret[128]; /* of old servers; "" for most */
};

/* http[s]://KEY[:SECRET]@HOST[:PORT][/PATH]/PROJECT. CONFIG otherwise; the text shows no part of
 * it. */
MUST_CHECK struct err sentry_dsn_parse(const char *text, struct sentry_dsn *out);
/* For a program's settings: adds a line to problems unless text is understood; "" is left alone. */
void sentry_dsn_check(const char *text, struct buf *problems);

/* The header line that authenticates, without a line end. */
void sentry_write_auth(const struct sentry_dsn *dsn, struct buf *out);

/* Whose report it is. */
struct sentry_source {
    const char *program;
    const char *release;
    const char *environment;
    const char *host;
    int64_t pid;
    int64_t uptime_ms;
};

/* An envelope with one event. id: a UUID. left_out: how many like it were not sent since the last.
 * now_ms: Unix time. */
void sentry_write_envelope(const struct sentry_source *source, const struct report *report,
                           int64_t left_out, const char *id, int64_t now_ms, struct buf *out);

/* Appends text with everything masked that looks like an e-mail address, a URL with credentials, a
 * secret or a value that a store quotes from a row. */
void sentry_scrub(const char *text, struct buf *out);

const char *sentry_signal_name(int number); /* "SIGSEGV"; "" if it is none of a crash's */

#endif
