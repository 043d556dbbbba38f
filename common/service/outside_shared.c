#include "service/outside_shared.h"

#include "base/clock.h"
#include "base/log.h"
#include "service/breaker.h"

#include <pthread.h>
#include <stdlib.h>

enum operation {
#define OPERATION(name, text) OPERATION_##name,
#include "operations.def"
#undef OPERATION
    OPERATION_other,
    OPERATION_COUNT
};

static const char *const operation_texts[OPERATION_COUNT] = {
#define OPERATION(name, text) [OPERATION_##name] = (text),
#include "operations.def"
#undef OPERATION
    [OPERATION_other] = "other",
};

/* Statuses of their own and, behind them, the classes of all others. */
static const int statuses[] = {200, 201, 202, 204, 400, 401, 402, 403, 404,
                               408, 409, 410, 422, 429, 500, 502, 503, 504};
static const char *const code_texts[] = {
    "200", "201", "202", "204", "400", "401", "402", "403", "404", "408", "409",  "410",     "422",
    "429", "500", "502", "503", "504", "1xx", "2xx", "3xx", "4xx", "5xx", "lost", "not_sent"};
enum {
    CODE_1XX = ARRAY_LEN(statuses),
    CODE_5XX = CODE_1XX + 4,
    CODE_LOST = CODE_1XX + 5,
    CODE_NOT_SENT = CODE_1XX + 6,
    CODE_COUNT = CODE_1XX + 7,
};
_Static_assert(CODE_COUNT == ARRAY_LEN(code_texts), "a text for each");

static const char *const limit_texts[OUTSIDE_LIMIT_COUNT] = {
    [OUTSIDE_BUDGET] = "budget", [OUTSIDE_FROZEN] = "frozen", [OUTSIDE_BREAKER] = "breaker"};

static const char *const ending_texts[OUTSIDE_ENDING_COUNT] = {
    [OUTSIDE_ENDED_DONE] = "done",       [OUTSIDE_ENDED_FOUND] = "found",
    [OUTSIDE_ENDED_REFUSED] = "refused", [OUTSIDE_ENDED_UNKNOWN] = "unknown",
    [OUTSIDE_ENDED_PARKED] = "parked",   [OUTSIDE_ENDED_NOT_MADE] = "not_made"};

struct figures {
    uint64_t codes[CODE_COUNT];
    uint64_t limited[OUTSIDE_LIMIT_COUNT];
    uint64_t endings[OUTSIDE_ENDING_COUNT];
    struct metric_histogram took;
    bool used;
};

struct outside_shared {
    pthread_mutex_t mutex;
    struct breakers breakers;
    struct figures figures[OPERATION_COUNT];
};

/* --- life ------------------------------------------------------------------------------------ */

struct outside_shared *outside_shared_new(const struct config *config)
{
    const struct breaker_options options = {.failures = (size_t)config->breaker_failures,
                                            .window_ms = config->breaker_window_ms,
                                            .open_ms = config->breaker_open_ms};
    struct outside_shared *shared = mem_zalloc(sizeof *shared);
    pthread_mutex_init(&shared->mutex, NULL);
    breakers_init(&shared->breakers, &options);
    return shared;
}

void outside_shared_free(struct outside_shared *shared)
{
    if (shared == NULL)
        return;
    breakers_close(&shared->breakers);
    pthread_mutex_destroy(&shared->mutex);
    free(shared);
}

/* --- breakers -------------------------------------------------------------------------------- */

int64_t outside_shared_look(struct outside_shared *shared, const struct outside_target *target)
{
    pthread_mutex_lock(&shared->mutex);
    int64_t wait_ms =
        breaker_look(&shared->breakers, target->credential, target->host, clock_mono_ms());
    pthread_mutex_unlock(&shared->mutex);
    return wait_ms;
}

int64_t outside_shared_begin(struct outside_shared *shared, const struct outside_target *target)
{
    pthread_mutex_lock(&shared->mutex);
    int64_t wait_ms =
        breaker_begin(&shared->breakers, target->credential, target->host, clock_mono_ms());
    pthread_mutex_unlock(&shared->mutex);
    return wait_ms;
}

static enum breaker_outcome outcome_of(const struct http_response *response)
{
    if (response->outcome == HTTP_ANSWERED)
        return response->status < 500 ? BREAKER_WENT_WELL : BREAKER_FAILED;
    return response->cancelled ? BREAKER_CANNOT_TELL : BREAKER_FAILED;
}

/* --- figures --------------------------------------------------------------------------------- */

static struct figures *figures_of(struct outside_shared *shared,
                                  const struct outside_target *target)
{
    size_t i = 0;
    while (i < OPERATION_other && strcmp(operation_texts[i], target->operation) != 0)
        i++;
    shared->figures[i].used = true;
    return &shared->figures[i];
}

static size_t code_of(const struct http_response *response)
{
    if (response->outcome == HTTP_NOT_BEGUN)
        return CODE_NOT_SENT;
    if (response->outcome == HTTP_LOST)
        return CODE_LOST;
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i] == response->status)
            return i;
    int hundreds = response->status / 100;
    return hundreds >= 1 && hundreds <= 5 ? (size_t)(CODE_1XX + hundreds - 1) : CODE_5XX;
}

void outside_shared_tell(struct outside_shared *shared, const struct outside_target *target,
                         const struct http_response *response)
{
    pthread_mutex_lock(&shared->mutex);
    struct figures *figures = figures_of(shared, target);
    figures->codes[code_of(response)]++;
    if (response->outcome == HTTP_ANSWERED)
        metric_observe(METRIC_http_seconds, &figures->took, response->took_us);
    bool opened = breaker_tell(&shared->breakers, target->credential, target->host,
                               outcome_of(response), clock_mono_ms());
    pthread_mutex_unlock(&shared->mutex);
    if (opened)
        log_warning("outside", "calls fail too often: the host is left alone for a while",
                    LOG_TEXT("host", target->host), LOG_TEXT("credential", target->credential));
}

void outside_shared_limited(struct outside_shared *shared, const struct outside_target *target,
                            enum outside_limit why)
{
    pthread_mutex_lock(&shared->mutex);
    figures_of(shared, target)->limited[why]++;
    pthread_mutex_unlock(&shared->mutex);
}

void outside_shared_ended(struct outside_shared *shared, const struct outside_target *target,
                          enum outside_ending ending)
{
    pthread_mutex_lock(&shared->mutex);
    figures_of(shared, target)->endings[ending]++;
    pthread_mutex_unlock(&shared->mutex);
}

/* Of operations this process has had to do with. */
static void write_figures(const struct figures *all, struct metric_page *page)
{
    metric_begin(page, METRIC_http_requests_total);
    for (size_t op = 0; op < OPERATION_COUNT; op++)
        for (size_t i = 0; i < CODE_COUNT; i++)
            if (all[op].codes[i] > 0)
                metric_put(page, METRIC_http_requests_total, (int64_t)all[op].codes[i],
                           operation_texts[op], code_texts[i]);
    metric_begin(page, METRIC_http_seconds);
    for (size_t op = 0; op < OPERATION_COUNT; op++)
        if (all[op].used)
            metric_put_histogram(page, METRIC_http_seconds, &all[op].took, operation_texts[op]);
    metric_begin(page, METRIC_limited_total);
    for (size_t op = 0; op < OPERATION_COUNT; op++)
        for (size_t i = 0; i < OUTSIDE_LIMIT_COUNT && all[op].used; i++)
            metric_put(page, METRIC_limited_total, (int64_t)all[op].limited[i], operation_texts[op],
                       limit_texts[i]);
    metric_begin(page, METRIC_outbound_total);
    for (size_t op = 0; op < OPERATION_COUNT; op++)
        for (size_t i = 0; i < OUTSIDE_ENDING_COUNT; i++)
            if (all[op].endings[i] > 0)
                metric_put(page, METRIC_outbound_total, (int64_t)all[op].endings[i],
                           operation_texts[op], ending_texts[i]);
}

void outside_shared_write(struct outside_shared *shared, struct metric_page *page)
{
    pthread_mutex_lock(&shared->mutex);
    write_figures(shared->figures, page);
    metric_put(page, METRIC_breakers_open, (int64_t)breakers_open_count(&shared->breakers), NULL,
               NULL);
    pthread_mutex_unlock(&shared->mutex);
}
