#include "service/breaker.h"

#include <stdlib.h>

struct breaker {
    char *credential;
    char *host;
    int64_t failed_ms[BREAKER_FAILURES_MAX]; /* the last ones, the oldest first */
    size_t failures;
    bool open;
    bool trying;      /* open: one call is made to see */
    int64_t until_ms; /* open: nobody else calls before */
};

void breakers_init(struct breakers *breakers, const struct breaker_options *options)
{
    REQUIRE(options->failures > 0 && options->failures <= BREAKER_FAILURES_MAX);
    *breakers = (struct breakers){.options = *options};
}

void breakers_close(struct breakers *breakers)
{
    for (size_t i = 0; i < breakers->count; i++) {
        free(breakers->items[i].credential);
        free(breakers->items[i].host);
    }
    free(breakers->items);
    *breakers = (struct breakers){.options = breakers->options};
}

static struct breaker *find(const struct breakers *breakers, const char *credential,
                            const char *host)
{
    for (size_t i = 0; i < breakers->count; i++) {
        struct breaker *it = &breakers->items[i];
        if (strcmp(it->credential, credential) == 0 && strcmp(it->host, host) == 0)
            return it;
    }
    return NULL;
}

static void forget(struct breakers *breakers, struct breaker *breaker)
{
    free(breaker->credential);
    free(breaker->host);
    *breaker = breakers->items[--breakers->count];
}

/* Failures that count no more; those without any are not kept. */
static void forget_old(struct breakers *breakers, int64_t now_ms)
{
    for (size_t i = breakers->count; i > 0; i--) {
        struct breaker *it = &breakers->items[i - 1];
        size_t old = 0;
        while (old < it->failures && now_ms - it->failed_ms[old] >= breakers->options.window_ms)
            old++;
        it->failures -= old;
        memmove(it->failed_ms, it->failed_ms + old, it->failures * sizeof *it->failed_ms);
        if (!it->open && it->failures == 0)
            forget(breakers, it);
    }
}

static struct breaker *add(struct breakers *breakers, const char *credential, const char *host)
{
    if (breakers->count == breakers->cap) {
        breakers->cap = breakers->cap != 0 ? 2 * breakers->cap : 8;
        breakers->items = mem_realloc(breakers->items, breakers->cap * sizeof *breakers->items);
    }
    struct breaker *it = &breakers->items[breakers->count++];
    *it = (struct breaker){.credential = mem_strdup(credential), .host = mem_strdup(host)};
    return it;
}

int64_t breaker_look(const struct breakers *breakers, const char *credential, const char *host,
                     int64_t now_ms)
{
    const struct breaker *it = find(breakers, credential, host);
    return it != NULL && it->open && it->until_ms > now_ms ? it->until_ms - now_ms : 0;
}

int64_t breaker_begin(struct breakers *breakers, const char *credential, const char *host,
                      int64_t now_ms)
{
    struct breaker *it = find(breakers, credential, host);
    int64_t wait_ms = breaker_look(breakers, credential, host, now_ms);
    if (wait_ms == 0 && it != NULL && it->open) {
        it->trying = true;
        it->until_ms = now_ms + breakers->options.open_ms; /* the others wait for this one */
    }
    return wait_ms;
}

static bool note_failure(struct breakers *breakers, const char *credential, const char *host,
                         int64_t now_ms)
{
    struct breaker *it = find(breakers, credential, host);
    if (it == NULL)
        it = add(breakers, credential, host);
    it->failed_ms[it->failures++] = now_ms;
    it->open = it->failures >= breakers->options.failures;
    it->until_ms = now_ms + breakers->options.open_ms;
    if (it->open)
        it->failures = 0;
    return it->open;
}

bool breaker_tell(struct breakers *breakers, const char *credential, const char *host,
                  enum breaker_outcome outcome, int64_t now_ms)
{
    forget_old(breakers, now_ms);
    struct breaker *it = find(breakers, credential, host);
    if (it == NULL || !it->open)
        return outcome == BREAKER_FAILED && note_failure(breakers, credential, host, now_ms);
    if (!it->trying)
        return false; /* begun before it opened */
    it->trying = false;
    if (outcome == BREAKER_WENT_WELL)
        forget(breakers, it);
    else /* of what was cancelled nothing is known: the next one may try */
        it->until_ms = now_ms + (outcome == BREAKER_FAILED ? breakers->options.open_ms : 0);
    return false;
}

size_t breakers_open_count(const struct breakers *breakers)
{
    size_t count = 0;
    for (size_t i = 0; i < breakers->count; i++)
        count += breakers->items[i].open ? 1 : 0;
    return count;
}
