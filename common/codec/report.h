#ifndef WHOPLINE_REPORT_H
#define WHOPLINE_REPORT_H
/* What a program tells its whopline-report: fixed structs, one per message of a SOCK_SEQPACKET
 * socket, so that they can be written from any thread and from a signal handler. Both ends are of
 * one build and on one machine; a message of another size is from another build.
 *
 * The first message is a hello, all others are reports. Members hold what is on the list of things
 * that may leave the machine: no payloads, keys, bodies, names or addresses. */
#include "base/base.h"

enum report_what {
    REPORT_DEAD_JOB,
    REPORT_CRASH,   /* last words from a signal handler */
    REPORT_GOODBYE, /* the end that follows is meant */
};

enum { REPORT_DSN_MAX = 512 }; /* bytes, its NUL included */

struct report_hello {
    char program[32];
    char release[48];
    char environment[64];
    char dsn[REPORT_DSN_MAX];
    int64_t pid;
    int64_t max_per_minute;
    int64_t repeat_ms;
    int64_t timeout_ms;
    int32_t log_level;
    int32_t log_format;
};

/* Texts are NUL-terminated and "" where there is none. */
struct report {
    int32_t what;
    int32_t signal;     /* of a crash */
    int64_t time_ms;    /* Unix time; 0: when it is sent */
    int64_t tenant;     /* 0: none */
    int64_t attempts;   /* failed ones */
    int64_t deliveries; /* how often a worker began */
    int64_t dropped;    /* reports before this one for which there was no room */
    char kind[64];
    char job[64];
    char queue[32];
    char error[32]; /* a code of schema/errors.def */
    char event[192];
    char reason[208];
};

/* Cuts text to size - 1 bytes, but not within a character of UTF-8. NULL is "". Usable in a signal
 * handler. */
static inline void report_set_text(char *out, size_t size, const char *text)
{
    size_t len = 0;
    while (text != NULL && text[len] != '\0' && len < size - 1) {
        out[len] = text[len];
        len++;
    }
    if (text != NULL && text[len] != '\0')
        while (len > 0 && ((unsigned char)text[len] & 0xc0U) == 0x80U)
            len--; /* the first byte left out is to begin a character */
    out[len] = '\0';
}

#endif
