#include "cli/ask.h"

#include <stdio.h>
#include <stdlib.h>

enum { WORDS_MAX = 16, PAGE = 200, NUMBER_SIZE = 24 };
static const char page_text[] = "200";
static const char scan_text[] = "1000";

struct err ask_reply(struct redis *redis, const char *const *words, struct redis_reply **out)
{
    struct span args[WORDS_MAX];
    size_t count = 0;
    for (; words[count] != NULL; count++) {
        REQUIRE(count < WORDS_MAX);
        args[count] = span_of(words[count]);
    }
    return redis_call(redis, args, count, out);
}

struct err ask_integer(struct redis *redis, const char *command, const char *key, int64_t *out)
{
    struct redis_reply *reply = NULL;
    TRY(ASK(redis, &reply, command, key));
    *out = redis_reply_integer(reply);
    redis_reply_free(reply);
    return ERR_NONE;
}

struct err ask_text(struct redis *redis, const char *command, const char *key, struct buf *out)
{
    struct redis_reply *reply = NULL;
    TRY(ASK(redis, &reply, command, key));
    struct span text = redis_reply_text(reply);
    if (text.len > 0)
        buf_add(out, text.ptr, text.len);
    redis_reply_free(reply);
    return ERR_NONE;
}

int64_t ask_number(struct span text)
{
    char digits[NUMBER_SIZE] = "";
    if (text.len == 0 || text.len >= sizeof digits)
        return 0;
    memcpy(digits, text.ptr, text.len);
    return strtoll(digits, NULL, 10);
}

struct err ask_time_ms(struct redis *redis, int64_t *out)
{
    struct redis_reply *reply = NULL;
    TRY(ASK(redis, &reply, "TIME"));
    *out = ask_number(redis_reply_text(redis_reply_at(reply, 0))) * 1000 +
           ask_number(redis_reply_text(redis_reply_at(reply, 1))) / 1000;
    redis_reply_free(reply);
    return *out > 0 ? ERR_NONE : err_make(ERR_REDIS_REPLY, "Redis does not tell the time");
}

int64_t ask_entry_ms(struct span entry)
{
    const char *dash = entry.len > 0 ? memchr(entry.ptr, '-', entry.len) : NULL;
    return dash == NULL ? 0 : ask_number((struct span){entry.ptr, (size_t)(dash - entry.ptr)});
}

/* --- several answers at once ----------------------------------------------------------------- */

struct round {
    size_t left;
    struct err err; /* the last one */
};

struct answer {
    struct round *round;
    int64_t number;
};

static void on_answer(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct answer *answer = data;
    answer->round->left--;
    answer->number = redis_reply_integer(reply);
    if (err != NULL)
        answer->round->err = *err;
}

struct err ask_script(struct redis *redis, enum script script, size_t key_count,
                      const struct span *args, size_t count, int64_t *out)
{
    struct round round = {.left = 1, .err = ERR_NONE};
    struct answer answer = {.round = &round};
    TRY(redis_wait_ready(redis));
    redis_eval(redis, script, key_count, args, count, on_answer, &answer);
    redis_settle(redis, &round.left);
    *out = answer.number;
    return round.err;
}

struct err ask_exist(struct redis *redis, const char *const *keys, size_t count, bool *out)
{
    struct round round = {.left = count, .err = ERR_NONE};
    TRY(redis_wait_ready(redis));
    struct answer *answers = mem_zalloc((count + 1) * sizeof *answers);
    for (size_t i = 0; i < count; i++) {
        const struct span args[] = {SPAN("EXISTS"), span_of(keys[i])};
        answers[i].round = &round;
        redis_command(redis, args, ARRAY_LEN(args), on_answer, &answers[i]);
    }
    redis_settle(redis, &round.left);
    for (size_t i = 0; i < count; i++)
        out[i] = answers[i].number == 1;
    free(answers);
    return round.err;
}

/* --- streams --------------------------------------------------------------------------------- */

bool ask_is_missing(const struct err *err)
{
    return err->code == ERR_REDIS_REPLY &&
           (strstr(err->text, "NOGROUP") != NULL || strstr(err->text, "no such key") != NULL);
}

static void copy(char *out, size_t size, struct span text)
{
    size_t len = text.len < size ? text.len : size - 1;
    if (len > 0)
        memcpy(out, text.ptr, len);
    out[len] = '\0';
}

struct err ask_each_pending(struct redis *redis, const char *stream, const char *from,
                            const char *to,
                            void (*each)(const struct ask_pending *pending, void *data), void *data)
{
    char start[ASK_ENTRY_SIZE + 1];
    size_t count;
    copy(start, sizeof start, span_of(from));
    do {
        struct redis_reply *reply = NULL;
        struct err err = ASK(redis, &reply, "XPENDING", stream, KEYS_GROUP, start, to, page_text);
        if (ask_is_missing(&err))
            return ERR_NONE;
        if (err_failed(&err))
            return err;
        count = redis_reply_count(reply);
        for (size_t i = 0; i < count; i++) {
            const struct redis_reply *item = redis_reply_at(reply, i);
            struct ask_pending pending = {
                .idle_ms = redis_reply_integer(redis_reply_at(item, 2)),
                .deliveries = redis_reply_integer(redis_reply_at(item, 3)),
            };
            copy(pending.entry, sizeof pending.entry, redis_reply_text(redis_reply_at(item, 0)));
            copy(pending.consumer, sizeof pending.consumer,
                 redis_reply_text(redis_reply_at(item, 1)));
            snprintf(start, sizeof start, "(%s", pending.entry);
            each(&pending, data);
        }
        redis_reply_free(reply);
    } while (count == PAGE);
    return ERR_NONE;
}

struct err ask_each_entry(struct redis *redis, const char *stream, const char *from,
                          bool (*each)(struct job *job, void *data), void *data)
{
    char start[ASK_ENTRY_SIZE + 1];
    size_t count;
    bool more = true;
    copy(start, sizeof start, span_of(from));
    do {
        struct redis_reply *reply = NULL;
        TRY(ASK(redis, &reply, "XRANGE", stream, start, "+", "COUNT", page_text));
        count = redis_reply_count(reply);
        struct job *job = queue_take_entries(reply);
        redis_reply_free(reply);
        while (job != NULL) {
            struct job *next = job->next;
            snprintf(start, sizeof start, "(%.*s", ASK_ENTRY_SIZE - 1, job->entry);
            if (more)
                more = each(job, data);
            else
                job_free(job);
            job = next;
        }
    } while (more && count == PAGE);
    return ERR_NONE;
}

struct err ask_scan(struct redis *redis, const char *command, const char *key, const char *pattern,
                    void (*each)(struct span element, void *data), void *data)
{
    char cursor[NUMBER_SIZE] = "0";
    do {
        struct redis_reply *reply = NULL;
        if (key == NULL)
            TRY(ASK(redis, &reply, command, cursor, "MATCH", pattern, "COUNT", scan_text));
        else
            TRY(ASK(redis, &reply, command, key, cursor, "COUNT", scan_text));
        const struct redis_reply *found = redis_reply_at(reply, 1);
        copy(cursor, sizeof cursor, redis_reply_text(redis_reply_at(reply, 0)));
        for (size_t i = 0; i < redis_reply_count(found); i += key == NULL ? 1 : 2)
            each(redis_reply_text(redis_reply_at(found, i)), data);
        redis_reply_free(reply);
    } while (strcmp(cursor, "0") != 0);
    return ERR_NONE;
}

/* --- a queue --------------------------------------------------------------------------------- */

struct longest {
    int64_t count;
    int64_t idle_ms;
};

static void look_at_pending(const struct ask_pending *pending, void *data)
{
    struct longest *longest = data;
    longest->count++;
    if (pending->idle_ms > longest->idle_ms)
        longest->idle_ms = pending->idle_ms;
}

/* The last id given to a worker of the group; "-" if there is no group, so that all is ready. */
static struct err ask_last_delivered(struct redis *redis, const char *stream,
                                     char out[ASK_ENTRY_SIZE + 1])
{
    struct redis_reply *reply = NULL;
    struct err err = ASK(redis, &reply, "XINFO", "GROUPS", stream);
    snprintf(out, ASK_ENTRY_SIZE + 1, "-");
    if (ask_is_missing(&err))
        return ERR_NONE;
    if (err_failed(&err))
        return err;
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        const struct redis_reply *group = redis_reply_at(reply, i);
        struct span name = {NULL, 0};
        struct span last = {NULL, 0};
        for (size_t f = 0; f + 1 < redis_reply_count(group); f += 2) {
            struct span field = redis_reply_text(redis_reply_at(group, f));
            if (span_equal(field, SPAN("name")))
                name = redis_reply_text(redis_reply_at(group, f + 1));
            if (span_equal(field, SPAN("last-delivered-id")))
                last = redis_reply_text(redis_reply_at(group, f + 1));
        }
        if (span_equal(name, SPAN(KEYS_GROUP)) && last.len < ASK_ENTRY_SIZE)
            snprintf(out, ASK_ENTRY_SIZE + 1, "(%.*s", (int)last.len, last.ptr);
    }
    redis_reply_free(reply);
    return ERR_NONE;
}

static struct err ask_ready_age(struct redis *redis, const char *stream, int64_t *out)
{
    char from[ASK_ENTRY_SIZE + 1];
    struct redis_reply *reply = NULL;
    int64_t now_ms;
    *out = -1;
    TRY(ask_time_ms(redis, &now_ms));
    TRY(ask_last_delivered(redis, stream, from));
    TRY(ASK(redis, &reply, "XRANGE", stream, from, "+", "COUNT", "1"));
    int64_t ms = ask_entry_ms(redis_reply_text(redis_reply_at(redis_reply_at(reply, 0), 0)));
    redis_reply_free(reply);
    if (ms > 0)
        *out = now_ms > ms ? now_ms - ms : 0;
    return ERR_NONE;
}

struct err ask_queue(struct redis *redis, const char *prefix, enum queue_name queue,
                     struct ask_queue *out)
{
    char stream[KEY_MAX];
    char delayed[KEY_MAX];
    int64_t length;
    struct longest longest = {.idle_ms = -1};
    key_stream(prefix, queue, stream);
    key_delayed(prefix, queue, delayed);
    TRY(ask_each_pending(redis, stream, "-", "+", look_at_pending, &longest));
    TRY(ask_integer(redis, "XLEN", stream, &length));
    TRY(ask_integer(redis, "ZCARD", delayed, &out->delayed));
    TRY(ask_ready_age(redis, stream, &out->ready_age_ms));
    /* Asked one after the other while workers work: never less than nothing. */
    out->ready = length > longest.count ? length - longest.count : 0;
    out->pending = longest.count;
    out->pending_idle_ms = longest.idle_ms;
    if (out->ready == 0)
        out->ready_age_ms = -1;
    return ERR_NONE;
}
