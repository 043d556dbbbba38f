#include "service/whop_effects.h"

#include "base/config.h"
#include "codec/json.h"

/* err: of the making of body, which ends here. */
static struct err prepare(struct whop *whop, enum whop_operation operation, const char *id,
                          struct err err, struct buf *body, struct whop_call **out)
{
    if (!err_failed(&err))
        err = whop_call_build(whop, operation, &id, NULL, 0, body, out);
    buf_close(body);
    return err;
}

struct err whop_prepare_plan(struct whop *whop, const struct whop_plan_input *input,
                             struct whop_call **out)
{
    struct buf body = {0};
    struct err err =
        whop_body_plan(input, whop->company, whop->outside->config->whop_api_version_date, &body);
    return prepare(whop, WHOP_OPERATION_plans_create, "", err, &body, out);
}

struct err whop_prepare_plan_change(struct whop *whop, const char *plan,
                                    const struct whop_plan_input *input, struct whop_call **out)
{
    struct buf body = {0};
    struct err err = whop_body_plan(input, "", whop->outside->config->whop_api_version_date, &body);
    return prepare(whop, WHOP_OPERATION_plans_update, plan, err, &body, out);
}

struct err whop_prepare_refund(struct whop *whop, const char *payment, const char *amount,
                               struct whop_call **out)
{
    struct buf body = {0};
    struct err err = whop_body_refund(amount, &body);
    return prepare(whop, WHOP_OPERATION_payments_refund, payment, err, &body, out);
}

struct err whop_prepare_checkout(struct whop *whop, const struct whop_checkout_input *input,
                                 struct whop_call **out)
{
    struct buf body = {0};
    struct err err = whop_body_checkout(input, whop->company,
                                        whop->outside->config->whop_api_version_date, &body);
    return prepare(whop, WHOP_OPERATION_checkouts_create, "", err, &body, out);
}

void whop_read_id(void *data, struct span body, struct buf *id)
{
    static const char *const name = "id";
    const struct json_value *value = NULL;
    struct arena arena;
    (void)data;
    struct json_doc *doc = json_parse(body);
    arena_init(&arena);
    if (doc != NULL && json_pick(json_root(doc), &name, 1, &value))
        buf_add_text(id, json_text(value, &arena, NULL));
    arena_close(&arena);
    json_free(doc);
}

int64_t whop_read_wait(void *data, struct span body)
{
    struct whop_problem problem;
    (void)data;
    whop_read_problem(body, &problem);
    return problem.wait_ms;
}
