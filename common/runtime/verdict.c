#include "runtime/verdict.h"

#include <stdarg.h>
#include <stdio.h>

enum { CHANCE_RANGE = 65536 };

static int64_t backoff(const struct verdict_limits *limits, int attempt, uint32_t chance)
{
    int64_t wait = limits->backoff_base_ms;
    for (int i = 0; i < attempt && wait < limits->backoff_max_ms; i++)
        wait *= 2;
    if (wait > limits->backoff_max_ms)
        wait = limits->backoff_max_ms;
    return wait / 2 + (wait - wait / 2) * (int64_t)(chance % CHANCE_RANGE) / (CHANCE_RANGE - 1);
}

/* Not there yet: a parent or a version that is about to arrive. */
static const int64_t ladder_ms[] = {5000, 15000, 60000, 300000};

/* Cut to the place there is, but not within a character: PostgreSQL would refuse the row. */
static void PRINTF_LIKE(2, 3) set_reason(struct verdict *verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(verdict->reason, sizeof verdict->reason, format, args);
    va_end(args);
    size_t end = sizeof verdict->reason - 1;
    if (len < 0 || (size_t)len <= end)
        return;
    while (end > 0 && ((unsigned char)verdict->reason[end - 1] & 0xc0U) == 0x80U)
        end--; /* continuation bytes */
    if (end > 0 && ((unsigned char)verdict->reason[end - 1] & 0x80U) != 0)
        end--; /* and the byte they continue, whether or not it was whole */
    verdict->reason[end] = '\0';
}

static struct verdict try_again(const struct err *err, int attempt, int64_t age_ms,
                                const struct verdict_limits *limits, int64_t delay_ms, bool counts)
{
    struct verdict verdict = {
        .action = VERDICT_RETRY, .delay_ms = delay_ms, .attempt = attempt + (counts ? 1 : 0)};
    if (!counts)
        return verdict;
    if (verdict.attempt >= limits->max_attempts) {
        verdict.action = VERDICT_DEAD;
        set_reason(&verdict, "exhausted: %s", err_text(err));
    } else if (age_ms > limits->max_age_ms) {
        verdict.action = VERDICT_PARK;
        set_reason(&verdict, "expired: %s", err_text(err));
    }
    return verdict;
}

struct verdict verdict_decide(const struct err *err, int attempt, int64_t age_ms,
                              const struct verdict_limits *limits, uint32_t chance)
{
    struct verdict verdict = {.action = VERDICT_DONE, .attempt = attempt};
    switch (err_class_of(err->code)) {
    case ERR_CLASS_OK: break;
    case ERR_CLASS_SKIP: verdict.action = VERDICT_SKIP; break;
    case ERR_CLASS_PERMANENT: verdict.action = VERDICT_DEAD; break;
    case ERR_CLASS_AUTH:
    case ERR_CLASS_UNKNOWN:
    case ERR_CLASS_PARK: verdict.action = VERDICT_PARK; break;
    case ERR_CLASS_TRANSIENT:
        return try_again(err, attempt, age_ms, limits, backoff(limits, attempt, chance), true);
    case ERR_CLASS_UNAVAILABLE:
        return try_again(err, attempt, age_ms, limits, backoff(limits, 0, chance), false);
    case ERR_CLASS_LIMITED: return try_again(err, attempt, age_ms, limits, err->after_ms, false);
    case ERR_CLASS_NOT_YET:
        if (attempt < (int)ARRAY_LEN(ladder_ms))
            return try_again(err, attempt, age_ms, limits, ladder_ms[attempt], true);
        verdict.action = VERDICT_DEAD;
        break;
    }
    if (verdict.action != VERDICT_DONE)
        set_reason(&verdict, "%s", err_text(err));
    return verdict;
}
