#include "codec/whop_request.h"

#include "codec/json.h"
#include "codec/money.h"

#include <stdio.h>
#include <time.h>

static void add_escaped(struct buf *out, const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    while (*text != '\0') {
        size_t len = strspn(text, plain);
        buf_add(out, text, len);
        text += len;
        if (*text != '\0')
            buf_printf(out, "%%%02X", (unsigned)(unsigned char)*text++);
    }
}

struct err whop_build_url(enum whop_operation operation, const char *base, const char *const *ids,
                          const struct whop_filter *filters, size_t filter_count, struct buf *out)
{
    size_t len = strlen(base);
    while (len > 0 && base[len - 1] == '/')
        len--;
    buf_add(out, base, len);
    buf_add(out, "/", 1);
    for (const char *c = whop_operation_path(operation); *c != '\0'; c++) {
        if (*c != '%') {
            buf_add(out, c, 1);
            continue;
        }
        /* "." and ".." would be another path */
        if (text_is_empty(*ids) || strspn(*ids, ".") == strlen(*ids))
            return err_make(ERR_MALFORMED, "%s: \"%s\" is no id", whop_operation_text(operation),
                            *ids);
        add_escaped(out, *ids++);
    }
    for (size_t i = 0; i < filter_count; i++) {
        buf_add(out, i == 0 ? "?" : "&", 1);
        add_escaped(out, filters[i].name);
        buf_add(out, "=", 1);
        add_escaped(out, filters[i].value);
    }
    return ERR_NONE;
}

/* The names changed on 2026-07-18 for products, plans and checkouts, on 2026-07-23 for memberships
 * and members, on 2026-07-25 for disputes, and with the flat payments for these. */
const char *whop_owner_name(enum whop_operation operation, const char *version)
{
    const char *since = "2026-07-18";
    enum whop_object object = whop_operation_object(operation);
    if (object == WHOP_OBJECT_membership || object == WHOP_OBJECT_member)
        since = "2026-07-23";
    else if (object == WHOP_OBJECT_dispute)
        since = "2026-07-25";
    else if (object == WHOP_OBJECT_payment || object == WHOP_OBJECT_refund)
        since = "2026-09-09";
    return strcmp(version, since) >= 0 ? "account_id" : "company_id";
}

const char *whop_time_text(int64_t ms, char out[WHOP_TIME_SIZE])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t len = strftime(out, WHOP_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + len, WHOP_TIME_SIZE - len, ".%03dZ", (int)(ms % 1000));
    return out;
}

static void put_text(struct json_writer *writer, const char *key, const char *text)
{
    if (text != NULL)
        json_put_text(writer, key, text);
}

static void put_days(struct json_writer *writer, const char *key, int64_t days)
{
    if (days > 0)
        json_put_integer(writer, key, days);
}

/* As a JSON number with the digits it was given with. */
static struct err put_amount(struct json_writer *writer, const char *key, const char *amount)
{
    if (amount == NULL)
        return ERR_NONE;
    enum money_sign sign = money_sign(amount);
    if (sign != MONEY_ZERO && sign != MONEY_POSITIVE)
        return err_make(ERR_MALFORMED, "%s: not an amount such as 49.99", key);
    while (amount[0] == '0' && amount[1] >= '0' && amount[1] <= '9')
        amount++; /* JSON has no leading zeros */
    json_put_raw(writer, key, amount);
    return ERR_NONE;
}

static struct err put_metadata(struct json_writer *writer, const char *metadata)
{
    if (metadata == NULL)
        return ERR_NONE;
    struct json_doc *doc = json_parse(span_of(metadata));
    bool good = doc != NULL && json_is_object(json_root(doc));
    json_free(doc);
    if (!good)
        return err_make(ERR_MALFORMED, "metadata: not a JSON object");
    json_put_raw(writer, "metadata", metadata);
    return ERR_NONE;
}

static struct err put_plan(struct json_writer *writer, const struct whop_plan_input *input,
                           const char *company, const char *version)
{
    if (!text_is_empty(company))
        json_put_text(writer, whop_owner_name(WHOP_OPERATION_plans_create, version), company);
    put_text(writer, "product_id", input->product);
    put_text(writer, "plan_type", input->plan_type);
    put_text(writer, "release_method", input->release_method);
    put_text(writer, "visibility", input->visibility);
    put_text(writer, "currency", input->currency);
    TRY(put_amount(writer, "initial_price", input->initial_price));
    TRY(put_amount(writer, "renewal_price", input->renewal_price));
    put_days(writer, "billing_period", input->billing_period_days);
    put_days(writer, "trial_period_days", input->trial_days);
    put_days(writer, "expiration_days", input->expiration_days);
    put_text(writer, "title", input->title);
    put_text(writer, "description", input->description);
    put_text(writer, "internal_notes", input->internal_notes);
    return put_metadata(writer, input->metadata);
}

struct err whop_body_plan(const struct whop_plan_input *input, const char *company,
                          const char *version, struct buf *out)
{
    struct json_writer writer = {.out = out};
    json_begin_object(&writer, NULL);
    TRY(put_plan(&writer, input, company, version));
    json_end_object(&writer);
    return ERR_NONE;
}

struct err whop_body_checkout(const struct whop_checkout_input *input, const char *company,
                              const char *version, struct buf *out)
{
    struct json_writer writer = {.out = out};
    if ((input->plan != NULL) == (input->inline_plan != NULL))
        return err_make(ERR_MALFORMED, "a checkout is for a plan, or for one made with it");
    if (input->redirect_url != NULL && strncmp(input->redirect_url, "https://", 8) != 0)
        return err_make(ERR_MALFORMED, "redirect_url: Whop takes https:// only");
    json_begin_object(&writer, NULL);
    put_text(&writer, "plan_id", input->plan);
    if (input->inline_plan != NULL) {
        json_begin_object(&writer, "plan");
        TRY(put_plan(&writer, input->inline_plan, company, version));
        if (input->new_plan)
            json_put_flag(&writer, "force_create_new_plan", true);
        json_end_object(&writer);
    }
    put_text(&writer, "mode", input->mode);
    put_text(&writer, "redirect_url", input->redirect_url);
    TRY(put_metadata(&writer, input->metadata));
    json_end_object(&writer);
    return ERR_NONE;
}

struct err whop_body_refund(const char *amount, struct buf *out)
{
    struct json_writer writer = {.out = out};
    json_begin_object(&writer, NULL);
    if (amount != NULL && money_sign(amount) != MONEY_POSITIVE)
        return err_make(ERR_MALFORMED, "partial_amount: not an amount such as 49.99");
    TRY(put_amount(&writer, "partial_amount", amount));
    json_end_object(&writer);
    return ERR_NONE;
}

void whop_body_revoke(const char *client_id, const char *client_secret, const char *token,
                      struct buf *out)
{
    struct json_writer writer = {.out = out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "token", token);
    json_put_text(&writer, "client_id", client_id);
    put_text(&writer, "client_secret", client_secret);
    json_end_object(&writer);
}

void whop_body_refresh(const char *client_id, const char *client_secret, const char *refresh_token,
                       struct buf *out)
{
    struct json_writer writer = {.out = out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "grant_type", "refresh_token");
    json_put_text(&writer, "refresh_token", refresh_token);
    json_put_text(&writer, "client_id", client_id);
    put_text(&writer, "client_secret", client_secret);
    json_end_object(&writer);
}
