#include "service/members_whop.h"

#include "service/whop_news.h"

enum { USER_PAGES_MAX = 20 }; /* of one user: far more memberships than anybody has */

/* By the clock that all workers share. */
static struct err now_ms(struct pg *pg, int64_t *out)
{
    TRY(pg_exec(pg, "SELECT (extract(epoch FROM whopline_now()) * 1000)::bigint", NULL, 0));
    *out = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

static bool is_known(const char *status)
{
    static const char *const known[] = {"trialing",  "active",     "past_due",
                                        "completed", "canceling",  "canceled",
                                        "expired",   "unresolved", "drafted"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(status, known[i]) == 0)
            return true;
    return false;
}

struct err members_complete(struct whop *whop, struct event *event, bool *out)
{
    struct whop_access access;
    *out = is_known(event->status);
    if (*out || text_is_empty(event->user) || text_is_empty(event->product))
        return ERR_NONE;
    TRY(whop_get_access(whop, event->user, event->product, &access));
    event->valid = access.has_access ? "true" : "false";
    *out = true;
    return ERR_NONE;
}

static struct err read_both(struct whop *whop, const struct member_question *question,
                            int64_t asked_ms, struct event *out)
{
    struct whop_membership membership;
    bool complete;
    TRY(whop_get_membership(whop, question->membership, &membership));
    whop_news_of_membership(&membership, asked_ms, whop->arena, out);
    /* With an app's key any company's membership can be read. */
    if (question->stranger && strcmp(membership.company, whop->company) != 0)
        return err_make(ERR_WHOP_NOT_FOUND, "the membership is not one of this company");
    if (text_is_empty(out->user))
        out->user = question->user;
    return members_complete(whop, out, &complete);
}

static struct member_news news_of(const struct member_question *question, enum member_source source,
                                  const struct event *event, int64_t asked_ms)
{
    return (struct member_news){
        .tenant = question->tenant,
        .source = source,
        .event = event,
        .asked_ms = asked_ms,
        .backfill = question->backfill,
    };
}

struct err members_ask(struct pg *pg, struct outside *outside, struct arena *arena,
                       const struct member_question *question, struct member_news *out)
{
    struct tenant_whop client;
    struct event *event = arena_alloc(arena, sizeof *event);
    int64_t asked_ms;
    *out = (struct member_news){0};
    TRY(now_ms(pg, &asked_ms));
    *out = news_of(question, MEMBER_READ, event, asked_ms);
    TRY(tenant_whop_open(&client, pg, outside, arena, question->tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = question->bulk;
    return tenant_whop_close(&client, read_both(&client.whop, question, asked_ms, event));
}

/* --- all of a user's ------------------------------------------------------------------------- */

/* Takes what the page has of the user: a filter that is not heeded must not mix people up. */
static struct err take_page(struct whop *whop, const struct member_question *question,
                            int64_t asked_ms, const struct whop_page *page,
                            struct member_answers *out)
{
    const struct whop_membership *memberships = page->items;
    struct member_news *all = arena_alloc(whop->arena, (out->count + page->count) * sizeof *all);
    if (out->count > 0)
        memcpy(all, out->news, out->count * sizeof *all);
    out->news = all;
    for (size_t i = 0; i < page->count; i++) {
        struct event *event = arena_alloc(whop->arena, sizeof *event);
        bool known;
        if (strcmp(memberships[i].user, question->user) != 0)
            continue;
        whop_news_of_membership(&memberships[i], asked_ms, whop->arena, event);
        TRY(members_complete(whop, event, &known));
        all[out->count++] = news_of(question, MEMBER_READ, event, asked_ms);
    }
    return ERR_NONE;
}

static struct err read_pages(struct whop *whop, const struct member_question *question,
                             struct member_answers *out)
{
    const struct whop_filter filters[] = {{"user_ids[]", question->user}};
    struct whop_list list;
    struct whop_page page;
    size_t pages = 0;
    whop_list(&list, whop, WHOP_OPERATION_memberships_list, filters, ARRAY_LEN(filters), "");
    do {
        TRY(whop_next_page(&list, &page));
        TRY(take_page(whop, question, out->asked_ms, &page, out));
    } while (page.more && ++pages < USER_PAGES_MAX);
    out->complete = !page.more;
    return ERR_NONE;
}

struct err members_ask_user(struct pg *pg, struct outside *outside, struct arena *arena,
                            const struct member_question *question, struct member_answers *out)
{
    struct tenant_whop client;
    *out = (struct member_answers){0};
    TRY(now_ms(pg, &out->asked_ms));
    TRY(tenant_whop_open(&client, pg, outside, arena, question->tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = question->bulk;
    return tenant_whop_close(&client, read_pages(&client.whop, question, out));
}

void members_say_gone(struct arena *arena, const struct member_question *question,
                      struct member_news *out)
{
    struct event *event = arena_alloc(arena, sizeof *event);
    int64_t asked_ms = out->asked_ms;
    payload_init(PAYLOAD_event, event);
    event->id = arena_printf(arena, "api/%s", question->membership);
    event->kind = "membership.gone";
    event->membership = question->membership;
    event->user = question->user;
    event->received_ms = event->occurred_ms = asked_ms;
    event->occurred_known = true;
    *out = news_of(question, MEMBER_GONE, event, asked_ms);
}
