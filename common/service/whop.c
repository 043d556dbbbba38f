#include "service/whop.h"

#include "base/config.h"
#include "base/log.h"
#include "codec/seal.h"
#include "service/whop_call.h"

#include <stdio.h>

enum { US_PER_MS = 1000 };

static void note(const struct whop_call *call, const struct http_response *response)
{
    log_debug("whop", "called", LOG_TEXT("operation", call->target.operation),
              LOG_TEXT("credential", call->target.credential),
              LOG_INT("status", response->outcome == HTTP_ANSWERED ? response->status : 0),
              LOG_INT("ms", response->took_us / US_PER_MS));
}

/* Of a reading call nothing is lost but time, whatever became of it. */
static struct err no_answer(const struct whop_call *call, const struct http_response *response)
{
    return response->outcome == HTTP_NOT_BEGUN
               ? response->why
               : err_make(ERR_WHOP_DOWN, "%s: %s", call->target.operation,
                          err_text(&response->why));
}

/* One call; ERR_NONE only for a 2xx. response: the caller's to close, whatever is returned. */
static struct err call_once(struct whop *whop, const struct whop_call *call,
                            struct http_response *response)
{
    struct outside *outside = whop->outside;
    int64_t wait_ms = 0;
    *response = (struct http_response){.outcome = HTTP_NOT_BEGUN};
    TRY(outside_call(outside, &call->target, &call->request, response));
    note(call, response);
    if (response->outcome != HTTP_ANSWERED)
        return no_answer(call, response);
    if (response->status >= 200 && response->status < 300)
        return ERR_NONE;
    struct err err = whop_call_judge(call, outside->config, response, &wait_ms);
    if (err.code == ERR_WHOP_LIMITED) {
        struct err frozen = outside_freeze(outside, &call->target, wait_ms);
        /* The 429 is what is told; that nobody else hears of it costs some more of them. */
        if (err_failed(&frozen))
            log_warning("whop", "cannot freeze", LOG_TEXT("operation", call->target.operation),
                        LOG_TEXT("error", err_text(&frozen)));
    }
    return err;
}

/* Asks; with a renewed credential once more if this one is not taken. */
static struct err ask(struct whop *whop, enum whop_operation operation, const char *const *ids,
                      const struct whop_filter *filters, size_t filter_count,
                      struct http_response *response)
{
    struct whop_call *call = NULL;
    *response = (struct http_response){.outcome = HTTP_NOT_BEGUN};
    TRY(whop_call_build(whop, operation, ids, filters, filter_count, NULL, &call));
    struct err err = call_once(whop, call, response);
    if (err.code != ERR_UNAUTHORISED || whop->renew == NULL)
        return err;
    buf_close(&response->body);
    TRY(whop->renew(whop->data, whop));
    TRY(whop_call_build(whop, operation, ids, filters, filter_count, NULL, &call));
    return call_once(whop, call, response);
}

static struct err named(enum whop_operation operation, struct err err)
{
    return err_failed(&err)
               ? err_make(err.code, "%s: %s", whop_operation_text(operation), err_text(&err))
               : err;
}

static struct err get(struct whop *whop, enum whop_operation operation, const char *const *ids,
                      void *out)
{
    struct http_response response;
    struct err err = ask(whop, operation, ids, NULL, 0, &response);
    if (!err_failed(&err))
        err = named(operation, whop_read(whop_operation_object(operation), buf_span(&response.body),
                                         whop->arena, out));
    buf_close(&response.body);
    return err;
}

#define GETTER(object, operation)                                                                  \
    struct err whop_get_##object(struct whop *whop, const char *id, struct whop_##object *out)     \
    {                                                                                              \
        return get(whop, WHOP_OPERATION_##operation, &id, out);                                    \
    }
GETTER(company, companies_get)
GETTER(product, products_get)
GETTER(plan, plans_get)
GETTER(user, users_get)
GETTER(member, members_get)
GETTER(membership, memberships_get)
GETTER(payment, payments_get)
GETTER(refund, refunds_get)
GETTER(dispute, disputes_get)
GETTER(checkout, checkouts_get)

struct err whop_get_access(struct whop *whop, const char *user, const char *resource,
                           struct whop_access *out)
{
    return get(whop, WHOP_OPERATION_users_access, (const char *const[]){user, resource}, out);
}

/* --- lists ----------------------------------------------------------------------------------- */

void whop_list(struct whop_list *list, struct whop *whop, enum whop_operation operation,
               const struct whop_filter *filters, size_t filter_count, const char *after)
{
    REQUIRE(filter_count <= WHOP_FILTERS_MAX);
    *list = (struct whop_list){.whop = whop,
                               .operation = operation,
                               .filters = filters,
                               .filter_count = filter_count,
                               .after = after};
}

/* Refunds are listed by payment, user or company. */
static bool has_owner(const struct whop_list *list)
{
    for (size_t i = 0; i < list->filter_count; i++)
        if (list->operation == WHOP_OPERATION_refunds_list &&
            (strcmp(list->filters[i].name, "payment_id") == 0 ||
             strcmp(list->filters[i].name, "user_id") == 0))
            return true;
    return false;
}

static size_t fill_filters(const struct whop_list *list, char *first, size_t first_size,
                           struct whop_filter *out)
{
    const struct config *config = list->whop->outside->config;
    size_t count = 0;
    if (!has_owner(list))
        out[count++] = (struct whop_filter){
            whop_owner_name(list->operation, config->whop_api_version_date), list->whop->company};
    for (size_t i = 0; i < list->filter_count; i++)
        out[count++] = list->filters[i];
    snprintf(first, first_size, "%lld", (long long)config->whop_page_size);
    out[count++] = (struct whop_filter){"first", first};
    if (!text_is_empty(list->after))
        out[count++] = (struct whop_filter){"after", list->after};
    return count;
}

/* FNV-1a: of cursors, so that a circle of them is noticed at last when it closes. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return hash;
}

/* Brent: the cursor is compared with one that is kept for twice as long each time; a circle of any
 * length is found within three times its length. */
static bool comes_back(struct whop_list *list, const char *cursor)
{
    uint64_t hash = hash_of(cursor);
    if (strcmp(cursor, list->after) == 0 || (list->pages > 1 && hash == list->seen))
        return true;
    if ((list->pages & (list->pages - 1)) == 0)
        list->seen = hash;
    return false;
}

struct err whop_next_page(struct whop_list *list, struct whop_page *out)
{
    struct whop_filter filters[WHOP_FILTERS_MAX + 3];
    char first[24];
    struct http_response response;
    size_t count = fill_filters(list, first, sizeof first, filters);
    struct err err = ask(list->whop, list->operation, NULL, filters, count, &response);
    if (!err_failed(&err))
        err = named(list->operation,
                    whop_read_page(whop_operation_object(list->operation), buf_span(&response.body),
                                   list->whop->arena, out));
    buf_close(&response.body);
    TRY(err);
    list->pages++;
    if (out->more && comes_back(list, out->next))
        return err_make(ERR_WHOP_ANSWER, "%s: the cursor of page %lld was there before",
                        whop_operation_text(list->operation), (long long)list->pages);
    list->after = out->next;
    return ERR_NONE;
}

/* --- tokens ---------------------------------------------------------------------------------- */

struct err whop_refresh_tokens(struct whop *whop, const struct whop_grant *grant,
                               struct whop_tokens *out)
{
    struct whop_call *call = NULL;
    struct http_response response;
    struct buf body = {0};
    whop_body_refresh(grant->client_id, grant->client_secret, grant->refresh_token, &body);
    struct err err = whop_call_build(whop, WHOP_OPERATION_oauth_token, NULL, NULL, 0, &body, &call);
    buf_close(&body);
    TRY(err);
    err = call_once(whop, call, &response);
    if (response.outcome == HTTP_LOST)
        err = response.why;
    if (!err_failed(&err))
        err = named(call->operation,
                    whop_read(WHOP_OBJECT_tokens, buf_span(&response.body), whop->arena, out));
    if (!err_failed(&err) && text_is_empty(out->refresh_token))
        err = err_make(ERR_WHOP_ANSWER, "oauth.token: tokens without refresh_token");
    buf_close(&response.body);
    return err;
}

struct err whop_revoke_token(struct whop *whop, const struct whop_grant *grant, const char *token)
{
    struct whop_call *call = NULL;
    struct http_response response;
    struct buf body = {0};
    whop_body_revoke(grant->client_id, grant->client_secret, token, &body);
    struct err err =
        whop_call_build(whop, WHOP_OPERATION_oauth_revoke, NULL, NULL, 0, &body, &call);
    seal_wipe(&body);
    TRY(err);
    err = call_once(whop, call, &response);
    explicit_bzero((char *)(uintptr_t)call->request.body.ptr, call->request.body.len);
    buf_close(&response.body);
    return err;
}
