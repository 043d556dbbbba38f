/* `whopline credits adjust|spend|hold|capture|release|expire`: credits moved by hand, and the verbs
 * that applications call, for trying them and for scripts. */
#include "base/random.h"
#include "cli/credits.h"
#include "cli/output.h"
#include "codec/json.h"
#include "service/credits.h"
#include "service/credits_admin.h"

#include <stdio.h>

enum { HOLD_DEFAULT_S = 900, HOLD_MAX_S = 30 * 24 * 3600, REQUEST_MAX = 200 };

/* Why a wish was not fulfilled, and what to do. */
static struct err refuse(const struct credits_wish *wish, const struct credits_reply *reply)
{
    static const struct {
        const char *result;
        const char *text;
    } known[] = {
        {"conflict", "has been used for something else: whopline credits show tells what"},
        {"insufficient", "asks for more than there is"},
        {"invalid", "asks for more than is held"},
        {"captured", "is of a hold that has been captured"},
        {"released", "is of a hold that has been released"},
        {"expired", "is of a hold that has run out of time"},
    };
    char available[OUTPUT_SHORT];
    output_number(reply->available, available);
    if (strcmp(reply->result, "unknown") == 0)
        return wish->user != NULL
                   ? err_make(ERR_NOT_FOUND,
                              "%.60s has no credits account: mistyped? --new-account makes one",
                              wish->user)
                   : err_make(ERR_NOT_FOUND, "nothing is held by the request %.60s", wish->request);
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(known[i].result, reply->result) == 0)
            return err_make(ERR_REFUSED, "nothing was done: the request %.40s %s (available: %s)",
                            wish->request, known[i].text, available);
    return err_make(ERR_REFUSED, "nothing was done: %s", reply->result);
}

static void print_reply(const struct credits_wish *wish, const struct credits_reply *reply,
                        bool json)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    char available[OUTPUT_SHORT];
    if (json) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "result", reply->result);
        json_put_integer(&writer, "available", reply->available);
        json_put_text(&writer, "request", wish->request);
        json_end_object(&writer);
    } else {
        output_number(reply->available, available);
        output_add_clean(&out, wish->request);
        buf_printf(&out, ": %s%s; available now: %s", reply->result,
                   reply->done ? "" : ", nothing was done this time", available);
    }
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

/* A request's id makes a command that is repeated harmless; one that is made here is new. */
static struct err take_request(const struct given *given, char fresh[UUID_TEXT_SIZE],
                               const char **out)
{
    *out = given_text(given, "request");
    if (*out == NULL) {
        random_uuid(fresh);
        *out = fresh;
    }
    if (text_is_empty(*out) || strlen(*out) > REQUEST_MAX)
        return err_make(ERR_USAGE, "--request takes 1 to %d bytes", REQUEST_MAX);
    return ERR_NONE;
}

static struct err move(struct cli *cli, const struct given *given, enum credits_verb verb,
                       struct credits_wish *wish)
{
    struct buf slug = {0};
    struct credits_reply reply = {0};
    struct err err = given_tenant(cli, given, &wish->tenant, &slug);
    wish->company = buf_text(&slug);
    wish->actor = given_actor(cli, given);
    if (!err_failed(&err))
        err = credits_move(cli->pg, verb, wish, &reply);
    if (wish->user != NULL)
        err = given_keep_request(err, wish->request);
    if (!err_failed(&err) && !reply.done && strcmp(reply.result, "repeated") != 0)
        err = refuse(wish, &reply);
    if (!err_failed(&err))
        print_reply(wish, &reply, given_flag(given, "json"));
    buf_close(&slug);
    return err;
}

/* USER N --reason R [--request ID] */
static struct err move_of_user(struct cli *cli, const struct given *given, enum credits_verb verb)
{
    char fresh[UUID_TEXT_SIZE];
    struct credits_wish wish = {.user = given->plain[0], .hold_s = HOLD_DEFAULT_S};
    int64_t min = verb == CREDITS_ADJUST ? -CREDITS_MOVED_MAX : 1;
    TRY(given_credits(given->plain[1], min, &wish.credits));
    TRY(given_need(given, "reason", &wish.reason));
    TRY(take_request(given, fresh, &wish.request));
    TRY(given_number(given, "for", 1, HOLD_MAX_S, &wish.hold_s));
    if (text_is_empty(wish.user))
        return err_make(ERR_USAGE, "USER is empty");
    wish.open_account = given_flag(given, "new-account");
    return move(cli, given, verb, &wish);
}

struct err credits_cmd_adjust(struct cli *cli, const struct given *given)
{
    return move_of_user(cli, given, CREDITS_ADJUST);
}

struct err credits_cmd_spend(struct cli *cli, const struct given *given)
{
    return move_of_user(cli, given, CREDITS_SPEND);
}

struct err credits_cmd_hold(struct cli *cli, const struct given *given)
{
    return move_of_user(cli, given, CREDITS_HOLD);
}

struct err credits_cmd_capture(struct cli *cli, const struct given *given)
{
    struct credits_wish wish = {.request = given->plain[0]};
    TRY(given_credits(given->plain[1], 1, &wish.credits));
    return move(cli, given, CREDITS_CAPTURE, &wish);
}

struct err credits_cmd_release(struct cli *cli, const struct given *given)
{
    struct credits_wish wish = {.request = given->plain[0]};
    return move(cli, given, CREDITS_RELEASE, &wish);
}

struct err credits_cmd_expire(struct cli *cli, const struct given *given)
{
    int64_t expired;
    int64_t all = 0;
    char number[OUTPUT_SHORT];
    do {
        TRY(credits_expire(cli->pg, &expired));
        all += expired;
    } while (expired > 0);
    output_number(all, number);
    if (given_flag(given, "json"))
        printf("{\"expired\":%lld}\n", (long long)all);
    else
        printf("%s hold%s given back\n", number, all == 1 ? " was" : "s were");
    return ERR_NONE;
}
